"""Worlds of scored rows for `benchmarks.drift_field`, and traffic that is not independent.

A world is a fixed set of held-out rows with their scores. Reference and traffic are drawn from it
with replacement, so that they are independent draws of one distribution exactly, for as long as a
benchmark needs; a nuisance changes only how the rows follow each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from benchmarks.drift_data import classifier
from benchmarks.drift_stream import foreign_images
from benchmarks.peers import PEERS
from models.corruptions import noisy, rotated
from models.statistics.arrays import FloatArray, IntArray
from models.statistics.ranks import class_weights, rank_edges, score_weights, steady
from monitoring.evidence.bets import ChannelReference
from monitoring.scoring.channels.columns import RANKS as COLUMN_RANKS

LEAST_ROWS = 100  # of a class in the reference, before it has ranks of its own
UPPER = (0.002, 0.005, 0.01, 0.02, 0.035, 0.06, 0.1, 0.15, 0.22, 0.3, 0.38, 0.46)
CLASS_RANKS = (*UPPER, *(1 - u for u in reversed(UPPER)))  # 25 cells
Draw = Callable[[int, np.random.Generator], IntArray]  # indices of so many rows, in their order


@dataclass(frozen=True)
class Rows:
    """N rows: scores `(N, S)` and predicted classes `(N,)`."""

    scores: npt.NDArray[np.float32]
    predicted: IntArray

    def take(self, index: IntArray) -> Rows:
        """The rows at `index`."""
        return Rows(self.scores[index], self.predicted[index])

    def mixed(self, other: Rows, changed: npt.NDArray[np.bool_]) -> Rows:
        """These rows, with those of `other` where `changed` `(N,)`."""
        scores = np.where(changed[:, None], other.scores, self.scores)
        return Rows(scores, np.where(changed, other.predicted, self.predicted))


@dataclass(frozen=True)
class World:
    """Rows to draw from, the same rows after every shift, and the share of traffic it changes."""

    name: str
    channels: tuple[str, ...]
    classes: int
    clean: Rows
    shifts: dict[str, tuple[Rows, float]]

    def traffic(self, index: IntArray, shift: str, rng: np.random.Generator) -> Rows:
        """The rows at `index`, clean (``""``) or under a shift."""
        rows = self.clean.take(index)
        if not shift:
            return rows
        changed, share = self.shifts[shift]
        return rows.mixed(changed.take(index), rng.random(len(index)) < share)


def mnist() -> World:
    """The held-out rows of MNIST under a standard net, with all score channels of the product."""
    cache = PEERS / "drift_field_mnist.npz"
    names = ("noise 10/255, 10 %", "noise 10/255", "rotation 15°", "FGSM .1, 10 %", "foreign, 5 %")
    if not cache.exists():
        subject, rng = classifier("mnist"), np.random.default_rng(7)
        x, y = subject.pool_unit, subject.pool.y
        noise = subject.scored(noisy(x, 10 / 255, rng))
        parts = (
            subject.scored(x), noise, noise, subject.scored(rotated(x, 15)),
            subject.scored(subject.fgsm(x, y, 0.1)), subject.scored(foreign_images(subject, rng)),
        )  # fmt: skip
        arrays = {f"scores{k}": part.scores for k, part in enumerate(parts)}
        arrays |= {f"predicted{k}": part.predicted for k, part in enumerate(parts)}
        np.savez(cache, channels=np.array(subject.names), **arrays)
    with np.load(cache) as kept:
        rows = [Rows(kept[f"scores{k}"], kept[f"predicted{k}"]) for k in range(len(names) + 1)]
        channels = tuple(kept["channels"].tolist())
    shares = (0.1, 1.0, 1.0, 0.1, 0.05)
    shifts = dict(zip(names, zip(rows[1:], shares, strict=True), strict=True))
    return World("MNIST", channels, 10, rows[0], shifts)


def cancer(columns: int = 6) -> World:
    """scikit-learn's breast cancer table: 30 numbers, 15,000 rows by a smooth bootstrap.

    A logistic regression of the first half answers rows of the second half, to each of which normal
    noise of a tenth of a column's deviation is added. Channels: energy, distance of the row, and
    so many columns.
    """
    rng = np.random.default_rng(8)
    data = load_breast_cancer()
    order = rng.permutation(len(data.target))
    known, held = order[:284], order[284:]
    scaler = StandardScaler().fit(data.data[known])
    model = LogisticRegression(C=0.1).fit(scaler.transform(data.data[known]), data.target[known])
    inverse = np.linalg.inv(np.cov(scaler.transform(data.data[known]).T) + 0.05 * np.eye(30))

    def rows(x: FloatArray) -> Rows:
        logit = model.decision_function(x)
        distance = np.einsum("nd,de,ne->n", x, inverse, x)
        energy = -np.logaddexp(logit, -logit)
        scores = np.column_stack([energy, distance, x[:, :columns]])
        return Rows(scores.astype(np.float32), (logit > 0).astype(np.int64))

    drawn = scaler.transform(data.data[held])[rng.integers(len(held), size=15_000)]
    x = drawn + 0.1 * rng.standard_normal(drawn.shape)
    parted = np.column_stack([rng.permutation(column) for column in x.T])
    shifts = {
        "noise .3": (rows(x + 0.3 * rng.standard_normal(x.shape)), 1.0),
        "one column +.2": (rows(x + 0.2 * (np.arange(30) == 2)), 1.0),
        "columns parted, 5 %": (rows(parted), 0.05),
    }
    names = ("energy", "row_distance", *(f"column:{k}" for k in range(columns)))
    name = f"breast cancer, {columns} columns"
    return World(name, names, 2, rows(x), shifts)


@dataclass(frozen=True)
class Reference:
    """Cells of n reference rows: ranks of all rows, or of each predicted class."""

    channels: tuple[ChannelReference, ...]
    edges: tuple[tuple[FloatArray, ...], ...]  # by channel, by group
    group: IntArray  # of every class

    @classmethod
    def of(cls, world: World, rows: Rows, *, per_class: bool) -> Reference:
        """Cut the scores as the product does: a class of 100 rows or more has its own ranks."""
        counts = np.bincount(rows.predicted, minlength=world.classes)
        own = np.flatnonzero(counts >= LEAST_ROWS)
        group = np.zeros(world.classes, dtype=np.int64)
        if per_class and len(own) >= 2:
            group[:] = len(own)  # all other classes
            group[own] = np.arange(len(own))
        _, group = np.unique(group, return_inverse=True)
        channels, edges = [], []
        for name, scores in zip(world.channels, rows.scores.T, strict=True):
            parts = [scores[group[rows.predicted] == k] for k in range(group.max() + 1)]
            ranks = [CLASS_RANKS] if len(parts) > 1 else []
            if name.startswith("column:"):
                ranks = [COLUMN_RANKS]
            cut = tuple(steady(rank_edges(part, *ranks)) for part in parts)
            weights = [score_weights(p, e) for p, e in zip(parts, cut, strict=True)]
            sizes = tuple(map(len, weights)) if len(parts) > 1 else ()
            alpha = np.concatenate(weights)
            labels = tuple(f"{cell:03}" for cell in range(len(alpha)))
            channels.append(ChannelReference(name, "score", alpha, labels, sizes))
            edges.append(cut)
        labels = tuple(map(str, range(world.classes)))
        weights = class_weights(rows.predicted, world.classes)
        channels.append(ChannelReference("class", "class", weights, labels))
        return cls(tuple(channels), tuple(edges), group)

    def cells(self, rows: Rows) -> IntArray:
        """The cell `(N, C)` of every row in every channel."""
        table = []
        for cut, scores in zip(self.edges, rows.scores.T, strict=True):
            begin = np.cumsum([0, *(len(edges) + 1 for edges in cut)])
            number = self.group[rows.predicted] if len(cut) > 1 else np.zeros(len(scores), int)
            column = np.zeros(len(scores), dtype=np.int64)
            for k, edges in enumerate(cut):
                hit = number == k
                column[hit] = begin[k] + np.searchsorted(-edges, -scores[hit], side="left")
            table.append(column)
        return np.stack([*table, rows.predicted], axis=1)

    def counts(self, cells: IntArray) -> dict[str, IntArray]:
        """Counts of all the cells `(m, C)`, by channel."""
        return {
            channel.name: np.bincount(column, minlength=len(channel.alpha))
            for channel, column in zip(self.channels, cells.T, strict=True)
        }


def independent(world: World) -> Draw:
    """Every row as likely as any other."""
    return lambda n, rng: rng.integers(len(world.clean.predicted), size=n)


def cycle(world: World, length: int) -> Draw:
    """The class mix goes up and down by a fifth, each class at its own hour."""
    predicted, hours = world.clean.predicted, np.arange(world.classes) / world.classes

    def draw(n: int, rng: np.random.Generator) -> IntArray:
        index = rng.integers(len(predicted), size=2 * n)
        turn = np.arange(2 * n) / 1.2 / length  # five of six proposals are kept
        swing = 1 + 0.2 * np.sin(2 * np.pi * (turn + hours[predicted[index]]))
        return index[rng.random(2 * n) < swing / 1.2][:n]

    return draw


def retries(world: World) -> Draw:
    """A fifth of the requests is sent again at once."""

    def draw(n: int, rng: np.random.Generator) -> IntArray:
        index = rng.integers(len(world.clean.predicted), size=n)
        return np.repeat(index, 1 + (rng.random(n) < 0.2))[:n]

    return draw


def bursts(world: World) -> Draw:
    """A tenth of the traffic comes in bursts: 30 different rows of one predicted class."""
    predicted = world.clean.predicted
    members = [np.flatnonzero(predicted == k) for k in range(world.classes)]

    def draw(n: int, rng: np.random.Generator) -> IntArray:
        parts: list[IntArray] = []
        for index in rng.integers(len(predicted), size=n):
            burst = rng.random() < 0.1 / 30 / 0.9
            own = members[predicted[index]]
            parts.append(own[rng.integers(len(own), size=30)] if burst else index[None])
            if len(parts) % 1000 == 0 and sum(map(len, parts)) >= n:
                break
        return np.concatenate(parts)[:n]

    return draw


def autocorrelated(world: World) -> Draw:
    """The rank of the first score is a normal AR(1) with coefficient .5."""
    order = np.argsort(world.clean.scores[:, 0], kind="stable")

    def draw(n: int, rng: np.random.Generator) -> IntArray:
        steps = rng.standard_normal(n) * 0.75**0.5
        state, values = rng.standard_normal(), np.empty(n)
        for k, step in enumerate(steps):
            values[k] = state = 0.5 * state + step
        return order[(norm.cdf(values) * len(order)).astype(np.int64)]  # the marginal law stays

    return draw
