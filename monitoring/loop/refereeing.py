"""The step before a training: which labelled rows of the window may be used, and what they say.

Its result is `referee.json` and, beside it, `referee.npz` with `kept` `(N,)`, true for the rows of
`window.npz` that may be trained and judged on, and `earlier` `(M,)`, the same for those of before.
`aside.json` names the clients that are set aside, for the owner's eyes; results only count them.
Where labels have changed, `lineage.npz` has what old rows are called then: it is used once a person
or a trusted labeller has said that the change is meant.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from models.base.files import write_atomic, write_durable
from models.data import DataSet, Rows
from models.data.contents import content_hashes
from models.data.lineage import FILE as LINEAGE
from models.data.lineage import NO_LINEAGE, Lineage, LiveRows
from models.data.window import Window
from models.evaluation.gates.changed_labels import Change, find_changes, judge_changes
from models.evaluation.gates.checks import Check
from models.evaluation.gates.contradictions import (
    IMPROBABLE,
    Refereed,
    first_of,
    judge_labels,
    judge_precision,
    number_contents,
)
from models.evaluation.gates.following import excuse, follow, outvoted
from models.evaluation.gates.referee import Opinion, ask_referee
from models.evaluation.subject import Subject
from models.statistics.arrays import Bools, FloatArray, IntArray
from models.versions.bundle import Bundle
from monitoring.loop import results
from monitoring.making.matching import match_window
from monitoring.records.store import Labelled

WRAPPED = "the anchor is a wrapped graph, which cannot be fine-tuned"


@dataclass(frozen=True)
class LabelledWindow:
    """The labelled traffic that was frozen for a job.

    Args:
        rows: N of them.
        predicted: `(N,)` classes that the champion answered.
        clients: `(N,)` who labelled each.
        at: `(N,)` seconds since 1970.
        earlier: labelled rows of the same champion from before the window, with their times.
    """

    rows: Rows
    predicted: IntArray
    clients: tuple[str, ...]
    at: FloatArray
    earlier: LiveRows


def write_window(folder: Path, rows: Labelled, earlier: Labelled) -> None:
    """Freeze the window of a job, and labelled rows of before; whole or not at all, mode 0600."""
    temporary = folder / ".window.npz"
    temporary.unlink(missing_ok=True)
    write_durable(temporary, b"", 0o600)
    arrays = {
        "x": rows.x, "y": rows.y, "predicted": rows.predicted, "at": rows.at,
        "clients": np.array(rows.clients, dtype=np.str_), "trusted": rows.trusted,
        "earlier/x": earlier.x, "earlier/y": earlier.y, "earlier/at": earlier.at,
    }  # fmt: skip
    with temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)
    temporary.replace(folder / "window.npz")


def read_window(folder: Path) -> LabelledWindow:
    """The window of a job's folder."""
    with np.load(folder / "window.npz", allow_pickle=False) as archive:
        clients = tuple(str(name) for name in archive["clients"])
        rows = Rows(archive["x"], archive["y"])
        at = archive["at"] if "at" in archive else np.zeros(len(rows))
        before, times = Rows(rows.x[:0], rows.y[:0]), np.zeros(0)
        if "earlier/x" in archive:
            before, times = Rows(archive["earlier/x"], archive["earlier/y"]), archive["earlier/at"]
        earlier = LiveRows(before, times, np.zeros(len(before), dtype=np.int64))
        return LabelledWindow(rows, archive["predicted"], clients, at, earlier)


def usable_window(folder: Path, data: DataSet, lineage: Lineage) -> Window:
    """The rows that the referee has kept, dealt in three parts.

    Args:
        folder: of the job.
        data: the data set of the version.
        lineage: of the version; a row that it holds stays on its side.
    """
    with np.load(folder / "referee.npz", allow_pickle=False) as archive:
        kept = archive["kept"]
    window = read_window(folder)
    return Window.of(window.rows.take(kept), data, window.at[kept], lineage)


