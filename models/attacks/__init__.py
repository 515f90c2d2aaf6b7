"""Attacks: `attack(logits_of, x, y, threat, ...) -> x_adv`, all in the unit range.

`logits_of` maps `(N, *shape)` to `(N, C)`; the caller puts the net into eval mode and freezes its
parameters (`models.attacks.base.frozen`), so that only the gradient of the input is computed.
`square` needs no gradient. `cw_l2` and `deepfool` take no threat: they look for the smallest
change, and so do `hop_skip_jump` and `boundary`, which see labels only. Those of `sparse` change
few pixels, each as far as it likes. `adaptive` knows the detectors as well. `cascade` is the
verdict over several attacks, and `CATALOGUE` has a record of each that the house knows.
"""

from models.attacks.base import LogitsOf, frozen, logits_only
from models.attacks.cascade import Verdict, cascade, standard
from models.attacks.catalogue import CATALOGUE, Strength
from models.attacks.gradient.adaptive import adaptive
from models.attacks.gradient.apgd import apgd
from models.attacks.gradient.cw import cw_l2
from models.attacks.gradient.deepfool import deepfool
from models.attacks.gradient.low_frequency import low_frequency
from models.attacks.gradient.pgd import fgsm, pgd
from models.attacks.gradient.targeted import apgd_targeted
from models.attacks.gradient.universal import universal
from models.attacks.queries.boundary import boundary
from models.attacks.queries.hop_skip_jump import hop_skip_jump
from models.attacks.queries.spatial import spatial
from models.attacks.queries.square import square
from models.attacks.reference import reference_autoattack
from models.attacks.smallest import smallest
from models.attacks.sparse.deepfool_l1 import deepfool_l1
from models.attacks.sparse.ead import ead
from models.attacks.sparse.patch import patch
from models.attacks.sparse.pixels import pixels
from models.attacks.sparse.sparsefool import sparsefool

__all__ = [
    "CATALOGUE",
    "LogitsOf",
    "Strength",
    "Verdict",
    "adaptive",
    "apgd",
    "apgd_targeted",
    "boundary",
    "cascade",
    "cw_l2",
    "deepfool",
    "deepfool_l1",
    "ead",
    "fgsm",
    "frozen",
    "hop_skip_jump",
    "logits_only",
    "low_frequency",
    "patch",
    "pgd",
    "pixels",
    "reference_autoattack",
    "smallest",
    "sparsefool",
    "spatial",
    "square",
    "standard",
    "universal",
]
