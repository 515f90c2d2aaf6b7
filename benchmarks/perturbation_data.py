"""What `benchmarks.perturbation` judges a head on: attacked and corrupted test rows.

What no eps bounds (`FREE`: pixels, patches, the least change in L1, what labels alone give, turns)
stands as it was found; universal and low-frequency changes have the preset's eps.

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
from models.attacks.catalogue import Effort, find_attack
from models.attacks.threat import Linf
from models.corruptions import SEVERITIES, sensor, suite
from models.data import DataSet
from models.statistics.arrays import FloatArray

SHARES = (0.5, 1.0, 2.0)  # of eps
FOUND = 0.0  # stands for the size that CW and DeepFool found
ATTACKS = ("fgsm", "pgd", "apgd-dlr", "cw-l2", "deepfool", "square")
# By name: the attack of the catalogue and its budget.
FREE = {
    "1 pixel": ("pixels", 1),
    "3 pixels": ("pixels", 3),
    "5 pixels": ("pixels", 5),
    "patch of 2": ("patch", 2),
    "patch of 3": ("patch", 3),
    "ead": ("ead", 40),
    "deepfool-l1": ("deepfool-l1", 50),
    "sparsefool": ("sparsefool", 20),
    "universal": ("universal", 30),
    "low-frequency": ("low-frequency", 20),
    "boundary": ("boundary", 600),
    "hop-skip-jump": ("hop-skip-jump", 2000),
    "spatial": ("spatial", 5),
}
SPARSE = tuple(FREE)[:7]  # that are learnt; SparseFool never is
LINF = ("fgsm", "pgd", "apgd-dlr", "square")
LABEL_ONLY_ROWS = 40  # what sees labels only is slow
# Attacks by family, with the families of `monitoring.scoring.perturbation.attacks` that are left
# out for each.
ATTACK_FAMILIES = {
    "L-inf gradient": (("fgsm", "pgd", "apgd-dlr"), ("fgsm", "pgd", "pgd-dlr")),
    "nearest in L2": (("cw-l2", "deepfool"), ("l2", "deepfool")),
    "queries": (("square",), ("square",)),
    "pixels": (("1 pixel", "3 pixels", "5 pixels"), ("pixels",)),
    "patches": (("patch of 2", "patch of 3"), ("patch",)),
    "least in L1": (("ead", "deepfool-l1", "sparsefool"), ("ead", "deepfool-l1")),
    "labels only": (("boundary", "hop-skip-jump"), ("boundary", "hop-skip-jump")),
}
CORRUPTION_FAMILIES = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    "blur": ("blur", "gaussian_blur", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "spatter"),
    "light": ("brightness", "darkness", "contrast", "saturate"),
    "geometry": ("rotate", "shift", "shear", "scale", "translate", "elastic_transform"),
    "coarse": ("pixelate", "jpeg_compression"),
    "drawn": ("stripe", "dotted_line", "zigzag", "canny_edges"),
    "sensor": ("dead_pixels", "hot_pixels", "salt", "stuck_column", "occlusion"),
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
        for kind in (*suite(data.schema), *sensor.KINDS)
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
    for name, (attack, budget) in FREE.items():
        few = slice(0, LABEL_ONLY_ROWS if attack in ("boundary", "hop-skip-jump") else len(x))
        effort = Effort(budget, generator)
        x_adv = find_attack(attack).run(logits_of, x[few], y[few], Linf(eps), effort)
        right = logits_of(x[few]).argmax(dim=1) == y[few]
        found[name, FOUND] = torch.where(right[:, None, None, None], x_adv, x[few])
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
    return {key: _moved(x[: len(x_adv)], x_adv) for key, x_adv in found.items()}


def _moved(x: Tensor, x_adv: Tensor) -> FloatArray:
    kept: FloatArray = x_adv[(x_adv - x).abs().flatten(1).amax(dim=1) > 1e-4].numpy()
    return kept


def _lengths(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x.flatten(1), dim=1)


def family_of(kind: str) -> str:
    """The family of a kind `group/name`."""
    name = kind.partition("/")[2]
    return next(family for family, names in CORRUPTION_FAMILIES.items() if name in names)
