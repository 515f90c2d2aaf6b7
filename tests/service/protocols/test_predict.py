import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from models.versions.registry import Registry
from models.versions.runner import Runner
from monitoring.records.store import Key
from service.app import Service
from service.pipeline import new_id
from tests import bundles
from tests.asgi import client_of
from tests.service import tables
from tests.service.conftest import MakeApp
from tests.waiting import wait_until

Rows = np.ndarray[Any, np.dtype[np.float32]]


@pytest.fixture(scope="module")
def runner(published_state: Path) -> Runner:
    return Runner(Registry(published_state / "registry").open("digits"))


def test_predict_answers_what_one_run_gives(
    client: FlaskClient, rows: Rows, runner: Runner
) -> None:
    answer = client.post("/predict", json={"instances": rows[:7].tolist()}).get_json()
    truth = runner.run(rows[:7])
    assert list(answer) == ["model", "version", "id", "predictions"]
    assert (answer["model"], answer["version"]) == ("digits", 1)
    assert len(answer["predictions"]) == 7
    calibration = runner.manifest.calibration
    for row, got in enumerate(answer["predictions"]):
        index = int(truth.probabilities[row].argmax())
        assert list(got) == [
            "label", "index", "probability", "probabilities", "drift", "perturbation", "query",
            "certificate", "set",
        ]  # fmt: skip
        assert got["label"] == runner.manifest.classes[index]
        assert got["index"] == index
        np.testing.assert_array_equal(np.float32(got["probabilities"]), truth.probabilities[row])
        assert got["probability"] == got["probabilities"][index]
        p_value, likelihood = truth.drift_p_value[row], truth.perturbation_likelihood[row]
        assert np.float32(got["drift"]["p_value"]) == p_value
        assert "out_of_range" not in got["drift"], "a picture has no columns"
        assert got["drift"]["flagged"] == (p_value <= np.float32(calibration.alpha))
        assert np.float32(got["perturbation"]["likelihood"]) == likelihood
        assert np.float32(got["perturbation"]["corruption"]) == truth.corruption_likelihood[row]
        flagged = bool(likelihood > calibration.perturbation_threshold)
        assert got["perturbation"]["flagged"] == flagged
        suspicious = bool(truth.suspicion[row] > calibration.suspicion_threshold)
        assert got["perturbation"]["suspicious"] == suspicious
        attack = likelihood > truth.corruption_likelihood[row]
        verdict = ("attack" if attack else "corruption") if suspicious else "clean"
        assert got["perturbation"]["verdict"] == verdict


@pytest.mark.parametrize("argument", ["resize=yes", "resize=", "resize=pad&resize=pad"])
@pytest.mark.parametrize("path", ["/predict", "/v1/models/digits:predict"])
def test_a_way_to_resize_that_there_is_not_is_refused_for_rows_as_well(
    client: FlaskClient, rows: Rows, path: str, argument: str
) -> None:
    answer = client.post(f"{path}?{argument}", json={"instances": rows[:1].tolist()})
    assert answer.status_code == 400
    assert "resize: expected one" in answer.get_data(as_text=True)
    right = client.post(f"{path}?resize=pad", json={"instances": rows[:1].tolist()})
    assert right.status_code == 200


def test_the_clients_id_is_kept_and_one_is_made_where_there_is_none(
    client: FlaskClient, rows: Rows
) -> None:
    body = {"instances": rows[:1].tolist()}
    given = client.post("/predict", json=body, headers={"X-Request-Id": "a-1:b.C_2"}).get_json()
    assert given["id"] == "a-1:b.C_2"
    made = [client.post("/predict", json=body).get_json()["id"] for _ in range(2)]
    assert len(set(made)) == 2
    assert all(len(text) == 26 for text in made)


def test_ids_sort_by_time() -> None:
    first = new_id()
    time.sleep(0.003)
    assert first < new_id()


def test_the_model_is_named_where_several_are_served(
    make_app: MakeApp, tmp_path: Path, rows: Rows
) -> None:
    for name in ("alpha", "beta"):
        bundles.publish(tmp_path / "registry", name)
    client = client_of(make_app(tmp_path))
    body = {"instances": rows[:1].tolist()}
    assert client.post("/predict?model=beta", json=body).get_json()["model"] == "beta"
    answer = client.post("/predict", json=body)
    assert answer.status_code == 400
    assert answer.get_json()["field"] == "model"
    assert answer.get_json()["expected"] == "one of alpha, beta"
    unknown = client.post("/predict?model=gamma", json=body)
    assert unknown.status_code == 404
    assert unknown.get_json()["expected"] == "one of alpha, beta"


def test_only_the_models_of_the_settings_are_served(make_app: MakeApp, tmp_path: Path) -> None:
    for name in ("alpha", "beta"):
        bundles.publish(tmp_path / "registry", name)
    client = client_of(make_app(tmp_path, models="beta"))
    assert client.get("/readyz").get_json()["models"] == {"beta": 1}


