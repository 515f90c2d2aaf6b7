"""Where the outputs of the perturbation head flag, and the kinds of rows that this rests on."""

from dataclasses import dataclass

import numpy as np

from models.statistics.arrays import FloatArray, IntArray
from models.versions.schema import KindShare
from monitoring.scoring.drift_score import HAIR
from monitoring.scoring.perturbation import head as pb
from monitoring.scoring.perturbation.cells import LikelihoodCells, ScoredRows

BENIGN_ALPHA = 0.03  # of all benign kinds together, so that fresh rows stay below 5 %
NAMED_ABOVE = 0.05  # share flagged of a benign kind from which the manifest names it
STRENGTHS = np.array([0, 0, 0, 1, 2, 2])  # of severities 0 (not known) to 5


@dataclass(frozen=True)
class BenignKinds:
    """What the held-out corrupted rows are.

    Args:
        kind: `(n,)`, which kind each is of.
        severity: `(n,)`, how strong, 1 to 5; 0 where that is not known.
        names: by kind; empty: they have none.
    """

    kind: IntArray
    severity: IntArray
    names: tuple[str, ...] = ()

    def name(self, kind: int) -> str:
        """What a kind is called."""
        return self.names[kind] if kind < len(self.names) else f"kind {kind}"

    def parted(self, flagged: FloatArray) -> IntArray:
        """`(n,)`: kinds, those parted by strength of which too many rows are flagged `(n,)`.

        What looks like an attack does so at some strengths only: the stream must know them apart.
        """
        often = [k for k in np.unique(self.kind) if flagged[self.kind == k].mean() > NAMED_ABOVE]
        strength = np.where(np.isin(self.kind, often), STRENGTHS[self.severity], 0)
        parts: IntArray = (STRENGTHS.max() + 1) * self.kind + strength
        return parts


@dataclass(frozen=True)
class Limits:
    """Thresholds of the three outputs, and the cells of the stream."""

    perturbation: float
    corruption: float
    suspicion: float
    benign_kinds: int
    kinds_above: tuple[KindShare, ...]
    cells: LikelihoodCells

    @classmethod
    def set_by(
        cls,
        head: pb.PerturbationHead,
        rows: tuple[FloatArray, IntArray],
        stream: FloatArray,
        benign: BenignKinds,
        alpha: float,
    ) -> "Limits":
        """Set them by held-out rows.

        Args:
            head: as it is served.
            rows: evidence `(n, P)` and kind `(n,)` of clean, corrupted and attacked rows.
            stream: evidence of the rows that the stream is compared with.
            benign: kinds of the corrupted rows.
            alpha: share of clean rows that each output flags at most.
        """
        evidence, kind = rows
        likelihood, corruption = head.likelihoods(evidence)
        suspicion = head.suspicion(evidence)
        clean, corrupted, attacked = (kind == k for k in (pb.CLEAN, pb.CORRUPTED, pb.ADVERSARIAL))
        pooled = pb.pooled_threshold(likelihood[corrupted], benign.kind, BENIGN_ALPHA)
        limit = min(1.0, max(pb.threshold(likelihood[clean], alpha), pooled) + HAIR)
        own = [
            min(1.0, pb.threshold(each[clean], alpha) + HAIR) for each in (corruption, suspicion)
        ]
        scored = [
            ScoredRows(suspicion[rows], likelihood[rows]) for rows in (clean, corrupted, attacked)
        ]
        flagged = likelihood[corrupted] > limit
        cells = LikelihoodCells.fit(
            ScoredRows(head.suspicion(stream), head.likelihoods(stream)[0]),
            scored[0], scored[1], benign.parted(flagged), scored[2],
        )  # fmt: skip
        kinds, above = _find_above(flagged, benign)
        return cls(limit, own[0], own[1], kinds, above, cells)


def _find_above(flagged: FloatArray, benign: BenignKinds) -> tuple[int, tuple[KindShare, ...]]:
    """How many kinds there are, and those of which too many rows are flagged, worst first."""
    kinds = np.unique(benign.kind).tolist()
    shares = [KindShare(benign.name(k), round(float(flagged[benign.kind == k].mean()), 4))
              for k in kinds]  # fmt: skip
    above = sorted((each for each in shares if each.share > NAMED_ABOVE), key=lambda s: -s.share)
    return len(kinds), tuple(above)
