"""No client can hold a thread, the loop or memory; real sockets, a plain application."""

import asyncio
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import RequestError, render_error
from service.intake import ClientGoneError, Intake
from service.server.protocol import check_head
from service.server.server import Server
from service.server.shared import HEAD_BYTES, Held, Shared, Terms
from service.server.worker import configure

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

    def refused(self, status: int) -> None:
        self.refusals.append(status)


class Serving:
    """A server that runs in a thread of its own, in uvloop as a worker does."""

    def __init__(self, limits: Limits) -> None:
        self.app = App(limits)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = self.listener.getsockname()
        terms = Terms(limits.header_seconds, limits.body_seconds, 0.0, 4.0)
        self.shared = Shared(terms, self.app.held, limits.connections, self.app.refused)
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


class Unsignalled(Server):
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


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


Serve = Callable[..., Serving]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:

        def make(**changes: Any) -> Serving:
            serving = Serving(Limits(**changes))
            stack.callback(serving.end)
            return serving

        yield make


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: h", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"


def test_requests_behind_one_another_are_answered_in_order_however_they_come(serve: Serve) -> None:
    stream = b"".join(post(f"/{path}", b"b" * n) for path, n in (("a", 5), ("quick", 0), ("c", 9)))
    expected = [b"/abbbbb", b"/quick", b"/cbbbbbbbbb"]
    with serve().client() as client:
        for pieces in ([stream], [stream[i : i + 1] for i in range(len(stream))], [stream * 2]):
            client.send(*pieces)
            for _ in range(len(b"".join(pieces)) // len(stream)):
                assert [client.answer()[2] for _ in expected] == expected


def test_many_connections_at_once_all_get_their_own_answers(serve: Serve) -> None:
    serving, wrong = serve(), []

    def ask(number: int) -> None:
        with serving.client() as client:
            for index in range(50):
                path = "/quick" if index % 2 else "/pool"
                body = f"{number}-{index}".encode() * 40
                client.send(post(path, body))
                if client.answer()[2] != path.encode() + body:
                    wrong.append((number, index))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert serving.app.bodies == 400


def test_slow_clients_hold_no_thread_and_get_a_408(serve: Serve) -> None:
    serving = serve()
    with ExitStack() as stack:
        heads = [stack.enter_context(serving.client()) for _ in range(20)]
        bodies = [stack.enter_context(serving.client()) for _ in range(20)]
        for client in heads:
            client.send(b"POST /v2/x HTTP/1.1\r\nHos")
        for client in bodies:
            client.send(post("/x", b"b" * 100)[:-1])
        with serving.client() as normal:
            normal.send(GET)
            assert normal.answer()[2] == b"/a"
        for client in heads:
            status, headers, body = client.answer()
            assert (status, headers["connection"], list(json.loads(body))) == (
                408,
                "close",
                ["error"],
            )
            assert client.closed()
        for client in bodies:
            assert client.answer()[0] == 408
            assert client.closed()
    assert serving.app.refusals == [408] * 20  # of the bodies the application knows itself


def test_a_connection_that_asks_nothing_is_closed_in_silence(serve: Serve) -> None:
    serving = serve()
    with serving.client() as silent, serving.client() as asked:
        asked.send(GET)
        asked.answer()
        began = time.monotonic()
        assert silent.closed()
        assert time.monotonic() - began < 1.1
        asked.send(GET)  # kept for longer than a head may take
        assert asked.answer()[0] == 200
        assert asked.closed()
    assert serving.app.refusals == []


@pytest.mark.parametrize("how", ["length", "chunked"])
def test_a_client_that_sends_too_much_sees_the_413(serve: Serve, how: str) -> None:
    large = b"b" * (3 * BODY)
    request = post("/v2/x", large)
    if how == "chunked":
        head = b"POST /v2/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        request = head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(large), large)
    with serve().client() as client:
        client.send(*(request[i : i + 5000] for i in range(0, len(request), 5000)), pause=0.01)
        status, headers, body = client.answer()
        assert (status, headers["connection"]) == (413, "close")
        assert str(BODY) in json.loads(body)["error"]
        client.sock.shutdown(socket.SHUT_WR)
        assert client.closed()


def test_a_client_that_asks_before_it_sends_is_told_once(serve: Serve) -> None:
    serving, expect = serve(), "Expect: 100-continue"
    with serving.client() as client:
        request = post("/x", b"body", expect)
        client.send(request[:-4])
        assert client.answer()[0] == 100
        client.send(request[-4:])
        assert client.answer()[2] == b"/xbody"
        client.send(request)  # did not wait: it may be told all the same
        assert client.answer()[0] == 100
        assert client.answer()[2] == b"/xbody"
    with serving.client() as client:
        client.send(post("/x", b"b" * (BODY + 1), expect)[: -BODY - 1])
        assert client.answer()[0] == 413


def test_all_together_hold_no_more_than_the_bound_and_small_requests_go_on(serve: Serve) -> None:
    serving = serve(body_seconds=10.0, held_bytes=4 * BODY)
    with ExitStack() as stack:
        clients = [stack.enter_context(serving.client()) for _ in range(5)]
        for client in clients:
            client.send(post("/x", b"b" * BODY)[:-1])
            time.sleep(0.05)
        statuses = []
        for client in clients[3:]:
            status, headers, _ = client.answer()
            statuses.append((status, headers["retry-after"]))
        assert statuses == [(503, "1")] * 2
        with serving.client() as normal:
            normal.send(post("/y", b"small"))
            assert normal.answer()[2] == b"/ysmall"
        for client in clients[:3]:
            client.send(b"b")
            assert client.answer()[0] == 200
        with serving.client() as normal:
            normal.send(post("/x", b"b" * BODY)[:-1])
            normal.send(b"b")
            assert normal.answer()[0] == 200


def test_a_client_in_good_standing_is_not_the_one_that_makes_room(serve: Serve) -> None:
    serving = serve(connections=5, header_seconds=1.0, keep_alive_seconds=5.0)
    with ExitStack() as stack:
        good = stack.enter_context(serving.client())
        good.send(GET)
        good.answer()
        for _ in range(20):
            stack.enter_context(serving.client()).send(GET[:10])
            time.sleep(0.01)
        good.send(GET)
        assert good.answer()[0] == 200


def test_the_one_that_waited_longest_makes_room_for_another(serve: Serve) -> None:
    serving = serve(connections=5, header_seconds=5.0)
    with ExitStack() as stack:
        clients = [stack.enter_context(serving.client()) for _ in range(5)]
        for client in clients:
            client.send(GET[:10])
        time.sleep(0.1)
        newest = stack.enter_context(serving.client())
        newest.send(GET)
        assert newest.answer()[0] == 200
        assert clients[1].sock.send(GET[10:])
        assert clients[1].answer()[0] == 200
        with pytest.raises((ConnectionError, IndexError)):
            clients[0].answer()


def test_a_client_that_does_not_read_its_answer_holds_nothing_and_is_given_up(serve: Serve) -> None:
    serving = serve()
    with socket.socket() as deaf, serving.client() as normal:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(serving.address)
        for _ in range(2):
            deaf.sendall(b"GET /large?20000000 HTTP/1.1\r\nHost: h\r\n\r\n")
        time.sleep(0.3)
        normal.send(GET)
        assert normal.answer()[0] == 200
        until(lambda: len(serving) == 1)


def test_answers_that_nobody_reads_count_as_held(serve: Serve) -> None:
    serving = serve(held_bytes=8_000_000, body_seconds=10.0)
    with ExitStack() as stack:
        for _ in range(3):
            deaf = stack.enter_context(socket.socket())
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(serving.address)
            deaf.sendall(b"GET /large?7500000 HTTP/1.1\r\nHost: h\r\n\r\n")
            time.sleep(0.2)
        until(lambda: len(serving) == 1)


def test_a_large_answer_comes_whole_to_a_client_that_reads_slowly(serve: Serve) -> None:
    with serve().client() as client:
        client.send(b"GET /large?3000000 HTTP/1.1\r\nHost: h\r\n\r\n")
        time.sleep(0.3)
        _, _, body = client.answer()
        assert len(body) == 3_000_000
        client.send(GET)
        assert client.answer()[2] == b"/a"


def test_a_client_that_has_sent_its_last_still_gets_its_answer(serve: Serve) -> None:
    serving = serve()
    for request, expected in ((post("/x", b"body"), 200), (post("/x", b"body")[:-1], 400)):
        with serving.client() as client:
            client.send(request)
            client.sock.shutdown(socket.SHUT_WR)
            assert client.answer()[0] == expected
            assert client.closed()


def test_clients_that_vanish_leave_nothing_behind(serve: Serve) -> None:
    serving = serve()
    for request in (
        b"",
        GET[:9],
        post("/wait", b""),
        b"GET /large?9999999 HTTP/1.1\r\nHost: h\r\n\r\n",
    ):
        with serving.client() as client:
            client.send(request)
            time.sleep(0.05)
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    serving.app.gate.set()
    until(lambda: len(serving) == 0)


def test_an_application_that_fails_is_a_500_and_the_next_request_works(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    serving = serve()
    with serving.client() as client:
        client.send(post("/fail", b""))
        assert client.answer()[0] == 500
        assert client.closed()
    with serving.client() as client:
        client.send(GET)
        assert client.answer()[0] == 200


def test_a_server_that_stops_takes_what_the_kernel_has_and_finishes(serve: Serve) -> None:
    serving = serve(keep_alive_seconds=20)
    with ExitStack() as stack:
        waiting = stack.enter_context(serving.client())
        waiting.send(post("/wait", b""))
        kept = stack.enter_context(serving.client())
        kept.send(GET)
        assert "connection" not in kept.answer()[1]
        late = stack.enter_context(serving.client())
        serving.server.should_exit = True
        until(lambda: not serving.shared.keeping)
        for client in (kept, late):
            client.send(GET)
            assert client.answer()[1]["connection"] == "close"
            assert client.closed()
        serving.app.gate.set()
        assert waiting.answer()[0] == 200
        assert waiting.closed()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(serving.address, timeout=5)


# --- no stream of bytes is answered out of order, twice, or as what it is not

KINDS = st.sampled_from(["/quick", "/slow", "/chunked"])
SIZES = st.sampled_from([0, 1, 300, 16_000]) | st.integers(0, BODY)
REQUESTS = st.lists(st.tuples(KINDS, SIZES), min_size=1, max_size=8)
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"


def request_of(kind: str, size: int) -> bytes:
    """A request whose body holds text that looks like one."""
    body = (SMUGGLED * (size // len(SMUGGLED) + 1))[:size]
    if kind != "/chunked":
        return post(kind, body)
    chunks = [body[at : at + 700] for at in range(0, size, 700)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    head = f"POST {kind} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head.encode() + framed + b"0\r\n\r\n"


@pytest.fixture(scope="module")
def patient() -> Iterator[Serving]:
    serving = Serving(Limits(header_seconds=30, body_seconds=30, keep_alive_seconds=30,
                             body_bytes=200_000, held_bytes=10**7))  # fmt: skip
    yield serving
    serving.end()


@given(requests=REQUESTS, cuts=st.lists(st.integers(0, 2**18), max_size=6), half=st.booleans())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_split_of_any_pipeline_is_answered_once_each_and_in_order(
    patient: Serving, requests: list[tuple[str, int]], cuts: list[int], half: bool
) -> None:
    stream = b"".join(request_of(kind, size) for kind, size in requests)
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    with patient.client() as client:
        for start, end in pairwise(places):
            client.send(stream[start:end], pause=0.001)
        if half:
            client.sock.shutdown(socket.SHUT_WR)
        for kind, size in requests:
            status, _, body = client.answer()
            assert (status, body[: len(kind)], len(body)) == (200, kind.encode(), len(kind) + size)
        if half:
            assert client.closed()


@pytest.mark.parametrize("size", [10, 70_000])
@pytest.mark.parametrize("path", ["/quick", "/slow"])
def test_five_hundred_requests_behind_one_another_all_get_their_answers(
    patient: Serving, size: int, path: str
) -> None:
    count = 500 if size < 1000 else 60
    with patient.client() as client:
        sender = threading.Thread(target=client.send, args=(post(path, b"b" * size) * count,))
        sender.start()
        for _ in range(count):
            assert client.answer()[0] == 200
        sender.join()


@given(
    requests=REQUESTS,
    rest=st.sampled_from(
        [
            b"rubbish\r\n\r\n",
            b"GET /a HTTP/1.1\r\n\r\n",
            b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
            b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nab",
            b"GET /a HTT",
        ]
    ),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_broken_is_refused_in_its_turn(
    patient: Serving, requests: list[tuple[str, int]], rest: bytes
) -> None:
    with patient.client() as client:
        client.send(b"".join(request_of(kind, size) for kind, size in requests) + rest)
        client.sock.shutdown(socket.SHUT_WR)
        for kind, _ in requests:
            status, _, body = client.answer()
            assert (status, body[: len(kind)]) == (200, kind.encode())
        assert client.answer()[0] == 400
        assert client.closed()


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        ("GET / HTTP/1.1", 400),
        ("GET / HTTP/1.0", 200),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a", 400),
        ("GET http://h/ HTTP/1.1\r\nHost: h", 200),
        ("GET http://other/ HTTP/1.1\r\nHost: h", 400),
        ("GET * HTTP/1.1\r\nHost: h", 400),
        ("CONNECT h:80 HTTP/1.1\r\nHost: h", 400),
        ("GET /#a HTTP/1.1\r\nHost: h", 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked", 501),
        ("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity", 501),
        ("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 0", 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2", 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: +0", 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c", 400),
        ("GET / HTTP/1.1\nHost: h", 400),
        ("GET / HTTP/1.1\r\nHost : h", 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nA: b\0c", 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c", 200),
    ],
)
def test_what_is_ambiguous_is_refused(patient: Serving, request_head: str, status: int) -> None:
    with patient.client() as client:
        client.send(f"{request_head}\r\n\r\n".encode())
        client.sock.shutdown(socket.SHUT_WR)
        assert client.answer()[0] == status
        assert client.closed()


@pytest.mark.parametrize(
    ("value", "kept"),
    [("close", False), ("keep-alive, close", False), ("Close , x", False), ("keep-alive, x", True)],
)
def test_connection_is_a_list(patient: Serving, value: str, kept: bool) -> None:
    with patient.client() as client:
        client.send(GET[:-2] + f"Connection: {value}\r\n\r\n".encode())
        status, headers, _ = client.answer()
        assert (status, headers.get("connection") != "close") == (200, kept)
        if kept:
            client.send(GET)
            assert client.answer()[0] == 200
        else:
            assert client.closed()


def test_a_request_behind_one_that_asks_for_another_protocol_is_answered(patient: Serving) -> None:
    upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA"
    stream = post("/a", b"body", *upgrade.split("\r\n")) + post("/b", SMUGGLED)
    with patient.client() as client:
        for _ in range(2):
            client.send(stream)
            assert client.answer()[2] == b"/abody"
            assert client.answer()[2] == b"/b" + SMUGGLED


@pytest.mark.parametrize("size", [HEAD_BYTES // 2, 2 * HEAD_BYTES])
def test_the_bound_on_a_head_is_the_one_that_is_documented(patient: Serving, size: int) -> None:
    for part in ("/" + "a" * size, "/ HTTP/1.1\r\nHost: h\r\nA: " + "a" * size):
        whole = f"GET {part}" + ("" if "HTTP" in part else " HTTP/1.1\r\nHost: h") + "\r\n\r\n"
        for text in (whole, whole[:-5]):
            with patient.client() as client:
                client.send(text.encode())
                if size < HEAD_BYTES:
                    client.send(whole.encode()[len(text) :])
                wanted = 200 if size < HEAD_BYTES else (431 if "A: " in part else 414)
                assert client.answer()[0] == wanted


def test_empty_lines_for_ever_are_no_request(serve: Serve) -> None:
    with serve().client() as client:
        client.send(GET)
        client.answer()
        try:
            for _ in range(200):
                client.send(b"\r\n", pause=0.02)
        except OSError:
            return
        pytest.fail("nobody ended it")


def test_a_client_that_sends_on_sees_why_it_was_refused(serve: Serve) -> None:
    with serve().client() as client:
        client.send(b"GET /v2/a HTTP/1.1\r\nA: " + b"a" * 40_000)
        try:
            for _ in range(50):
                client.send(b"a" * 1000, pause=0.002)
        except OSError:
            pass
        status, headers, body = client.answer()
        assert (status, headers["connection"], list(json.loads(body))) == (431, "close", ["error"])


def test_requests_that_wait_behind_others_count_as_held(serve: Serve) -> None:
    serving = serve(held_bytes=100_000, body_bytes=60_000)
    with ExitStack() as stack:
        clients = [stack.enter_context(serving.client()) for _ in range(10)]
        for client in clients:
            client.send(post("/wait", b"") + post("/x", b"b" * 30_000))
        until(lambda: len(serving) < 5)
        assert serving.app.held.bytes <= 100_000
        serving.app.gate.set()
        until(lambda: serving.app.held.bytes == 0)


def test_the_versions_that_this_room_leans_on_are_the_ones_it_was_checked_with() -> None:
    import gunicorn
    import httptools
    import uvicorn

    found = [re.match(r"\d+\.\d+", m.__version__) for m in (gunicorn, uvicorn, httptools)]
    assert [m and m[0] for m in found] == ["27.0", "0.54", "0.9"], (
        "read service/server/ against the new version, then change this line"
    )


def test_heads_are_checked_by_a_law_of_their_own() -> None:
    assert check_head(b"/", [(b"host", b"h")], "1.1") is None
    assert check_head(b"http://h:1/", [(b"host", b"H:1")], "1.1") is None
