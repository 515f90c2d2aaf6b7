"""Training of the perturbation head: filters and classifier together, by gradient descent.

Needs torch, which is imported only here and only when a head is fitted.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from models.statistics.arrays import FloatArray, IntArray
from monitoring.scoring.channels.image_statistics import CAP
from monitoring.scoring.perturbation.filters import Filters
from monitoring.scoring.perturbation.head import HIDDEN, SHARES, PerturbationHead
from monitoring.scoring.pieces import Part

LEARNED = 8  # filters beside those of the statistics
STEPS, BATCH, RATE, DECAY = 1500, 256, 4e-3, 1e-2
DROPPED, DROPPED_HIDDEN = 0.2, 0.3  # shares of evidence and hidden units that a batch leaves out
LEAST_SPREAD, LEAST_ANSWER = 1e-4, 1e-2  # of evidence and of filters' answers, of 1 + their mean
LOOKED_AT = 2000  # rows that the scale of the evidence is taken from
PIECE = 2**20  # values of images that the fixed filters are asked for at once


def fit_with_filters(
    evidence: FloatArray,
    kind: IntArray,
    x_unit: FloatArray | None,
    *,
    seed: int,
    part_done: Part = lambda *_: None,
) -> tuple[Filters | None, PerturbationHead]:
    """Fit filters on the images and the classifier on the evidence and what the filters give.

    AdamW with a cosine schedule on the cross-entropy and dropout (few images stand behind many
    rows), 1500 batches of 256 rows.

    Args:
        evidence: `(N, P)`.
        kind: `(N,)` in {0, 1, 2}; rows are drawn so that they have the shares 1/4, 1/4, 1/2.
        x_unit: `(N, C, H, W)` in [0, 1]; None for tables, which have no filters.
        seed: of weights and batches.
        part_done: called with how many of the batches are done, and how many there are.

    Returns:
        The filters, those of the statistics first (None without images), and a head on
        `(P + 2 K,)`: evidence, then filters.
    """
    import torch
    from torch.nn import functional as F

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if x_unit is not None:
            evidence = np.concatenate([evidence, _fixed_answers(x_unit)], axis=1)
        net = _net(evidence, x_unit)
        rng = np.random.default_rng(seed)
        share = (np.asarray(SHARES) / np.maximum(np.bincount(kind, minlength=3), 1))[kind]
        order = _draw(share, rng, STEPS * BATCH + LOOKED_AT)
        net.scale_by(*_batch(order[:LOOKED_AT], evidence, x_unit))
        net.train()
        optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
        for number, rows in enumerate(np.split(order[LOOKED_AT:], STEPS)):
            part_done(number, STEPS)
            target = torch.from_numpy(kind[rows].astype(np.int64))
            loss = F.cross_entropy(net(*_batch(rows, evidence, x_unit)), target)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return net.filters(), net.head()


def _fixed_answers(x_unit: FloatArray) -> FloatArray:
    """What the filters of the statistics give, `(N, 2 K)`: they are never trained."""
    fixed = Filters.fixed(x_unit.shape[1])
    rows = max(1, PIECE // x_unit[0].size)
    pieces = [fixed.pool(x_unit[k : k + rows]) for k in range(0, len(x_unit), rows)]
    return np.concatenate(pieces)


def _draw(share: FloatArray, rng: np.random.Generator, count: int) -> npt.NDArray[np.intp]:
    """`count` rows, each with a probability in proportion to its share."""
    cumulative = np.cumsum(share, dtype=np.float64)
    drawn = np.searchsorted(cumulative, rng.random(count) * cumulative[-1], side="right")
    rows: npt.NDArray[np.intp] = np.minimum(drawn, len(share) - 1)
    return rows


def _batch(
    rows: npt.NDArray[np.intp], evidence: FloatArray, x_unit: FloatArray | None
) -> tuple[Any, Any]:
    import torch

    images = None if x_unit is None else torch.from_numpy(x_unit[rows])
    return torch.from_numpy(evidence[rows].astype(np.float32)), images


def _net(evidence: FloatArray, x_unit: FloatArray | None) -> Any:
    """The head as a torch module (its class needs torch, so it is made here)."""
    import torch
    from torch import Tensor, nn
    from torch.nn import functional as F

    class Net(nn.Module):
        mean: Tensor
        std: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.conv, width, self.fixed = None, evidence.shape[1], 0
            if x_unit is not None:
                self.fixed = len(Filters.fixed(x_unit.shape[1]).bias)
                self.conv = nn.Conv2d(x_unit.shape[1], LEARNED, 3)
                width += 2 * LEARNED
            self.register_buffer("mean", torch.zeros(width))
            self.register_buffer("std", torch.ones(width))
            self.first, self.second = nn.Linear(width, HIDDEN), nn.Linear(HIDDEN, 3)

        def joined(self, rows: Tensor, images: Tensor | None) -> Tensor:
            if self.conv is None or images is None:
                return rows
            answers = self.conv(images).clamp(0, CAP)
            return torch.cat([rows, answers.mean((2, 3)), answers.amax((2, 3))], dim=1)

        def forward(self, rows: Tensor, images: Tensor | None) -> Tensor:
            scaled = (self.joined(rows, images) - self.mean) / self.std
            hidden = torch.relu(self.first(F.dropout(scaled, DROPPED, self.training)))
            logits: Tensor = self.second(F.dropout(hidden, DROPPED_HIDDEN, self.training))
            return logits

        @torch.no_grad()
        def scale_by(self, rows: Tensor, images: Tensor | None) -> None:
            seen = self.joined(rows, images)
            self.mean.copy_(seen.mean(0))
            least = torch.full_like(self.std, LEAST_SPREAD)
            answers = 2 * (self.fixed + LEARNED) if self.conv is not None else 0
            least[len(least) - answers :] = LEAST_ANSWER  # some filters answer nearly all alike
            self.std.copy_(seen.std(0) + least * (1 + seen.abs().mean(0)))

        @torch.no_grad()
        def filters(self) -> Filters | None:
            if self.conv is None or x_unit is None:
                return None
            assert self.conv.bias is not None
            fixed = Filters.fixed(x_unit.shape[1])
            kernels, bias = self.conv.weight.numpy(), self.conv.bias.numpy()
            return Filters(
                np.concatenate([fixed.kernels, kernels]), np.concatenate([fixed.bias, bias])
            )

        @torch.no_grad()
        def head(self) -> PerturbationHead:
            w1 = self.first.weight.double() / self.std
            b1 = self.first.bias - w1 @ self.mean.double()
            arrays = (w1.T[self.order()], b1, self.second.weight.T, self.second.bias)
            return PerturbationHead(*(a.float().contiguous().numpy() for a in arrays))

        def order(self) -> Tensor:
            """Places of evidence, all filters' means and all filters' largest answers."""
            count, known = self.fixed, len(self.mean) - 2 * LEARNED
            places = torch.arange(len(self.mean))
            if self.conv is None:
                return places
            own, fixed = places[known:], places[known - 2 * count : known]
            parts = [places[: known - 2 * count], fixed[:count], own[:LEARNED]]
            return torch.cat([*parts, fixed[count:], own[LEARNED:]])

    return Net()
