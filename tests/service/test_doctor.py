import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from service.cli.doctor import doctor
from service.repository import Repository
from service.settings import load
from tests import bundles


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models a (two versions) and b, each with a champion."""
    state = tmp_path_factory.mktemp("state")
    for name in ("a", "a", "b"):
        bundles.publish(state / "registry", name)
    return state


def told(state: Path, **settings: Any) -> tuple[dict[str, dict[str, Any]], int]:
    """What doctor finds, by name, and its status."""
    given = {f"HOLDFAST_{name.upper()}": str(value) for name, value in settings.items()}
    loaded = load({"HOLDFAST_STATE": str(state), "HOLDFAST_PORT": "1", **given})
    done = CliRunner().invoke(doctor, ["--json"], obj=loaded)
    findings = json.loads(done.stdout)["findings"]
    return {each["what"]: each for each in findings}, done.exit_code


def test_it_says_what_was_chosen_and_what_was_set(state: Path) -> None:
    chosen, status = told(state)
    assert status == 0
    detail = chosen["workers and threads"]["detail"]
    assert "x 4 threads, onnxruntime 1 thread each (" in detail
    assert "set so" not in detail
    set_to, _ = told(state, workers=9, threads=3)
    detail = set_to["workers and threads"]["detail"]
    assert detail.startswith("9 workers x 3 threads, onnxruntime 1 thread each (")
    assert "left out it would be" in detail


def test_it_tells_pinned_models_missing_ones_and_limits(state: Path) -> None:
    found, status = told(state, models="a@1,b", model_limits="b:rows=4,concurrent=2")
    assert status == 0
    assert found["model a"]["detail"].startswith("pinned: a/1, every sha256 right")
    assert found["model a"]["detail"].endswith("(champion is 2)")
    assert found["model b"]["detail"] == "follows its champion"
    limits = found["limits of b"]["detail"]
    assert limits == "4 rows in a request, 2 runs at once in a worker"
    for models in ("a@3", "c"):
        found, status = told(state, models=models)
        assert status == 1
        assert not found[f"model {models[0]}"]["ok"]


def test_it_tells_what_operators_have_unloaded(state: Path) -> None:
    repository = Repository(state / "registry")
    repository.decide("b", wanted=False, set_so=True)
    assert "unloaded" in told(state)[0]["model b"]["detail"]
    repository.decide("b", wanted=True, set_so=True)
    assert "model b" not in told(state)[0]


def test_it_tells_that_the_network_may_call_without_a_token(state: Path) -> None:
    found, status = told(state, host="0.0.0.0")
    assert status == 0
    assert not found["callers"]["ok"]
    assert "no tokens" in found["callers"]["detail"]
    assert told(state)[0]["callers"]["detail"] == "this machine only"
