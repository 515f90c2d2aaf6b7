"""Every status that a call can be refused with is described, and comes as described."""

import gzip
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from flask.testing import FlaskClient

from service.access.auth import create
from service.app import Application
from tests.asgi import client_of
from tests.service.conftest import MakeApp
from tests.service.described import JSON, check_answer, operations

Operation = dict[str, Any]
POSTS = [(path, operation) for method, path, operation in operations() if method == "POST"]
SCOPED = [(m, path, operation) for m, path, operation in operations() if operation.get("security")]
PREDICTIONS = [
    each for each in POSTS if "409" in each[1]["responses"] and each[1]["tags"] != ["Feedback"]
]


def filled(path: str) -> str:
    return path.replace("{model}", "digits").replace("{version}", "1")


def body_for(path: str, row: Any) -> dict[str, Any]:
    """A prediction's body with one row of digits."""
    if not path.startswith("/v2"):
        return {"instances": [row.tolist()]}
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, 1, 8, 8]}
    return {"inputs": [{**tensor, "data": row.ravel().tolist()}]}


def refused(operation: Operation, answer: Any, status: int) -> None:
    assert answer.status_code == status, answer.data
    check_answer(operation, answer)


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [pytest.param(*each, id=each[2]["operationId"]) for each in operations()],
)
def test_pages_of_other_sites_are_refused_as_described(
    session_app: Application, method: str, path: str, operation: Operation
) -> None:
    client = client_of(session_app)
    foreign, rebound = {"Origin": "http://evil.example"}, {"Host": "evil.example"}
    refused(operation, client.open(filled(path), method=method, headers=foreign), 403)
    refused(operation, client.open(filled(path), method=method, headers=rebound), 421)


@pytest.fixture(scope="module")
def held(published_state: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A tokens file, and by scope the secrets of one token each."""
    path = tmp_path_factory.mktemp("tokens") / "tokens.json"
    secrets = {scope: create(path, scope, (scope,)) for scope in ("predict", "feedback", "admin")}
    return {"file": str(path), **secrets}


@pytest.fixture
def guarded(make_app: MakeApp, published_state: Path, held: dict[str, str]) -> FlaskClient:
    """Asks a service that wants tokens."""
    return client_of(make_app(published_state, tokens_file=held["file"]))


def test_401_without_a_token_and_403_with_one_of_another_scope(
    guarded: FlaskClient, held: dict[str, str]
) -> None:
    for method, path, operation in SCOPED:
        refused(operation, guarded.open(filled(path), method=method), 401)
        other = held["predict" if path == "/feedback" else "feedback"]
        headers = {"Authorization": f"Bearer {other}"}
        refused(operation, guarded.open(filled(path), method=method, headers=headers), 403)


def test_429_beyond_the_rate(make_app: MakeApp, published_state: Path) -> None:
    client = client_of(make_app(published_state, rate_per_second=0.01, rate_burst=1))
    client.post("/predict")
    for _, path, operation in SCOPED:
        if {} in operation["security"]:
            refused(operation, client.post(filled(path)), 429)


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (400, b"{", {}),
        (400, b"[]", {"Content-Encoding": "gzip"}),
        (413, bytes(2000), {}),
        (413, gzip.compress(bytes(2000)), {"Content-Encoding": "gzip"}),
        (415, b"{}", {"Content-Encoding": "br"}),
    ],
    ids=["no JSON", "no gzip", "too large", "too large decompressed", "coding"],
)
def test_a_body_that_is_refused(
    make_app: MakeApp,
    published_state: Path,
    held: dict[str, str],
    status: int,
    body: bytes,
    headers: dict[str, str],
) -> None:
    app = make_app(published_state, tokens_file=held["file"], max_body_bytes=1024)
    headers = {**headers, "Authorization": f"Bearer {held['admin']}"}
    for path, operation in POSTS:
        answer = client_of(app).post(filled(path), data=body, content_type=JSON, headers=headers)
        refused(operation, answer, status)


def test_409_for_a_flagged_row(make_app: MakeApp, published_state: Path, rows: Any) -> None:
    client = client_of(make_app(published_state, policy="reject"))
    for path, operation in PREDICTIONS:
        inverted = body_for(path, np.float32(16) - rows[0])
        refused(operation, client.post(filled(path), json=inverted), 409)


def test_503_without_a_model(make_app: MakeApp, tmp_path: Path, rows: Any) -> None:
    client = client_of(make_app(tmp_path))
    for path, operation in PREDICTIONS:
        refused(operation, client.post(filled(path), json=body_for(path, rows[0])), 503)


def test_500_where_something_breaks_inside(
    make_app: MakeApp, published_state: Path, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app: Application = make_app(published_state)

    def broken(*_: Any) -> NoReturn:
        raise RuntimeError("a secret of the house")

    monkeypatch.setattr(app.service.pipeline, "handle", broken)
    for path, operation in PREDICTIONS:
        answer = client_of(app).post(filled(path), json=body_for(path, rows[0]))
        refused(operation, answer, 500)
        assert b"secret" not in answer.data
