"""The step before a training: which labelled rows of the window may be used, and what they say.

Its result is `referee.json` and, beside it, `referee.npz` with `kept` `(N,)`, true for the rows of
`window.npz` that may be trained and judged on. `aside.json` names the clients that are set aside,
for the owner's eyes; results only count them.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from models.base.files import write_atomic
from models.data import DataSet, Rows
from models.data.window import Window
from models.evaluation.gates.changed_labels import find_changes, judge_changes
from models.evaluation.gates.checks import Check
from models.evaluation.gates.contradictions import (
    first_of,
    judge_labels,
    judge_precision,
    number_contents,
)
from models.evaluation.gates.referee import ask_referee
from models.evaluation.subject import Subject
from models.statistics.arrays import IntArray
from monitoring.loop.results import Refereed

WRAPPED = "the anchor is a wrapped graph, which cannot be fine-tuned"


@dataclass(frozen=True)
class LabelledWindow:
    """The labelled traffic that was frozen for a job.

    Args:
        rows: N of them.
        predicted: `(N,)` classes that the champion answered.
        clients: `(N,)` who labelled each.
    """

    rows: Rows
    predicted: IntArray
    clients: tuple[str, ...]


def read_window(folder: Path) -> LabelledWindow:
    """The window of a job's folder."""
    with np.load(folder / "window.npz", allow_pickle=False) as archive:
        clients = tuple(str(name) for name in archive["clients"])
        return LabelledWindow(Rows(archive["x"], archive["y"]), archive["predicted"], clients)


def usable_window(folder: Path, data: DataSet) -> Window:
    """The rows that the referee has kept, dealt in three parts."""
    with np.load(folder / "referee.npz", allow_pickle=False) as archive:
        return Window.of(read_window(folder).rows.take(archive["kept"]), data)


def judge_window(anchor: Subject, data: DataSet, folder: Path) -> Refereed:
    """Ask the referee about the window of a job, and keep which rows may be used.

    Args:
        anchor: the version that a person approved last.
        data: whose labels are trusted.
        folder: of the job.
    """
    window, classes = read_window(folder), anchor.classes
    rows = window.rows
    opinion = ask_referee(anchor, data, rows.x)
    contents = number_contents(rows.x, rows.y)
    verdict = judge_labels(
        opinion.probabilities, rows.y, classes, opinion.usual, window.clients, contents
    )
    own = first_of(contents, window.clients) & ~np.isin(window.clients, verdict.aside)
    clients = tuple(name for name, one in zip(window.clients, own, strict=True) if one)
    changes = find_changes(opinion.probabilities[own], rows.y[own], clients)
    probabilities, y = opinion.probabilities[verdict.counted], rows.y[verdict.counted]
    labels = judge_changes(changes, classes, len(y))
    excused = [change.old for change in changes]
    precision = judge_precision(probabilities, y, classes, opinion.usual, excused)
    check = verdict.check
    if anchor.black_box:
        check = _as_unknown(check, WRAPPED)
    if check.verdict == "unknown" and precision.verdict == "fail":
        precision = _as_unknown(precision, "the referee cannot judge these rows")
    write_atomic(folder / "aside.json", msgspec.json.encode(verdict.aside), 0o600)
    np.savez(folder / "referee.npz", allow_pickle=False, kept=verdict.kept)
    return Refereed(
        checks=(check, precision, labels),
        rows=len(rows),
        kept=int(verdict.kept.sum()),
        changed=labels.detail if changes else "",
    )


def _as_unknown(check: Check, why: str) -> Check:
    return Check(
        check.name, "unknown", check.value, check.bound, f"{check.detail}; {why}", check.n,
        check.alpha,
    )  # fmt: skip
