"""From event to job on several models at once: holds, damage, rests, budgets, clocks set back."""

import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.statistics.shares import Proportion
from models.versions.numbers import keep_versions
from models.versions.registry import Registry
from monitoring.loop.cooling import DAY
from monitoring.loop.dispatcher import Dispatcher, NotStartedError
from monitoring.loop.jobs import JOBS, Job, JobStore
from monitoring.loop.metrics import WatchMetrics
from monitoring.loop.results import Look
from monitoring.loop.triggers import Decision, Event, Policy
from tests.killing import in_child
from tests.models.versions.test_registry import WHY, publish
from tests.waiting import wait_until

MODELS = ("fine", "held", "torn")
ADA: dict[str, Any] = {"actor": "token ada", "reason": "complaints"}
HOUR, YEAR = 3600.0, 365 * DAY


@pytest.fixture
def dispatcher(tmp_path: Path) -> Iterator[Dispatcher]:
    registry = Registry(tmp_path / "registry")
    for model in MODELS:
        publish(registry, model=model)
        publish(registry, model=model)
        registry.promote(model, 1, expected=None, **WHY)
    engine = sa.create_engine(f"sqlite:///{tmp_path}/jobs.sqlite")
    jobs = JobStore(engine)
    policy = Policy(cool_down_seconds=300.0, daily_budget=5)
    yield Dispatcher(policy, {}, registry, jobs, WatchMetrics(), lambda job: None)
    engine.dispose()


def ask(
    dispatcher: Dispatcher, model: str, now: float, source: str = "alert", action: str = "evaluate"
) -> Decision:
    event = Event(source, model, action, now - 60, "because")  # type: ignore[arg-type]
    return dispatcher.consider(event, now)


def finish(dispatcher: Dispatcher, decision: Decision, outcome: str, at: float) -> None:
    """End a job that was started, at a time of this test's own clock."""
    dispatcher.jobs.end(decision.detail, outcome, "so it ended")
    dispatcher.jobs.change(decision.detail, ended_at=at)


def rows(n: int) -> Proportion:
    """A share of `n` rows."""
    return Proportion(0.9, 0.8, 0.95, n)


def past(model: str, at: float, outcome: str = "failed", **changes: Any) -> Job:
    """A job that ended at a time."""
    known = Job(uuid.uuid4().hex, "evaluate", model, 1, "drift", "", 0.0, at - 5)
    done = {"state": "done", "outcome": outcome, "ended_at": at}
    return msgspec.structs.replace(known, **(done | changes))


def store(dispatcher: Dispatcher, *jobs: Job) -> None:
    """Put jobs into the store at once."""
    rows = [
        {"id": j.id, "model": j.model, "state": j.state, "created_at": j.created_at}
        | {"job": msgspec.json.encode(j)}
        for j in jobs
    ]
    with dispatcher.jobs._engine.begin() as connection:
        connection.execute(sa.insert(JOBS), rows)


def test_a_held_and_a_torn_model_stop_nothing_else(dispatcher: Dispatcher) -> None:
    now = time.time()
    dispatcher.registry.hold("held", **ADA)
    (dispatcher.registry.root / "torn" / "aliases.json").write_bytes(b"{")
    told = {model: ask(dispatcher, model, now) for model in MODELS}
    assert told["fine"].start == "evaluate"
    assert told["held"].refusal == "held"
    assert "held by token ada until it is released (complaints)" in told["held"].detail
    assert told["torn"].refusal == "no_champion"
    assert "aliases.json is damaged" in told["torn"].detail
    (job,) = dispatcher.jobs.all()
    assert job.model == "fine"
    refused = dispatcher.metrics.registry.get_sample_value
    assert refused("holdfast_lifecycle_refusals_total", {"model": "", "reason": "held"}) == 1


@pytest.mark.parametrize("damage", [(b'"at":"2', b'"at":"x'), (b'"actor', b"\xff"), (b"{", b"")])
def test_a_damaged_audit_stops_no_decision(
    dispatcher: Dispatcher, damage: tuple[bytes, bytes]
) -> None:
    dispatcher.registry.promote("torn", 2, expected=1, by_person=True, **ADA)
    path = dispatcher.registry.root / "torn" / "audit.jsonl"
    path.write_bytes(path.read_bytes().replace(*damage))
    told = {model: ask(dispatcher, model, time.time()).start for model in MODELS}
    assert told == dict.fromkeys(MODELS, "evaluate")


