"""A body of megabytes makes hardly more objects than a small one, whatever it holds.

Counted is what Python allocates, not time: that says the same on a loaded machine.
"""

import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import Client

from models.base.errors import InputError
from service.decoding import json_amount
from service.decoding.json_amount import SMALL_BYTES, check_numbers, check_table
from tests.asgi import client_of
from tests.service import pictures, tables

BYTES = 1 << 20  # 350,000 lists; as objects they take 25 times as much
MOST_TIMES = 6  # copies of a body that may be there at the same time
UNITS = {
    "lists": b"[],", "objects": b"{},", "zeros": b"0,", "floats": b"0.25,", "empty texts": b'"",',
    "texts": b'"abcd",', "nulls": b"null,", "pairs": b'{"a":0},', "rows": b"[0],",
    "nests": b"[[[]]],", "labels": b'{"id":"a","label":"1"},', "files": b'{"b64":""},',
    "columns": b'{"hue":0},', "huge numbers": b"123456789012345678901234567890,",
    "tensors": b'{"name":"row","datatype":"FP32","shape":[1]},',
}  # fmt: skip
TENSOR = b'"name":"row","datatype":"FP32"'
FRAMES = {
    "/predict?model=wine": (
        b'{"instances":[%s]}', b"[%s]", b'{"x":[%s]}', b'{"instances":[[%s]]}',
        b'{"instances":[{"hue":[%s]}]}', b'{"hue":[%s]}',
    ),
    "/predict?model=colours": (b'{"instances":[%s]}', b"[%s]", b'{"instances":[[[[%s]]]]}'),
    "/v1/models/wine:predict": (
        b'{"instances":[%s]}', b'{"inputs":{"row":[%s]}}', b'{"inputs":[%s]}',
    ),
    "/v1/models/colours:predict": (b'{"instances":[%s]}', b'{"inputs":{"input":[%s]}}'),
    "/v2/models/wine/infer": (
        b'{"inputs":[%s]}', b'{"outputs":[%s],"inputs":[]}', b'{"parameters":[%s],"inputs":[]}',
        b'{"inputs":[{' + TENSOR + b',"shape":[%s]}]}',
        b'{"inputs":[{' + TENSOR + b',"shape":[1,7],"data":[%s]}]}',
    ),
    "/feedback": (b"[%s]", b'{"id":"a","label":[%s]}'),
    "/certify?model=colours": (b'{"instances":[%s]}', b"[%s]"),
    "/v2/repository/index": (b"[%s]", b'{"x":[%s]}'),
    "/v2/repository/models/wine/load": (b'{"parameters":{"x":[%s]}}', b'{"parameters":[%s]}'),
}  # fmt: skip


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    state = pictures.published(tmp_path_factory)
    folder = tmp_path_factory.mktemp("amount")
    (folder / "admin").write_text("an admin token of the test")
    settings = {"database_url": f"sqlite:///{folder}/records.sqlite",
                "admin_token_file": folder / "admin"}  # fmt: skip
    with tables.served(state, **settings) as app:
        yield client_of(app)


def filled(unit: bytes) -> bytes:
    return (unit * (BYTES // len(unit))).rstrip(b",")


def most_held(client: Client, path: str, body: bytes) -> int:
    """Send it, expect no 5xx, and return the most bytes that Python held meanwhile."""
    headers = {"Authorization": "Bearer an admin token of the test"}
    tracemalloc.start()
    try:
        answer = client.post(path, data=body, content_type="application/json", headers=headers)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        assert answer.status_code < 500, answer.text[:200]
        assert len(answer.data) < 2000


@pytest.mark.parametrize("path", FRAMES)
def test_megabytes_of_anything_make_few_objects(client: Client, path: str) -> None:
    for frame in FRAMES[path]:
        for name, unit in UNITS.items():
            body = frame.replace(b"%s", filled(unit))
            most = most_held(client, path, body)
            assert most < MOST_TIMES * len(body), (frame, name, most / len(body))


@pytest.mark.parametrize("path", FRAMES)
def test_many_names_make_few_objects(client: Client, path: str) -> None:
    names = b",".join(b'"%06x":0' % number for number in range(BYTES // 11))
    twice = b'"instances":[],' * (BYTES // 15) + b'"instances":[]'
    for body in (
        b"{%s}" % names, b'{"instances":[{%s}]}' % names, b'{"inputs":{%s}}' % names,
        b'{"parameters":{%s}}' % names, b"{%s}" % twice,
    ):  # fmt: skip
        most = most_held(client, path, body)
        assert most < MOST_TIMES * len(body), (body[:40], most / len(body))


def test_brackets_and_commas_of_texts_are_not_counted() -> None:
    text = b'["' + b"[{,:" * SMALL_BYTES + b'", 1]'
    check_table(b"[" + text + b"]", 5, 2, "instances")
    with pytest.raises(InputError, match=r"instances\[0\]: expected a list of 3"):
        check_table(b"[" + text + b"]", 5, 3, "instances")
    with pytest.raises(InputError, match="1 to 1 rows, got 2 rows"):
        check_table(b"[" + text + b"," + text + b"]", 1, 2, "instances")


def test_what_a_shape_may_have_is_let_through() -> None:
    row = b"[" + b",".join([b"0.123456"] * 50_000) + b"]"
    check_numbers(b"[" + row + b"," + row + b"]", (2, 50_000), "instances")
    with pytest.raises(InputError, match="at most 1 rows: 50000 values in 2 lists"):
        check_numbers(b"[" + row + b"," + row + b"]", (1, 50_000), "instances")


@given(text=st.text("[{,1", max_size=12), most=st.integers(0, 5))
def test_counting_by_searching_is_counting(text: str, most: int) -> None:
    raw = text.encode()
    assert json_amount.occurs_once(raw, b"[") == (raw.count(b"[") == 1)
    assert json_amount._occurs_at_most(raw, b"{", most) == (raw.count(b"{") <= most)
