"""What all addresses share: reading bodies, ids, JSON answers, errors."""

import re
from typing import Any

import orjson
from flask import Response, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import RequestEntityTooLarge

from models.errors import InputError
from service.errors import MediaTypeError, RequestError, problem, shown

DISCARDED = 4  # times the limit: so much of a body that is too large is read, then we hang up
CHUNK = 1 << 16
JSON = "application/json"
PROBLEM = "application/problem+json"
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
ID_TEXT = "1 to 128 characters of A-Z a-z 0-9 . _ : -"


def read_body() -> bytes:
    """The body of the request, at most MAX_CONTENT_LENGTH of it, else 413, also when chunked.

    Not by werkzeug's `get_data`: that cuts a chunked body at the limit and says nothing (3.1).
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise MediaTypeError("Content-Encoding", "identity", shown(encoding))
    limit, length = request.max_content_length or 0, request.content_length
    if length is None:
        wanted = limit + 1 if request.environ.get("wsgi.input_terminated") else 0
    else:
        wanted = length
    if wanted > limit + 1:
        _discard(min(wanted, DISCARDED * limit))
        raise RequestEntityTooLarge(f"the body is larger than {limit} bytes")
    try:
        body: bytes = request.environ["wsgi.input"].read(wanted)
    except (OSError, ParseException) as error:
        raise InputError(
            "body", "a whole body", f"a broken one ({type(error).__name__})"
        ) from error
    if len(body) > limit:
        _discard((DISCARDED - 1) * limit)
        raise RequestEntityTooLarge(f"the body is larger than {limit} bytes")
    if length is not None and len(body) < length:
        raise InputError("body", f"{length} bytes", f"{len(body)} bytes before the client left")
    return body


def _discard(most: int) -> None:
    """Read on and keep nothing: a client that is still sending does not see an answer."""
    try:
        while most > 0 and (part := request.environ["wsgi.input"].read(min(most, CHUNK))):
            most -= len(part)
    except (OSError, ParseException):
        return


def require_json() -> None:
    """Refuse a body that says it is anything but JSON."""
    kind = request.mimetype
    if kind and kind != JSON:
        raise MediaTypeError("Content-Type", JSON, shown(kind))


def header_id() -> str | None:
    """The client's `X-Request-Id`, or None. Raises InputError where it is unfit."""
    value = request.headers.get("X-Request-Id")
    return None if not value else checked_id(value, "X-Request-Id")


def checked_id(value: str, field: str) -> str:
    """An id that is fit for the store, logs and answers."""
    if not REQUEST_ID.fullmatch(value):
        raise InputError(field, ID_TEXT, shown(value))
    return value


def json_response(body: bytes | Any, status: int = 200) -> Response:
    """An answer in JSON; `body` is bytes, or plain data."""
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return Response(data, status, content_type=JSON)


def error_response(status: int, detail: str, **members: Any) -> Response:
    """An error in the dialect of the address: `{"error"}` on /v2, else problem+json."""
    if request.path == "/v2" or request.path.startswith("/v2/"):
        return json_response({"error": detail}, status)
    document = orjson.dumps(problem(status, detail, **members))
    return Response(document, status, content_type=PROBLEM)


def unsupported(detail: str) -> RequestError:
    """400 for a part of a protocol that is not built."""
    return RequestError(detail)