def test_under_a_hold_a_persons_run_starts_and_after_a_release_the_loops(
    dispatcher: Dispatcher,
) -> None:
    now = time.time()
    dispatcher.registry.hold("held", **ADA)
    mine = ask(dispatcher, "held", now, "person", "retrain")
    assert mine.start == "retrain"
    finish(dispatcher, mine, "reported", now)
    assert ask(dispatcher, "held", now + HOUR).refusal == "held"
    dispatcher.registry.release("held", **ADA)
    assert ask(dispatcher, "held", now + HOUR).start == "evaluate"


def test_a_hold_for_some_hours_ends_by_itself(dispatcher: Dispatcher) -> None:
    now = time.time()
    dispatcher.registry.hold("held", until=now + HOUR, **ADA)
    assert ask(dispatcher, "held", now + HOUR - 1).refusal == "held"
    assert ask(dispatcher, "held", now + HOUR).start == "evaluate"


def test_after_a_persons_rollback_the_loop_still_evaluates(dispatcher: Dispatcher) -> None:
    registry, now = dispatcher.registry, time.time()
    registry.promote("fine", 2, expected=1, **WHY)
    registry.rollback("fine", by_person=True, **ADA)
    soon = ask(dispatcher, "fine", now + 1)
    assert soon.refusal == "cool_down", "a new champion rests, too"
    assert "since the champion became it" in soon.detail
    assert ask(dispatcher, "fine", now + 302).start == "evaluate"


def test_what_fails_rests_from_its_end_twice_as_long_each_time(dispatcher: Dispatcher) -> None:
    at = time.time()
    for rest in (300, 600, 1200, 2400):
        started = ask(dispatcher, "fine", at)
        assert started.start == "evaluate"
        at += HOUR  # it takes an hour
        finish(dispatcher, started, "failed", at)
        assert ask(dispatcher, "fine", at + 2).refusal == "cool_down"
        assert ask(dispatcher, "fine", at + rest - 1).refusal == "cool_down"
        at += rest
    assert ask(dispatcher, "torn", at).start == "evaluate", "others do not rest"


def test_a_person_who_acts_ends_the_row(dispatcher: Dispatcher) -> None:
    now = time.time() + 10  # what a person does now comes after
    store(dispatcher, *(past("fine", now - ago) for ago in (5000, 4000, 3000, 2000)))
    assert "after 4 runs in a row" in ask(dispatcher, "fine", now).detail
    dispatcher.registry.hold("fine", **ADA)
    dispatcher.registry.release("fine", **ADA)
    assert ask(dispatcher, "fine", now).start == "evaluate"


def test_a_person_who_approves_the_champion_has_acted(dispatcher: Dispatcher) -> None:
    now = time.time() + 10
    store(dispatcher, *(past("fine", now - ago) for ago in (5000, 4000, 3000, 2000)))
    tried = {"alpha": 0.03, "passed": True, "event": "e", "actor": "lifecycle"}
    dispatcher.registry.note_attempt("fine", 2, **tried)
    dispatcher.registry.promote("fine", 1, expected=1, by_person=True, **ADA)
    assert "approve" in [record.action for record in dispatcher.registry.audit("fine")]
    assert ask(dispatcher, "fine", now).start == "evaluate"


def test_the_budget_is_the_loops_own_and_each_models(dispatcher: Dispatcher) -> None:
    now = time.time()
    store(
        dispatcher, *(past("fine", now - HOUR - k, "failed", source="person") for k in range(300))
    )
    store(dispatcher, *(past("fine", now - 2 * HOUR - k, "passed") for k in range(4)))
    assert ask(dispatcher, "fine", now).start == "evaluate"
    dispatcher.jobs.end(dispatcher.jobs.all("fine")[0].id, "passed", "")
    again = ask(dispatcher, "fine", now + HOUR)
    assert again.refusal == "daily_budget"
    assert again.detail.startswith("5 runs")
    assert ask(dispatcher, "fine", now + HOUR, "person").start == "evaluate"
    assert ask(dispatcher, "held", now + HOUR).start == "evaluate"


