"""A request id is checked wherever one can be given, and a good one comes back as it was."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import Client

from service.web import REQUEST_ID
from tests import bundles

Rows = np.ndarray[Any, np.dtype[np.float32]]
X = bundles.digits().test.x[:1]
TENSOR = {"name": "input", "shape": list(X.shape), "datatype": "FP32", "data": X.ravel().tolist()}
INSTANCES = {"instances": X.tolist()}
V2 = "/v2/models/digits/infer"
UNFIT = ["a b", "a/b", "é", "a\u202eb", "x" * 129, "<script>", "${jndi:x}", "a\x7f", "'--"]
GIVEN = {
    "predict, header": ("/predict", INSTANCES, "header"),
    "v1, header": ("/v1/models/digits:predict", INSTANCES, "header"),
    "v2, header": (V2, {"inputs": [TENSOR]}, "header"),
    "v2, body": (V2, {"inputs": [TENSOR]}, "body"),
    "feedback, body": ("/feedback", {"label": "1"}, "body"),
    "certify, header": ("/certify", INSTANCES, "header"),
}


def send(client: Client, place: str, request_id: str) -> Any:
    path, body, where = GIVEN[place]
    if where == "body":
        return client.post(path, json={**body, "id": request_id})
    raw = {"HTTP_X_REQUEST_ID": request_id.encode().decode("latin-1")}  # as WSGI has it
    return client.post(path, json=body, environ_base=raw)


@pytest.mark.parametrize("place", GIVEN)
def test_unfit_ids_are_refused_by_name_and_never_repeated_raw(client: Client, place: str) -> None:
    for request_id in UNFIT:
        if place == "feedback, body" and "/" in request_id:
            continue  # the row of an answer
        answer = send(client, place, request_id)
        assert answer.status_code == 400, request_id
        assert answer.text.isascii()
        assert answer.text.isprintable()
        assert request_id not in str(answer.headers)
        assert "1 to 128 characters of A-Z" in answer.text


@pytest.mark.parametrize("place", ["predict, header", "v1, header", "v2, header", "v2, body"])
def test_a_good_id_comes_back(client: Client, place: str) -> None:
    answer = send(client, place, "Job-7:a.b_c")
    assert answer.status_code == 200
    assert answer.get_json()["id"] == "Job-7:a.b_c"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(max_size=140), st.sampled_from(sorted(GIVEN)))
def test_whatever_is_given_as_an_id_is_answered_in_ascii(
    client: Client, text: str, place: str
) -> None:
    if "certify" in place and REQUEST_ID.fullmatch(text):
        return  # a certificate takes long, and its id is checked before
    answer = send(client, place, text)
    assert answer.status_code in (200, 400, 404)
    assert answer.text.isascii()
    assert answer.status_code != 200 or not text or REQUEST_ID.fullmatch(text)
