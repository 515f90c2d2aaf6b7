from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.base.errors import BundleError
from models.versions.registry import Registry
from service.fleet.live_runner import LiveRunner
from service.web.errors import UnavailableError
from tests import bundles
from tests.asgi import client_of
from tests.service.conftest import MakeApp


class Broken:
    """A session that fails for as long as it is told to, on batches of at least `rows`."""

    def __init__(self, session: Any, rows: int = 1) -> None:
        self._session, self.rows, self.broken = session, rows, True

    def run(self, outputs: list[str], feeds: dict[str, Any]) -> Any:
        if self.broken and len(next(iter(feeds.values()))) >= self.rows:
            raise RuntimeError("no memory for a tensor at /secret/place")
        return self._session.run(outputs, feeds)


def broken(runner: Any, rows: int = 1) -> Broken:
    runner._session = Broken(runner._session, rows)
    found: Broken = runner._session
    return found


@pytest.fixture
def runner(tmp_path: Path) -> LiveRunner:
    bundles.publish(tmp_path)
    return LiveRunner(Registry(tmp_path).open("digits"))


X = bundles.digits().test.x


def test_a_run_that_fails_is_counted_and_refused_without_its_reason(tmp_path: Path) -> None:
    bundles.publish(tmp_path)
    failures: list[int] = []
    runner = LiveRunner(Registry(tmp_path).open("digits"), failed=lambda: failures.append(1))
    assert not failures
    session = broken(runner)
    with pytest.raises(UnavailableError) as caught:
        runner.run(X[:1])
    assert "secret" not in str(caught.value)
    assert caught.value.headers["Retry-After"] == "1"
    assert failures == [1]
    assert "secret" in runner.failing
    session.broken = False
    runner.run(X[:1])
    assert runner.failing  # until a trial says otherwise: a run that succeeds pays nothing
    assert runner.trial()
    assert not runner.failing
    assert failures == [1]


def test_rows_that_cannot_be_run_do_not_make_the_model_fail(runner: LiveRunner) -> None:
    broken(runner, rows=8)
    with pytest.raises(UnavailableError):
        runner.run(X[:8])
    assert not runner.failing
    runner.run(X[:1])


def test_a_failure_is_logged_once_a_second_not_per_request(
    runner: LiveRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    broken(runner)
    for _ in range(20):
        with pytest.raises(UnavailableError):
            runner.run(X[:1])
    logged = capsys.readouterr()
    assert 1 <= (logged.out + logged.err).count("run_failed") <= 2


def test_it_answers_as_the_bundle_does_and_gives_its_bytes_back(runner: LiveRunner) -> None:
    assert runner.bundle.model_bytes == b""
    assert np.isfinite(runner.run(X[:4]).probabilities).all()


def test_a_model_that_never_runs_is_a_damaged_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles.publish(tmp_path)
    bundle = Registry(tmp_path).open("digits")

    def fails(self: Any, x: Any) -> Any:
        raise RuntimeError("never")

    monkeypatch.setattr("models.versions.runner.Runner.run", fails)
    with pytest.raises(BundleError, match="refuses"):
        LiveRunner(bundle)


def test_a_service_whose_model_does_not_run_answers_503_and_is_not_ready_until_it_does(
    tmp_path: Path, make_app: MakeApp
) -> None:
    bundles.publish(tmp_path / "registry")
    app = make_app(tmp_path, reload_interval_seconds=3600)
    client, champions = client_of(app), app.service.champions
    session = broken(champions.find(None).runner)
    body = {"instances": X[:1].tolist()}
    tensor = {"name": "input", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": X[:1].tolist()}
    for path, asked in (("/predict", body), ("/v2/models/digits/infer", {"inputs": [tensor]})):
        answer = client.post(path, json=asked)
        assert answer.status_code == 503, answer.text
        assert answer.headers["Retry-After"] == "1"
        assert "secret" not in answer.text
    assert client.get("/readyz").status_code == 503
    assert client.get("/v2/health/ready").status_code == 503
    assert 'holdfast_model_run_failures_total{model="digits"} 2.0' in client.get("/metrics").text
    session.broken = False
    champions.refresh()
    assert client.get("/readyz").status_code == 200
    assert client.post("/predict", json=body).status_code == 200
