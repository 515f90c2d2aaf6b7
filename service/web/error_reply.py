"""An exception as an answer, in the error format of the address."""

from collections.abc import Iterable, Mapping
from typing import Any

from flask import request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from models.base.errors import HoldfastError, show_value
from models.base.logs import logger
from service.web.errors import describe_error, render_error
from service.web.reply import Reply

INSIDE = "something went wrong inside; the log of the service says what"
KEPT_HEADERS = ("Allow", "Retry-After", "Location")


def error_reply(path: str, error: Exception, rule: str) -> Reply:
    """Answer an error at `path`: `{"error"}` on /v1 and /v2, else a problem document."""
    if isinstance(error, HTTPException):
        headers = [(k, v) for k, v in error.get_headers() if k in KEPT_HEADERS]
        return _render(path, error.code or 500, _detail(error, path), {}, headers)
    if isinstance(error, HoldfastError):
        status, members, more = describe_error(error)
        if status < 500 or status == 503:
            return _render(path, status, str(error), members, more.items())
    logger("http").error("internal_error", route=rule, exc_info=error)
    return _render(path, 500, INSIDE, {}, ())


def _render(
    path: str,
    status: int,
    detail: str,
    members: Mapping[str, Any],
    headers: Iterable[tuple[str, str]],
) -> Reply:
    subject = {name: members[name] for name in ("id", "model", "version") if name in members}
    media, body = render_error(path, status, detail, **members)
    return Reply(body, status, media, tuple(headers), **subject)


def _detail(error: HTTPException, path: str) -> str:
    if isinstance(error, NotFound):
        return f"no such address: {show_value(path)}"
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        return f"method: expected one of {allowed}, got {show_value(request.method)}"
    return error.description or error.name
