"""What a handler answers: bytes, a status, and what the log needs of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import orjson

from service.web.errors import JSON


class Reply(NamedTuple):
    """What a handler answers; `id`, `model` and `version` are for the log line of a prediction.

    `given_id` is what the client called the request where another id counts; `describe` says for a
    trace how the rows were scored.
    """

    body: bytes
    status: int = 200
    media: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    id: str = ""
    model: str = ""
    version: int = 0
    given_id: str = ""
    describe: Callable[[], dict[str, str | int | float]] | None = None


def json_reply(document: object, status: int = 200, **members: Any) -> Reply:
    """An answer in JSON; `document` is its bytes, or records and plain data."""
    if isinstance(document, bytes):
        return Reply(document, status, **members)
    body = orjson.dumps(document, default=msgspec.to_builtins)
    return Reply(body, status, **members)
