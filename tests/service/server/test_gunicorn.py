"""What only real processes show: kills, reloads, draining, sums over workers."""

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests

from models.versions.registry import Registry
from models.versions.runner import Runner
from tests import bundles
from tests.service.processes import Running, load, running, wait_until

PREDICTIONS = "holdfast_predictions_total"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    state = tmp_path_factory.mktemp("state")
    bundles.publish(state / "registry")
    options = {
        "max_body_bytes": 2**20,
        "header_timeout_seconds": 3,
        "feedback_wait_seconds": 4,
        "drain_seconds": 0.2,
    }
    with running(state, threads=2, **options) as found:
        yield found


def predict(server: Running, count: int = 1) -> None:
    body = {"instances": bundles.digits().test.x[:1].tolist()}
    for _ in range(count):
        assert requests.post(f"{server.url}/predict", json=body, timeout=120).status_code == 200


def predictions(server: Running) -> float:
    return server.total(PREDICTIONS)


def test_metrics_are_the_sum_over_the_workers(server: Running) -> None:
    before = predictions(server)
    with load(server.url, keep=False) as seen:
        wait_until(lambda: len(seen.answers) >= 100)
    assert not seen.broken
    server.wait_until_total(before + len(seen.answers), PREDICTIONS)


def test_a_killed_worker_costs_at_most_what_it_held(server: Running) -> None:
    before, clients = predictions(server), 4
    with load(server.url, clients) as seen:
        wait_until(lambda: len(seen.answers) >= 50)
        workers = server.workers
        os.kill(min(workers), signal.SIGKILL)
        wait_until(lambda: len(server.workers - workers) == 1 and len(server.workers) == 2)
        after_kill = len(seen.answers)
        wait_until(lambda: len(seen.answers) >= after_kill + 200)
    assert not seen.refused
    assert len(seen.broken) <= clients
    wait_until(lambda: "model_loaded" in server.log.rpartition("SIGKILL")[2])
    counted = predictions(server) - before
    # Those of its last 50 ms, and a request that was answered to nobody.
    assert len(seen.answers) - 50 <= counted <= len(seen.answers) + clients


def test_counters_never_fall_and_files_stay_few_over_many_kills(server: Running) -> None:
    last = predictions(server)
    for _ in range(5):
        workers = server.workers
        os.kill(min(workers), signal.SIGKILL)
        wait_until(lambda old=workers: len(server.workers - old) == 1)
        predict(server, 2)
        last += 2
        server.wait_until_total(last, PREDICTIONS)
    files = list((server.state / "run" / "metrics").glob("*.db"))
    assert len(files) <= 3 * 3  # counter, gauge, histogram; a slot more while one was dying


def test_new_workers_on_hup_take_over_without_a_lost_request_or_count(server: Running) -> None:
    before, old = predictions(server), server.workers
    with load(server.url, keep=False) as seen:
        wait_until(lambda: len(seen.answers) >= 30)
        server.signal(signal.SIGHUP)
        wait_until(lambda: len(server.workers) == 2 and not server.workers & old)
        after = len(seen.answers)
        wait_until(lambda: len(seen.answers) >= after + 30)
    assert (seen.broken, seen.refused) == ([], [])
    server.wait_until_total(before + len(seen.answers), PREDICTIONS)
    lines = server.log.rpartition("Handling signal: hup")[2].splitlines()
    loaded = [number for number, line in enumerate(lines) if "model_loaded" in line]
    ended = next(number for number, line in enumerate(lines) if "Worker exiting" in line)
    assert len([number for number in loaded if number < ended]) >= 2  # successors come first


def test_the_champion_is_replaced_under_load_and_every_answer_is_of_its_version(
    server: Running,
) -> None:
    registry = Registry(server.state / "registry")
    first = registry.aliases("digits").champion
    assert first is not None
    with load(server.url) as seen:
        wait_until(lambda: len(seen.answers) >= 50)
        second = bundles.publish(registry.root, bend=0.5)
        wait_until(lambda: len(seen.answers) > 0 and seen.answers[-1]["version"] == second)
        wait_until(lambda: all(a["version"] == second for a in seen.answers[-40:]))
    assert (seen.broken, seen.refused) == ([], [])
    x = bundles.digits().test.x[:20]
    truth = {
        version: Runner(registry.open("digits", str(version))).run(x[:20])
        for version in (first, second)
    }
    assert {answer["version"] for answer in seen.answers} == {first, second}
    for answer in seen.answers:
        row, got = answer["row"], answer["predictions"][0]
        expected = truth[answer["version"]]
        np.testing.assert_allclose(got["probabilities"], expected.probabilities[row], atol=1e-6)
        assert got["perturbation"]["likelihood"] == pytest.approx(
            float(expected.perturbation_likelihood[row]), abs=1e-5
        )


