"""What surrounds a watcher breaks: disks, stores, clocks, the registry. It looks on, and says what.

The models, the service and the damages are those of `test_one_broken_thing`.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from monitoring.loop.triggers import Event, Policy
from monitoring.records.store import StoreError
from monitoring.watching.status import describe_models
from tests import bundles
from tests.monitoring.watching.stage import MODELS, CountingService, Watching
from tests.monitoring.watching.test_one_broken_thing import DAMAGES, scene, traffic, zeros

__all__ = ["scene"]  # a fixture


def test_an_evidence_state_that_cannot_be_written_stays_in_memory_and_is_written_later(
    scene: tuple[Watching, CountingService], tmp_path: Path
) -> None:
    watching, counting = scene
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(tmp_path / "watch")]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        traffic(watching, counting)
        traffic(watching, counting)
        for model in MODELS:
            troubles = watching.problems(model)  # a line of history may still get the one page
            assert {"evidence_state"} <= troubles <= {"evidence_state", "history"}
            for trouble in watching.row(model)["problems"]:
                assert "space" in trouble["detail"]
            assert watching.requests(model) == 90
    finally:
        subprocess.run(["umount", str(tmp_path / "watch")], check=True)
    watching.tick(2)
    assert watching.problems("alpha") == set()
    watching.again()
    watching.tick()
    assert watching.requests("alpha") == 90, "what was counted meanwhile is on disk now"


def test_a_schedule_that_cannot_be_kept_is_named(tmp_path: Path) -> None:
    watching = Watching(tmp_path, schedule="0 3 * * *", timezone="UTC")
    place = tmp_path / "watch" / "schedule.json"
    place.mkdir(parents=True)
    watching.tick()
    assert "schedule_state" in watching.problems("alpha")
    place.rmdir()
    watching.tick(2)
    assert "schedule_state" not in watching.problems("alpha")
    assert place.is_file()
    for damage in ("zeros", "no text", "cut in the middle", "nested"):
        DAMAGES[damage](place)
        watching.again()
        watching.tick(86_400 // 3600 + 1, seconds=3600.0)
    assert {job.source for job in watching.started} == {"schedule"}
    watching.close()


def test_a_store_that_is_away_blinds_nobody_and_is_waited_for_once_a_look(
    scene: tuple[Watching, CountingService], monkeypatch: pytest.MonkeyPatch
) -> None:
    watching, counting = scene
    asked: list[str] = []

    def away(model: str, *rest: object, **more: object) -> object:
        asked.append(model)
        raise StoreError("the store of records cannot be read: database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(watching.records, "observed", away)
        traffic(watching, counting)
        for model in MODELS:
            assert "records" in watching.problems(model)
            assert watching.requests(model) == 60
        assert asked == ["alpha"]
    watching.tick(2)
    assert watching.problems("alpha") == set()


def test_a_registry_that_is_away_leaves_what_is_watched(
    scene: tuple[Watching, CountingService], tmp_path: Path
) -> None:
    watching, counting = scene
    root, away = tmp_path / "registry", tmp_path / "unmounted"
    for empty in (True, False):
        root.rename(away)
        if empty:
            root.mkdir()
        traffic(watching, counting)
        assert watching.row("alpha")["problem"] in ("model_missing", "registry")
        assert watching.sample("holdfast_watch_problem", model="", problem="registry") == 1
        if empty:
            root.rmdir()
        away.rename(root)
        traffic(watching, counting)
        assert watching.problems("alpha") == set()
    assert watching.requests("gamma") == 150
    root.rename(away)
    watching.again()
    watching.tick()
    assert watching.sample("holdfast_watch_problem", model="", problem="registry") == 1


def test_a_model_that_leaves_the_registry_leaves_no_series(
    scene: tuple[Watching, CountingService], tmp_path: Path
) -> None:
    watching, counting = scene
    shutil.rmtree(tmp_path / "registry" / "beta")
    traffic(watching, counting)
    assert [row.model for row in describe_models(watching.watcher)] == ["alpha", "gamma"]
    series = {
        (sample.name, sample.labels["model"])
        for family in watching.metrics.registry.collect()
        for sample in family.samples
        if "model" in sample.labels
    }
    assert {model for _, model in series} == {"alpha", "gamma", ""}
    bundles.publish(tmp_path / "registry", "alpha", bend=0.9)
    watching.tick()
    versions = {
        sample.labels["version"]
        for family in watching.metrics.registry.collect()
        for sample in family.samples
        if sample.labels.get("model") == "alpha" and "version" in sample.labels
    }
    assert versions == {"2"}


@pytest.mark.parametrize("seconds", [31_536_000.0, -31_536_000.0, 3600.0, -3600.0, 0.0])
def test_a_clock_that_is_set_between_two_looks_breaks_nothing(
    scene: tuple[Watching, CountingService], seconds: float, tmp_path: Path
) -> None:
    watching, counting = scene
    zeros(tmp_path / "registry" / "alpha" / "aliases.json")
    traffic(watching, counting)
    watching.tick(seconds=seconds)
    traffic(watching, counting)
    assert watching.problems("beta") == set()
    assert watching.problems("alpha") == {"alias_file"}
    since = watching.row("alpha")["since"]
    assert since <= watching.now, "nothing began in the future"
    stream = watching.watcher.streams["beta"]
    assert stream.evidence.requests == 90
    for model in MODELS:
        counting.serve(watching.bundles[model], 300, first=True)
    watching.tick(seconds=seconds or 2.0)
    assert stream.alarm_since == watching.now
    watching.tick(seconds=-abs(seconds))
    assert stream.alarm_since is not None
    assert stream.alarm_since <= watching.now
    traffic(watching, counting)
    rate = stream.per_second
    assert rate is None or 0 <= rate < 1e6
    assert "false alarm" in stream.promise
    assert watching.watcher.pulse.report().is_ready
    assert watching.sample("holdfast_watch_last_tick_timestamp_seconds") == watching.now


def test_an_event_that_raises_is_a_problem_of_its_model_and_tried_again(
    scene: tuple[Watching, CountingService], monkeypatch: pytest.MonkeyPatch
) -> None:
    watching, counting = scene
    for model in ("alpha", "beta"):
        counting.serve(watching.bundles[model], 300, first=True)
    watching.watcher.dispatcher.policy = Policy(cool_down_seconds=0)  # a look waits for no labels
    consider = watching.watcher.dispatcher.consider

    def broken(event: Event, now: float) -> object:
        if event.model == "alpha":
            raise RuntimeError("out of the blue, with a secret")
        return consider(event, now)

    with monkeypatch.context() as patch, capture_logs() as logged:
        patch.setattr(watching.watcher.dispatcher, "consider", broken)
        watching.tick()
    assert [line["event"] for line in logged].count("part_failed") == 1
    assert [job.model for job in watching.started] == ["beta"]
    (trouble,) = watching.row("alpha")["problems"]
    assert trouble["problem"] == "trigger"
    assert "secret" not in trouble["detail"]
    watching.tick()
    assert [job.model for job in watching.started] == ["beta", "alpha"]
    assert watching.problems("alpha") == set()


def test_gauges_are_absent_until_the_first_look(tmp_path: Path) -> None:
    watching = Watching(tmp_path)
    name = "holdfast_watch_last_tick_timestamp_seconds"
    assert watching.sample(name) is None
    assert watching.sample("holdfast_drift_alarm", model="alpha") is None
    watching.tick()
    assert watching.sample(name) == watching.now
    assert watching.sample("holdfast_drift_alarm", model="alpha") == 0
    watching.close()
