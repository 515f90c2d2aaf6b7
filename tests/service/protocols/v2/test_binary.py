"""Tensors as bytes are the tensors of the JSON; a wrong frame is refused before it costs."""

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.base.errors import HoldfastError, InputError
from models.versions.schema import DTYPES, Column, InputSchema
from service.protocols.v2.binary import HEADER, split
from service.protocols.v2.codec import (
    ANSWERED,
    OUTPUT_DATATYPES,
    WantedOutput,
    decode_infer,
    encode_infer,
)
from tests.asgi import client_of
from tests.service import tables as published
from tests.service.v2_bodies import framed, scored, tensor_of, tensors

URL = "/v2/models/digits/infer"
MOST = 8
IMAGE = InputSchema("input", (1, 2, 3), "float32", 0.0, 1.0, "image")
DIGITS = InputSchema("input", (1, 8, 8), "float32", 0.0, 16.0, "image")
ONE = np.zeros((1, 1, 8, 8), np.float32)
RAW = ONE.tobytes()
LAST = "query_flagged"
NP = {"FP32": np.float32, "INT32": np.int32, "BOOL": np.bool_}


@st.composite
def images(draw: st.DrawFn) -> tuple[InputSchema, Any]:
    """A schema of images and some rows of it."""
    dtype = draw(st.sampled_from(["float32", "uint8"]))
    shape = draw(arrays.array_shapes(min_dims=1, max_dims=3, max_side=5))
    low, high = (0.0, 255.0) if dtype == "uint8" else (-1.5, 2.0)
    schema = InputSchema(draw(st.sampled_from(["x", "input"])), shape, dtype, low, high, "image")
    values = st.integers(0, 255) if dtype == "uint8" else st.floats(low, high, width=32)
    rows = draw(st.integers(1, MOST))
    return schema, draw(arrays.arrays(DTYPES[dtype], (rows, *shape), elements=values))


@st.composite
def tables(draw: st.DrawFn) -> tuple[InputSchema, Any]:
    """A schema of a table, categories and missing values included, and some rows of it."""
    columns = tuple(
        Column(f"c{k}", "categorical", categories=("a", "b", "c"), missing=draw(st.booleans()))
        if draw(st.booleans())
        else Column(f"c{k}", missing=draw(st.booleans()))
        for k in range(draw(st.integers(1, 6)))
    )
    rows = draw(st.integers(1, MOST))
    parts = []
    for column in columns:
        place = st.integers(-1, 2).map(float)
        values = place if column.kind == "categorical" else st.floats(-(2.0**99), 2.0**99, width=32)
        taken = values | st.just(np.nan) if column.missing else values
        parts.append(draw(arrays.arrays(np.float32, (rows,), elements=taken)))
    schema = InputSchema("row", (len(columns),), "float32", 0.0, 1.0, "tabular", columns)
    return schema, np.column_stack(parts)


def plain(x: Any) -> Any:
    """Lists of numbers, null for a missing one."""
    values = x.astype(object)
    values[np.isnan(x.astype(np.float64))] = None
    return values.tolist()


@given(images() | tables(), st.integers(0, 7), st.booleans())
def test_a_tensor_behind_the_json_is_the_one_in_the_json(
    made: tuple[InputSchema, Any], padding: int, nested: bool
) -> None:
    schema, x = made
    data = plain(x) if nested else plain(x.ravel())
    text = json.dumps({"inputs": [tensor_of(x, schema, data)]}).encode()
    told = decode_infer(text, schema, MOST).x
    head = json.dumps({"inputs": [tensor_of(x, schema)]}).encode() + b" " * padding
    sent = decode_infer(head + x.tobytes(), schema, MOST, str(len(head))).x
    for found in (told, sent):
        assert found.dtype == x.dtype
        assert found.flags.aligned
        np.testing.assert_array_equal(found, x)


def test_an_aligned_tensor_is_not_copied() -> None:
    x = np.zeros((4, 1, 2, 3), np.float32)
    head = json.dumps({"inputs": [tensor_of(x, IMAGE)]}).encode()
    head += b" " * (-len(head) % 4)
    body = head + x.tobytes()
    found = decode_infer(body, IMAGE, MOST, str(len(head))).x
    assert np.shares_memory(found, np.frombuffer(body, np.uint8))


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.sampled_from(ANSWERED), st.booleans()), unique_by=lambda pair: pair[0]),
)
def test_every_mix_of_forms_gives_the_client_the_same_arrays(
    rows: int, asked: list[tuple[str, bool]]
) -> None:
    given_ = scored(rows)
    outputs = [WantedOutput(name, binary) for name, binary in asked]
    found = tensors(encode_infer(given_, outputs))
    assert [output["name"] for output in found.get_response()["outputs"]] == [n for n, _ in asked]
    for name, binary in asked:
        values = given_.flags.query if name == "query_flagged" else getattr(given_.answer, name)
        seen, told = found.as_numpy(name), found.get_output(name)
        assert ("data" in told) != binary
        assert told["datatype"] == OUTPUT_DATATYPES[name]
        assert seen.dtype == NP[told["datatype"]]
        np.testing.assert_array_equal(seen, values)