def test_runs_of_persons_hide_nothing_of_what_the_loop_did(dispatcher: Dispatcher) -> None:
    now = time.time() + DAY
    look = Look("inconclusive", "few labels", rows(700), rows(9), None, now - 2000)
    store(dispatcher, past("fine", now - 2000, "inconclusive", evaluation=look))
    store(
        dispatcher,
        *(past("fine", now - 2000 + k, "failed", source="person") for k in range(1, 400)),
    )
    drift = Event("drift", "fine", "evaluate", now - 3000, "energy higher")
    known = dispatcher.situation(drift, now)
    assert (known.looked_at, known.verdict) == (now - 2000, "inconclusive")
    assert known.rest.failures == 1


def test_a_challenger_that_waits_stops_no_evaluation(dispatcher: Dispatcher) -> None:
    now = time.time()
    waiting = past("fine", now - 60)
    store(dispatcher, msgspec.structs.replace(waiting, state="waiting", outcome=None))
    assert ask(dispatcher, "fine", now, action="evaluate_robustness").start is not None
    assert ask(dispatcher, "fine", now).refusal == "already_running", "that one is at it"
    dispatcher.jobs.end(dispatcher.jobs.unfinished("fine")[0].id, "passed", "")
    mine = ask(dispatcher, "fine", now, "person", "retrain")
    assert mine.refusal == "already_running"
    assert "waits for approval" in mine.detail


def test_a_job_that_the_loop_does_not_take_ends_by_name_and_frees_the_model(
    dispatcher: Dispatcher,
) -> None:
    now = time.time()

    def locked(job: Job) -> None:
        raise sa.exc.OperationalError("INSERT", {}, Exception("database is locked"))

    dispatcher.start_job = locked
    for model, source in (("fine", "alert"), ("held", "person")):
        with pytest.raises(NotStartedError, match=r"could not be started.*database is locked"):
            ask(dispatcher, model, now, source)
    assert [(job.state, job.outcome) for job in dispatcher.jobs.all()] == [("done", "failed")] * 2
    assert dispatcher.jobs.unfinished() == []
    dispatcher.start_job = lambda job: None
    assert ask(dispatcher, "fine", time.time() + 2).refusal == "cool_down"
    assert ask(dispatcher, "fine", time.time() + 301).start == "evaluate"
    assert ask(dispatcher, "held", time.time(), "person").start == "evaluate"


@pytest.mark.parametrize("jump", [HOUR, YEAR])
def test_after_a_clock_that_was_ahead_the_loop_goes_on(dispatcher: Dispatcher, jump: float) -> None:
    now = time.time()
    store(dispatcher, *(past("fine", now + jump + k) for k in range(250)))
    fresh = ask(dispatcher, "fine", now)
    assert fresh.start == "evaluate", "neither the budget nor the rest is of the future"
    finish(dispatcher, fresh, "failed", now + 1)
    assert ask(dispatcher, "fine", now + 3).refusal == "cool_down"
    assert ask(dispatcher, "fine", now + 302).start == "evaluate"


@pytest.mark.parametrize("jump", [HOUR, YEAR])
def test_a_clock_that_is_ahead_does_no_harm(dispatcher: Dispatcher, jump: float) -> None:
    now = time.time()
    store(dispatcher, *(past("fine", now - 400 * 2**k) for k in range(3)))
    ahead = ask(dispatcher, "fine", now + jump)
    assert ahead.start == "evaluate"
    finish(dispatcher, ahead, "failed", now + jump + 1)
    assert ask(dispatcher, "fine", now + jump + 2).refusal == "cool_down"
    back = ask(dispatcher, "fine", now + 5 * HOUR if jump == YEAR else now + 2 * DAY)
    assert back.start == "evaluate"


def test_labels_count_although_the_promotion_lies_in_the_future(dispatcher: Dispatcher) -> None:
    then = time.time() - YEAR  # the clock is set back: the champion became it in a year
    drift = Event("drift", "fine", "evaluate", then - 50, "energy higher")
    assert dispatcher.since(drift, then) == then - 50
    ahead = Event("drift", "fine", "evaluate", then + HOUR, "energy higher")
    assert dispatcher.since(ahead, then) == 0.0
    skewed = Event("alert", "fine", "evaluate", then + 2, "another machine's clock")
    assert dispatcher.since(skewed, then) == then


