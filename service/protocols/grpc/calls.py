"""The methods of the service: each becomes a call of the V2 address that does the same.

So guard, limits, policies, counters, records, traces and log lines are those of HTTP, under the
same routes and statuses.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar
from urllib.parse import unquote

import grpc
import orjson
from google.protobuf import json_format  # type: ignore[import-untyped]

from models.base.errors import InputError
from service.protocols.grpc.codec import WANTS_FINAL, from_v2, read_parameters, to_v2
from service.protocols.grpc.schema import Message, Method
from service.protocols.grpc.statuses import code_of, detail_of, trailers_of
from service.protocols.v2.binary import HEADER
from service.web.call import Call, Endpoint
from service.web.error_reply import error_reply
from service.web.front import QUICK_BYTES, Front
from service.web.reply import Reply

# What a caller may say of itself; everything else in the metadata is gRPC's own, or ignored.
HEADERS = ("authorization", "x-request-id", "x-forwarded-for", "traceparent", "tracestate")
OF_MODEL, OF_VERSION = "/v2/models/<model>", "/v2/models/<model>/versions/<version>"
T = TypeVar("T")
LONGEST_NAME = 200  # of a model in the address that errors and the pace are noted under


class Calls:
    """Answers the methods through the application; for its event loop only."""

    def __init__(self, front: Front, max_body_bytes: int) -> None:
        self._front, self._limit = front, max_body_bytes
        self._endpoints = {(e.method, e.rule): e for e in front.endpoints}

    def handler(self, method: Method) -> Any:
        """Return gRPC's handler of a method."""
        serialize = {
            "request_deserializer": method.request.FromString,
            "response_serializer": method.response.SerializeToString,
        }
        if method.streaming:
            stream = self._stream_of(method)
            return grpc.stream_stream_rpc_method_handler(stream, **serialize)
        answer = {
            "ModelInfer": self._infer_of(method),
            "ModelReady": self._ready_of(method, OF_MODEL),
            "ServerReady": self._ready_of(method, "/v2/health/ready"),
        }.get(method.name) or self._ask_of(method)
        return grpc.unary_unary_rpc_method_handler(answer, **serialize)

    # --- methods

    def _infer_of(self, method: Method) -> Callable[[Message, Any], Awaitable[Message]]:
        async def infer(request: Message, context: Any) -> Message:
            reply = await self._infer(request, context)
            if reply.status != 200:
                await _abort(context, reply)
            typed = not request.raw_input_contents
            found: Message = await _aside(
                len(reply.body), lambda: from_v2(reply, method.response(), typed=typed)
            )
            return found

        return infer

    def _stream_of(self, method: Method) -> Callable[[Any, Any], AsyncIterator[Message]]:
        async def stream(requests: Any, context: Any) -> AsyncIterator[Message]:
            """Answer each request in order; an error is an answer, and the stream goes on."""
            async for request in requests:
                reply = await self._infer(request, context)
                response = method.response()
                if reply.status != 200:
                    response.error_message = detail_of(reply)
                    response.infer_response.id = request.id
                else:
                    final = bool(read_parameters(request.parameters).get(WANTS_FINAL))
                    typed = not request.raw_input_contents
                    fill = partial(
                        from_v2, reply, response.infer_response, typed=typed, final=final
                    )
                    await _aside(len(reply.body), fill)
                yield response

        return stream

    def _ready_of(self, method: Method, rule: str) -> Callable[[Message, Any], Awaitable[Message]]:
        async def ready(request: Message, context: Any) -> Message:
            """Whether it is ready; what does not exist is not."""
            name, version = getattr(request, "name", ""), getattr(request, "version", "")
            suffix = "/ready" if rule == OF_MODEL else ""
            reply = await self._call(context, "GET", rule, suffix, name, version)
            if reply.status not in (200, 404, 503):
                await _abort(context, reply)
            return method.response(ready=reply.status == 200)

        return ready

    def _ask_of(self, method: Method) -> Callable[[Message, Any], Awaitable[Message]]:
        verb, rule, suffix = {
            "ServerLive": ("GET", "/v2/health/live", ""),
            "ServerMetadata": ("GET", "/v2", ""),
            "ModelMetadata": ("GET", OF_MODEL, ""),
            "ModelConfig": ("GET", OF_MODEL, "/config"),
            "ModelStatistics": ("GET", OF_MODEL, "/stats"),
            "RepositoryIndex": ("POST", "/v2/repository/index", ""),
            "RepositoryModelLoad": ("POST", "/v2/repository/models/<model>/load", ""),
            "RepositoryModelUnload": ("POST", "/v2/repository/models/<model>/unload", ""),
        }[method.name]

        async def ask(request: Message, context: Any) -> Message:
            name = getattr(request, "name", "") or getattr(request, "model_name", "")
            place = rule
            if method.name == "ModelStatistics" and not name:
                place, end = "/v2/models", "/stats"  # of all models
            else:
                end = suffix
            body = _body_of(method.name, request)
            version = getattr(request, "version", "")
            reply = await self._call(context, verb, place, end, name, version, body)
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

    async def _infer(self, request: Message, context: Any) -> Reply:
        try:
            body, length = await _aside(request.ByteSize(), lambda: to_v2(request))
        except InputError as error:
            return error_reply("/v2", error, f"{OF_MODEL}/infer")
        more = {HEADER.lower(): str(length)}
        name, version = request.model_name, request.model_version
        return await self._call(context, "POST", OF_MODEL, "/infer", name, version, body, more)

    async def _call(
        self, context: Any, verb: str, rule: str, suffix: str, model: str = "", version: str = "",
        body: bytes = b"", more: Mapping[str, str] | None = None,
    ) -> Reply:  # fmt: skip
        """Call the endpoint of a rule, of a version where one is named."""
        if version and rule == OF_MODEL:
            rule = OF_VERSION
        endpoint = self._endpoints[verb, rule + suffix]
        arguments = {"model": model, "version": version}
        named = {name: text for name, text in arguments.items() if f"<{name}>" in rule}
        path = rule.replace("<model>", model[:LONGEST_NAME]).replace("<version>", version[:20])
        call = self._make_call(context, endpoint, path + suffix, body, more or {})
        return await self._front.relay(endpoint, call, named)

    def _make_call(
        self, context: Any, endpoint: Endpoint, path: str, body: bytes, more: Mapping[str, str]
    ) -> Call:
        said = [
            (name, value) for name, value in context.invocation_metadata() or ()
            if name in HEADERS and isinstance(value, str)
        ]  # fmt: skip
        headers = [(k.encode("latin-1"), v.encode("utf-8")) for k, v in (*said, *more.items())]
        scope = {
            "type": "http",
            "http_version": "2",
            "method": endpoint.method,
            "path": path,
            "query_string": b"",
            "headers": headers,
            "client": address_of(context.peer()),
        }
        return Call(scope, self._limit + len(body), body)


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
