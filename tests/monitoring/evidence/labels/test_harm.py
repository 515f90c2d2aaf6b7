"""Laws of the harm test: a promise that holds at the floor, and falls that are seen soon."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.evidence.labels import harm
from monitoring.evidence.labels.harm import HarmEvidence, advance, factors, floor_of, update

Floats = npt.NDArray[np.float64]


def first_alarms(
    floor: float, accuracy: Floats, streams: int, c: float, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Label of the first alarm of each stream, `len(accuracy) + 1` where there is none."""
    r = np.full((streams, len(harm.ODDS)), harm.HEAD_START * c)
    first = np.full(streams, len(accuracy) + 1)
    for t, chance in enumerate(accuracy, 1):
        r = advance(r, rng.random(streams) >= chance, factors(floor))
        first[(r.mean(axis=1) >= c) & (first > len(accuracy))] = t
    return first


def run(right: npt.NDArray[np.bool_], floor: float = 0.96, c: float = 1e6) -> HarmEvidence:
    return update(HarmEvidence(), right, np.arange(len(right)) * 1.0, floor=floor, c=c)


@given(floor=st.floats(0.001, 0.999), above=st.floats(0, 1))
def test_no_bet_gains_in_the_mean_at_or_above_the_floor(floor: float, above: float) -> None:
    right, wrong = factors(floor)
    at_floor = floor * right + (1 - floor) * wrong
    np.testing.assert_allclose(at_floor, 1, rtol=1e-9)
    accuracy = floor + above * (1 - floor)
    assert (accuracy * right + (1 - accuracy) * wrong <= 1 + 1e-9).all()


@pytest.mark.parametrize(
    "accuracy",
    [
        np.full(4000, 0.9),
        np.where(np.arange(4000) // 100 % 2, 0.99, 0.9),
        np.where(np.arange(4000) < 2000, 0.99, 0.9),
    ],
    ids=["at the floor", "to and fro above it", "falls to it"],
)
def test_alarms_within_t_labels_are_at_most_t_over_c(accuracy: Floats) -> None:
    streams, c = 1500, 4e4  # promised: 10 %
    alarms = first_alarms(0.9, accuracy, streams, c, np.random.default_rng(0)) <= len(accuracy)
    assert alarms.mean() <= len(accuracy) / c + 3 * np.sqrt(0.1 * 0.9 / streams)


def test_the_same_streams_break_the_promise_of_a_floor_three_points_higher() -> None:
    """The test above can fail: it is the floor that keeps the promise."""
    accuracy = np.full(4000, 0.9)
    assert (first_alarms(0.93, accuracy, 300, 4e4, np.random.default_rng(0)) <= 4000).mean() > 0.5


@pytest.mark.parametrize(("fall", "most"), [(0.05, 600), (0.1, 150), (0.2, 60)])
def test_a_fall_is_seen_soon(fall: float, most: int) -> None:
    """Promised .97, tolerance .01."""
    accuracy = np.full(2000, 0.97 - fall)
    first = first_alarms(floor_of(0.97, 0.965), accuracy, 800, 1e6, np.random.default_rng(1))
    assert np.median(first) <= most


@given(st.lists(st.booleans(), max_size=120), st.integers(0, 120))
def test_labels_may_come_in_any_pieces(right: list[bool], cut: int) -> None:
    answers, at = np.array(right, bool), np.arange(len(right)) * 1.0
    whole = update(HarmEvidence(), answers, at, floor=0.9, c=100)
    part = update(HarmEvidence(), answers[:cut], at[:cut], floor=0.9, c=100)
    assert update(part, answers[cut:], at[cut:], floor=0.9, c=100) == whole


def test_an_alarm_says_since_when_and_how_bad_it_is() -> None:
    rng = np.random.default_rng(3)
    right = np.concatenate([rng.random(1500) < 0.97, rng.random(300) < 0.75])
    alarm = run(right).alarm
    assert alarm is not None
    assert alarm.since == pytest.approx(1500, abs=30)
    assert 1500 < alarm.labels < 1600
    assert alarm.right / alarm.of == pytest.approx(0.75, abs=0.15)
    assert alarm.log10_r >= 6


def test_an_alarm_goes_on_while_answers_stay_bad_and_ends_when_they_are_good_again() -> None:
    rng = np.random.default_rng(4)
    bad = run(rng.random(3000) < 0.7)
    assert bad.alarm is not None
    assert bad.alarm.labels < 100, "it is the alarm as it was raised"
    assert bad.log10_r >= 6, "a restart of the evidence does not look like an end of the harm"

    def good(labels: int) -> HarmEvidence:
        answers = rng.random(labels) < 0.99
        return update(bad, answers, np.arange(labels) + 3000.0, floor=0.96)

    assert good(800).alarm is not None
    better = good(1100)
    assert better.alarm is None
    assert better.log10_r < 2


@pytest.mark.parametrize("floor", [float("nan"), 0.0, -0.2, 1.0])
def test_without_a_floor_nothing_can_fall_below_it(floor: float) -> None:
    assert run(np.zeros(500, bool), floor=floor) == HarmEvidence()
    assert harm.promise(floor, 1e6).startswith("none")


def test_the_floor_follows_tolerance_and_doubt() -> None:
    assert floor_of(0.9, 0.895) == pytest.approx(0.89)
    assert floor_of(0.9, 0.86) == 0.86  # few held-out rows: the doubt is larger than the tolerance
    assert floor_of(0.9, 0.86, tolerance=0.05) == pytest.approx(0.85)
    assert np.isnan(floor_of(float("nan"), float("nan")))
