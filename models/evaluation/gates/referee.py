"""The referee: the anchor, fine-tuned on trusted rows alone so that it knows them moved.

The anchor is the last version that a person approved. It never sees a label of the window, so
whoever writes labels cannot teach it.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.data import DataSet, Rows
from models.evaluation.gates.contradictions import count_confident
from models.evaluation.gates.near import Nearness, fit_nearness
from models.evaluation.subject import CHUNK, Subject, answer, tensors
from models.statistics.arrays import FloatArray, IntArray
from models.versions.schema import InputArray, InputSchema

MOVED_COPIES = 2
STEPS, BATCH, LEARNING_RATE = 500, 64, 1e-3
Change = Callable[[InputArray, np.random.Generator], InputArray]  # of raw rows
TURN, SHIFT = math.radians(32), 0.125  # at most; a shift as a share of the width
CONTRAST, BRIGHTNESS, NOISE = 0.4, 0.15, 0.15
MOST_BLUR = 2  # passes of a 3 x 3 box


@dataclass(frozen=True)
class Opinion:
    """What the referee thinks of the rows of a window, and how it errs elsewhere.

    Args:
        probabilities: `(N, C)` of the rows.
        usual: `(C, C)` confusion on held-out rows, as they are and moved (`count_confident`).
        nearness: by its features of raw rows, which rows are near each other; None of a graph that
            has none.
    """

    probabilities: FloatArray
    usual: IntArray
    nearness: Nearness | None = None


@dataclass(frozen=True)
class Referee:
    """A referee: made once (`make_referee`), and asked about rows.

    Args:
        answers: raw rows `(N, *shape)`, at least one, to probabilities `(N, C)`.
        usual: `(C, C)` its confusion on held-out rows (`count_confident`).
        nearness: as of `Opinion`.
    """

    answers: Callable[[InputArray], FloatArray]
    usual: IntArray
    nearness: Nearness | None = None

    def ask(self, x: InputArray) -> Opinion:
        """Its opinion of raw rows `x` `(N, *shape)`."""
        if not len(x):
            return Opinion(np.zeros((0, len(self.usual))), self.usual, self.nearness)
        return Opinion(self.answers(x), self.usual, self.nearness)


def make_referee(
    anchor: Subject, data: DataSet, seed: int = 0, change: Change | None = None
) -> Referee:
    """Fine-tune the anchor, and count how it errs where labels are right.

    Args:
        anchor: with a net; a wrapped graph cannot be fine-tuned and answers as it is.
        data: whose labels are trusted: it is fine-tuned on the training part, and its errors are
            counted on the two others.
        seed: of the fine-tuning.
        change: makes trusted rows like those of the window, as far as inputs tell; it was chosen
            without a label.
    """
    held, schema = data.calibration.joined(data.test), anchor.schema
    if anchor.net is None:

        def answers(x: InputArray) -> FloatArray:
            return answer(anchor.runner, x).probabilities

        return Referee(answers, count_confident(answers(held.x), held.y))
    net = fine_tune(anchor.net, schema, data.train, seed, change)
    return Referee(
        partial(probabilities_of, net, schema),
        count_usual(net, schema, held, seed, change),
        fit_nearness(partial(features_of, net, schema), held),
    )


def count_usual(
    net: nn.Module,
    schema: InputSchema,
    held: Rows,
    seed: int = 0,
    change: Change | None = None,
) -> IntArray:
    """Its confusion `(C, C)` on held-out rows, as they are and in moved copies.

    Where a change matches the window, on changed copies alone: an error that is usual there is not
    usual elsewhere.
    """
    generator, move = torch.Generator().manual_seed(seed), _mover(schema)
    x_unit = torch.from_numpy(schema.to_unit(held.x))
    copies = [x_unit, *(move(x_unit, generator) for _ in range(MOVED_COPIES))]
    if change is not None:
        rng = np.random.default_rng(seed)
        changed = (change(held.x, rng) for _ in range(MOVED_COPIES))
        copies = [torch.from_numpy(schema.to_unit(x)) for x in changed]
    probabilities = np.concatenate([_ask(net, x) for x in copies])
    return count_confident(probabilities, np.tile(held.y, len(copies)))


def probabilities_of(net: nn.Module, schema: InputSchema, x: InputArray) -> FloatArray:
    """Probabilities `(N, C)` of a net for raw rows `x`, at least one."""
    return _ask(net, torch.from_numpy(schema.to_unit(x)))


def features_of(net: nn.Module, schema: InputSchema, x: InputArray) -> FloatArray:
    """Features `(N, F)` of a net for raw rows `x`, at least one."""
    with torch.no_grad():
        x_unit = torch.from_numpy(schema.to_unit(x))
        parts = [net(part)[1].flatten(1) for part in torch.split(x_unit, CHUNK)]
    return np.asarray(torch.cat(parts).numpy())


def _ask(net: nn.Module, x_unit: Tensor) -> FloatArray:
    with torch.no_grad():
        parts = [net(part)[0].softmax(dim=1) for part in torch.split(x_unit, CHUNK)]
    return np.asarray(torch.cat(parts).numpy())


def _mover(schema: InputSchema) -> Callable[[Tensor, torch.Generator], Tensor]:
    return move_images if schema.kind == "image" else move_tables


def fine_tune(
    anchor: nn.Module,
    schema: InputSchema,
    trusted: Rows,
    seed: int = 0,
    change: Change | None = None,
) -> nn.Module:
    """A copy of the anchor, trained on moved copies of the trusted rows; in eval mode.

    Where a change matches the window, half of each batch is changed so, anew each time.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = copy.deepcopy(anchor).requires_grad_(True).train()
    x, y = tensors(net, schema, trusted)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    move = _mover(schema)
    for _ in range(STEPS):
        batch = torch.randint(0, len(x), (min(BATCH, len(x)),), generator=generator)
        moved = move(x[batch], generator)
        if change is not None:
            half = len(batch) // 2
            moved[:half] = torch.from_numpy(schema.to_unit(change(trusted.x[batch[:half]], rng)))
        loss = F.cross_entropy(net(moved)[0], y[batch])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return net.eval().requires_grad_(False)


