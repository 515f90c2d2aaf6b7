"""Routes a request to its endpoint, and holds what is true of every answer.

guard ─ handler ─ error in the dialect of the address ─ compression ─ count, time, log

Flask knows every endpoint and decides what is no address, or no method of it. A prediction does
not pay for that: a `hot` endpoint is found in a table and answered without Flask, by the same code.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import BaseConverter
from werkzeug.test import Client

from models.errors import HoldfastError
from monitoring.logs import logger
from service.call import Call, Endpoint, Reply, Scope
from service.compression import compressed
from service.errors import described, shown, told
from service.request_id import state_id

UNMATCHED = "unmatched"
INSIDE = "something went wrong inside; the log of the service says what"
KEPT_HEADERS = ("Allow", "Retry-After", "Location")
QUICK_BYTES = 1 << 18  # a prediction with a body of at most this size is quick
_STATUS = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
_ARGUMENT = re.compile(r"<(\w+)>")


class Guard(Protocol):
    """Who may call, how often, and how much at once."""

    def enter(self, environ: Mapping[str, Any], scope: Scope) -> str:
        """Name the caller, or raise UnauthorizedError, ForbiddenError or TooManyError."""

    def leave(self, caller: str) -> None:
        """The call that entered has been answered."""


class Observer(Protocol):
    """Told of every answer."""

    def __call__(self, rule: str, method: str, reply: Reply, seconds: float) -> None:
        """`rule` is that of the endpoint, or `UNMATCHED`."""


Answerer = Callable[[Endpoint, Mapping[str, Any], Mapping[str, str]], Reply]


class _Name(BaseConverter):
    """A part of a path; a colon ends it, as in `/v1/models/<model>:predict`."""

    regex = "[^/:]+"
    part_isolating = True


class Match(NamedTuple):
    """An endpoint and what its rule found in the path."""

    endpoint: Endpoint
    arguments: Mapping[str, str]


class Front:
    """The WSGI application."""

    def __init__(
        self,
        endpoints: Iterable[Endpoint],
        guard: Guard,
        observe: Observer,
        max_body_bytes: int,
    ) -> None:
        self.endpoints = tuple(endpoints)
        self._guard = guard
        self._observe = observe
        self._max_body_bytes = max_body_bytes
        hot = [endpoint for endpoint in self.endpoints if endpoint.hot]
        self._plain = {(e.method, e.rule): Match(e, {}) for e in hot if "<" not in e.rule}
        self._patterns = [(e, _pattern(e.rule)) for e in hot if "<" in e.rule]
        self.answer: Answerer = self._answer
        self.flask = self._routed()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request."""
        found = self.match(environ)
        if found is None:
            return self.flask(environ, start_response)
        began = time.perf_counter()
        reply = self.answer(found.endpoint, environ, found.arguments)
        headers = [("Content-Type", reply.media), ("Content-Length", str(len(reply.body)))]
        start_response(_STATUS[reply.status], [*headers, *reply.headers])
        endpoint = found.endpoint
        self._observe(endpoint.rule, endpoint.method, reply, time.perf_counter() - began)
        return (reply.body,)

    def match(self, environ: Mapping[str, Any]) -> Match | None:
        """The hot endpoint of a request, or None."""
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        found = self._plain.get((method, path))
        if found is not None:
            return found
        for endpoint, pattern in self._patterns:
            if method == endpoint.method and path.isascii() and (part := pattern.fullmatch(path)):
                return Match(endpoint, part.groupdict())
        return None

    def quick(self, environ: Mapping[str, Any]) -> bool:
        """Whether the request takes so little that handing it to another thread would cost more.

        Pictures do not: a small file may hold millions of pixels.
        """
        length = environ.get("CONTENT_LENGTH") or ""
        if not length.isdigit() or int(length) > QUICK_BYTES:
            return False
        if environ.get("CONTENT_TYPE", "").startswith(("image/", "multipart/")):
            return False
        return "resize=" not in environ.get("QUERY_STRING", "") and self.match(environ) is not None

    def refused(self, status: int) -> None:
        """Count an answer that was given without asking us: bytes that are no request."""
        self._observe(UNMATCHED, "other", Reply(b"", status), 0.0)

    def _answer(
        self, endpoint: Endpoint, environ: Mapping[str, Any], arguments: Mapping[str, str]
    ) -> Reply:
        """What an endpoint answers; never raises."""
        try:
            caller = self._guard.enter(environ, endpoint.scope)
            try:
                call = Call(environ, caller, self._max_body_bytes)
                reply = endpoint.handler(call, **arguments)
            finally:
                self._guard.leave(caller)
        except Exception as error:
            reply = error_reply(environ["PATH_INFO"], error, endpoint.rule)
        reply = state_id(reply, environ)
        accepted = environ.get("HTTP_ACCEPT_ENCODING")
        return compressed(reply, accepted) if accepted else reply

    def test_client(self) -> Client:
        """A client that calls this application in this process."""
        return Client(lambda environ, start: self({"REMOTE_ADDR": "127.0.0.1", **environ}, start))

    def _routed(self) -> Flask:
        """Flask with every endpoint behind its rule."""
        app = Flask("holdfast", static_folder=None)
        app.url_map.merge_slashes = False
        app.url_map.converters = {**app.url_map.converters, "default": _Name}
        for endpoint in self.endpoints:
            app.add_url_rule(
                endpoint.rule,
                endpoint=f"{endpoint.method} {endpoint.rule}",
                view_func=self._view(endpoint),
                methods=[endpoint.method],
            )
        app.register_error_handler(Exception, self._answer_error)
        app.before_request(_begin)
        app.after_request(self._finish)
        return app

    def _view(self, endpoint: Endpoint) -> Callable[..., Response]:
        def view(**arguments: str) -> Response:
            return _response(self.answer(endpoint, request.environ, arguments))

        return view

    def _answer_error(self, error: Exception) -> Response:
        return _response(error_reply(request.environ["PATH_INFO"], error, UNMATCHED))

    def _finish(self, response: Response) -> Response:
        rule = request.url_rule.rule if request.url_rule else UNMATCHED
        reply = g.get("reply") or Reply(b"", response.status_code)
        self._observe(rule, request.method, reply, time.perf_counter() - g.began)
        return response