def test_a_damaged_bundle_is_refused_loudly_and_the_old_one_serves_on(server: Running) -> None:
    registry = Registry(server.state / "registry")
    champion = registry.aliases("digits").champion
    with load(server.url) as seen:
        version = bundles.publish(registry.root, promote=False)
        path = registry.path("digits", version) / "model.onnx"
        whole = path.read_bytes()
        registry_promote(registry, version, champion)
        wait_until(lambda: seen.answers[-1:] and seen.answers[-1]["version"] == version)
        registry_promote(registry, int(champion or 0), version)
        wait_until(lambda: all(a["version"] == champion for a in seen.answers[-40:]))
        # Promotion verifies, so the damage comes between the promotion and the look at it: the
        # alias is moved by hand to a version whose file is truncated.
        os.truncate(path, 1000)
        aliases = registry.root / "digits" / "aliases.json"
        text = aliases.read_text()
        moved = aliases.with_name("moved")
        moved.write_text(re.sub(r'"champion":\d+', f'"champion":{version}', text))
        moved.replace(aliases)  # whole at once, as the registry does it
        failures = "holdfast_model_reload_failures_total"
        # Once per worker, and again after a pause that doubles (`test_reload.py`).
        wait_until(lambda: server.total(failures, model="digits") >= 2)
        after = len(seen.answers)
        wait_until(lambda: len(seen.answers) >= after + 40)
        assert {answer["version"] for answer in seen.answers[after:]} == {champion}
        path.write_bytes(whole)
        aliases.write_text(text)
    assert (seen.broken, seen.refused) == ([], [])
    line = next(line for line in server.log.splitlines() if "model_refused" in line)
    assert "model.onnx" in line
    assert f'"serving": {champion}' in line


def registry_promote(registry: Registry, version: int, expected: int | None) -> None:
    registry.promote("digits", version, expected=expected, actor="test", reason="test")


