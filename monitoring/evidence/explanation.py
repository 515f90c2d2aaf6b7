"""An alarm explained: its histogram, when it began, and the requests that moved it most.

The watcher explains an alarm once, when it is raised, from the records of the service. If requests
were not recorded, the explanation says so.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from models.base.errors import HoldfastError
from models.versions.bundle import Bundle
from models.versions.runner import Runner
from models.versions.schema import ChannelInfo
from monitoring.evidence.alarm import (
    Alarm,
    Bin,
    bins,
    cell_label,
    merge_groups,
    rank_bins,
    rank_label,
)
from monitoring.evidence.bets import FloatArray
from monitoring.evidence.onset import CONFIDENCE, Onset
from monitoring.records.keeping.limits import NO_INPUTS
from monitoring.records.store import Recorded, RecordStore, fits, raw_inputs

Times = tuple[float, float] | None
MOVERS = 5
RUN_AGAIN = 300  # latest recorded requests, at most, that are looked at
BAR = 30  # characters of the longest bar


class Mover(msgspec.Struct, frozen=True):
    """A recorded request whose cell speaks for the winning bet; `gain` in nats."""

    id: str
    row: int
    at: float
    cell: str
    gain: float


class Explanation(msgspec.Struct, frozen=True):
    """The facts behind an alarm; times are seconds since the epoch."""

    version: int
    raised_at: float
    channel: str
    direction: str
    words: str
    requests: int
    onset: Onset
    first_at: float | None  # of the onset; None: not known
    last_at: float | None
    confidence: float  # that the drift began within the onset
    histogram: tuple[Bin, ...]
    movers: tuple[Mover, ...]
    note: str  # what is missing, or ""


def explain(
    alarm: Alarm, bundle: Bundle, records: RecordStore, now: float, when: Callable[[int], Times]
) -> Explanation:
    """Explain an alarm of the champion `bundle`, raised at `now`.

    The requests are those recorded since the likely onset, run through the graph again: the five
    whose cells add most to the evidence of the winning bet. Their number says nothing of when a
    request was weighed: repeats are recorded and not weighed.

    Args:
        alarm: of the champion.
        bundle: the champion.
        records: of the service.
        now: when it was raised, seconds since 1970.
        when: two times between which a request was weighed, by its number; None: not known.
    """
    column = [c.name for c in bundle.manifest.channels].index(alarm.channel)
    info = bundle.manifest.channels[column]
    edges = bundle.reference.get(f"{alarm.channel}/edges")
    if info.groups or (edges is not None and len(edges) + 1 != len(info.labels)):
        edges = None  # a number's last cell is "missing": its cells keep their names
    before, after = np.array(alarm.before), np.array(alarm.after)
    earliest, latest = (when(max(1, at)) for at in (alarm.onset.first, alarm.onset.last))
    note = ""
    try:
        since = max(1, alarm.requests - alarm.onset.likely)
        requests = records.latest(bundle.manifest.model, bundle.manifest.version, since, RUN_AGAIN)
        movers = _movers(alarm, bundle, requests, column, cell_labels(info, edges, before))
        if not requests:
            off = records.has_inputs(bundle.manifest.model) is False
            note = NO_INPUTS if off else "the requests of the change were not recorded"
    except HoldfastError as error:
        movers, note = (), f"the requests cannot be read: {error}"
    return Explanation(
        version=bundle.manifest.version,
        raised_at=now,
        channel=alarm.channel,
        direction=alarm.direction,
        words=alarm.words,
        requests=alarm.requests,
        onset=alarm.onset,
        first_at=None if earliest is None else earliest[0],
        last_at=None if latest is None else latest[1],
        confidence=CONFIDENCE,
        histogram=histogram(info, edges, before, after),
        movers=movers,
        note=note,
    )


def cell_labels(info: ChannelInfo, edges: Any, before: FloatArray) -> list[str]:
    """Describe every cell: by its scores, its class and rank, or its name."""
    if not info.groups:
        return [cell_label(info.labels, edges, cell) for cell in range(len(info.labels))]
    cells = list(info.labels)
    if info.kind == "score":
        sizes = tuple(group.cells for group in info.groups)
        cells = [rank_label(k) for k in rank_bins(info.labels, sizes, before).tolist()]
    names = [group.name for group in info.groups for _ in range(group.cells)]
    return [f"{name}: {cell}" for name, cell in zip(names, cells, strict=True)]


def histogram(
    info: ChannelInfo, edges: Any, before: FloatArray, after: FloatArray
) -> tuple[Bin, ...]:
    """The bins of a channel, those of all classes together."""
    groups = tuple(group.cells for group in info.groups)
    if groups and info.kind == "category":
        before, after = (merge_groups(len(groups), shares) for shares in (before, after))
        return bins(info.labels[: groups[0]], None, before, after)
    return bins(info.labels, edges, before, after, groups)


def _movers(
    alarm: Alarm, bundle: Bundle, requests: list[Recorded], column: int, names: list[str]
) -> tuple[Mover, ...]:
    schema = bundle.manifest.input
    whole = [r for r in requests if fits(r.x, schema)]
    if not whole or not alarm.gains:
        return ()
    cells = Runner(bundle).run(raw_inputs([r.x for r in whole], schema)).cells[:, column]
    gains = np.array(alarm.gains)[cells]
    most = [k for k in np.argsort(-gains, kind="stable")[:MOVERS].tolist() if gains[k] > 0]
    return tuple(
        Mover(
            whole[k].id, whole[k].row, whole[k].at, names[int(cells[k])], round(float(gains[k]), 3)
        )
        for k in most
    )


def histogram_text(explanation: Explanation) -> str:
    """The histogram for a terminal: one line per bin, shares in per cent, a bar for `after`."""
    width = max(len(b.label) for b in explanation.histogram)
    most = max(max(b.before, b.after) for b in explanation.histogram)
    lines = [f"{'':{width}}   before    after"]
    for b in explanation.histogram:
        bar = "#" * round(BAR * b.after / most) if most else ""
        lines.append(f"{b.label:{width}}  {b.before:6.1%}   {b.after:6.1%}  {bar}".rstrip())
    return "\n".join(lines)
