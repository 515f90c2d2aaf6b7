"""Laws of the stream: no false alarms, true and quick ones, and an alarm that ends as it should."""

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.evidence.channels import (
    Alarm,
    ChannelReference,
    IncrementError,
    SnapshotError,
    StreamEvidence,
    decode_state,
)
from tests.monitoring.streams import Score, classes, pieces

Counts = dict[str, npt.NDArray[np.int64]]


class World:
    """Four score channels and a class channel with a known truth, and streams drawn from it."""

    def __init__(self, n: int, seed: int, n_classes: int = 10) -> None:
        self.rng = np.random.default_rng(seed)
        self.n_classes = n_classes
        self.scores = [Score(name, self.rng.normal(size=n)) for name in ("energy", "knn", "a", "b")]
        drawn = self.rng.integers(n_classes, size=n)
        self.references = [score.reference for score in self.scores]
        self.references.append(classes("class", drawn, n_classes))

    def stream(self, **settings: Any) -> StreamEvidence:
        """Return fresh evidence over the five channels."""
        return StreamEvidence(self.references, **settings)

    def counts(
        self,
        requests: int,
        *,
        shift: float = 0.0,
        foreign: float = 0.0,
        class_0: float = 1.0,
    ) -> Counts:
        """Return one interval of counts.

        Args:
            requests: how many.
            shift: added to "energy", in standard deviations of it.
            foreign: share of the requests whose "knn" lies 4 sigma up.
            class_0: factor on the share of class 0.
        """
        drift = {"energy": np.full(requests, shift)}
        drift["knn"] = 4.0 * (self.rng.random(requests) < foreign)
        counts = {}
        for score in self.scores:
            name = score.reference.name
            values = self.rng.normal(size=requests) + drift.get(name, 0.0)
            counts[name] = score.counts(values, requests)[0]
        p = np.ones(self.n_classes)
        p[0] = class_0
        drawn = self.rng.choice(self.n_classes, size=requests, p=p / p.sum())
        counts["class"] = pieces(drawn, requests, self.n_classes)[0]
        return counts


def delay(world: World, stream: StreamEvidence, limit: int, **drift: float) -> int:
    """Return the requests until the alarm under a drift; fails when there is none in `limit`."""
    start = stream.requests
    while stream.alarm is None and stream.requests - start < limit:
        stream.update(world.counts(10, **drift))
    assert stream.alarm is not None, f"no alarm within {limit} requests"
    return stream.alarm.requests - start


def warmed(world: World, requests: int = 1000, **settings: Any) -> StreamEvidence:
    """Return evidence that has seen clean requests."""
    stream = world.stream(**settings)
    stream.update(world.counts(requests))
    assert stream.alarm is None
    return stream


def alarmed(world: World, **settings: Any) -> StreamEvidence:
    """Return evidence whose alarm was just raised by a shift of the energy by 2 sigma."""
    stream = warmed(world, **settings)
    delay(world, stream, 200, shift=2.0)
    return stream


@pytest.mark.parametrize(("n", "requests"), [(360, 100_000), (5000, 200_000)])
def test_no_alarm_in_a_long_null_stream_with_a_finite_reference(n: int, requests: int) -> None:
    world = World(n, seed=n)
    stream = world.stream()
    while stream.requests < requests:
        stream.update(world.counts(1000))
        assert stream.alarm is None
    assert 0 < max(stream.log10_evidence().values()) < stream.threshold_log10


def test_false_alarms_over_all_channels_obey_the_bound() -> None:
    c, horizon, streams = 500, 300, 250
    alarms = 0
    for seed in range(streams):
        world = World(120, seed)
        stream = world.stream(c=c)
        stream.update(world.counts(horizon))
        alarms += stream.alarm is not None
    assert 0 < alarms <= streams * horizon / c


