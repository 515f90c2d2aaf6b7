"""The stream of one champion: its evidence, what has been counted, and their file.

A new champion starts afresh against its own reference. State survives a restart of the watcher.
"""

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from models.bundle import Bundle
from models.files import write_atomic
from monitoring.alarm import Alarm, promise
from monitoring.bets import ChannelReference
from monitoring.counters import Counts, increments
from monitoring.evidence import SnapshotError, StreamEvidence
from monitoring.explanation import Explanation
from monitoring.logs import logger
from monitoring.urn import LAG, Eta

RATE_LOOKS = 3600  # looks that the rate of requests is measured over
log = logger("watcher")


def references(bundle: Bundle) -> list[ChannelReference]:
    """The reference of every channel, from the bundle."""
    return [
        ChannelReference(
            c.name, c.kind, bundle.reference[f"{c.name}/alpha"].astype(np.float64), c.labels
        )
        for c in bundle.manifest.channels
    ]


@dataclass
class Stream:
    """Evidence over the traffic that `bundle` answers as champion.

    Totals seen and evidence stand in one file, so that a crash between two looks neither loses
    nor doubles a request.
    """

    bundle: Bundle
    evidence: StreamEvidence
    path: Path
    alarm_since: float | None = None
    totals: dict[str, dict[str, float]] = field(default_factory=dict)  # service -> cell -> count
    explained: Explanation | None = None  # the last alarm, over or of an earlier version as well
    _looks: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=RATE_LOOKS))

    @classmethod
    def open(
        cls, bundle: Bundle, folder: Path, *, c: float, eta: Eta = "auto", lag: int = LAG
    ) -> "Stream":
        """Go on from the state file if it belongs to this version, else start afresh.

        A file of an older format is logged as unusable: its evidence starts afresh, too. The last
        alarm stays known, also where it was an earlier version's.
        """
        path = folder / f"{bundle.manifest.model}.json"
        channels, explained = references(bundle), None
        try:
            state: dict[str, Any] = json.loads(path.read_text())
            explained = msgspec.convert(state["explained"], Explanation | None)
            if state["version"] == bundle.manifest.version:
                evidence = StreamEvidence.restore(
                    channels, state["evidence"], c=c, eta=eta, lag=lag
                )
                since, totals = state["alarm_since"], state["totals"]
                return cls(bundle, evidence, path, since, totals, explained)
        except FileNotFoundError:
            pass
        except (SnapshotError, ValueError, KeyError, TypeError) as error:
            log.warning("evidence_state_unusable", path=str(path), error=str(error))
        fresh = StreamEvidence(channels, c=c, eta=eta, lag=lag)
        return cls(bundle, fresh, path, explained=explained)

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.bundle.manifest.model

    @property
    def version(self) -> int:
        """The champion's version."""
        return self.bundle.manifest.version

    def add(self, looks: Mapping[str, Counts], now: float) -> Alarm | None:
        """Weigh what the services have counted since the last look.

        Args:
            looks: totals by service; a service that could not be reached is absent.
            now: seconds since 1970.

        Returns:
            The alarm if it is raised by these requests. A channel or cell that the reference
            does not know is left out and logged: it must not stop the watch.
        """
        table = {
            c.name: np.zeros(len(self.bundle.reference[f"{c.name}/alpha"]), dtype=np.int64)
            for c in self.bundle.manifest.channels
        }
        for service, counts in looks.items():
            seen = {
                f"{channel}/{cell}": value
                for (model, version, channel, cell), value in counts.items()
                if (model, version) == (self.model, str(self.version))
            }
            # What a service had counted before its first look is not of this stream: a version
            # that serves again after a rollback would replay its whole past.
            for key, count in increments(self.totals.get(service, seen), seen).items():
                channel, cell = key.rsplit("/", 1)
                if channel in table and int(cell) < len(table[channel]):
                    table[channel][int(cell)] += int(count)
                else:
                    log.warning("unknown_cell", model=self.model, channel=channel, cell=cell)
            new = service not in self.totals
            self.totals[service] = seen
            if new:
                self.save()
        return self._weigh({name: row for name, row in table.items() if row.any()}, now)

    def _weigh(self, table: dict[str, npt.NDArray[np.int64]], now: float) -> Alarm | None:
        before = self.evidence.alarm
        if table:
            self.evidence.update(table)
        self._looks.append((now, self.evidence.requests))
        alarm = self.evidence.alarm
        raised = alarm is not None and before is None
        if raised:
            self.alarm_since = now
        elif alarm is None:
            self.alarm_since = None
        if table:  # once: a crash between two writes would leave an alarm without its time
            self.save()
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
        """What the threshold promises, in words."""
        return promise(self.evidence.c, self.per_second)

    def save(self) -> None:
        """Write the state, whole or not at all."""
        state = {
            "version": self.version,
            "alarm_since": self.alarm_since,
            "totals": self.totals,
            "explained": msgspec.to_builtins(self.explained),
            "evidence": self.evidence.snapshot(),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, json.dumps(state).encode())
