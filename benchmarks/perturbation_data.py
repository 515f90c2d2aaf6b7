"""What `benchmarks.perturbation` judges a head on: attacked and corrupted test rows.

FGSM, PGD-40, APGD-40 on the difference of logits ratio, Square (500 queries) at half, full and
double eps. Carlini-Wagner and DeepFool look for the smallest L2 change, so their change is
stretched to the median length of PGD's at the same eps; as they were found they stand apart.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from models import attacks
from models.attacks.base import dlr
from models.attacks.threat import Linf
from models.corruptions import SEVERITIES, suite
from models.data import DataSet
from models.statistics.arrays import FloatArray

SHARES = (0.5, 1.0, 2.0)  # of eps
FOUND = 0.0  # stands for the size that CW and DeepFool found
ATTACKS = ("fgsm", "pgd", "apgd-dlr", "cw-l2", "deepfool", "square")
# Attacks by family, with the families of `monitoring.scoring.perturbation.attacks` that are left
# out for each.
ATTACK_FAMILIES = {
    "L-inf gradient": (("fgsm", "pgd", "apgd-dlr"), ("fgsm", "pgd", "pgd-dlr")),
    "nearest in L2": (("cw-l2", "deepfool"), ("l2", "deepfool")),
    "queries": (("square",), ("square",)),
}
CORRUPTION_FAMILIES = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    "blur": ("blur", "gaussian_blur", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "spatter"),
    "light": ("brightness", "darkness", "contrast", "saturate"),
    "geometry": ("rotate", "shift", "shear", "scale", "translate", "elastic_transform"),
    "coarse": ("pixelate", "jpeg_compression"),
    "drawn": ("stripe", "dotted_line", "zigzag", "canny_edges"),
}


@dataclass(frozen=True)
class Judged:
    """Test rows in the unit range: clean, by (attack, share of eps), by (kind, severity)."""

    clean: FloatArray
    attacked: dict[tuple[str, float], FloatArray]
    corrupted: dict[tuple[str, int], FloatArray]


def judged(net: nn.Module, data: DataSet, eps: float, rows: int, *, seed: int = 5) -> Judged:
    """Attack and corrupt `rows` random test rows. A row that an attack leaves is left out."""
    chosen = np.random.default_rng(0).permutation(len(data.test))[:rows]
    clean = data.schema.to_unit(data.test.x[chosen])
    x, y = torch.from_numpy(clean), torch.from_numpy(data.test.y[chosen].astype(np.int64))
    with attacks.frozen(net):
        attacked = _attacked(attacks.logits_only(net), x, y, eps, seed)
    rng = np.random.default_rng(seed)
    corrupted = {
        (f"{kind.group}/{kind.name}", severity): kind.apply(clean, severity, rng)
        for kind in suite(data.schema)
        for severity in SEVERITIES
    }
    return Judged(clean, attacked, corrupted)


def _attacked(
    logits_of: attacks.LogitsOf, x: Tensor, y: Tensor, eps: float, seed: int
) -> dict[tuple[str, float], FloatArray]:
    generator = torch.Generator().manual_seed(seed)
    found: dict[tuple[str, float], Tensor] = {}
    nearest = {
        "cw-l2": attacks.cw_l2(logits_of, x, y, steps=40, searches=4),
        "deepfool": attacks.deepfool(logits_of, x, y),
    }
    for name, x_adv in nearest.items():
        found[name, FOUND] = x_adv
    for share in SHARES:
        threat = Linf(min(1.0, share * eps))
        found["fgsm", share] = attacks.fgsm(logits_of, x, y, threat)
        found["pgd", share] = attacks.pgd(logits_of, x, y, threat, generator=generator)
        found["apgd-dlr", share] = attacks.apgd(
            logits_of, x, y, threat, steps=40, loss=dlr, generator=generator
        )
        found["square", share] = attacks.square(
            logits_of, x, y, threat, queries=500, generator=generator
        )
        length = _lengths(found["pgd", share] - x)
        wanted = length[length > 0].median()
        for name, x_adv in nearest.items():
            factor = wanted / _lengths(x_adv - x).clamp_min(1e-9)
            found[name, share] = (x + factor.view(-1, 1, 1, 1) * (x_adv - x)).clamp(0, 1)
    return {key: _moved(x, x_adv) for key, x_adv in found.items()}


def _moved(x: Tensor, x_adv: Tensor) -> FloatArray:
    kept: FloatArray = x_adv[(x_adv - x).abs().flatten(1).amax(dim=1) > 1e-4].numpy()
    return kept


def _lengths(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x.flatten(1), dim=1)


def family_of(kind: str) -> str:
    """The family of a kind `group/name`."""
    name = kind.partition("/")[2]
    return next(family for family, names in CORRUPTION_FAMILIES.items() if name in names)
