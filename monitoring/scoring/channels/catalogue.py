"""The score channels there are, one record each, in the order of the graph's scores.

A new channel is its class, its record here, and its row in docs/methods.md. Cells, reference,
counters, evidence, p-value, perturbation head and metrics take it from the manifest.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from models.statistics.arrays import FloatArray
from models.versions.schema import InputSchema
from monitoring.scoring.channels.base import (
    Energy,
    FeatureDistance,
    Grain,
    PixelDistance,
    Statistic,
    TableStatistic,
    Uncertainty,
)
from monitoring.scoring.channels.chow_liu import ChowLiu
from monitoring.scoring.channels.shuffled_rows import ShuffledRow
from monitoring.scoring.channels.table_statistics import TableStatistics
from monitoring.scoring.inputs import PlainAnswers, ScoreChannel

ENERGY_SPREAD = 1e-3  # nats; below it the logits are logarithms of probabilities
Kind = Literal["image", "tabular"]


@dataclass(frozen=True)
class Fitting:
    """Training rows that channels are fitted on; what a graph or a kind lacks is None.

    Args:
        logits: `(R, C)`.
        features: `(R, F)`.
        x_unit: `(R, *shape)`.
        table: statistics of a table's rows.
        schema: a table's, where columns are looked at together.
        seed: of channels that are trained.
    """

    logits: FloatArray | None = None
    features: FloatArray | None = None
    x_unit: FloatArray | None = None
    table: TableStatistics | None = None
    schema: InputSchema | None = None
    seed: int = 0

    @property
    def columns(self) -> tuple[InputSchema, FloatArray] | None:
        """Schema and rows of a table with columns."""
        if self.schema is None or not self.schema.columns or self.x_unit is None:
            return None
        return self.schema, self.x_unit

    @property
    def has_energy(self) -> bool:
        """Whether the middle 98 % of the energies differ at all."""
        if self.logits is None:
            return True
        rows = PlainAnswers(self.logits, self.logits, self.logits)
        low, high = np.quantile(Energy().scores(rows), [0.01, 0.99])
        return float(high - low) >= ENERGY_SPREAD


@dataclass(frozen=True)
class Channel:
    """One score channel.

    Args:
        name: in the manifest, metrics and alarms.
        fit: from training rows; None where they lack what it needs.
        kinds: of the inputs that it makes sense for.
        sign: -1 where a table's low scores are the strange ones.
        is_mean: whether it is a mean over a table's columns.
        of_columns: whether it rests on a table's columns alone, not on the model.
    """

    name: str
    fit: Callable[[Fitting], ScoreChannel | None]
    kinds: tuple[Kind, ...] = ("image", "tabular")
    sign: int = 1
    is_mean: bool = False
    of_columns: bool = False


_IMAGE: tuple[Kind, ...] = ("image",)
_TABLE: tuple[Kind, ...] = ("tabular",)
_ALL = (
    Channel("energy", lambda rows: Energy() if rows.has_energy else None),
    Channel(
        "feature_distance",
        lambda rows: None if rows.features is None else FeatureDistance.fit(rows.features),
    ),
    Channel(  # stands in for either of the two
        "uncertainty",
        lambda rows: None if rows.has_energy and rows.features is not None else Uncertainty(),
    ),
    Channel("mean", lambda rows: Statistic("mean", 0), _IMAGE),
    Channel("gradient", lambda rows: Statistic("gradient", 1), _IMAGE),
    Channel("grain", lambda rows: Grain(), _IMAGE),
    Channel(
        "pixel_distance",
        lambda rows: None if rows.x_unit is None else PixelDistance.fit(rows.x_unit),
        _IMAGE,
    ),
    Channel(
        "inside",
        lambda rows: None if rows.table is None else TableStatistic("inside", 0, rows.table),
        _TABLE,
        sign=-1,
        is_mean=True,
        of_columns=True,
    ),
    Channel(
        "row_distance",
        lambda rows: (
            None
            if rows.table is None or not rows.table.whitening.any()
            else TableStatistic("row_distance", 1, rows.table)
        ),
        _TABLE,
        of_columns=True,
    ),
    Channel(
        "chow_liu",
        lambda rows: None if rows.columns is None else ChowLiu.fit(*rows.columns),
        _TABLE,
        of_columns=True,
    ),
    Channel(
        "shuffled_row",
        lambda rows: None if rows.columns is None else ShuffledRow.fit(*rows.columns, rows.seed),
        _TABLE,
        of_columns=True,
    ),
)
CATALOGUE: Mapping[str, Channel] = MappingProxyType({each.name: each for each in _ALL})


def score_channels(kind: Kind, rows: Fitting) -> list[ScoreChannel]:
    """The score channels for a kind of input, fitted on training rows.

    >>> logits = np.array([[0.0, 1.0], [2.0, 0.0], [0.0, 5.0]])
    >>> [channel.name for channel in score_channels("tabular", Fitting(logits))]
    ['energy', 'uncertainty']
    """
    fitted = (each.fit(rows) for each in _ALL if kind in each.kinds)
    return [channel for channel in fitted if channel is not None]


def column_channels(rows: Fitting) -> list[ScoreChannel]:
    """The score channels of a table that rest on its columns alone, fitted on rows."""
    fitted = (each.fit(rows) for each in _ALL if each.of_columns)
    return [channel for channel in fitted if channel is not None]
