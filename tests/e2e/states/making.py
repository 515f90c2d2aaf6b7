"""Makes a state directory of this version, to keep: `python -m tests.e2e.states.making 0.1.0`.

Done once for a version, when it is released; what later programs do with it is
`tests/e2e/test_upgrade.py`. A state holds a model with a champion, requests with and without a
label, a run of the loop, and a hold and its release in the audit. The run has failed: the model of
the tests does not say which data it was made from, so nothing can be evaluated. No token is kept.
"""

import sys
import tarfile
import tempfile
from pathlib import Path

from tests import bundles
from tests.e2e.stack import FAST, Stack, running, status_of

HERE = Path(__file__).parent
LEFT_OUT = ("run", "up.log", "training", "dbos")  # of this machine, or of running processes
ROWS = 24


def make_state(version: str) -> Path:
    """Let service and watcher of this program work, and pack what they leave behind."""
    file = HERE / f"{version}.tar.gz"
    with tempfile.TemporaryDirectory() as scratch:
        stack = Stack(Path(scratch) / "state", {"HOLDFAST_WORKERS": "1"})
        bundles.publish(stack.state / "registry", "digits")
        rows = bundles.digits().test
        with running(stack):
            for n in range(ROWS):
                body = {"instances": rows.x[n : n + 1].tolist()}
                status, told = status_of(
                    f"{stack.url}/predict", body, {"X-Request-Id": f"before-{n}"}
                )
                assert status == 200, told
            for n in range(ROWS // 2):
                label = {"id": f"before-{n}", "label": str(rows.y[n])}
                stack.until(
                    lambda sent=label: status_of(f"{stack.url}/feedback", sent)[0] == 200,
                    "the label is taken",
                )
            stack.cli("jobs", "start", "digits", "--reason", "an evaluation to keep")
            stack.until(lambda: stack.jobs()[0]["outcome"], "the run is over", seconds=1200)
            stack.cli("models", "hold", "digits", "--reason", "to be kept")
            stack.cli("models", "release", "digits")
        with tarfile.open(file, "w:gz") as archive:
            for path in sorted(stack.state.iterdir()):
                if path.name not in LEFT_OUT:
                    archive.add(path, path.name)
    return file


if __name__ == "__main__":
    assert FAST  # the settings of the tests: a state of minutes, not of days
    made = make_state(sys.argv[1])
    print(f"{made}: {made.stat().st_size} bytes")
