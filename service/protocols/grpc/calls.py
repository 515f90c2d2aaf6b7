"""The methods of the service: each becomes a call of the V2 address that does the same.

So guard, limits, policies, counters, records, traces and log lines are those of HTTP, under the
same routes and statuses.

A method of one message is served as a stream of messages that ends after the first, which is the
same for the client: so the token is looked at before a message is read, and the message has a time
in which it must come. It stays bytes until it is counted and its call was admitted.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar
from urllib.parse import unquote

import grpc
import orjson
from google.protobuf import json_format  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from models.base.errors import InputError
from service.protocols.grpc.codec import WANTS_FINAL, from_v2, read_parameters, to_v2
from service.protocols.grpc.head import Head, read_head
from service.protocols.grpc.places import Places
from service.protocols.grpc.schema import Message, Method
from service.protocols.grpc.statuses import code_of, detail_of, trailers_of
from service.protocols.v2.binary import HEADER
from service.web.call import Call, Endpoint
from service.web.errors import RequestError, TooLargeError, UnavailableError
from service.web.front import QUICK_BYTES, Front
from service.web.reply import Reply

# What a caller may say of itself; everything else in the metadata is gRPC's own, or ignored.
HEADERS = ("authorization", "x-request-id", "x-forwarded-for", "traceparent", "tracestate")
OF_MODEL, OF_VERSION = "/v2/models/<model>", "/v2/models/<model>/versions/<version>"
T = TypeVar("T")
Place = tuple[str, str, str]  # verb, rule and what follows the rule
INFER: Place = ("POST", OF_MODEL, "/infer")
LONGEST_NAME = 200  # of a model in the address that errors and the pace are noted under
LARGEST_QUESTION = 1 << 16  # bytes of a message that has no tensor
STREAM_SECONDS = 300.0  # between two messages of a stream


class MessageCall(Call):
    """A call with an inference message, which becomes the body of V2 when that is asked for."""

    __slots__ = ("_kind", "_length", "request")

    def __init__(self, scope: Mapping[str, Any], sent: bytes, kind: type[Message]) -> None:
        super().__init__(scope, len(sent), sent)
        self._kind, self._length = kind, 0
        self.request: Message = None  # until it was decoded

    def body(self) -> bytes:
        """Return the body of the V2 request. Raises InputError."""
        if self._body is None:
            try:
                self.request = self._kind.FromString(self.sent)
            except DecodeError as error:
                raise InputError("message", "a ModelInferRequest", str(error)) from None
            self._body, self._length = to_v2(self.request)
        return self._body

    def header(self, name: str) -> str | None:
        """Return a header's value; the length of the JSON is that of the body."""
        if name == HEADER:
            self.body()
            return str(self._length)
        return super().header(name)


class Opened:
    """A call that has a place, which is free again once nobody who works on the call is left."""

    def __init__(self, places: Places) -> None:
        places.take()
        self._places, self._users = places, 0

    def __enter__(self) -> "Opened":
        self._users += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """One less works on the call."""
        self._users -= 1
        if not self._users:
            self._places.leave()


