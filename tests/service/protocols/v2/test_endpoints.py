from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from models.versions.registry import Registry
from models.versions.runner import Runner
from models.versions.schema import OUTPUTS
from service.protocols.v2.codec import ANSWERED, QUERY_FLAGGED
from tests.asgi import client_of
from tests.service.conftest import MakeApp

Rows = np.ndarray[Any, np.dtype[np.float32]]
URL = "/v2/models/digits/infer"


def request_of(x: Rows, data: Any, **more: Any) -> dict[str, Any]:
    tensor = {"name": "input", "shape": list(x.shape), "datatype": "FP32", "data": data}
    return {"inputs": [tensor], **more}


@pytest.mark.parametrize("flat", [True, False])
def test_infer_answers_all_outputs_as_tensors(
    client: FlaskClient, published_state: Path, rows: Rows, flat: bool
) -> None:
    x = rows[:5]
    body = request_of(x, x.ravel().tolist() if flat else x.tolist(), id="mine")
    answer = client.post(URL, json=body).get_json()
    truth = Runner(Registry(published_state / "registry").open("digits")).run(x)
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("digits", "1", "mine")
    assert [output["name"] for output in answer["outputs"]] == list(ANSWERED)
    assert (
        *OUTPUTS,
        QUERY_FLAGGED,
    ) == ANSWERED  # tests/service/protocols/test_queries.py has the last one
    for output in answer["outputs"][:-1]:
        expected = getattr(truth, output["name"])
        assert output["shape"] == list(expected.shape)
        integer = output["name"] == "cells"
        assert output["datatype"] == ("INT32" if integer else "FP32")
        np.testing.assert_array_equal(
            np.array(output["data"], expected.dtype).reshape(expected.shape), expected
        )


def test_the_content_type_is_not_looked_at(client: FlaskClient, rows: Rows) -> None:
    import json

    body = json.dumps(request_of(rows[:1], rows[:1].tolist()))
    for kind in (None, "application/octet-stream", "text/plain"):
        assert client.post(URL, data=body, content_type=kind).status_code == 200


def test_only_the_outputs_that_are_asked_for_are_answered(client: FlaskClient, rows: Rows) -> None:
    asked = [{"name": "drift_p_value"}, {"name": "cells", "parameters": {"binary_data": False}}]
    body = request_of(rows[:1], rows[:1].tolist(), outputs=asked)
    answer = client.post(URL, json=body).get_json()
    assert [output["name"] for output in answer["outputs"]] == ["drift_p_value", "cells"]


def test_the_header_is_the_id_where_the_body_has_none(client: FlaskClient, rows: Rows) -> None:
    body = request_of(rows[:1], rows[:1].tolist())
    answer = client.post(URL, json=body, headers={"X-Request-Id": "h"}).get_json()
    assert answer["id"] == "h"
    body["id"] = ""
    assert len(client.post(URL, json=body).get_json()["id"]) == 26


def test_a_version_is_served_under_its_number(client: FlaskClient, rows: Rows) -> None:
    body = request_of(rows[:1], rows[:1].tolist())
    assert client.post("/v2/models/digits/versions/1/infer", json=body).status_code == 200
    refused = client.post("/v2/models/digits/versions/2/infer", json=body)
    assert refused.status_code == 404
    assert "served: 1" in refused.get_json()["error"]


def test_metadata_says_what_goes_in_and_comes_out(
    client: FlaskClient, published_state: Path
) -> None:
    manifest = Registry(published_state / "registry").manifest("digits", 1)
    channels = len(manifest.channels)
    assert client.get("/v2").get_json()["name"] == "holdfast"
    for path in ("/v2/models/digits", "/v2/models/digits/versions/1"):
        told = client.get(path).get_json()
        assert told["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 1, 8, 8]}]
        shapes = {output["name"]: output["shape"] for output in told["outputs"]}
        assert shapes["probabilities"] == [-1, 10]
        assert shapes["drift_p_value"] == [-1]
        assert shapes["cells"] == [-1, channels]


def test_health_follows_what_is_loaded(
    client: FlaskClient, make_app: MakeApp, tmp_path: Path
) -> None:
    paths = ("/v2/health/ready", "/v2/models/digits/ready", "/v2/models/digits/versions/1/ready")
    for path in paths:
        assert client.get(path).get_json()["ready"] is True
    empty = client_of(make_app(tmp_path))
    assert [empty.get(path).status_code for path in paths] == [503, 503, 503]
    assert empty.get("/v2/health/live").get_json() == {"live": True}
