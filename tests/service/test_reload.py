import gc
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.registry import Registry
from monitoring.metrics import Metrics
from service import reload
from service.errors import NotFoundError, UnavailableError
from service.reload import Champions
from tests import bundles


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
    monkeypatch.setattr("service.reload.time.monotonic", lambda: now[0])
    bundles.publish(registry.root)
    model = registry.path("digits", 1) / "model.onnx"
    whole = model.read_bytes()
    damage(model)
    for _ in range(5):
        champions.refresh()
    assert failures(champions) == 1
    now[0] += reload.FIRST_PAUSE_SECONDS
    for _ in range(5):
        champions.refresh()
    assert failures(champions) == 2
    now[0] += reload.FIRST_PAUSE_SECONDS
    champions.refresh()
    assert failures(champions) == 2
    model.write_bytes(whole)
    now[0] += reload.FIRST_PAUSE_SECONDS
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
