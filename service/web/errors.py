"""Errors of the service and how they look on the wire.

models.base.errors.HoldfastError
├── InputError (models)      400: the field, what was expected, what came
├── SettingsError            a setting cannot be used: its name, what was expected, what came
│   └── ManySettingsError    several cannot: all of them at once
├── StateError               the state directory cannot be used as asked (start-up only)
└── RequestError             a request that is answered with another status than 200
    ├── NotFoundError        404: no such model, version, record
    ├── UnauthorizedError    401: no token, or an unknown one
    ├── ForbiddenError       403: a token that may not do this
    ├── RequestTimeoutError  408: the body did not come in time
    ├── MisdirectedError     421: the `Host` is not one of this service
    ├── TooLargeError        413: the body is beyond the limit
    ├── MediaTypeError       415: the media type is not supported
    ├── TooManyError         429 with Retry-After: beyond the client's rate or share
    ├── ConflictError        409: the state is not what the call expects
    ├── FlaggedError         409: the policy refuses a flagged row
    └── UnavailableError     503 with Retry-After: no model yet, or the store cannot write
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
import orjson

from models.base.errors import (
    BundleError,
    ChampionMovedError,
    HoldfastError,
    InputError,
    RegistryError,
    UnknownModelError,
    UnknownVersionError,
)

JSON = "application/json"
PROBLEM = "application/problem+json"


class SettingsError(HoldfastError):
    """A setting cannot be used."""

    def __init__(self, name: str, expected: str, got: str) -> None:
        super().__init__(f"setting {name}: expected {expected}, got {got}")
        self.name = name
        self.expected = expected
        self.got = got


class ManySettingsError(SettingsError):
    """Several settings cannot be used; `faults` has one error for each."""

    def __init__(self, faults: Sequence[SettingsError]) -> None:
        HoldfastError.__init__(
            self, "\n- ".join([f"{len(faults)} settings cannot be used:", *map(str, faults)])
        )
        self.name = ", ".join(fault.name for fault in faults)
        self.expected = "; ".join(fault.expected for fault in faults)
        self.got = "; ".join(fault.got for fault in faults)
        self.faults = tuple(faults)


def raise_faults(faults: Sequence[SettingsError]) -> None:
    """Raise the faults, if there are any: one as it is, several as ManySettingsError."""
    if len(faults) > 1:
        raise ManySettingsError(faults)
    if faults:
        raise faults[0]


class StateError(HoldfastError):
    """The state directory cannot be used as asked."""


class RequestError(HoldfastError):
    """A request that gets another status than 200; `members` go into the problem document."""

    status = HTTPStatus.BAD_REQUEST
    headers: Mapping[str, str] = {}

    def __init__(self, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.members = members


class NotFoundError(RequestError):
    """No such model, version or record."""

    status = HTTPStatus.NOT_FOUND


class MediaTypeError(RequestError):
    """The address does not support the body's media type."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE

    def __init__(self, field: str, expected: str, got: str) -> None:
        super().__init__(
            f"{field}: expected {expected}, got {got}", field=field, expected=expected, got=got
        )
        self.headers = {"Accept": "application/json"}


class RequestTimeoutError(RequestError):
    """The rest of the body did not come in time; the connection ends with the answer."""

    status = HTTPStatus.REQUEST_TIMEOUT
    headers: Mapping[str, str] = {"Connection": "close"}


class TooLargeError(RequestError):
    """A body that is larger than the limit, as it came or decompressed."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE

    def __init__(self, limit: int, what: str = "the body") -> None:
        super().__init__(f"{what} is larger than {limit} bytes")
        self.headers = {"Connection": "close"}


class UnauthorizedError(RequestError):
    """There was no token, or it is unknown or revoked."""

    status = HTTPStatus.UNAUTHORIZED
    headers: Mapping[str, str] = {"WWW-Authenticate": 'Bearer realm="holdfast"'}


class ForbiddenError(RequestError):
    """The caller may not do this."""

    status = HTTPStatus.FORBIDDEN


class MisdirectedError(RequestError):
    """The request was sent to a host name that is not one of this service."""

    status = HTTPStatus.MISDIRECTED_REQUEST


class TooManyError(RequestError):
    """The client sends too many requests, or too many at once; it may try again after a pause."""

    status = HTTPStatus.TOO_MANY_REQUESTS

    def __init__(self, detail: str, retry_after_seconds: int) -> None:
        super().__init__(detail)
        self.headers = {"Retry-After": str(retry_after_seconds)}


class ConflictError(RequestError):
    """The state is not what the call expects."""

    status = HTTPStatus.CONFLICT


class FlaggedError(RequestError):
    """The policy refuses what is flagged, and at least one row is; the scores are in `members`."""

    status = HTTPStatus.CONFLICT


class UnavailableError(RequestError):
    """The service cannot do this now; the same request may succeed later."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    headers: Mapping[str, str] = {"Retry-After": "1"}


def render_error(path: str, status: int, detail: str, **members: Any) -> tuple[str, bytes]:
    """Return media type and body of an error in the format of the address.

    That is `{"error"}` on /v1 and /v2, as their protocols say, else a problem document (RFC 9457).
    """
    if path in ("/v1", "/v2") or path.startswith(("/v1/", "/v2/")):
        return JSON, orjson.dumps({"error": detail})
    title = HTTPStatus(status).phrase
    standard = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return PROBLEM, orjson.dumps({**standard, **members}, default=msgspec.to_builtins)


def describe_error(error: HoldfastError) -> tuple[int, Mapping[str, Any], Mapping[str, str]]:
    """Return status, extra members and headers of the answer to an error."""
    if isinstance(error, RequestError):
        return error.status, error.members, error.headers
    if isinstance(error, InputError):
        members = {"field": error.field, "expected": error.expected, "got": error.got}
        return HTTPStatus.BAD_REQUEST, members, {}
    for kind, status in _STATUSES.items():
        if isinstance(error, kind):
            return status, {}, {}
    return HTTPStatus.INTERNAL_SERVER_ERROR, {}, {}


_STATUSES: Mapping[type[HoldfastError], HTTPStatus] = {
    UnknownModelError: HTTPStatus.NOT_FOUND,
    UnknownVersionError: HTTPStatus.NOT_FOUND,
    ChampionMovedError: HTTPStatus.CONFLICT,
    BundleError: HTTPStatus.CONFLICT,
    RegistryError: HTTPStatus.CONFLICT,
}
