"""The p-value of a table is valid however often its rows are dealt anew, also where rows repeat."""

import numpy as np
import pytest

from models.statistics.arrays import FloatArray
from models.statistics.intervals import false_positive_interval
from models.versions.schema import Column, InputSchema
from monitoring.scoring.channels.catalogue import Fitting, column_channels
from monitoring.scoring.channels.table_statistics import TableStatistics
from monitoring.scoring.drift_score import HAIR, conformal_table, fit_strangeness
from monitoring.scoring.inputs import PlainAnswers

SPLITS, HELD, FRESH = 50, 500, 400


def answers(kind: str, rows: int) -> FloatArray:
    """Three items of 1 to 5 (125 different rows), or three numbers that hang together."""
    rng = np.random.default_rng(0)
    if kind == "survey":
        return rng.integers(0, 5, (rows, 3)).astype(np.float32) / 4
    base = rng.normal(size=(rows, 1)) + 0.3 * rng.normal(size=(rows, 3))
    return ((base + 4) / 8).astype(np.float32)


@pytest.mark.parametrize("kind", ["survey", "numbers"])
def test_p_values_are_valid_over_fifty_resplits(kind: str) -> None:
    columns = tuple(Column(f"item{k}") for k in range(3))
    schema = InputSchema("row", (3,), "float32", 0.0, 1.0, "tabular", columns)
    x = answers(kind, 600 + HELD + FRESH)
    table = TableStatistics.fit(schema, x[:300])
    channels = column_channels(Fitting(x_unit=x[:300], table=table, schema=schema))
    scores = np.stack([c.scores(PlainAnswers(x, x, x)) for c in channels], axis=1)
    predicted = (x[:, 0] > 0.5).astype(np.int64)
    names, fit = [c.name for c in channels], slice(300, 600)
    measure = fit_strangeness("tabular", names, scores[fit], predicted[fit], 2, 3)
    pool = measure.of(scores[600:], predicted[600:])
    rng = np.random.default_rng(1)
    for alpha in (0.01, 0.1):
        counts = []
        for _ in range(SPLITS):
            dealt = rng.permutation(pool)
            held, fresh = dealt[:HELD], dealt[HELD:].astype(np.float32)
            edges, p = conformal_table(held + HAIR * (1 + np.abs(held)))
            counts.append(int((p[(edges[None] >= fresh[:, None]).sum(axis=1)] <= alpha).sum()))
        _, high = false_positive_interval(alpha, HELD, FRESH)
        assert max(counts) <= high
        assert np.mean(counts) <= 1.15 * alpha * FRESH
        if kind == "numbers":
            assert np.mean(counts) >= 0.7 * alpha * FRESH, "not only valid: no row is wasted"
