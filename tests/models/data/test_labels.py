"""Laws of labels: what stands in the file is the class, and all that cannot be one is named."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import data
from models.base.errors import DataError
from models.data.labels import drop_rare, number_labels
from models.data.raw import Raw, RawColumn, RawPart
from tests import samples


def raw_of(labels: Any, test: Any = None, names: tuple[str, ...] = ()) -> Raw:
    def part(values: Any, name: str) -> RawPart:
        own = np.asarray(values)
        column = RawColumn("n", np.arange(len(own), dtype=np.float32))
        return RawPart(own, lambda row: f"{name}, row {row + 1}", columns=(column,))

    return Raw("a", part(labels, "a"), None if test is None else part(test, "b"), names)


def texts(*cells: str | None) -> Any:
    values = np.empty(len(cells), dtype=object)
    values[:] = cells
    return values


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [
        ([-1, 1, -1], ("-1", "1"), [0, 1, 0]),
        ([1.0, -2.0, 2.0], ("-2", "1", "2"), [1, 0, 2]),
        (np.array([2, 10, 2], dtype=np.uint8), ("2", "10"), [0, 1, 0]),
        ([True, False, True], ("false", "true"), [1, 0, 1]),
        (texts("-1", "1", "1"), ("-1", "1"), [0, 1, 1]),
        (texts("10", "9", "9.0"), ("9", "10"), [1, 0, 0]),
        (texts("True", "FALSE", "true"), ("false", "true"), [1, 0, 1]),
        (texts("01", "02", "10"), ("01", "02", "10"), [0, 1, 2]),
        (texts("yes ", " no", "yes"), ("no", "yes"), [1, 0, 1]),
        (texts("9007199254740993", "9007199254740992"), ("9007199254740992", "9007199254740993"),
         [1, 0]),
        (np.eye(3)[[2, 0, 2]], ("0", "2"), [1, 0, 1]),
        (np.eye(2, dtype=np.int64)[[1, 0]], ("0", "1"), [1, 0]),
        (np.eye(2, dtype=np.bool_)[[1, 0]], ("0", "1"), [1, 0]),
    ],
)  # fmt: skip
def test_what_stands_there_is_the_class(
    labels: Any, classes: tuple[str, ...], numbers: list[int]
) -> None:
    numbered = number_labels(raw_of(labels))
    assert numbered.classes == classes
    assert numbered.train.tolist() == numbers
    assert numbered.notes == ()


def test_classes_are_those_of_training_by_name() -> None:
    numbered = number_labels(raw_of(texts("1", "3", "1"), texts("3.0", "1"), ()))
    assert numbered.classes == ("1", "3")
    assert numbered.test is not None
    assert numbered.test.tolist() == [1, 0]
    numbered = number_labels(raw_of(np.eye(3)[[1, 2]], None, ("a", "b", "c")))
    assert numbered.classes == ("b", "c")


@pytest.mark.parametrize(
    ("classes", "note"),
    [
        (("Yes", "no", "yes"), "labels 'Yes', 'yes' are 2 classes, for they are spelled differe"),
        (("01", "1", "2"), "labels '01', '1' are 2 classes"),
        (("EU", "NA", "SA"), "label 'NA' was taken as a class, not as a missing label"),
        (("-1", "0", "1"), "label -1 was taken as a class; leave rows out that have no label"),
    ],
)
def test_classes_that_may_be_meant_otherwise_are_told(classes: tuple[str, ...], note: str) -> None:
    numbered = number_labels(raw_of(texts(*classes)))
    assert numbered.classes == tuple(sorted(classes)) or numbered.classes == classes
    assert len(numbered.notes) == 1
    assert numbered.notes[0].startswith(note)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (raw_of(texts("a", None, "b", "")), r"a, row 2: the label is missing; .* 1 other row: 4"),
        (raw_of(texts("1", "NaN", "2")), "a, row 2: the label is missing"),
        (raw_of([1.0, np.nan]), "a, row 2: the label is missing"),
        (raw_of(texts("NaN", "")), "a, row 1: the label is missing; .* 1 other row: 2"),
        (raw_of([0.5, 1]), "a, row 1: label 0.5: expected a whole number or a text"),
        (raw_of(texts("1.5", "2", "2.5")), r"row 1: label '1.5': .* \(also in 1 other row: 3\)"),
        (raw_of([1e300, 1.0]), "a, row 1: label 1e.300 is too large to be a class"),
        (raw_of([np.inf, 1.0]), "a, row 1: label inf: expected a whole number"),
        (raw_of([0, 1, 2, -1], None, ("a", "b")), "row 3: label 2 is out of .* 1 other row: 4"),
        (raw_of([[1, 0], [1, 1], [0, 0]]), r"row 2: label \[1, 1\] is not one-hot; .*row: 3"),
        (raw_of([[0.2, 0.8]]), r"row 1: label \[0.2, 0.8\] is not one-hot"),
        (raw_of([[1, 0]], None, ("a",)), "row 1: labels of 2 columns, but 1 class names"),
        (raw_of(texts("a"), texts("b", "a")), "b, row 1: label 'b' does not occur in the training"),
    ],
)
def test_labels_that_can_be_none_are_named_by_row(raw: Raw, message: str) -> None:
    with pytest.raises(DataError, match=message):
        number_labels(raw)


def test_all_faults_of_labels_are_named_at_once() -> None:
    raw = raw_of([0.5, np.nan, 1.0, 1e300], [2.0, np.nan, 1.0])
    with pytest.raises(DataError) as caught:
        number_labels(raw)
    assert str(caught.value).splitlines()[0] == "a has 5 faults:"


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=60), st.integers(1, 12))
def test_dropping_rare_classes_keeps_all_other_rows(labels: list[str], fewest: int) -> None:
    raw = raw_of(texts(*labels), texts(*"abcd"))
    rest = drop_rare(raw, fewest)
    often = [label for label in labels if labels.count(label) >= fewest]
    assert rest.train.labels.tolist() == often
    assert rest.test is not None
    rare = {label for label in labels if labels.count(label) < fewest}
    assert rest.test.labels.tolist() == [label for label in "abcd" if label not in rare]
    for part in (rest.train, rest.test):
        told = [part.where(row) for row in range(len(part.labels))]
        assert told == [f"{told[row][0]}, row {int(value) + 1}" for row, value in
                        enumerate(part.columns[0].values)], "rows keep their names"  # fmt: skip
    assert bool(rest.notes) == bool(rare)
    assert all(repr(label) in rest.notes[0] for label in rare)


def test_case_labels_minus1() -> None:
    loaded = data.load(str(samples.case("tables/labels_minus1.csv")))
    assert loaded.classes == ("-1", "1")
