"""The reference AutoAttack (Croce & Hein 2020), by its authors, to hold the own one against."""

import logging
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.attacks.base import frozen, logits_only
from models.attacks.threat import Threat

NORMS = {"linf": "Linf", "l2": "L2"}


def reference_autoattack(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    attacks: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int = 250,
) -> Tensor:
    """Rows `(N,)` that survive pyautoattack's standard suite, or those of its `attacks` named.

    Args:
        net: gives (logits, features); is frozen meanwhile.
        x, y: images `(N, C, H, W)` in [0, 1] and labels `(N,)` int64.
        threat: `Linf` or `L2`.
        attacks: of apgd-ce, apgd-t, fab-t, square; all by default. With the standard version's
            options: 100 steps, 9 targets (or what there is), 5000 queries.
        seed: of its random starts; the global random state is left as it was.
        batch_size: rows at a time.

    Raises:
        ValueError: a threat that it does not know.
        ModuleNotFoundError: pyautoattack is not installed.
    """
    if threat.norm not in NORMS or x.dim() != 4:
        raise ValueError(
            f"the reference AutoAttack takes images under linf or l2, got {threat.norm} "
            f"on inputs of shape {list(x.shape[1:])}: use the own cascade"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its import
        from pyautoattack import AutoAttack
    with frozen(net), torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logits_of = logits_only(net)
        suite = AutoAttack(logits_of, eps=threat.eps, norm=NORMS[threat.norm], seed=seed)
        with torch.no_grad():
            others = logits_of(x[:1]).shape[1] - 1
        for part in (suite.apgd_targeted, suite.fab):
            part.n_target_classes = min(9, others)
        suite.logger.setLevel(logging.CRITICAL)  # it warns of what the verdict says anyway
        if attacks is not None:
            suite.attacks_to_run = list(attacks)
        x_adv, _ = suite.run_standard_evaluation(x, y, batch_size=batch_size)
        with torch.no_grad():
            parts = [logits_of(part).argmax(dim=1) for part in x_adv.split(batch_size)]
    return torch.cat(parts) == y
