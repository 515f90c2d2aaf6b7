"""The ASGI application: answers requests, and does what every answer needs.

body ─ origin ─ address ─ guard ─ handler ─ error in the address's format ─ compression ─ count

A prediction (a `hot` endpoint) is answered here: in the event loop where it is quick, else in a
thread of a bounded pool. Flask answers everything else, in threads of its own.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

from a2wsgi import WSGIMiddleware

from models.base.errors import HoldfastError
from service.web.call import Call, Endpoint, Scope
from service.web.compression import compress_reply
from service.web.error_reply import error_reply
from service.web.errors import RequestError, UnavailableError
from service.web.held import Held
from service.web.intake import CROWDED, ClientGoneError, Intake
from service.web.observer import UNMATCHED, Observer
from service.web.origins import Caller, Origins
from service.web.pace import Pace
from service.web.reply import Reply
from service.web.request_id import state_id
from service.web.router import CALL, Answerer, Match, Router

QUICK_BYTES = 1 << 18  # a prediction with a body of at most this size may be quick

ASGIScope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Gatekeeper(Protocol):
    """Decides who may call, how often, and how much at once."""

    def enter(self, call: Call, scope: Scope) -> str:
        """Return the caller's name. Raises UnauthorizedError, ForbiddenError or TooManyError."""

    def check(self, call: Call, scope: Scope) -> str:
        """Return the name of the call's token. Raises as `enter` does for the token alone."""

    def leave(self, caller: str) -> None:
        """The call that entered has been answered."""


class RequestBounds(NamedTuple):
    """Limits: bytes of a body, seconds to receive it, bytes of all requests, answering threads."""

    body_bytes: int
    body_seconds: float = 30.0
    held_bytes: int = 2**28
    threads: int = 4


