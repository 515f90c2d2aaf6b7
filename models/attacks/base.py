"""What all attacks share: losses per row, input gradients, frozen nets."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LogitsOf = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """-log p_y per row, shape `(N,)`."""
    return F.cross_entropy(logits, y, reduction="none")


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """max_{k != y} z_k - z_y per row: positive where the prediction is wrong."""
    others = logits.scatter(1, y[:, None], float("-inf"))
    return others.amax(dim=1) - logits.gather(1, y[:, None])[:, 0]


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio (Croce & Hein 2020, eq. 6): scale-free, so it resists masking.

    -(z_y - max_{k != y} z_k) / (z_(1) - z_(3)); needs at least three classes.
    """
    ordered = logits.sort(dim=1, descending=True).values
    return margin(logits, y) / (ordered[:, 0] - ordered[:, 2] + 1e-12)


def dlr_targeted(logits: Tensor, pair: Tensor) -> Tensor:
    """Targeted difference of logits ratio (Croce & Hein 2020, eq. 7) of labels and targets.

    -(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2), where `pair` `(N, 2)` holds y and t. It needs four
    classes: with three z_(3) stands alone below the line, with two there is no line.
    """
    own, target = logits.gather(1, pair).unbind(dim=1)
    classes = logits.shape[1]
    if classes == 2:
        return target - own
    top = logits.topk(min(4, classes), dim=1).values
    return (target - own) / (top[:, 0] - top[:, 2:].mean(dim=1) + 1e-12)


def check_gradient(logits: Tensor) -> None:
    """Raise ValueError where logits have no gradient to follow: a black box."""
    if not logits.requires_grad:
        raise ValueError(
            "this attack climbs a gradient, and the logits have none (a black box): "
            "use the square attack"
        )


def value_and_gradient(
    logits_of: LogitsOf, x: Tensor, y: Tensor, loss: Loss
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss `(N,)`, gradient of the input `(N, ...)`, and logits `(N, C)`.

    Raises:
        ValueError: `logits_of` has no gradient.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        logits = logits_of(x)
        check_gradient(logits)
        values = loss(logits, y)
        (gradient,) = torch.autograd.grad(values.sum(), x)
    return values.detach(), gradient, logits.detach()


def column(x: Tensor) -> tuple[int, ...]:
    """The shape in which one value per row meets the values of `x` `(N, ...)`."""
    return (-1, *[1] * (x.dim() - 1))


def logits_only(net: nn.Module) -> LogitsOf:
    """The logits of a net that gives (logits, features)."""
    return lambda x: net(x)[0]


@contextmanager
def frozen(net: nn.Module) -> Iterator[nn.Module]:
    """Eval mode and no parameter gradients inside; the former state afterwards."""
    training = net.training
    wanted = [p.requires_grad for p in net.parameters()]
    net.eval()
    net.requires_grad_(False)
    try:
        yield net
    finally:
        net.train(training)
        for parameter, before in zip(net.parameters(), wanted, strict=True):
            parameter.requires_grad_(before)
