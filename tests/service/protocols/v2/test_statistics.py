"""The statistics add up what was asked of a version, and nothing else."""

import time
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.app import Application
from tests import bundles
from tests.asgi import client_of
from tests.service.conftest import MakeApp


@pytest.fixture
def two_models(make_app: MakeApp, tmp_path: Any) -> Application:
    for model in ("digits", "other"):
        bundles.publish(tmp_path / "registry", model)
    return make_app(tmp_path)


def stats(client: FlaskClient, path: str = "/v2/models/stats") -> dict[tuple[str, str], Any]:
    found = client.get(path).get_json()["model_stats"]
    return {(each["name"], each["version"]): each for each in found}


def test_each_version_has_its_own_sums(two_models: Application, rows: Any) -> None:
    client, began = client_of(two_models), time.time()
    fresh = stats(client)
    assert sorted(fresh) == [("digits", "1"), ("other", "1")]
    assert fresh["other", "1"]["inference_count"] == fresh["other", "1"]["last_inference"] == 0
    for count in (1, 3):
        instances = {"instances": rows[:count].tolist()}
        assert client.post("/predict?model=digits", json=instances).status_code == 200
    for body in (b"", b"{}"):
        assert client.post("/v2/models/digits/infer", data=body).status_code == 400
    assert client.post("/v2/models/digits/versions/9/infer", data=b"").status_code == 404
    found = stats(client)
    assert found["other", "1"] == fresh["other", "1"]
    digits = found["digits", "1"]
    assert (digits["inference_count"], digits["execution_count"]) == (4, 2)
    assert 1e3 * began - 1 <= digits["last_inference"] <= 1e3 * time.time() + 1
    times = digits["inference_stats"]
    assert times["fail"]["count"] == 2
    for name in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        assert times[name]["count"] == 2
    parts = sum(times[f"compute_{part}"]["ns"] for part in ("input", "infer", "output"))
    assert 0 < parts < times["success"]["ns"] < 1e9 * (time.time() - began)
    assert times["queue"]["ns"] == times["cache_hit"]["count"] == times["cache_miss"]["count"] == 0


def test_one_model_or_version_is_told_alone(two_models: Application) -> None:
    client = client_of(two_models)
    for path in ("/v2/models/other/stats", "/v2/models/other/versions/1/stats"):
        assert list(stats(client, path)) == [("other", "1")]


def test_a_refused_flag_is_a_failure(make_app: MakeApp, published_state: Any, rows: Any) -> None:
    client = client_of(make_app(published_state, policy="reject"))
    noise = (16 - rows[:200]).tolist()
    assert client.post("/predict", json={"instances": noise}).status_code == 409
    (found,) = stats(client).values()
    assert found["inference_stats"]["fail"]["count"] == 1
    assert found["inference_stats"]["success"]["count"] == 0
