"""How long the loop rests: from the end of a run, longer with each that led nowhere."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.loop.cooling import DAY, NOWHERE, SUCCESS, Rest, find_rest
from monitoring.loop.jobs import Job

NOW = 1_000_000.0
COOL_DOWN = 300.0


def job(outcome: str | None, at: float, source: str = "drift", began: float | None = None) -> Job:
    """A job that ended with an outcome at a time; without an outcome it still runs."""
    begun = at - 50 if began is None else began
    known = Job("j", "evaluate", "digits", 1, source, "because", 0.0, begun)
    if outcome is None:
        return known
    end = {"state": "done", "outcome": outcome, "ended_at": at}
    return msgspec.structs.replace(known, **end)


def row(*outcomes: str, source: str = "drift") -> list[Job]:
    """Jobs that ended one after the other, a minute apart, the last one a minute ago."""
    first = NOW - 60 * len(outcomes)
    return [job(outcome, first + 60 * k, source) for k, outcome in enumerate(outcomes)]


def rest(jobs: list[Job], acts: tuple[float, ...] = (), reign: float | None = None) -> Rest:
    return find_rest(jobs, acts, reign, NOW)


def test_nothing_that_ended_asks_for_no_rest() -> None:
    assert rest([]) == Rest()
    assert rest([job(None, NOW - 10)]) == Rest()
    assert Rest().left(COOL_DOWN, NOW) == 0


@pytest.mark.parametrize("outcome", [*NOWHERE, *SUCCESS, "reported"])
def test_the_rest_counts_from_the_end_of_a_run_not_from_its_beginning(outcome: str) -> None:
    long = job(outcome, NOW - 100, began=NOW - 50_000)
    assert rest([long]).left(COOL_DOWN, NOW) == COOL_DOWN - 100


@pytest.mark.parametrize("outcome", NOWHERE)
def test_it_doubles_with_each_run_that_led_nowhere_up_to_a_day(outcome: str) -> None:
    seconds = [rest(row(*[outcome] * k)).seconds(COOL_DOWN) for k in range(1, 12)]
    assert seconds == [min(COOL_DOWN * 2**k, DAY) for k in range(11)]
    assert seconds[-1] == DAY


@pytest.mark.parametrize("success", SUCCESS)
def test_a_success_ends_the_row(success: str) -> None:
    assert rest(row("failed", "refused", success)).failures == 0
    assert rest(row("failed", success, "refused")).failures == 1


def test_a_run_that_only_reports_neither_lengthens_nor_ends_the_row() -> None:
    assert rest(row("failed", "reported", "refused")).failures == 2


def test_a_person_who_acts_ends_the_row_and_what_a_person_tries_does_not_lengthen_it() -> None:
    jobs = row("failed", "failed", "failed", "failed")
    assert rest(jobs, acts=(NOW - 90,)).failures == 1  # one ended after it
    assert rest(jobs, acts=(NOW - 1,)).failures == 0
    tries = row("failed", "refused", "failed", source="person")
    assert rest([*row("failed"), *tries]).failures == 1
    assert rest([*jobs, job("passed", NOW - 10, "person")]).failures == 0
    assert rest([*jobs, job("reported", NOW - 10, "person")]).failures == 0


def test_a_new_champion_rests_from_its_promotion() -> None:
    found = rest([job("promoted", NOW - 500)], reign=NOW - 20)
    assert found == Rest(NOW - 20, 0, promoted=True)
    assert "since the champion became it" in found.words(COOL_DOWN, NOW)


def test_of_a_run_from_before_its_end_was_kept_the_last_change_counts() -> None:
    old = msgspec.structs.replace(job("failed", NOW - 40), ended_at=None, updated_at=NOW - 30)
    assert rest([old]) == Rest(NOW - 30, 1)


def test_without_a_cool_down_what_fails_again_and_again_is_still_slowed_down() -> None:
    seconds = [rest(row(*["failed"] * k)).seconds(0.0) for k in range(6)]
    assert seconds == [0, 1, 2, 4, 8, 16]


def test_a_cool_down_of_more_than_a_day_is_kept() -> None:
    assert rest(row("failed", "failed")).seconds(3 * DAY) == 3 * DAY


instants = st.floats(0, 2 * NOW) | st.sampled_from(
    [NOW + change for change in (-366 * 900.0, -3600.0, 0.0, 3600.0, 366 * DAY)]
)
jobs = st.lists(
    st.builds(
        job,
        st.none() | st.sampled_from([*NOWHERE, *SUCCESS, "reported"]),
        instants,
        st.sampled_from(["drift", "person", "alert"]),
    ),
    max_size=30,
)


@given(jobs, st.lists(instants, max_size=3), st.none() | instants, st.floats(0, 2 * DAY))
def test_no_time_past_or_to_come_blocks_for_longer_than_one_rest(
    found: list[Job], acts: list[float], reign: float | None, cool_down: float
) -> None:
    known = find_rest(found, acts, reign, NOW)
    left = known.left(cool_down, NOW)
    assert 0 <= left <= known.seconds(cool_down) + 1e-6
    assert known.seconds(cool_down) <= max(cool_down, DAY)
    assert known.since is None or known.since <= NOW
    assert known.left(cool_down, NOW + left + 1e-3) == 0


@given(jobs, st.floats(0, DAY))
def test_what_lies_in_the_future_changes_nothing(found: list[Job], cool_down: float) -> None:
    past = [each for each in found if (each.ended_at or 0.0) <= NOW]
    assert find_rest(found, (), None, NOW) == find_rest(past, (), None, NOW)
