"""A server in a thread, on real sockets, with a plain application; and clients of it."""

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from service.server.server import WorkerServer
from service.server.shared import Shared, WorkerTerms
from service.server.worker import configure
from service.web.errors import RequestError, render_error
from service.web.held import Held
from service.web.intake import ClientGoneError, Intake

BODY = 20_000
PATIENCE = 60.0


class Limits(NamedTuple):
    body_bytes: int = BODY
    held_bytes: int = 3 * BODY
    connections: int = 100
    header_seconds: float = 0.4
    body_seconds: float = 0.8
    keep_alive_seconds: float = 1.2


class App:
    """Answers with what it was asked; paths say what else it does."""

    def __init__(self, limits: Limits) -> None:
        self.refusals: list[int] = []
        self.bodies = 0
        self.gate = threading.Event()
        self.held = Held(limits.held_bytes)
        self._intake = Intake(limits.body_bytes, limits.body_seconds, self.held)

    async def __call__(
        self, scope: Any, receive: Callable[[], Any], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        if scope["type"] == "lifespan":
            for word in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{word}.complete"})
            return
        headers = dict(scope["headers"])
        length = headers.get(b"content-length")
        expects = b"expect" in headers
        path = scope["path"]
        try:
            body = await self._intake.read(int(length) if length else None, expects, receive)
        except ClientGoneError:
            return
        except RequestError as error:
            _, answer = render_error(path, error.status, str(error))
            await self._send(send, error.status, answer, error.headers)
            return
        self.bodies += 1
        try:
            if path == "/wait":
                await asyncio.get_running_loop().run_in_executor(None, self.gate.wait, 20)
            if path == "/slow":
                await asyncio.sleep(0.002)
            if path == "/fail":
                raise RuntimeError("inside")
            large = path == "/large"
            await self._send(
                send, 200, b"x" * int(scope["query_string"]) if large else path.encode() + body, {}
            )
        finally:
            self._intake.give_back(body)

    async def _send(self, send: Any, status: int, body: bytes, headers: Any) -> None:
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        pairs.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": body})

    def count_refusal(self, status: int) -> None:
        self.refusals.append(status)


class Serving:
    """A server that runs in a thread of its own, in uvloop as a worker does."""

    def __init__(self, limits: Limits) -> None:
        self.app = App(limits)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = self.listener.getsockname()
        terms = WorkerTerms(limits.header_seconds, limits.body_seconds, 0.0, 4.0)
        self.shared = Shared(terms, self.app.held, limits.connections, self.app.count_refusal)
        config = configure(self.app, self.shared, backlog=128, keep_alive=limits.keep_alive_seconds)
        began = threading.Event()
        self.server = Unsignalled(config, self.shared, ready=began.set)

        def run() -> None:
            with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
                runner.run(self.server.serve(sockets=[self.listener]))

        self._thread = threading.Thread(target=run)
        self._thread.start()
        assert began.wait(PATIENCE)

    def __len__(self) -> int:
        return len(self.server.server_state.connections)

    def end(self) -> None:
        self.app.gate.set()
        self.server.should_exit = True
        self._thread.join()

    @contextmanager
    def client(self) -> Iterator["Client"]:
        with socket.create_connection(self.address, timeout=PATIENCE) as sock:
            client = Client(sock)
            try:
                yield client
            finally:
                client.stream.close()


class Unsignalled(WorkerServer):
    """Runs outside of the main thread, where no signal comes."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Client:
    """One connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.stream = sock.makefile("rb")

    def send(self, *parts: bytes, pause: float = 0.0) -> None:
        for part in parts:
            self.sock.sendall(part)
            time.sleep(pause)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body; an interim answer is an answer."""
        status = int(self.stream.readline().split()[1])
        headers = {}
        while (line := self.stream.readline().strip()) != b"":
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        return status, headers, self.stream.read(int(headers.get("content-length", 0)))

    def closed(self) -> bool:
        """Whether the server has ended the connection in order; waits for it."""
        return self.stream.read() == b""


Serve = Callable[..., Serving]


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: h", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
