"""The adaptive white-box attack: fools the net and keeps its detectors quiet.

A detector that was never attacked itself says little (Carlini & Wagner 2017, "Adversarial Examples
Are Not Easily Detected"; Tramer et al. 2020, "On Adaptive Attacks to Adversarial Example
Defenses"). Every weight between the two aims is an attack of its own; the best per row counts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.attacks.base import margin
from models.attacks.threat import Threat

# Logits (N, C), and by how much each of D detectors is above its threshold (N, D).
AnswersOf = Callable[[Tensor], tuple[Tensor, Tensor]]
WEIGHTS = (0.0, 0.02, 0.1, 0.5, 1.0, 5.0, None)
ENOUGH = 1.0  # a margin beyond this earns nothing, so that the detectors get their turn
QUIET = 0.5  # how far below its threshold a detector is pushed
HAIR = 0.02  # of both when a row counts as done: what is served may round differently
MOMENTUM = 0.75
LAST = 0.02  # the last step as a share of the first


@dataclass(frozen=True)
class AdaptiveResult:
    """What one weight found, `(N, ...)` each.

    Args:
        x_adv: the best point: wrong and unseen, else wrong with the least excess, else the widest.
        wrong: whether the answer is wrong there.
        unseen: whether it is, and no detector is above its threshold.
    """

    x_adv: Tensor
    wrong: Tensor
    unseen: Tensor


@torch.no_grad()
def adaptive(
    answers_of: AnswersOf,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    weight: float | None,
    steps: int = 100,
    start: Tensor | None = None,
    restarts: int = 1,
    generator: torch.Generator | None = None,
) -> AdaptiveResult:
    """Ascent on min(margin, 1) - weight * sum_d relu(excess_d + .5), with falling steps.

    Args:
        answers_of: x `(N, *shape)` in [0, 1] to the logits `(N, C)` and the excess `(N, D)` of D
            detectors over their thresholds: above 0 the row is flagged. Both with a gradient.
        x, y: inputs in [0, 1] and labels `(N,)` int64.
        threat: the set to stay in.
        weight: of the detectors. None takes turns instead: a row that is not wrong yet climbs the
            margin alone, one that is wrong goes down the excess alone (Bryniarski et al. 2021,
            "Evading adversarial example detection defenses with orthogonal projected gradient
            descent", section 3: selective).
        steps: per restart; a row that is wrong and unseen leaves the batch.
        start: where the first restart begins: an example of an attack that knows no detector, say.
        restarts: the others begin at random.
        generator: makes it reproducible.

    Raises:
        ValueError: the answers have no gradient.
    """
    best = _Best.begin(x)
    for restart in range(restarts):
        begin = threat.random(x, generator) if start is None or restart else start
        _climb(answers_of, x, y, threat, weight, steps, threat.project(begin, x), best)
    return AdaptiveResult(best.x_adv, best.excess < torch.inf, best.excess <= 0)


@dataclass
class _Best:
    """Per row: the best point; its excess, or inf while nothing wrong was found; its margin."""

    x_adv: Tensor
    excess: Tensor
    width: Tensor

    @classmethod
    def begin(cls, x: Tensor) -> "_Best":
        endless = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
        return cls(x.clone(), endless, -endless)

    def keep(self, rows: Tensor, point: Tensor, width: Tensor, excess: Tensor) -> None:
        """Take what is better; a row counts as unseen a hair below the thresholds."""
        above = (excess.amax(dim=1) + HAIR).clamp_min(0)
        above = torch.where(width > HAIR, above, torch.inf)
        wider = above.isinf() & self.excess[rows].isinf() & (width > self.width[rows])
        better = (above < self.excess[rows]) | wider
        at = rows[better]
        self.x_adv[at], self.excess[at] = point[better], above[better]
        self.width[at] = width[better]


def _climb(
    answers_of: AnswersOf,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    weight: float | None,
    steps: int,
    begin: Tensor,
    best: _Best,
) -> None:
    """One restart of the rows that are not done yet; `best` is filled in."""
    rows = (best.excess > 0).nonzero()[:, 0]
    now, before = begin[rows], begin[rows]
    for step in range(steps + 1):
        if len(rows) == 0:
            return
        width, excess, gradient = _slopes(answers_of, now, y[rows], weight)
        best.keep(rows, now, width, excess)
        left = best.excess[rows] > 0
        rows, now, before, gradient = rows[left], now[left], before[left], gradient[left]
        size = threat.eps / 2 * LAST ** (step / max(steps, 1))
        ahead = threat.project(threat.step(now, gradient, size), x[rows])
        drift = MOMENTUM * (ahead - now) + (1 - MOMENTUM) * (now - before)
        before, now = now, threat.project(now + drift, x[rows])


def _slopes(
    answers_of: AnswersOf, x: Tensor, y: Tensor, weight: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Margin `(n,)`, excess `(n, D)`, and the direction to climb."""
    with torch.enable_grad():
        given = x.detach().requires_grad_(True)
        logits, excess = answers_of(given)
        if not (logits.requires_grad and excess.requires_grad):
            raise ValueError("the adaptive attack needs the gradient of the answer and the scores")
        width = margin(logits, y)
        loud = (excess + QUIET).clamp_min(0).sum(dim=1)
        if weight is None:
            objective = torch.where(width <= HAIR, width, -loud)
        else:
            objective = width.clamp_max(ENOUGH) - weight * loud
        (gradient,) = torch.autograd.grad(objective.sum(), given)
    return width.detach(), excess.detach(), gradient.nan_to_num(0.0, 0.0, 0.0)
