"""Attacked rows that the perturbation head learns from: several families, small and large.

A family is a direction and a geometry. The sizes reach from a sixth of the threat's eps to twice
it; L2 changes are as long as an L-inf attack of the same eps is in practice.
"""

import math
from collections.abc import Callable, Collection

import torch
from torch import Tensor

from models import attacks
from models.attacks import LogitsOf
from models.attacks.base import dlr, margin
from models.threat import L2, Threat

SIZES = (1 / 3, 2 / 3, 1.0, 4 / 3, 2.0)  # in units of the threat's eps
SMALLER = (1 / 6, *SIZES)  # of a direction that is only stretched
FAMILIES = ("fgsm", "pgd", "dlr", "l2", "square", "deepfool")
STEPS, SQUARE_QUERIES, NEAREST_STEPS, CANDIDATES = 8, 60, 8, 4
SHARES = {"fgsm": 0.6, "square": 0.2, "deepfool": 0.5}  # of the rows, per size; others:
SHARE = 0.35
L2_SHARE = 0.7  # length of an L-inf attack that is clipped to [0, 1], in units of eps sqrt(D)
PASSES = 80  # forward and backward passes that all families take per row
At = Callable[[float], Threat]  # the threat at a share of its eps


def attacked_unit(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    at: At,
    *,
    generator: torch.Generator,
    part: float = 1.0,
    without: Collection[str] = (),
) -> Tensor:
    """Rows in the unit range under every family, each on a part of the rows per size.

    Args:
        logits_of: `(N, *shape)` in [0, 1] to logits `(N, C)`, with a gradient.
        x, y: rows and labels `(N,)`.
        at: the threat at a share of its eps.
        generator: makes it reproducible.
        part: of the rows that each attack takes by default, above 0: less where a net is dear.
        without: families to leave out, so that a head can be judged on them.

    Returns:
        `(M, *shape)`; a row that an attack left as it is (it was wrong before) is left out.
    """
    found = [
        _changed(x[rows], attack(x[rows], y[rows], size), at(size).eps)
        for name, attack in _families(logits_of, at, generator).items()
        if name not in without
        for size in SIZES
        for rows in (_some(len(x), part * SHARES.get(name, SHARE), generator),)
    ]
    if x.dim() == 4 and "deepfool" not in without:
        rows = _some(len(x), part * SHARES["deepfool"], generator)
        found += _stretched(logits_of, x[rows], y[rows], _length(at(1.0), x))
    return torch.cat(found)


def _families(
    logits_of: LogitsOf, at: At, generator: torch.Generator
) -> dict[str, Callable[[Tensor, Tensor, float], Tensor]]:
    def climb(loss: attacks.base.Loss, threat: Threat, x: Tensor, y: Tensor) -> Tensor:
        return attacks.pgd(logits_of, x, y, threat, steps=STEPS, loss=loss, generator=generator)

    def scale_free(x: Tensor, y: Tensor, size: float) -> Tensor:
        three = logits_of(x[:1]).shape[1] > 2
        return climb(dlr if three else margin, at(size), x, y)

    def squares(x: Tensor, y: Tensor, size: float) -> Tensor:
        queries = SQUARE_QUERIES
        return attacks.square(logits_of, x, y, at(size), queries=queries, generator=generator)

    families: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
        "fgsm": lambda x, y, size: attacks.fgsm(logits_of, x, y, at(size)),
        "pgd": lambda x, y, size: climb(attacks.base.cross_entropy, at(size), x, y),
        "dlr": scale_free,
        "square": squares,
    }
    if at(1.0).norm == "linf":
        families["l2"] = lambda x, y, size: climb(margin, L2(size * _length(at(1.0), x)), x, y)
    return families


def _stretched(logits_of: LogitsOf, x: Tensor, y: Tensor, length: float) -> list[Tensor]:
    """Changes towards the nearest boundary, brought to several lengths."""
    near = attacks.deepfool(logits_of, x, y, steps=NEAREST_STEPS, candidates=CANDIDATES)
    change = (near - x).flatten(1)
    lengths = change.norm(dim=1)
    found = lengths > 1e-6
    direction = (change[found] / lengths[found, None]).view_as(x[found])
    return [(x[found] + share * length * direction).clamp(0, 1) for share in SMALLER]


def _length(threat: Threat, x: Tensor) -> float:
    """The L2 length that corresponds to a threat on images like `x`."""
    if threat.norm == "l2":
        return threat.eps
    return L2_SHARE * threat.eps * math.sqrt(x[0].numel())


def _changed(x: Tensor, x_adv: Tensor, eps: float) -> Tensor:
    change = (x_adv - x).nan_to_num().abs().flatten(1).amax(dim=1)
    moved = change > min(1e-3 * eps, 1e-3)
    return x_adv[moved] if bool(moved.any()) else x_adv


def _some(count: int, share: float, generator: torch.Generator) -> Tensor:
    """A random part of the rows, at least two where there are so many."""
    kept = min(count, max(2, round(share * count)))
    return torch.randperm(count, generator=generator, device=generator.device)[:kept]
