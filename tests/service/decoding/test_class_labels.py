"""A label means the class that it names, else the one it writes in another way, else none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.decoding.class_labels import AmbiguousLabelError, ClassLabels, label_text, meaning_of


@pytest.mark.parametrize(
    ("classes", "label", "means"),
    [
        (("0", "1"), "1.0", "1"),
        (("0", "1"), "1.", "1"),
        (("0", "1"), " 1", "1"),
        (("0", "1"), "1e0", "1"),
        (("-1", "1"), "-1.0", "-1"),
        (("-1", "1"), "+1", "1"),
        (("1.0", "2.0"), "1", "1.0"),
        (("1.5", "2"), "1.50", "1.5"),
        (("true", "false"), "True", "true"),
        (("True", "False"), "true", "True"),
        (("TRUE", "FALSE"), " False ", "FALSE"),
        (("cat", "dog"), " cat\t", "cat"),
        ((" cat", "cat"), " cat", " cat"),
        (("007", "7"), "007", "007"),
        (("007", "7"), "7.0", "7"),
        (("1", "1.0"), "1.0", "1.0"),
        (("9007199254740993", "9007199254740992"), "9007199254740993.0", "9007199254740993"),
    ],
)
def test_a_label_is_read_as_its_file_writes_it(
    classes: tuple[str, ...], label: str, means: str
) -> None:
    index = ClassLabels(classes).index(label)
    assert index is not None
    assert classes[index] == means


@pytest.mark.parametrize(
    ("classes", "label"),
    [
        (("0", "1"), "true"),
        (("0", "1"), "True"),
        (("true", "false"), "1"),
        (("0", "1"), "01"),
        (("007", "8"), "7"),
        (("0", "1"), "1.5"),
        (("0", "1"), "one"),
        (("0", "1"), ""),
        (("cat", "dog"), "Cat"),
        (("0", "1"), "nan"),
        (("0", "1"), "1" * 5000),
        (("0", "1"), "1e999999"),
        (("0", "1"), "\u0661"),
    ],
)
def test_what_is_no_class_means_none(classes: tuple[str, ...], label: str) -> None:
    assert ClassLabels(classes).index(label) is None


def test_a_label_that_may_mean_two_classes_means_neither() -> None:
    classes = ClassLabels(("1", "1.0", "2"))
    with pytest.raises(AmbiguousLabelError, match=r"'1' and '1\.0'"):
        classes.index("1.00")
    assert classes.may_mean("1.00")
    assert classes.index("2.0") == 2


@given(st.lists(st.text(), min_size=1, unique=True), st.data())
def test_the_name_of_a_class_always_means_it(names: list[str], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(names))
    assert ClassLabels(names).index(name) == names.index(name)


@given(st.text())
def test_any_text_has_a_meaning_or_none(text: str) -> None:
    meaning_of(text)
    ClassLabels(("0", "1", "true")).may_mean(text)


def test_the_json_of_a_label_keeps_its_spelling() -> None:
    found = [label_text(raw) for raw in (b"1.50", b"-1", b"true", b'"\\u0037"', b"{}", b"[1]", b"")]
    assert found == ["1.50", "-1", "true", "7", None, None, None]
