"""How workers of a real service end: told first, answered to the last, quickly when asked."""

import signal
import socket
import time
from pathlib import Path

import pytest
import requests

from tests.service import campaign
from tests.service.processes import running, wait_until


def test_a_stopping_service_says_so_first_answers_all_it_accepted_and_resets_nobody(
    tmp_path: Path,
) -> None:
    truth = campaign.publish(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "draining").touch()  # one that was killed while it stopped left it behind
    with running(tmp_path, drain_seconds=5) as server:
        with (
            campaign.clients(server, truth, clients=2) as kept,
            campaign.clients(server, truth, clients=2, keep=False, pause=0.0) as new,
        ):
            new.wait(50)
            server.signal(signal.SIGTERM)
            wait_until(lambda: requests.get(f"{server.url}/readyz", timeout=120).status_code == 503)
            ready = requests.get(f"{server.url}/readyz", timeout=120)
            v2_ready = requests.get(f"{server.url}/v2/health/ready", timeout=120)
            row = truth.bodies[0]
            answer = wait_until(lambda: closing(f"{server.url}/predict", row))
            assert server.process.wait(120) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), timeout=120)
    assert (ready.status_code, ready.json()["status"]) == (503, "stopping")
    assert v2_ready.status_code == 503
    assert answer.status_code == 200
    for books in (kept.books, new.books):
        assert (books.failed, books.wrong, books.resets) == ([], 0, 0)


def closing(url: str, row: str) -> requests.Response | None:
    """The answer once it says that its connection ends; workers hear of it after the master."""
    answer = requests.post(url, data=row, timeout=120)
    return answer if answer.headers.get("Connection") == "close" else None


@pytest.mark.slow
def test_workers_are_replaced_after_their_requests_and_sigint_ends_at_once(tmp_path: Path) -> None:
    truth = campaign.publish(tmp_path)
    with running(tmp_path, max_requests=500, drain_seconds=60, grace_seconds=100) as server:
        first = server.workers
        with campaign.clients(server, truth, pause=0.005) as clients:
            wait_until(lambda: not server.workers & first)
            clients.wait(50)
        books = clients.books
        assert (books.failed, books.wrong, books.resets) == ([], 0, 0)
        began = time.monotonic()
        server.signal(signal.SIGINT)
        assert server.process.wait(120) == 0
        assert time.monotonic() - began < 60  # it has not drained