def test_reject_refuses_flagged_rows_with_their_scores_and_counts_them(
    make_app: MakeApp, published_state: Path, tmp_path: Path, rows: Rows
) -> None:
    url = f"sqlite:///{tmp_path}/records.sqlite"
    app = make_app(published_state, policy="reject", database_url=url)
    client, strange = client_of(app), np.full_like(rows[:1], 16.0)
    clean = client.post("/predict", json={"instances": rows[:1].tolist()})
    assert clean.status_code == 200
    batch = np.concatenate([rows[:1], strange]).tolist()
    answer = client.post("/predict", json={"instances": batch})
    assert answer.status_code == 409
    assert answer.content_type == "application/problem+json"
    problem = answer.get_json()
    assert [row["row"] for row in problem["flagged"]] == [1]
    assert problem["flagged"][0]["drift"]["flagged"]
    assert problem["id"]
    tensor = {"name": "input", "shape": [2, 1, 8, 8], "datatype": "FP32", "data": batch}
    refused = client.post("/v2/models/digits/infer", json={"inputs": [tensor]})
    assert refused.status_code == 409
    assert list(refused.get_json()) == ["error"]
    metrics = client.get("/metrics").text
    assert 'holdfast_flagged_total{kind="drift",model="digits"} 2.0' in metrics


def test_reject_suspicious_refuses_what_is_not_clean_and_counts_it(
    make_app: MakeApp, published_state: Path, tmp_path: Path, rows: Rows
) -> None:
    url = f"sqlite:///{tmp_path}/records.sqlite"
    rng = np.random.default_rng(0)
    some = rows[:60]
    noisy = [some + rng.normal(0, 16 * sigma, some.shape) for sigma in (0.05, 0.07, 0.1)]
    changed = np.clip(np.concatenate(noisy), 0, 16).astype(rows.dtype)
    observing = client_of(make_app(published_state, database_url=url))
    told = observing.post("/predict", json={"instances": changed.tolist()}).get_json()[
        "predictions"
    ]
    seen = [
        k
        for k, row in enumerate(told)
        if row["perturbation"]["suspicious"]
        and not (row["drift"]["flagged"] or row["perturbation"]["flagged"])
    ]
    assert seen, "some are only suspicious"
    one = changed[seen[0]][None].tolist()
    for policy, status in (("reject", 200), ("reject_suspicious", 409)):
        client = client_of(make_app(published_state, policy=policy, database_url=url))
        answer = client.post("/predict", json={"instances": one})
        assert answer.status_code == status
        if status == 409:
            flagged = answer.get_json()["flagged"][0]["perturbation"]
            assert flagged["suspicious"]
            assert flagged["verdict"] in ("attack", "corruption")
            metrics = client.get("/metrics").text
            assert 'holdfast_flagged_total{kind="suspicious",model="digits"} 1.0' in metrics


def test_answers_are_recorded_as_they_were_given(
    client: FlaskClient, service: Service, rows: Rows
) -> None:
    answer = client.post("/predict", json={"instances": rows[:3].tolist()}).get_json()
    keys = [Key(answer["id"], row) for row in range(3)]
    assert service.store is not None
    store = service.store
    wait_until(lambda: len(store.find(keys)) == 3, what="three records")
    found = store.find(keys)
    assert [found[key].predicted for key in keys] == [p["index"] for p in answer["predictions"]]
    assert {(f.model, f.version) for f in found.values()} == {("digits", 1)}


def test_without_a_model_predict_says_try_again(make_app: MakeApp, tmp_path: Path) -> None:
    client = client_of(make_app(tmp_path))
    answer = client.post("/predict", json={"instances": []})
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.get_json()["status"] == 503


def test_bytes_in_three_channels_are_answered_as_the_graph_does(
    make_app: MakeApp, tmp_path: Path
) -> None:
    tables.publish_colours(tmp_path / "registry")
    client, x = client_of(make_app(tmp_path)), tables.colours().test.x[:9]
    truth = Runner(Registry(tmp_path / "registry").open("colours")).run(x)
    friendly = client.post("/predict", json={"instances": x.tolist()}).get_json()["predictions"]
    got = np.float32([p["probabilities"] for p in friendly])
    np.testing.assert_array_equal(got, truth.probabilities)
    metadata = client.get("/v2/models/colours").get_json()
    (told,), (probabilities, *_) = metadata["inputs"], metadata["outputs"]
    assert probabilities["parameters"] == {"classes": list(tables.colours().classes)}
    assert told == {"name": "input", "datatype": "UINT8", "shape": [-1, 3, 8, 8]}
    tensor = {**told, "shape": list(x.shape), "data": x.ravel().tolist()}
    v2 = client.post("/v2/models/colours/infer", json={"inputs": [tensor]}).get_json()
    np.testing.assert_array_equal(np.float32(v2["outputs"][0]["data"]), got.ravel())
    for value in (256, -1, 0.5):
        spoilt: list[Any] = x.tolist()
        spoilt[3][2][7][7] = value
        answer = client.post("/predict", json={"instances": spoilt})
        assert answer.status_code == 400
        assert answer.get_json()["field"] == "instances[3]"
        assert answer.get_json()["expected"] == "integers from 0 to 255"


def test_a_missing_value_is_recorded_and_labelled_as_it_came(
    make_app: MakeApp, tmp_path: Path
) -> None:
    data = tables.wine()
    tables.publish_table(tmp_path / "registry", data)
    app = make_app(tmp_path)
    client, x = client_of(app), data.test.x
    assert np.isnan(x).any()
    answer = client.post("/predict", json={"instances": tables.as_objects(data, x)}).get_json()
    labels = [
        {"id": f"{answer['id']}/{row}", "label": data.classes[y]}
        for row, y in enumerate(data.test.y)
    ]
    assert client.post("/feedback", json=labels).status_code == 200
    store = app.service.store
    kept = store.labelled("wine", data.schema)
    np.testing.assert_array_equal(kept.x, x)
    np.testing.assert_array_equal(kept.y, data.test.y)
