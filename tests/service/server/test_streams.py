"""The running service and the running watcher: any stream of requests, however it is cut."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import bundles
from tests.ops import free_port
from tests.service.processes import running
from tests.waiting import wait_until

PATIENCE = 120.0
SMUGGLED = b"GET /v1/models/SMUGGLED HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


class Kind(NamedTuple):
    """A request that is asked for, and the status that answers it."""

    method: str
    path: str
    status: int
    body: bytes = b""


def feedback(size: int) -> bytes:
    return (SMUGGLED * (size // len(SMUGGLED) + 1))[:size]


ROW = json.dumps({"instances": [[[[0, 4, 16, 16, 3, 0, 0, 0]] * 8]]}).encode()
KINDS = {
    "service": (
        Kind("POST", "/predict", 200, ROW),
        Kind("POST", "/v1/models/digits:predict", 200, ROW + b" " * 70_000),
        Kind("POST", "/feedback", 400, feedback(50_000)),
        Kind("POST", "/feedback", 400, feedback(200)),
        Kind("GET", "/healthz", 200),
        Kind("GET", "/nowhere", 404),
        Kind("POST", "/predict", 400, feedback(100_000)),
    ),
    "watcher": (
        Kind("GET", "/healthz", 200),
        Kind("GET", "/jobs/none", 404),
        Kind("POST", "/alerts", 401, feedback(100)),
        Kind("POST", "/jobs", 401, feedback(80_000)),
        Kind("GET", "/nowhere", 404),
    ),
}


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("state")
    bundles.publish(made / "registry")
    return made


@pytest.fixture(scope="module")
def ports(state: Path) -> Iterator[dict[str, int]]:
    with running(state, feedback_wait_seconds=0) as service, watching(state, service.url) as watch:
        yield {"service": service.port, "watcher": watch}


@contextmanager
def watching(state: Path, service_url: str) -> Iterator[int]:
    port = free_port()
    given = {"STATE": str(state), "WATCH_PORT": str(port), "SERVICE_URL": service_url}
    env = os.environ | {f"HOLDFAST_{name}": value for name, value in given.items()}
    with (state / "watcher.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.watch_conf"], env=env, stdout=log, stderr=log
        )
    try:
        wait_until(lambda: process.poll() is None and answers(port), PATIENCE)
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE)


def answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/healthz", timeout=5).status_code == 200
    except requests.RequestException:
        return False


def bytes_of(kind: Kind) -> bytes:
    head = f"{kind.method} {kind.path} HTTP/1.1\r\nHost: localhost\r\n"
    if kind.method == "POST":
        head += f"Content-Type: application/json\r\nContent-Length: {len(kind.body)}\r\n"
    return head.encode() + b"\r\n" + kind.body


def statuses(link: socket.socket, count: int) -> list[int]:
    found = []
    with link.makefile("rb") as stream:
        for _ in range(count):
            line = stream.readline()
            if not line:
                break
            length = 0
            while (header := stream.readline().strip()) != b"":
                name, _, value = header.partition(b":")
                if name == b"content-length":
                    length = int(value)
            stream.read(length)
            found.append(int(line.split()[1]))
    return found


PIPELINES = st.lists(st.integers(0, 6), min_size=1, max_size=7)


@pytest.mark.parametrize("name", sorted(KINDS))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(picks=PIPELINES, cuts=st.lists(st.integers(0, 2**18), max_size=5), half=st.booleans())
def test_any_cut_of_any_pipeline_is_answered_once_each_and_in_order(
    ports: dict[str, int], name: str, picks: list[int], cuts: list[int], half: bool
) -> None:
    asked = [KINDS[name][pick % len(KINDS[name])] for pick in picks]
    stream = b"".join(map(bytes_of, asked))
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    with socket.create_connection(("127.0.0.1", ports[name]), timeout=PATIENCE) as link:
        for start, end in pairwise(places):
            link.sendall(stream[start:end])
            time.sleep(0.001)
        if half:
            link.shutdown(socket.SHUT_WR)
        assert statuses(link, len(asked)) == [kind.status for kind in asked]


@pytest.mark.parametrize("name", sorted(KINDS))
def test_text_in_a_body_at_any_boundary_is_no_request(ports: dict[str, int], name: str) -> None:
    kinds = KINDS[name]
    small, large = kinds[0], next(k for k in kinds if k.status in (400, 401))
    for boundary in (1 << 14, 1 << 16, 1 << 17, 1 << 18):
        stream = bytes_of(small) * 20
        empty = large._replace(body=b"")
        size = boundary - len(stream) - len(bytes_of(empty)) - 10
        body = b" " * size + b" " * 10 + SMUGGLED
        stream += bytes_of(large._replace(body=body))
        with socket.create_connection(("127.0.0.1", ports[name]), timeout=PATIENCE) as link:
            link.sendall(stream)
            link.shutdown(socket.SHUT_WR)
            assert statuses(link, 30) == [small.status] * 20 + [large.status]


@pytest.mark.parametrize("name", sorted(KINDS))
def test_half_sent_heads_do_not_stop_others(ports: dict[str, int], name: str) -> None:
    with ExitStack() as stack:
        for _ in range(200):
            link = socket.create_connection(("127.0.0.1", ports[name]), timeout=PATIENCE)
            stack.enter_context(link).sendall(b"GET /me")
        answer = requests.get(f"http://127.0.0.1:{ports[name]}/metrics", timeout=PATIENCE)
        assert answer.status_code == 200


@pytest.mark.parametrize("name", sorted(KINDS))
@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/metrics", 200),
        ("//metrics", 404),
        ("/%6detrics", 404),
        ("/metrics/", 404),
        ("/./metrics", 404),
        ("/metrics?a=%41", 200),
        ("http://localhost/metrics", 200),
        ("http://elsewhere/metrics", 400),
        ("/metrics#a", 400),
        ("/metrics;a", 404),
        ("*", 400),
        ("metrics", 400),
    ],
)
def test_an_address_has_one_spelling(
    ports: dict[str, int], name: str, target: str, status: int
) -> None:
    with socket.create_connection(("127.0.0.1", ports[name]), timeout=PATIENCE) as link:
        link.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        link.shutdown(socket.SHUT_WR)
        assert statuses(link, 2) == [status]


def test_errors_are_in_the_dialect_of_the_address(ports: dict[str, int]) -> None:
    for path, member in (("/v2/health/ready/", "error"), ("/v1//models", "error"), ("/x", "title")):
        answer = requests.get(f"http://127.0.0.1:{ports['service']}{path}", timeout=PATIENCE)
        assert answer.status_code == 404
        assert member in answer.json()