class Front:
    """The ASGI application."""

    def __init__(
        self,
        endpoints: Iterable[Endpoint],
        guard: Gatekeeper,
        observe: Observer,
        bounds: RequestBounds,
        origins: Origins | None = None,
    ) -> None:
        self.endpoints = tuple(endpoints)
        self.held = Held(bounds.held_bytes)
        self.answer: Answerer = self._answer
        self.router = Router(self.endpoints, lambda: self.answer, observe)
        self._guard = guard
        self._origins = origins
        self._observe = observe
        self._bounds = bounds
        self._intake = Intake(bounds.body_bytes, bounds.body_seconds, self.held)
        self._pace = Pace()
        self._relayed: set[asyncio.Task[Reply]] = set()
        self._pool = ThreadPoolExecutor(bounds.threads, thread_name_prefix="request")
        flask: Any = self.router.flask.wsgi_app  # a2wsgi's types are narrower than the standard's
        self._flask = WSGIMiddleware(flask, workers=bounds.threads)

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the life of the server."""
        if scope["type"] == "http":
            await self._respond(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            raise ValueError(f"HTTP is what is spoken here, not {scope['type']}")

    def close(self) -> None:
        """Finish what is running, then end the threads."""
        self._pool.shutdown()
        self._flask.executor.shutdown()

    def count_refusal(self, status: int) -> None:
        """Count an answer of the server itself, to bytes that are no HTTP request."""
        self._observe(UNMATCHED, "other", Reply(b"", status), 0.0)

    # --- answering

    async def _respond(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        call, began = Call(scope, self._bounds.body_bytes), time.perf_counter()
        try:
            length, expects = call.header("content-length") or "", call.header("expect")
            size = int(length) if length.isdigit() else None
            call.sent = await self._intake.read(size, expects is not None, receive)
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
                verdict = self._origins.judge(_make_caller(call))
            except RequestError as error:
                await self._send_early(call, error_reply(call.path, error, UNMATCHED), began, send)
                return
            if verdict.preflight:
                reply = Reply(b"", HTTPStatus.NO_CONTENT, "", verdict.headers)
                await self._send_early(call, reply, began, send)
                return
            if verdict.headers:
                send = _with_headers(send, verdict.headers)
        match = self.router.match(call.path, call.method)
        if match is not None and match.endpoint.hot:
            await _send(await self._predict(match, call), send)
        else:
            await self._flask({**call.scope, CALL: call}, _replay, send)  # type: ignore[arg-type]

    async def _send_early(self, call: Call, reply: Reply, began: float, send: Send) -> None:
        """Answer before anybody was asked."""
        reply = state_id(reply, reply.id or call.id() or "", call.sent_id())
        match = self.router.match(call.path, call.method)
        rule = UNMATCHED if match is None else match.endpoint.rule
        self._observe(rule, call.method, reply, time.perf_counter() - began)
        await _send(reply, send)

    async def relay(
        self,
        endpoint: Endpoint,
        call: Call,
        arguments: Mapping[str, str],
        done: Callable[[], None] = lambda: None,
    ) -> Reply:
        """Answer a call of another protocol as one of HTTP: same guard, limits and counters.

        For the event loop. `Host` and `Origin` are not judged: no page of a browser can make it.
        Where the caller is cancelled the answer is made and counted all the same, and the bytes of
        the call are held as long as it takes; then, in any case, `done` is called.
        """
        task = asyncio.ensure_future(self._relay(endpoint, call, arguments))
        self._relayed.add(task)  # else nothing would keep it
        task.add_done_callback(self._relayed.discard)
        task.add_done_callback(lambda _: done())
        return await asyncio.shield(task)

    def admits(self, endpoint: Endpoint, call: Call) -> bool:
        """Whether the token of a call, whose body has not come yet, allows it."""
        try:
            self._guard.check(call, endpoint.scope)
        except HoldfastError:
            return False
        return True

    def refuse(self, endpoint: Endpoint, call: Call, error: Exception) -> Reply:
        """Answer and count a call of another protocol that does not come as far as `relay`."""
        reply = error_reply(call.path, error, endpoint.rule)
        reply = state_id(reply, call.id() or "", call.sent_id())
        self._observe(endpoint.rule, endpoint.method, reply, 0.0)
        return reply

    async def _relay(self, endpoint: Endpoint, call: Call, arguments: Mapping[str, str]) -> Reply:
        match, size, began = Match(endpoint, arguments), len(call.sent), time.perf_counter()
        if not self.held.take(size):
            return self.refuse(endpoint, call, UnavailableError(CROWDED))
        try:
            if endpoint.hot:
                return await self._predict(match, call)
            loop = asyncio.get_running_loop()
            reply = await loop.run_in_executor(self._pool, self.answer, endpoint, call, arguments)
        finally:
            self.held.give(size)
        self._observe(endpoint.rule, endpoint.method, reply, time.perf_counter() - began)
        return reply

    async def _predict(self, match: Match, call: Call) -> Reply:
        endpoint, began = match.endpoint, time.perf_counter()
        if self.quick(call) and self._pace.is_quick(call.path):
            reply = self._answer_paced(match, call)
        else:
            loop = asyncio.get_running_loop()
            reply = await loop.run_in_executor(self._pool, self._answer_paced, match, call)
        self._observe(endpoint.rule, endpoint.method, reply, time.perf_counter() - began)
        return reply

    def _answer_paced(self, match: Match, call: Call) -> Reply:
        began = time.thread_time()
        reply = self.answer(match.endpoint, call, match.arguments)
        self._pace.note(call.path, time.thread_time() - began)
        return reply

    def quick(self, call: Call) -> bool:
        """Whether a prediction may be cheaper than handing it to a thread.

        Pictures are not: a small file may hold millions of pixels.
        """
        if len(call.sent) > QUICK_BYTES or b"resize=" in call.scope["query_string"]:
            return False
        return not call.sent_type.startswith(("image/", "multipart/"))

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
        reply = state_id(reply, reply.id or call.id() or "", call.sent_id())
        accepted = call.header("accept-encoding")
        return compress_reply(reply, accepted) if accepted else reply

    async def begin(self) -> None:
        """Start what belongs to the event loop; called before requests come."""

    async def end(self) -> None:
        """End it; called when no more requests come."""

    async def _live(self, receive: Receive, send: Send) -> None:
        """The server's start and end (ASGI lifespan)."""
        await receive()
        await self.begin()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.end()
        await asyncio.get_running_loop().run_in_executor(None, self.close)
        await send({"type": "lifespan.shutdown.complete"})


def _make_caller(call: Call) -> Caller:
    """What `Origins` looks at."""
    return Caller(
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
    """An empty body for Flask, whose views read the body from the call."""
    return {"type": "http.request", "body": b"", "more_body": False}
