"""Laws of the watcher: what labels count for, and what an alarm leaves behind."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from models.registry import Registry
from monitoring.jobs import JobStore
from monitoring.records import Key, Record, RecordStore
from monitoring.triggers import Event, Policy
from monitoring.watch_metrics import WatchMetrics
from monitoring.watcher import Plan, Watcher
from tests.conftest import Published


@pytest.fixture
def watcher(published: Published, tmp_path: Path) -> Iterator[Watcher]:
    shutil.copytree(published.registry.root, tmp_path / "registry")
    registry = Registry(tmp_path / "registry")
    registry.promote("digits", 1, expected=None, actor="tests", reason="first")
    engine = sa.create_engine(f"sqlite:///{tmp_path}/jobs.sqlite")
    records = RecordStore(f"sqlite:///{tmp_path}/records.sqlite")
    plan = Plan((), str(tmp_path), 1.0, 1e6, Policy())
    yield Watcher(plan, registry, records, JobStore(engine), WatchMetrics(), lambda job: None)
    records.close()
    engine.dispose()


def labelled(records: RecordStore, tag: str, at: float, rows: int) -> None:
    records.add([Record(f"{tag}{k}", 0, at, "digits", 1, b"", 0, 0.5, 0.1) for k in range(rows)])
    keys = [Key(f"{tag}{k}", 0) for k in range(rows)]
    found = records.find(keys)
    records.add_feedback([(key, found[key], 1) for key in keys])


def test_labels_from_before_the_champion_came_back_count_for_a_person_only(
    watcher: Watcher,
) -> None:
    now = time.time()
    labelled(watcher.records, "before", now - 3600, 30)
    labelled(watcher.records, "after", now + 60, 7)
    drift = Event("drift", "digits", "evaluate", now - 7200, "since long")
    person = Event("person", "digits", "evaluate", now - 7200, "on purpose")
    assert watcher.situation(drift, now + 120).labels_since == 7
    assert watcher.situation(person, now + 120).labels_since == 37


def test_live_accuracy_is_that_of_the_present_reign(watcher: Watcher) -> None:
    now = time.time()
    labelled(watcher.records, "before", now - 3600, 30)
    watcher.tick(now)
    (told,) = watcher.status()
    assert told["observed_accuracy"] is None
    assert told["last_alarm"] is None
    assert "at most one false alarm in 1,000,000 requests" in told["promise"]
    labelled(watcher.records, "after", now + 60, 7)
    (told,) = watcher.status()
    assert told["observed_accuracy"]["n"] == 7


def test_a_pinned_version_is_watched_and_no_event_starts_the_loop(watcher: Watcher) -> None:
    """What the loop makes would not be served: it must not be made, promoted and believed."""
    now = time.time()
    shutil.copytree(watcher.registry.root / "digits" / "1", watcher.registry.root / "digits" / "2")
    watcher.plan = msgspec.structs.replace(watcher.plan, serves={"digits": 1})
    aliases = watcher.registry.root / "digits" / "aliases.json"
    aliases.write_text('{"champion": 2, "previous": 1}')
    watcher.tick(now)
    assert [told["version"] for told in watcher.status()] == [1]
    for source, action in (("drift", "evaluate"), ("person", "retrain")):
        decision = watcher.consider(Event(source, "digits", action, now - 60, "moved"), now)
        assert (decision.start, decision.refusal) == (None, "pinned")
        assert "version 1" in decision.detail
    assert watcher.jobs.all() == []
    refused = watcher.metrics.registry.get_sample_value
    assert refused("holdfast_lifecycle_refusals_total", {"reason": "pinned"}) == 2


def test_a_model_that_is_not_served_is_not_watched(watcher: Watcher) -> None:
    watcher.plan = msgspec.structs.replace(watcher.plan, serves={"another": None})
    watcher.tick(time.time())
    assert watcher.status() == []
