"""White-box attacks: `attack(logits_of, x, y, threat, ...) -> x_adv`, all in the unit range.

`logits_of` maps `(N, *shape)` to `(N, C)`; the caller puts the net into eval mode and freezes its
parameters (`models.attacks.base.frozen`), so that only the gradient of the input is computed.
"""

from models.attacks.apgd import apgd
from models.attacks.base import LogitsOf, frozen, logits_only
from models.attacks.pgd import fgsm, pgd

__all__ = ["LogitsOf", "apgd", "fgsm", "frozen", "logits_only", "pgd"]
