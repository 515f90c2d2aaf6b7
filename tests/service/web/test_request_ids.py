"""Which id of a request counts: one that is fit comes back, another never refuses a prediction."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import Client

from models.base import logs
from monitoring.records.store import Key, RecordedRow
from service.app import Service
from service.web.request_id import REQUEST_ID
from tests import bundles
from tests.asgi import client_of
from tests.service.conftest import MakeApp
from tests.service.processes import wait_until

Rows = np.ndarray[Any, np.dtype[np.float32]]
X = bundles.digits().test.x[:1]
TENSOR = {"name": "input", "shape": list(X.shape), "datatype": "FP32", "data": X.ravel().tolist()}
INSTANCES = {"instances": X.tolist()}
V2 = "/v2/models/digits/infer"
PROXIES = ["8d5b8ad6#12", "YxQ@oKwQBAsAAAHc", "q83vEjRWeJA+/w==", "abc, def"]
UNFIT = [
    *PROXIES, "a b", "a/b", "é", "a\u202eb", "x" * 129, "<script>", "${jndi:x}", "a\x7f", "'--",
    " ", "Root=1-67891233-abcdef012345678912345678", '{"a": 1}',
]  # fmt: skip
DIALECTS = {
    "predict": ("/predict", INSTANCES),
    "v1": ("/v1/models/digits:predict", INSTANCES),
    "v2": (V2, {"inputs": [TENSOR]}),
    "certify": ("/certify", INSTANCES | {"samples": 2}),
}


def send(client: Client, place: str, given: str, **members: Any) -> Any:
    path, body = DIALECTS[place]
    raw = {"HTTP_X_REQUEST_ID": given.encode().decode("latin-1")}  # as WSGI has it
    return client.post(path, json=body | members, environ_base=raw)


def label(client: Client, id: str) -> Any:
    return client.post("/feedback", json={"id": id, "label": "1"})


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    kept: list[bytes] = []
    monkeypatch.setattr(logs, "write", kept.append)
    return kept


@pytest.mark.parametrize("place", DIALECTS)
def test_an_unfit_id_is_replaced_and_the_answer_says_by_which(client: Client, place: str) -> None:
    for name in UNFIT:
        answer = send(client, place, name)
        assert answer.status_code == 200, name
        counts = answer.get_json()["id"]
        assert REQUEST_ID.fullmatch(counts)
        assert answer.headers["X-Request-Id"] == counts
        assert not name.strip() or name not in str(answer.headers)


@pytest.mark.parametrize("place", DIALECTS)
def test_a_fit_id_comes_back(client: Client, place: str) -> None:
    answer = send(client, place, "Job-7:a.b_c")
    assert answer.status_code == 200
    assert answer.get_json()["id"] == answer.headers["X-Request-Id"] == "Job-7:a.b_c"


@pytest.mark.parametrize("place", ["predict", "v1", "v2"])
def test_feedback_reaches_the_request_by_the_id_that_counts(client: Client, place: str) -> None:
    answer = send(client, place, "8d5b8ad6#12")
    assert label(client, answer.headers["X-Request-Id"]).status_code == 200
    assert label(client, "8d5b8ad6#12").status_code == 400


def test_the_id_of_a_v2_body_is_given_back_whatever_it_is(client: Client) -> None:
    for name in [*UNFIT, "a\nb", "x" * 5000]:
        answer = send(client, "v2", "", id=name)
        document = answer.get_json()
        assert answer.status_code == 200
        assert document["id"] == name
        counts = document["parameters"]["request_id"]
        assert answer.headers["X-Request-Id"] == counts
        assert label(client, counts).status_code == 200


def test_a_fit_id_of_a_v2_body_counts_and_wins_over_the_header(client: Client) -> None:
    answer = send(client, "v2", "of-the-proxy", id="mine")
    assert answer.get_json()["id"] == answer.headers["X-Request-Id"] == "mine"
    assert "parameters" not in answer.get_json()
    unfit = send(client, "v2", "of-the-proxy", id="mi ne")
    assert unfit.get_json()["id"] == "mi ne"
    assert unfit.get_json()["parameters"] == {"request_id": "of-the-proxy"}


def test_null_is_no_id(client: Client) -> None:
    answer = send(client, "v2", "of-the-proxy", id=None)
    assert answer.status_code == 200
    assert answer.get_json()["id"] == "of-the-proxy"


def test_a_refusal_has_the_id_that_was_given_too(client: Client) -> None:
    body = {"instances": [1]}
    refused = client.post("/predict", json=body, headers={"X-Request-Id": "order-7"})
    assert refused.status_code == 400
    assert refused.headers["X-Request-Id"] == "order-7"
    unfit = client.post("/predict", json=body, headers={"X-Request-Id": "order#7"})
    assert "X-Request-Id" not in unfit.headers


def test_the_log_has_the_id_that_counts_and_the_given_one_escaped(
    make_app: MakeApp, published_state: Any, tmp_path: Any, written: list[bytes]
) -> None:
    url = f"sqlite:///{tmp_path}/records.sqlite"
    app = make_app(published_state, access_log="all", database_url=url)
    client, given = client_of(app), ["a\u202eb", "8d5b8ad6#12", 'a\x7f"b', "x" * 3000]
    for each in given:
        send(client, "predict", each)
    send(client, "v2", "of-the-proxy", id="mine")
    send(client, "predict", "fit")
    assert all(line.isascii() and b"\x7f" not in line and len(line) < 1000 for line in written)
    lines = [json.loads(line) for line in written]
    assert all(REQUEST_ID.fullmatch(line["id"]) for line in lines)
    assert lines[1]["given_id"] == "8d5b8ad6#12"
    assert "202e" in lines[0]["given_id"] or "\\xe2\\x80\\xae" in lines[0]["given_id"]
    assert "\\x7f" in lines[2]["given_id"]
    assert len(lines[3]["given_id"]) == 128
    assert (lines[4]["id"], lines[4]["given_id"]) == ("mine", "of-the-proxy")
    assert lines[5]["id"] == "fit"
    assert "given_id" not in lines[5]


def test_feedback_reaches_the_last_recorded_request_of_an_id_that_came_twice(
    client: Client, service: Service, rows: Rows
) -> None:
    """Proxies retry, and clients count from 1 after every start."""
    assert service.store is not None
    store, schema = service.store, service.champions.find("digits").manifest.input
    key, seen = Key("twice", 0), -1
    for row, name in ((0, "3"), (1, "4")):
        body = {"instances": rows[row : row + 1].tolist()}
        answer = client.post("/predict", json=body, headers={"X-Request-Id": "twice"})
        assert answer.get_json()["id"] == "twice"
        wait_until(lambda: store.find([key]).get(key, RecordedRow(-1, "", 0, 0)).seq > seen)  # noqa: B023
        seen = store.find([key])[key].seq
        assert client.post("/feedback", json={"id": "twice", "label": name}).status_code == 200
        kept = store.labelled("digits", schema, limit=10_000)
        np.testing.assert_array_equal(kept.x[-1], rows[row])
        assert kept.y[-1] == int(name)
    mine = (kept.x == rows[0]).all(axis=(1, 2, 3)) & (kept.y == 3)
    assert mine.any(), "a label belongs to a request: that of the first one stays"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=140), st.sampled_from(["predict", "v1", "v2"]), st.booleans())
def test_no_id_refuses_a_prediction(client: Client, text: str, place: str, body: bool) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return  # half a surrogate pair: no text of JSON or HTTP
    members = {"id": text} if body and place == "v2" else {}
    answer = send(client, place, "" if members else text, **members)
    assert answer.status_code == 200
    assert REQUEST_ID.fullmatch(answer.headers["X-Request-Id"])


@pytest.mark.parametrize("given", ["a b", "é", "x" * 129, "<script>", "a#b"])
def test_a_label_for_an_unfit_id_is_refused_by_name(client: Client, given: str) -> None:
    answer = label(client, given)
    assert answer.status_code == 400
    assert answer.text.isascii()
    assert "1 to 128 characters of A-Z" in answer.text
