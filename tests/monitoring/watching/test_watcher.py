"""Laws of the watcher: what labels count for, and what an alarm leaves behind."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa

from models.versions.registry import Registry
from monitoring.alerts import webhook
from monitoring.alerts.decisions import decide_alerts
from monitoring.alerts.handled_alerts import HandledAlerts
from monitoring.counting.counters import Page
from monitoring.loop.jobs import Job, JobStore
from monitoring.loop.metrics import WatchMetrics
from monitoring.loop.triggers import Event, Policy
from monitoring.records.store import Key, Record, RecordStore
from monitoring.watching.status import describe_models
from monitoring.watching.watcher import Watcher, WatchPlan
from service.access.guard import watch_guard_of
from service.configuration.settings import load
from service.watcher import calls as watch_calls
from service.web.front import Front, RequestBounds
from tests.asgi import client_of
from tests.conftest import Published


@pytest.fixture
def watcher(published: Published, tmp_path: Path) -> Iterator[Watcher]:
    shutil.copytree(published.registry.root, tmp_path / "registry")
    registry = Registry(tmp_path / "registry")
    registry.promote("digits", 1, expected=None, actor="tests", reason="first")
    engine = sa.create_engine(f"sqlite:///{tmp_path}/jobs.sqlite")
    records = RecordStore(f"sqlite:///{tmp_path}/records.sqlite")
    plan = WatchPlan((), str(tmp_path), 1.0, 1e6, Policy())
    jobs = JobStore(engine)

    def finish(job: Job) -> None:
        jobs.change(job.id, state="done", outcome="passed")

    yield Watcher(plan, registry, records, jobs, WatchMetrics(), finish)
    records.close()
    engine.dispose()


def refusals(watcher: Watcher, reason: str) -> float | None:
    labels = {"model": "digits", "reason": reason}
    return watcher.metrics.registry.get_sample_value("holdfast_lifecycle_refusals_total", labels)


def labelled(records: RecordStore, tag: str, at: float, rows: int) -> None:
    rest = ("digits", 1, b"", 0, 0.5, 0.1, 0.9, 0.3)
    records.add([Record(f"{tag}{k}", 0, at, *rest) for k in range(rows)])
    keys = [Key(f"{tag}{k}", 0) for k in range(rows)]
    found = records.find(keys)
    records.add_feedback([(key, found[key], 1) for key in keys])


def test_labels_from_before_the_champion_came_back_count_for_a_person_only(
    watcher: Watcher,
) -> None:
    now = time.time()
    drift = Event("drift", "digits", "evaluate", now - 7200, "since long")
    person = Event("person", "digits", "evaluate", now - 7200, "on purpose")
    since = watcher.dispatcher.since
    assert since(drift, now + 120) > now - 60
    assert since(person, now + 120) == now - 7200


def ask_and_label(
    records: RecordStore, tag: str, at: float, right: Sequence[bool | None], sure: Any = None
) -> None:
    """Requests that are answered with class 0, and their labels; None: no label."""
    count = len(right)
    confidence = sure or [0.99] * count
    records.add(
        [
            Record(f"{tag}{k}", 0, at, "digits", 1, b"", 0, 0.5, 0.1, confidence[k], 0.05)
            for k in range(count)
        ]
    )
    keys = {Key(f"{tag}{k}", 0): good for k, good in enumerate(right) if good is not None}
    rows = records.find(keys)
    records.add_feedback([(key, rows[key], int(not good)) for key, good in keys.items()])


def test_harm_starts_one_evaluation_over_a_restart_and_says_how_bad_it_is(
    watcher: Watcher,
) -> None:
    now = time.time()
    watcher.tick(now)
    ask_and_label(watcher.records, "good", now + 1, [True] * 100)
    watcher.tick(now + 2)
    assert watcher.jobs.all() == []
    ask_and_label(watcher.records, "bad", now + 3, [k % 2 == 0 for k in range(40)])
    watcher.tick(now + 4)  # half of what it takes
    again = planned(watcher)
    ask_and_label(watcher.records, "worse", now + 5, [k % 2 == 0 for k in range(60)])
    again.tick(now + 6)
    again.tick(now + 8)
    (job,) = again.jobs.all()
    assert (job.source, job.kind) == ("accuracy", "evaluate")
    assert job.reason.startswith("harm: ")
    assert job.since == pytest.approx(now + 3, abs=1), "labels from the fall on are looked at"
    (row,) = describe_models(again)
    assert row.harm.labels == 200
    assert row.harm.acts
    assert row.harm.words in job.reason
    assert "at most one false alarm in 1,000,000 labels" in row.harm.promise
    value = again.metrics.registry.get_sample_value
    assert value("holdfast_harm_alarm", {"model": "digits"}) == 1
    assert value("holdfast_harm_evidence_log10", {"model": "digits"}) >= 6
    assert value("holdfast_harm_alarm_threshold_log10", {"model": "digits"}) == 6
    assert 0.5 < value("holdfast_accuracy_floor_ratio", {"model": "digits"}) < 1


def serve_drift(watcher: Watcher) -> None:
    """From now on a service counts 300 requests more at each look, all in one cell a channel."""
    rows = 0

    def look(now: float) -> dict[str, Page]:
        nonlocal rows
        channels = watcher.registry.open("digits").manifest.channels
        cells = {("digits", "1", channel.name, 0): float(rows) for channel in channels}
        rows += 300
        return {"a service": Page(cells)}

    watcher.services.look = look  # type: ignore[method-assign]


def alert(watcher: Watcher, folder: Path, name: str, now: float) -> str:
    """What is decided on an alert of Alertmanager that fires now."""
    one = {
        "status": "firing",
        "labels": {"alertname": name, "action": "evaluate", "model": "digits"},
        "fingerprint": name,
        "startsAt": datetime.fromtimestamp(now, UTC).isoformat(),
    }
    payload = webhook.parse(msgspec.json.encode({"version": "4", "alerts": [one]}))
    engine = sa.create_engine(f"sqlite:///{folder}/alerts.sqlite")
    (decision,) = decide_alerts(payload, watcher, HandledAlerts(engine), lambda: now)
    engine.dispose()
    return decision.decision


def test_drift_that_labels_call_harmless_starts_nothing_over_restarts(
    watcher: Watcher, tmp_path: Path
) -> None:
    now = time.time()
    serve_drift(watcher)
    for k in range(3):
        watcher.tick(now + k)
    assert watcher.streams["digits"].evidence.alarm is not None
    ask_and_label(watcher.records, "late", now + 4, [True] * 120)
    watcher.tick(now + 5)
    (row,) = describe_models(watcher)
    assert row.harmless.startswith("moved, not harmed: live accuracy 100.0%")
    again = planned(watcher)
    ask_and_label(again.records, "odd", now + 6, [k % 3 > 0 for k in range(12)])
    for second in range(600, 660, 10):
        again.tick(now + second)
    (row_again,) = describe_models(again)
    assert row_again.harmless == row.harmless, "it is not asked again and again"
    assert alert(again, tmp_path, "HoldfastDrift", now + 660) == "not_harmed", "an echo of that"
    assert refusals(again, "not_harmed") == 1
    assert again.jobs.all() == []
    ask_and_label(again.records, "bad", now + 700, [k % 2 == 0 for k in range(100)])
    again.tick(now + 710)
    (job,) = again.jobs.all()
    assert job.source == "accuracy", "harm that comes later is seen"
    (row,) = describe_models(again)
    assert row.harmless is None


def test_drift_without_labels_gets_one_look_after_a_cool_down(watcher: Watcher) -> None:
    now = time.time()
    serve_drift(watcher)
    for second in range(0, 302, 15):
        watcher.tick(now + second)
    assert watcher.jobs.all() == []
    (row,) = describe_models(watcher)
    assert row.alarm is not None
    assert row.harmless is None
    since = watcher.streams["digits"].alarm_since
    assert since is not None
    watcher.tick(since + 301)
    (job,) = watcher.jobs.all()
    assert (job.source, job.kind) == ("drift", "evaluate")


def test_labels_of_the_hard_requests_only_are_named_corrected_and_start_nothing(
    watcher: Watcher,
) -> None:
    now, rng = time.time(), np.random.default_rng(0)
    watcher.tick(now)
    sure = rng.random(2000)
    records = watcher.records
    records.add(
        [
            Record(f"r{k}", 0, now + 1, "digits", 1, b"", 0, 0.5, 0.1, float(p), 0.05)
            for k, p in enumerate(sure)
        ]
    )
    labelled = [k for k in range(2000) if rng.random() < (0.9 if sure[k] < 0.1 else 0.1)]
    right = {k: sure[k] > 0.1 or rng.random() < 0.35 for k in labelled}  # 93 % of all
    rows = records.find([Key(f"r{k}", 0) for k in labelled])
    records.add_feedback([(key, row, int(not right[int(key.id[1:])])) for key, row in rows.items()])
    for k in range(3):
        watcher.tick(now + 100 + 10 * k)
    (row,) = describe_models(watcher)
    assert row.harm.alarm is not None, "the labels alone show a fall"
    assert not row.harm.acts
    assert "labels are no random sample" in row.harm.doubt
    assert row.accuracy.observed.bias in row.harm.doubt
    assert row.accuracy.observed.corrected.low < 0.935 < row.accuracy.observed.corrected.high
    assert watcher.jobs.all() == []
    value = watcher.metrics.registry.get_sample_value
    assert value("holdfast_labels_biased", {"model": "digits"}) == 1
    assert value("holdfast_harm_alarm", {"model": "digits"}) == 0
    assert refusals(watcher, "labels_biased") == 1
    assert value("holdfast_corrected_accuracy_ratio", {"model": "digits", "bound": "value"}) > 0.9


def test_thumbs_up_only_is_named_and_starts_nothing(watcher: Watcher) -> None:
    now = time.time()
    watcher.tick(now)
    ask_and_label(watcher.records, "r", now + 1, [None] * 500 + [True] * 1500, [0.7] * 2000)
    watcher.tick(now + 10)
    watcher.tick(now + 20)
    (row,) = describe_models(watcher)
    assert row.accuracy.observed.accuracy.value == 1
    assert "wrong answers get no labels" in row.accuracy.observed.bias
    assert watcher.jobs.all() == []
    value = watcher.metrics.registry.get_sample_value
    assert value("holdfast_labels_biased", {"model": "digits"}) == 1


def test_live_accuracy_is_that_of_the_present_reign(watcher: Watcher) -> None:
    now = time.time()
    labelled(watcher.records, "before", now - 3600, 30)
    watcher.tick(now)
    (told,) = describe_models(watcher)
    assert told.observed_accuracy is None
    assert told.last_alarm is None
    assert "at most one false alarm in 1,000,000 requests" in told.promise
    labelled(watcher.records, "after", now + 60, 7)
    (told,) = describe_models(watcher)
    assert told.observed_accuracy.n == 7


def test_a_pinned_version_is_watched_and_no_event_starts_the_loop(watcher: Watcher) -> None:
    """What the loop makes would not be served: it must not be made, promoted and believed."""
    now = time.time()
    shutil.copytree(watcher.registry.root / "digits" / "1", watcher.registry.root / "digits" / "2")
    watcher = planned(watcher, serves={"digits": 1})
    aliases = watcher.registry.root / "digits" / "aliases.json"
    aliases.write_text('{"champion": 2, "previous": 1}')
    watcher.tick(now)
    assert [told.version for told in describe_models(watcher)] == [1]
    for source, action in (("drift", "evaluate"), ("person", "retrain")):
        event = Event(source, "digits", action, now - 60, "moved")
        decision = watcher.dispatcher.consider(event, now)
        assert (decision.start, decision.refusal) == (None, "pinned")
        assert "version 1" in decision.detail
    assert watcher.jobs.all() == []
    assert refusals(watcher, "pinned") == 2


def test_a_model_that_is_not_served_is_not_watched_and_one_that_is_not_there_is_named(
    watcher: Watcher,
) -> None:
    watcher = planned(watcher, serves={"another": None})
    watcher.tick(time.time())
    (told,) = describe_models(watcher)
    assert (told.model, told.version, told.problem) == ("another", None, "model_missing")
    assert watcher.streams == {}


def scheduled(watcher: Watcher, line: str, zone: str = "") -> Watcher:
    """The same watcher started anew, with a schedule."""
    return planned(watcher, schedule=line, timezone=zone)


def planned(watcher: Watcher, **changes: Any) -> Watcher:
    """The same watcher started anew, with a changed plan."""
    plan = msgspec.structs.replace(watcher.plan, **changes)
    parts = watcher.registry, watcher.records, watcher.jobs, WatchMetrics(), watcher.start_job
    return Watcher(plan, *parts)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("stated", [True, False])
def test_a_schedule_starts_one_evaluation_a_day_and_one_after_downtime(
    watcher: Watcher, zone: str, stated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC" if stated else zone)
    time.tzset()
    try:
        first = datetime(2026, 6, 1, 12, tzinfo=ZoneInfo(zone)).timestamp()
        running = scheduled(watcher, "0 3 * * *", zone if stated else "")
        for hour in range(72):
            running.tick(first + 3600 * hour)
        again = scheduled(watcher, "0 3 * * *", zone if stated else "")
        back = datetime(2026, 6, 9, 9, 30, tzinfo=ZoneInfo(zone)).timestamp()
        for minute in range(5):
            again.tick(back + 60 * minute)
    finally:
        monkeypatch.undo()
        time.tzset()
    jobs = watcher.jobs.all()
    assert {(job.source, job.kind) for job in jobs} == {("schedule", "evaluate")}
    at = [datetime.fromtimestamp(job.created_at, ZoneInfo(zone)) for job in reversed(jobs)]
    assert [f"{each:%d %H:%M}" for each in at] == ["02 03:00", "03 03:00", "04 03:00", "09 09:30"]


def test_a_scheduled_evaluation_that_could_not_be_started_is_tried_again(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    noon = datetime(2026, 6, 1, 12, tzinfo=UTC).timestamp()
    running = scheduled(watcher, "0 3 * * *", "UTC")
    running.tick(noon)
    with monkeypatch.context() as patch:
        patch.setattr(running.jobs, "put", fail)
        running.tick(noon + 86_400)
        assert running.problems.has("digits", "trigger")
    assert running.jobs.all() == []
    for second in range(3):
        running.tick(noon + 86_402 + second)
    assert len(running.jobs.all()) == 1


def fail(anything: object) -> Any:
    raise OSError("disk full")


def test_the_id_of_a_job_is_its_time_in_utc_whatever_the_zone(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        now = datetime(2026, 6, 1, 23, 30, tzinfo=UTC).timestamp()
        watcher.tick(now)
        watcher.dispatcher.consider(Event("person", "digits", "evaluate", now, "on purpose"), now)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert watcher.jobs.all()[0].id.startswith("20260601-233000-")


def test_the_watcher_is_ready_after_a_look_and_lives_all_the_time(
    watcher: Watcher, tmp_path: Path
) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/handled.sqlite")
    calls = watch_calls.endpoints(watcher, HandledAlerts(engine), time.time)
    guard = watch_guard_of(load({"HOLDFAST_STATE": str(tmp_path)}))
    client = client_of(Front(calls, guard, lambda *_: None, RequestBounds(1000)))
    before = client.get("/readyz")
    assert before.status_code == 503
    assert before.json["status"] == "the watcher has not completed a look yet"
    assert client.get("/healthz").status_code == 200
    watcher.tick(time.time())
    assert client.get("/readyz").status_code == 200
    watcher.pulse.clock = lambda: time.monotonic() + 3600
    after = client.get("/readyz")
    assert after.status_code == 503
    assert "completed its last look" in after.json["status"]
    assert client.get("/healthz").status_code == 200
    engine.dispose()


def test_a_look_that_fails_is_said_and_the_next_one_tries_again(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()
    watcher.plan = msgspec.structs.replace(watcher.plan, interval_seconds=0.01)
    with monkeypatch.context() as patch:
        patch.setattr(watcher.services, "look", fail)
        thread = threading.Thread(target=watcher.run, args=(stop,))
        thread.start()
        until(lambda: "failed (OSError)" in str(watcher.pulse.report().reason))
        assert not watcher.pulse.report().is_ready
    until(lambda: watcher.pulse.report().is_ready)
    stop.set()
    thread.join()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
