"""Laws of weak models: honest ones are wrapped with a warning in figures, chance needs a word."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from models.base.errors import AdaptError
from models.data import DataSet, Rows, Source, load
from models.versions.schema import Column, InputSchema
from models.wrapping import Options, adapt
from models.wrapping.skill import balanced_accuracy, beats_chance, measure_skill
from tests import exports, samples


def imbalanced(seed: int, *, gain: float, rows: int = 1500) -> DataSet:
    """A table of which one row in eight is of the second class, which `gain` makes visible."""
    rng = np.random.default_rng(seed)
    y = (rng.random(rows) < 0.125).astype(np.int64)
    x = rng.normal(size=(rows, 4)).astype(np.float32)
    x[:, 0] += np.float32(gain) * y
    columns = tuple(Column(name, low=-3, high=3) for name in "abcd")
    schema = InputSchema("row", (4,), "float32", 0.0, 1.0, "tabular", columns)
    third = rows // 3
    parts = [Rows(x[at : at + third], y[at : at + third]) for at in (0, third, 2 * third)]
    return DataSet("imbalanced", schema, ("no", "yes"), *parts)


def fitted_on(data: DataSet) -> onnx.ModelProto:
    return exports.from_sklearn(LogisticRegression(), data.train.x, data.train.y)


def test_a_model_that_names_the_commonest_class_but_ranks_well_is_wrapped_with_a_warning() -> None:
    data = imbalanced(0, gain=1.0)
    made = adapt(fitted_on(data), data)
    skill = made.facts.skill
    assert skill is not None
    assert skill.auc is not None
    assert skill.auc.low > 0.5
    (warning,) = (note for note in made.facts.notes if note.startswith("it is weak"))
    for figure in (f"AUC {skill.auc.value:.2f}", "balanced accuracy", "recall yes"):
        assert figure in warning


def test_chance_is_refused_with_the_option_that_wraps_it_all_the_same() -> None:
    data = imbalanced(1, gain=0.0)
    model = fitted_on(data)
    with pytest.raises(AdaptError, match=r"near chance.*--accept-weak") as refusal:
        adapt(model, data)
    assert "AUC" in str(refusal.value)
    made = adapt(model, data, options=Options(accept_weak=True))
    assert any("near chance" in note for note in made.facts.notes)
    assert any(note.startswith("it is weak") for note in made.facts.notes)


def test_a_strong_model_gets_no_warning() -> None:
    data = imbalanced(2, gain=6.0)
    made = adapt(fitted_on(data), data)
    assert not [note for note in made.facts.notes if "weak" in note]


@given(seed=st.integers(0, 10_000), classes=st.integers(2, 6), rows=st.integers(40, 400))
def test_chance_hardly_ever_passes_for_skill(seed: int, classes: int, rows: int) -> None:
    """Three standard errors: one in 370 on one side or the other, here in a run of a hundred."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), rng.integers(0, classes, rows)])
    logits = rng.normal(size=(len(y), classes))
    skill = measure_skill(logits, y, tuple("abcdef"[:classes]))
    assert skill.balanced.low <= skill.balanced.value <= skill.balanced.high
    assert skill.balanced.low <= 1 / classes + 0.1
    perfect = measure_skill(np.eye(classes)[y] * 9.0, y, tuple("abcdef"[:classes]))
    assert perfect.balanced.value == 1
    assert beats_chance(perfect)


def test_chance_passes_for_skill_about_as_rarely_as_promised() -> None:
    rng, passed = np.random.default_rng(0), 0
    for _ in range(300):
        y = (rng.random(200) < 0.15).astype(np.int64)
        y[:2] = (0, 1)
        passed += beats_chance(measure_skill(rng.normal(size=(200, 2)), y, ("a", "b")))
    assert passed <= 5


def test_balanced_accuracy_counts_classes_not_rows() -> None:
    y = np.array([0] * 90 + [1] * 10)
    assert balanced_accuracy(np.zeros(100, np.int64), y).value == 0.5


def test_the_imbalanced_case_is_wrapped_with_a_warning() -> None:
    """Case `wrap/imbalanced_xgb`: AUC .75, refused as near chance before."""
    folder = samples.SHARED.parent / "cases" / "wrap"
    if not folder.is_dir():
        pytest.skip("the cases are not here")
    data = load(Source(str(folder / "imbalanced.csv"), label="rain"))
    made = adapt(onnx.load(folder / "imbalanced_xgb.onnx"), data)
    assert made.facts.scale == "raw"
    assert any(note.startswith("it is weak") for note in made.facts.notes)
    assert made.facts.as_in_file is not None
    assert made.facts.as_in_file.apart == 0
