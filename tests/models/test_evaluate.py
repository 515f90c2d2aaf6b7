"""Laws of the evaluation: figures follow from the served graph, attacks stay in the raw range."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from models import corruptions, nets
from models.data import DataSet, Rows
from models.evaluate import (
    CURVE,
    answer,
    attacked,
    attacked_rows,
    curve,
    edge_cases,
    evaluate,
    noise_right,
    right,
    robust,
)
from models.schema import InputSchema
from tests.conftest import NET, Published

GREY = InputSchema("input", (1, 8, 8), "uint8", 0.0, 255.0, "image")


@pytest.fixture(scope="module")
def rows(digits: DataSet) -> Rows:
    """Some test rows."""
    return digits.test.take(np.arange(120))


@pytest.mark.parametrize("attack", ["fgsm", "pgd", "apgd"])
def test_attacked_rows_are_valid_raw_inputs_of_the_size_asked_for(
    attack: str, published: Published, rows: Rows
) -> None:
    schema = published.subject.schema
    x = attacked(published.subject, rows, 0.1, attack=attack, steps=5)
    schema.check(x)
    moved = np.abs(schema.to_unit(x) - schema.to_unit(rows.x))
    assert 0.05 < moved.max() <= 0.1 + 1e-5
    again = attacked(published.subject, rows, 0.1, attack=attack, steps=5)
    np.testing.assert_array_equal(x, again)


def test_attacked_bytes_are_bytes(digits: DataSet) -> None:
    torch.manual_seed(0)
    rows = Rows((digits.test.x[:20] * 15).astype(np.uint8), digits.test.y[:20])
    x = attacked_rows(nets.build(NET).eval(), GREY, rows, 0.1, attack="pgd", steps=3)
    GREY.check(x)
    moved = np.abs(GREY.to_unit(x) - GREY.to_unit(rows.x)).max()
    assert 0.05 < moved <= 0.1 + 0.5 / 255 + 1e-6, "rounding may add half a grey level"


def test_answer_does_not_depend_on_the_chunks(published: Published, digits: DataSet) -> None:
    x = digits.train.x[:600]  # three chunks
    whole = answer(published.runner, x)
    single = answer(published.runner, x[300:301])
    assert len(whole.cells) == 600
    np.testing.assert_array_equal(whole.cells[300], single.cells[0])
    np.testing.assert_allclose(whole.probabilities[300], single.probabilities[0], atol=1e-6)


def test_robust_rows_are_right_rows_and_fewer_with_eps(published: Published, rows: Rows) -> None:
    clean = right(published.runner, rows)
    survived = [robust(published.subject, rows, eps, steps=10) for eps in (0.0, 0.1, 0.3)]
    np.testing.assert_array_equal(survived[0], clean)
    for more in survived:
        assert not (more & ~clean).any()
    assert survived[0].mean() > survived[1].mean() > survived[2].mean()
    figures = curve(published.subject, rows, (0.0, 0.1, 0.3), steps=10)
    assert figures == [float(s.mean()) for s in survived]


def test_noise_is_weaker_than_the_attack(published: Published, rows: Rows) -> None:
    attack = robust(published.subject, rows, 0.15, steps=10).mean()
    assert (
        right(published.runner, rows).mean()
        >= noise_right(published.runner, rows, 0.15).mean() - 0.02
    )
    assert noise_right(published.runner, rows, 0.15).mean() > attack


@pytest.fixture(scope="module")
def figures(published: Published) -> dict[str, Any]:
    """What the published version's manifest says."""
    return published.bundle.manifest.evaluation


def test_figures_are_those_of_the_served_graph(
    figures: dict[str, Any], published: Published, digits: DataSet
) -> None:
    told = answer(published.runner, digits.test.x)
    correct, facts = (
        told.probabilities.argmax(axis=1) == digits.test.y,
        published.bundle.manifest.calibration,
    )
    assert figures["n"] == len(digits.test) == figures["clean"]["n"]
    assert figures["clean"]["value"] == pytest.approx(correct.mean(), abs=1e-4)
    drift = figures["scores"]["drift_false_positives"]["value"]
    assert drift == pytest.approx((told.drift_p_value <= facts.alpha).mean(), abs=1e-4)
    by_class = [figures["classes"][name] for name in digits.classes]
    assert [c["n"] for c in by_class] == np.bincount(digits.test.y).tolist()
    mean = sum(c["value"] * c["n"] for c in by_class) / len(digits.test)
    assert mean == pytest.approx(correct.mean(), abs=1e-3)


def test_figures_cover_what_the_suite_promises(figures: dict[str, Any]) -> None:
    assert [p["eps"] for p in figures["robust_curve"]] == list(CURVE)
    accuracy = [p["value"] for p in figures["robust_curve"]]
    assert accuracy == sorted(accuracy, reverse=True)
    assert figures["robust"]["value"] < figures["clean"]["value"]
    assert {(c["name"], c["severity"]) for c in figures["corruptions"]} == {
        (name, severity) for name in corruptions.CORRUPTIONS for severity in corruptions.SEVERITIES
    }
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures, "no NaN in the manifest"


def test_edge_cases_are_finite_and_flagged(published: Published) -> None:
    cases = edge_cases(published.runner)
    assert len(cases) == 6
    for case in cases:
        assert case["finite"], case
        assert case["drift_flagged"] == 1.0, case


def test_class_without_rows_has_no_value_but_an_interval(
    published: Published, digits: DataSet
) -> None:
    few = digits.test.take(np.flatnonzero(digits.test.y == 3)[:4])
    told = evaluate(published.subject, few, window=few)
    assert told["classes"]["4"] == {"value": None, "low": 0.0, "high": 1.0, "n": 0}
    assert told["classes"]["3"]["n"] == told["window"]["n"] == 4
    assert evaluate(published.subject, few, window=few.take(np.arange(0)))["window"] is None
    msgspec.json.encode(told)


def test_a_model_that_gets_nothing_right_is_evaluated_too(published: Published, rows: Rows) -> None:
    told = answer(published.runner, rows.x).probabilities.argmin(axis=1)
    figures = evaluate(published.subject, Rows(rows.x, told))
    assert figures["clean"]["value"] == figures["robust"]["value"] == 0.0
