"""Auto-PGD (Croce & Hein 2020, "Reliable evaluation of adversarial robustness", section 3)."""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from models.attacks.base import LogitsOf, Loss, column, cross_entropy, margin, value_and_gradient
from models.attacks.threat import Threat

RHO = 0.75
MOMENTUM = 0.75
WINDOW = 10  # steps over which a row's climb is judged, at least
HOPE = 0.05  # a row this close to the boundary is never given up, in units of the loss


def checkpoints(steps: int) -> list[int]:
    """Iterations at which the step size is reviewed: p_0 = 0, p_1 = .22, falling increments."""
    p = [0.0, 0.22]
    while p[-1] < 1:
        p.append(p[-1] + max(p[-1] - p[-2] - 0.03, 0.06))
    return [math.ceil(round(q * steps, 9)) for q in p if q <= 1]  # .57 is .5700000000000001


def apgd(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 100,
    loss: Loss = cross_entropy,
    aim: Tensor | None = None,
    start: Tensor | None = None,
    stop_when_wrong: bool = False,
    give_up: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Auto-PGD: momentum, and a step of 2 eps that halves per row when progress stalls.

    At a checkpoint a row halves its step and returns to its best point when fewer than 75 % of
    the steps since the last one raised the loss, or when neither step nor best value changed.

    Args:
        logits_of, x, y, threat, steps, loss, generator: as for `models.attacks.gradient.pgd.pgd`.
        aim: `(N, ...)` what the loss takes beside the logits; `y` by default.
        start: `(N, ...)` inside the threat model; a random point by default.
        stop_when_wrong: a row that is misclassified leaves the batch, so that the rest goes
            faster; otherwise it goes on to widen its margin.
        give_up: a row leaves the batch that would not get to the boundary by the last step even
            if it climbed twice as fast as in the last tenth of the steps, and has more than `HOPE`
            to go. For losses that are 0 on the boundary and free of scale (`dlr_targeted`).

    Returns:
        `x_adv` of the shape of `x`: per row the point of the largest margin that was seen.
    """
    x_now = threat.random(x, generator) if start is None else start.clone()
    rows = _Rows.begin(logits_of, x, y, y if aim is None else aim, x_now, loss, threat.eps)
    x_adv, review, last = x_now.clone(), checkpoints(steps), 0
    window = max(steps // 10, WINDOW)
    for step in range(1, steps + 1):
        rows.advance(logits_of, threat, loss, 1.0 if step == 1 else MOMENTUM)
        if step in review:
            rows.review(step - last)
            last = step
        gone = torch.zeros_like(rows.halved)
        if stop_when_wrong:
            gone |= rows.widest > 0
        if give_up and step % window == 0:
            gone |= rows.hopeless((steps - step) / window, first=step == window)
        if gone.any():
            x_adv[rows.place[gone]] = rows.x_adv[gone]
            rows = rows.take(~gone)
        if len(rows.x) == 0:
            break
    x_adv[rows.place] = rows.x_adv
    return x_adv


@dataclass
class _Rows:
    """The state of the rows still in the climb; `place` is where they stand in the batch."""

    place: Tensor
    x: Tensor
    y: Tensor
    aim: Tensor
    now: Tensor
    before: Tensor
    value: Tensor
    gradient: Tensor
    x_best: Tensor
    best: Tensor
    gradient_best: Tensor
    x_adv: Tensor
    widest: Tensor
    size: Tensor
    raised: Tensor
    halved: Tensor
    best_then: Tensor
    best_window: Tensor

    @classmethod
    def begin(
        cls,
        logits_of: LogitsOf,
        x: Tensor,
        y: Tensor,
        aim: Tensor,
        now: Tensor,
        loss: Loss,
        eps: float,
    ) -> "_Rows":
        """All rows at the start, with a step of 2 eps."""
        value, gradient, logits = value_and_gradient(logits_of, now, aim, loss)
        count = len(x)
        return cls(
            place=torch.arange(count, device=x.device),
            x=x,
            y=y,
            aim=aim,
            now=now,
            before=now,
            value=value,
            gradient=gradient,
            x_best=now,
            best=value,
            gradient_best=gradient,
            x_adv=now,
            widest=margin(logits, y),
            size=x.new_full((count,), 2 * eps),
            raised=torch.zeros(count, dtype=torch.int64, device=x.device),
            halved=torch.zeros(count, dtype=torch.bool, device=x.device),
            best_then=value,
            best_window=value,
        )

    def take(self, keep: Tensor) -> "_Rows":
        """The rows `keep`."""
        return _Rows(*(getattr(self, field.name)[keep] for field in fields(self)))

    def advance(self, logits_of: LogitsOf, threat: Threat, loss: Loss, momentum: float) -> None:
        """One step with momentum, and the best points so far."""
        shape = column(self.x)
        ahead = threat.project(threat.step(self.now, self.gradient, self.size.view(shape)), self.x)
        if momentum < 1:
            drift = momentum * (ahead - self.now) + (1 - momentum) * (self.now - self.before)
            ahead = threat.project(self.now + drift, self.x)
        self.before, self.now, value_before = self.now, ahead, self.value
        self.value, self.gradient, logits = value_and_gradient(logits_of, self.now, self.aim, loss)
        self.raised += self.value > value_before
        better = self.value > self.best
        self.best = torch.where(better, self.value, self.best)
        self.x_best = torch.where(better.view(shape), self.now, self.x_best)
        self.gradient_best = torch.where(better.view(shape), self.gradient, self.gradient_best)
        width = margin(logits, self.y)
        wider = width > self.widest
        self.widest = torch.where(wider, width, self.widest)
        self.x_adv = torch.where(wider.view(shape), self.now, self.x_adv)

    def review(self, count: int) -> None:
        """Halve the step and return to the best point where the last `count` steps stalled."""
        halve = (self.raised < RHO * count) | (~self.halved & (self.best_then >= self.best))
        back = halve.view(column(self.x))
        self.size = torch.where(halve, self.size / 2, self.size)
        self.now = torch.where(back, self.x_best, self.now)
        self.gradient = torch.where(back, self.gradient_best, self.gradient)
        self.value = torch.where(halve, self.best, self.value)
        self.halved, self.best_then = halve, self.best
        self.raised = torch.zeros_like(self.raised)

    def hopeless(self, windows: float, *, first: bool) -> Tensor:
        """Rows `(n,)` that twice the climb of the last window would not save in `windows` more."""
        gain, self.best_window = self.best - self.best_window, self.best
        return (-self.best > HOPE + 2 * windows * gain) & (not first)
