"""The front: two ways to the same answer, and what holds for every answer."""

import asyncio
import json
import threading
from typing import Any

import pytest

from service.app import Application
from service.web.call import Call, Endpoint
from service.web.front import Front, RequestBounds
from service.web.reply import Reply
from tests import bundles
from tests.asgi import client_of
from tests.waiting import PATIENCE_SECONDS

ROW = {"instances": [[[[0.0] * 8] * 8]]}


class Open:
    """Admits everybody and keeps count of who is inside."""

    def __init__(self) -> None:
        self.inside = 0

    def enter(self, call: Call, scope: str) -> str:
        self.inside += 1
        return "somebody"

    def check(self, call: Call, scope: str) -> str:
        return "somebody"

    def leave(self, caller: str) -> None:
        self.inside -= 1


def front(
    handler: Any, body_bytes: int = 1000, **flags: Any
) -> tuple[Front, Open, list[tuple[str, str, int]]]:
    seen: list[tuple[str, str, int]] = []
    guard = Open()
    made = Front(
        [Endpoint("POST", "/a/<name>:go", handler, **flags)],
        guard,
        lambda rule, method, reply, seconds: seen.append((rule, method, reply.status)),
        RequestBounds(body_bytes),
    )
    return made, guard, seen


@pytest.mark.parametrize("path", ["/predict", "/v2/models/digits/infer", "/predict?model=none"])
def test_a_hot_endpoint_answers_the_same_through_flask(
    session_app: Application, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = bundles.digits().test.x[:2]
    tensor = {"name": "input", "shape": [2, 1, 8, 8], "datatype": "FP32", "data": x.tolist()}
    body = {"inputs": [tensor]} if "v2" in path else {"instances": x.tolist()}
    headers = {"X-Request-Id": "same", "Authorization": "Bearer same"}
    fast = client_of(session_app).post(path, json=body, headers=headers)
    with monkeypatch.context() as patch:
        patch.setattr(session_app.router, "match", lambda path, method: None)
        slow = client_of(session_app).post(path, json=body, headers=headers)
    assert fast.status_code == slow.status_code
    assert without_query(fast.json) == without_query(slow.json)
    assert fast.headers["Content-Type"] == slow.headers["Content-Type"]


def without_query(document: Any) -> Any:
    """The answer but for what the client asked before, which the first of two changes."""
    text = json.loads(json.dumps(document))
    for prediction in text.get("predictions", []):
        del prediction["query"]
    if "outputs" in text:
        text["outputs"] = [o for o in text["outputs"] if o["name"] != "query_flagged"]
    return text


@pytest.mark.parametrize("hot", [True, False])
def test_a_handler_that_fails_is_a_500_without_its_words_and_the_caller_leaves(hot: bool) -> None:
    def fails(call: Call, name: str) -> Reply:
        raise RuntimeError("secret")

    made, guard, seen = front(fails, hot=hot)
    answer = client_of(made).post("/a/b:go")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert guard.inside == 0
    assert seen == [("/a/<name>:go", "POST", 500)]


@pytest.mark.parametrize("hot", [True, False])
def test_arguments_of_the_rule_reach_the_handler(hot: bool) -> None:
    made, _, _ = front(lambda call, name: Reply(name.encode()), hot=hot)
    client = client_of(made)
    assert client.post("/a/b:go").data == b"b"
    assert client.post("/a/%C3%A9:go").status_code == 404
    assert client.post("/a/%62:go").status_code == 404
    assert client.post("//a/b:go").status_code == 404
    assert client.post("/a/b:go/").status_code == 404
    assert client.post("/a/b/c:go").status_code == 404
    assert client.get("/a/b:go").status_code == 405
    assert set(client.get("/a/b:go").headers["Allow"].split(", ")) == {"OPTIONS", "POST"}


def test_only_small_predictions_are_quick() -> None:
    made, _, _ = front(lambda call, name: Reply(b""), hot=True)

    def quick(kind: str, query: bytes, size: int) -> bool:
        scope = {"headers": [(b"content-type", kind.encode())], "query_string": query}
        return made.quick(Call(scope, 1, b"x" * size))

    assert quick("application/json", b"model=a", 10)
    assert not quick("application/json", b"", 2**20)
    assert not quick("image/png", b"", 10)
    assert not quick("multipart/form-data; boundary=a", b"", 10)
    assert not quick("application/json", b"resize=crop", 10)


def test_what_two_query_values_mean_is_asked() -> None:
    made, _, _ = front(lambda call, name: Reply((call.argument("q") or "").encode()), hot=True)
    client = client_of(made)
    assert client.post("/a/b:go?q=1").data == b"1"
    assert client.post("/a/b:go").data == b""
    assert client.post("/a/b:go?q=1&q=2").status_code == 400
    assert client.post("/a/b:go?" + "&".join(["q=1"] * 200)).status_code == 400


@pytest.mark.parametrize("hot", [True, False])
def test_a_relayed_call_that_is_cancelled_is_held_and_counted_until_it_is_answered(
    hot: bool,
) -> None:
    go_on = threading.Event()

    def waits(call: Call, name: str) -> Reply:
        assert go_on.wait(PATIENCE_SECONDS)
        return Reply(b"")

    made, guard, seen = front(waits, hot=hot, body_bytes=2**20)
    size, count = 2**19, 6  # beyond the quick ones; more than there are threads
    done: list[int] = []

    async def scene() -> None:
        endpoint = made.endpoints[0]
        tasks = []
        for _ in range(count):
            call = Call({"method": "POST", "path": "/a/b:go", "headers": [], "query_string": b""},
                        size, b"x" * size)  # fmt: skip
            one = made.relay(endpoint, call, {"name": "b"}, lambda: done.append(1))
            tasks.append(asyncio.ensure_future(one))
        while made.held.bytes < count * size:
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.cancelled() for task in tasks)
        assert made.held.bytes == count * size
        assert (seen, done) == ([], [])
        go_on.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(done) < count:
                await asyncio.sleep(0.01)
        assert made.held.bytes == guard.inside == 0
        assert seen == [("/a/<name>:go", "POST", 200)] * count

    asyncio.run(scene())
