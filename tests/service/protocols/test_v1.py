"""The V1 protocol as TensorFlow Serving's and KServe's clients speak it."""

import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import Client

from models.versions.schema import OUTPUTS
from service.app import Application
from tests.asgi import client_of
from tests.service import pictures, tables
from tests.service.conftest import MakeApp
from tests.service.decoding.test_codec import json_values
from tests.service.pictures import colour, saved

PREDICT = "/v1/models/colours:predict"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    state = pictures.published(tmp_path_factory)
    with tables.served(state, max_rows=20, query_detection="off") as found:
        yield found


@pytest.fixture
def client(app: Application) -> Client:
    return client_of(app)


def encoded(*contents: bytes) -> list[dict[str, str]]:
    return [{"b64": base64.b64encode(each).decode()} for each in contents]


X = tables.colours().test.x[:3]
FILES = [saved(each.transpose(1, 2, 0)) for each in X]


def friendly(client: Client, model: str, instances: Any) -> Any:
    got = client.post(f"/predict?model={model}", json={"instances": instances})
    return got.get_json()["predictions"]


def test_a_prediction_is_that_of_predict_and_says_whose_it_is(client: Client) -> None:
    got = client.post(PREDICT, json={"instances": X.tolist()}, headers={"X-Request-Id": "a.1"})
    assert got.status_code == 200
    document = got.get_json()
    assert list(document) == ["predictions", "model", "version", "id"]
    assert document["predictions"] == friendly(client, "colours", X.tolist())
    assert (document["model"], document["version"], document["id"]) == ("colours", 1, "a.1")
    pinned = client.post(
        "/v1/models/colours/versions/1:predict", json={"instances": X.tolist()}
    ).get_json()
    assert pinned["predictions"] == document["predictions"]


def test_the_content_type_does_not_matter(client: Client) -> None:
    body = json.dumps({"instances": X.tolist()})
    for kind in ("application/x-www-form-urlencoded", "text/plain", None):
        assert client.post(PREDICT, data=body, content_type=kind).status_code == 200


def test_a_compressed_body_is_read_and_a_large_one_is_413(client: Client) -> None:
    body = json.dumps({"instances": X.tolist()}).encode()
    packed = client.post(PREDICT, data=gzip.compress(body), headers={"Content-Encoding": "gzip"})
    assert packed.get_json()["predictions"] == friendly(client, "colours", X.tolist())
    large = client.post(PREDICT, data=b" " * (8 * 2**20) + body)
    assert large.status_code == 413
    assert list(large.get_json()) == ["error"]


@pytest.mark.parametrize(
    ("field", "rows"),
    [
        ("instances", encoded(*FILES)),
        ("instances", [{"input": each} for each in X.tolist()]),
        ("instances", [{"input": each} for each in encoded(*FILES)]),
        ("inputs", X.tolist()),
        ("inputs", {"input": X.tolist()}),
        ("inputs", encoded(*FILES)),
        ("inputs", {"input": encoded(*FILES)}),
    ],
)
def test_every_way_to_write_pictures_gives_the_same(client: Client, field: str, rows: Any) -> None:
    got = client.post(PREDICT, json={field: rows, "signature_name": "serving_default"})
    assert got.status_code == 200
    assert got.get_json()["predictions"] == friendly(client, "colours", X.tolist())


def test_inputs_are_answered_by_the_names_of_the_outputs_too(client: Client) -> None:
    document = client.post(PREDICT, json={"inputs": X.tolist()}).get_json()
    rows, outputs = document["predictions"], document["outputs"]
    assert set(outputs) == {
        *OUTPUTS, "label", "drift_flagged", "perturbation_flagged", "suspicious", "verdict",
        "query_flagged",
    }  # fmt: skip
    assert outputs["label"] == [row["label"] for row in rows]
    assert outputs["probabilities"] == [row["probabilities"] for row in rows]
    assert outputs["drift_p_value"] == [row["drift"]["p_value"] for row in rows]
    assert outputs["drift_flagged"] == [row["drift"]["flagged"] for row in rows]
    assert {len(column) for column in outputs.values()} == {3}


def test_rows_of_a_table_are_lists_or_objects(client: Client) -> None:
    data = tables.wine()
    x = data.test.x[:4]
    wanted = friendly(client, "wine", tables.as_objects(data, x))
    for body in (
        {"instances": tables.as_objects(data, x)},
        {"instances": tables.as_lists(data, x)},
        {"inputs": tables.as_lists(data, x)},
        {"inputs": {data.schema.name: tables.as_objects(data, x)}},
    ):
        got = client.post("/v1/models/wine:predict", json=body)
        assert got.get_json()["predictions"] == wanted


def test_files_of_another_size_are_resized_on_request(client: Client) -> None:
    body = {"instances": encoded(saved(colour(height=40, width=30)))}
    refused = client.post(PREDICT, json=body)
    assert refused.status_code == 400
    error = refused.get_json()["error"]
    assert error.startswith("instances[0].b64: expected 8 x 8 pixels")
    assert client.post(f"{PREDICT}?resize=crop", json=body).status_code == 200


