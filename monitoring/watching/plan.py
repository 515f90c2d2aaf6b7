"""What a watcher watches, and how eagerly it acts: plain values of the composition root."""

from collections.abc import Mapping

import msgspec

from monitoring.loop.deciding.waits import Needs
from monitoring.loop.triggers import Policy
from monitoring.records.store import Kept
from monitoring.records.usable import Quota


class WatchPlan(msgspec.Struct, frozen=True):
    """What the watcher watches and how eagerly it acts."""

    services: tuple[str, ...]
    state: str
    interval_seconds: float
    c: float
    policy: Policy
    schedule: str = ""
    timezone: str = ""
    records_kept: Kept = Kept()
    serves: Mapping[str, int | None] = msgspec.field(default_factory=dict)  # and pinned to what
    min_labels: int = 300  # that a retraining needs
    labeller_share: float = 0.5
    prometheus: str = ""  # in whose counters all services are, instead of `services`

    @property
    def needs(self) -> Needs:
        """What bounds a retraining."""
        least = int(self.labeller_share * self.min_labels)
        return Needs(self.policy, self.min_labels, Quota(self.labeller_share, least))
