import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from models.base import logs
from service.web.access_log import AccessLog, Level
from service.web.reply import Reply
from tests import bundles
from tests.asgi import client_of
from tests.ops import free_port
from tests.service.conftest import MakeApp
from tests.service.processes import wait_until


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    kept: list[bytes] = []
    with monkeypatch.context() as patch:
        patch.setattr(logs, "write", kept.append)
        yield kept


def test_a_line_says_what_was_asked_and_what_came_of_it(written: list[bytes]) -> None:
    reply = Reply(b"a secret", 200, id="01J", model="digits", version=3)
    AccessLog("all").write("/v2/models/<model>/infer", "POST", reply, 0.0012345)
    (line,) = written
    found = json.loads(line)
    assert found.pop("timestamp").endswith("Z")
    assert found == {
        "component": "http", "event": "request", "level": "info", "code": 200, "duration_ms": 1.234,
        "route": "/v2/models/<model>/infer", "method": "POST", "id": "01J", "model": "digits",
        "version": 3,
    }  # fmt: skip
    assert line.endswith(b"}\n")


@pytest.mark.parametrize(
    ("level", "codes"), [("off", []), ("errors", [404, 503]), ("all", [200, 404, 503])]
)
def test_the_level_says_which_requests_are_logged(
    level: Level, codes: list[int], written: list[bytes]
) -> None:
    log = AccessLog(level)
    for code in (200, 404, 503):
        log.write("/predict", "POST", Reply(b"", code), 0.001)
    assert [json.loads(line)["code"] for line in written] == codes


def test_the_severity_follows_the_status(written: list[bytes]) -> None:
    for code in (200, 409, 503):
        AccessLog("all").write("/predict", "POST", Reply(b"", code), 0.001)
    assert [json.loads(line)["level"] for line in written] == ["info", "warning", "error"]


@given(st.text(), st.text(), st.text(max_size=300))
def test_whatever_a_client_sends_is_one_line_of_ascii(method: str, name: str, model: str) -> None:
    kept: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "write", kept.append)
        reply: Any = Reply(b"", 404, id=name, model=model)
        AccessLog("all").write("unmatched", method, reply, 0.001)
    (line,) = kept
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert len(line) < 1800
    json.loads(line)


def test_no_line_of_a_request_holds_what_was_sent(
    make_app: MakeApp, published_state: Path, rows: Any, written: list[bytes]
) -> None:
    client = client_of(make_app(published_state, access_log="all"))
    secret = {"Authorization": "Bearer s3cret", "X-Request-Id": "order-7", "Cookie": "s3cret"}
    body = {"instances": rows[:1].tolist(), "note": "s3cret"}
    assert client.post("/predict?model=digits", json=body, headers=secret).status_code in (200, 400)
    body.pop("note")
    assert client.post("/predict?model=digits", json=body, headers=secret).status_code == 200
    assert client.get("/s3cret?key=s3cret", headers=secret).status_code == 404
    assert client.post("/v2/models/s3cret/infer", data=b"s3cret").status_code in (400, 404)
    found = [json.loads(line) for line in written]
    assert [line["route"] for line in found] == [
        "/predict", "/predict", "unmatched", "/v2/models/<model>/infer",
    ]  # fmt: skip
    assert (found[1]["id"], found[1]["model"], found[1]["version"]) == ("order-7", "digits", 1)
    assert b"s3cret" not in b"".join(written)
    assert str(rows[0].tolist()).encode() not in b"".join(written)


@pytest.mark.slow
def test_a_log_that_nobody_reads_stops_neither_predictions_nor_the_end_of_the_service(
    tmp_path: Path, rows: Any
) -> None:
    bundles.publish(tmp_path / "registry")
    port = free_port()
    env = {"HOLDFAST_STATE": str(tmp_path), "HOLDFAST_PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, "-m", "service.gunicorn_conf"],
        env={**os.environ, **env, "HOLDFAST_ACCESS_LOG": "all"}, stderr=subprocess.PIPE,
    )  # fmt: skip
    url, body = f"http://127.0.0.1:{port}", {"instances": rows[:1].tolist()}
    try:
        wait_until(lambda: answers(f"{url}/readyz"))
        with requests.Session() as session:
            for _ in range(1500):  # several times what the pipe holds
                assert session.post(f"{url}/predict", json=body, timeout=120).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def answers(url: str) -> bool:
    with suppress(requests.RequestException):
        return requests.get(url, timeout=120).status_code == 200
    return False
