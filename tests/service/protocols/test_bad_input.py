"""Nothing a client sends may give a 5xx; every refusal says what was wrong."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.asgi import client_of
from tests.service import tables
from tests.service.decoding.test_codec import json_values

ROW = np.zeros((1, 8, 8)).tolist()
SEVEN = np.zeros((1, 7, 8)).tolist()
JSON = "application/json"


def tensor(**changes: Any) -> dict[str, Any]:
    base = {"name": "input", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": [0] * 64}
    return {k: v for k, v in {**base, **changes}.items() if v is not ...}


def infer(**changes: Any) -> bytes:
    return json.dumps({"inputs": [tensor(**changes)]}).encode()


def row_with(value: str) -> bytes:
    return json.dumps({"instances": [ROW]}).replace("0.0", value, 1).encode()


PREDICT = {
    "empty body": (b"", "body"),
    "not JSON": (b"instances=1", "body"),
    "half JSON": (b'{"instances": [[', "body"),
    "not UTF-8": (b'{"instances": "\xff\xfe"}', "instances"),
    "an empty list": (b"[]", "instances"),
    "a text": (b'"digits"', "body"),
    "a number": (b"7", "body"),
    "another member": (b'{"instance": []}', "instances"),
    "UTF-16": ('{"instances": []}'.encode("utf-16"), "body"),
    "no instances": (b"{}", "instances"),
    "instances is null": (b'{"instances": null}', "instances"),
    "instances is text": (b'{"instances": "digits"}', "instances"),
    "instances is an object": (b'{"instances": {}}', "instances"),
    "empty batch": (b'{"instances": []}', "instances"),
    "flat": (json.dumps({"instances": [0.0] * 64}).encode(), "instances[0]"),
    "wrong shape": (json.dumps({"instances": [SEVEN]}).encode(), "instances[0][0]"),
    "NaN": (row_with("NaN"), "instances[0][0][0][0]"),
    "Infinity": (row_with("Infinity"), "instances[0][0][0][0]"),
    "minus infinity": (row_with("-Infinity"), "instances[0][0][0][0]"),
    "null": (row_with("null"), "instances[0][0][0][0]"),
    "boolean": (row_with("true"), "instances[0][0][0][0]"),
    "string": (row_with('"0"'), "instances[0][0][0][0]"),
    "lone surrogate": (row_with('"\\ud800"'), "body"),
    "too large": (row_with("16.5"), "instances[0]"),
    "negative": (row_with("-0.5"), "instances[0]"),
    "1e400": (row_with("1e400"), "instances"),
    "1e300": (row_with("1e300"), "instances[0]"),
    "huge integer": (row_with("9" * 400), "instances"),
    "big integer": (row_with("9" * 30), "instances[0]"),
    "2^63": (row_with(str(2**63)), "instances[0]"),
    "nested 1000": (b'{"instances":' + b"[" * 1000 + b"]" * 1000 + b"}", "body"),
    "nested 900": (b'{"instances":' + b"[" * 900 + b"]" * 900 + b"}", "instances[0][0]"),
    "nested 100000": (b'{"instances":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "body"),
    "10,000 rows": (json.dumps({"instances": [[[[0] * 8] * 8]] * 10_000}).encode(), None),
    "1,025 rows": (json.dumps({"instances": [[[[0] * 8] * 8]] * 1025}).encode(), "instances"),
    "10,000 numbers": (json.dumps({"instances": [0] * 10_000}).encode(), "instances"),
    "duplicate keys": (b'{"instances": 1, "instances": 2}', "instances"),
}  # fmt: skip


@pytest.mark.parametrize("name", PREDICT)
def test_predict_refuses_with_a_problem_that_names_the_field(
    client: FlaskClient, name: str
) -> None:
    body, field = PREDICT[name]
    answer = client.post("/predict", data=body, content_type=JSON)
    assert answer.status_code == (413 if field is None else 400)
    assert answer.content_type == "application/problem+json"
    problem = answer.get_json()
    assert problem["status"] == answer.status_code
    assert problem["title"]
    assert "Traceback" not in answer.text
    if field is not None:
        assert problem["field"] == field
        assert problem["expected"]
        assert problem["got"]


V2 = {
    "empty body": b"",
    "no inputs": b"{}",
    "inputs is null": b'{"inputs": null}',
    "no tensors": b'{"inputs": []}',
    "two tensors": json.dumps({"inputs": [tensor(), tensor()]}).encode(),
    "unknown name": infer(name="image"),
    "name is a number": infer(name=3),
    "unknown datatype": infer(datatype="FP64"),
    "other datatype": infer(datatype="UINT8"),
    "no data": infer(data=...),
    "data is null": infer(data=None),
    "data is text": infer(data="0" * 64),
    "data is base64": infer(data={"b64": "AAAA"}),
    "too few": infer(data=[0] * 63),
    "too many": infer(data=[0] * 65),
    "nothing": infer(data=[]),
    "null": infer(data=[None] * 64),
    "boolean": infer(data=[True] * 64),
    "text": infer(data=["0"] * 64),
    "out of range": infer(data=[17] * 64),
    "nested once": infer(data=[[0] * 64]),
    "ragged": infer(data=[[[[0] * 8] * 7 + [[0] * 7, [0]]]]),
    "half nested": infer(data=[0] * 63 + [[0]]),
    "wrong rank": infer(shape=[64]),
    "no rank": infer(shape=[]),
    "no shape": infer(shape=...),
    "rank 1000": infer(shape=[1] * 1000),
    "transposed": infer(shape=[1, 8, 8, 1]),
    "zero rows": infer(shape=[0, 1, 8, 8], data=[]),
    "negative rows": infer(shape=[-1, 1, 8, 8]),
    "two negatives": infer(shape=[-1, -1, 8, 8]),
    "other shape": infer(shape=[10**9, 10**9, 28, 28]),
    "10^9 rows": infer(shape=[10**9, 1, 8, 8]),
    "2^63 rows": infer(shape=[2**63, 1, 8, 8]),
    "2^64 rows": infer(shape=[2**64, 1, 8, 8]),
    "10^300 rows": infer(shape=[10**300, 1, 8, 8]),
    "more rows than data": infer(shape=[1024, 1, 8, 8]),
    "fractional rows": infer(shape=[1.5, 1, 8, 8]),
    "boolean rows": infer(shape=[True, 1, 8, 8]),
    "text rows": infer(shape=["1", 1, 8, 8]),
    "unknown output": json.dumps({"inputs": [tensor()], "outputs": [{"name": "logits"}]}).encode(),
    "binary input": infer(data=..., parameters={"binary_data_size": 256}),
    "classification": json.dumps(
        {"inputs": [tensor()], "outputs": [{"name": "cells", "parameters": {"classification": 2}}]}
    ).encode(),
    "id is a number": json.dumps({"id": 3, "inputs": [tensor()]}).encode(),
    "id with half a character": b'{"id": "\\ud800", ' + infer()[1:],
    "nested 1000": b'{"inputs": ' + b"[" * 1000 + b"]" * 1000 + b"}",
    "deep parameters": b'{"parameters": ' + b'{"a":' * 1000 + b"1" + b"}" * 1000 + b"}",
}  # fmt: skip


@pytest.mark.parametrize("name", V2)
def test_infer_refuses_with_an_error_text(client: FlaskClient, name: str) -> None:
    answer = client.post("/v2/models/digits/infer", data=V2[name])
    assert answer.status_code == 400
    assert answer.content_type == JSON
    assert list(answer.get_json()) == ["error"]
    assert answer.get_json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/predict", 405),
        ("DELETE", "/feedback", 405),
        ("BREW", "/predict", 405),
        ("POST", "//predict", 404),
        ("POST", "/predict?model=nope", 404),
        ("GET", "/v2/nowhere", 404),
        ("PUT", "/v2", 405),
        ("GET", "/v2/models/nope", 404),
        ("GET", "/v2/models/digits/versions/9", 404),
        ("GET", "/v2/models/digits/versions/x%0Ay/ready", 404),
        ("GET", "/v2/models/digits/infer", 405),
        ("POST", "/v2/models/nope/infer", 404),
        ("POST", "/v2/models/digits/versions/9/infer", 404),
        ("POST", "/v2/models/%F0%28%8C%28/infer", 404),
    ],
)
def test_every_status_speaks_the_dialect_of_its_address(
    client: FlaskClient, method: str, path: str, status: int
) -> None:
    answer = client.open(path, method=method)
    assert answer.status_code == status
    if path.startswith("/v2"):
        assert list(answer.get_json()) == ["error"]
    else:
        assert answer.content_type == "application/problem+json"
        assert answer.get_json()["status"] == status
    assert status != 405 or answer.headers["Allow"]


@pytest.mark.parametrize("path", ["/predict", "/feedback", "/v2/models/digits/infer", "/certify"])
def test_a_body_over_the_limit_is_413_with_and_without_its_length(
    client: FlaskClient, path: str
) -> None:
    large = b"[" + b"0," * 600_000 + b"0]"
    chunked = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    for environ in ({}, chunked):
        answer = client.post(path, data=large, content_type=JSON, environ_overrides=environ)
        assert answer.status_code == 413
        assert answer.get_json()


@pytest.mark.parametrize(
    "kind", ["text/plain", "image/png", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_another_content_type_is_415_and_says_what_is_read(client: FlaskClient, kind: str) -> None:
    for path in ("/feedback", "/certify"):
        answer = client.post(path, data=b"id=1", content_type=kind)
        assert answer.status_code == 415
        assert answer.get_json()["expected"] == JSON
        assert answer.headers["Accept"] == JSON


def test_an_encoded_body_is_415(client: FlaskClient) -> None:
    for path in ("/predict", "/v2/models/digits/infer", "/certify"):
        headers = {"Content-Encoding": "br"}
        answer = client.post(path, data=b"{}", content_type=JSON, headers=headers)
        assert answer.status_code == 415


FEEDBACK = {
    "not JSON": (b"{", "body"),
    "empty list": (b"[]", "body"),
    "no label": (b'{"id": "a"}', "label"),
    "label is null": (b'{"id": "a", "label": null}', "label"),
    "label is a list": (b'{"id": "a", "label": ["1"]}', "label"),
    "label is an object": (b'{"id": "a", "label": {}}', "label"),
    "label is another number": (b'{"id": "a", "label": 10}', "label"),
    "label is a truth value": (b'{"id": "a", "label": true}', "label"),
    "label is a code": (b'{"id": "a", "label": "07"}', "label"),
    "no class": (b'{"id": "a", "label": "ten"}', "label"),
    "no class in a list": (b'[{"id": "a", "label": "1"}, {"id": "b", "label": ""}]', "[1].label"),
    "unfit id": (b'{"id": "a b", "label": "1"}', "id"),
    "unfit row": (b'{"id": "a/b", "label": "1"}', "id"),
    "negative row": (b'{"id": "a/-1", "label": "1"}', "id"),
    "huge row": (b'{"id": "a/99999999999999999999", "label": "1"}', "id"),
    "id in a list": (b'[{"id": 1, "label": "1"}]', "[0].id"),
}  # fmt: skip


@pytest.mark.parametrize("name", FEEDBACK)
def test_feedback_refuses_with_the_field(client: FlaskClient, name: str) -> None:
    body, field = FEEDBACK[name]
    answer = client.post("/feedback", data=body, content_type=JSON)
    assert answer.status_code == 400
    assert answer.get_json()["field"] == field


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    json_values, st.sampled_from(["/predict", "/feedback", "/v2/models/digits/infer", "/certify"])
)
def test_no_json_gives_a_5xx(client: FlaskClient, value: Any, path: str) -> None:
    documents = (
        value,
        {"instances": value},
        {"inputs": value},
        {"inputs": [tensor(data=value)]},
        {"inputs": [tensor(shape=value)]},
        {"inputs": [tensor()], "outputs": value, "parameters": value},
        {"id": value, "label": value},
    )
    for document in documents:
        answer = client.post(path, data=json.dumps(document), content_type=JSON)
        assert answer.status_code == 200 or 400 <= answer.status_code < 500


@pytest.fixture(scope="module")
def table_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    state = tmp_path_factory.mktemp("tables")
    for data in (tables.wine(), tables.cancer()):
        tables.publish_table(state / "registry", data)
    with tables.served(state) as app:
        yield client_of(app)


WINE = tables.as_objects(tables.wine(), tables.wine().test.x[:1])[0]
TABLE: dict[str, tuple[str, str]] = {
    "a row that is a number": ("1", "instances[0]"),
    "a row of an image": (json.dumps(ROW), "instances[0]"),
    "a flat batch": (json.dumps(list(WINE.values()))[1:-1], "instances[0]"),
    "an empty row": ("{}", "instances[0]"),
    "a column too few": (json.dumps(list(WINE.values())[1:]), "instances[0]"),
    "a column misspelt": (json.dumps(WINE).replace("hue", "Hue"), "instances[0]"),
    "a column unknown": (json.dumps(WINE | {"year": 1}), "instances[0]"),
    "a text in a number": (json.dumps(WINE | {"hue": "1.0 or so"}), "instances[0].hue"),
    "a NaN": (json.dumps(WINE | {"hue": float("nan")}), "instances[0].hue"),
    "an infinite number": (json.dumps(WINE | {"hue": float("inf")}), "instances[0].hue"),
    "a huge number": (json.dumps(WINE | {"hue": 1e300}), "instances[0].hue"),
    "a number beyond double": (json.dumps(WINE).replace("1.", "1e400", 1), "instances"),
    "a null": (json.dumps(WINE | {"hue": None}), "instances[0].hue"),
    "a truth": (json.dumps(WINE | {"hue": True}), "instances[0].hue"),
    "a category null": (json.dumps(WINE | {"cellar": None}), "instances[0].cellar"),
    "a category list": (json.dumps(WINE | {"cellar": [[]]}), "instances[0].cellar"),
    "nested 900": ("[" * 900 + "]" * 900, "instances[0]"),
}


@pytest.mark.parametrize("name", TABLE)
def test_rows_of_a_table_are_refused_with_row_and_column(
    table_client: FlaskClient, name: str
) -> None:
    row, field = TABLE[name]
    body = f'{{"instances": [{row}]}}'
    answer = table_client.post("/predict?model=wine", data=body, content_type=JSON)
    assert answer.status_code == 400
    problem = answer.get_json()
    assert problem["field"] == field
    assert problem["expected"]
    assert problem["got"]
    assert len(answer.data) < 1000


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(json_values, st.sampled_from(["wine", "cancer"]))
def test_no_json_gives_a_5xx_on_a_table(table_client: FlaskClient, value: Any, model: str) -> None:
    size = 7 if model == "wine" else 30
    instances = (
        [value],
        [[value] * size],
        [WINE | {"hue": value}],
        [WINE | {"cellar": value}],
        [WINE | value] if isinstance(value, dict) else value,
    )
    tensor = {"name": "row", "datatype": "FP32", "shape": [1, size]}
    requests: list[tuple[str, Any]] = [
        (f"/predict?model={model}", {"instances": each}) for each in instances
    ]
    requests += [
        (f"/v2/models/{model}/infer", {"inputs": [tensor | {"data": each}]})
        for each in ([value] * size, [[value] * size], value)
    ]
    requests.append((f"/certify?model={model}", {"instances": [[value] * size], "samples": 10}))
    for path, document in requests:
        answer = table_client.post(path, data=json.dumps(document), content_type=JSON)
        assert answer.status_code == 200 or 400 <= answer.status_code < 500
