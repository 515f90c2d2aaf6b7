"""This is normal now: traffic of a recorded period becomes what a version is compared with.

A person decides; the decision is kept in the registry (`models.versions.registry`), so that it has
the same effect by a call and by a command, with a watcher and without. The watcher carries it out
at its next look, from its own history.
"""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

from models.base.errors import HoldfastError, RegistryError
from models.base.logs import logger
from models.versions.bundle import Bundle
from models.versions.registry import Registry
from models.versions.registry_state import Acceptance, show_time
from monitoring.evidence.accepted import Accepted
from monitoring.evidence.alarm import span
from monitoring.evidence.class_band import BLOCK, LEAST_BLOCKS, ClassBand
from monitoring.evidence.stream import Stream
from monitoring.watching.history import History, Span

CLASS_CHANNEL = "class"
LEAST_REQUESTS = 1000  # with fewer the finest bet, on the outermost .5 %, rests on less than five
CYCLE_SECONDS = 86_400.0
FINEST = 20  # parts of a cycle whose shares must be known, for limits to rest on them
CLASSES_NAMED = 5
VERSIONS_KEPT = 3  # of a model, whose histories stay
FOLDER = "history"
log = logger("watcher")


class AcceptanceError(HoldfastError):
    """A period cannot be accepted; `faults` has a sentence for each reason."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class HistoryError(HoldfastError):
    """The file of a history cannot be read or written."""


class Wish(NamedTuple):
    """The period that a person names; None: from the end of the onset on, and until now."""

    since: float | None = None
    until: float | None = None
    cycle_seconds: float = CYCLE_SECONDS


class Agreement(msgspec.Struct, frozen=True):
    """What a wish comes to: the period, what is recorded of it, and what that is enough for.

    Args:
        since, until: seconds since 1970.
        requests: recorded in it.
        blocks: of 1000 requests and more.
        band: whether the class shares of the period become limits that alarm only beyond them.
        words: what the limits rest on, or why there are none.
    """

    since: float
    until: float
    requests: int
    blocks: int
    band: bool
    words: str


def agree(wish: Wish, stream: Stream, history: History, now: float) -> Agreement:
    """Say what a wish comes to.

    Args:
        wish: of a person.
        stream: of the watched version.
        history: of the same version.
        now: seconds since 1970.

    Raises:
        AcceptanceError: it cannot be; all reasons at once.
    """
    recorded = history.span()
    if recorded is None:
        words = f"no request of version {stream.version} of {stream.model} is recorded yet"
        raise AcceptanceError([f"{words}: its watcher has to look at its traffic first"])
    until = now if wish.until is None else wish.until
    faults = [] if until <= now else [f"until {show_time(until)}: that is still to come"]
    since = wish.since
    if since is None:
        try:
            since = _end_of_onset(stream, history, recorded)
        except AcceptanceError as error:
            raise AcceptanceError([*error.faults, *faults]) from None
    if since >= until:
        faults.append(f"the period from {show_time(since)} ends at {show_time(until)}, before it")
    if not recorded.since <= since <= recorded.until:
        period = f"{show_time(since)} to {show_time(until)}"
        faults.append(f"the period {period} is not recorded: {_words(recorded)}")
    if faults:
        raise AcceptanceError(faults)
    return _settle(since, until, wish.cycle_seconds, stream.bundle, history)[0]


def _end_of_onset(stream: Stream, history: History, recorded: Span) -> float:
    """Return when the last alarm's change had begun for certain. Raises AcceptanceError."""
    alarm, past = stream.evidence.alarm, stream.explained
    if alarm is not None:
        last = alarm.onset.last
    elif past is not None and past.version == stream.version:
        last = past.onset.last
    else:
        words = f"no alarm of drift stands or stood at version {stream.version}: say from when on"
        raise AcceptanceError([f"{words} (`--since`); {_words(recorded)}"])
    times = history.when(max(1, last))
    if times is None:
        words = f"the alarm's change ended by request {last:,}, and that is not recorded"
        raise AcceptanceError([f"{words}: say from when on (`--since`); {_words(recorded)}"])
    return times[1]


def _settle(
    since: float, until: float, cycle_seconds: float, bundle: Bundle, history: History
) -> tuple[Agreement, ClassBand | None]:
    """Return what a period comes to, and its limits of class shares. Raises AcceptanceError."""
    part, recorded = history.span(since, until), history.span()
    assert recorded is not None, "the caller has looked"
    if part is None or part.requests < LEAST_REQUESTS:
        words = (
            f"{0 if part is None else part.requests:,} requests lie in blocks within "
            f"{show_time(since)} to {show_time(until)}"
        )
        need = f"{LEAST_REQUESTS:,} are needed to compare later traffic with them"
        raise AcceptanceError([f"{words}: {need}; {_words(recorded)}"])
    band, words = _learn_band(since, until, cycle_seconds, bundle, history, part)
    if band is None:
        words = f"classes have no limits of their own: {words}"
    return Agreement(since, until, part.requests, part.blocks, band is not None, words), band


