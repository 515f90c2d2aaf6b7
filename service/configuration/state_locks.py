"""Files by which one service and one watcher hold a state directory."""

from pathlib import Path

from service.configuration.settings import Settings


def service_lock(settings: Settings) -> Path:
    """The lock that one service holds on its state directory."""
    return settings.metrics_dir / "service.lock"


def watcher_lock(settings: Settings) -> Path:
    """The lock that one watcher holds on its state directory."""
    return Path(settings.state) / "watcher.lock"
