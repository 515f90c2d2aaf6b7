"""An alarm explained: its histogram, when it began, and the requests that moved it most.

The watcher explains an alarm once, when it is raised, from the records of the service. If requests
were not recorded, the explanation says so.
"""

from typing import Any

import msgspec
import numpy as np

from models.base.errors import HoldfastError
from models.versions.bundle import Bundle
from models.versions.runner import Runner
from monitoring.evidence.alarm import Alarm, Bin, bins, cell_label
from monitoring.records.store import Recorded, RecordStore, fits, raw_inputs

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
    change_at: int
    began_at: float | None  # None: no record reaches back to the change
    histogram: tuple[Bin, ...]
    movers: tuple[Mover, ...]
    note: str  # what is missing, or ""


def explain(alarm: Alarm, bundle: Bundle, records: RecordStore, now: float) -> Explanation:
    """Explain an alarm of the champion `bundle`, raised at `now`.

    The requests are those recorded since the change, run through the graph again: the five
    whose cells add most to the evidence of the winning bet.
    """
    channels = [c.name for c in bundle.manifest.channels]
    column = channels.index(alarm.channel)
    labels = bundle.manifest.channels[column].labels
    edges = bundle.reference.get(f"{alarm.channel}/edges")
    if edges is not None and len(edges) + 1 != len(labels):
        edges = None  # a number's last cell is "missing": its cells keep their names
    since = max(1, alarm.requests - alarm.change_at)
    note, requests = "", []
    try:
        requests = records.latest(bundle.manifest.model, bundle.manifest.version, since, RUN_AGAIN)
        movers = _movers(alarm, bundle, requests, column, labels, edges)
        if not requests:
            note = "the requests of the change were not recorded"
    except HoldfastError as error:
        movers, note = (), f"the requests cannot be read: {error}"
    before, after = np.array(alarm.before), np.array(alarm.after)
    return Explanation(
        version=bundle.manifest.version,
        raised_at=now,
        channel=alarm.channel,
        direction=alarm.direction,
        words=alarm.words,
        requests=alarm.requests,
        change_at=alarm.change_at,
        began_at=requests[0].at if requests and len(requests) == min(since, RUN_AGAIN) else None,
        histogram=bins(labels, edges, before, after),
        movers=movers,
        note=note,
    )


def _movers(
    alarm: Alarm,
    bundle: Bundle,
    requests: list[Recorded],
    column: int,
    labels: tuple[str, ...],
    edges: Any,
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
            whole[k].id, whole[k].row, whole[k].at,
            cell_label(labels, edges, int(cells[k])), round(float(gains[k]), 3),
        )
        for k in most
    )  # fmt: skip


def histogram_text(explanation: Explanation) -> str:
    """The histogram for a terminal: one line per bin, shares in per cent, a bar for `after`."""
    width = max(len(b.label) for b in explanation.histogram)
    most = max(max(b.before, b.after) for b in explanation.histogram)
    lines = [f"{'':{width}}   before    after"]
    for b in explanation.histogram:
        bar = "#" * round(BAR * b.after / most) if most else ""
        lines.append(f"{b.label:{width}}  {b.before:6.1%}   {b.after:6.1%}  {bar}".rstrip())
    return "\n".join(lines)
