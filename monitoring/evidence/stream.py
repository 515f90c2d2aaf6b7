"""The stream of one champion: its evidence, the counters seen so far, and their file.

A new champion starts afresh with its own reference, or with traffic that a person has accepted for
it. The state survives a restart of the watcher.
"""

from collections import deque
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from models.base.files import write_atomic
from models.base.logs import logger
from models.versions.bundle import Bundle
from models.versions.registry_state import Acceptance
from monitoring.counting.counters import Counts, increments
from monitoring.counting.likelihood_cells import CHANNEL
from monitoring.evidence.accepted import Accepted
from monitoring.evidence.alarm import Alarm, promise
from monitoring.evidence.bets import ChannelReference, IntArray
from monitoring.evidence.channel_evidence import Eta
from monitoring.evidence.channels import StreamEvidence, decode_state
from monitoring.evidence.explanation import Explanation
from monitoring.evidence.labels.watch import LabelState
from monitoring.evidence.perturbation.watch import PerturbationState, PerturbationWatch, open_watch

RATE_LOOKS = 3600  # looks that the rate of requests is measured over
GAP_SECONDS = 3600.0  # between two looks, beyond which the rate starts anew
MOST_LOGGED = 1000  # different refusals
MOST_ROWS = 1_000_000  # of a channel in one look
log = logger("watcher")


def references(bundle: Bundle) -> list[ChannelReference]:
    """Read the reference of every channel from a bundle."""
    return [
        ChannelReference(
            c.name,
            c.kind,
            bundle.reference[f"{c.name}/alpha"].astype(np.float64),
            c.labels,
            groups=tuple(group.cells for group in c.groups),
        )
        for c in bundle.manifest.channels
    ]


class _State(msgspec.Struct, frozen=True):
    """The file; its evidence stays JSON until it is known to be of the version that is watched."""

    version: int
    alarm_since: float | None
    harmless: str
    accepted: Acceptance | None
    totals: dict[str, dict[str, float]]
    explained: Explanation | None
    labels: LabelState
    doubt: str
    repeats: float | None
    evidence: msgspec.Raw
    perturbation: PerturbationState | None = None


