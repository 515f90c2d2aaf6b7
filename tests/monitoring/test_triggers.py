"""The table of decisions, and what no decision may ever do."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.triggers import ACTIONS, Decision, Event, Policy, Situation, decide

NOW = 10_000.0
POLICY = Policy(min_labels=300, cool_down_seconds=300.0, daily_budget=20)
IDLE = Situation(
    champion=1, running=None, labels_since=500, judged_at=None, looked_at=None, runs_today=0
)


def event(source: str = "drift", **changes: object) -> Event:
    """Drift that began 100 s ago, or a change of that."""
    known = Event("drift", "digits", "evaluate", NOW - 100, "energy higher")
    return msgspec.structs.replace(known, source=source, **changes)


def situation(**changes: object) -> Situation:
    """Nothing runs and there are labels, or a change of that."""
    return msgspec.structs.replace(IDLE, **changes)


@pytest.mark.parametrize(
    ("given_", "known", "start", "refusal"),
    [
        # what starts
        (event(), situation(), "evaluate", None),
        (event("alert"), situation(labels_since=0), "evaluate", None),
        (event("accuracy"), situation(labels_since=0), "evaluate", None),
        (event("schedule"), situation(labels_since=0), "evaluate", None),
        (event("person", action="retrain"), situation(labels_since=0), "retrain", None),
        (event("alert", action="evaluate_robustness"), situation(), "evaluate_robustness", None),
        (event(), situation(labels_since=300), "evaluate", None),
        # one look without labels per cause
        (event(), situation(labels_since=299), "evaluate", None),
        (event(), situation(labels_since=0, looked_at=NOW - 101), "evaluate", None),
        (event(), situation(labels_since=0, looked_at=NOW - 99), None, "not_enough_labels"),
        (event(), situation(labels_since=299, looked_at=NOW - 99), None, "not_enough_labels"),
        (event(), situation(labels_since=300, looked_at=NOW - 99), "evaluate", None),
        # cool-down, which only a person overrides
        (event(), situation(judged_at=NOW - 299), None, "cool_down"),
        (event(), situation(judged_at=NOW - 300), "evaluate", None),
        (event("alert"), situation(judged_at=NOW - 1), None, "cool_down"),
        (event("schedule"), situation(judged_at=NOW - 1), None, "cool_down"),
        (event("person"), situation(judged_at=NOW - 1), "evaluate", None),
        # what not even a person overrides
        (event("person"), situation(running="job-1"), None, "already_running"),
        (event("person"), situation(runs_today=20), None, "daily_budget"),
        (event("person"), situation(runs_today=19), "evaluate", None),
        (event("person"), situation(champion=None), None, "no_champion"),
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


times = st.none() | st.floats(0, NOW)
events = st.builds(
    Event,
    source=st.sampled_from(["drift", "alert", "accuracy", "schedule", "person"]),
    model=st.just("digits"),
    action=st.sampled_from([*ACTIONS, "delete", ""]),
    since=st.floats(0, NOW),
    reason=st.just("because"),
    resolved=st.booleans(),
)
situations = st.builds(
    Situation,
    champion=st.none() | st.integers(1, 3),
    running=st.none() | st.just("job-1"),
    labels_since=st.integers(0, 1000),
    judged_at=times,
    looked_at=times,
    runs_today=st.integers(0, 40),
)
policies = st.builds(
    Policy,
    min_labels=st.integers(0, 500),
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
        assert known.runs_today < policy.daily_budget
        if event.source != "person" and known.judged_at is not None:
            assert NOW - known.judged_at >= policy.cool_down_seconds


@given(events, situations, policies)
def test_a_person_is_never_refused_what_the_watcher_may_do(
    event: Event, known: Situation, policy: Policy
) -> None:
    alone = decide(event, known, policy, NOW)
    asked = decide(msgspec.structs.replace(event, source="person"), known, policy, NOW)
    if alone.start is not None:
        assert asked.start == alone.start
    assert asked.refusal not in ("cool_down", "not_enough_labels")


@given(events, situations, policies)
def test_drift_without_labels_looks_at_most_once_per_cause(
    event: Event, known: Situation, policy: Policy
) -> None:
    drift = msgspec.structs.replace(event, source="drift")
    without = msgspec.structs.replace(known, labels_since=policy.min_labels - 1)
    if decide(drift, without, policy, NOW).start is not None:
        looked = msgspec.structs.replace(without, looked_at=NOW)
        assert decide(drift, looked, policy, NOW).refusal == "not_enough_labels"


@given(events, situations, policies)
def test_a_decision_depends_on_nothing_else(event: Event, known: Situation, policy: Policy) -> None:
    assert decide(event, known, policy, NOW) == decide(event, known, policy, NOW)
