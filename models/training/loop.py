"""Robust training: one loop, resumable, on one process or several; the method is one function.

Warm-up of eps: without it runs sit at 2 to 5 % robust accuracy while the loss looks healthy
(docs/methods.md). Everything random of a step comes from a seed made of (seed, step, rank), so a
run that was killed goes on exactly as it would have.
"""

import copy
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.attacks.threat import geometry_of
from models.base.allocation import keep_freed_memory
from models.base.errors import TrainingError
from models.data import Rows
from models.nets import factories
from models.training import checkpoint as checkpoints
from models.training import distributed
from models.training.adversary import Adversary
from models.training.augment import chain
from models.training.methods import METHODS
from models.training.precision import choose_device, choose_precision
from models.training.recipe import Device, Recipe
from models.versions.schema import InputSchema

__all__ = ["Progress", "Recipe", "TrainResult", "train"]

Progress = Callable[[int, int, float], None]
SAVE_EVERY_SECONDS = 10.0
REPORT_EVERY_SECONDS = 1.0
PREPARE_ROWS = 10_000


@dataclass(frozen=True)
class TrainResult:
    """The trained net (averaged weights, eval mode, on the CPU) and how it went."""

    net: nn.Module
    cpu_seconds: float  # of this process and of those before it that were cut off
    steps: int
    mean_loss: float  # over the last epoch; NaN where an earlier run had made all steps
    resumed_from: int = 0  # step at which an earlier, killed run was taken up
    precision: str = "fp32"
    device: str = "cpu"  # `cpu` or `cuda`


def train(
    net: nn.Module,
    rows: Rows,
    schema: InputSchema,
    recipe: Recipe,
    *,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    device: Device = "auto",
) -> TrainResult:
    """Train `net` in place on raw `rows`; returns the exponential moving average of its weights.

    Under `torchrun` every process is given the same arguments; each batch is divided among
    them and the gradients are added, so the weights stay the same on all.

    Args:
        net: gives (logits, features) of unit-range inputs.
        rows: raw training rows.
        schema: scales them to [0, 1].
        recipe: method and hyperparameters.
        progress: called with (step, steps, mean loss over the last epoch): at the start (0, or the
            step that the run is taken up from, and NaN), at the end of every epoch, and in long
            epochs about every second.
        checkpoint: file that is written every 10 s and at the end, and gone on from if it is of
            this run, on whatever device.
        device: where the net runs; `auto`: a GPU where torch can use one. Rows, augmentation and
            random draws stay on the CPU.

    Raises:
        TrainingError: no rows, no such device, processes that find different checkpoints, or the
            loss is no longer finite.
        DataError: a threat model that does not fit the input.
    """
    if len(rows) < 2:
        raise TrainingError(f"training needs at least 2 rows, got {len(rows)}")
    keep_freed_memory()
    started = time.process_time()
    run = _Run(net, rows, schema, recipe, choose_device(device))
    digest = "" if checkpoint is None else checkpoints.run_digest(net, rows, recipe)
    before = _take_up(run, digest, checkpoint)
    losses: deque[tuple[float, int]] = deque(maxlen=run.per_epoch)
    report = _Report(progress, run)
    report(before.steps, losses)

    def cpu_seconds() -> float:
        return before.cpu_seconds + time.process_time() - started

    saved = time.monotonic()
    for step in range(before.steps, run.steps):
        told, size = run.step(step)
        loss = told.item()
        losses.append((loss, size))
        if not math.isfinite(loss):
            raise TrainingError(f"the loss is {loss} at step {step}; lower learning_rate")
        report(step + 1, losses)
        due = step == run.steps - 1 or time.monotonic() - saved >= SAVE_EVERY_SECONDS
        if checkpoint is not None and distributed.rank() == 0 and due:
            done = checkpoints.Done(step + 1, cpu_seconds())
            checkpoints.save(checkpoint, digest, done, net, run.average, run.optimizer)
            saved = time.monotonic()
    run.join()
    net.cpu()
    return TrainResult(
        run.average.cpu(), cpu_seconds(), run.steps, _mean(losses), before.steps,
        run.precision_name, run.device.type,
    )  # fmt: skip


def _take_up(run: "_Run", digest: str, checkpoint: Path | None) -> checkpoints.Done:
    """What an earlier run with this checkpoint has done; its state is put into this one."""
    if checkpoint is None:
        return checkpoints.Done(0, 0.0)
    before = checkpoints.restore(checkpoint, digest, run.net, run.average, run.optimizer)
    if set(distributed.gather(before.steps)) != {before.steps}:
        raise TrainingError(
            f"the processes do not find the same checkpoint {checkpoint}: put the state "
            "directory where all of them can read it, or delete the file"
        )
    return before


