"""Laws of the evaluation: figures follow from the served graph, attacks stay in the raw range."""

import itertools
import json

import msgspec
import numpy as np
import pytest
import torch

from models import corruptions
from models.attacks.catalogue import CATALOGUE, learnt_attacks, strengths
from models.attacks.threat import L2, Linf
from models.base.errors import DataError
from models.data import DataSet, Rows
from models.evaluation.adversarial import (
    attack_net,
    attack_subject,
    curve,
    noise_right,
    noisy_rows,
    robust,
)
from models.evaluation.figures.edge_cases import edge_cases
from models.evaluation.subject import Subject, answer, right
from models.nets import factories
from models.versions.figures import Evaluation
from models.versions.judging import SUITES
from models.versions.schema import InputSchema
from tests.conftest import NET, Published
from tests.service import tables

GREY = InputSchema("input", (1, 8, 8), "uint8", 0.0, 255.0, "image")


@pytest.fixture(scope="module")
def rows(digits: DataSet) -> Rows:
    """Some test rows."""
    return digits.test.take(np.arange(120))


@pytest.mark.parametrize("attack", ["fgsm", "pgd", "apgd-ce"])
def test_attacked_rows_are_valid_raw_inputs_of_the_size_asked_for(
    attack: str, published: Published, rows: Rows
) -> None:
    schema = published.subject.schema
    x = attack_subject(published.subject, rows, 0.1, attack=attack, budget=5)
    schema.check(x)
    moved = np.abs(schema.to_unit(x) - schema.to_unit(rows.x))
    assert 0.05 < moved.max() <= 0.1 + 1e-5
    again = attack_subject(published.subject, rows, 0.1, attack=attack, budget=5)
    np.testing.assert_array_equal(x, again)


def test_attacked_bytes_are_bytes(digits: DataSet) -> None:
    torch.manual_seed(0)
    rows = Rows((digits.test.x[:20] * 15).astype(np.uint8), digits.test.y[:20])
    x = attack_net(factories.build(NET).eval(), GREY, rows, 0.1, attack="pgd", budget=3)
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


def test_noise_is_as_large_as_the_threat_allows(published: Published, rows: Rows) -> None:
    schema = published.subject.schema
    inner = Rows(np.full_like(rows.x, 8.0), rows.y)  # nothing is clipped at the ends of the range
    for threat in (Linf(0.2), L2(0.5)):
        moved = schema.to_unit(noisy_rows(schema, inner, threat)) - 0.5
        size = np.abs(moved).max() if threat.norm == "linf" else np.linalg.norm(moved[0])
        assert size == pytest.approx(threat.eps, abs=1e-5)


def test_attacks_by_name_take_any_geometry(published: Published, rows: Rows) -> None:
    schema, few = published.subject.schema, rows.take(np.arange(20))
    x = attack_subject(published.subject, few, L2(1.0), attack="apgd-ce", budget=5)
    lengths = np.linalg.norm((schema.to_unit(x) - schema.to_unit(few.x)).reshape(20, -1), axis=1)
    assert 0.5 < lengths.max() <= 1.0 + 1e-4
    with pytest.raises(DataError, match=r"unknown attack 'hope'.*fgsm"):
        attack_subject(published.subject, few, 0.1, attack="hope")


@pytest.mark.parametrize("name", [a.name for a in CATALOGUE.values() if a.images])
def test_an_attack_on_images_is_refused_for_tables_and_runs_in_no_suite_of_theirs(
    name: str,
) -> None:
    data = tables.wine()
    net = factories.build(factories.spec_for(data.schema, len(data.classes)))
    with pytest.raises(DataError, match=rf"{name} is for images.*use fgsm or.*universal"):
        attack_net(net, data.schema, data.test, 0.1, attack=name, budget=5)
    assert CATALOGUE[name] not in learnt_attacks(black_box=False, images=False)
    roles, boxes = ("alone", "cascade", "curve"), (True, False)
    for role, suite, box, near in itertools.product(roles, SUITES, boxes, boxes):
        found = strengths(role, suite, black_box=box, classes=3, images=False, nearest=near)
        assert name not in [strength.attack for strength in found]


def test_a_black_box_is_attacked_by_square_alone(published: Published, rows: Rows) -> None:
    black, few = Subject(published.runner), rows.take(np.arange(40))
    x = attack_subject(black, few, 0.3, attack="square", budget=100)
    black.schema.check(x)
    assert right(black.runner, Rows(x, few.y)).mean() < right(black.runner, few).mean()
    with pytest.raises(DataError, match="use square"):
        attack_subject(black, few, 0.3, attack="pgd")
    assert not (robust(black, few, 0.3, steps=10) & ~right(black.runner, few)).any()


@pytest.fixture(scope="module")
def figures(published: Published) -> Evaluation:
    """What the published version's manifest says."""
    return published.bundle.manifest.evaluation


def test_figures_are_those_of_the_served_graph(
    figures: Evaluation, published: Published, digits: DataSet
) -> None:
    told = answer(published.runner, digits.test.x)
    correct, facts = (
        told.probabilities.argmax(axis=1) == digits.test.y,
        published.bundle.manifest.calibration,
    )
    assert figures.n == len(digits.test) == figures.clean.n
    assert figures.clean.value == pytest.approx(correct.mean(), abs=1e-4)
    drift = figures.scores.drift_false_positives.value
    assert drift == pytest.approx((told.drift_p_value <= facts.alpha).mean(), abs=1e-4)
    by_class = [figures.classes[name] for name in digits.classes]
    assert [c.n for c in by_class] == np.bincount(digits.test.y).tolist()
    mean = sum(c.value * c.n for c in by_class) / len(digits.test)
    assert mean == pytest.approx(correct.mean(), abs=1e-3)


def test_figures_cover_what_the_suite_promises(figures: Evaluation) -> None:
    assert figures.robust.value < figures.clean.value
    assert {(c.name, c.severity) for c in figures.corruptions} == {
        (name, severity) for name in corruptions.QUICK for severity in corruptions.SEVERITIES
    }
    plain = msgspec.to_builtins(figures)
    assert json.dumps(plain, allow_nan=False), "no NaN in the manifest"


def test_edge_cases_are_finite_and_flagged(published: Published, rows: Rows) -> None:
    cases = edge_cases(published.runner, examples=rows.x)
    assert len(cases) == 9
    for case in cases:
        assert case.finite, case
        # Digits in black and white are digits still; shuffled ones keep the lightness of digits.
        least = {"saturated": 0.0, "shuffled pixels": 0.5}.get(case.name, 1.0)
        assert case.drift_flagged >= least, case