@dataclass
class Stream:
    """Evidence over the traffic that `bundle` answers as champion.

    Totals seen and evidence stand in one file, so that a crash between two looks neither loses
    nor doubles a request. Where it cannot be written, the evidence goes on in memory, and each look
    tries again.
    """

    bundle: Bundle
    evidence: StreamEvidence
    path: Path
    alarm_since: float | None = None
    totals: dict[str, dict[str, float]] = field(default_factory=dict)  # service -> cell -> count
    explained: Explanation | None = None  # the last alarm, over or of an earlier version as well
    labels: LabelState = field(default_factory=LabelState)  # what the labels of this version say
    doubt: str = ""  # why an alarm of harm starts nothing, as the last look said
    harmless: str = ""  # why the alarm that is on does no harm, once labels have shown that
    accepted: Acceptance | None = None  # the traffic that the evidence compares with, where not
    # the reference of the version
    repeats: float | None = None  # share of rows that repeat a client's within a minute, of late;
    # None: not known
    perturbation: PerturbationWatch | None = None  # None: the version has no such cells
    attacked: bool = False  # whether the last look raised or renewed the alarm of attacks
    weighed: Mapping[str, IntArray] = field(default_factory=dict)  # by the last look
    refused: set[str] = field(default_factory=set)  # what the last look could not weigh, in words
    fault: str = ""  # of the file, in words; empty once it is as it should be
    noticed: str = ""  # what was wrong with the file at the last look, and is mended
    _logged: set[str] = field(default_factory=set)  # those of `refused` that are in the log
    _written: tuple[int, ...] | None = None  # the file as this stream left it
    _looks: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=RATE_LOOKS))

    @classmethod
    def open(cls, bundle: Bundle, folder: Path, *, c: float, eta: Eta = "auto") -> "Stream":
        """Go on from the state file if it belongs to this version, else start afresh.

        A file that cannot be read is set aside (`.damaged`): its evidence starts afresh, and
        `fault` says so. The last alarm stays known, also where it was an earlier version's.
        """
        path = folder / f"{bundle.manifest.model}.json"
        explained, fault = None, ""
        try:
            state = _read(path)
            explained = state.explained
            if state.version == bundle.manifest.version:
                return cls._go_on(bundle, path, state, c=c, eta=eta)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, RecursionError) as error:  # also SnapshotError, DecodeError
            fault = f"{path.name} cannot be used, the evidence starts afresh: {error}"
            log.warning("evidence_state_unusable", path=str(path), error=str(error))
            with suppress(OSError):  # else the next save says what is in its way
                path.replace(path.with_name(f"{path.name}.damaged"))
        fresh = StreamEvidence(references(bundle), c=c, eta=eta)
        return cls(
            bundle, fresh, path, explained=explained, fault=fault,
            perturbation=open_watch(bundle, c=c),
        )  # fmt: skip

    @classmethod
    def read(
        cls, folder: Path, model: str, open_version: Callable[[int], Bundle], *, c: float
    ) -> "Stream":
        """Read the stream as a watcher has left it, and change nothing.

        Args:
            folder: of the state files.
            model: its name.
            open_version: opens the version that the state names.
            c: requests per false alarm.

        Raises:
            FileNotFoundError: no watcher has looked at the model yet.
            ValueError: the file is damaged.
        """
        path = folder / f"{model}.json"
        state = _read(path)
        return cls._go_on(open_version(state.version), path, state, c=c, eta="auto")

    @classmethod
    def _go_on(cls, bundle: Bundle, path: Path, state: _State, *, c: float, eta: Eta) -> "Stream":
        evidence = StreamEvidence.restore(
            references(bundle), decode_state(bytes(state.evidence)), c=c, eta=eta
        )
        watch = open_watch(bundle, c=c)
        if watch is not None and state.perturbation is not None:
            watch.load(state.perturbation)
        return cls(
            bundle, evidence, path, state.alarm_since, state.totals, state.explained,
            labels=state.labels, doubt=state.doubt, harmless=state.harmless,
            accepted=state.accepted, repeats=state.repeats, perturbation=watch,
            _written=_signature(path),
        )  # fmt: skip

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.bundle.manifest.model

    @property
    def version(self) -> int:
        """The champion's version."""
        return self.bundle.manifest.version

    def add(
        self,
        looks: Mapping[str, Counts],
        now: float,
        distrusted: Container[str] = (),
        restarted: Container[str] = (),
    ) -> Alarm | None:
        """Weigh what the services have counted since the last look.

        Args:
            looks: totals by service; a service that could not be reached is absent.
            now: seconds since 1970.
            distrusted: services whose totals are noted, and not weighed.
            restarted: services that are known to have begun at zero since the last look.

        Returns:
            The alarm if it is raised by these requests. A channel or cell that the reference
            does not know is left out and named in `refused`: it must not stop the watch.
        """
        self.refused, self.weighed = set(), {}
        table = {
            c.name: np.zeros(len(self.bundle.reference[f"{c.name}/alpha"]), dtype=np.int64)
            for c in self.bundle.manifest.channels
        }
        if self.perturbation is not None:
            table[CHANNEL] = np.zeros(self.perturbation.cells, dtype=np.int64)
        new = False
        for service, counts in looks.items():
            totals = {
                f"{channel}/{cell}": value
                for (model, version, channel, cell), value in counts.items()
                if (model, version) == (self.model, str(self.version))
            }
            # A restart is kept, too: the next watcher would compare with the totals before it.
            new |= service not in self.totals or service in restarted
            # What a service had counted before its first look is not of this stream: a version
            # that serves again after a rollback would replay its whole past.
            before = self.totals.get(service, totals)
            if service in restarted and service in self.totals:
                before = {}
            whole, self.totals[service] = _whole(before, totals)
            if service not in distrusted:
                self._put(table, increments(before, whole))
        self._bound(table)
        if self.perturbation is not None:
            self.attacked = self.perturbation.update(table.pop(CHANNEL), now)
        return self._weigh({name: row for name, row in table.items() if row.any()}, now, new)

    def _put(self, table: dict[str, IntArray], gains: Mapping[str, float]) -> None:
        for key, count in gains.items():
            channel, number = key.rsplit("/", 1)
            row, cell = table.get(channel), int(number)
            if row is None or not 0 <= cell < len(row):
                self._refuse("unknown_cell", f"cell {key} is not in the reference")
            elif channel != CHANNEL and not self.bundle.reference[f"{channel}/alpha"][cell]:
                self._refuse("impossible_cell", f"cell {key} cannot have any requests")
            else:
                row[cell] += int(count)

    def _refuse(self, event: str, why: str) -> None:
        self.refused.add(why)
        if why not in self._logged and len(self._logged) < MOST_LOGGED:
            self._logged.add(why)
            log.warning(event, model=self.model, version=self.version, why=why)

    def _bound(self, table: dict[str, IntArray]) -> None:
        """Drop a growth that cannot be the traffic of one look: weighing it would take hours."""
        for name, row in table.items():
            if row.sum() > MOST_ROWS:
                self._refuse("jump", f"channel {name} grew by {row.sum():,} rows in one look")
                row[:] = 0

    def _weigh(self, table: dict[str, IntArray], now: float, new: bool) -> Alarm | None:
        before = self.evidence.alarm
        if table:
            self.evidence.update(table)
            self.weighed = table
        if self._looks and not 0 <= now - self._looks[-1][0] <= GAP_SECONDS:
            self._looks.clear()  # the clock was set, or nobody looked: what follows is a new rate
        self._looks.append((now, self.evidence.requests))
        alarm = self.evidence.alarm
        raised = alarm is not None and before is None
        if raised:
            self.alarm_since = now
        elif alarm is None:
            self.alarm_since, self.harmless = None, ""
        elif self.alarm_since is not None:
            self.alarm_since = min(self.alarm_since, now)  # a clock that ran ahead has noted it
        disturbed = self._disturbed()
        words = f"{self.path.name} was changed or removed by somebody else; it was written anew"
        self.noticed = words if disturbed else ""
        if table or new or self.fault or disturbed:
            self.save()  # once: a crash between two writes would leave an alarm without its time
        return alarm if raised else None

    @property
    def per_second(self) -> float | None:
        """Requests a second over the latest looks; None where there were too few."""
        if len(self._looks) < 2:
            return None
        (began, first), (ended, last) = self._looks[0], self._looks[-1]
        return (last - first) / (ended - began) if ended > began else None

    @property
    def promise(self) -> str:
        """The promise of the threshold, in words."""
        return promise(self.evidence.c, self.per_second)

    def retake(self, counts: Accepted | None, accepted: Acceptance | None) -> None:
        """Compare from now on with accepted traffic, or with the version's reference again (None).

        An alarm that is on is over: what it was about is normal now, or no longer what it was.
        """
        self.evidence.retake(counts)
        self.accepted, self.alarm_since, self.harmless = accepted, None, ""
        self.save()

    def save(self) -> None:
        """Write the state, whole or not at all; where that fails, `fault` says why."""
        evidence = msgspec.Raw(msgspec.json.encode(self.evidence.snapshot()))
        state = _State(
            self.version, self.alarm_since, self.harmless, self.accepted, self.totals,
            self.explained, self.labels, self.doubt, self.repeats, evidence,
            None if self.perturbation is None else self.perturbation.snapshot(),
        )  # fmt: skip
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.path, msgspec.json.encode(state))
            self._written = _signature(self.path)
            self.fault = ""
        except OSError as error:
            self.fault = f"{self.path.name} cannot be written: {error.strerror or error}"

    def _disturbed(self) -> bool:
        """Whether somebody else has changed or removed the file; then it is written again."""
        return self._written is not None and _signature(self.path) != self._written


def _read(path: Path) -> _State:
    """Read a state file. Raises FileNotFoundError; ValueError where it is damaged."""
    return msgspec.json.decode(path.read_bytes(), type=_State)


def _signature(path: Path) -> tuple[int, ...]:
    """Return a value that changes when the file is written; empty where there is no file."""
    try:
        status = path.lstat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _whole(
    before: Mapping[str, float], counts: dict[str, float]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the counts that can be weighed, and the totals from now on.

    If a page lacks cells that it had before, and there was no restart, it is incomplete, and its
    channels wait for the next page. Half of a channel would look like drift, and cells that come
    back would look new.
    """
    if any(count < before.get(key, 0.0) for key, count in counts.items()):
        return counts, counts
    torn = {key.rsplit("/", 1)[0] for key in before.keys() - counts.keys()}
    whole = {key: count for key, count in counts.items() if key.rsplit("/", 1)[0] not in torn}
    return whole, {**before, **whole}
