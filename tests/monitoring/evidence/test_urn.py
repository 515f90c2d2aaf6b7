"""Laws of one channel's urn: fair e-values, a bounded false alarm rate, true explanations."""

from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln

from monitoring.evidence.bets import ChannelReference, fit_tilts, score_tilts
from monitoring.evidence.channel_evidence import ChannelEvidence
from monitoring.evidence.tilts import TableTilts, Tilts, lagged_tilts
from monitoring.evidence.urn import LAGS, Urn, ln_e_values, ln_rising
from tests.monitoring.streams import Score, classes

FloatArray = npt.NDArray[np.float64]


def table(tau: FloatArray) -> TableTilts:
    """Tilts of one group of cells."""
    return TableTilts(tau, (tau.shape[1],))


def matrix(tilts: Tilts) -> FloatArray:
    """tau (J, G) of all bets."""
    return np.array([tilts.row(bet) for bet in range(len(tilts))])


def ln_urn_probability(alpha: FloatArray, drawn: FloatArray) -> float:
    """Dirichlet-multinomial log probability of counts, multinomial coefficient included."""
    total, m = alpha.sum(), drawn.sum()
    coefficient = gammaln(m + 1) - gammaln(drawn + 1).sum()
    rising = (gammaln(alpha + drawn) - gammaln(alpha)).sum()
    return float(coefficient + rising - gammaln(total + m) + gammaln(total))


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=4), st.integers(1, 5))
def test_mean_of_every_e_value_under_the_urn_is_exactly_one(weights: list[int], m: int) -> None:
    alpha = np.array(weights, dtype=float)
    _, tau = score_tilts(alpha)
    mean = np.zeros(len(tau))
    for drawn in product(range(m + 1), repeat=len(alpha)):
        if sum(drawn) == m:
            d = np.array(drawn, dtype=float)
            ln_e = ln_e_values(alpha, d, table(tau))
            mean += np.exp(ln_urn_probability(alpha, d) + ln_e)
    np.testing.assert_allclose(mean, 1, rtol=1e-9)


def test_mean_of_every_e_value_under_a_big_urn_is_one_by_simulation() -> None:
    rng = np.random.default_rng(1)
    reference = Score("energy", rng.normal(size=360)).reference
    held = reference.alpha > 0
    tau = matrix(fit_tilts(reference)[1])
    variance = tau**2 @ reference.alpha / reference.alpha.sum() - 1
    tau = tau[variance < 0.25]  # steeper bets pay too rarely to be simulated
    assert len(tau) > 20
    n = 20_000
    e = np.empty((n, len(tau)))
    drawn = np.zeros(reference.alpha.size)
    for row, p in zip(e, rng.dirichlet(reference.alpha[held], size=n), strict=True):
        drawn[held] = rng.multinomial(6, p)
        row[:] = np.exp(ln_e_values(reference.alpha, drawn, table(tau)))
    gap = np.abs(e.mean(axis=0) - 1) / (e.std(axis=0) / np.sqrt(n))
    assert gap.max() < 4
    assert (e.std(axis=0) / np.sqrt(n)).max() < 0.05  # else a wrong mean would pass


