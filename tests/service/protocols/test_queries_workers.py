"""Query attacks on real workers: shared, through kills and reloads, across versions."""

import os
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import requests

from models.versions.registry import Registry
from tests import bundles
from tests.service.processes import Running, running, wait_until

PROXY = {"trusted_proxies": "127.0.0.1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    state = tmp_path_factory.mktemp("state")
    bundles.publish(state / "registry")
    with running(state, **PROXY) as found:
        yield found


class Attacker:
    """Asks one digit over and over, each time a little changed, on a new connection each.

    It has an address of its own behind the proxy that this machine is to the service.
    """

    addresses = count(1)

    def __init__(self, server: Running) -> None:
        self.server, self._asked = server, 0
        self.address = f"192.0.2.{next(self.addresses)}"

    def asks(self, count: int = 1) -> list[dict[str, Any]]:
        found = []
        for _ in range(count):
            x = bundles.digits().test.x[:1].copy()
            x[0, 0, 0, 0] = 1e-3 * self._asked
            self._asked += 1
            answer = requests.post(
                f"{self.server.url}/predict",
                json={"instances": x.tolist()},
                headers={"X-Forwarded-For": self.address, "Connection": "close"},
                timeout=120,
            )
            assert answer.status_code == 200
            found.append({**answer.json()["predictions"][0]["query"], **answer.json()})
        return found


def test_workers_count_one_clients_queries_together(server: Running) -> None:
    found = Attacker(server).asks(12)
    assert [f["near"] for f in found] == list(range(12))
    assert [f["flagged"] for f in found] == [k >= 3 for k in range(12)]
    server.wait_until_total(9, "holdfast_flagged_total", kind="query")


def test_detection_goes_on_when_workers_are_killed_under_attack(server: Running) -> None:
    attacker = Attacker(server)
    assert [f["near"] for f in attacker.asks(5)] == [0, 1, 2, 3, 4]
    for _ in range(2):
        workers = server.workers
        os.kill(max(workers), signal.SIGKILL)
        wait_until(lambda old=workers: len(server.workers) == 2 and server.workers != old)
        assert all(f["flagged"] for f in attacker.asks(8))


def test_detection_goes_on_through_a_reload_of_the_workers(server: Running) -> None:
    attacker, old = Attacker(server), server.workers
    attacker.asks(3)
    server.signal(signal.SIGHUP)
    wait_until(lambda: len(server.workers) == 2 and not server.workers & old)
    assert [f["near"] for f in attacker.asks(2)] == [3, 4]


def test_detection_goes_on_in_a_new_version_of_the_model(server: Running) -> None:
    attacker = Attacker(server)
    attacker.asks(3)
    version = bundles.publish(server.state / "registry", bend=0.5)

    def arrived() -> bool:
        lines = server.log.splitlines()
        return sum("model_loaded" in s and f'"version": {version}' in s for s in lines) == 2

    wait_until(arrived)
    found = attacker.asks(2)
    assert [f["near"] for f in found] == [3, 4]
    assert {f["version"] for f in found} == {version}
    assert Registry(server.state / "registry").aliases("digits").champion == version


def test_the_memory_is_made_anew_with_the_service_and_nobody_is_named_in_the_log(
    tmp_path: Path,
) -> None:
    bundles.publish(tmp_path / "registry")
    near = []
    for _ in range(2):
        with running(tmp_path, query_clients=3, **PROXY) as server:
            attacker = Attacker(server)
            near += [f["near"] for f in attacker.asks(2)]
            files = list((tmp_path / "run" / "metrics").glob("queries-*.map"))
            assert len(files) == 1
            assert attacker.address.encode() not in files[0].read_bytes()
            assert attacker.address not in server.log
    assert near == [0, 1, 0, 1]


def test_clients_beyond_the_bound_push_out_who_was_silent_longest(tmp_path: Path) -> None:
    bundles.publish(tmp_path / "registry")
    with running(tmp_path, query_clients=2, **PROXY) as server:
        a, b, c = (Attacker(server) for _ in range(3))
        a.asks(2), b.asks(2)
        assert a.asks()[0]["near"] == 2
        c.asks(1)
        assert a.asks()[0]["near"] == 3, "asked lately: kept"
        assert b.asks()[0]["near"] == 0, "silent longest: forgotten"
        server.wait_until_total(1, "holdfast_flagged_total", kind="query")