@pytest.mark.parametrize(
    ("drift", "limit", "channel", "direction"),
    [
        ({"shift": 0.5}, 300, "energy", "higher"),
        ({"shift": -0.5}, 300, "energy", "lower"),
        ({"foreign": 0.05}, 500, "knn", "higher"),
        ({"class_0": 0.5}, 3000, "class", "share down"),
        ({"class_0": 3.0}, 400, "class", "share up"),
    ],
)
def test_drift_is_found_soon_and_named_rightly(
    drift: dict[str, float], limit: int, channel: str, direction: str
) -> None:
    delays = []
    for seed in range(5):
        world = World(5000, seed)
        stream = warmed(world)
        delays.append(delay(world, stream, 3 * limit, **drift))
        assert stream.alarm is not None
        assert (stream.alarm.channel, stream.alarm.direction) == (channel, direction)
    assert np.median(delays) < limit


def test_alarm_says_what_moved_since_when_and_by_how_much() -> None:
    world = World(5000, seed=1)
    stream = warmed(world)
    delay(world, stream, 3000, class_0=0.1)
    alarm = stream.alarm
    assert alarm is not None
    assert alarm.words == "class 0 at a fifth of its share"
    assert alarm.log10_r >= stream.threshold_log10 == pytest.approx(np.log10(5e6))
    assert alarm.requests == stream.requests
    assert (
        1000 - 2 * 250 <= alarm.onset.first <= 1000 <= alarm.onset.last < 1000 + 150
    )  # pieces of 250
    assert alarm.before[0] == pytest.approx(0.1, abs=0.02)
    assert alarm.after[0] < 0.04
    assert sum(alarm.after) == pytest.approx(1)
    world = World(5000, seed=1)
    raised = alarmed(world).alarm
    assert raised is not None
    assert raised.words.startswith("energy: higher than the reference (the top ")


def test_counters_of_four_workers_give_the_evidence_of_one_stream() -> None:
    world = World(360, seed=2)
    together, apart = world.stream(), world.stream()
    for shift in (0.0, 0.0, 0.3, 0.3):
        workers = [world.counts(25, shift=shift) for _ in range(4)]
        total = {name: sum(worker[name] for worker in workers) for name in workers[0]}
        together.update(total)
        apart.update({name: np.asarray(total[name]) for name in reversed(list(total))})
    assert together.snapshot() == apart.snapshot()
    assert together.requests == 400


def test_order_of_requests_within_an_interval_is_irrelevant() -> None:
    world = World(360, seed=3)
    score = world.scores[0]
    values = world.rng.normal(size=400)
    one, other = (StreamEvidence([score.reference]) for _ in range(2))
    for begin in range(0, 400, 40):
        interval = values[begin : begin + 40]
        one.update({"energy": score.counts(interval, 40)[0]})
        other.update({"energy": score.counts(np.sort(interval), 40)[0]})
    assert one.snapshot() == other.snapshot()


def test_large_increments_are_split_and_counted_in_full() -> None:
    world = World(360, seed=4)
    stream = world.stream()
    counts = world.counts(10_000)
    rows = stream._split("energy", counts["energy"])
    assert rows.sum(axis=1).max() <= 18
    np.testing.assert_array_equal(rows.sum(axis=0), counts["energy"])
    stream.update(counts)
    assert stream.requests == 10_000
    assert stream.alarm is None
    for reference in world.references:
        alpha = stream.snapshot().channels[reference.name].alpha
        np.testing.assert_allclose(alpha - reference.alpha, counts[reference.name])


def test_split_mixes_the_interval_at_random() -> None:
    world = World(360, seed=5)
    counts = np.zeros(len(world.references[0].alpha), dtype=np.int64)
    counts[[20, 40]] = 900
    rows = world.stream(seed=1)._split("energy", counts)
    assert rows[:, 20].std() == pytest.approx(np.sqrt(18) / 2, rel=0.35)  # hypergeometric
    assert (rows != world.stream(seed=2)._split("energy", counts)).any()
    np.testing.assert_array_equal(rows, world.stream(seed=1)._split("energy", counts))


def test_split_of_other_counts_is_another_shuffle() -> None:
    world = World(360, seed=5)
    counts = np.zeros(len(world.references[0].alpha), dtype=np.int64)
    counts[[20, 40]] = 900
    other = counts.copy()
    other[[40, 60]] = 899, 1
    stream = world.stream()
    same_place = stream._split("energy", counts)[:, 20] == stream._split("energy", other)[:, 20]
    assert same_place.mean() < 0.4  # two streams must not share their unlucky pieces