def false_alarm_rates(
    n: int, c: float, horizon: int, streams: int, n_classes: int = 0
) -> tuple[float, float]:
    """Return the shares of null streams that alarm with the urn, and without its terms."""
    rng = np.random.default_rng(2)
    size, bar = max(1, n // 20), np.log10(c)
    with_urn = without = 0
    for _ in range(streams):
        if n_classes:
            p = rng.dirichlet(np.ones(n_classes))
            reference = classes("class", rng.choice(n_classes, size=n, p=p), n_classes)
            rows = rng.multinomial(size, p, size=horizon // size)
        else:
            channel = Score("energy", rng.normal(size=n))
            reference, rows = channel.reference, channel.counts(rng.normal(size=horizon), size)
        evidence = ChannelEvidence(reference, lags=())  # the copies have a test of their own
        naive = np.zeros(len(matrix(fit_tilts(reference)[1])))
        ln_tau, peak = np.log(matrix(fit_tilts(reference)[1])), np.zeros(2)
        for row in rows:
            evidence.update(row)
            naive = (size + naive) * np.exp(ln_tau @ row)  # the reference taken for the truth
            peak = np.maximum(peak, [evidence.log10_r, np.log10(max(1.0, naive.mean()))])
        with_urn += peak[0] >= bar
        without += peak[1] >= bar
    return with_urn / streams, without / streams


@pytest.mark.parametrize(("n", "c", "horizon"), [(100, 2000, 500), (100, 1000, 400)])
def test_false_alarms_obey_the_bound_and_break_it_without_the_urn(
    n: int, c: float, horizon: int
) -> None:
    streams = 500
    rate, rate_without = false_alarm_rates(n, c, horizon, streams)
    bound = horizon / c
    error = np.sqrt(bound * (1 - bound) / streams)
    assert 0 < rate <= bound + 2 * error
    assert rate_without > bound + 4 * error, "the test must catch a frozen reference"


def test_false_alarms_of_a_class_channel_obey_the_bound() -> None:
    rate, _ = false_alarm_rates(200, 500, 200, 400, n_classes=8)
    assert 0 < rate <= 200 / 500


def test_evidence_follows_the_recursion_of_shiryaev_and_roberts() -> None:
    rng = np.random.default_rng(5)
    channel = Score("energy", rng.normal(size=360))
    evidence = ChannelEvidence(channel.reference, eta=0.8, lags=())
    alpha = channel.reference.alpha
    tau = matrix(fit_tilts(channel.reference)[1])
    r = np.zeros(len(tau))
    for row in channel.counts(rng.normal(0.5, 1.0, size=180), 18):
        e = np.exp(ln_e_values(alpha, row.astype(float), table(tau)))
        r = (18 + r) * e**0.8
        evidence.update(row)
        alpha = alpha + row
        assert evidence.log10_r == pytest.approx(max(0.0, np.log10(r.mean())), abs=1e-9)
    assert evidence.log10_r > 1
    np.testing.assert_array_equal(evidence.alpha, alpha)


def test_urn_with_cells_of_weight_zero_works() -> None:
    rng = np.random.default_rng(3)
    channel = Score("energy", rng.normal(size=100))
    assert (channel.reference.alpha == 0).any()
    evidence = ChannelEvidence(channel.reference)
    for row in channel.counts(rng.normal(size=1000), 5):
        evidence.update(row)
    assert 0 <= evidence.log10_r < 4
    assert evidence.requests == 1000


def test_evidence_is_zero_and_without_a_winner_before_the_first_request() -> None:
    evidence = ChannelEvidence(Score("energy", np.arange(100.0)).reference)
    evidence.update(np.zeros(len(evidence.alpha), dtype=np.int64))
    assert evidence.log10_r == 0
    assert evidence.winner() is None
    assert evidence.requests == 0


def test_evidence_never_overflows() -> None:
    evidence = ChannelEvidence(Score("energy", np.arange(400.0)).reference)
    top = np.zeros(len(evidence.alpha), dtype=np.int64)
    top[np.flatnonzero(evidence.alpha)[0]] = 20
    for _ in range(2000):
        evidence.weigh(top)
    assert 1e3 < evidence.log10_r < np.inf


def test_discount_scales_the_growth_of_the_evidence() -> None:
    channel = Score("energy", np.arange(1000.0))
    full, half = (ChannelEvidence(channel.reference, eta=eta) for eta in (1.0, 0.5))
    for row in channel.counts(np.full(500, 980.0), 50):
        full.weigh(row)
        half.weigh(row)
    assert half.log10_r / full.log10_r == pytest.approx(0.5, abs=0.03)


def test_change_point_and_shares_find_the_drift() -> None:
    rng = np.random.default_rng(4)
    channel = Score("energy", rng.normal(size=2000))
    evidence = ChannelEvidence(channel.reference)
    scores = np.concatenate([rng.normal(size=6000), rng.normal(1.0, 1.0, size=300)])
    for row in channel.counts(scores, 20):
        evidence.update(row)
    onset = evidence.onset()
    assert 6000 - 200 <= onset.first <= 6000 <= onset.last <= 6000 + 200
    assert abs(onset.likely - 6000) <= 60
    before, after = evidence.shares()
    assert before.sum() == pytest.approx(1)
    assert after.sum() == pytest.approx(1)
    half = len(before) // 2
    assert before[:half].sum() == pytest.approx(0.5, abs=0.05)
    assert after[:half].sum() == pytest.approx(0.84, abs=0.1)  # P(N(1, 1) > 0)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=4),
    st.integers(1, 5),
    st.floats(0, 0.99),
)
def test_mean_of_every_lagged_e_value_is_exactly_one_for_any_lag(
    weights: list[int], m: int, share: float
) -> None:
    alpha = np.array(weights, dtype=float)
    tau = lagged_tilts(score_tilts(alpha)[1], share)
    mean = np.zeros(len(tau))
    for drawn in product(range(m + 1), repeat=len(alpha)):
        if sum(drawn) == m:
            d = np.array(drawn, dtype=float)
            mean += np.exp(ln_urn_probability(alpha, d) + ln_e_values(alpha, d, table(tau)))
    np.testing.assert_allclose(mean, 1, rtol=1e-9)


def mean_in_groups(urn: Urn, m_one: int, m_other: int) -> FloatArray:
    """The mean e-value of every bet, two groups getting so many requests, by enumeration."""
    alpha, k = urn.alpha, urn.reference.spans[0].stop
    mean = np.zeros((urn.copies, len(urn.bets)))
    for drawn in product(range(max(m_one, m_other) + 1), repeat=len(alpha)):
        d = np.array(drawn)
        if d[:k].sum() == m_one and d[k:].sum() == m_other:
            parts = (alpha[:k], d[:k].astype(float)), (alpha[k:], d[k:].astype(float))
            ln_p = sum(ln_urn_probability(weights, counts) for weights, counts in parts)
            mean += np.exp(ln_p + urn.ln_e(d))
    return mean


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=3),
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_mean_of_every_grouped_e_value_is_one_however_many_requests_each_group_gets(
    one: list[int], other: list[int], m_one: int, m_other: int
) -> None:
    alpha, groups = np.array([*one, *other], dtype=float), (len(one), len(other))
    labels = ("",) * len(alpha)
    urn = Urn(ChannelReference("energy", "score", alpha, labels, groups), (2, 50))
    urn.absorb(np.ones(len(alpha), dtype=np.int64) * 4)  # the lagged copies have tilts of their own
    np.testing.assert_allclose(mean_in_groups(urn, m_one, m_other), 1, rtol=1e-9)


