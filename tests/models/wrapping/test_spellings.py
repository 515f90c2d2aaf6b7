"""Laws of spelling: the wrapped model gets a column's cells as the model itself was fitted on them.

A client sends what stands in the file. Whatever the model calls it, the wrapped model is right as
often as the model is on its own spelling.
"""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from models.base.errors import AdaptError
from models.data import DataSet, Source, load
from models.versions.facts import FileFacts
from models.wrapping import Adapted, Options, adapt
from tests import applicants, exports, samples


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    path = applicants.write(tmp_path_factory.mktemp("table") / "applicants.csv")
    return load(Source(str(path)))


@pytest.fixture(scope="module")
def right(data: DataSet) -> float:
    """How often a pipeline is right that was fitted on the cells as they stand."""
    return in_file(adapt(applicants.pipeline({}), data)).own.value


def in_file(made: Adapted) -> FileFacts:
    assert made.facts.as_in_file is not None, made.facts.not_measured
    return made.facts.as_in_file


SPELLINGS: dict[str, applicants.Spell] = {
    "as in the file": {},
    "whole numbers": {"zip": lambda cell: str(int(cell))},
    "floats": {"zip": lambda cell: str(float(cell))},
    "padded": {"zip": lambda cell: f"{int(cell):08d}"},
    "a space before": {"city": lambda cell: f" {cell}"},
    "small letters": {"city": str.lower, "sex": str.lower, "member": str.lower},
    "capital letters": {"city": str.upper, "member": str.upper},
    "1 and 0": {"member": lambda cell: "1" if cell == "True" else "0"},
    "1.0 and 0.0": {"member": lambda cell: "1.0" if cell == "True" else "0.0"},
    "yes and no": {"member": lambda cell: "Yes" if cell == "True" else "No"},
    "underscores": {"city": lambda cell: cell.replace(" ", "_")},
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_texts_are_spelt_as_the_graph_has_them(name: str, data: DataSet, right: float) -> None:
    made = adapt(applicants.pipeline(SPELLINGS[name]), data)
    assert in_file(made).wrapped.value > 0.9
    assert abs(in_file(made).wrapped.value - right) < 0.005
    changed = {*SPELLINGS[name], "member"} if name != "small letters" else {"city", "sex"}
    assert set(made.facts.spelling) == changed


def test_a_category_that_nobody_knows_stops_no_batch(data: DataSet) -> None:
    made = adapt(applicants.pipeline({}, strict=True), data)
    x = data.test.x[:2].copy()
    x[0, 1] = -1
    known, (logits,) = exports.answers(made, data, data.test.x[:2]), exports.answers(made, data, x)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(logits[1], known[0][1], atol=1e-5)
    assert not np.allclose(logits[0], known[0][0])


NUMBERS: dict[str, tuple[Callable[[], np.ndarray], dict[str, str]]] = {
    "by alphabet": (
        lambda: applicants.codes(applicants.NAMES, {}),
        {"city": "by alphabet, from 0"},
    ),
    "backwards": (
        lambda: applicants.codes(applicants.NAMES, {"sex": ("M", "F")}),
        {"sex": "by alphabet, backwards"},
    ),
    "from one": (
        lambda: applicants.codes(
            applicants.NAMES, {"city": ("nowhere", "Bonn", "Köln", "New York")}
        ),
        {"city": "by alphabet, from 1"},
    ),
    "one column each": (
        lambda: applicants.dummies(drop_first=False, truth_stays=False),
        {"city": "one column each"},
    ),
    "the first left out": (
        lambda: applicants.dummies(drop_first=True, truth_stays=False),
        {"city": "one column each, the first left out"},
    ),
    "true as 1": (
        lambda: applicants.dummies(drop_first=False, truth_stays=True),
        {"member": "no as 0, yes as 1"},
    ),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_that_stand_for_categories_are_tried_out(name: str, data: DataSet) -> None:
    table, expected = NUMBERS[name]
    fitted = RandomForestClassifier(25, max_depth=8, random_state=0)
    x = table()
    model = exports.from_sklearn(fitted, x, applicants.labels())
    made = adapt(model, data)
    exports.check_contract(made, data)
    own = float((fitted.predict(x) == applicants.labels()).mean())
    assert abs(in_file(made).wrapped.value - own) < 0.01
    for column, words in expected.items():
        assert made.facts.spelling[column].startswith(words)


def test_a_difference_between_file_and_model_is_named_with_its_column(data: DataSet) -> None:
    made = adapt(applicants.pipeline({"zip": lambda cell: str(float(cell))}), data)
    assert in_file(made).own.value < in_file(made).wrapped.value - 0.03
    assert in_file(made).apart > 0
    (note,) = (note for note in made.facts.notes if "the model itself on" in note)
    assert "the column 'zip' (" in note
    same = adapt(applicants.pipeline({}), data)
    assert in_file(same).apart == 0
    assert not [note for note in same.facts.notes if "the model itself on" in note]


def test_what_lies_in_no_file_of_cells_is_not_measured_by_name() -> None:
    wine = load("wine")
    made = adapt(exports.from_sklearn(LogisticRegression(), wine.train.x, wine.train.y), wine)
    assert made.facts.as_in_file is None
    assert "accuracy on the rows of the file" in made.facts.not_measured


def test_columns_in_another_order_are_suggested(data: DataSet) -> None:
    order = sorted(applicants.NAMES)
    fitted = RandomForestClassifier(25, max_depth=8, random_state=0)
    model = exports.from_sklearn(fitted, applicants.codes(order, {}), applicants.labels())
    with pytest.raises(AdaptError, match="with --columns age,city,member,sex,spend,zip it would"):
        adapt(model, data)
    made = adapt(model, data, options=Options(columns=tuple(order)))
    assert in_file(made).wrapped.value > 0.9


def test_a_zip_code_with_zeros_reaches_the_pipeline_that_was_fitted_on_it() -> None:
    """Case `wrap/zip_text`: right on .905 where the pipeline itself is."""
    folder = samples.SHARED.parent / "cases" / "wrap"
    if not folder.is_dir():
        pytest.skip("the cases are not here")
    source = Source(str(folder / "zip_text.csv"), label="left", categorical=("zip",))
    made = adapt(onnx.load(folder / "zip_text.onnx"), load(source))
    assert in_file(made).apart == 0
    assert in_file(made).wrapped == in_file(made).own
    assert in_file(made).own.value > 0.89
