"""The best classes as texts: Triton's words, and nothing that a client cannot undo."""

from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.versions.registry import Registry
from models.versions.runner import Runner
from service.protocols.v2.classification import classify
from service.protocols.v2.codec import WantedOutput, encode_infer
from tests.service.v2_bodies import CLASSES, scored, tensors

URL = "/v2/models/digits/infer"
probabilities = st.floats(0, 1, width=32)


@given(
    arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.just(4)), elements=probabilities),
    st.integers(1, 6),
)
def test_the_texts_are_the_largest_values_in_order_to_the_last_bit(x: Any, count: int) -> None:
    width = min(count, 4)
    texts = classify(x, CLASSES, count)
    assert len(texts) == len(x) * width
    for row, start in zip(x, range(0, len(texts), width), strict=True):
        parts = [text.split(":", 2) for text in texts[start : start + width]]
        places = [int(place) for _, place, _ in parts]
        assert [label for *_, label in parts] == [CLASSES[place] for place in places]
        values = [np.float32(value) for value, *_ in parts]
        assert values == [row[place] for place in places]
        assert values == sorted(row, reverse=True)[:width]
        assert places == sorted(places, key=lambda place: (-row[place], place))


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("count", [1, 3, 4, 1000])
def test_the_client_reads_them_as_a_tensor_of_texts(binary: bool, count: int) -> None:
    given_ = scored(5)
    outputs = (WantedOutput("cells", True), WantedOutput("probabilities", binary, count))
    found = tensors(encode_infer(given_, outputs))
    told = found.get_output("probabilities")
    assert (told["datatype"], told["shape"]) == ("BYTES", [5, min(count, 4)])
    seen = found.as_numpy("probabilities")
    texts = [each.decode() if binary else each for each in seen.ravel()]
    assert texts == classify(given_.answer.probabilities, CLASSES, count)
    np.testing.assert_array_equal(found.as_numpy("cells"), given_.answer.cells)


def ask(client: FlaskClient, x: Any, *outputs: Any) -> Any:
    tensor = {"name": "input", "shape": list(x.shape), "datatype": "FP32", "data": x.tolist()}
    return client.post(URL, json={"inputs": [tensor], "outputs": list(outputs)})


def classes(count: Any, name: str = "probabilities") -> dict[str, Any]:
    return {"name": name, "parameters": {"classification": count}}


def test_a_model_answers_its_labels(client: FlaskClient, published_state: Any, rows: Any) -> None:
    answer = ask(client, rows[:3], classes(2), {"name": "drift_p_value"}).get_json()
    truth = Runner(Registry(published_state / "registry").open("digits")).run(rows[:3])
    best = truth.probabilities.argmax(axis=1)
    assert [text.split(":")[2] for text in answer["outputs"][0]["data"][::2]] == [
        str(place) for place in best
    ]
    assert answer["outputs"][1]["datatype"] == "FP32"


def test_a_count_of_0_asks_for_nothing(client: FlaskClient, rows: Any) -> None:
    assert (
        ask(client, rows[:1], classes(0, "cells")).get_json()["outputs"][0]["datatype"] == "INT32"
    )


@pytest.mark.parametrize(
    ("output", "field"),
    [
        (classes(2, "cells"), "classification"),
        (classes(1, "drift_p_value"), "classification"),
        (classes(-1), "classification"),
        (classes(-(10**300)), "classification"),
        (classes(2**64, "cells"), "classification"),
        (classes("2"), "classification"),
        (classes(True), "classification"),
        (classes(1.5), "classification"),
    ],
)
def test_what_has_no_classes_is_refused_by_name(
    client: FlaskClient, rows: Any, output: Any, field: str
) -> None:
    answer = ask(client, rows[:1], output)
    assert answer.status_code == 400
    assert field in answer.get_json()["error"]