@settings(deadline=None, max_examples=10)
@given(
    st.sampled_from([("score", ("00", "01", "missing")), ("category", ("a", "b", "unseen"))]),
    st.lists(st.sampled_from([0.5, 3.0, 80.0]), min_size=6, max_size=6),
    st.integers(0, 2),
    st.integers(0, 2),
)
def test_mean_is_one_for_the_cells_of_a_column_in_every_class(
    channel: tuple[Literal["score", "category"], tuple[str, ...]],
    weights: list[float],
    m_one: int,
    m_other: int,
) -> None:
    kind, labels = channel
    urn = Urn(ChannelReference("column:c", kind, np.array(weights), labels * 2, (3, 3)), (2, 50))
    urn.absorb(np.array([4, 0, 1, 0, 9, 2]))
    np.testing.assert_allclose(mean_in_groups(urn, m_one, m_other), 1, rtol=1e-9)


def test_a_class_without_reference_says_nothing_of_its_requests() -> None:
    alpha = np.array([*np.full(25, 4.0), 1.0])  # the other classes: one cell of weight 1
    evidence = ChannelEvidence(ChannelReference("energy", "score", alpha, ("",) * 26, (25, 1)))
    for _ in range(300):
        evidence.update(np.eye(26, dtype=np.int64)[25])
    assert evidence.requests == 300
    assert evidence.log10_r == pytest.approx(np.log10(300))  # R = t: no e-value has moved


def test_a_swinging_class_mix_moves_the_pooled_ranks_and_not_those_within_each_class() -> None:
    rng = np.random.default_rng(8)
    drawn = rng.integers(2, size=2000)
    held = rng.normal(size=2000) + 2 * drawn
    pooled = Score("energy", held)
    own = [Score("energy", held[drawn == k]) for k in (0, 1)]
    cells = [len(score.reference.alpha) for score in own]
    alpha = np.concatenate([score.reference.alpha for score in own])
    grouped = ChannelReference("energy", "score", alpha, ("",) * sum(cells), tuple(cells))
    one, other = ChannelEvidence(pooled.reference), ChannelEvidence(grouped)
    for turn in range(200):
        late = rng.random(50) < 0.5 + 0.3 * np.sin(turn / 10)
        scores = rng.normal(size=50) + 2 * late
        one.update(pooled.counts(scores, 50)[0])
        parts = [pieces_of(own[k], scores[late == k]) for k in (0, 1)]
        other.update(np.concatenate(parts))
    assert one.log10_r > 6
    assert other.log10_r < 5


