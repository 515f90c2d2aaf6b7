"""Laws of bets on a share: one may look after every trial, and they grow where they should."""

import numpy as np
import pytest

from models.statistics.betting import log_above


def highest(p: float, least: float, seed: int, n: int = 1500) -> float:
    """The most that a stream of trials ever reached, with a look after each."""
    right = np.cumsum(np.random.default_rng(seed).random(n) < p)
    return float(log_above(right, np.arange(1, n + 1), least).max())


@pytest.mark.parametrize("least", [0.5, 0.916])
def test_a_share_at_the_limit_is_seldom_called_above_it_however_often_one_looks(
    least: float,
) -> None:
    reached = sum(highest(least, least, seed) >= np.log(20) for seed in range(100))
    assert reached <= 11  # promised 5; more than 11 has a chance of .4 % at that


def test_the_mean_over_all_outcomes_is_at_most_one() -> None:
    n = 12
    for p, least in ((0.9, 0.9), (0.85, 0.9), (0.3, 0.3)):
        outcomes = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        right = outcomes.sum(axis=1)
        chance = p**right * (1 - p) ** (n - right)
        values = np.exp(log_above(np.arange(n + 1), n, least))
        assert float(chance @ values[right]) <= 1 + 1e-9


def test_a_share_three_points_above_the_limit_is_told_in_a_few_hundred_trials() -> None:
    assert all(highest(0.97, 0.93, seed) >= np.log(20) for seed in range(20))
