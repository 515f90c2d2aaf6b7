"""Laws of the adaptive figure: judged as served, beside the static one, or refused aloud."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.attacks.catalogue import Strength
from models.attacks.onnx.interpreter import NotDifferentiableError
from models.data import DataSet, Rows
from models.evaluation.adaptive import adaptive_figures, obstacle
from models.evaluation.figures.scores import likelihood
from models.evaluation.gaps import Gaps
from models.evaluation.plan import make_plan
from models.evaluation.subject import Subject, answer
from models.evaluation.suite import Tasks, evaluate
from models.evaluation.white_box import WhiteBox
from models.versions.figures import Adaptive
from models.versions.judging import ThreatModel
from tests.conftest import Published
from tests.models import evaluated
from tests.models.evaluated import black_box
from tests.service import tables

THREAT = ThreatModel(eps=0.15)
KEYS = {"fooled", "undetected", "undetected_by_both"}


@pytest.fixture(scope="module")
def few(digits: DataSet) -> Rows:
    return digits.test.take(np.arange(70))


def measured(subject: Subject, rows: Rows, threat: ThreatModel = THREAT) -> Adaptive:
    """The unit alone, in the quick suite."""
    plan = make_plan(subject, "quick", threat)
    tasks = Tasks(subject, rows, plan, {})
    units = {unit.name: unit for unit in tasks.all(None, Gaps())}
    for name in ("clean", "adaptive"):
        unit = units[name]
        parts = [unit.compute(block) for block in unit.blocks(0)]
        tasks.results[name] = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    figures = adaptive_figures(tasks.results, plan)
    assert figures is not None
    return figures


@pytest.fixture(scope="module")
def told(published: Published, few: Rows) -> Adaptive:
    return measured(published.subject, few)


def test_the_excess_is_above_0_exactly_where_the_service_flags(
    published: Published, digits: DataSet
) -> None:
    rng, runner = np.random.default_rng(0), published.runner
    x = digits.test.x[:200]
    noise = rng.normal(size=x.shape)
    noise[:100] = np.sign(noise[:100])  # as attacks change pixels: all by as much
    x = np.clip(x + rng.uniform(0, 8, (200, 1, 1, 1)) * noise, 0, 16)
    x = x.astype(np.float32)
    said, facts = answer(runner, x), runner.manifest.calibration
    logits, excess = WhiteBox(runner, drift=True)(torch.from_numpy(digits.schema.to_unit(x)))
    flagged = np.stack(
        [
            said.perturbation_likelihood > facts.perturbation_threshold,
            said.drift_p_value <= facts.alpha,
        ],
        axis=1,
    )
    assert flagged.any(axis=0).all()
    assert not flagged.all(axis=0).any()
    found = excess.detach().numpy()
    assert ((found > 0) == flagged)[np.abs(found) > 1e-3].all()
    np.testing.assert_array_equal(logits.argmax(dim=1).numpy(), said.probabilities.argmax(axis=1))


def test_the_scores_have_a_gradient_also_where_they_saturate(
    published: Published, few: Rows, digits: DataSet
) -> None:
    noise = np.random.default_rng(0).integers(0, 2, few.x.shape) * 16
    x = torch.from_numpy(digits.schema.to_unit(noise.astype(np.float32))).requires_grad_(True)
    _, excess = WhiteBox(published.runner, drift=True)(x)
    for column in range(2):
        (gradient,) = torch.autograd.grad(excess[:, column].sum(), x, retain_graph=True)
        assert (gradient.flatten(1).abs().amax(dim=1) > 0).all()


def test_who_knows_the_scores_fools_no_fewer_rows_unseen(told: Adaptive) -> None:
    assert told.flat == 0
    assert told.n == told.static.fooled.n <= 64, "rows that were right"
    for key in KEYS:
        best = getattr(told.adaptive, key).value
        assert best >= getattr(told.static, key).value
        assert all(best >= getattr(w, key).value for w in told.weights)
    for found in (told.static, told.adaptive, *told.weights):
        assert found.fooled.value >= found.undetected.value
        assert found.undetected.value >= found.undetected_by_both.value
    assert told.adaptive.undetected.value > told.static.undetected.value + 0.05
    assert {w.weight for w in told.weights} == {"in turn", 0.1}
    best = max(w.undetected.value for w in told.weights)
    assert next(w for w in told.weights if w.weight == told.best).undetected.value == best
    assert told.static.attack == "apgd-ce + apgd-t"


def test_the_same_seed_gives_the_same_figure(
    told: Adaptive, published: Published, few: Rows
) -> None:
    assert measured(published.subject, few) == told


def test_a_table_is_attacked_inside_its_columns() -> None:
    data = tables.cancer()
    found = measured(
        evaluated.white_box("cancer"), data.test.take(np.arange(40)), ThreatModel(eps=0.1)
    )
    assert found.adaptive.fooled.value >= found.static.fooled.value


def test_a_wrapped_graph_of_known_operators_is_attacked_with_its_gradient(
    tmp_path: Path, few: Rows
) -> None:
    found = measured(black_box(tmp_path), few.take(np.arange(20)))
    assert found.static.attack == "square"
    assert found.adaptive.fooled.value >= found.static.fooled.value


def test_an_unknown_operator_is_told_with_its_name(
    published: Published, few: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = published.subject
    plan = make_plan(subject, "quick", THREAT)

    def refuse(*_: Any, **__: Any) -> None:
        raise NotDifferentiableError("TreeEnsembleClassifier", "an operator of ai.onnx.ml")

    monkeypatch.setattr("models.evaluation.white_box.DifferentiableGraph", refuse)
    gaps = Gaps()
    names = [unit.name for unit in Tasks(subject, few, plan, {}).all(None, gaps)]
    assert "adaptive" not in names
    assert adaptive_figures({}, plan) is None
    (gap,) = gaps.records
    assert gap.name == "adaptive attack"
    assert "TreeEnsembleClassifier" in gap.reason


def test_no_row_that_is_right_gives_no_share(published: Published, few: Rows) -> None:
    wrong = Rows(few.x[:5], (answer(published.runner, few.x[:5]).probabilities.argmax(1) + 1) % 10)
    found = measured(published.subject, wrong)
    assert found.n == 0
    assert found.adaptive.undetected.share is None


def test_two_classes_are_attacked_on_the_margin_and_the_curve_says_so() -> None:
    subject = evaluated.white_box("cancer")
    assert len(subject.classes) == 2
    plan = make_plan(subject, "quick", ThreatModel(eps=0.1))
    assert [by.attack for by in plan.curve] == ["apgd-ce", "apgd-margin"]
    assert "apgd-margin" in [by.attack for by in plan.alone]
    rows = tables.cancer().test.take(np.arange(30))
    figures = evaluate(subject, rows, threat=ThreatModel(eps=0.1))
    assert {p.attack for p in figures.robust_curve} == {"apgd-ce-10 + apgd-margin-10"}


def test_the_likelihood_is_held_against_how_often_it_was_so() -> None:
    def unit(likely: Any) -> dict[str, Any]:
        return {"perturbation": np.asarray(likely), "right": np.ones(len(likely), bool)}

    rng = np.random.default_rng(0)
    p = rng.beta(0.6, 0.6, 40_000)
    attacked = rng.random(40_000) < p
    benign = p[~attacked]
    plan: Any = type("P", (), {"alone": (Strength("pgd", 20), Strength("fgsm", 1))})
    found = p[attacked]
    results = {
        "clean": unit(benign[:4000]),
        "alone-pgd": unit(found[:4000]),
        "alone-fgsm": unit(found[4000:8000]),
    }
    told = likelihood(results, plan, {"noise": unit(benign[4000:])}, seed=0)
    assert told.ece.n == 16_000, "half attacked, a quarter clean, a quarter benign"
    assert told.ece.value < 0.03
    plan = type("P", (), {"alone": (Strength("pgd", 20),)})
    sure = likelihood({"clean": unit(np.full(50, 0.9)), "alone-pgd": unit(np.full(50, 0.9))}, plan,
                      {}, seed=0)  # fmt: skip
    assert sure.ece.n == 100, "no benign rows: half and half"
    assert sure.ece.value == pytest.approx(0.4)


class Cast(torch.nn.Module):
    """Answers and excess behind a cast of the input: nothing for a gradient to follow."""

    def __call__(self, x_unit: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        whole = (255 * x_unit).byte().float().flatten(1)
        return whole[:, :2], whole[:, :1]


def test_a_graph_that_casts_its_input_is_told_before_the_attack(
    published: Published, few: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert obstacle(published.subject) is None
    monkeypatch.setattr("models.evaluation.adaptive.WhiteBox", lambda runner: Cast())
    gaps = Gaps()
    plan = make_plan(published.subject, "quick", THREAT)
    names = [unit.name for unit in Tasks(published.subject, few, plan, {}).all(None, gaps)]
    assert "adaptive" not in names
    (gap,) = gaps.records
    assert (
        gap.reason == "the served graph gives no gradient: its input is rounded or cast on the way"
    )
