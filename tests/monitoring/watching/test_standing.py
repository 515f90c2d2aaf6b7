"""Laws of where the loop stands: what waits is shown since when, and what is over is shown as 0."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from models.base.files import sha256_bytes
from models.versions.registry import Registry
from monitoring.loop.jobs import Job, JobStore
from monitoring.loop.metrics import WatchMetrics
from monitoring.loop.terms import Terms, frozen
from monitoring.loop.triggers import Policy
from monitoring.records.store import Key, Record, RecordStore
from monitoring.watching.standing import measure_parts, usual_gap
from monitoring.watching.watcher import Watcher, WatchPlan
from tests.conftest import Published

HOUR = 3600.0


@pytest.fixture
def watcher(published: Published, tmp_path: Path) -> Iterator[Watcher]:
    shutil.copytree(published.registry.root, tmp_path / "registry")
    registry = Registry(tmp_path / "registry")
    registry.promote("digits", 1, expected=None, actor="tests", reason="first")
    engine = sa.create_engine(f"sqlite:///{tmp_path}/jobs.sqlite")
    records = RecordStore(f"sqlite:///{tmp_path}/records.sqlite")
    plan = WatchPlan((), str(tmp_path), 1.0, 1e6, Policy(daily_budget=3))
    yield Watcher(plan, registry, records, JobStore(engine), WatchMetrics(), lambda job: None)
    records.close()
    engine.dispose()


def make_job(watcher: Watcher, name: str, now: float, source: str = "drift") -> Job:
    terms = frozen(Terms(approval_timeout_seconds=100.0))
    job = Job(name, "retrain", "digits", 1, source, "why", now, created_at=now, terms=terms)
    return watcher.jobs.put(job)


def shown(watcher: Watcher, name: str, **labels: str) -> float | None:
    return watcher.metrics.registry.get_sample_value(
        f"holdfast_{name}", {"model": "digits"} | labels
    )


def test_a_waiting_challenger_is_shown_since_when_and_until_when(watcher: Watcher) -> None:
    now = time.time()
    watcher.tick(now)
    assert shown(watcher, "job_stage_since_timestamp_seconds", stage="approval") == 0.0
    assert shown(watcher, "job_deadline_timestamp_seconds") == 0.0
    make_job(watcher, "j1", now)
    watcher.jobs.advance("j1", stage="gating")
    waiting = watcher.jobs.ask("j1")
    watcher.tick(now + 10.0)
    since = shown(watcher, "job_stage_since_timestamp_seconds", stage="approval")
    assert since == waiting.in_stage_since >= now
    deadline = shown(watcher, "job_deadline_timestamp_seconds")
    assert deadline == pytest.approx(since + 100.0, abs=15.0)
    watcher.jobs.end("j1", "expired", "nobody came")
    watcher.tick(now + 20.0)
    assert shown(watcher, "job_stage_since_timestamp_seconds", stage="approval") == 0.0
    assert shown(watcher, "job_deadline_timestamp_seconds") == 0.0


def test_what_the_loop_began_is_taken_from_the_budget_and_what_people_began_is_not(
    watcher: Watcher,
) -> None:
    now = time.time()
    for number in range(2):
        make_job(watcher, f"own{number}", now - 1.0)
        make_job(watcher, f"persons{number}", now - 1.0, source="person")
    watcher.tick(now)
    assert shown(watcher, "lifecycle_budget_left_runs") == 1.0
    for number in range(2, 6):
        make_job(watcher, f"own{number}", now)
    watcher.tick(now + 10.0)
    assert shown(watcher, "lifecycle_budget_left_runs") == 0.0, "it is never below"


def test_champion_and_hold_are_shown_and_go_with_the_model(watcher: Watcher) -> None:
    now = time.time()
    watcher.registry.hold("digits", actor="ada", reason="audit")
    watcher.tick(now)
    assert shown(watcher, "champion_version") == 1.0
    assert shown(watcher, "version_made_timestamp_seconds", version="1") == pytest.approx(
        now, abs=HOUR
    )
    held = "lifecycle_held_since_timestamp_seconds"
    assert shown(watcher, held, ends="never") == pytest.approx(now, abs=60)
    assert shown(watcher, held, ends="by itself") == 0.0
    watcher.registry.release("digits", actor="ada", reason="done")
    watcher.tick(now + 10.0)
    assert shown(watcher, held, ends="never") == 0.0
    assert shown(watcher, "evaluation_due_timestamp_seconds") == 0.0, "there is no schedule"
    watcher._forget("digits")
    assert shown(watcher, "champion_version") is None


def test_the_time_in_each_stage_is_counted_when_the_job_ends(watcher: Watcher) -> None:
    make_job(watcher, "j1", time.time() - 50.0)
    for stage in ("collecting", "queued for training (2nd)", "queued for training (1st)", "gating"):
        watcher.jobs.advance("j1", stage=stage)
    job = watcher.jobs.end("j1", "refused", "a gate")
    spent = job.stage_seconds()
    assert list(spent) == ["queued", "collecting", "queued for training", "gating"]
    assert spent["queued"] == pytest.approx(50.0, abs=5.0)
    assert sum(spent.values()) == pytest.approx(job.stages["done"] - job.created_at)
    watcher.count_job(job)
    count = "job_stage_duration_seconds_count"
    assert shown(watcher, count, stage="queued") == shown(watcher, count, stage="gating") == 1.0
    assert shown(watcher, "lifecycle_runs_total", kind="retrain", outcome="refused") == 1.0


def test_a_name_that_no_model_has_becomes_no_label(watcher: Watcher) -> None:
    watcher.tick(time.time())
    watcher.metrics.count_refusal("digits", "held")
    for number in range(5):
        watcher.metrics.count_refusal(f"made up {number}", "no_champion")
    value = watcher.metrics.registry.get_sample_value
    refused = "holdfast_lifecycle_refusals_total"
    assert value(refused, {"model": "digits", "reason": "held"}) == 1.0
    assert value(refused, {"model": "", "reason": "no_champion"}) == 5.0
    assert value(refused, {"model": "made up 1", "reason": "no_champion"}) is None


def test_the_last_label_and_the_usual_wait_are_those_of_the_store(watcher: Watcher) -> None:
    now = time.time()
    watcher.tick(now)
    assert shown(watcher, "last_feedback_timestamp_seconds") == 0.0
    rows = [Record(f"r{k}", 0, now, "digits", 1, b"", 0, 0.5, 0.1, 0.9, 0.3) for k in range(3)]
    watcher.records.add(rows)
    keys = [Key(row.id, 0) for row in rows]
    found = watcher.records.find(keys)
    watcher.records.add_feedback([(key, found[key], 0) for key in keys])
    watcher.tick(now + 61.0)
    last = shown(watcher, "last_feedback_timestamp_seconds")
    assert last == pytest.approx(time.time(), abs=60.0)
    assert shown(watcher, "feedback_gap_usual_seconds") == 0.0, "not known yet"
    assert shown(watcher, "figure_unknown", figure="usual_gap") == 1.0, "and it says so"


def test_labels_in_four_minutes_make_the_usual_gap_known(watcher: Watcher) -> None:
    class Labelled:
        """Records whose labels came once in each of four minutes."""

        def label_times(self, model: str, limit: int) -> np.ndarray:
            return 60.0 * np.arange(4)

    now = time.time()
    watcher.tick(now)
    standings = watcher.standings
    standings.records = Labelled()  # type: ignore[assignment]
    standings.show_labels("digits", now + 120.0)
    assert shown(watcher, "feedback_gap_usual_seconds") == 60.0
    assert shown(watcher, "figure_unknown", figure="usual_gap") == 0.0


@pytest.mark.parametrize(("made", "unknown"), [("2026-01-01T00:00:00.000Z", 0.0), ("soon", 1.0)])
def test_a_date_that_cannot_be_read_is_said_to_be_unknown(
    watcher: Watcher, made: str, unknown: float
) -> None:
    path = watcher.registry.path("digits", 1) / "manifest.json"
    manifest = json.loads(path.read_text())
    text = json.dumps(manifest | {"created_at": made})
    path.write_text(text)
    path.with_name("manifest.json.sha256").write_text(sha256_bytes(text.encode()))
    watcher.tick(time.time())
    assert shown(watcher, "figure_unknown", figure="version_made") == unknown


@given(
    gap=st.integers(2, 10_000),
    batches=st.integers(4, 30),
    labels=st.integers(1, 50),
    outage=st.integers(0, 1_000_000),
)
def test_the_usual_gap_is_that_between_batches_whatever_one_outage_was(
    gap: int, batches: int, labels: int, outage: int
) -> None:
    begins = 60.0 * gap * np.arange(batches)
    begins[batches // 2 :] += 60.0 * outage
    times = np.sort((begins[:, None] + np.linspace(0.0, 59.0, labels)[None]).ravel())
    assert usual_gap(times) == 60.0 * gap


def test_what_a_state_holds_is_measured_by_part(tmp_path: Path) -> None:
    (tmp_path / "registry" / "digits").mkdir(parents=True)
    (tmp_path / "registry" / "digits" / "model.onnx").write_bytes(b"x" * 1000)
    (tmp_path / "records.sqlite").write_bytes(b"x" * 10)
    (tmp_path / "registry" / "away").symlink_to("nowhere")
    parts = measure_parts(tmp_path)
    assert 1000 <= parts["registry"] < 1100
    assert parts["records"] == 10
    assert parts["jobs"] == parts["watch"] == 0
