"""Laws of the evidence of attacks: its bound under every mix, what it sees, and its state."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.evidence.perturbation.attacked import BLOCK, AttackedEvidence, AttackedState
from monitoring.evidence.perturbation.mixture import most_likely_mix

CELLS = 24
KINDS = np.random.default_rng(0).dirichlet(np.linspace(0.2, 3, CELLS), size=6) * 0.99 + 0.01 / CELLS
ATTACKS = np.random.default_rng(1).dirichlet(np.linspace(3, 0.05, CELLS), size=2) * 0.99
ATTACKS += 0.01 / CELLS


def evidence(c: float = 1e4) -> AttackedEvidence:
    """Fresh evidence over six kinds."""
    return AttackedEvidence(KINDS, ATTACKS, c=c)


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_the_likelihood_of_the_best_mix_is_never_told_too_small(seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(200, rng.dirichlet(np.ones(6)) @ KINDS, size=3).astype(float)
    most, mix = most_likely_mix(counts, KINDS, steps=steps)
    np.testing.assert_allclose(mix.sum(axis=1), 1)
    for w in (*np.eye(6), *rng.dirichlet(np.ones(6), size=30)):
        assert (most >= (counts * np.log(w @ KINDS)).sum(axis=1) - 1e-9).all()
    best, _ = most_likely_mix(counts, KINDS, steps=3000)
    assert (most >= best - 1e-6).all()
    if steps == 40:
        assert (most - best < 2).all()


@pytest.mark.parametrize("changing", [False, True])
def test_no_mix_of_the_kinds_alarms_more_often_than_the_bound(changing: bool) -> None:
    rng, alarms, streams, requests = np.random.default_rng(2), 0, 60, 3000
    for _ in range(streams):
        stream, mix = evidence(c=3e4), rng.dirichlet(np.full(6, 0.3))
        for look in range(requests // 60):
            if changing and look % 10 == 0:
                mix = rng.dirichlet(np.full(6, 0.3))
            if stream.update(rng.multinomial(60, mix @ KINDS)):
                alarms += 1
                break
    assert alarms <= 12  # 6 are expected at most: 3000 / 30,000 of 60


def test_an_attack_is_seen_sooner_the_larger_its_share_and_the_alarm_ends() -> None:
    rng, delays = np.random.default_rng(3), []
    for share in (0.1, 0.3, 1.0):
        stream, usual = evidence(), np.array([0.7, 0.3, 0, 0, 0, 0]) @ KINDS
        for _ in range(20):
            assert not stream.update(rng.multinomial(60, usual))
        seen = 0
        mixed = (1 - share) * usual + share * ATTACKS[0]
        while not stream.alarm:
            stream.update(rng.multinomial(60, mixed))
            seen += 60
        delays.append(seen)
        assert stream.log10_r >= stream.threshold_log10
        for _ in range(34):
            stream.update(rng.multinomial(60, usual))
        assert not stream.alarm
        assert stream.log10_r < stream.threshold_log10
    assert delays == sorted(delays, reverse=True)
    assert delays[-1] <= 120


def test_few_requests_wait_for_a_block_and_are_not_lost() -> None:
    slow, whole = evidence(), evidence()
    rng = np.random.default_rng(4)
    for _ in range(4):
        block = rng.multinomial(BLOCK, KINDS[0])
        whole.update(block)
        for cell in np.repeat(np.arange(CELLS), block):
            slow.update(np.eye(CELLS, dtype=np.int64)[cell])
    assert slow.requests == whole.requests == 4 * BLOCK
    assert slow.log10_r == pytest.approx(whole.log10_r)


def test_the_state_goes_on_where_it_was_and_of_other_cells_is_refused() -> None:
    rng, one = np.random.default_rng(5), evidence()
    for _ in range(30):
        one.update(rng.multinomial(70, KINDS[1]))
    encoded = msgspec.json.encode(one.snapshot())
    two = evidence()
    two.load(msgspec.json.decode(encoded, type=AttackedState))
    for _ in range(5):
        counts = rng.multinomial(70, 0.8 * KINDS[1] + 0.2 * ATTACKS[1])
        assert one.update(counts) == two.update(counts)
    assert one.requests == two.requests
    assert one.log10_r == pytest.approx(two.log10_r, abs=0.3), "mixes are found anew"
    with pytest.raises(ValueError, match="other cells"):
        AttackedEvidence(KINDS[:, :-1], ATTACKS[:, :-1], c=1e4).load(one.snapshot())


def test_beginnings_are_few_however_long_the_stream() -> None:
    stream, rng = evidence(), np.random.default_rng(6)
    for _ in range(600):
        stream.update(rng.multinomial(50, KINDS[0]))
    assert len(stream.snapshot().beginnings) < 60
