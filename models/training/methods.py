"""Training methods: each one function that gives the loss of a batch.

The adversary's gradients go to the input alone (parameters frozen, eval mode for batch statistics),
and to lower precision where the processor has it.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attacks.base import frozen
from models.attacks.threat import draw
from models.training.adversary import Adversary, forward, resize_threat
from models.training.certified import certified

Method = Callable[[nn.Module, Tensor, Tensor, Adversary, float], Tensor]


def trades(net: nn.Module, x: Tensor, y: Tensor, adversary: Adversary, beta: float) -> Tensor:
    """CE(f(x), y) + beta max KL(f(x) || f(x_adv)) (Zhang et al. 2019, eq. 5)."""
    with frozen(net):
        with torch.no_grad(), adversary.precision():
            clean = forward(net, x).softmax(dim=1)
        noise = 1e-3 * draw(torch.randn, x.shape, x, adversary.generator)
        x_adv = adversary.climb(net, adversary.threat.project(x + noise, x), x, clean)
    with adversary.precision():
        logits = forward(net, torch.cat([x, x_adv]))
    logits_clean, logits_adv = logits[: len(x)], logits[len(x) :]
    drift = F.kl_div(
        logits_adv.log_softmax(dim=1), logits_clean.softmax(dim=1), reduction="batchmean"
    )
    return F.cross_entropy(logits_clean, y) + beta * drift


def pgd(net: nn.Module, x: Tensor, y: Tensor, adversary: Adversary, beta: float) -> Tensor:
    """CE(f(x_adv), y) at the worst input that PGD finds (Madry et al. 2018)."""
    del beta
    with frozen(net):
        target = _one_hot(net, x, y)
        x_adv = adversary.climb(net, adversary.noise(x), x, target)
    return _loss(net, x_adv, y, adversary)


def fgsm(net: nn.Module, x: Tensor, y: Tensor, adversary: Adversary, beta: float) -> Tensor:
    """One step of 1.25 eps from a random start (Wong et al. 2020, "Fast is better than free")."""
    del beta
    with frozen(net):
        start, target = adversary.noise(x), _one_hot(net, x, y)
        gradient = adversary.gradient(net, start, target)
        threat = adversary.threat
        x_adv = threat.project(threat.step(start, gradient, 1.25 * threat.eps), x)
    return _loss(net, x_adv, y, adversary)


def nfgsm(net: nn.Module, x: Tensor, y: Tensor, adversary: Adversary, beta: float) -> Tensor:
    """One step of eps from noise of twice the size, beyond the ball (de Jorge et al. 2022)."""
    del beta
    with frozen(net):
        start, target = adversary.noise(x, 2.0), _one_hot(net, x, y)
        gradient = adversary.gradient(net, start, target)
        threat = adversary.threat
        x_adv = resize_threat(threat, 3.0).project(threat.step(start, gradient, threat.eps), x)
    return _loss(net, x_adv, y, adversary)


def standard(net: nn.Module, x: Tensor, y: Tensor, adversary: Adversary, beta: float) -> Tensor:
    """CE(f(x), y)."""
    del beta
    return _loss(net, x, y, adversary)


METHODS: dict[str, Method] = {
    "trades": trades, "pgd": pgd, "fgsm": fgsm, "nfgsm": nfgsm, "standard": standard,
    "certified": certified,
}  # fmt: skip


def _loss(net: nn.Module, x: Tensor, y: Tensor, adversary: Adversary) -> Tensor:
    with adversary.precision():
        return F.cross_entropy(forward(net, x), y)


def _one_hot(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        classes = net(x[:1])[0].shape[1]
    return F.one_hot(y, classes).to(x.dtype)
