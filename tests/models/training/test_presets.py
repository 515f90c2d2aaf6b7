"""Laws of the presets: fit for the kind of data, shorter when quick, steady over the rows."""

import pytest

from models.attacks.threat import Columns, Linf, geometry_of
from models.training.presets import preset
from models.versions.schema import Column, InputSchema

SCHEMAS = {
    "small grey": InputSchema("input", (1, 8, 8), "float32", 0, 16, "image"),
    "grey": InputSchema("input", (1, 28, 28), "uint8", 0, 255, "image"),
    "colour": InputSchema("input", (3, 32, 32), "uint8", 0, 255, "image"),
    "table": InputSchema("input", (1,), "float32", 0, 1, "tabular", (Column("a"),)),
}
kinds = pytest.mark.parametrize("kind", SCHEMAS)


@kinds
@pytest.mark.parametrize("rows", [1, 100, 1078, 55_000, 10**6])
def test_epochs_fall_with_the_rows_and_quick_is_a_fraction(kind: str, rows: int) -> None:
    usual, more = (preset(SCHEMAS[kind], n).recipe for n in (rows, 2 * rows))
    assert usual.epochs >= more.epochs >= 5
    quick = preset(SCHEMAS[kind], rows, quick=True).recipe
    assert quick.epochs < usual.epochs / 2
    assert quick.steps_at(1.0) <= usual.steps_at(1.0)


@kinds
def test_threats_of_training_and_judging_fit_the_input(kind: str) -> None:
    made, schema = preset(SCHEMAS[kind], 1000), SCHEMAS[kind]
    wanted = Columns if kind == "table" else Linf
    for threat in (made.recipe.threat_model, made.threat):
        assert isinstance(geometry_of(threat, schema), wanted)
    assert made.threat.eps <= made.recipe.eps, "nobody is judged by more than it was trained for"


def test_photographs_are_judged_at_8_of_255() -> None:
    assert preset(SCHEMAS["colour"], 1000).threat.eps == pytest.approx(8 / 255)