REFUSED: dict[str, tuple[Any, str]] = {
    "neither": ({}, "instances: expected either instances or inputs, got neither"),
    "both": ({"instances": [], "inputs": []}, "got both"),
    "nothing": ({"instances": []}, "instances: expected"),
    "null": ({"instances": None}, "got neither"),
    "another signature": ({"instances": X.tolist(), "signature_name": "x"}, "signature_name: "),
    "another input": ({"inputs": {"x": X.tolist()}}, "inputs: expected an object of one member"),
    "two inputs": ({"inputs": {"input": 1, "x": 1}}, "inputs: expected an object of one member"),
    "another name": ({"instances": [{"x": 1}]}, "instances[0]: expected an object of one member"),
    "one without": ({"instances": [{"input": 1}, {}]}, "instances[1]: expected an object of one"),
    "no base64": ({"instances": [{"b64": "?"}]}, "instances[0].b64: expected base64"),
    "no text": ({"instances": [{"b64": 3}]}, "instances[0].b64: expected"),
    "no file": ({"instances": [{"b64": ""}]}, "instances[0].b64: expected a PNG or JPEG file"),
    "mixed": ({"inputs": [*encoded(FILES[0]), X[0].tolist()]}, "inputs[1]: expected object"),
    "another file": ({"instances": encoded(FILES[0], b"GIF89a")}, "instances[1].b64: expected a"),
    "too many": ({"instances": encoded(*FILES * 7)}, "files: expected 1 to 20 rows, got 21 rows"),
    "a bomb": ({"instances": encoded(pictures.bomb(20_000, 1000))}, "at most 16000000 pixels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_with_an_error_text(client: Client, name: str) -> None:
    body, told = REFUSED[name]
    refused = client.post(PREDICT, json=body)
    assert refused.status_code == 400
    assert refused.content_type == "application/json"
    assert list(refused.get_json()) == ["error"]
    assert told.replace("`?", "") in refused.get_json()["error"].replace("`", "")


def test_a_model_is_told_as_both_servers_tell_it(client: Client) -> None:
    assert client.get("/v1/models").get_json() == {"models": ["colours", "wine"]}
    for path in ("/v1/models/colours", "/v1/models/colours/versions/1"):
        status = client.get(path).get_json()
        assert (status["name"], status["ready"]) == ("colours", True)
        assert status["classes"] == list(tables.colours().classes)
        (version,) = status["model_version_status"]
        assert version == {
            "version": "1",
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/models/nope", 404),
        ("GET", "/v1/models/colours/versions/2", 404),
        ("POST", "/v1/models/nope:predict", 404),
        ("POST", "/v1/models/colours/versions/2:predict", 404),
        ("POST", "/v1/models/colours/versions/x:predict", 404),
        ("POST", "/v1/models/colours:classify", 404),
        ("GET", "/v1/models/colours:predict", 405),
        ("GET", "/v1/models/colours/versions/1:predict", 405),
        ("POST", "/v1/models/colours", 405),
        ("GET", "/v1", 404),
    ],
)
def test_every_status_has_an_error_text(
    client: Client, method: str, path: str, status: int
) -> None:
    got = client.open(path, method=method)
    assert got.status_code == status
    assert list(got.get_json()) == ["error"]
    assert status != 405 or got.headers["Allow"]


def test_without_a_model_v1_says_try_again(make_app: MakeApp, tmp_path: Path) -> None:
    client = client_of(make_app(tmp_path))
    assert client.get("/v1/models").get_json() == {"models": []}
    for got in (client.get("/v1/models/x"), client.post("/v1/models/x:predict", json={})):
        assert got.status_code == 503
        assert got.headers["Retry-After"]
        assert list(got.get_json()) == ["error"]


def test_a_model_that_does_not_run_is_not_ready(
    app: Application, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = app.service.champions.find("colours").runner
    monkeypatch.setattr(runner, "failing", True)
    got = client.get("/v1/models/colours")
    assert got.status_code == 503
    assert "does not run" in got.get_json()["error"]


def test_a_flagged_row_is_409_where_the_policy_is_to_reject(
    make_app: MakeApp, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/records.sqlite"
    state = pictures.published(tmp_path_factory)
    client = client_of(make_app(state, policy="reject", database_url=url))
    strange = np.full((1, 3, 8, 8), 255).tolist()
    got = client.post(PREDICT, json={"instances": strange})
    assert got.status_code == 409
    assert list(got.get_json()) == ["error"]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(json_values, st.sampled_from(["colours", "wine"]))
def test_no_json_gives_a_5xx(client: Client, value: Any, model: str) -> None:
    for body in (
        value,
        {"instances": value},
        {"inputs": value},
        {"instances": [{"b64": value}]},
        {"instances": [{"input": value}, value]},
        {"inputs": {"input": value}},
        {"instances": [], "signature_name": value},
    ):
        got = client.post(f"/v1/models/{model}:predict", json=body)
        assert got.status_code in (200, 400)
