"""Bets on classes as two numbers each say what their table says, and take no table's memory."""

import tracemalloc

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monitoring.evidence.bets import ChannelReference, fit_tilts
from monitoring.evidence.channel_evidence import ChannelEvidence
from monitoring.evidence.dispersion import Dispersion
from monitoring.evidence.tilts import ShareTilts, TableTilts
from monitoring.evidence.urn import ln_e_values

weights = st.lists(st.floats(0.01, 1e4), min_size=2, max_size=12)


def make_channel(alpha: np.ndarray) -> ChannelReference:
    return ChannelReference("class", "class", alpha, tuple(map(str, range(len(alpha)))))


@given(weights, st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_two_numbers_a_bet_give_the_e_values_of_the_table(
    held: list[float], m: int, seed: int
) -> None:
    alpha, rng = np.array(held), np.random.default_rng(seed)
    bets, found = fit_tilts(make_channel(alpha))
    assert isinstance(found, ShareTilts)
    drawn = rng.multinomial(m, alpha / alpha.sum()).astype(float)
    shares = np.array([[0.0], [0.3], [0.9]])
    tau = np.array([found.row(bet) for bet in range(len(bets))])
    table = TableTilts(tau, (len(alpha),))
    one, other = (ln_e_values(alpha, drawn, each.lag(shares)) for each in (found, table))
    assert one.shape == (3 * len(bets),)
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


@given(weights, st.integers(0, 2**32 - 1))
def test_phi_of_indicators_without_their_table_is_that_of_the_table(
    held: list[float], seed: int
) -> None:
    alpha, rng = np.array(held), np.random.default_rng(seed)
    compact, table = Dispersion(None, alpha), Dispersion(np.eye(len(alpha)), alpha)
    for _ in range(60):
        counts = 4 * rng.multinomial(10, alpha / alpha.sum())  # in bursts
        compact.add(counts)
        table.add(counts)
    np.testing.assert_allclose(compact.phi(), table.phi(), rtol=1e-6)


def test_evidence_of_many_classes_grows_with_classes_and_not_with_their_square() -> None:
    peaks = {}
    for classes in (1000, 4000):
        rng = np.random.default_rng(0)
        tracemalloc.start()
        evidence = ChannelEvidence(make_channel(np.full(classes, 2.0)), eta="auto")
        for _ in range(3):
            counts = rng.multinomial(250, np.full(classes, 1 / classes)).astype(np.int64)
            evidence.update(counts)
            evidence.observe(counts)
        peaks[classes] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[4000] < 6 * peaks[1000]
    assert peaks[4000] < 5 * 4000 * 4000 * 8 / 10, "a tenth of one table of bets"