def values_with(**more: Any) -> dict[str, Any]:
    return {"inputs": [tensor_of(ONE, DIGITS, [0] * 64)], **more}


@pytest.mark.parametrize(
    ("parameters", "asked", "binary"),
    [
        ({}, None, []),
        ({"binary_data_output": False}, None, []),
        ({"binary_data_output": True}, None, list(ANSWERED)),
        ({"binary_data_output": True}, [("cells", None)], ["cells"]),
        ({"binary_data_output": True}, [("cells", False), (LAST, None)], [LAST]),
        ({"binary_data_output": False}, [("cells", True), ("probabilities", None)], ["cells"]),
    ],
)  # fmt: skip
def test_what_is_said_of_an_output_wins_over_what_is_said_of_all(
    client: FlaskClient, parameters: Any, asked: Any, binary: list[str]
) -> None:
    more: dict[str, Any] = {"parameters": parameters}
    if asked is not None:
        more["outputs"] = [
            {"name": name} | ({} if each is None else {"parameters": {"binary_data": each}})
            for name, each in asked
        ]
    answer = client.post(URL, json=values_with(**more))
    assert answer.status_code == 200
    length = answer.headers.get(HEADER)
    document = json.loads(answer.data[: int(length) if length else None])
    found = [output for output in document["outputs"] if "data" not in output]
    assert [output["name"] for output in found] == binary
    assert (length is not None) == bool(binary)
    if length:
        sizes = [output["parameters"]["binary_data_size"] for output in found]
        assert len(answer.data) == int(length) + sum(sizes)


def test_a_length_that_is_that_of_the_whole_body_is_taken(client: FlaskClient) -> None:
    body, headers = framed(values_with())
    assert client.post(URL, data=body, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "length",
    ["-1", "+3", "", " ", "x", "1.5", "1e2", "0x10", "९", "99999", str(2**63), "9" * 5000, "12,12"],
)
def test_a_length_that_is_none_is_refused_by_name(length: str) -> None:
    with pytest.raises(InputError) as refused:
        split(b"{}" * 10, length)
    assert refused.value.field == HEADER


def frame(*behind: bytes, length: Any = None, **changes: Any) -> tuple[bytes, dict[str, str]]:
    """A binary tensor that is changed, and what stands behind the JSON."""
    told = {**tensor_of(ONE, DIGITS), **changes}
    told = {name: value for name, value in told.items() if value is not ...}
    return framed({"inputs": [told]}, *behind, length=length)


def of_size(size: Any, *behind: bytes) -> tuple[bytes, dict[str, str]]:
    return frame(*behind, parameters={"binary_data_size": size})


def filled(value: float) -> bytes:
    return np.full_like(ONE, value).tobytes()


def asked(*outputs: Any) -> tuple[bytes, dict[str, str]]:
    return framed(values_with(outputs=list(outputs)))


def cells(**parameters: Any) -> dict[str, Any]:
    return {"name": "cells", "parameters": parameters}


