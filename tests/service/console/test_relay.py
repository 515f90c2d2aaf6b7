"""The relay: a closed list, one read a second, nothing followed, nothing else sent."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from service.console import relay as relays
from service.console.relay import MOST_BYTES, Relay
from service.web.errors import UnavailableError
from tests.service.console.watching import Silent
from tests.waiting import wait_until


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
def silent() -> Iterator[Silent]:
    made = Silent()
    yield made
    made.close()


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


def test_readers_of_a_silent_watcher_cost_one_question_together(
    silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(relays, "AWAY_SECONDS", 1e9)
    relay, readings = Relay(silent.url, lambda: ""), list[relays.Reading]()

    def read(k: int) -> None:
        reading = relay.read("/jobs/{}", str(k)) if k % 2 else relay.read("/overview")
        readings.append(reading)

    threads = [threading.Thread(target=read, args=(k,)) for k in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    readings.append(relay.read("/jobs/{}", "one-more"))
    assert len(readings) == 17
    assert all("no answer within" in reading.away for reading in readings)
    assert silent.taken == 1


def test_nobody_waits_for_the_one_who_asks_a_watcher_that_is_known_to_be_silent(
    silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(relays, "AWAY_SECONDS", 0.0)
    relay = Relay(silent.url, lambda: "")
    assert relay.read("/overview").away
    monkeypatch.setattr(relays, "TIMEOUT_SECONDS", 120.0)
    asks = threading.Thread(target=relay.read, args=("/overview",))
    asks.start()
    wait_until(lambda: silent.taken == 2)
    assert relay.read("/history", model="m").away
    assert asks.is_alive(), "it waited for the question"
    silent.hang_up()
    asks.join(60)
    assert silent.taken == 2


def test_a_watcher_that_speaks_again_is_heard(
    silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(relays, "AWAY_SECONDS", 0.0)
    relay = Relay(silent.url, lambda: "")
    assert relay.read("/overview").away
    silent.speaks = True
    monkeypatch.setattr(relays, "FRESH_SECONDS", 1e9)
    monkeypatch.setattr(relays, "TIMEOUT_SECONDS", 30.0)
    assert relay.read("/overview") == (200, b"{}", relay.read("/overview").seen_at, "")


def test_a_watcher_that_speaks_a_byte_at_a_time_is_away(
    silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent.speaks, silent.trickles = True, True
    monkeypatch.setattr(relays, "TIMEOUT_SECONDS", 1.0)
    assert "no answer within" in Relay(silent.url, lambda: "").read("/overview").away


def test_an_answer_is_as_old_as_its_end_not_as_its_question(
    fake: FakeWatcher, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=1e6, time=time.time)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(relays, "time", clock)
    ask = relay._ask

    def ask_slowly(*args: Any) -> Any:
        clock.now += 1.9
        return ask(*args)

    monkeypatch.setattr(relay, "_ask", ask_slowly)
    for _ in range(5):
        assert relay.read("/overview").status == 200
    assert len(fake.asked) == 1


def test_a_broken_answer_at_one_address_leaves_the_others(fake: FakeWatcher, relay: Relay) -> None:
    fake.answer = (500, "application/json", b"{}")
    assert relay.read("/history", model="m").away
    fake.answer = (200, "application/json", b"{}")
    assert not relay.read("/overview").away


def test_what_is_kept_is_bounded_by_bytes_and_by_number(
    fake: FakeWatcher, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.answer = (200, "application/json", b"x" * 700_000)
    relay.read("/overview")
    for k in range(12):
        relay.read("/jobs/{}", f"made-up-{k}")
    sizes = {address: shelf.size for address, shelf in relay._shelves.items()}
    assert max(sizes.values()) <= relays.KEPT_BYTES
    assert sum(sizes.values()) < 4 * 700_000
    monkeypatch.setattr(relays, "KEPT", 4)
    fake.answer = (404, "application/json", b"{}")
    for k in range(12):
        relay.read("/jobs/{}", f"none-{k}")
    assert relay._shelves["/jobs/{}"].size == sum(len(f"/jobs/none-{k}") + 2 for k in range(8, 12))
    fake.close()
    monkeypatch.setattr(relays, "FRESH_SECONDS", 0.0)
    assert len(relay.read("/overview").body) == 700_000, "names pushed the overview out"


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
