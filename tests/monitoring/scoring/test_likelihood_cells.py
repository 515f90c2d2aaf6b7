"""Laws of the cells of suspicion and likelihood: shares sum to 1, bets lie on what is seen."""

import numpy as np

from models.statistics.arrays import FloatArray
from monitoring.counting.likelihood_cells import CHANNEL, LIKELIHOOD_EDGES
from monitoring.scoring.perturbation.cells import LikelihoodCells, ScoredRows

COLUMNS = len(LIKELIHOOD_EDGES) + 1


def scored(rng: np.random.Generator, low: float, high: float, rows: int) -> ScoredRows:
    """Rows whose suspicion and likelihood lie between two ends."""
    return ScoredRows(rng.uniform(low, high, rows), rng.uniform(low, high, rows))


def arrays() -> dict[str, FloatArray]:
    """Of clean rows that look clean, two benign kinds, and attacked rows that look like all."""
    rng = np.random.default_rng(0)
    clean, kinds = scored(rng, 0.0, 0.4, 400), np.repeat([0, 1], 200)
    corrupted, attacked = scored(rng, 0.0, 0.9, 400), scored(rng, 0.0, 1.0, 3000)
    return LikelihoodCells.fit(clean, clean, corrupted, kinds, attacked).arrays


def test_shares_of_every_kind_and_bet_sum_to_one_and_leave_no_cell_out() -> None:
    made = arrays()
    for name, rows in (("kinds", 6), ("attacks", 4)):
        shares = made[f"{CHANNEL}/{name}"]
        assert shares.shape[0] == rows
        np.testing.assert_allclose(shares.sum(axis=1), 1)
        assert shares.min() > 0, "a cell that no one thought of would end the evidence"


def test_bets_lie_where_attacks_are_seen() -> None:
    likely, very, worst, both = arrays()[f"{CHANNEL}/attacks"].reshape(4, -1, COLUMNS)
    above = {edge: LIKELIHOOD_EDGES.index(edge) + 1 for edge in (0.5, 0.8)}
    assert likely[:, : above[0.5]].sum() > 0.95
    assert very[:, : above[0.8]].sum() > 0.95
    assert worst[0, : above[0.8]].sum() > 0.95
    assert very[1:, : above[0.8]].sum() > 0.01, "not the most suspicious ones alone"
    np.testing.assert_allclose(both, (very + worst) / 2)


def test_kinds_that_often_look_attacked_have_their_upper_end_as_a_kind() -> None:
    kinds = arrays()[f"{CHANNEL}/kinds"].reshape(6, -1, COLUMNS)
    seen = kinds[:, :, : LIKELIHOOD_EDGES.index(0.8) + 1].sum(axis=(1, 2))
    assert seen[:2].max() < 0.05, "clean rows have none"
    for measured, upper in ((2, 3), (4, 5)):
        deviation = np.sqrt(seen[measured] / 200)
        assert seen[measured] + deviation < seen[upper] < seen[measured] + 10 * deviation
