"""Laws of the onset: its set holds the true beginning, its memory is bounded, nothing is lost."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.evidence.channel_evidence import ChannelEvidence
from monitoring.evidence.onset import MOST, History, StretchState
from tests.monitoring.streams import Score


def test_sets_of_many_drifts_hold_the_true_beginning_and_are_narrow() -> None:
    held, widths = 0, []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        channel = Score("energy", rng.normal(size=2000))
        evidence = ChannelEvidence(channel.reference)
        true = 100 * int(rng.integers(5, 40))
        for row in channel.counts(rng.normal(size=true), 100):
            evidence.update(row)
        for row in channel.counts(rng.normal(0.7, 1.0, size=2000), 10):
            evidence.update(row)
            if evidence.log10_r >= 6.5:
                break
        onset = evidence.onset()
        assert onset.first <= onset.likely <= onset.last
        held += onset.first <= true <= onset.last
        widths.append(onset.last - onset.first)
    assert held >= 57
    assert np.median(widths) < 350


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=400), st.integers(0, 2**32 - 1))
def test_memory_is_bounded_and_keeps_every_request_and_nat(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    history, gains, counts = History(7), np.zeros(3), np.zeros(2)
    for size in sizes:
        gain, count = rng.normal(size=3), rng.multinomial(size, [0.3, 0.7])
        history.add(size, gain, count)
        gains, counts = gains + gain, counts + count
    kept = history.snapshot()
    assert len(kept) <= MOST
    assert history.now == 7 + sum(sizes)
    np.testing.assert_allclose(
        np.sum([s.gains for s in kept], axis=0), gains, atol=1e-3 * len(sizes)
    )
    np.testing.assert_array_equal(history.counts_since(7), counts)
    ends = [*[s.begin for s in kept][1:], history.now]
    for stretch, end in zip(kept, ends, strict=True):  # what is young is not merged
        assert end - stretch.begin <= max(300, (history.now - end))


def test_history_goes_on_identically_after_json_and_refuses_other_bets() -> None:
    rng = np.random.default_rng(1)
    one, twin = History(0), History(0)
    pieces = [(rng.normal(size=3), rng.multinomial(5, [0.5, 0.5])) for _ in range(300)]
    for gain, count in pieces[:150]:
        one.add(5, gain, count)
    states = msgspec.json.decode(msgspec.json.encode(one.snapshot()), type=list[StretchState])
    twin.load(states, one.now, 3, 2)
    for gain, count in pieces[150:]:
        one.add(5, gain, count)
        twin.add(5, gain, count)
    assert one.onset() == twin.onset()
    assert one.snapshot() == twin.snapshot()
    with pytest.raises(ValueError, match="4 bets"):
        twin.load(states, one.now, 4, 2)
