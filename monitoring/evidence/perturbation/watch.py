"""The stream of suspicion and likelihood of one version: a quick answer that informs, a slow one.

quick: is the traffic corrupted or attacked? An urn of ranks of the suspicion, as for drift.
slow: is it attacked? `AttackedEvidence`, silent under every benign kind; only it starts anything.
Both are apart from the channels of drift, and from their alarm.
"""

from collections.abc import Mapping
from typing import Literal, get_args

import msgspec
import numpy as np
import numpy.typing as npt

from models.statistics.arrays import FloatArray
from models.versions.bundle import Bundle
from monitoring.counting.likelihood_cells import CHANNEL, LIKELIHOOD_EDGES
from monitoring.evidence.bets import ChannelReference, IntArray
from monitoring.evidence.channels import StreamEvidence, StreamState
from monitoring.evidence.perturbation.attacked import AttackedEvidence, AttackedState

Speed = Literal["quick", "slow"]
SPEEDS: tuple[Speed, ...] = get_args(Speed)
KINDS, ATTACKS, ALPHA = (f"{CHANNEL}/{name}" for name in ("kinds", "attacks", "alpha"))
COLUMNS = len(LIKELIHOOD_EDGES) + 1


class PerturbationState(msgspec.Struct, frozen=True):
    """The state of a `PerturbationWatch`, and when its slow alarm was last raised."""

    quick: StreamState
    slow: AttackedState
    alarm_since: float | None = None


class PerturbationWatch:
    """Both streams of one version, fed with the counts of the cells.

    Args:
        reference: arrays of the bundle: `perturbation/alpha` `(R,)` weights of the suspicion's
            cells, `perturbation/kinds` `(K, R L)`, `perturbation/attacks` `(J, R L)`.
        c: requests per false alarm of each.
    """

    def __init__(self, reference: Mapping[str, FloatArray], *, c: float) -> None:
        alpha = reference[ALPHA].astype(np.float64)
        labels = tuple(f"{cell:02d}" for cell in range(len(alpha)))
        self._reference = ChannelReference("suspicion", "score", alpha, labels)
        self.quick = StreamEvidence([self._reference], c=c, eta="auto")
        kinds, attacks = (reference[name].astype(np.float64) for name in (KINDS, ATTACKS))
        self.slow = AttackedEvidence(kinds, attacks, c=c)
        self.cells = kinds.shape[1]
        self.alarm_since: float | None = None

    def update(self, counts: IntArray, now: float) -> bool:
        """Weigh the counts `(R L,)` of a look; whether they raised or renewed the slow alarm."""
        if counts.any():
            rows = counts.reshape(-1, COLUMNS).sum(axis=1)
            # Rows in a cell that no reference row can be in weigh in the next one: ties at an edge.
            self.quick.update({"suspicion": _merge(rows, self._reference.alpha)})
        raised = self.slow.update(counts)
        if not self.slow.alarm:
            self.alarm_since = None
        elif self.alarm_since is None:  # one that is renewed is the same alarm
            self.alarm_since = now
        return raised

    def log10_evidence(self) -> dict[Speed, float]:
        """log10 max(R, 1) of both, finite and at least 0."""
        return {"quick": self.quick.log10_evidence()["suspicion"], "slow": self.slow.log10_r}

    @property
    def words(self) -> str:
        """The slow alarm, for people."""
        return (
            f"requests look attacked, which no mix of clean and benignly corrupted ones explains "
            f"(evidence 10^{self.slow.log10_r:.1f} against 10^{self.slow.threshold_log10:.1f})"
        )

    def snapshot(self) -> PerturbationState:
        """Return the state as a record."""
        return PerturbationState(self.quick.snapshot(), self.slow.snapshot(), self.alarm_since)

    def load(self, state: PerturbationState) -> None:
        """Take over a snapshot. Raises ValueError where it is of another version."""
        self.slow.load(state.slow)
        self.quick = StreamEvidence.restore(
            [self._reference], state.quick, c=self.quick.c, eta="auto"
        )
        self.alarm_since = state.alarm_since


def open_watch(bundle: Bundle, *, c: float) -> PerturbationWatch | None:
    """The watch of a version; None where it has no such cells (of schema 2)."""
    if not bundle.manifest.calibration.suspicion_edges or KINDS not in bundle.reference:
        return None
    return PerturbationWatch(bundle.reference, c=c)


def _merge(counts: IntArray, alpha: npt.NDArray[np.float64]) -> IntArray:
    """Counts with those of impossible cells (weight 0) moved to the next possible one."""
    merged = counts.copy()
    for cell in np.flatnonzero((alpha == 0) & (counts > 0)).tolist():
        after = np.flatnonzero(alpha[cell:] > 0)
        target = cell + int(after[0]) if len(after) else int(np.flatnonzero(alpha > 0)[-1])
        merged[target] += merged[cell]
        merged[cell] = 0
    return merged
