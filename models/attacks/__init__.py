"""Attacks: `attack(logits_of, x, y, threat, ...) -> x_adv`, all in the unit range.

`logits_of` maps `(N, *shape)` to `(N, C)`; the caller puts the net into eval mode and freezes its
parameters (`models.attacks.base.frozen`), so that only the gradient of the input is computed.
`square` needs no gradient. `cascade` is the verdict over several attacks.
"""

from models.attacks.apgd import apgd
from models.attacks.base import LogitsOf, frozen, logits_only
from models.attacks.cascade import ATTACKS, Verdict, cascade
from models.attacks.pgd import fgsm, pgd
from models.attacks.reference import reference_autoattack
from models.attacks.smallest import smallest
from models.attacks.square import square
from models.attacks.targeted import apgd_targeted

__all__ = [
    "ATTACKS",
    "LogitsOf",
    "Verdict",
    "apgd",
    "apgd_targeted",
    "cascade",
    "fgsm",
    "frozen",
    "logits_only",
    "pgd",
    "reference_autoattack",
    "smallest",
    "square",
]