def error_reply(path: str, error: Exception, rule: str) -> Reply:
    """An error as the answer at `path`: `{"error"}` on /v1 and /v2, else a problem document."""
    if isinstance(error, HTTPException):
        kept = [(k, v) for k, v in error.get_headers() if k in KEPT_HEADERS]
        return _told(path, error.code or 500, _detail(error), {}, kept)
    if isinstance(error, HoldfastError):
        status, members, headers = described(error)
        if status < 500 or status == HTTPStatus.SERVICE_UNAVAILABLE:
            return _told(path, status, str(error), members, headers.items())
    logger("http").error("internal_error", route=rule, exc_info=error)
    return _told(path, 500, INSIDE, {}, ())


def _told(
    path: str,
    status: int,
    detail: str,
    members: Mapping[str, Any],
    headers: Iterable[tuple[str, str]],
) -> Reply:
    known = {name: members[name] for name in ("id", "model", "version") if name in members}
    media, body = told(path, status, detail, **members)
    return Reply(body, status, media, tuple(headers), **known)


def _detail(error: HTTPException) -> str:
    if isinstance(error, NotFound):
        return f"no such address: {shown(request.path)}"
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        return f"method: expected one of {allowed}, got {shown(request.method)}"
    return error.description or error.name


def _pattern(rule: str) -> re.Pattern[str]:
    """A rule as a pattern.

    >>> _pattern("/v1/models/<model>:predict").fullmatch("/v1/models/a:predict").groupdict()
    {'model': 'a'}
    """
    parts = _ARGUMENT.split(rule)
    names = [f"(?P<{name}>{_Name.regex})" for name in parts[1::2]]
    texts = [re.escape(text) for text in parts[::2]]
    return re.compile("".join(a + b for a, b in zip(texts, [*names, ""], strict=True)))


def _begin() -> None:
    g.began = time.perf_counter()


def _response(reply: Reply) -> Response:
    g.reply = reply
    response = Response(reply.body, reply.status, content_type=reply.media)
    response.headers.extend(list(reply.headers))
    return response