def move_images(x_unit: Tensor, generator: torch.Generator) -> Tensor:
    """Images `(N, C, H, W)` turned, shifted, blurred, in another light, and with noise."""
    n = len(x_unit)

    def draw(most: float) -> Tensor:
        return most * (2 * torch.rand(n, generator=generator) - 1)

    angle, right, down = draw(TURN), draw(2 * SHIFT), draw(2 * SHIFT)
    cos, sin = torch.cos(angle), torch.sin(angle)
    theta = torch.stack([cos, -sin, right, sin, cos, down], dim=1).view(n, 2, 3)
    grid = F.affine_grid(theta, list(x_unit.shape), align_corners=False)
    x = F.grid_sample(x_unit, grid, align_corners=False)
    column = (n, 1, 1, 1)
    blur = MOST_BLUR * (2 * torch.rand(column, generator=generator) - 1)  # none for half of them
    for passed in range(MOST_BLUR):
        x = x + (blur - passed).clamp(0, 1) * (F.avg_pool2d(x, 3, 1, 1) - x)
    x = (x - 0.5) * (1 + draw(CONTRAST).view(column)) + 0.5 + draw(BRIGHTNESS).view(column)
    sigma = NOISE * torch.rand(column, generator=generator)
    return (x + sigma * torch.randn(x.shape, generator=generator)).clamp(0, 1)


def move_tables(x_unit: Tensor, generator: torch.Generator) -> Tensor:
    """Rows of a table `(N, F)` with noise of up to a tenth of each column's range."""
    sigma = 0.1 * torch.rand((len(x_unit), 1), generator=generator)
    return x_unit + sigma * torch.randn(x_unit.shape, generator=generator)
