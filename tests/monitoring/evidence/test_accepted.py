"""Laws of accepted traffic: it is the reference, it can be taken back, it survives a restart."""

import msgspec
import numpy as np
import pytest

from monitoring.evidence.accepted import Accepted, accepted_reference
from monitoring.evidence.bets import ChannelReference, FloatArray
from monitoring.evidence.channels import SnapshotError, StreamEvidence, decode_state
from monitoring.evidence.class_band import ClassBand
from tests.monitoring.evidence.test_channels import Counts, World, alarmed, delay, warmed


def record(world: World, requests: int, **drift: float) -> Accepted:
    """A recorded period of a drift, without a band."""
    counts = world.counts(requests, **drift)
    return Accepted({name: row.tolist() for name, row in counts.items()})


def test_there_and_back_ends_calm() -> None:
    world = World(2000, seed=1)
    stream = alarmed(world)
    before = stream.requests
    stream.retake(record(world, 5000, shift=2.0))
    assert stream.alarm is None
    assert stream.requests == before
    assert set(stream.log10_evidence().values()) == {0.0}
    stream.update(world.counts(20_000, shift=2.0))  # the new normal
    assert stream.alarm is None
    assert delay(world, stream, 200) < 100  # back again is a drift
    stream.retake(None)
    assert stream.accepted is None
    stream.update(world.counts(20_000))
    assert stream.alarm is None
    assert delay(world, stream, 200, shift=2.0) < 100


def test_false_alarms_against_an_accepted_reference_obey_the_bound() -> None:
    c, horizon, streams, alarms = 500, 300, 40, 0
    for seed in range(streams):
        world = World(120, seed)
        stream = world.stream(c=c)
        stream.retake(record(world, 2000, shift=1.0))
        stream.update(world.counts(horizon, shift=1.0))
        alarms += stream.alarm is not None
    assert alarms <= streams * horizon / c


def test_what_was_learnt_about_bursts_outlives_acceptance() -> None:
    world = World(2000, seed=2)
    stream = world.stream(eta="auto", c=1e12)
    rng = np.random.default_rng(2)
    for _ in range(200):
        counts: Counts = {name: 4 * row for name, row in world.counts(10).items()}
        stream.update(counts)
    learnt = stream.phi()
    assert min(learnt.values()) > 2
    accepted = record(world, 5000)
    blocks = rng.multinomial(1000, np.full(10, 0.1), size=20)
    for now in (accepted, Accepted(accepted.counts, ClassBand.learn(blocks)), None):
        stream.retake(now)
        assert stream.phi() == pytest.approx(learnt, rel=0.3)  # the bets are new
        assert stream.least_eta()["class"] == pytest.approx(1 / learnt["class"], rel=0.05)


def test_accepted_traffic_that_is_independent_is_not_taken_for_bursts() -> None:
    world = World(2000, seed=5)
    stream = world.stream(eta="auto")
    for shift in (0.0, 1.5):
        for _ in range(60):
            stream.update(world.counts(50, shift=shift))
    stream.retake(record(world, 5000, shift=1.5))
    assert max(stream.phi().values()) < 1.5
    for _ in range(80):
        stream.update(world.counts(50, shift=1.5))
    assert max(stream.phi().values()) < 1.5
    assert delay(world, stream, 200) < 200


def test_accepted_traffic_and_its_band_survive_a_restart() -> None:
    world = World(2000, seed=3)
    stream = warmed(world)
    blocks = np.random.default_rng(3).multinomial(1000, np.full(10, 0.1), size=20)
    stream.retake(Accepted(record(world, 5000).counts, ClassBand.learn(blocks)))
    stream.update(world.counts(700))
    text = msgspec.json.encode(stream.snapshot())
    twin = StreamEvidence.restore(world.references, decode_state(text))
    assert twin.accepted == stream.accepted
    for class_0 in (1.0, 6.0):
        counts = world.counts(400, class_0=class_0)
        stream.update(counts)
        twin.update(counts)
        assert twin.snapshot() == stream.snapshot()
    assert stream.alarm is not None
    assert stream.alarm.words == "class 0 at 1.5 times the most of a cycle"
    broken = msgspec.structs.replace(stream.snapshot(), accepted=Accepted({"class": [1]}))
    with pytest.raises(SnapshotError, match="accepted counts"):
        StreamEvidence.restore(world.references, broken)