def earlier_rows(folder: Path, data: DataSet, window: Window, lineage: Lineage) -> LiveRows:
    """Labelled rows of the champion from before the window, that the referee has kept.

    They are one more window of old data: only trained on, and none of them is judged on.
    """
    with np.load(folder / "referee.npz", allow_pickle=False) as archive:
        rows = read_window(folder).earlier.take(archive["earlier"])
    judged = [window.calibration.x, window.test.x, data.test.x, data.calibration.x]
    judged += [live.rows.x for side, live in lineage.live.items() if side == "test"]
    elsewhere = np.concatenate([content_hashes(x) for x in judged])
    return rows.take(~np.isin(content_hashes(rows.rows.x), elsewhere))


def judge_window(
    anchor: Subject,
    data: DataSet,
    folder: Path,
    lineage: Lineage = NO_LINEAGE,
    trusted: Collection[str] = (),
    champion: Bundle | None = None,
) -> results.Refereed:
    """Ask the referee about the window of a job, and keep which rows may be used.

    Args:
        anchor: the version that a person approved last.
        data: the data set of the champion as it was loaded.
        folder: of the job.
        lineage: of the champion.
        trusted: labellers whose word is enough where labels have changed.
        champion: whose channels say which change of trusted rows makes them like the window; None:
            the referee knows its own moves alone.
    """
    window = read_window(folder)
    joined = window.rows.joined(window.earlier.rows)
    known = lineage.relabelled(data)
    match = None
    if champion is not None and anchor.net is not None:
        match = match_window(champion, known.calibration, window.rows.x, seed=0)
    change = None if match is None else match.apply
    opinion = ask_referee(anchor, known, joined.x, change=change)
    n, all_y = len(window.rows), joined.y
    own = Opinion(opinion.probabilities[:n], opinion.usual, opinion.nearness)
    # By themselves: beside rows in full light those of a dark window would look like copies.
    numbers, before = _number(opinion, window.rows), _number(opinion, window.earlier.rows)
    classes, moved = anchor.classes, change is not None  # a move that nothing explains excuses none
    verdict, changes = _judge(own, window, classes, numbers, moved=moved)
    labels = judge_changes(changes, classes, int(verdict.counted.sum()))
    y = excuse(own.probabilities.argmax(axis=1), window.rows.y, changes) if n else window.rows.y
    precision = judge_precision(
        own.probabilities[verdict.counted], y[verdict.counted], classes, opinion.usual,
        [change.old for change in changes], moved=moved,
    )  # fmt: skip
    check, kept = verdict.check, verdict.kept
    if match is not None and match.apply is not None:
        at = f" at severity {match.facts.severity}" if match.facts.severity else ""
        words = f"{check.detail}; it has learnt trusted rows with {match.facts.name}{at}"
        check = msgspec.structs.replace(check, detail=words)
    if near := _count_near(window.rows, numbers):
        words = f"{check.detail}; {near} of {n} rows count as near-copies of others"
        check = msgspec.structs.replace(check, detail=words)
    if anchor.black_box:
        check = _as_unknown(check, WRAPPED)
    if check.verdict == "unknown" and precision.verdict == "fail":
        precision = _as_unknown(precision, "the referee cannot judge these rows")
    earlier = opinion.probabilities[np.arange(n, len(all_y)), all_y[n:]] >= IMPROBABLE
    earlier &= ~np.isin(all_y[n:], [change.old for change in changes])
    kept &= _first_of_near(opinion, numbers, kept)
    earlier &= _first_of_near(opinion, before, earlier)
    if changes and opinion.nearness is not None:
        kept = _follow(folder, own, window.rows, kept, changes, lineage, data)
    write_atomic(folder / "aside.json", msgspec.json.encode(verdict.aside), 0o600)
    np.savez(folder / "referee.npz", allow_pickle=False, kept=kept, earlier=earlier)
    return results.Refereed(
        checks=(check, precision, labels),
        rows=n,
        kept=int(kept.sum()),
        window=results.WindowFacts(
            check.verdict, int(verdict.counted.sum()), len(np.unique(numbers[kept]))
        ),
        changed=labels.detail if changes else "",
        changes=tuple(_named(change, classes) for change in changes),
        can_follow=opinion.nearness is not None,
        followed=_trusted_words(own, window, changes, trusted),
    )


