"""Every answer below /v2 is what the published descriptions of the protocol say."""

import json
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from service.access.auth import secret_in
from service.protocols.v2.binary import HEADER
from tests.service import v2_schemas as published
from tests.service.v2_bodies import framed

INFER = "/v2/models/digits/infer"


def body(x: Any, **more: Any) -> dict[str, Any]:
    tensor = {"name": "input", "shape": list(x.shape), "datatype": "FP32", "data": x.tolist()}
    return {"inputs": [tensor], **more}


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("/v2", published.SERVER),
        ("/v2/", published.SERVER),
        ("/v2/health/live", published.LIVE),
        ("/v2/health/ready", published.READY),
        ("/v2/models/digits", published.MODEL),
        ("/v2/models/digits/versions/1", published.MODEL),
        ("/v2/models/digits/ready", published.MODEL_READY),
        ("/v2/models/digits/versions/1/ready", published.MODEL_READY),
        ("/v2/models/digits/config", published.CONFIG),
        ("/v2/models/digits/versions/1/config", published.CONFIG),
        ("/v2/models/digits/stats", published.STATISTICS),
        ("/v2/models/digits/versions/1/stats", published.STATISTICS),
        ("/v2/models/stats", published.STATISTICS),
    ],
)
def test_what_is_told_has_the_published_form(client: FlaskClient, path: str, schema: Any) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.content_type == "application/json"
    published.conforms(answer.get_json(), schema)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"id": "mine"},
        {"parameters": {"priority": 1, "timeout": 10**6, "sequence_id": 3, "mine": {"a": [1]}}},
        {"outputs": [{"name": "probabilities", "parameters": {"classification": 3}}]},
        {"outputs": [{"name": "cells"}, {"name": "query_flagged", "parameters": {"mine": True}}]},
    ],
)
def test_an_inference_in_json_has_the_published_form(
    client: FlaskClient, rows: Any, more: Any
) -> None:
    answer = client.post(INFER, json=body(rows[:3], **more))
    published.conforms(answer.get_json(), published.INFERENCE)
    assert "id" not in more or answer.get_json()["id"] == more["id"]


def test_an_inference_in_bytes_has_the_published_form(client: FlaskClient, rows: Any) -> None:
    answer = client.post(INFER, json=body(rows[:3], parameters={"binary_data_output": True}))
    assert answer.content_type == "application/octet-stream"
    document = json.loads(answer.data[: int(answer.headers[HEADER])])
    published.conforms(document, published.INFERENCE_BINARY)
    assert all("data" not in output for output in document["outputs"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/nope", 404),
        ("GET", "/v2/models/nope/config", 404),
        ("GET", "/v2/models/nope/stats", 404),
        ("GET", "/v2/models/digits/versions/7/stats", 404),
        ("GET", "/v2/models/digits/versions/01/config", 404),
        ("GET", "/v2/nowhere", 404),
        ("GET", "/v2/systemsharedmemory/status", 404),
        ("POST", "/v2/models/stats", 405),
        ("GET", "/v2/repository/index", 405),
        ("POST", INFER, 400),
        ("POST", "/v2/models/nope/infer", 404),
        ("POST", "/v2/repository/index", 401),
        ("POST", "/v2/repository/models/digits/load", 401),
    ],
)
def test_every_refusal_has_the_published_form(
    client: FlaskClient, method: str, path: str, status: int
) -> None:
    answer = client.open(path, method=method)
    assert answer.status_code == status
    published.conforms(answer.get_json(), published.ERROR)


def test_the_extensions_that_are_named_are_there(
    client: FlaskClient, published_state: Any, rows: Any
) -> None:
    token = secret_in("", published_state / "run" / "admin_token")
    admin = {"Authorization": f"Bearer {token}"}
    told = client.get("/v2").get_json()["extensions"]
    tensor = {"name": "input", "shape": [1, 1, 8, 8], "datatype": "FP32"}
    document = {"inputs": [tensor | {"parameters": {"binary_data_size": 256}}]}
    frame, headers = framed(document, np.ascontiguousarray(rows[0]).tobytes())
    best = [{"name": "probabilities", "parameters": {"classification": 1}}]
    asked = {
        "binary_tensor_data": client.post(INFER, data=frame, headers=headers),
        "classification": client.post(INFER, json=body(rows[:1], outputs=best)),
        "model_configuration": client.get("/v2/models/digits/config"),
        "model_repository": client.post("/v2/repository/index", headers=admin),
        "statistics": client.get("/v2/models/stats"),
    }
    assert sorted(told) == sorted(asked)
    assert {answer.status_code for answer in asked.values()} == {200}


def test_the_configuration_agrees_with_the_metadata(client: FlaskClient) -> None:
    told = client.get("/v2/models/digits").get_json()
    config = client.get("/v2/models/digits/config").get_json()
    for ours, theirs in (("inputs", "input"), ("outputs", "output")):
        assert config[theirs] == [
            {"name": t["name"], "data_type": f"TYPE_{t['datatype']}", "dims": t["shape"][1:]}
            for t in told[ours]
        ]
    assert config["max_batch_size"] == 1024
