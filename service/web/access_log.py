"""One log line per request: the route, the status and the duration; never an input.

    {"component": "http", "event": "request", "level": "info", "timestamp": "...",
     "route": "/predict", "method": "POST", "code": 200, "duration_ms": 1.204,
     "id": "01J...", "model": "digits", "version": 3, "given_id": "8d5b8ad6#12"}

`route` is the rule of the endpoint: neither the path itself nor a query string is written. `id`,
`model` and `version` are there where the answer has them. `given_id` is the `X-Request-Id` of a
client or a proxy, cut and escaped, where the answer has another id.
"""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Literal

import orjson

from models.base import logs
from monitoring.counting.metrics import METHODS
from service.web.reply import Reply

Level = Literal["off", "errors", "all"]
SHOWN_CHARACTERS = 128


class AccessLog:
    """Writes a line for each request that `level` asks for; `errors`: those of 400 and above."""

    def __init__(self, level: Level) -> None:
        self._least = {"off": 1000, "errors": int(HTTPStatus.BAD_REQUEST), "all": 0}[level]

    def write(self, rule: str, method: str, reply: Reply, seconds: float) -> None:
        """Queue the line of one answer; takes microseconds, never waits, never raises.

        Args:
            rule: of the endpoint, or a word where there is none.
            method: as the client sent it.
            reply: the answer.
            seconds: from the request to its answer.
        """
        status = reply.status
        if status < self._least:
            return
        line: dict[str, object] = {
            "component": "http",
            "event": "request",
            "level": _level(status),
            "timestamp": datetime.now(UTC),
            "route": rule,
            "method": method if method in METHODS else "other",
            "code": status,
            "duration_ms": round(seconds * 1000, 3),
        }
        if reply.id:
            line["id"] = _plain(reply.id)
        if reply.model:
            line["model"] = _plain(reply.model)
        if reply.version:
            line["version"] = reply.version
        if reply.given_id:
            # Some log readers expand `${...}`.
            line["given_id"] = _plain(reply.given_id).replace("$", "\\u0024")
        logs.write(orjson.dumps(line, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE))


def _level(status: int) -> str:
    if status < HTTPStatus.BAD_REQUEST:
        return "info"
    return "warning" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "error"


def _plain(text: str) -> str:
    """A text of printable ASCII, however it came; orjson escapes the rest.

    >>> _plain("digits"), _plain("d\\u202egits")
    ('digits', "'d\\\\u202egits'")
    """
    head = text[:SHOWN_CHARACTERS]
    return (head if head.isascii() and head.isprintable() else ascii(head))[:SHOWN_CHARACTERS]
