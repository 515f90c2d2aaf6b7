"""A coverage-guided fuzzer over every body that the service reads, in one process.

atheris (libFuzzer) changes requests, half of the time with the changes of `tests.fuzz.mutate`, and
keeps those that reach new branches of `service`, `models` and `monitoring`. Every answer is held to
the laws of `tests.fuzz.target`: no exception, no 5xx, a dialect, whole JSON. A request that takes
more than 10 s, or 2 GiB of memory, counts as a crash, too. Without atheris the same changes are
made blindly.

    python -m pip install --target .bench/atheris atheris
    PYTHONPATH=.bench/atheris python -m benchmarks.reliability_fuzz [--seconds N] [--seed N]
"""

import argparse
import importlib.util
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.reliability import conditions, table

REPORT_EVERY = 2000
STATS = re.compile(r"#(\d+)\s+\w+\s+cov: (\d+) ft: (\d+) corp: (\d+)")
COVERED = ["service", "models", "monitoring"]
LARGEST = 1 << 17


class Tally:
    """Counts what was answered; kept in a file, because libFuzzer ends without a word."""

    def __init__(self, path: Path) -> None:
        self._path, self._statuses, self._done = path, Counter[str](), 0

    def add(self, asked: Any) -> None:
        self._done += 1
        if asked is not None:
            self._statuses[str(asked.status)] += 1
        if self._done % REPORT_EVERY == 0:
            self.save()

    def save(self) -> None:
        self._path.write_text(json.dumps({"executions": self._done, "statuses": self._statuses}))


def guided(state: Path, corpus: Path, tally: Path, arguments: list[str]) -> None:
    """In a child: let libFuzzer run; does not return."""
    import atheris

    with atheris.instrument_imports(include=COVERED):
        from tests.fuzz.mutate import mutated
        from tests.fuzz.seeds import seeds
        from tests.fuzz.target import Target, application

    with application(state) as app:
        target, kept = Target(app), Tally(tally)
        others = [data for data in seeds(target.rules) if len(data) < 20_000]
        for number, data in enumerate(others):
            (corpus / f"seed-{number}").write_bytes(data)

        def one(data: bytes) -> None:
            kept.add(target(data))

        def change(data: bytes, most: int, seed: int) -> bytes:
            rng = random.Random(seed)
            if rng.random() < 0.5:
                return bytes(atheris.Mutate(data, most))
            return mutated(data, others, rng)[:most]

        atheris.Setup([sys.argv[0], *arguments, str(corpus)], one, custom_mutator=change)
        atheris.Fuzz()


def blind(state: Path, tally: Path, seconds: float, seed: int) -> None:
    """The same changes without coverage."""
    from tests.fuzz.mutate import mutated
    from tests.fuzz.seeds import seeds
    from tests.fuzz.target import Target, application

    with application(state) as app:
        target, kept, rng = Target(app), Tally(tally), random.Random(seed)
        pool = [data for data in seeds(target.rules) if len(data) < 20_000]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            kept.add(target(mutated(rng.choice(pool), pool, rng)))
        kept.save()


def run_guided(folder: Path, seconds: float, seed: int) -> tuple[str, list[Path]]:
    """The last line of libFuzzer's statistics, and the inputs that broke a law."""
    found, corpus = folder / "found", folder / "corpus"
    found.mkdir()
    corpus.mkdir()
    limits = [
        f"-max_total_time={seconds:.0f}",
        f"-seed={seed}",
        "-timeout=10",
        f"-max_len={LARGEST}",
    ]
    limits += ["-rss_limit_mb=2048", f"-artifact_prefix={found}/", "-print_final_stats=1"]
    command = [sys.executable, "-m", "benchmarks.reliability_fuzz", "--child", str(folder), *limits]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    artifacts = list(found.iterdir())
    if done.returncode and not artifacts:
        raise SystemExit(done.stderr[-3000:])
    if artifacts:
        print(done.stderr[-3000:])
    lines = STATS.findall(done.stderr)
    return (f"{lines[-1][1]} branches, {lines[-1][3]} inputs kept" if lines else "?"), artifacts


def publish(state: Path) -> None:
    """The models, made before anything is instrumented."""
    code = "import sys; from pathlib import Path; from tests.fuzz.target import application\n"
    code += "with application(Path(sys.argv[1])): pass"
    subprocess.run([sys.executable, "-c", code, str(state)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=660)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path(), help="where findings are copied to")
    parser.add_argument("--child", type=Path, default=None, help=argparse.SUPPRESS)
    options, rest = parser.parse_known_args()
    if options.child:
        guided(options.child, options.child / "corpus", options.child / "tally.json", rest)
        return
    print(conditions())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        publish(folder)
        began, reached, found = time.monotonic(), "not measured", list[Path]()
        if importlib.util.find_spec("atheris"):
            reached, found = run_guided(folder, options.seconds, options.seed)
        else:
            blind(folder, folder / "tally.json", options.seconds, options.seed)
        spent = time.monotonic() - began
        for path in found:
            (options.keep / path.name).write_bytes(path.read_bytes())
        told = json.loads((folder / "tally.json").read_text())
    statuses = ", ".join(f"{n} x {s}" for s, n in sorted(told["statuses"].items()))
    row = [told["executions"], f"{spent:.0f}", reached, statuses, len(found)]
    print(table(("executions", "seconds", "coverage", "answers", "crashes and 5xx"), [row]))
    sys.exit(bool(found))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