class Calls:
    """Answers the methods through the application; for its event loop only.

    Args:
        front: the application.
        places: of the calls.
        message_seconds: in which the message of a call must have come.
    """

    def __init__(self, front: Front, places: Places, message_seconds: float) -> None:
        self._front, self._places, self._seconds = front, places, message_seconds
        self._endpoints = {(e.method, e.rule): e for e in front.endpoints}

    def handler(self, method: Method) -> Any:
        """Return gRPC's handler of a method; it gets messages as bytes."""
        serialize = {"response_serializer": method.response.SerializeToString}
        if method.streaming:
            return grpc.stream_stream_rpc_method_handler(self._stream_of(method), **serialize)
        answer = {
            "ModelInfer": self._infer_of(method),
            "ModelReady": self._ready_of(method, OF_MODEL, "/ready"),
            "ServerReady": self._ready_of(method, "/v2/health/ready", ""),
        }.get(method.name) or self._ask_of(method)
        return grpc.stream_unary_rpc_method_handler(answer, **serialize)

    # --- methods

    def _infer_of(self, method: Method) -> Callable[[Any, Any], Awaitable[Message]]:
        async def infer(requests: Any, context: Any) -> Message:
            with await self._open(context, INFER) as opened:
                sent = await self._read(context, INFER, self._seconds)
                if sent is grpc.aio.EOF:
                    sent = b""
                reply, call, _ = await self._infer(opened, sent, context, method)
                if reply.status != 200:
                    await _abort(context, reply)
                typed = not call.request.raw_input_contents
                found: Message = await _aside(
                    len(reply.body), lambda: from_v2(reply, method.response(), typed=typed)
                )
                return found

        return infer

    def _stream_of(self, method: Method) -> Callable[[Any, Any], AsyncIterator[Message]]:
        async def stream(requests: Any, context: Any) -> AsyncIterator[Message]:
            """Answer each request in order; an error is an answer, and the stream goes on."""
            with await self._open(context, INFER) as opened:
                while True:
                    sent = await self._read(context, INFER, STREAM_SECONDS)
                    if sent is grpc.aio.EOF:
                        return
                    reply, call, given_id = await self._infer(opened, sent, context, method)
                    response = method.response()
                    if reply.status != 200:
                        response.error_message = detail_of(reply)
                        response.infer_response.id = given_id
                    else:
                        final = bool(read_parameters(call.request.parameters).get(WANTS_FINAL))
                        typed = not call.request.raw_input_contents
                        fill = partial(
                            from_v2, reply, response.infer_response, typed=typed, final=final
                        )
                        await _aside(len(reply.body), fill)
                    yield response

        return stream

    def _ready_of(
        self, method: Method, rule: str, suffix: str
    ) -> Callable[[Any, Any], Awaitable[Message]]:
        async def ready(requests: Any, context: Any) -> Message:
            """Whether it is ready; what does not exist is not."""
            reply = await self._ask(context, method, ("GET", rule, suffix))
            if reply.status not in (200, 404, 503):
                await _abort(context, reply)
            return method.response(ready=reply.status == 200)

        return ready

    def _ask_of(self, method: Method) -> Callable[[Any, Any], Awaitable[Message]]:
        place = {
            "ServerLive": ("GET", "/v2/health/live", ""),
            "ServerMetadata": ("GET", "/v2", ""),
            "ModelMetadata": ("GET", OF_MODEL, ""),
            "ModelConfig": ("GET", OF_MODEL, "/config"),
            "ModelStatistics": ("GET", OF_MODEL, "/stats"),
            "RepositoryIndex": ("POST", "/v2/repository/index", ""),
            "RepositoryModelLoad": ("POST", "/v2/repository/models/<model>", "/load"),
            "RepositoryModelUnload": ("POST", "/v2/repository/models/<model>", "/unload"),
        }[method.name]

        async def ask(requests: Any, context: Any) -> Message:
            reply = await self._ask(context, method, place)
            if reply.status != 200:
                await _abort(context, reply)
            document = orjson.loads(reply.body) if reply.body else {}
            wrap = {"RepositoryIndex": "models", "ModelConfig": "config"}.get(method.name)
            document = {wrap: document} if wrap else document
            found: Message = json_format.ParseDict(
                document, method.response(), ignore_unknown_fields=True
            )
            return found

        return ask

    # --- the way through the application

    async def _open(self, context: Any, place: Place) -> Opened:
        """Give a call a place before its message is read; what its token refuses ends here."""
        endpoint, call = self._endpoint(place), self._bare(context, place)
        if not self._front.admits(endpoint, call):
            named = {name: "" for name in ("model", "version") if f"<{name}>" in endpoint.rule}
            await _abort(context, await self._front.relay(endpoint, call, named))
        try:
            return Opened(self._places)
        except UnavailableError as error:
            await _abort(context, self._front.refuse(endpoint, call, error))
            raise

    async def _read(self, context: Any, place: Place, seconds: float) -> Any:
        """Return the next message, or EOF; the call ends where none comes in time."""
        try:
            return await self._places.read(context, seconds)
        except RequestError as error:
            call = self._bare(context, place)
            await _abort(context, self._front.refuse(self._endpoint(place), call, error))

    async def _infer(
        self, opened: Opened, sent: bytes, context: Any, method: Method
    ) -> tuple[Reply, MessageCall, str]:
        """Return the answer, the call, and the client's id of the request."""
        head, broken = Head(), None
        try:
            head = read_head(sent)
        except InputError as error:
            broken = error
        endpoint, path, named = self._address(INFER, head.model, head.version)
        if broken is not None:  # told by the handler: who may not call is told that first
            endpoint = endpoint._replace(handler=partial(_refuse, broken))
        call = MessageCall(scope_of(context, endpoint, path), sent, method.request)
        return await self._relay(opened, endpoint, call, named), call, head.id

    async def _ask(self, context: Any, method: Method, place: Place) -> Reply:
        """Ask for what has no tensor; what has no message either needs no place."""
        if not method.request.DESCRIPTOR.fields:
            endpoint, path, named = self._address(place)
            call = Call(scope_of(context, endpoint, path), 0)
            return await self._front.relay(endpoint, call, named)
        with await self._open(context, place) as opened:
            sent = await self._read(context, place, self._seconds)
            try:
                request = _read_question(method, sent)
            except (InputError, TooLargeError) as error:
                call = self._bare(context, place)
                return self._front.refuse(self._endpoint(place), call, error)
            name = getattr(request, "name", "") or getattr(request, "model_name", "")
            if method.name == "ModelStatistics" and not name:
                place = ("GET", "/v2/models", "/stats")  # of all models
            endpoint, path, named = self._address(place, name, getattr(request, "version", ""))
            body = _body_of(method.name, request)
            call = Call(scope_of(context, endpoint, path), len(body), body)
            return await self._relay(opened, endpoint, call, named)

    async def _relay(
        self, opened: Opened, endpoint: Endpoint, call: Call, named: Mapping[str, str]
    ) -> Reply:
        opened.__enter__()  # until it is answered, whether or not somebody still waits for that
        return await self._front.relay(endpoint, call, named, opened.leave)

    def _endpoint(self, place: Place) -> Endpoint:
        return self._address(place)[0]

    def _bare(self, context: Any, place: Place) -> Call:
        """A call whose message has not come."""
        endpoint, path, _ = self._address(place)
        return Call(scope_of(context, endpoint, path), 0)

    def _address(
        self, place: Place, model: str = "", version: str = ""
    ) -> tuple[Endpoint, str, dict[str, str]]:
        """Return endpoint, path and arguments; of a version where one is named."""
        verb, rule, suffix = place
        if version and rule == OF_MODEL:
            rule = OF_VERSION
        arguments = {"model": model, "version": version}
        named = {name: text for name, text in arguments.items() if f"<{name}>" in rule}
        path = rule.replace("<model>", model[:LONGEST_NAME]).replace("<version>", version[:20])
        return self._endpoints[verb, rule + suffix], path + suffix, named


