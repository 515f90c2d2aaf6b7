"""Query attacks on a service in this process: fields, policy, settings, secrecy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient

from models.versions.schema import OUTPUTS
from service.access import auth
from service.cli import CONTEXT
from service.cli.checks.doctor import doctor
from service.configuration.settings import load
from tests import bundles
from tests.asgi import client_of
from tests.printed import data_of
from tests.service.conftest import MakeApp

Rows = np.ndarray[Any, np.dtype[np.float32]]
INFER = "/v2/models/digits/infer"


def probes(rows: Rows, count: int) -> Rows:
    """One digit over and over, each time a pixel a little brighter."""
    x = np.repeat(rows[:1], count, axis=0)
    x[:, 0, 0, 0] = 0.05 * np.arange(count)
    return x


def queries(client: FlaskClient, x: Rows, **options: Any) -> list[dict[str, Any]]:
    answer = client.post("/predict", json={"instances": x.tolist()}, **options)
    assert answer.status_code == 200, answer.text
    return [p["query"] for p in answer.get_json()["predictions"]]


@pytest.fixture
def asked(make_app: MakeApp, published_state: Path, tmp_path: Path) -> FlaskClient:
    return client_of(make_app(published_state, database_url=f"sqlite:///{tmp_path}/r.sqlite"))


def test_a_series_of_probes_is_flagged_from_the_third_near_one_on(
    asked: FlaskClient, rows: Rows
) -> None:
    found = [queries(asked, row[None])[0] for row in probes(rows, 6)]
    assert found == [{"near": k, "flagged": k >= 3} for k in range(6)]
    metrics = asked.get("/metrics").text
    assert 'holdfast_flagged_total{kind="query",model="digits"} 3.0' in metrics


def test_the_series_of_flagged_queries_exists_before_any(asked: FlaskClient) -> None:
    metrics = asked.get("/metrics").text
    assert 'holdfast_flagged_total{kind="query",model="digits"} 0.0' in metrics


def test_a_batch_is_judged_row_by_row(asked: FlaskClient, rows: Rows) -> None:
    found = queries(asked, np.concatenate([probes(rows, 5), rows[5:6], rows[5:6]]))
    assert [q["near"] for q in found] == [0, 1, 2, 3, 4, 4, 4]
    assert [q["flagged"] for q in found] == [False] * 3 + [True] * 2 + [False] * 2


def near(client: FlaskClient, x: Rows, address: str, secret: str = "") -> int:
    """How many of its last queries are near that of a client."""
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    environ = {"REMOTE_ADDR": address}
    (found,) = queries(client, x[None], headers=headers, environ_overrides=environ)
    return int(found["near"])


def test_without_tokens_clients_are_told_apart_by_address_whatever_they_claim(
    asked: FlaskClient, rows: Rows
) -> None:
    x = probes(rows, 8)
    assert [near(asked, x[k], "192.0.2.1") for k in range(3)] == [0, 1, 2]
    assert near(asked, x[3], "192.0.2.2") == 0, "another address"
    assert near(asked, x[4], "192.0.2.1", "claimed") == 3, "a token that nobody verified"


@pytest.mark.parametrize("key", ["token", "address"])
def test_a_client_with_a_token_is_the_same_from_every_address_unless_addresses_are_asked_for(
    key: str, make_app: MakeApp, published_state: Path, tmp_path: Path, rows: Rows
) -> None:
    path, url = tmp_path / "tokens.json", f"sqlite:///{tmp_path}/r.sqlite"
    one, two = (auth.create(path, name, ("predict",)) for name in ("one", "two"))
    app = make_app(published_state, tokens_file=path, query_key=key, database_url=url)
    asked, x = client_of(app), probes(rows, 4)
    found = [
        near(asked, x[0], "192.0.2.1", one),
        near(asked, x[1], "192.0.2.9", one),
        near(asked, x[2], "192.0.2.1", two),
        near(asked, x[3], "192.0.2.1", one),
    ]
    assert found == {"token": [0, 1, 0, 2], "address": [0, 0, 1, 2]}[key]


def test_forwarded_addresses_count_behind_a_trusted_proxy_only(
    make_app: MakeApp, published_state: Path, tmp_path: Path, rows: Rows
) -> None:
    for proxies, expected in (("", [0, 1, 2, 3]), ("127.0.0.1", [0, 0, 0, 0])):
        url = f"sqlite:///{tmp_path}/{len(proxies)}.sqlite"
        app = make_app(published_state, trusted_proxies=proxies, database_url=url)
        found = [
            queries(
                client_of(app), row[None], headers={"X-Forwarded-For": f"1.1.1.1, 192.0.2.{k}"}
            )[0]["near"]
            for k, row in enumerate(probes(rows, 4))
        ]
        assert found == expected


def test_reject_refuses_flagged_queries_with_their_scores_also_when_sent_again(
    make_app: MakeApp, published_state: Path, tmp_path: Path
) -> None:
    app = make_app(published_state, policy="reject", database_url=f"sqlite:///{tmp_path}/r.sqlite")
    client, x = client_of(app), probes(bundles.digits().test.x, 4)
    statuses = [client.post("/predict", json={"instances": [r.tolist()]}).status_code for r in x]
    assert statuses == [200, 200, 200, 409]
    for _ in range(3):
        again = client.post("/predict", json={"instances": x[3:].tolist()})
        assert again.status_code == 409
        (flagged,) = again.get_json()["flagged"]
        assert flagged["query"] == {"near": 3, "flagged": True}
        assert not flagged["drift"]["flagged"]
    assert client.post("/predict", json={"instances": x[:1].tolist()}).status_code == 200


def test_v2_answers_a_tensor_of_truth_values(asked: FlaskClient, rows: Rows) -> None:
    told = asked.get("/v2/models/digits").get_json()["outputs"]
    assert told[-1] == {"name": "query_flagged", "datatype": "BOOL", "shape": [-1]}
    x = probes(rows, 5)
    tensor = {"name": "input", "shape": list(x.shape), "datatype": "FP32", "data": x.tolist()}
    body = {"inputs": [tensor], "outputs": [{"name": "query_flagged"}]}
    (output,) = asked.post(INFER, json=body).get_json()["outputs"]
    assert output == {
        "name": "query_flagged", "datatype": "BOOL", "shape": [5],
        "data": [False, False, False, True, True],
    }  # fmt: skip
    body["outputs"] = []
    names = [o["name"] for o in asked.post(INFER, json=body).get_json()["outputs"]]
    assert names == [*OUTPUTS, "query_flagged"]


@pytest.mark.parametrize("why", ["setting", "old bundle"])
def test_where_nobody_watches_the_field_is_null_and_the_tensor_false(
    why: str, make_app: MakeApp, tmp_path: Path, capfd: pytest.CaptureFixture[str], rows: Rows
) -> None:
    bundles.publish(tmp_path / "registry", watched=why == "setting")
    app = make_app(tmp_path, query_detection="off" if why == "setting" else "on")
    client, x = client_of(app), probes(rows, 6)
    assert queries(client, x) == [None] * 6
    tensor = {"name": "input", "shape": list(x.shape), "datatype": "FP32", "data": x.tolist()}
    outputs = client.post(INFER, json={"inputs": [tensor]}).get_json()["outputs"]
    assert outputs[-1]["data"] == [False] * 6
    assert ("query_detection_off" in "".join(capfd.readouterr())) == (why == "old bundle")


def test_nothing_of_a_client_reaches_metrics_or_logs(
    asked: FlaskClient, rows: Rows, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = "sesame-4711"
    for row in probes(rows, 6):
        queries(
            asked, row[None],
            headers={"Authorization": f"Bearer {secret}", "X-Forwarded-For": "203.0.113.99"},
        )  # fmt: skip
    seen = asked.get("/metrics").text + "".join(capfd.readouterr())
    assert secret not in seen
    assert "203.0.113" not in seen
    assert "127.0.0.1" not in seen


@pytest.mark.parametrize(
    ("watched", "detection", "ok", "detail"),
    [(True, "on", True, "256 clients"), (False, "on", False, "anew"), (True, "off", False, "off")],
)
def test_doctor_says_whether_clients_are_watched(
    watched: bool, detection: str, ok: bool, detail: str, tmp_path: Path
) -> None:
    bundles.publish(tmp_path / "registry", watched=watched)
    settings = load({"HOLDFAST_STATE": str(tmp_path), "HOLDFAST_QUERY_DETECTION": detection})
    told = data_of(CliRunner().invoke(doctor, ["--json"], obj=settings, **CONTEXT).stdout)
    (found,) = (f for f in told["findings"] if f["what"] == "query detection of digits")
    assert found["ok"] == ok
    assert detail in f"{found['detail']}; {found['fix']}"
