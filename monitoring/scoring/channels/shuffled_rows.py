"""How much a table's row looks like one whose columns come from different rows.

A small net tells training rows from rows that are put together from the columns of many, and from
rows drawn evenly from the box of the ranges: the density ratio by classification (Hastie,
Tibshirani & Friedman 2009, section 14.2.4). It is trained with NumPy.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from scipy.linalg import block_diag
from scipy.special import expit, ndtri

from models.statistics.arrays import FloatArray, IntArray
from models.versions.schema import Column, InputSchema
from monitoring.scoring.channels.table_cuts import choose_together, cut_column, few_values
from monitoring.scoring.graph import GraphBuilder
from monitoring.scoring.inputs import PlainAnswers, Tensors

HIDDEN = 64
KNOTS = 16  # of the normal score of a number
STEPS, BATCH, RATE, DECAY = 800, 256, 1e-2, 0.2
BOX_ROWS = 1024  # values of every column that box rows are put together from
NARROW = 1e-30  # the least width of a ramp, so that its slope is finite


@dataclass(frozen=True)
class ShuffledRow:
    """Log-odds that a row is shuffled, w2 relu(r W1 + b1) + b2 over F ramps and G gaps.

    r_f = clip((x - knot_f) / width_f, 0, 1) of its column. Ramps between the knots of a number,
    each times the rise of the normal score between them, add up to that score (rank-normal); a
    ramp before the code of a category is the step at it. A missing value has the ramps of the
    column's median (or category -1), and a gap of 1 where the column allows it.

    Args:
        places: `(F,)` the column of each ramp.
        knots: `(F,)`.
        slopes: `(F,)` 1 / width.
        fill: `(F,)` stands for a missing value.
        gaps: `(G,)` columns that may miss values.
        w1: `(F + G, 64)`, what the ramps are scaled by folded in.
        b1: `(64,)`.
        w2: `(64, 1)`.
        b2: `(1,)`.
    """

    places: IntArray
    knots: npt.NDArray[np.float32]
    slopes: npt.NDArray[np.float32]
    fill: npt.NDArray[np.float32]
    gaps: IntArray
    w1: npt.NDArray[np.float32]
    b1: npt.NDArray[np.float32]
    w2: npt.NDArray[np.float32]
    b2: npt.NDArray[np.float32]
    name: str = "shuffled_row"

    @classmethod
    def fit(cls, schema: InputSchema, x_unit: FloatArray, seed: int = 0) -> "ShuffledRow | None":
        """From training rows `(R, D)`; None where fewer than two columns vary."""
        ramps = _Ramps.of(schema, x_unit)
        if len(np.unique(ramps.owners)) < 2:
            return None
        rng = np.random.default_rng(seed)
        real, box = ramps.inputs(x_unit), ramps.inputs(_draw_box(schema, x_unit, rng))
        w1, b1, w2, b2 = _train(real, box, ramps.owners, rng)
        first, b1, w2, b2 = (a.astype(np.float32) for a in (ramps.tie @ w1, b1, w2, b2))
        parts = (ramps.places, ramps.knots, ramps.slopes, ramps.fill, ramps.gaps)
        return cls(*parts, first, b1, w2, b2)

    def scores(self, rows: PlainAnswers) -> FloatArray:
        """`(N,)`, about 0 where neither is likelier."""
        r = _raise_ramps(rows.x_unit, self.places, self.knots, self.slopes, self.fill, self.gaps)
        told: FloatArray = np.maximum(r @ self.w1 + self.b1, 0) @ self.w2 + self.b2
        return told[:, 0].astype(np.float64)

    def emit(self, graph: GraphBuilder, tensors: Tensors) -> str:
        """`(N, 1)`."""
        x = graph.op("Gather", tensors.x_unit, graph.const(self.places), axis=1)
        known = graph.op("Where", graph.op("IsNaN", x), graph.const(self.fill), x)
        offset = graph.op("Sub", known, graph.const(self.knots))
        rise = graph.op("Mul", offset, graph.const(self.slopes))
        r = graph.op("Clip", rise, graph.const(np.float32(0)), graph.const(np.float32(1)))
        if len(self.gaps):
            some = graph.op("Gather", tensors.x_unit, graph.const(self.gaps), axis=1)
            gap = graph.op("Cast", graph.op("IsNaN", some), to=onnx.TensorProto.FLOAT)
            r = graph.op("Concat", r, gap, axis=1)
        hidden = graph.op("Gemm", r, graph.const(self.w1), graph.const(self.b1))
        return graph.op(
            "Gemm", graph.op("Relu", hidden), graph.const(self.w2), graph.const(self.b2)
        )


@dataclass(frozen=True)
class _Ramps:
    """The ramps of all columns, and the inputs P of the net that they add up to."""

    places: IntArray  # (F,)
    knots: npt.NDArray[np.float32]  # (F,)
    slopes: npt.NDArray[np.float32]  # (F,)
    fill: npt.NDArray[np.float32]  # (F,)
    gaps: IntArray  # (G,)
    tie: FloatArray  # (F + G, P)
    owners: IntArray  # (P,) the column of each input

    @classmethod
    def of(cls, schema: InputSchema, x_unit: FloatArray) -> "_Ramps":
        """Those of the columns that vary in training rows `(R, D)`."""
        together = choose_together(schema, x_unit)
        gaps = [j for j in together if schema.columns[j].missing and np.isnan(x_unit[:, j]).any()]
        cut = {j: _cut_ramps(schema.columns[j], x_unit[:, j]) for j in together}
        cut = {j: ramps for j, ramps in cut.items() if len(ramps[1])}
        ends = np.concatenate([np.zeros((0, 2)), *(e for e, _, _ in cut.values())])
        knots, tops = ends.astype(np.float32).T
        return cls(
            places=np.repeat(list(cut), [len(tie) for _, tie, _ in cut.values()]).astype(np.int64),
            knots=knots,
            slopes=(1 / np.maximum(tops - knots, NARROW)).astype(np.float32),
            fill=np.repeat(
                [middle for _, _, middle in cut.values()], [len(tie) for _, tie, _ in cut.values()]
            ).astype(np.float32),
            gaps=np.array(gaps, np.int64),
            tie=block_diag(*(tie for _, tie, _ in cut.values()), np.eye(len(gaps))),
            owners=np.array(
                [j for j, (_, tie, _) in cut.items() for _ in range(tie.shape[1])] + gaps, np.int64
            ),
        )

    def inputs(self, x_unit: FloatArray) -> npt.NDArray[np.float32]:
        """`(N, P)` of rows `(N, D)`."""
        r = _raise_ramps(x_unit, self.places, self.knots, self.slopes, self.fill, self.gaps)
        return (r @ self.tie).astype(np.float32)


def _cut_ramps(column: Column, values: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    """Ends `(F, 2)` of the ramps of a column, what they add up to `(F, P)`, and what fills a gap.

    A number of many values: one input, its normal score. One of few, or a category: a step each.
    """
    known = np.sort(values[np.isfinite(values)].astype(np.float32))
    if column.kind == "categorical":
        steps = cut_column(column, values)[1:-1] - 0.5  # -.5, .5, ...: full at the code above
        ends = np.stack([steps, steps + 1], axis=1)
        return ends, np.eye(len(ends)), -1.0
    different = np.unique(known)
    if len(different) < 2:
        return np.zeros((0, 2)), np.zeros((0, 0)), 0.0
    middle = float(np.quantile(known, 0.5, method="inverted_cdf"))
    if (few := few_values(known)) is not None:
        ends = np.stack([few[:-1], few[1:]], axis=1)
        return ends, np.eye(len(ends)), middle
    levels = np.linspace(0, 1, KNOTS + 1)
    knots = np.unique(np.quantile(known, levels, method="inverted_cdf"))
    rank = (np.searchsorted(known, knots, "left") + np.searchsorted(known, knots, "right")) / 2
    scores = ndtri(np.clip(rank, 0.5, len(known) - 0.5) / len(known))
    ends = np.stack([knots[:-1], knots[1:]], axis=1)
    return ends, np.diff(scores)[:, None], middle


def _raise_ramps(
    x_unit: FloatArray,
    places: IntArray,
    knots: FloatArray,
    slopes: FloatArray,
    fill: FloatArray,
    gaps: IntArray,
) -> npt.NDArray[np.float32]:
    """Ramps and gaps `(N, F + G)` of rows `(N, D)`."""
    x = x_unit[:, places].astype(np.float32)
    with np.errstate(over="ignore"):
        r = np.clip((np.where(np.isnan(x), fill, x) - knots) * slopes, 0, 1)
    return np.concatenate([r, np.isnan(x_unit[:, gaps])], axis=1).astype(np.float32)


def _draw_box(
    schema: InputSchema, x_unit: FloatArray, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """`(1024, D)`: numbers even over their range in training, categories even over the seen ones.

    So are numbers of few values. Values are missing as often as in training.
    """
    box = np.empty((BOX_ROWS, x_unit.shape[1]), dtype=np.float32)
    for j, column in enumerate(schema.columns):
        known = x_unit[np.isfinite(x_unit[:, j]), j]
        if len(known) == 0:
            box[:, j] = np.nan
        elif column.kind == "categorical" or few_values(known) is not None:
            box[:, j] = rng.choice(np.unique(known), BOX_ROWS)
        else:
            box[:, j] = rng.uniform(known.min(), known.max(), BOX_ROWS)
        box[rng.random(BOX_ROWS) >= len(known) / len(x_unit), j] = np.nan
    return box


def _train(
    real: FloatArray, box: FloatArray, owners: IntArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Weights of the net, standardisation folded in: AdamW on the cross-entropy.

    Half of a batch are real rows, a quarter has every column from another row, a quarter is from
    the box.

    Args:
        real: `(R, P)` inputs of training rows.
        box: `(B, P)` of rows from the box.
        owners: `(P,)` columns: inputs of one column are taken from one row.
        rng: of weights, batches and shuffles.
    """
    mean, std = real.mean(axis=0), np.maximum(real.std(axis=0), 0.05)
    real, box = (real - mean) / std, (box - mean) / std
    width, group = real.shape[1], np.unique(owners, return_inverse=True)[1]
    columns, every = int(group.max()) + 1, np.arange(width)
    w = [
        rng.normal(0, np.sqrt(2 / width), (width, HIDDEN)).astype(np.float32),
        np.zeros(HIDDEN, np.float32),
        rng.normal(0, np.sqrt(1 / HIDDEN), (HIDDEN, 1)).astype(np.float32),
        np.zeros(1, np.float32),
    ]
    target = np.repeat(np.array([0, 1, 1], np.float32), [BATCH // 2, BATCH // 4, BATCH // 4])[
        :, None
    ]
    optimiser = _AdamW(w)
    for step in range(STEPS):
        own = real[rng.integers(len(real), size=BATCH // 2)]
        apart = real[rng.integers(len(real), size=(BATCH // 4, columns))[:, group], every]
        even = box[rng.integers(len(box), size=(BATCH // 4, columns))[:, group], every]
        x = np.concatenate([own, apart, even])
        hidden = np.maximum(x @ w[0] + w[1], 0)
        slope = (expit(hidden @ w[2] + w[3]) - target) / BATCH
        back = (slope @ w[2].T) * (hidden > 0)
        gradients = [x.T @ back, back.sum(axis=0), hidden.T @ slope, slope.sum(axis=0)]
        optimiser.move(gradients, RATE * (1 - step / STEPS))
    first = w[0] / std[:, None]
    return first, w[1] - mean @ first, w[2], w[3]


class _AdamW:
    """Loshchilov & Hutter 2019; moves the arrays that it is given, and decays the matrices."""

    def __init__(self, arrays: list[npt.NDArray[np.float32]]) -> None:
        self._arrays, self._step = arrays, 0
        self._first = [np.zeros_like(a) for a in arrays]
        self._second = [np.zeros_like(a) for a in arrays]

    def move(self, gradients: list[npt.NDArray[np.float32]], rate: float) -> None:
        """One step against the gradients."""
        self._step += 1
        rise, spread = 1 - 0.9**self._step, 1 - 0.999**self._step
        for a, g, m, v in zip(self._arrays, gradients, self._first, self._second, strict=True):
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            if a.ndim == 2:
                a *= 1 - rate * DECAY
            a -= rate * (m / rise) / (np.sqrt(v / spread) + 1e-8)
