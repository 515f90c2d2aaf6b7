"""The loop in a process of its own that may die at any point, and be started again.

Jobs, registry, records and DBOS are the real ones; the children are `tests.monitoring.loop.child`.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from models.base.processes import end_with_parent
from models.evaluation.gates.catalogue import plan
from models.versions.registry import Registry
from monitoring.loop import lifecycle, steps, supervisor
from monitoring.loop.jobs import Job, JobStore
from monitoring.loop.metrics import WatchMetrics
from monitoring.loop.supervisor import launch
from monitoring.loop.terms import Terms, Workplace
from monitoring.records.database import make_engine
from monitoring.records.store import Key, Record, RecordStore
from tests.monitoring.loop import child, kills, versions
from tests.waiting import wait_until

GENTLE = Terms(shadow_seconds=0.2, probation_seconds=0.2, label_patience_seconds=0.2, min_labels=0)
Hook = Callable[[], None]


def job_of(name: str, model: str = "digits", **options: Any) -> Job:
    """A job of an evaluation that has failed, asked for by the loop."""
    return Job(
        name, "evaluate", model, 1, "accuracy", "as asked", 0.0, time.time(), options=options
    )


@dataclass
class Lab:
    """A state directory with a version of each model, and lives of the loop over it."""

    folder: Path
    models: tuple[str, ...] = ("digits",)
    terms: Terms = GENTLE
    trainings: int = 1
    database_url: str = ""
    system_url: str = ""
    engines: list[sa.Engine] = field(default_factory=list)
    hooks: list[Hook] = field(default_factory=list)  # called in each life before it begins

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / child.PLAN).write_bytes(msgspec.json.encode(plan()))
        self.database_url = self.database_url or f"sqlite:///{self.folder}/records.sqlite"
        self.system_url = self.system_url or f"sqlite:///{self.folder}/loop.sqlite"
        if not self.registry.models():
            for model in self.models:
                versions.publish(self.folder / "registry", model)

    @property
    def registry(self) -> Registry:
        """The registry of the state."""
        return Registry(self.folder / "registry")

    def jobs(self) -> dict[str, Job]:
        """The jobs by name, read with an engine of their own."""
        engine = make_engine(self.database_url, 10.0)
        try:
            return {job.id: job for job in JobStore(engine).all()}
        finally:
            engine.dispose()

    def store(self) -> JobStore:
        """A store for the test's own changes; of no life."""
        self.engines.append(make_engine(self.database_url, 30.0))
        return JobStore(self.engines[-1])

    def put(self, *jobs: Job) -> None:
        """Store jobs, as a dispatcher would."""
        engine = make_engine(self.database_url, 10.0)
        for job in jobs:
            JobStore(engine).put(job)
        engine.dispose()

    def label(self, model: str, version: int, rows: int, *, right: bool = True) -> None:
        """Record answers of a version, and their labels."""
        records, tag = RecordStore(self.database_url), f"{time.time_ns()}"
        keys = [Key(f"{tag}-{k}", 0) for k in range(rows)]
        now, label = time.time(), 0 if right else 1
        records.add(
            [Record(key.id, 0, now, model, version, b"\0", 0, 0.5, 0.1, 0.9, 0.3) for key in keys]
        )
        found = records.find(keys)
        records.add_feedback([(key, found[key], label) for key in keys])
        records.close()

    def until(self, name: str, *stages: str) -> Job:
        """Wait until a job is at one of these stages; `approval` means that it waits."""

        def there() -> bool:
            return self.jobs()[name].stage in stages

        wait_until(there, what=f"{name} is at {' or '.join(stages)}", every=0.05)
        return self.jobs()[name]

    def let_go(self, name: str, step: str) -> None:
        """Let a step of a job go on that its options have `held`: no wait decides the order."""
        (self.folder / "jobs" / name / f"{step}.go").touch()

    def stop(self, process: int) -> None:
        """End a life in order, as the server's end does."""
        os.kill(process, signal.SIGTERM)
        assert self.wait(process) == 0

    def begin(self) -> int:
        """Start a life; its process number."""
        sys.stdout.flush()
        for engine in self.engines:  # SQLite's connections do not survive a fork
            engine.dispose()
        parent = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # until it is handled there
        if process := os.fork():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            return process
        status = 1
        try:
            os.setsid()
            end_with_parent(parent)
            sys.stdout = sys.stderr = (self.folder / "life.log").open("a", buffering=1)
            self.live()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    def live(self) -> None:
        """Run the loop in this process until every job has ended."""
        os.environ[kills.FOLDER] = str(self.folder)
        steps.CHILD = steps.SHADOW = "tests.monitoring.loop.child"
        kills.install()
        for hook in self.hooks:
            hook()
        jobs, metrics = JobStore(make_engine(self.database_url, 10.0)), WatchMetrics()
        place = Workplace(str(self.folder), self.database_url)
        records = RecordStore(self.database_url)
        loop = lifecycle.Lifecycle(
            place, self.registry, jobs, records, metrics, lambda job: None, self.trainings
        )
        keeper = supervisor.Supervisor(loop, self.terms, partial(launch, self.system_url))
        signal.signal(signal.SIGTERM, lambda *_: loop.stop.set())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        keeper.start()
        while not loop.stop.wait(0.05):
            with suppress(Exception):
                if not jobs.unfinished() and not loop.beats.all():
                    return

    def run(self, seconds: float = 120.0) -> int:
        """One life to its end; 0, or the signal that ended it, negative."""
        return self.wait(self.begin(), seconds)

    def wait(self, process: int, seconds: float = 120.0) -> int:
        """Wait for a life's end, and see that it left no child."""
        ended: list[int] = []

        def gone() -> bool:
            found, status = os.waitpid(process, os.WNOHANG)
            if found:
                ended.append(os.waitstatus_to_exitcode(status))
            return bool(found)

        try:
            wait_until(gone, seconds, what=f"the end of a life of {self.folder}", every=0.05)
        except BaseException:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            print((self.folder / "life.log").read_text()[-6000:])
            raise
        return ended[0]

    def run_to_the_end(self, most: int = 20) -> int:
        """Lives until one ends by itself; how many there were."""
        for lives in range(1, most + 1):
            status = self.run()
            if status == 0:
                return lives
            assert status == -signal.SIGKILL, (self.folder / "life.log").read_text()[-6000:]
        raise AssertionError(f"not ended after {most} lives")


def audit(lab: Lab, model: str = "digits") -> list[str]:
    """What was done to a model, in order."""
    return [record.action for record in lab.registry.audit(model)]


def leftovers(lab: Lab) -> Mapping[str, list[Path]]:
    """What a crash left half done."""
    found = {"staging": list((lab.folder / "registry").glob("*/.staging-*"))}
    return {name: paths for name, paths in found.items() if paths}


def main(folder: Path, terms: Terms) -> None:
    """A life in a process that was started for it, as one must be under a clock of its own."""
    Lab(folder, terms=terms).live()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=Terms))