@given(st.integers(0, 100))
def test_any_process_of_classes_leaves_columns_of_a_class_without_evidence(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rates = np.array([[0.9, 0.1], [0.2, 0.8]])  # of two categories within two classes
    held = np.concatenate([rng.multinomial(500, row) + 0.5 for row in rates])
    parted = ChannelReference("column:c", "category", held, ("a", "b") * 2, (2, 2))
    whole = ChannelReference("column:c", "category", held[:2] + held[2:], ("a", "b"))
    one, other = ChannelEvidence(parted), ChannelEvidence(whole)
    share = 0.5
    for _ in range(100):  # the mix goes where the traffic went before, and to the ends
        came = rng.multinomial(50, [share, 1 - share])
        counts = np.concatenate(
            [rng.multinomial(m, row) for m, row in zip(came, rates, strict=True)]
        )
        one.update(counts)
        other.update(counts[:2] + counts[2:])
        share = float(np.clip(share + 0.3 * np.sign(counts[0] - counts[3]), 0.05, 0.95))
    assert one.log10_r < 6.5  # 5000 requests: P <= .002
    assert other.log10_r > 20


def pieces_of(score: Score, scores: FloatArray) -> npt.NDArray[np.int64]:
    """Counts of all scores, perhaps none."""
    none = np.zeros(len(score.reference.alpha), dtype=np.int64)
    return score.counts(scores, len(scores))[0] if len(scores) else none


def test_copies_part_when_their_lag_is_reached_and_not_before() -> None:
    urn = Urn(Score("energy", np.arange(1000.0)).reference, (100, 300))
    d = np.zeros(72, dtype=np.int64)
    d[:5] = 4
    shares = []
    for _ in range(30):
        urn.absorb(d)
        exact, short, long = urn.ln_e(d)
        shares.append((np.allclose(short, long), np.allclose(exact, long)))
    assert shares[3] == (True, False)
    assert shares[-1] == (False, False)


def test_all_copies_and_a_learnt_discount_obey_the_bound() -> None:
    n, c, horizon, streams = 100, 500, 200, 500
    rng = np.random.default_rng(6)
    alarms = 0
    for _ in range(streams):
        channel = Score("energy", rng.normal(size=n))
        evidence = ChannelEvidence(channel.reference, eta="auto", lags=(20, 60))
        peak = 0.0
        for row in channel.counts(rng.normal(size=horizon), 5):
            evidence.update(row)
            evidence.observe(row)
            peak = max(peak, evidence.log10_r)
        alarms += peak >= np.log10(c)
    bound = horizon / c
    assert 0 < alarms / streams <= bound + 2 * np.sqrt(bound * (1 - bound) / streams)


def test_lagged_copy_sees_earlier_what_the_exact_one_gets_used_to() -> None:
    delays: dict[tuple[int, ...], list[int]] = {(): [], LAGS: []}
    for seed in range(5):
        rng = np.random.default_rng(seed)
        channel = Score("energy", rng.normal(size=5000))
        t = np.arange(40_000)
        scores = rng.normal(size=t.size) + 4.0 * (rng.random(t.size) < t / 1e6)
        rows = channel.counts(scores, 200)
        for lags, found in delays.items():
            evidence = ChannelEvidence(channel.reference, lags=lags)
            for row in rows:
                evidence.update(row)
                if evidence.log10_r >= 6:
                    break
            found.append(evidence.requests)
    assert np.median(delays[LAGS]) < 0.9 * np.median(delays[()])


@pytest.mark.parametrize(("before", "now"), [((), LAGS), (LAGS, ()), (LAGS, (300, 1000))])
def test_snapshot_can_go_on_with_other_lags(before: tuple[int, ...], now: tuple[int, ...]) -> None:
    rng = np.random.default_rng(7)
    channel = Score("energy", rng.normal(size=360))
    one = ChannelEvidence(channel.reference, lags=before)
    other = ChannelEvidence(channel.reference, lags=now)
    rows = channel.counts(rng.normal(0.2, 1.0, size=3600), 18)
    for row in rows[:100]:
        one.update(row)
    other.load(one.snapshot())
    np.testing.assert_array_equal(other.alpha, one.alpha)
    for row in rows[100:]:
        other.update(row)
    assert other.requests == 3600
    assert np.isfinite(other.log10_r)


@given(st.floats(0.01, 1e6), st.integers(0, 300))
def test_rising_powers_are_those_of_the_sum_of_logarithms(weight: float, count: int) -> None:
    told = ln_rising(np.array([weight]), np.array([float(count)]))[0]
    steps = np.log1p(np.arange(count) / weight).sum()
    assert told == pytest.approx(steps, rel=1e-10, abs=1e-10)


def test_a_piece_of_a_billion_requests_keeps_its_digits() -> None:
    alpha = np.full(20, 5e7)  # lnGamma of it is 8e8: differences know no more than 1e-7
    told = ln_rising(alpha, np.full(20, 250.0))
    exact = np.log1p(np.arange(250) / 5e7).sum()
    np.testing.assert_allclose(told, exact, rtol=1e-9)
    urn = Urn(ChannelReference("energy", "score", alpha, ("",) * 20), ())
    urn.absorb(np.eye(20, dtype=np.int64)[3])
    assert urn.alpha[3] == 5e7 + 1, "one of a billion counts"
