"""Laws of reading services: what is wrong with one is named, and costs the others nothing."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from models.versions.registry import Registry
from monitoring.counting import counters
from tests.monitoring.watching.stage import (
    Answer,
    CountingService,
    Watching,
    listening,
    registry_of_three,
)
from tests.ops import free_port

HTML = "<!doctype html><title>Welcome to nginx</title>"
NODE_EXPORTER = "# TYPE node_load1 gauge\nnode_load1 0.5\n"


@contextmanager
def answering(*parts: bytes, pause: float = 0.0) -> Iterator[str]:
    """A socket that says these bytes, one after another, to everybody, and nothing else."""
    ended, threads = threading.Event(), []

    def run() -> None:
        while not ended.is_set():
            try:
                peer, _ = listener.accept()
            except TimeoutError:
                continue
            threads.append(threading.Thread(target=say, args=(peer,)))
            threads[-1].start()

    def say(peer: socket.socket) -> None:
        with peer:
            peer.recv(4096)
            for part in parts:
                try:
                    peer.sendall(part)
                except OSError:
                    return
                if ended.wait(pause):
                    return
            ended.wait(pause)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        threads.append(threading.Thread(target=run))
        threads[0].start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        ended.set()
        for thread in threads:
            thread.join()


@pytest.fixture
def counting(tmp_path: Path) -> CountingService:
    return CountingService(registry_of_three(tmp_path))


def begun(tmp_path: Path, *urls: str) -> Watching:
    watching = Watching(tmp_path, *urls)
    watching.tick()
    return watching


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n"
WRONG = {
    "html": (lambda s: s.says(HTML), "not_metrics"),
    "empty": (lambda s: s.says(""), "not_metrics"),
    "blank": (lambda s: s.says("\n\n"), "not_metrics"),
    "another exporter": (lambda s: s.says(NODE_EXPORTER), "not_metrics"),
    "the watcher's own page": (
        lambda s: s.says("# TYPE holdfast_drift_alarm gauge\nholdfast_drift_alarm 0\n"),
        "not_metrics",
    ),
    "no text": (lambda s: s.says(b"\xff\xfe\x00"), "not_metrics"),
    "404": (lambda s: s.says("not found", 404), "status"),
    "500": (lambda s: s.says("oh", 500), "status"),
    "401": (lambda s: s.says("", 401), "status"),
    "redirect": (lambda s: s.says("", 302, Location="http://127.0.0.1:9/login?x=1"), "redirect"),
    "redirect to itself": (lambda s: s.says("", 301, Location="/metrics"), "redirect"),
    "cut": (lambda s: s.says("holdfast_", Content_Length="100"), "not_metrics"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_service_is_named_and_the_others_count(
    case: str, counting: CountingService, tmp_path: Path
) -> None:
    spoil, reason = WRONG[case]
    wrong = CountingService(counting_registry(tmp_path))
    spoil(wrong)
    with listening(counting) as good, listening(wrong) as bad:
        watching = begun(tmp_path, good, bad)
        since = watching.now
        with capture_logs() as logged:
            for _ in range(3):
                counting.serve(watching.registry.open("alpha"), 40)
                watching.tick()
        assert watching.services() == {good: "ok", bad: reason}
        (state,) = (s for s in watching.row("alpha")["services"] if s["service"] == bad)
        assert state["since"] == since
        assert state["advice"]
        assert "x=1" not in state["detail"], "what may be secret is not repeated"
        assert [line for line in logged if line["event"] == "service_unread"] == [], "said once"
        assert watching.requests("alpha") == 120
        assert watching.sample("holdfast_watch_service_up", service=bad) == 0
        assert watching.sample("holdfast_watch_service_up", service=good) == 1
        labels = {"service": bad, "reason": reason}
        assert watching.sample("holdfast_watch_service_failures_total", **labels) == 4
        wrong.answer = wrong.exposition
        watching.tick()
        assert watching.services()[bad] == "ok"
        assert watching.sample("holdfast_watch_service_up", service=bad) == 1
        watching.close()


def counting_registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def test_one_that_is_not_there_is_refused(counting: CountingService, tmp_path: Path) -> None:
    with listening(counting) as good:
        bad = f"http://127.0.0.1:{free_port()}"
        watching = begun(tmp_path, good, bad)
        counting.serve(watching.registry.open("beta"), 40)
        watching.tick()
        assert watching.services() == {good: "ok", bad: "refused"}
        assert watching.requests("beta") == 40
        watching.close()


def test_what_is_no_http_is_not_metrics(counting: CountingService, tmp_path: Path) -> None:
    with listening(counting) as good, answering(b"SSH-2.0-OpenSSH_9.2\r\n") as bad:
        watching = begun(tmp_path, good, bad)
        assert watching.services() == {good: "ok", bad: "not_metrics"}
        watching.close()


def test_forty_slow_services_take_the_time_of_one(
    counting: CountingService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One never answers, one trickles for ever: in turn they would take forty times the bound."""
    monkeypatch.setattr(counters, "TIMEOUT", 1.0)
    monkeypatch.setattr(counters.fetch, "__defaults__", (1.0,))
    with (
        listening(counting) as good,
        answering(pause=600.0) as silent,
        answering(HEAD, *[b"#"] * 90, pause=0.1) as trickling,
    ):
        urls = [f"{url}/{k}" for k in range(20) for url in (silent, trickling)]
        watching = begun(tmp_path, good, *urls)
        counting.serve(watching.registry.open("alpha"), 40)
        began = time.monotonic()
        watching.tick()
        assert time.monotonic() - began < 30 * counters.TIMEOUT, "not one after another"
        assert watching.services() == {good: "ok"} | dict.fromkeys(urls, "timeout")
        assert watching.requests("alpha") == 40
        watching.close()