JSON_BYTES = len(frame()[0])
FRAMES: dict[str, tuple[bytes, dict[str, str]]] = {
    "no header": (frame(RAW)[0], {}),
    "no header and no tensor": (frame()[0], {}),
    "an empty JSON part": frame(RAW, length=0),
    "a JSON part cut short": frame(RAW, length=20),
    "a JSON part with a tensor's byte": frame(RAW, length=JSON_BYTES + 1),
    "the whole body as JSON": frame(RAW, length=JSON_BYTES + 256),
    "a byte beyond the body": frame(RAW, length=JSON_BYTES + 257),
    "far beyond the body": frame(RAW, length=2**63),
    "a negative length": frame(RAW, length=-1),
    "no tensor": frame(),
    "a byte short": frame(RAW[1:]),
    "a byte too many": frame(RAW, b"\0"),
    "two tensors": frame(RAW, RAW),
    "bytes behind values": framed(values_with(), b"1234"),
    "values and a size": frame(RAW, data=[0] * 64),
    "a size of 0": of_size(0),
    "a negative size": of_size(-256, RAW),
    "a size of another shape": of_size(512, RAW, RAW),
    "a size of 2^63": of_size(2**63, RAW),
    "a size of 2^64": of_size(2**64, RAW),
    "a size of 10^300": of_size(10**300, RAW),
    "a size as text": of_size("256", RAW),
    "a size as truth": of_size(True, RAW),
    "a size with a point": of_size(256.0, RAW),
    "no rows": frame(shape=[0, 1, 8, 8]),
    "no rows, no size": frame(shape=[0, 1, 8, 8], parameters={"binary_data_size": 0}),
    "negative rows": frame(RAW, shape=[-1, 1, 8, 8]),
    "two negative sides": frame(RAW, shape=[-1, -1, 8, 8]),
    "10^9 rows": frame(RAW, shape=[10**9, 1, 8, 8]),
    "10^18 images": frame(RAW, shape=[10**9, 10**9, 28, 28]),
    "2^63 rows": frame(RAW, shape=[2**63, 1, 8, 8]),
    "rows of 2^64 bytes": frame(shape=[2**56, 1, 8, 8], parameters={"binary_data_size": 0}),
    "no shape": frame(RAW, shape=...),
    "another datatype": frame(RAW, datatype="INT32"),
    "another width": frame(RAW, datatype="FP64"),
    "NaN": frame(filled(np.nan)),
    "infinity": frame(filled(np.inf)),
    "out of range": frame(filled(17)),
    "an input in shared memory": frame(parameters={"shared_memory_region": "a"}),
    "an output in shared memory": asked(cells(shared_memory_region="a")),
    "an output twice": asked(cells(), cells(binary_data=True)),
    "outputs without end": asked(*[cells()] * 10_000),
    "a form that is no truth": asked(cells(binary_data=1)),
    "forms that are no truth": framed(values_with(parameters={"binary_data_output": "yes"})),
    "parameters that are a list": framed(values_with(parameters=[])),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_that_does_not_add_up_is_refused_with_an_error_text(
    client: FlaskClient, name: str
) -> None:
    body, headers = FRAMES[name]
    answer = client.post(URL, data=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert list(answer.get_json()) == ["error"]
    assert answer.get_json()["error"]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(-(2**65), 2**65) | st.integers(-10, 300),
    st.lists(st.integers(-(2**65), 2**65) | st.integers(-1, 9), max_size=6),
    st.binary(max_size=300),
    st.none() | st.integers(-2, 400),
)
def test_no_frame_gives_a_5xx_or_costs_memory(
    client: FlaskClient, size: int, shape: list[int], behind: bytes, length: int | None
) -> None:
    told = {"name": "input", "shape": shape, "datatype": "FP32"}
    document = {"inputs": [told | {"parameters": {"binary_data_size": size}}]}
    body, headers = framed(document, behind, length=length)
    assume(not (shape == [1, 1, 8, 8] and size == len(behind) == 256))
    assert client.post(URL, data=body, headers=headers).status_code == 400


def test_a_shape_is_compared_before_anything_is_made_of_it() -> None:
    shape = [10**9, 10**9, 28, 28]
    told = {
        "name": "input",
        "shape": shape,
        "datatype": "FP32",
        "parameters": {"binary_data_size": 8},
    }
    schema = InputSchema("input", tuple(shape[1:]), "float32", 0.0, 1.0, "image")
    body, headers = framed({"inputs": [told]}, b"12345678")
    tracemalloc.start()
    with pytest.raises(HoldfastError):
        decode_infer(body, schema, 2 * 10**9, headers[HEADER])
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


@pytest.mark.slow
def test_every_kind_of_model_answers_bytes_as_it_answers_json(tmp_path: Any) -> None:
    """Colours as UINT8, and a table with categories and missing values."""
    root = tmp_path / "registry"
    published.publish_table(root, published.wine())
    published.publish_colours(root)
    with published.served(tmp_path) as app:
        client = client_of(app)
        for name, data in (("wine", published.wine()), ("colours", published.colours())):
            x, url = data.test.x[:MOST], f"/v2/models/{name}/infer"
            told = {"inputs": [tensor_of(x, data.schema, plain(x))], "id": "mine"}
            body, headers = framed(
                {"inputs": [tensor_of(x, data.schema)], "id": "mine"}, x.tobytes()
            )
            in_json, in_bytes = (
                client.post(url, json=told),
                client.post(url, data=body, headers=headers),
            )
            assert in_json.status_code == in_bytes.status_code == 200
            assert in_json.data == in_bytes.data