def exchange(server: Running, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send parts over a connection of their own and read all that comes back."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as link:
        for part in parts:
            link.sendall(part)
            time.sleep(pause)
        link.shutdown(socket.SHUT_WR)
        received = b""
        try:
            while piece := link.recv(65536):
                received += piece
        except ConnectionResetError:
            pass
        return received


PROBLEM = {"type", "title", "status", "detail"}
HEAD = (
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Connection: close\r\n"
)


def test_a_chunked_body_is_read_and_one_over_the_limit_is_413(server: Running) -> None:
    body = json.dumps({"instances": bundles.digits().test.x[:1].tolist()}).encode()
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    assert b" 200 OK" in exchange(server, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    large = b" " * (2**20 + 1)
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(large), large)
    answer = exchange(server, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert b" 413 " in answer
    assert b"problem+json" in answer


def test_an_ordinary_client_that_sends_too_much_sees_the_413(server: Running) -> None:
    for body in (b" " * (3 * 2**20), iter([b" " * 2**20] * 3)):
        answer = requests.post(
            f"{server.url}/predict",
            data=body,
            headers={"Content-Type": "application/json"},
            timeout=120,
        )
        assert answer.status_code == 413
        assert "1048576" in answer.json()["detail"]


@pytest.mark.parametrize(
    "rest",
    [
        b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b"Content-Length: 100\r\n\r\n{}",
        b"Content-Length: -1\r\n\r\n{}",
        b"Content-Length: ten\r\n\r\n{}",
        b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n{}",
        b"\r\n",
        b"X-Request-Id: a\x00b\r\n\r\n",
    ],
)
def test_a_broken_request_is_no_5xx_and_the_worker_lives(server: Running, rest: bytes) -> None:
    workers = server.workers
    answer = exchange(server, HEAD + rest)
    assert not answer.startswith(b"HTTP/1.1 5")
    predict(server)
    assert server.workers == workers


@pytest.mark.parametrize(
    ("rest", "status"),
    [
        (b" HTTP/1.1\r\nHo", 408),
        (b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048577\r\n\r\n", 413),
        (b" HTTP/1.1\r\nA: " + b"a" * 40_000, 431),
        (b"/" + b"a" * 40_000, 414),
        (b" HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", 400),
        (b" HTTP/7.0\r\n\r\n", 400),
    ],
)
def test_what_never_reaches_the_application_is_answered_in_the_dialect_of_its_path(
    server: Running, rest: bytes, status: int
) -> None:
    for path, members in ((b"/v2/models/digits/infer", {"error"}), (b"/predict", PROBLEM)):
        with socket.create_connection(("127.0.0.1", server.port), timeout=120) as link:
            link.sendall(b"POST " + path + rest)
            with link.makefile("rb") as stream:
                head, _, document = stream.read().partition(b"\r\n\r\n")
        assert int(head.split()[1]) == status
        assert b"\r\nconnection: close" in head
        assert json.loads(document).keys() == members


def test_feedback_that_waits_keeps_no_prediction_waiting(server: Running) -> None:
    row = {"instances": bundles.digits().test.x[:1].tolist()}
    with requests.Session() as session:
        for _ in range(4):
            session.post(f"{server.url}/predict", json=row, timeout=120)
        label = {"json": {"id": "unknown", "label": "1"}, "timeout": 120}
        waiting = [
            threading.Thread(target=requests.post, args=(f"{server.url}/feedback",), kwargs=label)
            for _ in range(8)  # more than all threads of both workers
        ]
        for thread in waiting:
            thread.start()
        time.sleep(0.3)
        assert session.post(f"{server.url}/predict", json=row, timeout=120).status_code == 200
        assert all(thread.is_alive() for thread in waiting)
        for thread in waiting:
            thread.join()


def test_a_worker_may_open_as_many_files_as_the_system_allows(server: Running) -> None:
    for worker in server.workers:
        limits = Path(f"/proc/{worker}/limits").read_text()
        line = next(line for line in limits.splitlines() if line.startswith("Max open files"))
        soft, hard = line.split()[3:5]
        assert soft == hard


def test_feedback_finds_the_record_whichever_worker_answers(server: Running) -> None:
    body = {"instances": bundles.digits().test.x[:1].tolist()}
    for index in range(30):
        headers = {"X-Request-Id": f"feedback-{index}", "Connection": "close"}
        asked = requests.post(f"{server.url}/predict", json=body, headers=headers, timeout=120)
        label = {"id": asked.json()["id"], "label": "1"}
        answer = requests.post(
            f"{server.url}/feedback", json=label, headers={"Connection": "close"}, timeout=120
        )
        assert answer.status_code == 200, answer.text


def test_no_internal_error_was_logged(server: Running) -> None:
    assert "internal_error" not in server.log
    assert "Traceback" not in server.log


def test_a_second_service_on_the_same_state_refuses_to_start(server: Running) -> None:
    with pytest.raises(AssertionError, match="ended"), running(server.state):
        pass
    predict(server)


def test_sigterm_answers_what_has_begun_and_keeps_its_records(tmp_path: Path) -> None:
    bundles.publish(tmp_path / "registry")
    body = json.dumps({"instances": bundles.digits().test.x[:1].tolist()}).encode()
    head = HEAD + b"X-Request-Id: last\r\nContent-Length: %d\r\n\r\n" % len(body)
    with running(tmp_path) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=120) as link:
            link.sendall(head + body[:50])
            time.sleep(1)  # nothing tells that a worker has begun to read
            server.signal(signal.SIGTERM)
            time.sleep(0.3)
            link.sendall(body[50:])
            received = link.recv(65536)
        assert b" 200 OK" in received
        assert server.process.wait(120) == 0
    from monitoring.records.store import Key, RecordStore

    store = RecordStore(f"sqlite:///{tmp_path}/records.sqlite")
    assert store.find([Key("last", 0)])
    store.close()
