"""Laws of the band: whatever moves inside it is no drift, what leaves it is."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.evidence.channel_evidence import ChannelEvidence
from monitoring.evidence.class_band import BandBets, ClassBand
from tests.monitoring.streams import classes

FloatArray = npt.NDArray[np.float64]
REFERENCE = classes("class", np.random.default_rng(0).integers(4, size=2000), 4)
BAND = ClassBand([0.15, 0.15, 0.15, 0.15], [0.4, 0.35, 0.35, 0.35], 30)


def inside(weights: list[float]) -> FloatArray:
    """Shares within the band, any of them by the weights."""
    low, high = np.array(BAND.low), np.array(BAND.high)
    free = 1 - low.sum()
    shares = low + free * np.array(weights) / sum(weights)
    for _ in range(50):  # what is over the limit goes to those below theirs
        over = np.maximum(shares - high, 0).sum()
        room = np.maximum(high - shares, 0)
        shares = np.minimum(shares, high) + over * room / room.sum()
    return np.asarray(shares / shares.sum())


@given(st.lists(st.floats(0.01, 1), min_size=4, max_size=4))
def test_no_bet_gains_in_the_mean_under_any_shares_inside(weights: list[float]) -> None:
    bets, p = BandBets(BAND, REFERENCE), inside(weights)
    e = np.exp([bets.ln_e(request)[0] for request in np.eye(4, dtype=np.int64)])
    assert (p @ e <= 1 + 1e-9).all()


def test_an_adversary_who_answers_to_the_bets_keeps_the_bound() -> None:
    c, horizon, streams, alarms = 100, 30, 400, 0
    rng = np.random.default_rng(1)
    corners = [inside(list(weights)) for weights in np.eye(4) + 1e-9]
    for _ in range(streams):
        evidence = ChannelEvidence(REFERENCE, band=BAND)
        for _ in range(horizon):
            bet = evidence.winner()
            p = corners[(bet.cell or 0) if bet and bet.direction == "share up" else 0]
            if bet and bet.direction == "share down":  # feed the others
                p = corners[((bet.cell or 0) + 1) % 4]
            evidence.update(rng.multinomial(1, p))
            if evidence.log10_r >= np.log10(c):
                alarms += 1
                break
    assert alarms / streams <= horizon / c


def test_a_cycle_inside_is_calm_where_an_urn_alarms_and_leaving_it_is_seen() -> None:
    rng = np.random.default_rng(2)

    def mix(turn: int) -> FloatArray:
        swing = 1 + 0.3 * np.sin(2 * np.pi * (turn / 40 + np.arange(4) / 4))
        return np.asarray(swing / swing.sum())

    blocks = [rng.multinomial(1000, mix(turn)) for turn in range(40)]
    band = ClassBand.learn(blocks)
    urn, bets = (ChannelEvidence(REFERENCE, band=b) for b in (None, band))
    peaks = np.zeros(2)
    for turn in range(200):
        for _ in range(10):
            counts = rng.multinomial(100, mix(turn))
            for evidence in (urn, bets):
                evidence.update(counts)
            peaks = np.maximum(peaks, [urn.log10_r, bets.log10_r])
    assert peaks[0] > 8
    assert peaks[1] < 6
    before = bets.requests
    while bets.log10_r < 6 and bets.requests < before + 5000:
        bets.update(rng.multinomial(50, [0.7, 0.1, 0.1, 0.1]))
    assert bets.requests - before < 300
    winner = bets.winner()
    assert winner is not None
    assert winner.words == "class 0 at 1.5 times the most of a cycle"


def test_a_class_that_is_rare_or_always_there_does_not_break_the_band() -> None:
    band = ClassBand.learn([[1000, 0, 0, 0]] * 20)
    bets = BandBets(band, REFERENCE)
    assert {bet.cell for bet in bets.bets if bet.direction == "share down"} == {0}
    assert np.isfinite(bets.ln_e(np.array([5, 1, 0, 0]))).all()
    whole = ClassBand([0.0, 0.0], [1.0, 1.0], 20)  # anything goes: no bet is left
    evidence = ChannelEvidence(classes("class", np.array([0, 1] * 50), 2), band=whole)
    evidence.update(np.array([50, 3]))
    assert evidence.log10_r == 0
    assert evidence.winner() is None


@pytest.mark.parametrize(
    ("blocks", "says"),
    [
        ([[500, 500]] * 19, "20 or more blocks"),
        ([[1000]] * 20, "two or more classes"),
        ([[500, 499]] * 20, "a least block of 999"),
        ([[1001, -1]] * 20, "a least count of -1"),
    ],
)
def test_a_band_needs_a_whole_record(blocks: list[list[int]], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ClassBand.learn(blocks)


def test_a_band_of_other_classes_is_refused() -> None:
    for band in (ClassBand([0.1], [0.5], 20), ClassBand([0.5] * 4, [0.1] * 4, 20)):
        with pytest.raises(ValueError, match="expected a band of 4 classes"):
            ChannelEvidence(REFERENCE, band=band)


def test_classes_without_a_limit_are_named_and_evidence_without_a_bet_can_be_told() -> None:
    turns = ClassBand.learn([[1000, 0, 0, 0], [0, 500, 500, 0]] * 10)
    assert turns.unbounded() == [0]
    assert BAND.unbounded() == []
    reference = classes("class", np.array([0, 1] * 50), 2)
    blind = ChannelEvidence(
        reference, eta="auto", band=ClassBand.learn([[1000, 0], [0, 1000]] * 10)
    )
    blind.update(np.array([50, 0]))
    blind.observe(np.array([50, 0]))
    assert blind.bets == ()
    assert (blind.least_eta, blind.log10_r, blind.winner(), blind.phi) == (1.0, 0.0, None, 1.0)