def scope_of(context: Any, endpoint: Endpoint, path: str) -> dict[str, Any]:
    """What a call of gRPC is as one of HTTP."""
    said = [
        (name, value) for name, value in context.invocation_metadata() or ()
        if name in HEADERS and isinstance(value, str)
    ]  # fmt: skip
    return {
        "type": "http",
        "http_version": "2",
        "method": endpoint.method,
        "path": path,
        "query_string": b"",
        "headers": [(k.encode("latin-1"), v.encode("utf-8")) for k, v in said],
        "client": address_of(context.peer()),
    }


def _refuse(error: InputError, call: Call, **_: str) -> Reply:
    raise error


def _read_question(method: Method, sent: Any) -> Message:
    """Decode a message that has no tensor. Raises InputError or TooLargeError."""
    if sent is grpc.aio.EOF:
        return method.request()
    if len(sent) > LARGEST_QUESTION:
        raise TooLargeError(LARGEST_QUESTION, "the message")
    try:
        return method.request.FromString(sent)
    except DecodeError as error:
        raise InputError("message", f"one of {method.name}", str(error)) from None


def _body_of(method: str, request: Message) -> bytes:
    """The JSON of a call of the repository; nothing for the others."""
    if method == "RepositoryIndex":
        return orjson.dumps({"ready": request.ready})
    if method.startswith("RepositoryModel"):
        names = dict.fromkeys(request.parameters, True)
        return orjson.dumps({"parameters": names})
    return b""


async def _aside(size: int, work: Callable[[], T]) -> T:
    """Do the work here, or in a thread where so many bytes would keep other calls waiting."""
    if size <= QUICK_BYTES:
        return work()
    return await asyncio.get_running_loop().run_in_executor(None, work)


async def _abort(context: Any, reply: Reply) -> None:
    await context.abort(code_of(reply.status), detail_of(reply), trailers_of(reply))


def address_of(peer: str) -> tuple[str, int] | None:
    """Read gRPC's text of the other end of a connection; None where it has no address.

    >>> address_of("ipv4:10.0.0.1:5000"), address_of("ipv6:%5B::1%5D:5000"), address_of("unix:")
    (('10.0.0.1', 5000), ('::1', 5000), None)
    """
    kind, _, rest = unquote(peer).partition(":")
    host, _, port = rest.rpartition(":")
    if kind not in ("ipv4", "ipv6") or not port.isdigit():
        return None
    return host.strip("[]"), int(port)