def test_counts_that_do_not_fit_are_refused_and_nothing_changes() -> None:
    world = World(360, seed=4)
    stream = warmed(world)
    before, whole = stream.snapshot(), record(world, 1000)
    impossible = [1, *whole.counts["energy"][1:]]  # n = 360: the highest cell holds nothing
    for counts in ({"class": whole.counts["class"]}, {**whole.counts, "energy": impossible}):
        with pytest.raises(ValueError, match="accepted counts"):
            stream.retake(Accepted(counts))
    with pytest.raises(ValueError, match="band of 10 classes"):
        stream.retake(Accepted(whole.counts, ClassBand([0.1], [0.5], 20)))
    assert stream.snapshot() == before


def test_a_rare_class_keeps_the_reference_that_it_had() -> None:
    alpha = np.array([10.0, 20.0, 30.0, 50.0, 51.0, 0.0])
    reference = ChannelReference("energy", "score", alpha, ("",) * 6, (3, 3))
    taken = accepted_reference(reference, Accepted({"energy": [5, 6, 7, 90, 200, 0]}))
    np.testing.assert_allclose(taken.alpha, [15, 26, 37, 90.5, 200.5, 0])
    assert taken.groups == reference.groups


@pytest.mark.parametrize(("before", "after"), [(0.005, 0.05), (0.005, 0.3), (0.3, 0.0005)])
@pytest.mark.parametrize("bursts", [1, 4])
def test_a_column_whose_missing_values_were_accepted_is_watched_on(
    before: float, after: float, bursts: int
) -> None:
    rng = np.random.default_rng(6)

    def shares(missing: float) -> FloatArray:
        return np.append(np.full(20, (1 - missing) / 20), missing)

    def serve(missing: float) -> bool:
        """Look a hundred times; whether an alarm is on at one of them."""
        alarms = 0
        for _ in range(100):
            stream.update({"age": bursts * rng.multinomial(64 // bursts, shares(missing))})
            alarms += stream.alarm is not None
        return alarms > 0

    labels = (*(f"{cell:02}" for cell in range(20)), "missing")
    reference = ChannelReference("age", "score", 10_000 * shares(before), labels)
    stream = StreamEvidence([reference], eta="auto", c=1e6 if bursts == 1 else 1e15)
    assert not serve(before)
    learnt = stream.least_eta()["age"]
    assert (learnt < 0.4) == (bursts == 4)
    bets = {bet.words for bet in stream._channels["age"].bets}
    stream.retake(Accepted({"age": (10_000 * shares(after)).round().astype(int).tolist()}))
    assert {bet.words for bet in stream._channels["age"].bets} != bets, "other shares, other bets"
    assert stream.least_eta()["age"] == pytest.approx(learnt, rel=0.3)
    assert not serve(after)
    text = msgspec.json.encode(stream.snapshot())
    twin = StreamEvidence.restore([reference], decode_state(text))
    assert twin.snapshot() == stream.snapshot()
    stream.retake(None)
    assert stream.requests == 200 * bursts * (64 // bursts)
    assert serve(after)


def test_classes_whose_bets_change_keep_what_was_learnt_and_a_failure_changes_nothing() -> None:
    rng = np.random.default_rng(7)
    reference = ChannelReference("class", "class", np.array([30.5, 970.5]), ("a", "b"))
    stream = StreamEvidence([reference], eta="auto")
    for _ in range(200):
        stream.update({"class": 6 * rng.multinomial(10, [0.03, 0.97])})
    learnt, bets = stream.phi()["class"], len(stream._channels["class"].bets)
    assert learnt > 3
    stream.update({"class": [600, 0]})
    assert stream.alarm is not None
    before = stream.snapshot()
    for broken in ([1], [-1, 5], [3.5, None]):
        with pytest.raises((ValueError, TypeError)):
            stream.retake(Accepted({"class": broken}))  # type: ignore[list-item]
        assert stream.snapshot() == before
    stream.retake(Accepted({"class": [5000, 5000]}))
    assert len(stream._channels["class"].bets) != bets
    assert stream.alarm is None
    assert learnt <= stream.phi()["class"] < 2 * learnt, "rare requests leave phi less certain"
    for _ in range(100):
        stream.update({"class": 6 * rng.multinomial(10, [0.5, 0.5])})
    assert stream.alarm is None