def _learn_band(
    since: float, until: float, cycle_seconds: float, bundle: Bundle, history: History, part: Span
) -> tuple[ClassBand | None, str]:
    """Return the limits of the class shares, or None; and what they rest on, or why not."""
    length, finest = part.until - part.since, cycle_seconds / FINEST
    if length < cycle_seconds:
        return None, (
            f"{span(length)} are less than a cycle of {span(cycle_seconds)}; shares that come and "
            "go within a cycle will alarm again"
        )
    names = [str(name) for name in bundle.manifest.classes]
    blocks = history.by_block(since, until, CLASS_CHANNEL, len(names))
    if len(blocks) < LEAST_BLOCKS:
        return None, (
            f"the period has {len(blocks)} blocks of {BLOCK:,} requests, {LEAST_BLOCKS} are needed"
        )
    coarsest = history.coarsest_seconds(since, until)
    if coarsest > finest:
        return None, (
            f"{span(coarsest)} of the period are one gap or one block, and for a cycle of "
            f"{span(cycle_seconds)} none may be longer than {span(finest)}"
        )
    band = ClassBand.learn(blocks)
    if unbounded := band.unbounded():
        named = ", ".join(names[cell] for cell in unbounded[:CLASSES_NAMED])
        more = ", ..." if len(unbounded) > CLASSES_NAMED else ""
        return None, (
            f"of class {named}{more} the period shows blocks without any request and blocks of "
            "hardly any other: no share is beyond that"
        )
    return band, f"classes may come and go as in {len(blocks)} blocks of {span(length)}"


def _words(recorded: Span) -> str:
    period = f"{show_time(recorded.since)} to {show_time(recorded.until)}"
    return f"recorded are {recorded.requests:,} requests, from {period}"


def count_accepted(accepted: Acceptance, bundle: Bundle, history: History) -> Accepted:
    """Return the counts of an accepted period, and the limits of its class shares.

    Raises:
        AcceptanceError: too little is recorded of it.
    """
    if history.span() is None:
        raise AcceptanceError([f"{accepted.words()}: none of it is recorded"])
    since, until = accepted.since, accepted.until
    _, band = _settle(since, until, accepted.cycle_seconds, bundle, history)
    cells = {
        channel.name: len(bundle.reference[f"{channel.name}/alpha"])
        for channel in bundle.manifest.channels
    }
    counts = history.add_up(since, until, cells)
    lacking = [name for name, row in counts.items() if row.sum() < LEAST_REQUESTS]
    if lacking:
        words = f"{accepted.words()}: too few requests are recorded of {', '.join(lacking)}"
        raise AcceptanceError([words])
    return Accepted({name: row.tolist() for name, row in counts.items()}, band)


@dataclass
class Acceptances:
    """Keeps the histories of the watched versions, and carries out what persons have accepted."""

    registry: Registry
    folder: Path  # of the streams' state files
    _histories: dict[str, tuple[int, History]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def history(self, stream: Stream) -> History:
        """The history of the stream's version; any thread may ask, one adds to it."""
        with self._lock:
            version, history = self._histories.get(stream.model, (None, None))
            if history is None or version != stream.version:
                history = History.open(history_path(self.folder, stream.model, stream.version))
                self._histories[stream.model] = stream.version, history
                _remove_old(history.path.parent)
            return history

    def follow(self, stream: Stream) -> bool:
        """Compare with what a person has accepted for this version, or with its own reference.

        Returns:
            Whether that is new.

        Raises:
            AcceptanceError: too little is recorded; what was compared with until now stays.
        """
        try:
            wanted = self.registry.state(stream.model).accepted
        except RegistryError:
            return False  # it is a problem with a name of its own; what stands, stands
        if wanted is not None and wanted.version != stream.version:
            wanted = None
        if wanted == stream.accepted:
            return False
        history = self.history(stream)
        counts = None if wanted is None else count_accepted(wanted, stream.bundle, history)
        before = stream.accepted
        stream.retake(counts, wanted)
        history.end_block()
        if wanted is None:
            assert before is not None
            words = before.words()
            log.info(
                "drift_acceptance_undone", model=stream.model, version=stream.version, was=words
            )
            return True
        assert counts is not None
        log.info(
            "drift_accepted",
            model=stream.model,
            version=stream.version,
            words=wanted.words(),
            requests=sum(counts.counts[CLASS_CHANNEL]),
            class_band=counts.band is not None,
        )
        return True

    def note(self, stream: Stream, now: float, raised: bool) -> None:
        """Keep what the last look has weighed; one that raised an alarm ends its block.

        Raises:
            HistoryError: the file could not be read or written; the history goes on in memory.
        """
        history = self.history(stream)
        requests = max((int(row.sum()) for row in stream.weighed.values()), default=0)
        fault = history.fault
        history.add(stream.weighed, now, stream.evidence.requests - requests)
        if raised:
            history.end_block()
        if fault or history.fault:
            raise HistoryError(fault or history.fault)

    def forget(self, model: str) -> None:
        """The model is gone; its files stay."""
        self._histories.pop(model, None)


def history_path(folder: Path, model: str, version: int) -> Path:
    """Where the history of a version is, beside the state files of the streams."""
    return folder / FOLDER / model / f"{version}.jsonl"


def _remove_old(folder: Path) -> None:
    """Remove the histories of all but the latest versions that were watched."""
    paths = sorted(folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
    for path in paths[:-VERSIONS_KEPT]:
        path.unlink(missing_ok=True)
