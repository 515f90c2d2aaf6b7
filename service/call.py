"""A request as a handler sees it, and what it answers: no framework in between.

A module of the service offers `endpoints(...)`; `service.front` routes to them.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qs

import orjson
from gunicorn.http.errors import ParseException

from models.errors import InputError
from service.compression import decompressed
from service.errors import JSON, MediaTypeError, TooLargeError, shown
from service.request_id import read_id
from service.web import CHUNK, DISCARDED

Scope = Literal["open", "predict", "feedback", "admin"]


class Reply(NamedTuple):
    """What a handler answers; `id`, `model` and `version` are for the log line of a prediction.

    `given_id` is what the client called the request where another id counts.
    """

    body: bytes
    status: int = 200
    media: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    id: str = ""
    model: str = ""
    version: int = 0
    given_id: str = ""


class Endpoint(NamedTuple):
    """An address: what it is called with, who may call it, and what answers.

    `rule` is in Flask's syntax; its `<names>` are handed to the handler as texts. A `hot` endpoint
    is answered before Flask's routing.
    """

    method: str
    rule: str
    handler: Callable[..., Reply]
    scope: Scope = "open"
    hot: bool = False


class Call:
    """One request: its WSGI environ, who sent it, and its body."""

    __slots__ = ("_limit", "caller", "environ")

    def __init__(self, environ: Mapping[str, Any], caller: str, max_body_bytes: int) -> None:
        self.environ = environ
        self.caller = caller  # told to nobody
        self._limit = max_body_bytes

    def header(self, name: str) -> str | None:
        """A header's value, or None."""
        value: str | None = self.environ.get("HTTP_" + name.upper().replace("-", "_"))
        return value

    @property
    def media_type(self) -> str:
        """The type of the body in lower case, without parameters; empty where it says none."""
        return str(self.environ.get("CONTENT_TYPE", "")).partition(";")[0].strip().lower()

    def argument(self, name: str) -> str | None:
        """An argument of the query string, or None. Raises InputError where it is given twice."""
        query = self.environ.get("QUERY_STRING", "")
        if not query:
            return None
        try:
            values = parse_qs(query, keep_blank_values=True, max_num_fields=100).get(name, [None])
        except ValueError as error:
            raise InputError("query string", "at most 100 arguments", str(error)) from None
        if len(values) > 1:
            raise InputError(name, "one value", f"{len(values)} values")
        value: str | None = values[0]
        return value

    def id(self) -> str | None:
        """The client's `X-Request-Id`, or None where there is none that can be kept."""
        return read_id(self.environ)

    def require_json(self) -> None:
        """Refuse a body that says it is anything but JSON."""
        kind = self.media_type
        if kind and kind != JSON:
            raise MediaTypeError("Content-Type", JSON, shown(kind))

    def body(self) -> bytes:
        """The whole body, decompressed; at most `max_body_bytes` of it, before and after.

        Raises:
            TooLargeError: it is larger.
            MediaTypeError: compressed in a way that is not read here.
            InputError: it broke off, or is not what its encoding says.
        """
        encoding = self.environ.get("HTTP_CONTENT_ENCODING", "").strip().lower()
        body = self._read()
        if encoding in ("", "identity"):
            return body
        return decompressed(body, encoding, self._limit)

    def _read(self) -> bytes:
        length, limit = self._length(), self._limit
        if length is None:
            wanted = limit + 1 if self.environ.get("wsgi.input_terminated") else 0
        else:
            wanted = length
        if wanted > limit + 1:
            self._discard(min(wanted, DISCARDED * limit))
            raise TooLargeError(limit)
        try:
            body: bytes = self.environ["wsgi.input"].read(wanted)
        except (OSError, ParseException) as error:
            got = f"a broken one ({type(error).__name__})"
            raise InputError("body", "a whole body", got) from error
        if len(body) > limit:
            self._discard((DISCARDED - 1) * limit)
            raise TooLargeError(limit)
        if length is not None and len(body) < length:
            raise InputError("body", f"{length} bytes", f"{len(body)} bytes before the client left")
        return body

    def _length(self) -> int | None:
        """The Content-Length; None where there is none, or a chunked body."""
        text = self.environ.get("CONTENT_LENGTH") or ""
        if not text or "HTTP_TRANSFER_ENCODING" in self.environ:
            return None
        return int(text) if text.isascii() and text.isdigit() else None

    def _discard(self, most: int) -> None:
        """Read on and keep nothing: a client that is still sending does not see an answer."""
        stream = self.environ["wsgi.input"]
        try:
            while most > 0 and (part := stream.read(min(most, CHUNK))):
                most -= len(part)
        except (OSError, ParseException):
            return


def json_reply(document: bytes | Any, status: int = 200, **members: Any) -> Reply:
    """An answer in JSON; `document` is its bytes, or plain data."""
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    return Reply(body, status, **members)