def test_a_service_that_was_restarted_counts_from_zero(
    counting: CountingService, tmp_path: Path
) -> None:
    with listening(counting) as url:
        watching = begun(tmp_path, url)
        alpha = watching.registry.open("alpha")
        counting.serve(alpha, 200)
        watching.tick()
        fresh = CountingService(watching.registry, loaded_at=2000.0)
        fresh.serve(alpha, 30)
        counting.answer = fresh.exposition
        watching.tick()
        assert watching.services() == {url: "ok"}
        assert watching.requests("alpha") == 230
        watching.close()


def test_two_services_behind_one_address_are_named_and_not_weighed(
    counting: CountingService, tmp_path: Path
) -> None:
    """Their counters rise and fall by turns: each fall would count the whole past again."""
    other = CountingService(counting_registry(tmp_path), loaded_at=1500.0)
    alpha = counting_registry(tmp_path).open("alpha")
    counting.serve(alpha, 5000)
    other.serve(alpha, 7000)
    turns = [counting.exposition, other.exposition]

    def by_turns() -> Answer:
        turns.reverse()
        return turns[0]()

    balancer = CountingService(counting_registry(tmp_path))
    balancer.answer = by_turns
    with listening(balancer) as url:
        watching = begun(tmp_path, url)
        for _ in range(20):
            counting.serve(alpha, 5)
            other.serve(alpha, 5)
            watching.tick()
        assert watching.services() == {url: "backwards"}
        assert watching.sample("holdfast_watch_service_up", service=url) == 0
        assert watching.row("alpha")["alarm"] is None
        assert watching.requests("alpha") < 10_000, "at most one change of turns is believed"
        balancer.answer = other.exposition  # the address is mended
        watching.tick(15)
        assert watching.services() == {url: "ok"}
        seen = watching.requests("alpha")
        other.serve(alpha, 50)
        watching.tick()
        assert watching.requests("alpha") == seen + 50
        watching.close()


@pytest.mark.parametrize(
    "value", ["NaN", "1e400", "+Inf", "-3", "-Inf", "1e300", "0x7", "seven", "9007199254740994"]
)
def test_a_value_that_is_no_count_is_named_and_its_channel_waits(
    value: str, counting: CountingService, tmp_path: Path
) -> None:
    with listening(counting) as url:
        watching = begun(tmp_path, url)
        alpha = watching.registry.open("alpha")
        channel = alpha.manifest.channels[0].name
        counting.serve(alpha, 100)
        lines = counting.text().splitlines()
        (at,) = (
            k
            for k, line in enumerate(lines)
            if f'cell="01",channel="{channel}",model="alpha"' in line and "_total" in line
        )
        lines[at] = f"{lines[at].rpartition(' ')[0]} {value}"
        counting.says("\n".join(lines) + "\n")
        watching.tick()
        assert watching.problems("alpha") == {"counters_refused"}
        assert channel in watching.row("alpha")["problems"][0]["detail"]
        assert watching.problems("beta") == set()
        assert watching.row("alpha")["alarm"] is None
        counting.answer = counting.exposition
        watching.tick()
        assert watching.problems("alpha") == set()
        stream = watching.watcher.streams["alpha"]
        counted = {name: each.requests for name, each in stream.evidence._channels.items()}
        assert set(counted.values()) == {100}, "the channel has caught up"
        watching.close()


def test_a_page_without_some_of_its_series_counts_them_once(
    counting: CountingService, tmp_path: Path
) -> None:
    with listening(counting) as url:
        watching = begun(tmp_path, url)
        alpha = watching.registry.open("alpha")
        for _ in range(5):
            counting.serve(alpha, 100)
            lines = counting.text().splitlines()
            counting.says("\n".join(lines[: 2 * len(lines) // 3]) + "\n")
            watching.tick()
            counting.answer = counting.exposition
            watching.tick()
        stream = watching.watcher.streams["alpha"]
        assert {c.requests for c in stream.evidence._channels.values()} == {500}
        assert stream.evidence.alarm is None
        watching.close()


def test_a_jump_that_no_traffic_makes_is_left_out(
    counting: CountingService, tmp_path: Path
) -> None:
    with listening(counting) as url:
        watching = begun(tmp_path, url)
        alpha = watching.registry.open("alpha")
        name = alpha.manifest.channels[0].name
        counting.cells.labels("alpha", "1", name, "00").inc(4e15)
        counting.serve(alpha, 20)
        watching.tick()
        assert watching.problems("alpha") == {"counters_refused"}
        assert watching.row("alpha")["alarm"] is None
        counting.serve(alpha, 20)
        watching.tick()
        assert watching.problems("alpha") == set()
        assert watching.requests("alpha") == 40
        watching.close()
