"""Three models in one service of two workers: each with its own champion, fate and limits."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from models.versions.registry import Registry
from service.fleet.overrides import Repository
from tests import bundles
from tests.asgi import client_of
from tests.service.conftest import MakeApp
from tests.service.fleet.test_served_models import Waiting, damage
from tests.service.processes import Running, running, wait_until
from tests.waiting import PATIENCE_SECONDS

MODELS = "a", "b", "c"
X = bundles.digits().test.x


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    state = tmp_path_factory.mktemp("state")
    for name in ("a", "b", "b", "c"):
        bundles.publish(state / "registry", name)
    settings = {"models": "a,b@1,c", "model_limits": "a:rows=2", "workers": 2}
    with running(state, **settings) as found:
        yield found


def ask(server: Running, model: str, rows: int = 1, session: requests.Session | None = None) -> int:
    """The version that answered, or minus the status where none did."""
    body = {"instances": X[:rows].tolist()}
    headers = {} if session else {"Connection": "close"}  # the next call may reach another worker
    answer = (session or requests).post(
        f"{server.url}/predict?model={model}", json=body, headers=headers, timeout=120
    )
    return int(answer.json()["version"]) if answer.status_code == 200 else -answer.status_code


def everywhere(server: Running, model: str, outcome: int, times: int = 12) -> bool:
    """Whether so many calls in a row end so; with two workers both were asked."""
    return all(ask(server, model) == outcome for _ in range(times))


def readiness(server: Running) -> requests.Response:
    return requests.get(f"{server.url}/readyz", timeout=PATIENCE_SECONDS)


@contextmanager
def load(server: Running) -> Iterator[dict[str, list[int]]]:
    """A client of each model, for as long as the block lasts; what each saw."""
    seen: dict[str, list[int]] = {model: [] for model in MODELS}
    stop = threading.Event()

    def client(model: str) -> None:
        with requests.Session() as session:
            while not stop.is_set():
                seen[model].append(ask(server, model, session=session))

    threads = [threading.Thread(target=client, args=(model,)) for model in MODELS]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_each_answers_under_its_name_and_the_pinned_one_at_its_version(server: Running) -> None:
    assert Registry(server.state / "registry").aliases("b").champion == 2
    assert [ask(server, model) for model in MODELS] == [1, 1, 1]
    assert ask(server, "d") == -404
    nameless = requests.post(
        f"{server.url}/predict", json={"instances": X[:1].tolist()}, timeout=120
    )
    assert nameless.status_code == 400
    assert "expected one of a, b, c" in nameless.json()["detail"]
    ready = requests.get(f"{server.url}/readyz", timeout=120)
    assert ready.json()["models"] == {"a": 1, "b": 1, "c": 1}


def test_a_limit_holds_for_its_model_alone(server: Running) -> None:
    assert [ask(server, model, rows=3) for model in MODELS] == [-400, 1, 1]
    assert ask(server, "a", rows=2) == 1


def test_each_has_its_own_counters(server: Running) -> None:
    name = "holdfast_predictions_total"
    before = [server.total(name, model=model) for model in MODELS]
    for model, rows in zip(MODELS, (1, 2, 3), strict=True):
        ask(server, model, rows)
    for model, then, rows in zip(MODELS, before, (1, 2, 3), strict=True):
        server.wait_until_total(then + rows, name, model=model)


def test_one_is_swapped_while_the_others_serve(server: Running) -> None:
    with load(server) as seen:
        wait_until(lambda: all(len(answers) >= 20 for answers in seen.values()))
        second = bundles.publish(server.state / "registry", "a")
        third = bundles.publish(server.state / "registry", "b")  # pinned: nothing may happen
        wait_until(lambda: seen["a"][-20:] == [second] * 20)
    assert (second, third) == (2, 3)
    assert set(seen["a"]) == {1, 2}
    assert seen["a"].index(2) >= 20
    assert set(seen["b"]) == {1}
    assert set(seen["c"]) == {1}


def test_unloading_and_loading_reach_both_workers_and_disturb_nobody(server: Running) -> None:
    repository = Repository(server.state / "registry")
    with load(server) as seen:
        repository.decide("c", loaded=False, set_so=True)
        wait_until(lambda: everywhere(server, "c", -404))
        assert requests.get(f"{server.url}/readyz", timeout=120).status_code == 200
        repository.decide("c", loaded=True, set_so=True)
        wait_until(lambda: everywhere(server, "c", 1))
    assert -500 not in seen["c"]
    assert min(seen["a"] + seen["b"]) > 0


def test_a_damaged_one_fails_at_its_own_address_alone_and_the_service_is_not_ready(
    server: Running,
) -> None:
    registry, repository = (
        Registry(server.state / "registry"),
        Repository(server.state / "registry"),
    )
    repository.decide("c", loaded=False, set_so=True)
    wait_until(lambda: everywhere(server, "c", -404))
    path = registry.path("c", 1) / "model.onnx"
    whole = path.read_bytes()
    damage(path)
    with load(server) as seen:
        repository.decide("c", loaded=True, set_so=True)
        wait_until(lambda: everywhere(server, "c", -503))
        wait_until(lambda: readiness(server).status_code == 503, what="it is not ready")
        ready = readiness(server)
        assert ready.headers["Retry-After"] == "1"
        path.write_bytes(whole)
        os.utime(registry.root / "c" / "aliases.json")  # as a promotion would
        wait_until(lambda: everywhere(server, "c", 1))
        wait_until(lambda: requests.get(f"{server.url}/readyz", timeout=120).status_code == 200)
    assert min(seen["a"] + seen["b"]) > 0
    assert set(seen["c"]) <= {-404, -503, 1}
    assert "sha256 of model.onnx" in server.log


def test_nothing_went_wrong_inside(server: Running) -> None:
    assert "internal_error" not in server.log
    assert "Traceback" not in server.log


def test_a_pinned_version_that_is_missing_is_told_and_the_service_is_not_ready(
    tmp_path: Path, make_app: MakeApp
) -> None:
    bundles.publish(tmp_path / "registry", "b")
    client = client_of(make_app(tmp_path, models="b@7"))
    assert client.get("/readyz").status_code == 503
    answer = client.post("/predict", json={"instances": X[:1].tolist()})
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"


def test_one_request_too_many_at_once_is_503_and_other_models_answer(
    tmp_path: Path, make_app: MakeApp
) -> None:
    for name in ("a", "b"):
        bundles.publish(tmp_path / "registry", name)
    app = make_app(tmp_path, model_limits="a:concurrent=1")
    body, answers = {"instances": X[:1].tolist()}, []

    def post(model: str) -> Any:
        return client_of(app).post(f"/predict?model={model}", json=body)

    going = Waiting(app.service.champions.find("a").runner)
    thread = threading.Thread(target=lambda: answers.append(post("a")))
    thread.start()
    assert going.begun.wait(PATIENCE_SECONDS)
    refused = post("a")
    assert post("b").status_code == 200
    going.end.set()
    thread.join()
    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "1"
    assert [answer.status_code for answer in (*answers, post("a"))] == [200, 200]
