"""Certificates and prediction sets in the answers of a version that was trained for them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from flask.testing import FlaskClient

from models.versions.promises import CERTIFICATE_OUTPUTS
from models.versions.registry import Registry
from models.versions.runner import Runner
from service.app import create_app
from service.configuration.settings import load
from tests import bundles
from tests.asgi import client_of
from tests.service.conftest import MakeApp


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models: `proven` certifies its answers, `plain` does not."""
    root = tmp_path_factory.mktemp("certified")
    bundles.publish(root / "registry", "proven", name="certified")
    bundles.publish(root / "registry", "plain")
    return root


@pytest.fixture(scope="module")
def runner(state: Path) -> Runner:
    return Runner(Registry(state / "registry").open("proven"))


@pytest.fixture(scope="module")
def client(state: Path) -> Iterator[FlaskClient]:
    app = create_app(load({"HOLDFAST_STATE": str(state), "HOLDFAST_MODELS": "proven,plain"}))
    yield client_of(app)
    app.service.close()


@pytest.fixture(scope="module")
def x() -> Any:
    return bundles.digits().test.x[:40]


def test_predict_tells_certificate_and_sets(client: FlaskClient, runner: Runner, x: Any) -> None:
    rows = client.post("/predict?model=proven", json={"instances": x.tolist()}).get_json()
    truth, facts = runner.run(x), runner.manifest.sets
    assert truth.certified is not None
    assert truth.certified_eps is not None
    assert facts is not None
    assert {True, False} == set(truth.certified.tolist()), "both must be seen"
    for row, got in enumerate(rows["predictions"]):
        p = truth.probabilities[row]
        held = [c for c, q in zip(runner.manifest.classes, p, strict=True)
                if q >= facts.ratio * p.max()]  # fmt: skip
        assert got["set"] == held
        assert got["label"] in got["set"]
        told = got["certificate"]
        assert told["certified"] is bool(truth.certified[row])
        assert np.float32(told["eps"]) == truth.certified_eps[row]
        assert set(got["set"]) <= set(told["set"])  # what holds under change holds without


def test_another_provider_turns_certificates_off_and_says_so(
    state: Path, x: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "models.versions.runner.log.warning", lambda event, **facts: told.append(facts)
    )
    other = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort.InferenceSession, "get_providers", lambda self: other)
    runner = Runner(Registry(state / "registry").open("proven"))
    answer = runner.run(x)
    assert not answer.certified.any()  # type: ignore[union-attr]
    assert not answer.certified_eps.any()  # type: ignore[union-attr]
    assert "CUDAExecutionProvider" in told[0]["why"]


def test_a_version_without_certificates_says_null(client: FlaskClient, x: Any) -> None:
    answer = client.post("/predict?model=plain", json={"instances": x[:2].tolist()}).get_json()
    assert [(p["certificate"], p["set"]) for p in answer["predictions"]] == [(None, None)] * 2


def test_v1_has_the_same_objects_and_the_outputs_by_name(
    client: FlaskClient, runner: Runner, x: Any
) -> None:
    body = {"instances": x[:5].tolist()}
    ours = client.post("/predict?model=proven", json=body).get_json()["predictions"]
    told = client.post("/v1/models/proven:predict", json=body).get_json()["predictions"]
    assert [p["certificate"] for p in told] == [p["certificate"] for p in ours]
    columns = client.post("/v1/models/proven:predict", json={"inputs": x[:5].tolist()}).get_json()
    truth = runner.run(x[:5])
    assert columns["outputs"]["certified"] == truth.certified.tolist()  # type: ignore[union-attr]
    plain = client.post("/v1/models/plain:predict", json={"inputs": x[:5].tolist()}).get_json()
    assert not set(CERTIFICATE_OUTPUTS) & set(plain["outputs"])


def test_v2_has_the_tensors_where_the_version_has_them(
    client: FlaskClient, runner: Runner, x: Any
) -> None:
    tensor = {"name": "input", "shape": list(x[:6].shape), "datatype": "FP32",
              "data": x[:6].ravel().tolist()}  # fmt: skip
    told = client.post("/v2/models/proven/infer", json={"inputs": [tensor]}).get_json()["outputs"]
    by_name = {output["name"]: output for output in told}
    truth = runner.run(x[:6])
    assert by_name["certified"]["datatype"] == "BOOL"
    assert by_name["certified"]["data"] == truth.certified.tolist()  # type: ignore[union-attr]
    assert np.array_equal(np.float32(by_name["certified_eps"]["data"]), truth.certified_eps)
    described = client.get("/v2/models/proven").get_json()["outputs"]
    assert [output["name"] for output in described] == [output["name"] for output in told]
    asked = {"inputs": [tensor], "outputs": [{"name": "certified"}]}
    refused = client.post("/v2/models/plain/infer", json=asked)
    assert refused.status_code == 400
    assert "certified" in refused.get_json()["error"]


def test_rows_are_counted_by_whether_they_are_proven(
    state: Path, make_app: MakeApp, runner: Runner, x: Any
) -> None:
    app = make_app(state, models="proven,plain")
    ask = client_of(app)
    ask.post("/predict?model=proven", json={"instances": x.tolist()})
    ask.post("/predict?model=plain", json={"instances": x.tolist()})
    text = ask.get("/metrics").get_data(as_text=True)
    proven = int(runner.run(x).certified.sum())  # type: ignore[union-attr]
    assert f'holdfast_certified_total{{certified="true",model="proven"}} {proven:.1f}' in text
    assert f'certified="false",model="proven"}} {len(x) - proven:.1f}' in text
    assert 'holdfast_certified_total{certified="true",model="plain"}' not in text


def test_the_policy_refuses_what_is_not_proven(
    state: Path, make_app: MakeApp, runner: Runner, x: Any
) -> None:
    ask = client_of(make_app(state, models="proven,plain", policy="require_certified"))
    truth, calibration = runner.run(x), runner.manifest.calibration
    fine = truth.drift_p_value > calibration.alpha
    fine &= truth.perturbation_likelihood <= calibration.perturbation_threshold
    good = x[fine & truth.certified][:3]
    answer = ask.post("/predict?model=proven", json={"instances": good.tolist()})
    assert answer.status_code == 200, answer.get_json()
    bad = x[fine & ~truth.certified][:2]
    refused = ask.post("/predict?model=proven", json={"instances": [*good.tolist(), *bad.tolist()]})
    assert refused.status_code == 409
    problem = refused.get_json()
    assert [row["row"] for row in problem["flagged"]] == [len(good), len(good) + 1]
    assert all(row["certificate"]["certified"] is False for row in problem["flagged"])
    none = ask.post("/predict?model=plain", json={"instances": good.tolist()})
    assert none.status_code == 409
    assert "not trained for certificates" in none.get_json()["detail"]
