import errno
import gc
import os
import threading
import weakref
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import psutil
import pytest

from models.base.errors import InputError
from models.versions.registry import Registry
from monitoring.counting.metrics import Metrics
from monitoring.counting.queries import QueryWatch
from service.configuration.model_specs import ModelLimits, ModelSpec
from service.fleet import pauses
from service.fleet.served_models import DOES_NOT_RUN, Champions
from service.web.errors import NotFoundError, UnavailableError
from tests import bundles
from tests.service.fleet.test_live_runner import broken


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture
def champions(registry: Registry) -> Champions:
    return Champions(registry, Metrics())


def failures(champions: Champions, model: str = "digits") -> float:
    return sum(
        sample.value
        for metric in champions._metrics.reload_failures.collect()
        for sample in metric.samples
        if sample.labels == {"model": model} and sample.name.endswith("_total")
    )


class Waiting:
    """The session of a runner, whose runs wait for a word."""

    def __init__(self, runner: Any) -> None:
        self._session, runner._session = runner._session, self
        self.begun, self.end = threading.Event(), threading.Event()

    def run(self, *args: Any) -> Any:
        self.begun.set()
        assert self.end.wait(120)
        return self._session.run(*args)


def run_failures(champions: Champions, model: str) -> float:
    found = champions._metrics.registry.get_sample_value
    return found("holdfast_model_run_failures_total", {"model": model}) or 0.0


def version(champions: Champions) -> int:
    return champions.find(None).manifest.version


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_models_may_appear_after_the_start(registry: Registry, champions: Champions) -> None:
    champions.refresh()
    assert not champions.ready
    with pytest.raises(UnavailableError):
        champions.find(None)
    bundles.publish(registry.root, promote=False)
    champions.refresh()
    assert not champions.ready  # a challenger is not served
    registry.promote("digits", 1, expected=None, actor="test", reason="test")
    champions.refresh()
    assert champions.ready
    assert version(champions) == 1
    with pytest.raises(NotFoundError, match="digits"):
        champions.find("other")


def test_promotion_and_rollback_are_followed(registry: Registry, champions: Champions) -> None:
    bundles.publish(registry.root)
    champions.refresh()
    before = champions.find("digits")
    bundles.publish(registry.root, bend=0.5)
    champions.refresh()
    assert version(champions) == 2
    assert before.manifest.version == 1  # a request that holds the old one is not disturbed
    registry.rollback("digits", actor="test", reason="test")
    champions.refresh()
    assert version(champions) == 1


def test_the_replaced_model_is_freed(registry: Registry, champions: Champions) -> None:
    bundles.publish(registry.root)
    champions.refresh()
    old = weakref.ref(champions.find("digits").runner)
    bundles.publish(registry.root, bend=0.5)
    champions.refresh()
    gc.collect()
    assert old() is None


