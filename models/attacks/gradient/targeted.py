"""Targeted Auto-PGD (Croce & Hein 2020, section 4: APGD-T on the targeted DLR loss)."""

import torch
from torch import Tensor

from models.attacks.base import LogitsOf, dlr_targeted, margin
from models.attacks.gradient.apgd import apgd
from models.attacks.threat import Threat

NEAR = 0.2  # of the targeted DLR: a miss by less is tried again


@torch.no_grad()
def apgd_targeted(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 100,
    targets: int = 9,
    give_up: bool = True,
    retries: int = 2,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Auto-PGD towards each of the strongest other classes in turn, until a row is wrong.

    The paper spends the same steps on every row and target. Most are far from the boundary and
    some end just before it, where another start decides: so hopeless ones are left early, and the
    closest are tried again.

    Args:
        logits_of, x, y, threat, generator: as for `models.attacks.gradient.pgd.pgd`.
        steps: per target.
        targets: how many classes to try, by falling clean logit; at most the other classes.
        give_up: leave a target early that a row will not reach (see `apgd`).
        retries: new starts towards a target that a row missed by less than `NEAR`.

    Returns:
        `x_adv` of the shape of `x`: per row the first point found that is wrong, else the one of
        the largest margin.
    """
    logits = logits_of(x)
    x_adv, widest = x.clone(), margin(logits, y)
    order = logits.scatter(1, y[:, None], float("-inf")).argsort(dim=1, descending=True)

    def run(rows: Tensor, aim: Tensor) -> Tensor:
        """How close `rows` came to their target; notes what is wider than before."""
        found = apgd(
            logits_of, x[rows], y[rows], threat,
            steps=steps, loss=dlr_targeted, aim=aim,
            stop_when_wrong=True, give_up=give_up, generator=generator,
        )  # fmt: skip
        reached = logits_of(found)
        width = margin(reached, y[rows])
        wider = width > widest[rows]
        x_adv[rows[wider]], widest[rows[wider]] = found[wider], width[wider]
        return dlr_targeted(reached, aim)

    for rank in range(min(targets, logits.shape[1] - 1)):
        rows = (widest <= 0).nonzero()[:, 0]
        for _ in range(1 + retries):
            if len(rows) == 0:
                break
            close = run(rows, torch.stack([y[rows], order[rows, rank]], dim=1)) > -NEAR
            rows = rows[close & (widest[rows] <= 0)]
    return x_adv
