"""Laws of wrapping tables: columns find their inputs, and categories their texts."""

import msgspec
import numpy as np
import pytest
from onnx import helper
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from models.base.errors import AdaptError
from models.data import DataSet, Rows, load
from models.versions.schema import Column
from models.wrapping import adapt
from models.wrapping.outputs import softmax
from tests import exports


@pytest.mark.parametrize("name", ["wine", "breast_cancer"])
def test_tables_are_fed_in_one_input(name: str) -> None:
    data = load(name)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    made = adapt(exports.from_sklearn(pipeline, data.train.x, data.train.y), data)
    exports.check_contract(made, data)
    assert made.facts.scale == "raw"
    assert made.facts.layout == "one input"


PEOPLE = {
    "own names": ("age", "net income", "city", "size"),
    "an exporter's names": ("Age", "net_income", "CITY", "size"),
    "no names": ("a", "b", "c", "d"),
    "two groups": ("numbers", "texts"),
}


@pytest.mark.parametrize("case", PEOPLE)
def test_columns_find_their_inputs_and_categories_their_texts(case: str) -> None:
    data = exports.people()
    made = adapt(exports.pipeline_of_columns(PEOPLE[case]), data)
    exports.check_contract(made, data)
    assert made.facts.features is None
    x = data.test.x[:3].copy()
    x[0, 2], x[1, 3] = -1, -1  # a city and a size that training did not have
    (logits,) = exports.answers(made, data, x, "logits")
    assert np.isfinite(logits).all()
    known = exports.answers(made, data, data.test.x[:3], "logits")[0]
    assert not np.allclose(logits[:2], known[:2])
    np.testing.assert_array_equal(logits[2], known[2])


def test_columns_that_the_model_does_not_take_are_told() -> None:
    data = exports.people()
    columns = (*data.schema.columns, Column("hobby"))
    schema = msgspec.structs.replace(data.schema, shape=(5,), columns=columns)
    parts = [
        Rows(np.concatenate([p.x, np.ones((len(p), 1), np.float32)], axis=1), p.y)
        for p in (data.train, data.calibration, data.test)
    ]
    made = adapt(exports.pipeline_of_columns(), DataSet("p", schema, data.classes, *parts))
    assert "it does not use the columns hobby" in made.facts.notes


def test_categories_that_are_numbers_go_in_as_numbers() -> None:
    """A model that takes the size itself (10, 20, 30), not its place among the sizes."""
    data = exports.people()
    table = data.train.x.copy()
    table[:, 3] = np.array([10.0, 20.0, 30.0])[table[:, 3].astype(int)]
    made = adapt(exports.from_sklearn(RandomForestClassifier(30), table, data.train.y), data)
    assert exports.accuracy(made, data) > 0.85
    assert made.facts.parity.largest_difference <= 1e-4


def test_missing_numbers_reach_the_model_as_nan() -> None:
    data = load("wine")
    columns = tuple(msgspec.structs.replace(c, missing=True) for c in data.schema.columns)
    schema = msgspec.structs.replace(data.schema, columns=columns)
    rng = np.random.default_rng(0)
    parts = [
        Rows(np.where(rng.random(p.x.shape) < 0.1, np.float32(np.nan), p.x), p.y)
        for p in (data.train, data.calibration, data.test)
    ]
    holes = DataSet("holes", schema, data.classes, *parts)
    pipeline = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())
    made = adapt(exports.from_sklearn(pipeline, parts[0].x, parts[0].y), holes)
    exports.check_contract(made, holes)
    careless = make_pipeline(StandardScaler(), LogisticRegression())
    model = exports.from_sklearn(careless, data.train.x, data.train.y)
    with pytest.raises(AdaptError, match=r"answers none of the labelled rows .* give NaN"):
        adapt(model, holes)


@pytest.mark.parametrize("end", ["sigmoid", "logit", "sigmoid of one number"])
def test_one_number_for_two_classes_becomes_two_logits(end: str) -> None:
    data = load("breast_cancer")
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(data.train.x, data.train.y)
    scaler, linear = fitted[0], fitted[1]
    weights = (linear.coef_[0] / scaler.scale_).astype(np.float32)
    bias = np.float32(linear.intercept_[0] - (scaler.mean_ / scaler.scale_) @ linear.coef_[0])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Add", ["z", "b"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["p"]),
        helper.make_node("Flatten", ["p"], ["flat"]),
        helper.make_node("Squeeze", ["flat", "axes"], ["one"]),
    ]
    model = exports.by_hand(
        nodes,
        {"w": weights[:, None], "b": bias[None], "axes": np.array([1])},
        (None, 30),
        {"sigmoid": "p", "logit": "logit", "sigmoid of one number": "one"}[end],
    )
    made = adapt(model, data)
    exports.check_contract(made, data)
    (logits,) = exports.answers(made, data, data.test.x, "logits")
    np.testing.assert_allclose(softmax(logits), fitted.predict_proba(data.test.x), atol=1e-4)