class _Report:
    """Reports the first step, the end of every epoch, and what a second passes between."""

    def __init__(self, progress: Progress | None, run: "_Run") -> None:
        self._progress, self._per_epoch, self._steps = progress, run.per_epoch, run.steps
        self._reported = -math.inf

    def __call__(self, step: int, losses: Sequence[tuple[float, int]]) -> None:
        if self._progress is None:
            return
        now = time.monotonic()
        ends = step % self._per_epoch == 0 or step == self._steps
        if ends or now - self._reported >= REPORT_EVERY_SECONDS:
            self._progress(step, self._steps, _mean(losses))
            self._reported = now


def _mean(losses: Sequence[tuple[float, int]]) -> float:
    """The mean over rows of batches (mean loss, rows); NaN of none."""
    rows = sum(size for _, size in losses)
    return sum(loss * size for loss, size in losses) / rows if rows else math.nan


class _Run:
    """State of a run: the net, its average, the optimiser, and the order of the rows."""

    def __init__(
        self,
        net: nn.Module,
        rows: Rows,
        schema: InputSchema,
        recipe: Recipe,
        device: torch.device,
    ) -> None:
        self.net, self.recipe, self.schema, self.device = net, recipe, schema, device
        self.x = torch.from_numpy(np.ascontiguousarray(rows.x))
        self.y = torch.from_numpy(rows.y.astype(np.int64))
        self.offset = torch.from_numpy(np.array(schema.offset))
        self.span = torch.from_numpy(np.array(schema.span))
        factories.prepare(net, self._unit(torch.arange(min(len(rows), PREPARE_ROWS))))
        net.to(device)
        self.per_epoch = math.ceil(len(rows) / recipe.batch_size)
        self.steps = min(recipe.epochs * self.per_epoch, recipe.max_steps or sys.maxsize)
        self.optimizer = torch.optim.AdamW(
            net.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.augment = chain(recipe.augment, schema)
        self.precision_name, self.precision = choose_precision(recipe.precision, device)
        self.generator = torch.Generator()
        self.epoch, self.order = -1, torch.empty(0, dtype=torch.int64)
        distributed.same([p.data for p in net.parameters()])
        self.average = copy.deepcopy(net).eval().requires_grad_(False)

    def step(self, step: int) -> tuple[Tensor, int]:
        """One batch: loss, gradients, weights, average. Gives the batch's mean loss and rows."""
        recipe, share = self.recipe, step / self.steps
        seed = hash((recipe.seed, step, distributed.rank())) & 0x7FFF_FFFF
        self.generator.manual_seed(seed)
        torch.manual_seed(seed)  # dropout draws from here
        batch = self._batch(step)
        own = batch[distributed.rank() :: distributed.world()]
        reach = min(1.0, share / max(recipe.eps_warm_up, 1e-9))
        adversary = Adversary(
            geometry_of(recipe.threat_model, self.schema, recipe.eps * reach),
            recipe.steps_at(share),
            self.generator,
            self.precision,
            reach,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(share, recipe.warm_up)
        self.net.train()
        self.optimizer.zero_grad(set_to_none=distributed.world() == 1)
        loss = torch.zeros((), device=self.device)
        if len(own):
            x = self.augment(self._unit(own), self.generator).to(self.device)
            y = self.y[own].to(self.device)
            loss = METHODS[recipe.method](self.net, x, y, adversary, recipe.beta)
            loss = loss * (len(own) / len(batch))
            loss.backward()  # type: ignore[no-untyped-call]
        loss = loss.detach()
        self._share(loss)
        self.optimizer.step()
        _average(self.average, self.net, recipe.ema)
        return loss, len(batch)

    def join(self) -> None:
        """Batch statistics of several processes become their mean."""
        if distributed.world() > 1:
            statistics = [b for b in self.average.buffers() if b.is_floating_point()]
            distributed.add(statistics)
            for buffer in statistics:
                buffer /= distributed.world()

    def _unit(self, index: Tensor) -> Tensor:
        return (self.x[index].float() - self.offset) / self.span

    def _batch(self, step: int) -> Tensor:
        """Indices of the rows of a step: every row once per epoch, in an order of its own."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self.epoch:
            shuffle = torch.Generator().manual_seed(hash((self.recipe.seed, epoch)) & 0x7FFF_FFFF)
            self.order, self.epoch = torch.randperm(len(self.x), generator=shuffle), epoch
        return self.order[place * self.recipe.batch_size :][: self.recipe.batch_size]

    def _share(self, loss: Tensor) -> None:
        if distributed.world() == 1:
            return
        for parameter in self.net.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        grads = [p.grad for p in self.net.parameters() if p.grad is not None]
        distributed.add([*grads, loss])


def _schedule(share: float, warm_up: float) -> float:
    """Linear warm-up over the first `warm_up` of training, then half a cosine to zero."""
    if share < warm_up:
        return share / warm_up + 1e-3
    return 0.5 * (1 + math.cos(math.pi * (share - warm_up) / max(1 - warm_up, 1e-9)))


@torch.no_grad()
def _average(average: nn.Module, net: nn.Module, decay: float) -> None:
    """average <- decay average + (1 - decay) net; buffers (batch statistics) are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - decay)
    for mine, current in zip(average.buffers(), net.buffers(), strict=True):
        mine.copy_(current)
