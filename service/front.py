"""Routes a request to its endpoint, and holds what is true of every answer.

body ─ address ─ guard ─ handler ─ error in the dialect of the address ─ compression ─ count, log

One router says what an address is: Flask's `url_map`, asked with the path as it was sent. An
address has one spelling (`is_plain`), so that a proxy's rule on a path holds. A
prediction (a `hot` endpoint) is answered here: in the event loop where it is known to be quick,
else in a thread of a bounded pool. All else is answered by Flask, in threads of its own.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

from a2wsgi import WSGIMiddleware
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import BaseConverter, RequestRedirect

from models.errors import HoldfastError
from monitoring.logs import logger
from service.call import Call, Endpoint, Reply, Scope
from service.compression import compressed
from service.errors import RequestError, describe_error, render_error, shown
from service.intake import ClientGoneError, Intake
from service.origins import Asked, Origins
from service.pace import Pace
from service.request_id import state_id
from service.server.shared import Held

UNMATCHED = "unmatched"
INSIDE = "something went wrong inside; the log of the service says what"
KEPT_HEADERS = ("Allow", "Retry-After", "Location")
QUICK_BYTES = 1 << 18  # a prediction with a body of at most this size may be quick
MATCHES_KEPT = 1024
CALL = "holdfast.call"  # where a scope holds the call, for Flask's views

ASGIScope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Guard(Protocol):
    """Who may call, how often, and how much at once."""

    def enter(self, call: Call, scope: Scope) -> str:
        """Name the caller, or raise UnauthorizedError, ForbiddenError or TooManyError."""

    def leave(self, caller: str) -> None:
        """The call that entered has been answered."""


class Observer(Protocol):
    """Told of every answer."""

    def __call__(self, rule: str, method: str, reply: Reply, seconds: float) -> None:
        """`rule` is that of the endpoint, or `UNMATCHED`."""


class Bounds(NamedTuple):
    """Of requests: bytes of a body, seconds in which it comes, bytes of all, answering threads."""

    body_bytes: int
    body_seconds: float = 30.0
    held_bytes: int = 2**28
    threads: int = 4


Answerer = Callable[[Endpoint, Call, Mapping[str, str]], Reply]


class _Name(BaseConverter):
    """A part of a path; a colon ends it, as in `/v1/models/<model>:predict`."""

    regex = "[^/:]+"
    part_isolating = True


class Match(NamedTuple):
    """An endpoint and what its rule found in the path."""

    endpoint: Endpoint
    arguments: Mapping[str, str]


class Front:
    """The ASGI application."""

    def __init__(
        self,
        endpoints: Iterable[Endpoint],
        guard: Guard,
        observe: Observer,
        bounds: Bounds,
        origins: Origins | None = None,
    ) -> None:
        self.endpoints = tuple(endpoints)
        self.held = Held(bounds.held_bytes)
        self.answer: Answerer = self._answer
        self.flask = self._routed()
        self.match = lru_cache(MATCHES_KEPT)(self._match)
        self._guard = guard
        self._origins = origins
        self._observe = observe
        self._bounds = bounds
        self._intake = Intake(bounds.body_bytes, bounds.body_seconds, self.held)
        self._pace = Pace()
        self._pool = ThreadPoolExecutor(bounds.threads, thread_name_prefix="request")
        flask: Any = self.flask.wsgi_app  # a2wsgi's types are narrower than the standard's
        self._flask = WSGIMiddleware(flask, workers=bounds.threads)
        self._adapter = self.flask.url_map.bind("")

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the life of the server."""
        if scope["type"] == "http":
            await self._respond(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            raise ValueError(f"HTTP is what is spoken here, not {scope['type']}")

    def close(self) -> None:
        """End the threads after what they do now."""
        self._pool.shutdown()
        self._flask.executor.shutdown()

    def refused(self, status: int) -> None:
        """Count an answer that was given without asking us: bytes that are no request."""
        self._observe(UNMATCHED, "other", Reply(b"", status), 0.0)

    # --- answering

    async def _respond(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        call, began = Call(scope, self._bounds.body_bytes), time.perf_counter()
        try:
            length, expects = call.header("content-length") or "", call.header("expect")
            known = int(length) if length.isdigit() else None
            call.sent = await self._intake.read(known, expects is not None, receive)
        except ClientGoneError:
            return
        except RequestError as error:
            await self._send_early(call, error_reply(call.path, error, UNMATCHED), began, send)
            return
        try:
            await self._answer_whole(call, send)
        finally:
            self._intake.give_back(call.sent)

    async def _answer_whole(self, call: Call, send: Send) -> None:
        began = time.perf_counter()
        if self._origins is not None:
            try:
                verdict = self._origins.judge(_asked(call))
            except RequestError as error:
                await self._send_early(call, error_reply(call.path, error, UNMATCHED), began, send)
                return
            if verdict.preflight:
                reply = Reply(b"", HTTPStatus.NO_CONTENT, "", verdict.headers)
                await self._send_early(call, reply, began, send)
                return
            if verdict.headers:
                send = _with_headers(send, verdict.headers)
        match = self.match(call.path, call.method)
        if match is not None and match.endpoint.hot:
            await _send(await self._predict(match, call), send)
        else:
            await self._flask({**call.scope, CALL: call}, _replay, send)  # type: ignore[arg-type]

    async def _send_early(self, call: Call, reply: Reply, began: float, send: Send) -> None:
        """Answer before anybody was asked."""
        reply = state_id(reply, call)
        match = self.match(call.path, call.method)
        rule = UNMATCHED if match is None else match.endpoint.rule
        self._observe(rule, call.method, reply, time.perf_counter() - began)
        await _send(reply, send)

    async def _predict(self, match: Match, call: Call) -> Reply:
        endpoint, began = match.endpoint, time.perf_counter()
        if self.quick(call) and self._pace.is_quick(call.path):
            reply = self._paced(match, call)
        else:
            loop = asyncio.get_running_loop()
            reply = await loop.run_in_executor(self._pool, self._paced, match, call)
        self._observe(endpoint.rule, endpoint.method, reply, time.perf_counter() - began)
        return reply

    def _paced(self, match: Match, call: Call) -> Reply:
        began = time.thread_time()
        reply = self.answer(match.endpoint, call, match.arguments)
        self._pace.took(call.path, time.thread_time() - began)
        return reply

    def quick(self, call: Call) -> bool:
        """Whether a prediction may take so little that a thread of its own would cost more.

        Pictures do not: a small file may hold millions of pixels.
        """
        if len(call.sent) > QUICK_BYTES or b"resize=" in call.scope["query_string"]:
            return False
        return not call.sent_type.startswith(("image/", "multipart/"))

    def _match(self, path: str, method: str) -> Match | None:
        """The endpoint of an address, or None; `self.match` remembers what it said."""
        if not is_plain(path):
            return None
        try:
            rule, arguments = self._adapter.match(path, method)
        except (HTTPException, RequestRedirect):
            return None
        return Match(self._by_name[rule], arguments) if rule in self._by_name else None

    def _answer(self, endpoint: Endpoint, call: Call, arguments: Mapping[str, str]) -> Reply:
        """What an endpoint answers; never raises."""
        try:
            call.caller = self._guard.enter(call, endpoint.scope)
            try:
                reply = endpoint.handler(call, **arguments)
            finally:
                self._guard.leave(call.caller)
        except Exception as error:
            reply = error_reply(call.path, error, endpoint.rule)
        reply = state_id(reply, call)
        accepted = call.header("accept-encoding")
        return compressed(reply, accepted) if accepted else reply

    async def _live(self, receive: Receive, send: Send) -> None:
        """The server's start and end (ASGI lifespan)."""
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.get_running_loop().run_in_executor(None, self.close)
        await send({"type": "lifespan.shutdown.complete"})

    # --- Flask

    def _routed(self) -> Flask:
        """Flask with every endpoint behind its rule."""
        app = Flask("holdfast", static_folder=None)
        app.url_map.merge_slashes = False
        app.url_map.converters = {**app.url_map.converters, "default": _Name}
        self._by_name = {f"{e.method} {e.rule}": e for e in self.endpoints}
        for name, endpoint in self._by_name.items():
            app.add_url_rule(
                endpoint.rule,
                endpoint=name,
                view_func=self._view(endpoint),
                methods=[endpoint.method],
            )
        app.register_error_handler(Exception, self._answer_error)
        app.before_request(_begin)
        app.after_request(self._finish)
        return app

    def _view(self, endpoint: Endpoint) -> Callable[..., Response]:
        def view(**arguments: str) -> Response:
            return _response(self.answer(endpoint, _call(), arguments))

        return view

    def _answer_error(self, error: Exception) -> Response:
        call = _call()
        return _response(state_id(error_reply(call.path, error, UNMATCHED), call))

    def _finish(self, response: Response) -> Response:
        rule = request.url_rule.rule if request.url_rule else UNMATCHED
        reply = g.get("reply") or Reply(b"", response.status_code)
        self._observe(rule, request.method, reply, time.perf_counter() - g.began)
        return response


def is_plain(path: str) -> bool:
    """Whether a path may be an address: no address has a percent sign or an empty part.

    werkzeug's router would take both for other spellings of an address.

    >>> [is_plain(path) for path in ("/metrics", "//metrics", "/%6detrics")]
    [True, False, False]
    """
    return "%" not in path and "//" not in path


def error_reply(path: str, error: Exception, rule: str) -> Reply:
    """An error as the answer at `path`: `{"error"}` on /v1 and /v2, else a problem document."""
    if isinstance(error, HTTPException):
        kept = [(k, v) for k, v in error.get_headers() if k in KEPT_HEADERS]
        return _render(path, error.code or 500, _detail(error, path), {}, kept)
    if isinstance(error, HoldfastError):
        status, members, headers = describe_error(error)
        if status < 500 or status == 503:
            return _render(path, status, str(error), members, headers.items())
    logger("http").error("internal_error", route=rule, exc_info=error)
    return _render(path, 500, INSIDE, {}, ())


def _render(
    path: str,
    status: int,
    detail: str,
    members: Mapping[str, Any],
    headers: Iterable[tuple[str, str]],
) -> Reply:
    known = {name: members[name] for name in ("id", "model", "version") if name in members}
    media, body = render_error(path, status, detail, **members)
    return Reply(body, status, media, tuple(headers), **known)


def _detail(error: HTTPException, path: str) -> str:
    if isinstance(error, NotFound):
        return f"no such address: {shown(path)}"
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        return f"method: expected one of {allowed}, got {shown(request.method)}"
    return error.description or error.name


def _asked(call: Call) -> Asked:
    """What `Origins` looks at."""
    return Asked(
        call.method,
        call.header("host"),
        call.header("origin"),
        call.header("sec-fetch-site"),
        call.header("access-control-request-method"),
    )


def _with_headers(send: Send, more: Iterable[tuple[str, str]]) -> Send:
    """A `send` that adds headers, whatever is answered."""
    pairs = [(name.lower().encode("latin-1"), text.encode("latin-1")) for name, text in more]

    async def send_more(message: Any) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *pairs]}
        await send(message)

    return send_more


async def _send(reply: Reply, send: Send) -> None:
    headers = [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in reply.headers]
    if reply.status != HTTPStatus.NO_CONTENT:
        headers.append((b"content-type", reply.media.encode("latin-1")))
        headers.append((b"content-length", b"%d" % len(reply.body)))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


async def _replay() -> dict[str, Any]:
    """What Flask reads: nothing; its views find the body in the call."""
    return {"type": "http.request", "body": b"", "more_body": False}


def _call() -> Call:
    call: Call = request.environ["asgi.scope"][CALL]
    return call


def _begin() -> Response | None:
    """Before a view; a path in another spelling than its own is no address."""
    g.began = time.perf_counter()
    if not is_plain(_call().path):
        raise NotFound
    return None


def _response(reply: Reply) -> Response:
    g.reply = reply
    response = Response(reply.body, reply.status, content_type=reply.media)
    response.headers.extend(reply.headers)
    return response
