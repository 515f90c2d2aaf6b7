"""The table of decisions, and what no decision may ever do."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.versions.registry_state import Hold
from monitoring.loop.cooling import DAY, Rest
from monitoring.loop.triggers import ACTIONS, Decision, Event, Policy, Situation, decide

NOW = 10_000.0
POLICY = Policy(cool_down_seconds=300.0, daily_budget=20)
IDLE = Situation(champion=1, running=None, looked_at=None, runs_today=0)
HOLD = Hold("ada", "audit week", "1970-01-01T02:46:40.000Z")
AFTER_ROLLBACK = Hold("ada", "rolled back", "1970-01-01T02:46:40.000Z", stops="promotions")


def event(source: str = "drift", **changes: object) -> Event:
    """Drift that began 400 s ago, or a change of that."""
    known = Event("drift", "digits", "evaluate", NOW - 400, "energy higher")
    return msgspec.structs.replace(known, source=source, **changes)


def harm(**changes: object) -> Event:
    """Answers got worse 5000 s ago, and the alarm of that was raised or renewed 50 s ago."""
    known = Event("accuracy", "digits", "evaluate", NOW - 5000, "40 of 50", raised=NOW - 50)
    return msgspec.structs.replace(known, **changes)


def situation(**changes: object) -> Situation:
    """Nothing runs, or a change of that."""
    return msgspec.structs.replace(IDLE, **changes)


@pytest.mark.parametrize(
    ("given_", "known", "start", "refusal"),
    [
        # what starts
        (event(), situation(), "evaluate", None),
        (event("alert"), situation(), "evaluate", None),
        (event("accuracy"), situation(), "evaluate", None),
        (event("schedule"), situation(), "evaluate", None),
        (event("person", action="retrain"), situation(), "retrain", None),
        (event("alert", action="evaluate_robustness"), situation(), "evaluate_robustness", None),
        # a look at drift waits for what labels say, not for ever
        (event(since=NOW - 299), situation(), None, "not_enough_labels"),
        (event(since=NOW - 300), situation(), "evaluate", None),
        (event("alert", since=NOW), situation(), "evaluate", None),
        (harm(since=NOW), situation(), "evaluate", None),
        (event("person", since=NOW), situation(), "evaluate", None),
        # drift that does no harm, as labels say, starts nothing, however long it goes on
        (event(harmless="moved, not harmed"), situation(), None, "not_harmed"),
        (event(harmless="moved, not harmed", since=NOW), situation(), None, "not_harmed"),
        (event(harmless="moved, not harmed", since=0.0), situation(), None, "not_harmed"),
        # one look per alarm of drift, whatever it found
        (event(), situation(looked_at=NOW - 401, verdict="passed"), "evaluate", None),
        (event(), situation(looked_at=NOW - 99, verdict="passed"), None, "looked_already"),
        (event(), situation(looked_at=NOW - 99, verdict="inconclusive"), None, "looked_already"),
        (event(), situation(looked_at=NOW - 99, verdict="failed"), None, "looked_already"),
        (event("alert"), situation(looked_at=NOW - 99, verdict="passed"), None, "looked_already"),
        (
            event("alert", action="evaluate_robustness"),
            situation(looked_at=NOW - 99, verdict="passed"),
            "evaluate_robustness",
            None,
        ),
        # harm is looked at until a look does not confirm it, and again when it is renewed
        (harm(), situation(looked_at=NOW - 49, verdict="inconclusive"), "evaluate", None),
        (harm(), situation(looked_at=NOW - 49, verdict="failed"), "evaluate", None),
        (harm(), situation(looked_at=NOW - 49, verdict="passed"), None, "looked_already"),
        (harm(), situation(looked_at=NOW - 51, verdict="passed"), "evaluate", None),
        # labels that do not speak for all
        (harm(doubt="the hardest 25 % get labels more often"), situation(), None, "labels_biased"),
        (event("person"), situation(looked_at=NOW - 1, verdict="passed"), "evaluate", None),
        (event("schedule"), situation(looked_at=NOW - 1, verdict="passed"), "evaluate", None),
        # the rest after a run, which only a person overrides
        (event(), situation(rest=Rest(NOW - 299)), None, "cool_down"),
        (event(), situation(rest=Rest(NOW - 300)), "evaluate", None),
        (event(), situation(rest=Rest(NOW - 299, 1)), None, "cool_down"),
        (event(), situation(rest=Rest(NOW - 300, 1)), "evaluate", None),
        (event(), situation(rest=Rest(NOW - 1199, 3)), None, "cool_down"),
        (event(), situation(rest=Rest(NOW - 1200, 3)), "evaluate", None),
        (event("alert"), situation(rest=Rest(NOW - 1)), None, "cool_down"),
        (event("schedule"), situation(rest=Rest(NOW - 1)), None, "cool_down"),
        (event("person"), situation(rest=Rest(NOW - 1, 9)), "evaluate", None),
        # a clock that was set back
        (event(), situation(rest=Rest(NOW + 1, 9)), "evaluate", None),
        # the budget, which is the loop's own
        (event(), situation(runs_today=20), None, "daily_budget"),
        (event(), situation(runs_today=19), "evaluate", None),
        (event("person"), situation(runs_today=99), "evaluate", None),
        # a hold
        (event(), situation(hold=HOLD), None, "held"),
        (event("alert"), situation(hold=HOLD), None, "held"),
        (event("schedule"), situation(hold=HOLD, running="job-1"), None, "held"),
        (event("person", action="retrain"), situation(hold=HOLD), "retrain", None),
        (event(), situation(hold=AFTER_ROLLBACK), "evaluate", None),
        (event("alert", action="retrain"), situation(hold=AFTER_ROLLBACK), None, "held"),
        (event("person", action="retrain"), situation(hold=AFTER_ROLLBACK), "retrain", None),
        # a challenger that waits for a person
        (event(), situation(waiting="job-1"), "evaluate", None),
        (
            event(action="evaluate_robustness"),
            situation(waiting="job-1"),
            "evaluate_robustness",
            None,
        ),
        (event("person", action="retrain"), situation(waiting="job-1"), None, "already_running"),
        (event(action="retrain"), situation(waiting="job-1"), None, "already_running"),
        # what not even a person overrides
        (event("person"), situation(running="job-1"), None, "already_running"),
        (event("person"), situation(champion=None), None, "no_champion"),
        (event("person"), situation(pinned=2), None, "pinned"),
        (event("person", action="delete"), situation(), None, "unknown_action"),
        (event("alert", action=""), situation(), None, "unknown_action"),
        (event("alert", resolved=True), situation(), None, "resolved"),
        # the first reason is the one that is told
        (event(resolved=True), situation(running="job-1"), None, "resolved"),
        (event(), situation(running="job-1", runs_today=99), None, "already_running"),
    ],
)
def test_decision(given_: Event, known: Situation, start: str | None, refusal: str | None) -> None:
    decision = decide(given_, known, POLICY, NOW)
    assert (decision.start, decision.refusal) == (start, refusal)
    assert decision.detail


def test_refusals_say_who_or_what_is_in_the_way_and_for_how_long() -> None:
    def told(**changes: object) -> str:
        return decide(event(action="retrain"), situation(**changes), POLICY, NOW).detail

    held = told(hold=HOLD)
    assert "held by ada until it is released (audit week)" in held
    assert "holdfast models release digits" in held
    resting = told(rest=Rest(NOW - 60, 3))
    assert resting == "19 min left of 20 min, after 3 runs in a row that led nowhere"
    waiting = told(waiting="job-7")
    assert "holdfast jobs approve job-7" in waiting
    assert told(champion=None, damage="aliases.json is damaged") == "aliases.json is damaged"


instants = st.floats(0, 2 * NOW) | st.sampled_from([NOW - 3600, NOW + 3600, NOW + 366 * DAY])
times = st.none() | instants
holds = st.builds(
    Hold,
    st.just("ada"),
    st.just("because"),
    st.just("1970-01-01T02:46:40.000Z"),
    until=times,
    stops=st.sampled_from(["everything", "promotions"]),
)
events = st.builds(
    Event,
    source=st.sampled_from(["drift", "alert", "accuracy", "schedule", "person"]),
    model=st.just("digits"),
    action=st.sampled_from([*ACTIONS, "delete", ""]),
    since=instants,
    reason=st.just("because"),
    resolved=st.booleans(),
    raised=times,
    doubt=st.sampled_from(["", "", "biased"]),
    harmless=st.sampled_from(["", "", "moved, not harmed"]),
)
situations = st.builds(
    Situation,
    champion=st.none() | st.integers(1, 3),
    running=st.none() | st.just("job-1"),
    looked_at=times,
    runs_today=st.integers(0, 40),
    verdict=st.sampled_from(["passed", "inconclusive", "failed"]),
    waiting=st.none() | st.just("job-2"),
    hold=st.none() | holds,
    rest=st.builds(Rest, times, st.integers(0, 2000), st.booleans()),
    pinned=st.none() | st.integers(1, 3),
)
policies = st.builds(
    Policy,
    cool_down_seconds=st.floats(0, 1000),
    daily_budget=st.integers(0, 30),
)


@given(events, situations, policies)
def test_a_start_is_always_allowed_and_a_refusal_always_named(
    event: Event, known: Situation, policy: Policy
) -> None:
    decision: Decision = decide(event, known, policy, NOW)
    assert (decision.start is None) == (decision.refusal is not None)
    if decision.start is not None:
        assert decision.start == event.action
        assert decision.start in ACTIONS
        assert not event.resolved
        assert known.champion is not None
        assert known.running is None
        assert known.pinned is None
        if event.source != "person":
            assert known.runs_today < policy.daily_budget
            assert known.hold is None or known.hold.stops == "promotions"
            assert known.hold is None or decision.start != "retrain"
            since = known.rest.since
            assert since is None or since > NOW or NOW - since >= policy.cool_down_seconds


@given(events, situations, policies)
def test_a_person_is_never_refused_what_the_watcher_may_do(
    event: Event, known: Situation, policy: Policy
) -> None:
    alone = decide(event, known, policy, NOW)
    asked = decide(msgspec.structs.replace(event, source="person"), known, policy, NOW)
    if alone.start is not None:
        assert asked.start == alone.start
    assert asked.refusal in (
        None,
        "resolved",
        "unknown_action",
        "pinned",
        "no_champion",
        "already_running",
    )


@given(events, situations, policies)
def test_drift_is_looked_at_once_per_alarm_whatever_the_look_found(
    event: Event, known: Situation, policy: Policy
) -> None:
    drift = msgspec.structs.replace(event, source="drift", since=min(event.since, NOW), raised=None)
    if decide(drift, known, policy, NOW).start is not None:
        looked = msgspec.structs.replace(known, looked_at=NOW)
        decision = decide(drift, looked, policy, NOW)
        assert decision.refusal == "looked_already"
        assert known.verdict in decision.detail


@given(events, situations, policies)
def test_a_decision_depends_on_nothing_else(event: Event, known: Situation, policy: Policy) -> None:
    assert decide(event, known, policy, NOW) == decide(event, known, policy, NOW)
