"""What the loop makes of a labelled window before it trains: which rows it may use, and whether.

All that it needs is in memory, so that benchmarks ask the same function as the program.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from models.data import DataSet, Rows
from models.data.lineage import NO_LINEAGE, Lineage, LiveRows
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
from models.evaluation.gates.referee import Opinion, Referee, make_referee
from models.evaluation.subject import Subject
from models.statistics.arrays import Bools, FloatArray, IntArray
from models.versions.bundle import Bundle
from monitoring.loop import results
from monitoring.making.matching import Match, match_window

WRAPPED = "the anchor is a wrapped graph, which cannot be fine-tuned"
Prepare = Callable[[Subject, DataSet, Match | None], Referee]


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


@dataclass(frozen=True)
class Ruling:
    """What the loop does with a window.

    Args:
        told: the checks, and what is shown of them.
        kept: `(N,)` rows of the window that may be trained and judged on.
        earlier: `(M,)` the same for those of before.
        aside: names of the clients that are set aside; for the owner's eyes.
        lineage: what old rows are called where the changes of labels are meant; None without one.
    """

    told: results.Refereed
    kept: Bools
    earlier: Bools
    aside: tuple[str, ...] = ()
    lineage: Lineage | None = None


def prepare_referee(anchor: Subject, data: DataSet, match: Match | None) -> Referee:
    """The referee that has learnt the change that matches the window, if there is one."""
    return make_referee(anchor, data, change=None if match is None else match.apply)


def rule_on_window(
    anchor: Subject,
    data: DataSet,
    window: LabelledWindow,
    lineage: Lineage = NO_LINEAGE,
    trusted: Collection[str] = (),
    champion: Bundle | None = None,
    prepare: Prepare = prepare_referee,
) -> Ruling:
    """Ask the referee about a window.

    Args:
        anchor: the version that a person approved last.
        data: the data set of the champion as it was loaded.
        window: labelled rows.
        lineage: of the champion.
        trusted: labellers whose word is enough where labels have changed.
        champion: whose channels say which change of trusted rows makes them like the window; None:
            the referee knows its own moves alone.
        prepare: makes the referee; a benchmark with many windows makes equal ones once.
    """
    known = lineage.relabelled(data)
    match = None
    if champion is not None and anchor.net is not None:
        match = match_window(champion, known.calibration, window.rows.x, seed=0)
    moved = match is not None and match.apply is not None  # a move that nothing explains is none
    joined, n, classes = window.rows.joined(window.earlier.rows), len(window.rows), anchor.classes
    if len(joined):
        opinion = prepare(anchor, known, match).ask(joined.x)
    else:
        opinion = Opinion(np.zeros((0, len(classes))), np.zeros((len(classes),) * 2, np.int64))
    own = Opinion(opinion.probabilities[:n], opinion.usual, opinion.nearness)
    # By themselves: beside rows in full light those of a dark window would look like copies.
    numbers, before = _number(opinion, window.rows), _number(opinion, window.earlier.rows)
    verdict, changes = _judge(own, window, classes, numbers, moved=moved)
    kept = verdict.kept & _first_of_near(opinion, numbers, verdict.kept)
    followed = None
    if changes and opinion.nearness is not None:
        kept, followed = _follow(own, window.rows, kept, changes, lineage, data)
    checks = _checks(anchor, own, window, (verdict, changes), numbers, match)
    told = results.Refereed(
        checks=checks,
        rows=n,
        kept=int(kept.sum()),
        window=results.WindowFacts(
            checks[0].verdict, int(verdict.counted.sum()), len(np.unique(numbers[kept]))
        ),
        changed=checks[2].detail if changes else "",
        changes=tuple(_named(change, classes) for change in changes),
        can_follow=opinion.nearness is not None,
        followed=_trusted_words(own, window, changes, trusted),
    )
    earlier = _usable_earlier(opinion, joined.y, n, changes)
    earlier &= _first_of_near(opinion, before, earlier)
    return Ruling(told, kept, earlier, verdict.aside, followed)


def _checks(
    anchor: Subject,
    opinion: Opinion,
    window: LabelledWindow,
    judged: tuple[Refereed, tuple[Change, ...]],
    numbers: IntArray,
    match: Match | None,
) -> tuple[Check, ...]:
    """The checks `referee`, `class_precision` and `labels`, with what led to them in words."""
    (verdict, changes), classes, n = judged, anchor.classes, len(window.rows)
    counted, moved = verdict.counted, match is not None and match.apply is not None
    y = excuse(opinion.probabilities.argmax(axis=1), window.rows.y, changes) if n else window.rows.y
    precision = judge_precision(
        opinion.probabilities[counted], y[counted], classes, opinion.usual,
        [change.old for change in changes], moved=moved,
    )  # fmt: skip
    words = verdict.check.detail
    if match is not None and match.apply is not None:
        at = f" at severity {match.facts.severity}" if match.facts.severity else ""
        words += f"; it has learnt trusted rows with {match.facts.name}{at}"
    if near := _count_near(window.rows, numbers):
        words += f"; {near} of {n} rows count as near-copies of others"
    check = msgspec.structs.replace(verdict.check, detail=words)
    if anchor.black_box:
        check = _as_unknown(check, WRAPPED)
    if check.verdict == "unknown" and precision.verdict == "fail":
        precision = _as_unknown(precision, "the referee cannot judge these rows")
    return check, precision, judge_changes(changes, classes, int(counted.sum()))


def _usable_earlier(opinion: Opinion, y: IntArray, n: int, changes: Sequence[Change]) -> Bools:
    """Which rows from before the window, those after the first n, the referee leaves."""
    probable = opinion.probabilities[np.arange(n, len(y)), y[n:]] >= IMPROBABLE
    usable: Bools = probable & ~np.isin(y[n:], [change.old for change in changes])
    return usable


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
    opinion: Opinion,
    rows: Rows,
    kept: Bools,
    changes: Sequence[Change],
    lineage: Lineage,
    data: DataSet,
) -> tuple[Bools, Lineage]:
    """Which window rows stay where the changes are meant, and what old rows are called then."""
    assert opinion.nearness is not None
    named, embed = opinion.probabilities.argmax(axis=1), opinion.nearness.embed
    concerned = kept & np.isin(named, [change.old for change in changes])
    places = np.flatnonzero(concerned)
    gone = places[outvoted(embed, rows.take(concerned))]
    concerned[gone] = False
    kept = kept.copy()
    kept[gone] = False
    return kept, follow(lineage, data, changes, embed, rows.take(concerned))


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
