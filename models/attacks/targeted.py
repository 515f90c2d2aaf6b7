"""Targeted Auto-PGD (Croce & Hein 2020, section 4: APGD-T on the targeted DLR loss)."""

import torch
from torch import Tensor

from models.attacks.apgd import apgd
from models.attacks.base import LogitsOf, dlr_targeted, margin
from models.threat import Threat


def apgd_targeted(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 100,
    targets: int = 9,
    give_up: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Auto-PGD towards each of the strongest other classes in turn, until a row is wrong.

    Args:
        logits_of, x, y, threat, generator: as for `models.attacks.pgd.pgd`.
        steps: per target.
        targets: how many classes to try, by falling clean logit; at most the other classes.
        give_up: leave a target early that a row will not reach (see `apgd`); the paper does not.

    Returns:
        `x_adv` of the shape of `x`: per row the first point found that is wrong, else the one of
        the largest margin.
    """
    with torch.no_grad():
        logits = logits_of(x)
    x_adv, widest = x.clone(), margin(logits, y)
    order = logits.scatter(1, y[:, None], float("-inf")).argsort(dim=1, descending=True)
    for rank in range(min(targets, logits.shape[1] - 1)):
        left = (widest <= 0).nonzero()[:, 0]
        if len(left) == 0:
            break
        aim = torch.stack([y[left], order[left, rank]], dim=1)
        found = apgd(
            logits_of,
            x[left],
            y[left],
            threat,
            steps=steps,
            loss=dlr_targeted,
            aim=aim,
            stop_when_wrong=True,
            give_up=give_up,
            generator=generator,
        )
        with torch.no_grad():
            width = margin(logits_of(found), y[left])
        wider = width > widest[left]
        x_adv[left[wider]], widest[left[wider]] = found[wider], width[wider]
    return x_adv
