"""Rows as clients send them: in `instances`, bare, as files, with nulls and byte order marks."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.test import Client

from models.versions.schema import Column, InputSchema
from service.app import Application
from service.decoding.instances import read_predict_body
from tests.asgi import client_of
from tests.service import pictures, tables

X = tables.colours().test.x[:2]
WINE = tables.wine()
ROWS = tables.as_objects(WINE, WINE.test.x[:2])
LISTS = tables.as_lists(WINE, WINE.test.x[:2])
PNG = pictures.saved(pictures.colour())
B64 = base64.b64encode(PNG).decode()
PICTURE, TABLE = "/predict?model=colours", "/predict?model=wine"
MARK = b"\xef\xbb\xbf"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    state = pictures.published(tmp_path_factory)
    url = f"sqlite:///{tmp_path_factory.mktemp('records')}/records.sqlite"
    with tables.served(state, database_url=url, max_rows=20) as app:
        yield app


@pytest.fixture
def client(app: Application) -> Client:
    return client_of(app)


def predictions(client: Client, path: str, body: Any) -> Any:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.get_json()["predictions"]


def probabilities(client: Client, path: str, body: Any) -> list[Any]:
    return [row["probabilities"] for row in predictions(client, path, body)]


@pytest.mark.parametrize(
    ("path", "bare", "rows"),
    [
        (TABLE, ROWS, ROWS),
        (TABLE, LISTS, LISTS),
        (TABLE, [ROWS[0], LISTS[1]], [ROWS[0], LISTS[1]]),
        (TABLE, ROWS[0], ROWS[:1]),
        (TABLE, LISTS[0], LISTS[:1]),
        (PICTURE, X.tolist(), X.tolist()),
        (PICTURE, X[0].tolist(), X[:1].tolist()),
        (PICTURE, [{"b64": B64}], [{"b64": B64}]),
        (PICTURE, {"b64": B64}, [{"b64": B64}]),
        (PICTURE, [{"input": X[0].tolist()}], X[:1].tolist()),
    ],
)
def test_what_cannot_be_mistaken_is_read_bare(
    client: Client, path: str, bare: Any, rows: Any
) -> None:
    assert probabilities(client, path, bare) == probabilities(client, path, {"instances": rows})


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (TABLE, [], "instances"),
        (TABLE, LISTS[0][:-1], "instances[0]"),
        (TABLE, {key: value for key, value in ROWS[0].items() if key != "hue"}, "instances[0]"),
        (TABLE, ROWS[0] | {"hue": "much"}, "instances[0].hue"),
        (TABLE, {"instance": ROWS}, "instances"),
        (TABLE, {"b64": B64}, "instances"),
        (TABLE, {}, "instances"),
        (PICTURE, X[0][0].tolist(), "instances[0]"),
        (PICTURE, X[0][0][0].tolist(), "instances[0]"),
        (PICTURE, [X.tolist()], "instances[0]"),
        (PICTURE, {"input": X[0].tolist()}, "instances"),
        (PICTURE, {"b64": "?"}, "instances[0].b64"),
        (PICTURE, [[[]]], "instances[0]"),
        (PICTURE, 7, "body"),
    ],
)
def test_what_is_none_of_it_is_refused_by_name(
    client: Client, path: str, body: Any, field: str
) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == 400
    assert answer.get_json()["field"] == field


def test_a_table_with_a_column_called_instances_is_asked_as_any_other() -> None:
    columns = (Column("instances"), Column("size"))
    schema = InputSchema("row", (2,), "float32", 0.0, 1.0, "tabular", columns=columns)
    row, rows = b'{"instances": 3, "size": 1}', b'[{"instances": 3, "size": 1}]'
    assert read_predict_body(row, schema) == b"[" + row + b"]"
    assert read_predict_body(b'{"instances": ' + rows + b"}", schema) == rows


@pytest.mark.parametrize("path", ["/v1/models/colours:predict", PICTURE])
def test_a_file_in_any_base64_is_the_same_file(client: Client, path: str) -> None:
    safe = base64.urlsafe_b64encode(PNG).decode().rstrip("=")
    wanted = probabilities(client, path, {"instances": [{"b64": B64}]})
    for text in (
        f"data:image/png;base64,{B64}", safe, base64.encodebytes(PNG).decode(), B64.rstrip("="),
    ):  # fmt: skip
        assert probabilities(client, path, {"instances": [{"b64": text}]}) == wanted
    refused = client.post(path, json={"instances": [{"b64": B64}, {"b64": B64[:-5] + "*"}]})
    assert refused.status_code == 400
    assert "instances[1].b64" in refused.text
    assert "the character '*'" in refused.text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (TABLE, {"instances": LISTS}),
        (TABLE, LISTS),
        (TABLE, ROWS[0]),
        ("/v1/models/wine:predict", {"inputs": LISTS}),
        ("/v2/models/wine/infer", None),
        ("/certify?model=colours", {"instances": X[:1].tolist(), "samples": 2}),
        ("/v2/repository/index", {"ready": True}),
    ],
)
def test_a_byte_order_mark_is_skipped(client: Client, path: str, body: Any) -> None:
    if body is None:
        body = {"inputs": [tensor()]}
    text = json.dumps(body).encode()
    plain = client.post(path, data=text, content_type="application/json")
    marked = client.post(path, data=MARK + text, content_type="application/json")
    assert marked.status_code == plain.status_code
    assert marked.status_code in (200, 401)  # the repository asks for a token first


def test_a_byte_order_mark_before_a_binary_tensor_is_skipped(client: Client) -> None:
    document = {"inputs": [tensor(data=None, parameters={"binary_data_size": X[:1].nbytes},
                                  name="input", datatype="UINT8", shape=[1, 3, 8, 8])]}  # fmt: skip
    text = MARK + json.dumps(document).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    body = text + X[:1].tobytes()
    assert client.post("/v2/models/colours/infer", data=body, headers=headers).status_code == 200


def tensor(**members: Any) -> dict[str, Any]:
    size = len(WINE.schema.columns)
    made = {"name": "row", "datatype": "FP32", "shape": [1, size], "data": [1] * size}
    return made | members


@pytest.mark.parametrize(
    "members",
    [
        {"id": None},
        {"parameters": None},
        {"outputs": None},
        {"parameters": {"binary_data_output": None}},
        {"inputs": [tensor(parameters=None)]},
        {"inputs": [tensor(parameters={"binary_data_size": None, "shared_memory_region": None})]},
        {"outputs": [{"name": "probabilities", "parameters": None}]},
        {"outputs": [{"name": "probabilities",
                      "parameters": {"classification": None, "binary_data": None}}]},
    ],
)  # fmt: skip
def test_null_is_as_good_as_no_member_in_v2(client: Client, members: dict[str, Any]) -> None:
    answer = client.post("/v2/models/wine/infer", json={"inputs": [tensor()]} | members)
    assert answer.status_code == 200, answer.text
    assert answer.get_json()["id"]


def test_null_is_as_good_as_no_member_elsewhere(client: Client) -> None:
    v1 = "/v1/models/wine:predict"
    for body in (
        {"instances": LISTS, "signature_name": None},
        {"instances": LISTS, "inputs": None},
        {"inputs": LISTS, "instances": None},
    ):
        assert client.post(v1, json=body).status_code == 200
    body = {"instances": X[:1].tolist(), "samples": 2, "sigma": None, "alpha": None}
    answer = client.post("/certify?model=colours", json=body)
    assert answer.status_code == 200
    assert (answer.get_json()["sigma"], answer.get_json()["alpha"]) == (0.25, 0.001)
    body |= {"samples": None, "sigma": 0.1}
    assert client.post("/certify?model=colours", json=body).get_json()["sigma"] == 0.1


def test_several_models_and_none_named_is_a_400_that_lists_them(client: Client) -> None:
    for path in ("/predict", "/certify"):
        answer = client.post(path, json={"instances": LISTS})
        assert answer.status_code == 400
        assert "colours, wine" in answer.get_json()["detail"]


def test_the_classes_can_be_asked_for_everywhere(client: Client) -> None:
    classes = list(WINE.classes)
    outputs = client.get("/v2/models/wine").get_json()["outputs"]
    named = {each["name"]: each.get("parameters") for each in outputs}
    assert named.pop("probabilities") == {"classes": classes}
    assert set(named.values()) == {None}
    assert client.get("/v1/models/wine").get_json()["classes"] == classes
    models = client.get("/openapi.json").get_json()["x-models"]
    assert models["wine"] == {
        "version": 1, "input": "tabular", "class_count": 3, "classes": classes,
    }  # fmt: skip
    assert set(models) == {"colours", "wine"}
