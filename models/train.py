"""Robust training: one loop, the method is one function giving the loss of a batch.

TRADES (Zhang et al. 2019): CE(f(x), y) + beta max_{x'} KL(f(x) || f(x')), the maximum found by PGD
in eval mode. Warm-up of eps: without it runs sit at 2 to 5 % robust accuracy while the loss
looks healthy (docs/methods.md).
"""

import copy
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attacks.base import frozen, value_and_gradient
from models.data import Rows
from models.errors import TrainingError
from models.schema import InputSchema
from models.threat import Linf

Progress = Callable[[int, int, float], None]
Positive = Annotated[int, msgspec.Meta(ge=1)]


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that determines a training run besides the data and the net."""

    method: Literal["trades", "pgd", "standard"] = "trades"
    eps: float = 0.25
    beta: float = 6.0
    epochs: Positive = 80
    batch_size: Positive = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warm_up: float = 0.1
    eps_warm_up: float = 0.2
    attack_steps: Positive = 7
    ema: float = 0.99
    corrupted_copies: Annotated[int, msgspec.Meta(ge=0)] = (
        0  # of every training row, each with a random benign corruption
    )
    max_steps: Positive | None = None
    seed: int = 0


@dataclass(frozen=True)
class TrainResult:
    """The trained net (averaged weights, eval mode) and how it went."""

    net: nn.Module
    cpu_seconds: float
    steps: int
    final_loss: float


def train(
    net: nn.Module,
    rows: Rows,
    schema: InputSchema,
    recipe: Recipe,
    *,
    progress: Progress | None = None,
) -> TrainResult:
    """Train `net` in place on raw `rows`; returns the exponential moving average of its weights.

    Args:
        net: gives (logits, features) of unit-range inputs.
        rows: raw training rows.
        schema: scales them to [0, 1].
        recipe: method and hyperparameters.
        progress: called with (step, steps, loss) now and then.

    Raises:
        TrainingError: no rows, or the loss is no longer finite.
    """
    if len(rows) < 2:
        raise TrainingError(f"training needs at least 2 rows, got {len(rows)}")
    started = time.process_time()
    generator = torch.Generator().manual_seed(recipe.seed)
    x = torch.from_numpy(schema.to_unit(rows.x))
    y = torch.from_numpy(rows.y.astype(np.int64))
    per_epoch = math.ceil(len(x) / recipe.batch_size)
    steps = min(recipe.epochs * per_epoch, recipe.max_steps or sys.maxsize)
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    average = copy.deepcopy(net).eval().requires_grad_(False)
    order, loss = torch.empty(0, dtype=torch.int64), torch.tensor(float("nan"))
    for step in range(steps):
        if len(order) == 0:
            order = torch.randperm(len(x), generator=generator)
        batch, order = order[: recipe.batch_size], order[recipe.batch_size :]
        share = step / steps
        threat = Linf(recipe.eps * min(1.0, share / max(recipe.eps_warm_up, 1e-9)))
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(share, recipe.warm_up)
        net.train()
        loss = LOSSES[recipe.method](net, x[batch], y[batch], threat, recipe, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        _average(average, net, recipe.ema)
        if step % per_epoch == 0 or step == steps - 1:
            value = loss.item()
            if not math.isfinite(value):
                raise TrainingError(f"the loss is {value} at step {step}; lower learning_rate")
            if progress is not None:
                progress(step + 1, steps, value)
    return TrainResult(average, time.process_time() - started, steps, float(loss.detach()))


def trades_loss(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Linf,
    recipe: Recipe,
    generator: torch.Generator,
) -> Tensor:
    """CE(f(x), y) + beta KL(f(x) || f(x_adv)); a scalar."""
    with frozen(net):
        with torch.no_grad():
            clean = net(x)[0].softmax(dim=1)
        noise = torch.randn(x.shape, generator=generator)
        x_adv = _ascend(net, (x + 1e-3 * noise).clamp(0, 1), x, clean, threat, recipe)
    logits = net(torch.cat([x, x_adv]))[0]
    logits_clean, logits_adv = logits[: len(x)], logits[len(x) :]
    drift = F.kl_div(
        logits_adv.log_softmax(dim=1), logits_clean.softmax(dim=1), reduction="batchmean"
    )
    return F.cross_entropy(logits_clean, y) + recipe.beta * drift


def pgd_loss(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Linf,
    recipe: Recipe,
    generator: torch.Generator,
) -> Tensor:
    """CE(f(x_adv), y) at the worst input that PGD finds (Madry et al. 2018)."""
    with frozen(net):
        one_hot = F.one_hot(y, net(x[:1])[0].shape[1]).to(x.dtype)
        x_adv = _ascend(net, threat.random(x, generator), x, one_hot, threat, recipe)
    return F.cross_entropy(net(x_adv)[0], y)


def standard_loss(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Linf,
    recipe: Recipe,
    generator: torch.Generator,
) -> Tensor:
    """CE(f(x), y)."""
    del threat, recipe, generator
    return F.cross_entropy(net(x)[0], y)


LOSSES = {"trades": trades_loss, "pgd": pgd_loss, "standard": standard_loss}


def _ascend(
    net: nn.Module, start: Tensor, x: Tensor, target: Tensor, threat: Linf, recipe: Recipe
) -> Tensor:
    """Climb the cross-entropy to the distribution `target` (its gradient is that of the KL)."""

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        return -(target * logits.log_softmax(dim=1)).sum(dim=1)

    size, x_adv = 2.5 * threat.eps / recipe.attack_steps, start
    for _ in range(recipe.attack_steps):
        _, gradient, _ = value_and_gradient(lambda z: net(z)[0], x_adv, target, loss)
        x_adv = threat.project(threat.step(x_adv, gradient, size), x)
    return x_adv


def _schedule(share: float, warm_up: float) -> float:
    """Linear warm-up over the first `warm_up` of training, then half a cosine to zero."""
    if share < warm_up:
        return share / warm_up + 1e-3
    return 0.5 * (1 + math.cos(math.pi * (share - warm_up) / (1 - warm_up)))


@torch.no_grad()
def _average(average: nn.Module, net: nn.Module, decay: float) -> None:
    """average <- decay average + (1 - decay) net; buffers (batch statistics) are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - decay)
    for kept, current in zip(average.buffers(), net.buffers(), strict=True):
        kept.copy_(current)