def test_empty_increments_change_nothing() -> None:
    world = World(360, seed=6)
    stream = warmed(world)
    before = stream.snapshot()
    stream.update({})
    stream.update({"energy": np.zeros(len(world.references[0].alpha), dtype=np.int64)})
    assert stream.snapshot() == before


def broken_counts(cells: int, cell: int, value: float) -> list[float]:
    """Return counts of 1 with one broken value."""
    counts = [1.0] * cells
    counts[cell] = value
    return counts


@pytest.mark.parametrize(
    ("name", "counts", "says"),
    [
        ("colour", [1] * 10, r"unknown channels \['colour'\], expected some of \['a', 'b',"),
        ("class", [1] * 9, r"expected shape \(10,\), got \(9,\)"),
        ("class", [[1] * 10], r"expected shape \(10,\), got \(1, 10\)"),
        ("class", ["x"] * 10, r"expected \(10,\) numbers"),
        ("class", broken_counts(10, 3, -1), "expected whole counts >= 0"),
        ("class", broken_counts(10, 3, 0.5), "expected whole counts >= 0"),
        ("class", broken_counts(10, 3, np.nan), "expected whole counts >= 0"),
        ("class", broken_counts(10, 3, np.inf), "expected whole counts >= 0"),
        ("energy", broken_counts(72, 0, 1), "cell '00' has requests but no reference weight"),
    ],
)
def test_broken_increments_are_refused_and_nothing_changes(
    name: str, counts: list[float], says: str
) -> None:
    world = World(360, seed=7)
    stream = warmed(world, 100)
    before = stream.snapshot()
    with pytest.raises(IncrementError, match=says):
        stream.update({**world.counts(10), name: counts})
    assert stream.snapshot() == before


def test_traffic_is_not_absorbed_from_the_crossing_piece_on() -> None:
    world = World(360, seed=8)
    stream = warmed(world)
    held = [channel.alpha for channel in stream.snapshot().channels.values()]
    stream.update(world.counts(18, shift=9.0))  # crosses within this one piece
    assert stream.alarm is not None
    for shift in (9.0, 0.0):
        stream.update(world.counts(300, shift=shift))
    assert [channel.alpha for channel in stream.snapshot().channels.values()] == held


def test_alarm_stays_while_the_drift_goes_on_and_so_does_the_evidence() -> None:
    world = World(2000, seed=9)
    stream = alarmed(world)
    raised = stream.alarm
    for _ in range(100):
        stream.update(world.counts(50, shift=1.0))
        assert stream.alarm is raised
        assert stream.log10_evidence()["energy"] >= stream.threshold_log10
        assert stream.log10_evidence()["a"] < stream.threshold_log10


def test_alarm_clears_after_enough_clean_requests_and_absorbing_resumes() -> None:
    world = World(2000, seed=10)
    stream = alarmed(world, clear_after=600)
    raised_at = stream.requests
    while stream.alarm is not None:
        frozen = stream.snapshot().channels["energy"].alpha
        stream.update(world.counts(50))
    assert 600 <= stream.requests - raised_at <= 750
    assert set(stream.log10_evidence().values()) == {0.0}
    stream.update(world.counts(50))
    resumed = stream.snapshot().channels["energy"].alpha
    assert sum(frozen) < sum(resumed) <= sum(frozen) + 150
    delay(world, stream, 200, shift=2.0)  # and a new drift is a new alarm


def test_snapshot_goes_on_identically_after_json() -> None:
    world = World(360, seed=11)
    fresh = world.stream()
    assert StreamEvidence.restore(world.references, fresh.snapshot()).requests == 0
    for stream in (warmed(world, clear_after=300), alarmed(world, c=1e4, eta=0.9, clear_after=300)):
        text = msgspec.json.encode(stream.snapshot())
        twin = StreamEvidence.restore(world.references[::-1], decode_state(text))
        assert twin.alarm == stream.alarm
        assert isinstance(twin.alarm, Alarm | None)
        assert twin.snapshot() == decode_state(text) == stream.snapshot()
        for shift in (0.0, 0.0, 2.0, 0.0, 0.0):
            counts = world.counts(200, shift=shift)  # is split
            stream.update(counts)
            twin.update(counts)
            assert twin.alarm == stream.alarm
            assert twin.log10_evidence() == stream.log10_evidence()
            assert twin.winners() == stream.winners()


