"""The first five minutes, by the clock: `python -m benchmarks.stopwatch [--json FILE]`.

Clones this checkout into an empty folder, starts there what `make run` starts (its environment is
the one that runs this program), and does what a person with five minutes does:

    0 s     the page is there, and shows the training
    60 s    a digit is answered, with its scores
    90 s    the world is rotated (the console's button; the alarm, and harm, are noted)
    300 s   version 2 answers, and every gate of it can be read

Only committed files are cloned. The status is 1 where a target was missed. Run it on a machine with
two cores that does nothing else: on another one the times are those of its load, which is printed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.base.processes import ends_with_parent
from tests.ops import free_port

ROOT = Path(__file__).parent.parent
TARGETS = {"page": 5.0, "scores": 60.0, "rotated": 90.0, "promoted": 300.0}
ROTATE_AT = 90.0  # not before: a reader has looked at the answer until then
GIVE_UP_AT = 900.0
PLAIN = {"instances": [[[[8.0] * 8] * 8]]}


class Watch:
    """A clock that started with the program, and what happened when."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.began = time.monotonic()
        self.seen: dict[str, float] = {}
        self._process = process

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    def wait(self, what: str, condition: Callable[[], Any]) -> Any:
        """Wait until it is so, note when that was, and return what it gave."""
        while True:
            if self._process.poll() is not None:
                raise SystemExit(f"the program ended ({self._process.returncode}) before: {what}")
            if found := condition():
                self.seen[what] = round(self.now, 1)
                print(f"{self.now:7.1f} s  {what}", flush=True)
                return found
            if self.now > GIVE_UP_AT:
                raise SystemExit(f"given up after {GIVE_UP_AT:g} s, waiting for: {what}")
            time.sleep(0.2)


def ask(url: str, body: Any = None, **headers: str) -> bytes:
    """The body of an answer with a status below 300; empty where there is none."""
    data = None if body is None else json.dumps(body).encode()
    given = {"Content-Type": "application/json", **headers}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, given), timeout=10) as answer:
            text: bytes = answer.read()
            return text
    except (OSError, urllib.error.HTTPError):
        return b""


def read(url: str) -> Any:
    """The decoded answer; None where there is none."""
    text = ask(url)
    return json.loads(text) if text else None


def measure(folder: Path) -> dict[str, Any]:
    """Clone, start, and go through the five minutes; what was seen, in seconds."""
    clone = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    port, watch_port = free_port(), free_port()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HOLDFAST_")}
    env = kept | {
        "PYTHONPATH": str(clone), "OMP_NUM_THREADS": "1",
        "HOLDFAST_PORT": str(port), "HOLDFAST_WATCH_PORT": str(watch_port),
    }  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "up"], cwd=clone, env=env, stdout=log, stderr=log,
            start_new_session=True, preexec_fn=ends_with_parent(signal.SIGTERM),
        )  # fmt: skip
    try:
        return look(Watch(process), f"http://127.0.0.1:{port}", f"http://127.0.0.1:{watch_port}")
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def look(watch: Watch, service: str, watcher: str) -> dict[str, Any]:
    """What a person sees, and when."""
    watch.wait("page", lambda: b"<html" in ask(f"{service}/", Accept="text/html"))
    answer = json.loads(watch.wait("scores", lambda: ask(f"{service}/predict", PLAIN)))
    (scored,) = answer["predictions"]
    assert {"drift", "perturbation"} <= set(scored), scored
    if (left := ROTATE_AT - watch.now) > 0:
        time.sleep(left)
    watch.wait(
        "rotated",
        lambda: ask(f"{service}/console/demo", {"model": "digits", "run": True}, Origin=service),
    )

    def first(key: str) -> Any:
        models = read(f"{watcher}/models")
        return models and (models[0].get(key) or {})

    watch.wait("alarm of drift", lambda: first("alarm") or first("last_alarm"))
    watch.wait("harm or a run", lambda: (first("harm") or {}).get("alarm") or jobs(watcher))
    job = watch.wait(
        "promoted", lambda: next((j for j in jobs(watcher) if j.get("challenger") and
                                  read(f"{watcher}/models")[0]["version"] == 2), None)
    )  # fmt: skip
    answer = json.loads(ask(f"{service}/predict", PLAIN))
    gates = read(f"{watcher}/jobs/{job['id']}")["checks"]
    verdicts = [gate["verdict"] for gate in gates]
    said = {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))}
    missed = [what for what, target in TARGETS.items() if watch.seen[what] > target]
    return {
        "seconds": watch.seen, "targets": TARGETS, "missed": missed, "gates": said,
        "answers_with": answer["version"], "load": os.getloadavg()[0], "cores": os.cpu_count(),
    }  # fmt: skip


def jobs(watcher: str) -> list[dict[str, Any]]:
    """The loop's runs, the newest first."""
    found: list[dict[str, Any]] = read(f"{watcher}/jobs") or []
    return found


def main() -> None:
    """Measure once, and say what was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="holdfast-stopwatch-") as folder:
        told = measure(Path(folder))
    print(json.dumps(told, indent=1))
    if given.json:
        given.json.write_text(json.dumps(told, indent=1))
    sys.exit(1 if told["missed"] else 0)


if __name__ == "__main__":
    main()
