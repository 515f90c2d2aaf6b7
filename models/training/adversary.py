"""Who perturbs the batches of a training, and how a net is asked there."""

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.attacks.base import value_and_gradient
from models.attacks.threat import Linf, Threat

Precision = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Adversary:
    """Who perturbs the batches: where to, in how many steps, and with which randomness.

    `reach` is the share of its full size that the threat has grown to by now, 0 to 1.
    """

    threat: Threat
    steps: int
    generator: torch.Generator
    precision: Precision
    reach: float = 1.0

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

        return value_and_gradient(logits_of, x, target, soft_cross_entropy)[1]

    def noise(self, x: Tensor, factor: float = 1.0) -> Tensor:
        """A random point of `factor` times the ball, inside the range."""
        return resize_threat(self.threat, factor).random(x, self.generator)


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


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """-sum_k t_k log p_k `(N,)` for a distribution `target` `(N, C)`."""
    return -(target * logits.log_softmax(dim=1)).sum(dim=1)
