"""What a version was judged against is said, and is no claim about its training."""

import pytest

from models.versions.judging import Reach, ThreatModel
from models.versions.schema import Column, InputSchema
from service.console.telling.boxes import share_of_columns, tell_box, tell_judged

TABLE = InputSchema(
    "row", (4,), "float32", 0.0, 1.0, "tabular",
    columns=(Column("age"), Column("income"), Column("debt"),
             Column("city", "categorical", categories=("Kiel",))),
)  # fmt: skip
IMAGE = InputSchema("input", (1, 8, 8), "float32", 0.0, 16.0, "image")
COLUMNS: dict[str, Reach] = {"age": 0.0, "debt": (0.5, 1.0)}


@pytest.mark.parametrize(
    ("threat", "words"),
    [
        (None, "not judged"),
        (ThreatModel(eps=0.15), "judged against 0.15."),
        (ThreatModel(norm="l2", eps=1.0), "L2 length 1, which says nothing of changes of each"),
    ],
)
def test_what_it_was_judged_against_is_not_told_as_what_it_was_trained_against(
    threat: ThreatModel | None, words: str
) -> None:
    assert words in tell_judged(threat)
    assert "trained" not in tell_judged(threat)


def test_a_columns_share_is_that_of_the_box_and_categories_are_held() -> None:
    assert share_of_columns(TABLE, COLUMNS) == ((0.0, 0.0), (1.0, 1.0), (0.5, 1.0), (0.0, 0.0))
    assert share_of_columns(IMAGE, {}) == ()


def test_the_box_of_a_table_names_what_is_held_and_what_moves_otherwise() -> None:
    told = tell_box(TABLE, COLUMNS)
    assert "Held: age, categories and missing values." in told
    assert "debt by 0.5 of it down and 1 up" in told
    assert "income" not in told
    assert tell_box(IMAGE, {}) == ""