moments = st.sampled_from([-YEAR, -DAY, -HOUR, -400.0, -1.0, 0.0, 1.0, HOUR, DAY, YEAR])


@given(
    pasts=st.lists(
        st.tuples(
            moments,
            st.sampled_from(["failed", "passed", "refused"]),
            st.sampled_from(["drift", "person"]),
        ),
        max_size=8,
    )
)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_the_clock_did_the_loop_starts_within_one_rest(
    dispatcher: Dispatcher, pasts: list[tuple[float, str, str]]
) -> None:
    now = time.time() + 1000
    with dispatcher.jobs._engine.begin() as connection:
        connection.execute(sa.delete(JOBS))
    for k, (moment, outcome, source) in enumerate(pasts):
        store(dispatcher, past("fine", now + moment - k, outcome, source=source))
    event = Event("alert", "fine", "evaluate", now, "because")
    known = dispatcher.situation(event, now)
    began = [now + moment - k - 5 for k, (moment, _, _) in enumerate(pasts)]
    assert known.runs_today <= sum(now - DAY <= at <= now for at in began)
    left = known.rest.left(300.0, now)
    assert left <= known.rest.seconds(300.0) + 1e-6
    assert known.rest.failures <= sum(at + 5 <= now for at in began)


def test_one_look_at_a_thousand_jobs_is_cheap_enough_to_be_taken_each_tick(
    dispatcher: Dispatcher,
) -> None:
    now = time.time()
    look = Look("passed", "as expected", rows(7), rows(9), None, now - 50)
    store(
        dispatcher, *(past("fine", now - 100 - k, "passed", evaluation=look) for k in range(1000))
    )
    read: list[int] = []
    begun = dispatcher.jobs.begun

    def counted(*arguments: Any, **named: Any) -> list[Job]:
        found = begun(*arguments, **named)
        read.append(len(found))
        return found

    dispatcher.jobs.begun = counted  # type: ignore[method-assign]
    dispatcher.situation(Event("alert", "fine", "evaluate", now, "because"), now)
    assert read[0] <= 50, "it looks back no further than it has to"


def test_a_job_is_stored_before_a_version_is_removed_or_after_it(dispatcher: Dispatcher) -> None:
    """Whoever removes a version has asked what needs it: no job may be stored from then on."""
    registry, asked, stored = dispatcher.registry, threading.Event(), threading.Event()
    dispatcher.start_job = lambda job: stored.set()
    assert publish(registry, model="fine") == 3  # nothing names 2 any more

    def find_use() -> list[str]:
        thread.start()
        wait_until(lambda: waits_for_lock(lock), what="the job waits for the lock")
        assert not stored.is_set()
        asked.set()
        return []

    lock = registry.root / "fine" / ".lock"
    thread = threading.Thread(target=ask, args=(dispatcher, "fine", time.time()))
    registry.remove("fine", 2, find_use=find_use, **WHY)
    thread.join()
    assert asked.is_set()
    assert stored.is_set()
    assert [job.champion for job in dispatcher.jobs.all()] == [1]
    assert registry.versions("fine") == (1, 3)


def waits_for_lock(path: Path) -> bool:
    """Whether somebody waits for the lock of a file, as the kernel lists it."""
    inode = str(path.stat().st_ino)
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and line.split()[6].split(":")[-1] == inode for line in lines)


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_removal_killed_at_any_line_leaves_whole_versions_and_jobs_that_have_theirs(
    dispatcher: Dispatcher, tmp_path: Path, every: int
) -> None:
    registry = dispatcher.registry
    assert publish(registry, model="fine") == 3  # nothing names 2 any more
    killed, line = True, 1 - every
    while killed:
        line += every
        root = tmp_path / f"killed-{line}"
        shutil.copytree(registry.root, root)
        other = Registry(root)
        killed = bool(in_child(lambda r=other: r.remove("fine", 2, **WHY), die_at_line=line))
        for version in other.versions("fine"):
            other.open("fine", str(version))
        with keep_versions(other, "fine"):  # a lock of the dead holds nobody up
            assert set(other.versions("fine")) >= {1, 3}
        if 2 in other.versions("fine"):
            other.remove("fine", 2, **WHY)
        assert publish(other, model="fine") == 4
        assert not list(root.glob("fine/.staging-*"))
        assert other.versions("fine") == (1, 3, 4)
    assert line > 20
