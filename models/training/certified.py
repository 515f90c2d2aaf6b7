"""Training for certificates: interval bounds with growing boxes (IBP).

The recipe is that of Shi et al. 2021, "Fast Certified Robust Training with Short Warmup": an
initialisation that keeps boxes as tight behind a layer as before it, and two hinges in the ramp.
"""

import math
import weakref

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attacks.threat import Columns, Linf
from models.base.errors import TrainingError
from models.certificates.bounds import Box, box_around, check_chain, margins, propagate
from models.certificates.layers import Chain, chain_of
from models.training.adversary import Adversary, forward

HINGE_WEIGHT, TAU = 0.5, 0.5  # of the regularisers; Shi et al. 2021, section 4.3

# Of nets in training, from their first step (their inputs are fitted by then): a trace costs
# milliseconds, a step of a table's net not many more.
_followed: "weakref.WeakKeyDictionary[nn.Module, Chain]" = weakref.WeakKeyDictionary()


@torch.no_grad()
def start_certified(net: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights from N(0, (sqrt(2 pi) / fan-in)^2), biases 0 (Shi et al. 2021, section 4.1).

    The mean of |W| is then 2 / fan-in, so that a ReLU layer keeps the mean width of a box.

    Raises:
        TrainingError: the net has layers that interval bounds cannot pass.
    """
    for layer in chain_of(net).layers:
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            fan_in = layer.weight[0].numel()
            layer.weight.normal_(0, math.sqrt(2 * math.pi) / fan_in, generator=generator)
            if layer.bias is not None:
                layer.bias.zero_()


def certified(net: nn.Module, x: Tensor, y: Tensor, adversary: Adversary, beta: float) -> Tensor:
    """(1 - kappa) CE(-m) + kappa CE(f(x)), and the hinges while the boxes grow.

    m_j is the lower bound of f_y - f_j over the box. kappa falls from 1 to `beta` as the box grows
    to its full size.

    Args:
        net: a chain of layers.
        x, y: unit-range inputs `(N, ...)`, and classes `(N,)`.
        adversary: its threat is the box, its `reach` the share of the full size.
        beta: weight of the plain loss at the end, 0 to 1.

    Raises:
        TrainingError: layers that bounds cannot pass, a weight beyond 1, or a box that is none.
    """
    if not 0 <= beta <= 1 or not isinstance(adversary.threat, (Linf, Columns)):
        raise TrainingError(
            f"certified training takes norm linf and a beta of 0 to 1 (the weight of the plain loss"
            f" at the end); got {adversary.threat.norm} and {beta:g}"
        )
    if net not in _followed:
        _followed[net] = chain_of(net)
        check_chain(net, _followed[net], x)
    chain, reach = _followed[net], adversary.reach
    kappa = 1 - (1 - beta) * reach
    box = box_around(x, adversary.threat)
    with adversary.precision():
        passed = propagate(chain, box)
        lower = margins(chain.last, passed.box, y)
    loss = (1 - kappa) * F.cross_entropy(-lower.float(), y)
    if kappa > 0:
        with adversary.precision():
            loss = loss + kappa * F.cross_entropy(forward(net, x), y)
    if 0 < reach < 1:
        loss = loss + HINGE_WEIGHT * (1 - reach) * _hinges(box, passed.active)
    return loss


def _hinges(first: Box, active: tuple[Box, ...]) -> Tensor:
    """Mean over the ReLU layers: boxes no wider than 1 / tau of the input's, ReLUs in balance."""
    width = (first.high - first.low).nan_to_num().float().mean()
    terms = [_tightness(width, box) + _balance(box) for box in active]
    return torch.stack(terms).mean() if terms else width.new_zeros(())


def _tightness(width: Tensor, box: Box) -> Tensor:
    return F.relu(TAU - width / (box.high - box.low).float().mean().clamp_min(1e-12)) / TAU


def _balance(box: Box) -> Tensor:
    """The centres of the surely active and the surely inactive: like means, like variances."""
    low, high = box.low.float(), box.high.float()
    centre = (low + high) / 2
    on, off = (low > 0).float(), (high < 0).float()
    spread = (centre - centre.mean()).square()
    terms = []
    for more, less in (
        ((centre * on).mean(), -(centre * off).mean()),
        ((spread * on).mean(), (spread * off).mean()),
    ):
        ratio = more / less.clamp_min(1e-12)
        terms.append(F.relu(TAU - torch.minimum(ratio, 1 / ratio.clamp_min(1e-12))) / TAU)
    known = (on.sum() > 0) & (off.sum() > 0)
    return torch.where(known, terms[0] + terms[1], low.new_zeros(()))
