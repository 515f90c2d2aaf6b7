"""Attacked rows that the perturbation head learns from: several families, small and large.

A family is a direction and a geometry. The sizes reach from a sixth of the threat's eps to twice
it; L2 changes are as long as an L-inf attack of the same eps is in practice. What no eps bounds (a
few pixels, a patch, the least change in L1, what labels alone give) is taken as it is found.
"""

import math
from collections.abc import Callable, Collection

import torch
from torch import Tensor

from models import attacks
from models.attacks import LogitsOf
from models.attacks.catalogue import SHARE, Attack, Effort, find_attack, learnt_attacks
from models.attacks.threat import L2, Threat
from monitoring.scoring.pieces import Part

SIZES = (1 / 3, 2 / 3, 1.0, 4 / 3, 2.0)  # in units of the threat's eps
SMALLER = (1 / 6, *SIZES)  # of a direction that is only stretched
LONG = "l2"  # the family of another geometry than the threat's
FAMILIES = (*(attack.name for attack in learnt_attacks(black_box=False)), LONG)
LONG_STEPS = 8
CANDIDATES = 4  # classes whose boundary is looked for
L2_SHARE = 0.7  # length of an L-inf attack that is clipped to [0, 1], in units of eps sqrt(D)
LEAST = 1e-3  # change of a value that counts as one
PASSES = 150  # forward and backward passes that all families take per row
At = Callable[[float], Threat]  # the threat at a share of its eps
Attacked = Callable[[Tensor, Tensor, float], Tensor]  # rows, labels, share of eps


def attack_families(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    at: At,
    *,
    generator: torch.Generator,
    part: float = 1.0,
    without: Collection[str] = (),
    part_done: Part = lambda *_: None,
) -> Tensor:
    """Rows in the unit range under every family, each on a part of the rows per size.

    Args:
        logits_of: `(N, *shape)` in [0, 1] to logits `(N, C)`, with a gradient.
        x, y: rows and labels `(N,)`.
        at: the threat at a share of its eps.
        generator: makes it reproducible.
        part: of the rows that each attack takes by default, above 0: less where a net is dear.
        without: families to leave out, so that a head can be judged on them.
        part_done: called with how many of the attacks are done, and how many there are.

    Returns:
        `(M, *shape)`; a row that an attack left as it is (it was wrong before) is left out.
    """
    families = _families(logits_of, at, generator, images=x.dim() == 4).items()
    runs = [(attack, share, size) for name, (attack, share) in families if name not in without
            for size in SIZES]  # fmt: skip
    changed = []
    for number, (attack, share, size) in enumerate(runs):
        part_done(number, len(runs))
        rows = _some(len(x), part * share, generator)
        changed.append(_keep_changed(x[rows], attack(x[rows], y[rows], size), at(size).eps))
    deepfool = find_attack("deepfool")
    if x.dim() == 4 and deepfool.name not in without and deepfool.learnt is not None:
        rows = _some(len(x), part * deepfool.learnt.share, generator)
        length, steps = _length(at(1.0), x), deepfool.learnt.budget
        changed += _stretch_changes(logits_of, x[rows], y[rows], length, steps)
    changed += attack_freely(
        logits_of, x, y, at(1.0), generator=generator, part=part, without=without
    )
    return torch.cat(changed)


def attack_freely(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    generator: torch.Generator,
    part: float = 1.0,
    without: Collection[str] = (),
    black_box: bool = False,
) -> list[Tensor]:
    """Images under every attack that no eps bounds, as it is found; nothing of a table.

    Args:
        logits_of, x, y, generator, part, without: as for `attack_families`.
        threat: what the attacks are told, who do not mind it.
        black_box: only attacks that need no gradient.

    Returns:
        Parts `(m, *shape)`; a row that an attack left as it is is left out.
    """
    changed = []
    for attack in learnt_attacks(black_box=black_box, images=x.dim() == 4):
        if attack.learnt is None or attack.name in without or not is_unbound(attack):
            continue
        for budget in attack.learnt.budgets:
            rows = _some(len(x), part * attack.learnt.share, generator)
            found = attack.run(logits_of, x[rows], y[rows], threat, Effort(budget, generator))
            moved = (found - x[rows]).abs().flatten(1).amax(dim=1) > LEAST
            changed.append(found[moved])
    return changed


def is_unbound(attack: Attack) -> bool:
    """Whether the head meets an attack as it is found: DeepFool's direction is stretched."""
    return attack.free or (attack.nearest and attack.name != "deepfool")


def _families(
    logits_of: LogitsOf, at: At, generator: torch.Generator, *, images: bool
) -> dict[str, tuple[Attacked, float]]:
    """By name, what changes rows at a share of the threat's size, and on which share of rows."""

    def by(attack: Attack, budget: int) -> Attacked:
        effort = Effort(budget, generator)
        return lambda x, y, size: attack.run(logits_of, x, y, at(size), effort)

    def climb_in_l2(x: Tensor, y: Tensor, size: float) -> Tensor:
        threat, effort = L2(size * _length(at(1.0), x)), Effort(LONG_STEPS, generator)
        return find_attack("pgd-margin").run(logits_of, x, y, threat, effort)

    families = {
        attack.name: (by(attack, attack.learnt.budget), attack.learnt.share)
        for attack in learnt_attacks(black_box=False, images=images)
        if attack.learnt is not None and not (attack.nearest or attack.free)
    }
    if at(1.0).norm == "linf":
        families[LONG] = (climb_in_l2, SHARE)
    return families


def _stretch_changes(
    logits_of: LogitsOf, x: Tensor, y: Tensor, length: float, steps: int
) -> list[Tensor]:
    """Changes towards the nearest boundary, brought to several lengths."""
    near = attacks.deepfool(logits_of, x, y, steps=steps, candidates=CANDIDATES)
    change = (near - x).flatten(1)
    lengths = change.norm(dim=1)
    moved = lengths > 1e-6
    direction = (change[moved] / lengths[moved, None]).view_as(x[moved])
    return [(x[moved] + share * length * direction).clamp(0, 1) for share in SMALLER]


def _length(threat: Threat, x: Tensor) -> float:
    """The L2 length that corresponds to a threat on images like `x`."""
    if threat.norm == "l2":
        return threat.eps
    return L2_SHARE * threat.eps * math.sqrt(x[0].numel())


def _keep_changed(x: Tensor, x_adv: Tensor, eps: float) -> Tensor:
    change = (x_adv - x).nan_to_num().abs().flatten(1).amax(dim=1)
    moved = change > min(1e-3 * eps, 1e-3)
    return x_adv[moved] if bool(moved.any()) else x_adv


def _some(count: int, share: float, generator: torch.Generator) -> Tensor:
    """A random part of the rows, at least two where there are so many."""
    size = min(count, max(2, round(share * count)))
    return torch.randperm(count, generator=generator, device=generator.device)[:size]
