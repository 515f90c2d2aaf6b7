"""The file of what operators said, and the models that are served by it."""

import threading
from pathlib import Path

import pytest

from models.base.errors import RegistryError
from models.versions.registry import Registry
from monitoring.counting.metrics import Metrics
from service.configuration.model_specs import ModelSpec
from service.fleet.overrides import FILE, Decisions, Repository
from service.fleet.served_models import Champions, ModelState
from service.web.errors import NotFoundError, UnavailableError
from tests import bundles
from tests.service.fleet.test_served_models import damage


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "registry")
    for name in ("a", "b"):
        bundles.publish(registry.root, name)
    return registry


def champions_of(registry: Registry, *specs: ModelSpec) -> Champions:
    champions = Champions(registry, Metrics(), specs)
    champions.refresh()
    return champions


def state(champions: Champions, model: str) -> ModelState:
    return next(each for each in champions.index() if each.name == model)


def test_only_what_differs_from_the_settings_is_kept(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    assert repository.read() == Decisions()
    repository.decide("a", loaded=False, set_so=True)
    repository.decide("x", loaded=True, set_so=False)
    assert repository.read() == Decisions(2, {"a": False, "x": True})
    repository.decide("a", loaded=True, set_so=True)
    repository.decide("x", loaded=False, set_so=False)
    assert repository.read() == Decisions(4, {})


def test_every_call_changes_the_signature(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    seen = {repository.signature()}
    for _ in range(5):
        repository.decide("a", loaded=True, set_so=True)
        seen.add(repository.signature())
    assert len(seen) == 6


def test_no_call_is_lost_when_many_are_made_at_once(tmp_path: Path) -> None:
    def unload(model: str) -> None:
        for _ in range(5):
            Repository(tmp_path).decide(model, loaded=False, set_so=True)

    names = [f"m{k}" for k in range(4)]
    threads = [threading.Thread(target=unload, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Repository(tmp_path).read() == Decisions(20, dict.fromkeys(names, False))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"models": {"a": 1}}', '{"other": 1}', "\xff"])
def test_a_damaged_file_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(RegistryError, match=FILE):
        Repository(tmp_path).read()


def test_an_unloaded_model_is_not_served_and_no_reason_not_to_be_ready(registry: Registry) -> None:
    champions = champions_of(registry, ModelSpec("a"), ModelSpec("b"))
    held = champions.find("a")
    champions.unload("a")
    with pytest.raises(NotFoundError, match="expected one of b"):
        champions.find("a")
    assert champions.find(None).manifest.model == "b"
    assert champions.ready
    assert not champions.is_ready("a")
    assert state(champions, "a") == ModelState("a", 1, "UNAVAILABLE", "unloaded")
    held.runner.run(bundles.digits().test.x[:1])  # a request under way finishes
    champions.load("a")
    assert champions.find("a").manifest.version == 1
    assert state(champions, "a") == ModelState("a", 1, "READY", "")


def test_other_workers_and_later_ones_follow(registry: Registry) -> None:
    first, second = champions_of(registry), champions_of(registry)
    first.unload("a")
    second.refresh()
    assert set(second.served) == {"b"}
    assert set(champions_of(registry).served) == {"b"}  # started again
    second.load("a")
    first.refresh()
    assert set(first.served) == {"a", "b"}


def test_all_unloaded_is_not_ready(registry: Registry) -> None:
    champions = champions_of(registry)
    for name in ("a", "b"):
        champions.unload(name)
    assert not champions.ready
    with pytest.raises(UnavailableError):
        champions.find(None)
    champions.load("b")
    assert champions.ready


def test_a_model_beside_the_named_ones_is_served_when_it_is_loaded(registry: Registry) -> None:
    champions = champions_of(registry, ModelSpec("a"))
    assert state(champions, "b") == ModelState("b", 1, "UNAVAILABLE", "not named in the settings")
    with pytest.raises(NotFoundError):
        champions.find("b")
    champions.load("b")
    assert set(champions.served) == {"a", "b"}
    champions.unload("b")
    assert set(champions.served) == {"a"}
    assert Repository(registry.root).read().models == {}


def test_loading_a_damaged_model_says_why_and_changes_nothing(registry: Registry) -> None:
    champions = champions_of(registry, ModelSpec("a"))
    model = registry.path("b", 1) / "model.onnx"
    whole = model.read_bytes()
    damage(model)
    with pytest.raises(UnavailableError, match=r"sha256 of model\.onnx"):
        champions.load("b")
    assert set(champions.served) == {"a"}
    assert champions.ready
    assert Repository(registry.root).read() == Decisions()
    model.write_bytes(whole)
    champions.load("b")
    assert champions.is_ready("b")


def test_a_load_makes_every_worker_try_again_what_it_had_given_up(registry: Registry) -> None:
    model = registry.path("a", 1) / "model.onnx"
    whole = model.read_bytes()
    damage(model)
    first, second = (champions_of(registry, ModelSpec("a"), ModelSpec("b")) for _ in range(2))
    assert "sha256" in state(second, "a").reason
    model.write_bytes(whole)
    second.refresh()
    assert not second.is_ready("a")  # its pause is not over
    first.load("a")
    second.refresh()
    assert first.ready
    assert second.ready


def test_an_unknown_model_is_told_so(registry: Registry) -> None:
    champions = champions_of(registry)
    for call in (champions.load, champions.unload):
        for name in ("nobody", "../a", ""):
            with pytest.raises(NotFoundError, match="no such model"):
                call(name)
    bundles.publish(registry.root, "c", promote=False)
    with pytest.raises(UnavailableError, match="no champion"):
        champions.load("c")


def test_what_cannot_be_kept_is_told_and_a_damaged_file_disturbs_nothing(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    champions = champions_of(registry)
    champions.unload("a")
    (registry.root / FILE).write_text("{")
    for _ in range(3):
        champions.refresh()
    assert set(champions.served) == {"b"}  # what was known still holds
    logged = capsys.readouterr()
    assert (logged.out + logged.err).count("repository_unreadable") == 1
    with pytest.raises(UnavailableError, match="remove it"):
        champions.unload("b")
    (registry.root / FILE).unlink()
    champions.refresh()
    assert set(champions.served) == {"a", "b"}
