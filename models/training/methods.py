"""Training methods: each one function that gives the loss of a batch.

The adversary's gradients go to the input alone (parameters frozen, eval mode for batch statistics),
and to lower precision where the processor has it.
"""

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attacks.base import frozen, value_and_gradient
from models.attacks.threat import Linf, Threat

Precision = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Adversary:
    """Who perturbs the batches: where to, in how many steps, and with which randomness."""

    threat: Threat
    steps: int
    generator: torch.Generator
    precision: Precision

    def climb(self, net: nn.Module, start: Tensor, x: Tensor, target: Tensor) -> Tensor:
        """PGD from `start` on the cross-entropy to the distribution `target` `(N, C)`.

        Its gradient is that of KL(target || f(x_adv)), so the methods share it.
        """
        size, x_adv = 2.5 * self.threat.eps / self.steps, start
        for _ in range(self.steps):
            gradient = self.gradient(net, x_adv, target)
            x_adv = self.threat.project(self.threat.step(x_adv, gradient, size), x)
        return x_adv

    def gradient(self, net: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Gradient `(N, ...)` of the summed cross-entropy at `x`; the net must be frozen."""

        def logits_of(z: Tensor) -> Tensor:
            with self.precision():
                return forward(net, z)

        return value_and_gradient(logits_of, x, target, _soft_cross_entropy)[1]

    def noise(self, x: Tensor, factor: float = 1.0) -> Tensor:
        """A random point of `factor` times the ball, inside the range."""
        return resize_threat(self.threat, factor).random(x, self.generator)


Method = Callable[[nn.Module, Tensor, Tensor, Adversary, float], Tensor]


def forward(net: nn.Module, x: Tensor) -> Tensor:
    """float32 logits `(N, C)`, whatever precision the layers run in."""
    logits: Tensor = net(x)[0]
    return logits.float()


def resize_threat(threat: Threat, factor: float) -> Threat:
    """The same geometry at `factor` times the size (for L-inf at most the whole range)."""
    size = threat.eps * factor
    if isinstance(threat, Linf):
        size = min(size, 1.0)
    return dataclasses.replace(threat, eps=size)  # type: ignore[type-var]


def trades(net: nn.Module, x: Tensor, y: Tensor, adversary: Adversary, beta: float) -> Tensor:
    """CE(f(x), y) + beta max KL(f(x) || f(x_adv)) (Zhang et al. 2019, eq. 5)."""
    with frozen(net):
        with torch.no_grad(), adversary.precision():
            clean = forward(net, x).softmax(dim=1)
        noise = 1e-3 * torch.randn(x.shape, generator=adversary.generator)
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
}  # fmt: skip


def _loss(net: nn.Module, x: Tensor, y: Tensor, adversary: Adversary) -> Tensor:
    with adversary.precision():
        return F.cross_entropy(forward(net, x), y)


def _one_hot(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        classes = net(x[:1])[0].shape[1]
    return F.one_hot(y, classes).to(x.dtype)


def _soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return -(target * logits.log_softmax(dim=1)).sum(dim=1)
