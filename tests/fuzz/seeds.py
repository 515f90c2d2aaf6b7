"""Requests to begin with: sound ones of every kind, and the ones that are known to hurt servers."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tests import bundles
from tests.fuzz.target import LENGTHS, MODELS, TYPES, png

# What a fuzzer would find late: numbers at the edge, shapes that lie, texts that are none.
NUMBERS = (
    "0", "-0.0", "-1", "1e308", "1e309", "-1e999", "1e-999", "9223372036854775807", "1E400",
    "9223372036854775808", "18446744073709551616", "1" * 400, "NaN", "Infinity", "-Infinity",
    "1.0e", "01", "+1", "0x1", ".5", "1_0", "true", "null", '"1"', '"\\ud800"', '"\\u0000"', "{}",
    "[]",
)  # fmt: skip
SHAPES: tuple[list[Any], ...] = (
    [10**9, 10**9, 28, 28], [-1, 1, 8, 8], [0, 1, 8, 8], [2**63, 1, 8, 8], [2**64, 1, 8, 8], [],
    [1], [1, 1, 8], [1, 1, 8, 8, 1], [1, 1, 8, -8], [1.5, 1, 8, 8], ["1", 1, 8, 8], [True, 1, 8, 8],
    [None], [1, 1, 64, 1], [2**31, 2**31, 2**31], [[1], 1, 8, 8],
)  # fmt: skip
DATATYPES = ("FP32", "FP64", "FP16", "BF16", "INT8", "UINT8", "INT64", "UINT64", "BOOL", "BYTES")
WANTED: tuple[dict[str, Any], ...] = (
    {"binary_data": True}, {"classification": 3}, {"classification": 10**30},
    {"classification": -1}, {"binary_data": "yes", "classification": []},
)  # fmt: skip

FOUND: tuple[bytes, ...] = ()  # what a fuzzer has found: mended, and sent again in every test run


def seeds(rules: Sequence[str]) -> Iterator[bytes]:
    """Inputs of `tests.fuzz.target.Target` with these rules."""
    yield from FOUND
    v2 = [number for number, rule in enumerate(rules) if rule.endswith("/infer")]
    rest = [number for number in range(len(rules)) if number not in v2]
    for rule in v2:
        for model in range(len(MODELS)):
            for document, tail in v2_bodies(model):
                yield head(rule + model * len(rules), cut="whole") + document + tail
                yield head(rule + model * len(rules)) + document
    for rule in rest:
        for model in range(len(MODELS)):
            for body in json_bodies(model):
                yield head(rule + model * len(rules)) + body
        for body in byte_bodies():
            for kind in range(len(TYPES)):
                yield head(rule, kind=kind) + body
    for rule in range(len(rules)):
        for coding in range(7):
            for cut in range(len(LENGTHS)):
                yield bytes([rule, 0, coding, cut]) + sound(0)


def head(what: int, *, kind: int = 0, coding: int = 0, cut: str = "") -> bytes:
    """The four bytes that say what is asked."""
    return bytes([what % 256, kind, coding, LENGTHS.index(cut)])


def sound(model: int) -> bytes:
    """A body of `/predict` that is answered."""
    data = bundles.digits() if model == 0 else bundles.table()
    x = np.nan_to_num(data.test.x[:1])
    return json.dumps({"instances": x.tolist()}).encode()


def json_bodies(model: int) -> Iterator[bytes]:
    """Bodies in JSON, sound and not."""
    yield sound(model)
    yield b'{"id": "a", "label": "1"}'
    yield b'[{"id": "a/0", "label": "1"}, {"id": "a/9999999", "label": "\\ud800"}]'
    yield b'{"instances": [], "instances": [[1]]}'
    yield b'{"inputs": [], "instances": [[1]], "signature_name": "serving_default"}'
    yield b'{"instances": [{"b64": "iVBORw0KGgo="}]}'
    yield b'{"instances": [[1]], "samples": 1e9, "radius": -1}'
    yield b'\xff\xfe{"instances": [[1]]}'
    yield b'{"instances": "\xed\xa0\x80"}'
    yield b'\xef\xbb\xbf{"instances": [[1]]}'
    for depth in (10, 1000, 100_000):
        yield b'{"instances": ' + b"[" * depth + b"1" + b"]" * depth + b"}"
        yield b'{"instances": ' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"
    for number in NUMBERS:
        row = ",".join([number] * 8)
        rows = ",".join([f"[{row}]"] * 8)
        yield f'{{"instances": [[[{rows}]]]}}'.encode()
        yield f'{{"instances": [[{",".join([number] * 12)}]]}}'.encode()
        yield f'{{"instances": [{{"n0": {number}, "colour": {number}}}]}}'.encode()
        yield f'{{"instances": {number}}}'.encode()


def v2_bodies(model: int) -> Iterator[tuple[bytes, bytes]]:
    """JSON and binary parts of an inference request, sound and not."""
    x = (bundles.digits() if model == 0 else bundles.table()).test.x[:1].astype(np.float32)
    name = "input" if model == 0 else "row"
    tensor = {"name": name, "shape": list(x.shape), "datatype": "FP32"}
    raw, listed = x.tobytes(), np.nan_to_num(x).ravel().tolist()
    size = {"parameters": {"binary_data_size": len(raw)}}
    yield v2(tensor | {"data": listed}), b""
    yield v2(tensor | size), raw
    yield v2(tensor | size, outputs=[{"name": "probabilities"}]), raw
    for wanted in WANTED:
        outputs = [{"name": "probabilities", "parameters": wanted}]
        yield v2(tensor | {"data": listed}, outputs=outputs), b""
    yield v2(tensor | size, parameters={"binary_data_output": True}, id="a b\n"), raw
    for shape in SHAPES:
        yield v2(tensor | size | {"shape": shape}), raw
        yield v2(tensor | {"shape": shape, "data": listed}), b""
    for datatype in DATATYPES:
        yield v2(tensor | size | {"datatype": datatype}), raw
        yield v2(tensor | {"datatype": datatype, "data": listed}), b""
    for wrong in (0, -1, 1, len(raw) + 1, 2**63, 1.5, "256", None, True, [256]):
        yield v2(tensor | {"parameters": {"binary_data_size": wrong}}), raw
    for value in (np.nan, np.inf, -np.inf, 3e38):
        yield v2(tensor | size), np.full_like(x, value).tobytes()
    yield v2(tensor | size, tensor | size), raw + raw
    yield v2(), raw
    for number in NUMBERS:
        text = v2(tensor | {"data": "HERE"}).decode()
        yield text.replace('"HERE"', f"[{','.join([number] * x.size)}]").encode(), b""
        yield text.replace('"HERE"', number).encode(), b""


def v2(*inputs: Any, **members: Any) -> bytes:
    """The JSON part of an inference request."""
    return json.dumps({"inputs": list(inputs)} | members).encode()


def byte_bodies() -> Iterator[bytes]:
    """Bodies that are no JSON: pictures, forms, nothing."""
    picture = png()
    yield b""
    yield picture
    yield picture[:40]
    yield picture[:16] + b"\x7f\xff\xff\xff" * 2 + picture[24:]  # a picture of 2^31 by 2^31
    yield b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(30)
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    yield part + picture + b"\r\n--b--\r\n"
    yield part + picture
    yield part * 50
    yield b"--b\r\nContent-Disposition: form-data\r\n\r\n\r\n--b--"
    yield b"--b\r\n" + b"X-Long: " + b"a" * 70_000
    yield b"a=1&" * 2000