@pytest.mark.parametrize("file", ["model.onnx", "manifest.json", "reference.npz"])
def test_a_damaged_champion_is_refused_and_the_old_one_serves_on(
    registry: Registry, champions: Champions, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bundles.publish(registry.root)
    champions.refresh()
    bundles.publish(registry.root, bend=0.5)
    damage(registry.path("digits", 2) / file)
    champions.refresh()
    assert version(champions) == 1
    assert champions.ready
    assert failures(champions) == 1
    logged = capsys.readouterr()
    assert file in logged.out + logged.err


def test_a_truncated_model_is_refused(registry: Registry, champions: Champions) -> None:
    bundles.publish(registry.root)
    champions.refresh()
    bundles.publish(registry.root, bend=0.5)
    os.truncate(registry.path("digits", 2) / "model.onnx", 100)
    champions.refresh()
    assert version(champions) == 1


def test_a_refused_version_is_tried_again_after_a_pause_that_doubles(
    registry: Registry, champions: Champions, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("service.fleet.pauses.time.monotonic", lambda: now[0])
    bundles.publish(registry.root)
    model = registry.path("digits", 1) / "model.onnx"
    whole = model.read_bytes()
    damage(model)
    for _ in range(5):
        champions.refresh()
    assert failures(champions) == 1
    now[0] += pauses.FIRST_PAUSE_SECONDS
    for _ in range(5):
        champions.refresh()
    assert failures(champions) == 2
    now[0] += pauses.FIRST_PAUSE_SECONDS
    champions.refresh()
    assert failures(champions) == 2
    model.write_bytes(whole)
    now[0] += pauses.FIRST_PAUSE_SECONDS
    champions.refresh()
    assert version(champions) == 1


def test_another_promotion_is_tried_at_once(registry: Registry, champions: Champions) -> None:
    bundles.publish(registry.root)
    damage(registry.path("digits", 1) / "model.onnx")
    champions.refresh()
    bundles.publish(registry.root, bend=0.5)
    champions.refresh()
    assert version(champions) == 2


def test_a_worker_that_starts_on_a_damaged_champion_serves_the_previous(
    registry: Registry, champions: Champions
) -> None:
    bundles.publish(registry.root)
    bundles.publish(registry.root, bend=0.5)
    damage(registry.path("digits", 2) / "model.onnx")
    champions.refresh()
    assert version(champions) == 1
    assert failures(champions) == 1


def test_a_damaged_alias_file_disturbs_nothing(registry: Registry, champions: Champions) -> None:
    bundles.publish(registry.root)
    champions.refresh()
    (registry.root / "digits" / "aliases.json").write_text("{")
    champions.refresh()
    assert version(champions) == 1
    assert failures(champions) == 1


def test_a_request_sees_one_version_whatever_is_promoted(
    registry: Registry, champions: Champions
) -> None:
    bundles.publish(registry.root)
    champions.refresh()
    held: Any = champions.find("digits")
    x = bundles.digits().test.x[:1]
    before = held.runner.run(x).probabilities
    bundles.publish(registry.root, bend=0.5)
    champions.refresh()
    np.testing.assert_array_equal(held.runner.run(x).probabilities, before)
    assert not np.array_equal(champions.find("digits").runner.run(x).probabilities, before)


def test_a_pinned_model_stays_whatever_the_champion(registry: Registry) -> None:
    for _ in range(3):
        bundles.publish(registry.root)
    champions = Champions(registry, Metrics(), (ModelSpec("digits", 2),))
    champions.refresh()
    assert version(champions) == 2
    held = champions.find("digits")
    registry.rollback("digits", actor="test", reason="test")
    registry.rollback("digits", actor="test", reason="test")
    champions.refresh()
    assert champions.find("digits") is held
    assert champions.ready
    assert [(each.version, each.state) for each in champions.index()] == [(2, "READY")]


def test_a_pinned_version_that_is_missing_or_damaged_is_told_and_not_replaced_by_another(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    bundles.publish(registry.root)
    champions = Champions(registry, Metrics(), (ModelSpec("digits", 2),))
    for _ in range(3):
        champions.refresh()
    assert failures(champions) == 1
    assert not champions.ready
    with pytest.raises(UnavailableError, match="'digits' is not loaded"):
        champions.find(None)
    logged = capsys.readouterr()
    assert "model_refused" in logged.out + logged.err
    assert "no version 2" in champions.index()[0].reason
    bundles.publish(registry.root, promote=False)
    model = registry.path("digits", 2) / "model.onnx"
    whole = model.read_bytes()
    damage(model)
    champions.refresh()  # its manifest is there now: no pause is waited for
    assert failures(champions) == 2
    assert "sha256" in champions.index()[0].reason
    assert str(registry.root) not in champions.index()[0].reason
    assert not champions.served
    model.write_bytes(whole)
    os.utime(registry.path("digits", 2) / "manifest.json")
    champions.refresh()
    assert version(champions) == 2
    assert champions.ready


def test_one_damaged_model_takes_no_other_down(registry: Registry) -> None:
    for name in ("a", "b", "c"):
        bundles.publish(registry.root, name)
    damage(registry.path("b", 1) / "model.onnx")
    champions = Champions(registry, Metrics(), tuple(map(ModelSpec, "abc")))
    champions.refresh()
    assert set(champions.served) == {"a", "c"}
    assert not champions.ready
    with pytest.raises(UnavailableError, match="'b'"):
        champions.find("b")
    for name in (None, "d"):
        kind = InputError if name is None else NotFoundError
        with pytest.raises(kind, match="expected one of a, b, c"):
            champions.find(name)
    states = {each.name: each.state for each in champions.index()}
    assert states == {"a": "READY", "b": "UNAVAILABLE", "c": "READY"}


def test_the_only_one_that_could_be_loaded_does_not_answer_for_the_others(
    registry: Registry,
) -> None:
    bundles.publish(registry.root, "a")
    champions = Champions(registry, Metrics(), (ModelSpec("a"), ModelSpec("b")))
    champions.refresh()
    with pytest.raises(InputError, match="one of a, b, got none"):
        champions.find(None)
    assert failures(champions, "b") == 1


def test_a_model_has_its_own_limits_which_its_versions_share(registry: Registry) -> None:
    for name in ("a", "b"):
        bundles.publish(registry.root, name)
    limits = {"a": ModelLimits(rows=4, concurrent=1)}
    champions = Champions(registry, Metrics(), max_rows=99, limits=limits)
    champions.refresh()
    before = champions.find("a")
    assert (before.max_rows, champions.find("b").max_rows) == (4, 99)
    x, going, answer = bundles.digits().test.x[:1], Waiting(before.runner), threading.Event()
    thread = threading.Thread(target=lambda: (before.runner.run(x), answer.set()))
    thread.start()
    assert going.begun.wait(120)
    bundles.publish(registry.root, "a")
    champions.refresh()
    after = champions.find("a")
    assert after.manifest.version == 2
    with pytest.raises(UnavailableError, match="at once") as caught:
        after.runner.run(x)
    assert caught.value.headers["Retry-After"] == "1"
    assert champions.ready  # it is busy, not broken
    champions.find("b").runner.run(x)
    going.end.set()
    thread.join()
    assert answer.is_set()
    after.runner.run(x)
    assert run_failures(champions, "a") == 0


def test_a_worker_whose_model_does_not_run_is_not_ready_until_a_trial_succeeds(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        bundles.publish(registry.root, name)
    champions = Champions(registry, Metrics())
    champions.refresh()
    x, served = bundles.digits().test.x[:1], champions.find("a")
    session = broken(served.runner)
    with pytest.raises(UnavailableError):
        served.runner.run(x)
    assert not champions.ready
    assert not champions.is_ready("a")
    assert champions.is_ready("b")
    assert champions.index()[0] == ("a", 1, "UNAVAILABLE", DOES_NOT_RUN)
    assert run_failures(champions, "a") == 1
    monkeypatch.setattr(registry, "open", Mock(side_effect=OSError("the disk is away")))
    champions.refresh()
    assert not champions.ready
    session.broken = False
    champions.refresh()
    assert champions.ready
    assert champions.find("a") is served


def test_a_model_that_still_does_not_run_gets_a_fresh_session(registry: Registry) -> None:
    bundles.publish(registry.root)
    champions = Champions(registry, Metrics())
    champions.refresh()
    x, served = bundles.digits().test.x[:1], champions.find("digits")
    broken(served.runner)
    with pytest.raises(UnavailableError):
        served.runner.run(x)
    champions.refresh()
    assert champions.ready
    assert champions.find("digits") is not served
    champions.find("digits").runner.run(x)


def test_memory_does_not_grow_over_many_swaps(registry: Registry) -> None:
    """Sessions, detectors and the bytes of the model go with the version they belong to."""
    for _ in range(2):
        bundles.publish(registry.root)
    watch = QueryWatch(4, None)
    champions = Champions(registry, Metrics(), watch=watch)
    x, held = bundles.digits().test.x[:100], []

    def swap(times: int) -> int:
        for _ in range(times):
            registry.rollback("digits", actor="test", reason="test")
            champions.refresh()
            served = champions.find(None)
            served.runner.run(x)
            assert served.queries is not None
            served.queries.look("somebody", x)
            held.extend(map(weakref.ref, (served, served.runner, served.queries)))
        del served
        gc.collect()
        return int(psutil.Process().memory_info().rss)

    before = swap(5)
    grown = swap(20) - before
    assert sum(each() is not None for each in held) == 3  # those that serve
    assert grown < 8 * 2**20  # a version that stays keeps about 1.6 MiB of it
    watch.close()


def test_a_registry_that_cannot_be_seen_for_a_moment_takes_nothing_away(
    registry: Registry, champions: Champions, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles.publish(registry.root)
    champions.refresh()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "glob", Mock(side_effect=OSError(errno.ESTALE, "stale handle")))
        champions.refresh()
        assert champions.ready
    with monkeypatch.context() as patched:
        patched.setattr(Path, "glob", Mock(return_value=iter(())))
        champions.refresh()
        assert champions.ready
    bundles.publish(registry.root)
    champions.refresh()
    assert version(champions) == 2
