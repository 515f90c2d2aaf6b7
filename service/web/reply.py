"""What a handler answers: bytes, a status, and what the log needs of them."""

from typing import Any, NamedTuple

import orjson

from service.web.errors import JSON


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


def json_reply(document: bytes | Any, status: int = 200, **members: Any) -> Reply:
    """An answer in JSON; `document` is its bytes, or plain data."""
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    return Reply(body, status, **members)
