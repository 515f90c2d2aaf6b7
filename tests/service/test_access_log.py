import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring import logs
from service.access_log import AccessLog, Level
from service.call import Reply


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
