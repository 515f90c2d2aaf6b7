"""What versions are worth on rows that nothing was trained on: in a world, and under attack."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.lifecycle.scenarios import HARM_POINTS, render
from models.data import DataSet, Rows
from models.evaluation.adversarial import attack_subject
from models.statistics.arrays import Bools
from models.statistics.intervals import paired_difference
from models.versions.registry import Registry
from models.versions.runner import Runner
from monitoring.making.opening import open_subject

DRAWS = 2000  # of the bootstrap
RENDERINGS = 4  # of a world with noise in it, on the same rows
EPS, STEPS = 0.15, 40


class Cycle(msgspec.Struct, frozen=True):
    """A phase and the versions before and after it, on held-out rows.

    Args:
        shift: of the phase.
        before: accuracy of the first version in the first world.
        at_shift, after: accuracy in the phase's world, of the champion before and after it.
        regained: `(after - at_shift) / (before - at_shift)` with a 95 % interval (bootstrap over
            rows); None where less than three points were lost.
        original_lost: points of the first world that the champion after it is below the first one,
            with a 95 % interval (paired).
        live: accuracy that clients saw from the shift to the promotion, and after it.
        harm_seconds: from the shift to the alarm of harm as `GET /models` showed it.
        promoted_seconds: from that alarm to the promotion.
        trained, needless: challengers of the phase, and those beyond the one that answers harm.
        said: what the loop said of each job.
    """

    shift: str
    before: float
    at_shift: float
    after: float
    regained: tuple[float, float, float] | None
    original_lost: tuple[float, float, float]
    live: tuple[float | None, float | None]
    harm_seconds: float | None
    promoted_seconds: float | None
    trained: int
    needless: int
    said: list[str]


class Robust(msgspec.Struct, frozen=True):
    """Robust accuracy (PGD-40, eps 0.15) of first and last version; the difference, 95 %."""

    first: float
    last: float
    difference: tuple[float, float, float]


@dataclass(frozen=True)
class Judge:
    """Measures versions of a state's model on the rows that were kept apart."""

    state: Path
    source: DataSet
    rows: Rows

    def right(self, version: int, shift: str) -> Bools:
        """Which rows `(RENDERINGS, N)` a version gets right in a world."""
        runner = Runner(self._registry.open(self.source.name, str(version)))
        worlds = [render(self.source, self.rows, shift, 1000 + k) for k in range(RENDERINGS)]
        right: Bools = np.array(
            [runner.run(world.x).probabilities.argmax(axis=1) == world.y for world in worlds]
        )
        return right

    @property
    def _registry(self) -> Registry:
        return Registry(self.state / "registry")

    def regained(
        self, first: int, old: int, new: int, shift: str
    ) -> tuple[float, float, float] | None:
        """The share of the lost accuracy that came back, with a 95 % interval."""
        rows = [self.right(first, "clean"), self.right(old, shift), self.right(new, shift)]
        clean, fallen, mended = (r.mean(axis=0) for r in rows)  # of each row
        if clean.mean() - fallen.mean() < HARM_POINTS:
            return None
        drawn = np.random.default_rng(7).integers(len(clean), size=(DRAWS, len(clean)))
        means = [each[drawn].mean(axis=1) for each in (clean, fallen, mended)]
        lost = np.maximum(means[0] - means[1], 1e-3)
        low, high = np.quantile((means[2] - means[1]) / lost, [0.025, 0.975])
        share = (mended.mean() - fallen.mean()) / (clean.mean() - fallen.mean())
        return float(share), float(low), float(high)

    def lost(self, first: int, now: int) -> tuple[float, float, float]:
        """Points lost in the first world, with a 95 % interval."""
        return difference(self.right(now, "clean")[0], self.right(first, "clean")[0])

    def robust(self, first: int, last: int) -> Robust:
        """Both under attack, each through its own weights."""
        right = []
        for version in (first, last):
            subject = open_subject(self._registry.open(self.source.name, str(version)))
            x = attack_subject(subject, self.rows, EPS, attack="pgd", budget=STEPS)
            right.append(subject.runner.run(x).probabilities.argmax(axis=1) == self.rows.y)
        means = [float(r.mean()) for r in right]
        return Robust(means[0], means[1], difference(*right))


def difference(before: Bools, after: Bools) -> tuple[float, float, float]:
    """`after - before` on the same rows, with a 95 % interval."""
    value, low = paired_difference(before, after, 0.975)
    return value, low, -paired_difference(after, before, 0.975)[1]