def test_restore_takes_new_settings() -> None:
    world = World(360, seed=12)
    stream = StreamEvidence.restore(world.references, world.stream().snapshot(), c=1e3)
    assert stream.threshold_log10 == pytest.approx(np.log10(5e3))


def test_restore_refuses_what_does_not_belong() -> None:
    world = World(360, seed=13)
    snapshot = warmed(world).snapshot()
    renamed = ChannelReference("new", "score", world.references[0].alpha, ("",) * 72)
    others = [
        # fewer channels, another channel, other classes, another draw of the same population
        world.references[:-1],
        [renamed, *world.references[1:]],
        [*world.references[:-1], World(360, 13, n_classes=9).references[-1]],
        [*world.references[:-1], World(360, 14).references[-1]],
    ]
    for references in others:
        with pytest.raises(SnapshotError, match="does not belong to these references"):
            StreamEvidence.restore(references, snapshot)
    whole = msgspec.to_builtins(snapshot)
    damaged = [{}, {**whole, "format": 0}, {**whole, "seed": "x"}, {**whole, "c": 0.5}]
    damaged.append({**whole, "channels": {name: {} for name in whole["channels"]}})
    damaged.append({**msgspec.to_builtins(alarmed(world).snapshot()), "peaks": {}})
    for broken in damaged:
        with pytest.raises(SnapshotError):
            StreamEvidence.restore(world.references, decode_state(msgspec.json.encode(broken)))


def test_stream_refuses_settings_without_meaning() -> None:
    references = World(360, seed=15).references
    wrong: list[dict[str, Any]] = [
        {"c": 1.0},
        {"eta": 0.0},
        {"eta": 1.5},
        {"lags": (0,)},
        {"lags": (5, 5)},
    ]
    for options in (*wrong, {"clear_after": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match="expected c > 1"):
            StreamEvidence(references, **options)
    for several in ([], [references[0], references[0]]):
        with pytest.raises(ValueError, match="distinct names"):
            StreamEvidence(several)


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(1, 60), st.sampled_from([0.0, 3.0, 9.0])), max_size=8))
def test_alarmed_traffic_is_never_absorbed_whatever_comes(looks: list[tuple[int, float]]) -> None:
    world = World(360, seed=16)
    stream = alarmed(world, clear_after=10_000)
    frozen = [channel.alpha for channel in stream.snapshot().channels.values()]
    for requests, shift in looks:
        stream.update(world.counts(requests, shift=shift))
        assert stream.alarm is not None
        assert [each.alpha for each in stream.snapshot().channels.values()] == frozen


def test_snapshot_of_an_older_format_is_refused_by_its_number() -> None:
    world = World(360, seed=17)
    old = msgspec.structs.replace(world.stream().snapshot(), format=1)
    with pytest.raises(SnapshotError, match="format 1, expected 3"):
        decode_state(msgspec.json.encode(old))


def test_bursts_are_learnt_and_stop_alarming() -> None:
    world = World(2000, seed=18)
    alarmed_looks = {}
    for eta in (1.0, "auto"):
        rng = np.random.default_rng(18)
        stream = StreamEvidence([world.references[-1]], eta=eta)
        on = []
        for _ in range(1500):  # every class comes ten times in a row
            drawn = np.repeat(rng.integers(10, size=4), 10)
            stream.update({"class": pieces(drawn, 40, 10)[0]})
            on.append(stream.alarm is not None)
        alarmed_looks[eta] = np.mean(on[750:])
    assert alarmed_looks[1.0] > 0.9
    assert alarmed_looks["auto"] < 0.1
    assert stream.phi()["class"] > 5
    assert stream.least_eta()["class"] == pytest.approx(1 / stream.phi()["class"])
