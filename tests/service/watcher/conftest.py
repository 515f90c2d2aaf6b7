"""A watcher of three models behind its HTTP front, and somebody with a token."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from werkzeug.test import Client, TestResponse

from models.versions.registry import Registry
from monitoring.alerts.handled_alerts import HandledAlerts
from monitoring.loop.jobs import JobStore
from monitoring.loop.metrics import WatchMetrics
from monitoring.loop.triggers import Policy
from monitoring.records.store import RecordStore
from monitoring.watching.watcher import Watcher, WatchPlan
from service.access import auth
from service.access.guard import watch_guard_of
from service.configuration.settings import load
from service.watcher import calls as watch_calls
from service.web.front import Front, RequestBounds
from tests.asgi import client_of
from tests.models.versions.test_registry import WHY, publish

MODELS = ("fine", "held", "torn")


@dataclass
class Caller:
    """Somebody with a token."""

    client: Client
    secret: str

    def post(self, path: str, json: Any) -> TestResponse:
        return self.client.post(path, json=json, headers=self._headers())

    def get(self, path: str) -> Any:
        return self.client.get(path).get_json()

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secret}"} if self.secret else {}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models of three versions; version 2 is their champion, 1 the previous."""
    registry = Registry(tmp_path_factory.mktemp("made"))
    for model in MODELS:
        for _ in range(3):
            publish(registry, model=model)
        registry.promote(model, 1, expected=None, **WHY)
        registry.promote(model, 2, expected=1, **WHY)
    return registry.root


@pytest.fixture
def watcher(made: Path, tmp_path: Path) -> Iterator[Watcher]:
    """A watcher of the three models, with no budget."""
    shutil.copytree(made, tmp_path / "registry")
    registry = Registry(tmp_path / "registry")
    engine = sa.create_engine(f"sqlite:///{tmp_path}/jobs.sqlite", connect_args={"timeout": 0.1})
    records = RecordStore(f"sqlite:///{tmp_path}/records.sqlite")
    plan = WatchPlan((), str(tmp_path), 1.0, 1e6, Policy(daily_budget=0))
    yield Watcher(plan, registry, records, JobStore(engine), WatchMetrics(), lambda job: None)
    records.close()
    engine.dispose()


@pytest.fixture
def secrets(tmp_path: Path) -> dict[str, str]:
    """By name: that of the file, one of scope admin, one that may only ask for predictions."""
    tokens = tmp_path / "tokens.json"
    (tmp_path / "admin").write_text("the-admin-token-of-tests")
    return {
        "admin": "the-admin-token-of-tests",
        "ada": auth.create(tokens, "ada", ("admin",)),
        "app": auth.create(tokens, "app", ("predict",)),
    }


@pytest.fixture
def client(watcher: Watcher, secrets: dict[str, str], tmp_path: Path) -> Iterator[Caller]:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/handled.sqlite")
    env = {"HOLDFAST_STATE": str(tmp_path), "HOLDFAST_TOKENS_FILE": str(tmp_path / "tokens.json")}
    env["HOLDFAST_ADMIN_TOKEN_FILE"] = str(tmp_path / "admin")
    calls = watch_calls.endpoints(watcher, HandledAlerts(engine), time.time)
    front = Front(calls, watch_guard_of(load(env)), lambda *_: None, RequestBounds(2**20))
    yield Caller(client_of(front), secrets["ada"])
    front.close()
    engine.dispose()


def post(client: Caller, path: str, **body: Any) -> TestResponse:
    return client.post(path, json=body)


def told(client: Caller, path: str, **body: Any) -> Any:
    answer = post(client, path, **body)
    assert answer.status_code < 300, answer.text
    return answer.get_json()


def refused(client: Caller, path: str, status: int, **body: Any) -> Any:
    answer = post(client, path, **body)
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/problem+json"
    return answer.get_json()
