"""Laws of phi: 1 for independent requests, the length of bursts for bursts, deaf to a drift."""

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from monitoring.evidence.bets import fit_tilts, spread_rows
from monitoring.evidence.dispersion import Dispersion, DispersionState
from tests.monitoring.streams import Score, pieces

IntArray = npt.NDArray[np.int64]
CHANNEL = Score("energy", np.random.default_rng(0).normal(size=2000))


def fresh() -> Dispersion:
    """phi of a score channel of which nothing was seen."""
    rows, _ = spread_rows(CHANNEL.reference, *fit_tilts(CHANNEL.reference))
    return Dispersion(rows, CHANNEL.reference.alpha)


def bursts(rng: np.random.Generator, requests: int, length: int, size: int) -> IntArray:
    """Intervals of traffic in which every score comes `length` times in a row."""
    scores = np.repeat(rng.normal(size=requests // length + 1), length)[:requests]
    cells = np.searchsorted(-CHANNEL.edges, -scores, side="left")
    return pieces(cells, size, CHANNEL.reference.alpha.size)


def after(rows: IntArray) -> Dispersion:
    """phi after some intervals."""
    dispersion = fresh()
    for row in rows:
        dispersion.add(row)
    return dispersion


@pytest.mark.parametrize("size", [1, 20, 300])
def test_phi_of_independent_requests_is_about_one(size: int) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        rows = CHANNEL.counts(rng.normal(size=min(40_000, 2000 * size)), size)
        phi = after(rows).phi()
        assert np.median(phi) == 1
        assert phi.max() < 1.6


def test_phi_is_one_until_there_are_enough_blocks() -> None:
    rows = bursts(np.random.default_rng(1), 19 * 32, 8, 32)
    assert (after(rows).phi() == 1).all()


@pytest.mark.parametrize("repeated", [0.2, 0.5])
def test_phi_of_a_few_repeats_is_learnt(repeated: float) -> None:
    rng = np.random.default_rng(4)
    scores = rng.normal(size=60_000)
    again = np.repeat(scores, 1 + (rng.random(scores.size) < repeated))
    phi = after(CHANNEL.counts(again, 50)).phi()
    truth = (1 + 3 * repeated) / (1 + repeated)  # E[times^2] / E[times]
    assert 0.75 * truth < np.median(phi) < 1.15 * truth
    assert np.median(phi) > 1


@pytest.mark.parametrize("length", [5, 20])
def test_phi_of_bursts_is_about_their_length(length: int) -> None:
    phi = after(bursts(np.random.default_rng(1), 60_000, length, 50)).phi()
    assert length / 2.5 < np.median(phi) < length * 2.5


def test_a_drift_that_begins_and_ends_is_no_dispersion() -> None:
    rng = np.random.default_rng(2)
    shift = np.repeat([0.0, 1.0, 0.0, 2.0, 0.0], 6000)
    rows = CHANNEL.counts(rng.normal(size=shift.size) + shift, 50)
    assert after(rows).phi().max() < 1.6


def test_phi_goes_on_identically_after_json() -> None:
    rows = bursts(np.random.default_rng(3), 20_000, 8, 50)
    one, twin = after(rows[:200]), fresh()
    twin.load(msgspec.json.decode(msgspec.json.encode(one.snapshot()), type=DispersionState))
    for row in rows[200:]:
        one.add(row)
        twin.add(row)
    assert one.snapshot() == twin.snapshot()
    np.testing.assert_array_equal(one.phi(), twin.phi())
    with pytest.raises(ValueError, match="expected 46 numbers"):
        twin.load(
            DispersionState([msgspec.structs.replace(s, gaps=[1.0]) for s in one.snapshot().scales])
        )
