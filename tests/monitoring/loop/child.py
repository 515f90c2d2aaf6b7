"""A cheap stand-in for `monitoring.loop.child`: the same files, statuses and registry, no torch.

What it does is asked for in the job's options:
    {"verdict": "failed", "passes": true, "seconds": {"train": 5}, "fails": {"gate": "full"}}

Many tests start seven of these for each job, so each imports no more than its step needs.
A step that `held` names waits until the test lets it go (`Lab.let_go`).
"""

import errno
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from models.base.files import write_atomic
from models.evaluation.gates.checks import Check, verdict_of
from monitoring.loop.results import (
    ChangedLabel,
    Collected,
    Gated,
    Look,
    Refereed,
    Trained,
    WindowFacts,
)
from tests.monitoring.loop.kills import point

if TYPE_CHECKING:
    from models.statistics.shadow import Shadowed

PLAN = "plan.json"  # beside the registry
EARLY = ("referee", "class_precision", "labels")


class Job(msgspec.Struct):
    """What is read here of `monitoring.loop.jobs.Job`."""

    id: str
    model: str
    champion: int
    reason: str
    options: dict[str, Any]


class Task(msgspec.Struct):
    """What is read here of `monitoring.loop.jobs.Task`."""

    job: Job
    registry: str


def plan(task: Task) -> list[Check]:
    """The gates of the catalogue, as the lab wrote them: their module takes a second to import."""
    return msgspec.json.decode(Path(task.registry).with_name(PLAN).read_bytes(), type=list[Check])


def collect(task: Task) -> Collected:
    """No rows."""
    return Collected(0)


def evaluate(task: Task) -> Look:
    """The verdict that the options ask for; `failed` where they ask for none."""
    from models.statistics.shares import Proportion

    verdict = task.job.options.get("verdict", "failed")
    share = Proportion(0.9, 0.85, 0.95, 400)
    return Look(verdict, f"{verdict} as asked", share, share, None, time.time())


def referee(task: Task) -> Refereed:
    """All labels are good, or `labels` is what the options ask for.

    `changed`: nothing can follow them; `meant`: a person is asked; `trusted`: nobody need be;
    `unsure`: the referee cannot judge them. `window`: different rows, and those of them kept.
    """
    said = task.job.options.get("labels", "pass")
    different, kept = task.job.options.get("window", (0, 0))
    early = [c for c in plan(task) if c.name in EARLY]
    checks = [msgspec.structs.replace(c, verdict="pass") for c in early]
    if said == "poisoned":
        checks[0] = Check("referee", "fail", 0.3, 0.1, "poisoned as asked")
    if said == "unsure":
        checks[0] = Check("referee", "unknown", 0.3, 0.1, "it cannot judge these rows")
    window = WindowFacts(checks[0].verdict, different, kept)
    if said not in ("changed", "meant", "trusted"):
        return Refereed(tuple(checks), 0, 0, window)
    checks[2] = Check("labels", "unknown", 1.0, 0.0, "changed as asked")
    return Refereed(
        tuple(checks), 0, 0, window, "changed as asked", (ChangedLabel("3", "8", 60, 1.0),),
        can_follow=said != "changed", followed="trusted as asked" if said == "trusted" else "",
    )  # fmt: skip


def train(task: Task) -> Trained:
    """A copy of the champion as a new version, once per job."""
    from models.versions.facts import EventFacts
    from models.versions.registry import Registry
    from tests.monitoring.loop.versions import copy_of

    job, registry = task.job, Registry(Path(task.registry))
    make = copy_of(registry, job.model, job.champion, EventFacts(job.id))
    version = registry.publish(job.model, make, actor="lifecycle", reason=job.reason, event=job.id)
    return Trained(version)


def gate(task: Task) -> Gated:
    """All checks pass, but `parity` as it is asked for: true, false, or null for unknown.

    With `gain` false the challenger is no better on the window.
    """
    passes = task.job.options.get("passes", True)
    verdict = "unknown" if passes is None else verdict_of(passes)
    late = [c for c in plan(task) if c.name not in EARLY]
    checks = [msgspec.structs.replace(check, verdict="pass") for check in late]
    asked = {"parity": Check("parity", verdict, 0.0, 1e-4, "as asked")}
    if not task.job.options.get("gain", True):
        asked["window_accuracy"] = Check("window_accuracy", "fail", -0.01, 0.0, "no gain as asked")
    return Gated(tuple(asked.get(check.name, check) for check in checks))


def shadow(task: Task) -> "Shadowed":
    """Labels that say nothing, or `worse` where the options ask for it."""
    return _shadow(task, "shadow")


def probation(task: Task) -> "Shadowed":
    """As `shadow`."""
    return _shadow(task, "probation")


def canary(task: Task) -> "Shadowed":
    """The verdict that the options ask for; `no worse` where they ask for none."""
    return _seen(task.job.options.get("canary", "no worse"))


def _shadow(task: Task, step: str) -> "Shadowed":
    return _seen("worse" if task.job.options.get("worse") == step else "not known")


def _seen(verdict: Any) -> "Shadowed":
    from models.statistics.shadow import Agreement, ShadowComparison, Shadowed

    return Shadowed(ShadowComparison(9, 0, 91, verdict), Agreement(200, 9), None, None)


def fail(how: str) -> None:
    """Fail in the way that is asked for."""
    if how == "full":
        raise OSError(errno.ENOSPC, "No space left on device")
    if how == "locked":
        from sqlalchemy.exc import OperationalError

        raise OperationalError("", {}, Exception("database is locked"))
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    raise KeyError(how)


def main(step: str, folder: Path) -> int:
    """As `monitoring.loop.child.main`; how often a step was run is noted beside its result."""
    try:
        with (folder / f"{step}.runs").open("a") as runs:
            runs.write(f"{os.getpid()}\n")
        task = msgspec.json.decode((folder / f"{step}.task.json").read_bytes(), type=Task)
        point(f"child {step} begins")
        # No time.sleep: libfaketime breaks that one.
        threading.Event().wait(task.job.options.get("seconds", {}).get(step, 0.0))
        while step in task.job.options.get("held", ()) and not (folder / f"{step}.go").exists():
            threading.Event().wait(0.02)
        how, until = task.job.options.get("fails", {}).get(step), folder / f"{step}.mended"
        if how is not None and not until.exists():
            fail(how)
        result = globals()[step](task)
        point(f"child {step} has worked")
        write_atomic(folder / f"{step}.json", msgspec.json.encode(result))
        point(f"child {step} has told")
    except Exception as error:
        from monitoring.loop.durable.faults import passing_words
        from monitoring.loop.steps import PASSING_STATUS

        with suppress(OSError):
            write_atomic(folder / f"{step}.error", f"{type(error).__name__}: {error}".encode())
        return PASSING_STATUS if passing_words(error) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
