"""No client can hold a thread, the loop or memory; real sockets, a plain application."""

import json
import socket
import struct
import threading
import time
from contextlib import ExitStack

import pytest

from tests.service.server.serving import BODY, GET, Serve, post
from tests.waiting import wait_until


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
    serving = serve(keep_alive_seconds=60.0)
    with serving.client() as silent, serving.client() as asked:
        asked.send(GET)
        asked.answer()
        assert silent.closed()
        asked.send(GET)  # kept for longer than a head may take
        assert asked.answer()[0] == 200
    brief = serve(header_seconds=60.0, keep_alive_seconds=0.2)
    with brief.client() as asked:
        asked.send(GET)
        assert asked.answer()[0] == 200
        assert asked.closed()
    assert serving.app.refusals == brief.app.refusals == []


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
    serving = serve(connections=5, header_seconds=60.0, keep_alive_seconds=600.0)
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
    serving = serve(connections=5, header_seconds=60.0)
    with ExitStack() as stack:
        clients = []
        for _ in range(5):  # one after the other: the loop's clock counts milliseconds
            clients.append(stack.enter_context(serving.client()))
            clients[-1].send(GET[:10])
            wait_until(lambda: len(serving) == len(clients))
            time.sleep(0.02)
        time.sleep(0.1)
        newest = stack.enter_context(serving.client())
        newest.send(GET)
        assert newest.answer()[0] == 200
        assert clients[1].sock.send(GET[10:])
        assert clients[1].answer()[0] == 200
        with pytest.raises((ConnectionError, IndexError)):
            clients[0].answer()


def test_a_client_that_does_not_read_its_answer_holds_nothing_and_is_given_up(serve: Serve) -> None:
    serving = serve(keep_alive_seconds=60.0)
    with socket.socket() as deaf, serving.client() as normal:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(serving.address)
        for _ in range(2):
            deaf.sendall(b"GET /large?20000000 HTTP/1.1\r\nHost: h\r\n\r\n")
        time.sleep(0.3)
        normal.send(GET)
        assert normal.answer()[0] == 200
        wait_until(lambda: len(serving) == 1)


def test_answers_that_nobody_reads_count_as_held(serve: Serve) -> None:
    serving = serve(held_bytes=8_000_000, body_seconds=10.0)
    with ExitStack() as stack:
        for _ in range(3):
            deaf = stack.enter_context(socket.socket())
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(serving.address)
            deaf.sendall(b"GET /large?7500000 HTTP/1.1\r\nHost: h\r\n\r\n")
            time.sleep(0.2)
        wait_until(lambda: len(serving) == 1)


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
    wait_until(lambda: len(serving) == 0)


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
        wait_until(lambda: not serving.shared.keeping)
        for client in (kept, late):
            client.send(GET)
            assert client.answer()[1]["connection"] == "close"
            assert client.closed()
        serving.app.gate.set()
        assert waiting.answer()[0] == 200
        assert waiting.closed()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(serving.address, timeout=5)
