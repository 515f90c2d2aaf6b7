"""One fuzzed request: bytes in, a request to the real application in this process, laws checked.

The first four bytes say what is asked and how; the rest is the body:

    0   the endpoint (every POST but those of administration), and its model and version
    1   Content-Type
    2   Content-Encoding: none, or the body as it is under a false name, or compressed indeed
    3   Inference-Header-Content-Length: absent, where the JSON ends, or a number

A number beyond the list means the usual, so that most changes reach what reads the body.
"""

import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from service.app import Application, create_app
from service.configuration.settings import load
from tests import bundles
from tests.asgi import ask

HEAD = 4
MODELS = ("digits", "table", "nobody")
VERSIONS = ("1", "2", "0", "-1", "99999999999999999999")
TYPES = (
    "application/json",
    "",
    "application/octet-stream",
    "image/png",
    "image/jpeg",
    "multipart/form-data; boundary=b",
    "application/x-www-form-urlencoded",
    "text/html; charset=\xff",
)
ENCODINGS: tuple[tuple[str, Callable[[bytes], bytes]], ...] = (
    ("", bytes),
    ("gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("gzip", bytes),
    ("deflate", bytes),
    ("br", bytes),
    ("gzip, deflate", bytes),
)
LENGTHS = ("", "whole", "0", "1", "-1", "17", "99999999999999999999", "1e3", "0x10", " 5")
_ERROR_DIALECT = re.compile(r"/v[12](/|$)")
_NAME = re.compile(r"<(\w+)>")
LIMIT = 2**20


class Asked(NamedTuple):
    """A request and what came back."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int
    answered: dict[str, str]
    answer: bytes


class BrokenLawError(Exception):
    """An answer that no request may get."""


@contextmanager
def application(state: Path, **settings: str) -> Iterator[Application]:
    """The real application on an image model and a table, with everything on."""
    for model, data in (("digits", "small"), ("table", "asked")):
        if not (state / "registry" / model).exists():
            bundles.publish(state / "registry", model, name=data)
    env = {"HOLDFAST_STATE": str(state), "HOLDFAST_RELOAD_INTERVAL_SECONDS": "3600"}
    env |= {"HOLDFAST_MAX_BODY_BYTES": str(LIMIT), "HOLDFAST_FEEDBACK_WAIT_SECONDS": "0"}
    env |= {"HOLDFAST_CERTIFY_MAX_RUNS": "1000", "HOLDFAST_RECORD_ROWS_KEPT": "1000"}
    app = create_app(load(env | {f"HOLDFAST_{k.upper()}": v for k, v in settings.items()}))
    try:
        yield app
    finally:
        app.service.close()


class Target:
    """Sends what the bytes say, and raises BrokenLawError where an answer breaks a law."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self.rules = [
            endpoint.rule
            for endpoint in app.endpoints
            if endpoint.method == "POST" and endpoint.scope != "admin"
        ]

    def __call__(self, data: bytes) -> Asked | None:
        """One request; None where the bytes are too few to say one."""
        if len(data) < HEAD:
            return None
        what, kind, coding, cut = data[:HEAD]
        rule = self.rules[what % len(self.rules)]
        path = _NAME.sub(lambda m: _argument(m[1], what // len(self.rules)), rule)
        encoding, encode = ENCODINGS[coding if coding < len(ENCODINGS) else 0]
        length = LENGTHS[cut if cut < len(LENGTHS) else cut % 2]
        headers = {"Content-Type": TYPES[kind if kind < len(TYPES) else 0]}
        headers["Content-Encoding"] = encoding
        headers["Inference-Header-Content-Length"] = (
            str(_end_of_json(data[HEAD:])) if length == "whole" else length
        )
        headers["Accept-Encoding"] = "gzip" if coding >= 128 else ""
        sent = {name: value for name, value in headers.items() if value}
        query = "" if "<model>" in rule else f"model={_argument('model', what // len(self.rules))}"
        asked = self.send("POST", path, sent, encode(data[HEAD:]), query)
        check(asked)
        return asked

    def send(
        self, method: str, path: str, headers: dict[str, str], body: bytes, query: str = ""
    ) -> Asked:
        """What the application answers."""
        sent = [("Host", "localhost"), ("Content-Length", str(len(body))), *headers.items()]
        said = ask(self._app, method, f"{path}?{query}", sent, body)
        return Asked(method, path, headers, body, said.status, dict(said.headers), said.body)


def check(asked: Asked) -> None:
    """The laws of every answer: no 5xx, a dialect, a length, JSON that JSON parsers take."""
    away = asked.status == 503 and asked.path.startswith("/console/")  # no watcher runs here
    if asked.status >= 500 and not away:
        raise BrokenLawError(f"{asked.status} from {asked.path}: {asked.answer[:300]!r}")
    if int(asked.answered["Content-Length"]) != len(asked.answer):
        raise BrokenLawError("the Content-Length is not that of the answer")
    body = asked.answer
    if asked.answered.get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    if length := asked.answered.get("Inference-Header-Content-Length"):
        check_binary(json.loads(body[: int(length)], parse_constant=_refuse), body[int(length) :])
        return
    document = json.loads(body, parse_constant=_refuse)
    if asked.status >= 400 and _ERROR_DIALECT.match(asked.path):
        if not isinstance(document.get("error"), str):
            raise BrokenLawError(f"no error text: {document}")
    elif asked.status >= 400 and document.get("status") != asked.status:
        raise BrokenLawError(f"no problem document: {document}")


def check_binary(document: Any, tail: bytes) -> None:
    """The sizes of the binary outputs are those of what follows the JSON."""
    sizes = [o.get("parameters", {}).get("binary_data_size", 0) for o in document["outputs"]]
    if sum(sizes) != len(tail):
        raise BrokenLawError(f"{sum(sizes)} bytes announced, {len(tail)} sent")


def _refuse(constant: str) -> None:
    raise BrokenLawError(f"{constant} is no JSON")


def _argument(name: str, number: int) -> str:
    values: Sequence[str] = VERSIONS if name == "version" else MODELS
    return values[number % len(values)]


def _end_of_json(data: bytes) -> int:
    """How long the JSON at the head of a body is, as far as brackets tell."""
    depth = 0
    for place, byte in enumerate(data[:100_000]):
        depth += (byte == ord("{")) - (byte == ord("}"))
        if depth == 0 and byte == ord("}"):
            return place + 1
    return len(data)


def png(size: int = 8) -> bytes:
    """A small picture."""
    stream = io.BytesIO()
    Image.fromarray(np.arange(size * size, dtype=np.uint8).reshape(size, size)).save(stream, "PNG")
    return stream.getvalue()
