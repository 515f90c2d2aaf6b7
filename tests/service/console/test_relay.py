"""The relay: a closed list, one read a second, nothing followed, nothing else sent."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from service.console import relay as relays
from service.console.relay import MOST_BYTES, Relay
from service.web.errors import UnavailableError


class FakeWatcher:
    """Answers what it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answer: tuple[int, str, bytes] = (200, "application/json", b"{}")
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                sent = self.rfile.read(length)
                fake.asked.append((self.command, self.path, dict(self.headers), sent))
                status, media, body = fake.answer
                self.send_response(status)
                self.send_header("Content-Type", media)
                self.send_header("Content-Length", str(len(body)))
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = _answer

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def fake() -> Iterator[FakeWatcher]:
    made = FakeWatcher()
    yield made
    made.close()


@pytest.fixture
def relay(fake: FakeWatcher) -> Relay:
    return Relay(fake.url, lambda: "the-secret-of-the-state")


def test_pages_that_ask_at_once_cost_one_read_a_second(
    fake: FakeWatcher, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {relay.read("/overview").status for _ in range(5)} == {200}
    assert len(fake.asked) == 1
    monkeypatch.setattr(relays, "FRESH_SECONDS", 0.0)
    relay.read("/overview")
    assert len(fake.asked) == 2


def test_reads_send_no_token(fake: FakeWatcher, relay: Relay) -> None:
    relay.read("/jobs/{}", "a/../b?c")
    ((method, path, headers, _),) = fake.asked
    assert (method, path) == ("GET", "/jobs/a%2F..%2Fb%3Fc")
    assert "Authorization" not in headers


def test_only_addresses_of_the_list_are_asked(relay: Relay) -> None:
    with pytest.raises(AssertionError):
        relay.read("/metrics")
    with pytest.raises(AssertionError):
        relay.send("/alerts", (), b"{}", "")


def test_a_watcher_that_is_away_leaves_what_it_said_last_with_its_time(
    fake: FakeWatcher, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "FRESH_SECONDS", 0.0)
    fake.answer = (200, "application/json", b'{"now": 1}')
    first = relay.read("/overview")
    fake.close()
    later = relay.read("/overview")
    assert later.away
    assert (later.body, later.seen_at) == (first.body, first.seen_at)


@pytest.mark.parametrize(
    "answer",
    [
        (302, "application/json", b"{}"),
        (200, "text/html", b"<p>hello"),
        (500, "application/json", b"{}"),
        (200, "application/json", b"x" * (MOST_BYTES + 1)),
    ],
)
def test_what_is_no_answer_of_a_watcher_is_none(
    answer: tuple[int, str, bytes], fake: FakeWatcher, relay: Relay
) -> None:
    fake.answer = answer
    assert relay.read("/overview").away
    assert len(fake.asked) == 1, "a redirect is not followed"


def test_a_slow_watcher_is_waited_for_no_longer_than_its_time(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)  # never answers
    monkeypatch.setattr(relays, "TIMEOUT_SECONDS", 0.05)
    slow = Relay(f"http://127.0.0.1:{listening.server_port}", lambda: "")
    assert "no answer within" in slow.read("/overview").away
    listening.server_close()


def test_the_persons_token_is_passed_on_and_the_states_only_where_there_is_none(
    fake: FakeWatcher, relay: Relay
) -> None:
    fake.answer = (409, "application/problem+json", json.dumps({"detail": "moved"}).encode())
    reply = relay.send("/models/{}/hold", ("m",), b'{"hours":1}', "Bearer of-a-person")
    assert (reply.status, json.loads(reply.body)) == (409, {"detail": "moved"})
    relay.send("/models/{}/hold", ("m",), b"{}", "")
    tokens = [headers["Authorization"] for _, _, headers, _ in fake.asked]
    assert tokens == ["Bearer of-a-person", "Bearer the-secret-of-the-state"]
    assert fake.asked[0][3] == b'{"hours":1}'


def test_an_act_that_nobody_answers_is_no_success(fake: FakeWatcher, relay: Relay) -> None:
    fake.close()
    with pytest.raises(UnavailableError, match="look how it stands"):
        relay.send("/demo", (), b"{}", "")


def test_what_was_done_shows_at_the_next_read(fake: FakeWatcher, relay: Relay) -> None:
    relay.read("/overview")
    relay.send("/demo", (), b"{}", "")
    relay.read("/overview")
    assert [path for _, path, _, _ in fake.asked] == ["/overview", "/demo", "/overview"]
    assert time.time() - (relay.read("/overview").seen_at or 0) < 60
