"""The repository of models: listed, loaded and unloaded over the network, never changed by it."""

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from models.versions.registry import Registry
from service.access.auth import secret_in
from tests import bundles
from tests.asgi import client_of
from tests.service import v2_schemas as published
from tests.service.conftest import MakeApp

INDEX = "/v2/repository/index"


Asked = Callable[..., Any]


@pytest.fixture
def client(make_app: MakeApp, tmp_path: Any) -> FlaskClient:
    root = tmp_path / "registry"
    bundles.publish(root)
    bundles.publish(root, "later", promote=False)
    return client_of(make_app(tmp_path))


@pytest.fixture
def ask(client: FlaskClient, tmp_path: Any) -> Asked:
    """POST with the token that these calls need."""
    token = secret_in("", tmp_path / "run" / "admin_token")
    headers = {"Authorization": f"Bearer {token}"}
    return lambda path, data=b"": client.post(path, data=data, headers=headers)


def index(ask: Asked, data: bytes = b"") -> dict[str, Any]:
    answer = ask(INDEX, data)
    assert answer.status_code == 200
    published.conforms(answer.get_json(), published.INDEX)
    return {each["name"]: each for each in answer.get_json()}


def test_who_has_no_token_is_told_nothing(client: FlaskClient) -> None:
    change = "/v2/repository/models/digits"
    for path in (INDEX, f"{change}/load", f"{change}/unload"):
        answer = client.post(path)
        assert answer.status_code == 401
        published.conforms(answer.get_json(), published.ERROR)
    assert client.get("/v2/models/digits/ready").status_code == 200


def test_the_index_has_what_is_served_and_what_is_not(ask: Asked) -> None:
    found = index(ask)
    assert found["digits"] == {"name": "digits", "version": "1", "state": "READY", "reason": ""}
    assert found["later"]["state"] == "UNAVAILABLE"
    assert found["later"]["reason"]
    assert "version" not in found["later"]
    assert index(ask, b"{}") == index(ask, b'{"ready": false}') == found
    assert list(index(ask, b'{"ready": true}')) == ["digits"]


def test_what_is_unloaded_is_gone_until_it_is_loaded(
    client: FlaskClient, ask: Asked, rows: Any
) -> None:
    instances = {"instances": rows[:1].tolist()}
    answer = ask("/v2/repository/models/digits/unload")
    assert (answer.status_code, answer.data) == (200, b"")
    assert index(ask)["digits"]["state"] == "UNAVAILABLE"
    assert client.get("/v2/models/digits/ready").status_code in (404, 503)
    assert client.post("/predict?model=digits", json=instances).status_code in (404, 503)
    answer = ask("/v2/repository/models/digits/load", b"{}")
    assert (answer.status_code, answer.data) == (200, b"")
    assert client.get("/v2/models/digits/ready").status_code == 200
    assert client.post("/predict?model=digits", json=instances).status_code == 200


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_no_model_is_found_that_is_not_there(ask: Asked, verb: str) -> None:
    for model in ("nope", "..", "%2e%2e%2fdigits", "x" * 300, "%00"):
        answer = ask(f"/v2/repository/models/{model}/{verb}")
        assert answer.status_code == 404, model
        published.conforms(answer.get_json(), published.ERROR)


@pytest.mark.parametrize(
    ("verb", "body", "status"),
    [
        ("load", b'{"parameters": {}}', 200),
        ("load", b'{"parameters": {"config": "{}"}}', 400),
        ("load", b'{"parameters": {"file:1/model.onnx": "AAAA"}}', 400),
        ("load", b'{"parameters": {"unload_dependents": true}}', 400),
        ("load", b'{"parameters": []}', 400),
        ("load", b"[]", 400),
        ("load", b"{", 400),
        ("unload", b'{"parameters": {"mine": 1}}', 400),
        ("unload", b'{"parameters": {"unload_dependents": true}}', 200),
        ("unload", b" ", 200),
    ],
)
def test_a_model_is_what_its_bundle_says(ask: Asked, verb: str, body: bytes, status: int) -> None:
    answer = ask(f"/v2/repository/models/digits/{verb}", body)
    assert answer.status_code == status
    expected = "UNAVAILABLE" if (verb, status) == ("unload", 200) else "READY"
    assert index(ask)["digits"]["state"] == expected


@pytest.mark.parametrize("body", [b"[]", b'{"ready": 1}', b"\xff", b'{"ready"'])
def test_an_index_request_that_does_not_read_is_refused(ask: Asked, body: bytes) -> None:
    assert ask(INDEX, body).status_code == 400


def test_nothing_is_loaded_beyond_the_champion(ask: Asked, tmp_path: Any) -> None:
    answer = ask("/v2/repository/models/later/load")
    assert answer.status_code == 503
    assert "champion" in answer.get_json()["error"]
    assert Registry(tmp_path / "registry").aliases("later").champion is None