def _number(opinion: Opinion, rows: Rows) -> IntArray:
    """A number `(N,)` for each row, the same for near-copies; for equal rows where none is near."""
    if opinion.nearness is None or not opinion.nearness.radius:
        return number_contents(rows.x, rows.y)
    return opinion.nearness.number(rows.x, rows.y)


def _count_near(rows: Rows, numbers: IntArray) -> int:
    """How many rows are near-copies of others, besides those that are equal."""
    return int(len(np.unique(number_contents(rows.x, rows.y))) - len(np.unique(numbers)))


def _first_of_near(opinion: Opinion, numbers: IntArray, kept: Bools) -> Bools:
    """Which rows `(N,)` are the first kept one of their near-copies.

    All of them where only equal rows have a number: how these are dealt is the window's own law.
    """
    if opinion.nearness is None or not opinion.nearness.radius:
        return np.ones(len(kept), dtype=np.bool_)
    return first_of(np.where(kept, numbers, -1))


def _judge(
    opinion: Opinion,
    window: LabelledWindow,
    classes: Sequence[str],
    contents: IntArray,
    *,
    moved: bool,
) -> tuple[Refereed, tuple[Change, ...]]:
    """What the referee says of the labels, and which labels have changed.

    Rows that a change explains contradict nothing: the filter would delete what is new. Whom the
    first look sets aside has no voice in what has changed.
    """
    p, rows, clients = opinion.probabilities, window.rows, window.clients
    first = first_of(contents, clients)
    aside: tuple[str, ...] = ()
    for _ in range(2):
        own = first & ~np.isin(clients, aside)
        names = tuple(name for name, one in zip(clients, own, strict=True) if one)
        changes = find_changes(p[own], rows.y[own], names)
        y = excuse(p.argmax(axis=1), rows.y, changes) if len(rows) else rows.y
        verdict = judge_labels(p, y, classes, opinion.usual, clients, contents, moved=moved)
        if not verdict.aside or verdict.aside == aside:
            break
        aside = verdict.aside
    return verdict, changes


def _follow(
    folder: Path,
    opinion: Opinion,
    rows: Rows,
    kept: Bools,
    changes: Sequence[Change],
    lineage: Lineage,
    data: DataSet,
) -> Bools:
    """Write what old rows are called where the changes are meant; which window rows stay then."""
    assert opinion.nearness is not None
    named, embed = opinion.probabilities.argmax(axis=1), opinion.nearness.embed
    concerned = kept & np.isin(named, [change.old for change in changes])
    places = np.flatnonzero(concerned)
    gone = places[outvoted(embed, rows.take(concerned))]
    concerned[gone] = False
    followed = follow(lineage, data, changes, embed, rows.take(concerned))
    write_atomic(folder / LINEAGE, followed.encode(), 0o600)
    kept = kept.copy()
    kept[gone] = False
    return kept


def _trusted_words(
    opinion: Opinion, window: LabelledWindow, changes: Sequence[Change], trusted: Collection[str]
) -> str:
    """Who is trusted and says the same alone, in words; empty where a person must say it."""
    theirs = np.isin(window.clients, list(trusted))
    if not changes or not theirs.any():
        return ""
    alone = find_changes(opinion.probabilities[theirs], window.rows.y[theirs])
    if not {(c.old, c.new) for c in changes} <= {(c.old, c.new) for c in alone}:
        return ""
    return f"{int(theirs.sum())} labels of trusted labellers say the same by themselves"


def _named(change: Change, classes: Sequence[str]) -> results.ChangedLabel:
    return results.ChangedLabel(classes[change.old], classes[change.new], change.n, change.share)


def _as_unknown(check: Check, why: str) -> Check:
    return Check(
        check.name, "unknown", check.value, check.bound, f"{check.detail}; {why}", check.n,
        check.alpha,
    )  # fmt: skip
