from pathlib import Path
from typing import Any

import numpy as np
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families as parse

from tests import bundles
from tests.asgi import client_of
from tests.service.conftest import MakeApp

Rows = np.ndarray[Any, np.dtype[np.float32]]


def samples(client: FlaskClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (s.name, frozenset(s.labels.items())): s.value
        for family in parse(client.get("/metrics").text)
        for s in family.samples
    }


def test_probes_tell_alive_from_ready(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app(tmp_path)
    client = client_of(app)
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503
    bundles.publish(tmp_path / "registry")
    app.service.champions.refresh()
    assert client.get("/readyz").get_json() == {"status": "ready", "models": {"digits": 1}}


def test_a_named_model_that_is_missing_means_not_ready(make_app: MakeApp, tmp_path: Path) -> None:
    bundles.publish(tmp_path / "registry")
    assert client_of(make_app(tmp_path, models="digits,other")).get("/readyz").status_code == 503


def test_the_root_says_what_is_served(client: FlaskClient) -> None:
    assert client.get("/").get_json()["models"] == {"digits": 1}


def test_every_answer_is_counted_under_its_rule_method_and_status(
    make_app: MakeApp, published_state: Path, tmp_path: Path, rows: Rows
) -> None:
    app = make_app(published_state, database_url=f"sqlite:///{tmp_path}/r.sqlite")
    client = client_of(app)
    body = {"instances": rows[:1].tolist()}
    for _ in range(3):
        client.post("/predict", json=body)
    for _ in range(2):
        client.post("/predict", json={})
    client.get("/some/where")
    client.open("/predict", method="BREW")
    for name in ("a", "b"):
        client.get(f"/v2/models/{name}")
    found = samples(client)

    def count(route: str, method: str, code: int) -> float:
        labels = {"route": route, "method": method, "code": str(code)}
        return found["holdfast_http_requests_total", frozenset(labels.items())]

    assert count("/predict", "POST", 200) == 3
    assert count("/predict", "POST", 400) == 2
    assert count("unmatched", "GET", 404) == 1
    assert count("unmatched", "other", 405) == 1
    assert count("/v2/models/<model>", "GET", 404) == 2
    routes = {dict(labels)["route"] for name, labels in found if "http_requests" in name}
    assert routes <= {rule.rule for rule in app.router.flask.url_map.iter_rules()} | {"unmatched"}


def test_series_exist_at_zero_before_the_first_request(
    make_app: MakeApp, published_state: Path
) -> None:
    found = samples(client_of(make_app(published_state)))
    names = {name for name, _ in found}
    for name in (
        "http_requests_total", "http_request_duration_seconds_count",
        "stage_duration_seconds_count",
        "batch_rows_count", "predictions_total", "drift_p_value_bucket",
        "perturbation_likelihood_bucket", "flagged_total", "cell_observations_total",
        "repeats_total", "records_dropped_total", "feedback_total",
        "model_loaded_timestamp_seconds",
        "model_reload_failures_total",
    ):  # fmt: skip
        assert f"holdfast_{name}" in names
    cells = [
        value for (name, _), value in found.items() if name.endswith("cell_observations_total")
    ]
    assert len(cells) > 100
    assert not any(cells)
