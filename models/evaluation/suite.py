"""The evaluation of a version: a suite of units, resumable and shared among processes."""

import hashlib
import importlib.metadata
from pathlib import Path

import msgspec
import numpy as np

from models.base.allocation import keep_freed_memory
from models.base.errors import DataError
from models.data import Rows
from models.evaluation.figures.collect import figures_of
from models.evaluation.gaps import Gaps
from models.evaluation.plan import Plan, make_plan
from models.evaluation.subject import Subject
from models.evaluation.tasks import Tasks
from models.evaluation.units import BLOCK, Progress, Store, run_units
from models.statistics.arrays import Bools, IntArray
from models.versions.figures import Evaluation
from models.versions.judging import ThreatModel

FORMAT = 2  # of the work folder: raised where a unit comes to mean something else
THREAT = ThreatModel(eps=0.15)


def evaluate(
    subject: Subject,
    rows: Rows,
    *,
    suite: str = "quick",
    threat: ThreatModel = THREAT,
    window: Rows | None = None,
    previous: Evaluation | None = None,
    previous_version: int | None = None,
    unseen: Bools | None = None,
    groups: IntArray | None = None,
    limit: int | None = None,
    autoattack: bool = False,
    seed: int = 0,
    work: Path | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """The figures of a suite on held-out rows; `report.json` is their encoding.

    What cannot be measured is named in `not_measured` and stops nothing, but for clean accuracy.

    Both suites: clean accuracy, per class and on the `window`; attacks at the threat's eps, one by
    one and as a cascade; robust accuracy against eps; noise; checks for masked gradients;
    corruptions or tabular stress at five severities; edge cases; calibration; how the scores do;
    the smallest perturbations. `quick` is for every version: short attacks, ten corruptions.
    `full` is for a judgement: APGD-CE, APGD-T with 100 steps and Square with 5000 queries, an
    APGD curve, ImageNet-C and MNIST-C, certificates.

    Args:
        subject: the served graph and its net; without a net only Square and noise attack it.
        rows: held-out labelled rows.
        suite: `quick` or `full`.
        threat: what the attacker may do.
        window: held-out labelled rows of live traffic.
        previous: figures of the previous champion, for what is told beside one's own.
        previous_version: its number.
        unseen: which of the rows `(N,)` have a content that does not stand in the training part;
            None where that is not known.
        groups: `(N,)`, equal where rows belong together: intervals then count groups.
        limit: only the first so many rows.
        autoattack: the reference implementation as well (`full` strength in either suite).
        seed: of attacks, noise and corruptions.
        work: a folder in which finished units are kept: an evaluation that was cut off goes on
            there. What belongs to another model, other data or settings is left alone.
        progress: called with `(done, total, unit)`, in forward passes, about.

    Raises:
        DataError: no rows, an unknown suite, or a threat that does not fit the inputs.

    Under `torchrun` the work is split among the processes; all of them return the same figures.
    """
    if limit is not None:
        rows = rows.take(np.arange(min(limit, len(rows))))
        unseen = None if unseen is None else unseen[: len(rows)]
        groups = None if groups is None else groups[: len(rows)]
    if len(rows) == 0:
        raise DataError("no rows to evaluate on: at least one labelled row is needed")
    keep_freed_memory()
    plan = make_plan(subject, suite, threat, autoattack=autoattack)
    tasks, gaps = Tasks(subject, rows, plan, {}), Gaps()
    folder = None if work is None else work / key(subject, rows, window, plan, seed)
    run_units(
        tasks.all(window, gaps), tasks.results,
        seed=seed, store=Store(folder), progress=progress, gaps=gaps,
    )  # fmt: skip
    return figures_of(
        tasks, gaps,
        seed=seed, previous=previous, previous_version=previous_version, unseen=unseen,
        groups=groups,
    )  # fmt: skip


def key(subject: Subject, rows: Rows, window: Rows | None, plan: Plan, seed: int) -> str:
    """Names the work folder: everything that its contents depend on."""
    digest = hashlib.sha256()
    version = importlib.metadata.version("holdfast")
    digest.update(msgspec.json.encode([FORMAT, BLOCK, version, plan, seed, subject.black_box]))
    digest.update(hashlib.sha256(subject.runner.bundle.model_bytes).digest())
    for part in (rows, window):
        if part is not None:
            digest.update(repr((part.x.shape, part.x.dtype)).encode())
            digest.update(np.ascontiguousarray(part.x).tobytes())
            digest.update(np.ascontiguousarray(part.y.astype(np.int64)).tobytes())
    return digest.hexdigest()[:16]
