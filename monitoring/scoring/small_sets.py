"""The drift p-value of a table with few rows: every row is calibrated on, none on itself.

Of 400 rows 80 are held out, and of 80 the rarest is 1 in 81: at 1 % none could be flagged. Here the
rows are dealt into five folds; channels that are fitted on four score the fifth (jackknife; Vovk
2015, "Cross-conformal predictors"), and one set of channels that is fitted on all rows is served:
p = (1 + #{rows at least as strange}) / (n + 1). Only channels of the columns take part: the model
has seen its training rows, so its own uncertainty about them says nothing of fresh ones.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from models.statistics.arrays import FloatArray, IntArray
from models.versions.schema import InputArray, InputSchema
from monitoring.scoring.channels.catalogue import Fitting, column_channels
from monitoring.scoring.channels.table_statistics import TableStatistics
from monitoring.scoring.drift_score import emit_p_value, fit_strangeness
from monitoring.scoring.graph import GraphBuilder
from monitoring.scoring.inputs import PlainAnswers, ScoreChannel, Tensors

FOLDS = 5
ENOUGH = 99  # rows from which the rarest is 1 in 100


@dataclass(frozen=True)
class DriftRows:
    """All raw rows `(n, D)` of a small table; `tested`: the test rows are not among them."""

    x: InputArray
    tested: bool = True


@dataclass(frozen=True)
class Columns:
    """The channels of a table's columns, without a model."""

    table: TableStatistics
    channels: tuple[ScoreChannel, ...]

    @classmethod
    def fit(cls, schema: InputSchema, x_unit: FloatArray, seed: int) -> "Columns":
        """From rows `(R, D)`."""
        table = TableStatistics.fit(schema, x_unit)
        rows = Fitting(x_unit=x_unit, table=table, schema=schema, seed=seed)
        return cls(table, tuple(column_channels(rows)))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the channels, in their order."""
        return tuple(channel.name for channel in self.channels)

    def only(self, names: Collection[str]) -> "Columns":
        """The channels of these names."""
        return Columns(self.table, tuple(c for c in self.channels if c.name in names))

    def scores(self, x_unit: FloatArray) -> FloatArray:
        """`(N, S)` of rows `(N, D)`."""
        nothing = np.zeros((len(x_unit), 0), dtype=np.float32)
        rows = PlainAnswers(x_unit, nothing, nothing)
        return np.stack([c.scores(rows) for c in self.channels], axis=1)

    def emit(self, graph: GraphBuilder, x_unit: str) -> str:
        """Nodes for `scores`."""
        tensors = Tensors(x_unit, "", "", "", self.table.emit(graph, x_unit))
        parts = [c.emit(graph, tensors) for c in self.channels]
        return graph.op("Concat", *parts, axis=1)


def emit_jackknife(
    graph: GraphBuilder,
    schema: InputSchema,
    x_unit: str,
    predicted: str,
    rows: tuple[FloatArray, IntArray],
    classes: int,
    seed: int,
) -> str:
    """Nodes for the p-value `(N,)` of a table, calibrated by the jackknife.

    Args:
        graph: is grown.
        schema: a table's.
        x_unit: tensor `(N, D)`.
        predicted: tensor `(N, 1)`, the class of each row.
        rows: `(n, D)` all rows in the unit range, and `(n,)` their predicted classes.
        classes: how many there are.
        seed: of folds and channels.
    """
    columns, apart = cross_fit(schema, rows[0], seed)
    width = len(schema.columns)
    measure = fit_strangeness("tabular", columns.names, apart, rows[1], classes, width)
    held = measure.of(apart, rows[1])
    return emit_p_value(graph, columns.emit(graph, x_unit), predicted, measure, held)


def cross_fit(schema: InputSchema, x_unit: FloatArray, seed: int) -> tuple[Columns, FloatArray]:
    """Channels fitted on all rows `(n, D)`, and scores `(n, S)` of each row by those of its fold.

    The channels of a fold have not seen its rows. A channel that some fold lacks is left out.
    """
    fold = np.random.default_rng(seed).permutation(len(x_unit)) % FOLDS
    whole = Columns.fit(schema, x_unit, seed)
    parts = [Columns.fit(schema, x_unit[fold != k], seed) for k in range(FOLDS)]
    common = set(whole.names).intersection(*(part.names for part in parts))
    whole, parts = whole.only(common), [part.only(common) for part in parts]
    scores = np.empty((len(x_unit), len(whole.channels)))
    for k, part in enumerate(parts):
        scores[fold == k] = part.scores(x_unit[fold == k])
    return whole, scores
