"""The watcher's master as `service.watch_conf` starts it, with cheap children: `python -m` this."""

from monitoring.loop import steps
from service import watch_conf
from tests.monitoring.loop import kills


def main() -> None:
    """Run the master in this process; what is changed here is so in its workers, too."""
    steps.CHILD = steps.SHADOW = "tests.monitoring.loop.child"
    kills.install()
    watch_conf.main()


if __name__ == "__main__":
    main()
