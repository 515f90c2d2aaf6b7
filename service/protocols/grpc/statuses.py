"""Statuses of HTTP as those of gRPC, by their published meaning.

Source: gRPC, `doc/statuscodes.md`.
"""

from collections.abc import Mapping
from http import HTTPStatus

import grpc
import orjson

from service.web.reply import Reply

CODES: Mapping[int, grpc.StatusCode] = {
    HTTPStatus.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    HTTPStatus.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    HTTPStatus.CONFLICT: grpc.StatusCode.FAILED_PRECONDITION,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.TOO_MANY_REQUESTS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
}
RETRY_AFTER = "retry-after"


def code_of(status: int) -> grpc.StatusCode:
    """Return the code of an error; where none is its own, that of whose fault it is.

    >>> code_of(404).name, code_of(415).name, code_of(500).name
    ('NOT_FOUND', 'INVALID_ARGUMENT', 'INTERNAL')
    """
    outside = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    other = grpc.StatusCode.INVALID_ARGUMENT if outside else grpc.StatusCode.INTERNAL
    return CODES.get(status, other)


def detail_of(reply: Reply) -> str:
    """The sentence of an error of /v2."""
    return str(orjson.loads(reply.body)["error"])


def trailers_of(reply: Reply) -> tuple[tuple[str, str], ...]:
    """Metadata behind an error: when to try again."""
    return tuple((RETRY_AFTER, v) for k, v in reply.headers if k.lower() == RETRY_AFTER)
