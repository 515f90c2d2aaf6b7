"""Laws of the part on an attacker who knows the scores: both figures, or why there are none."""

from typing import Any

import msgspec
import pytest

from models.reporting import card, render
from models.reporting.shortfalls import findings, shortfalls
from models.reporting.summary import limits
from models.versions.figures import Evaluation
from tests.models.report_example import example, plain_example, read, share, table_example
from tests.models.reporting.test_page import is_sound

REASON = "the graph cannot be differentiated: an operator of ai.onnx.ml (TreeEnsemble)"


def figures(**changed: Any) -> Evaluation:
    """The example with another `adaptive`."""
    whole = plain_example()[1]
    adaptive = whole["scores"]["adaptive"] | changed
    return read(whole | {"scores": whole["scores"] | {"adaptive": adaptive}})


def test_static_and_adaptive_stand_side_by_side_in_words() -> None:
    manifest, _ = example()
    page = render(manifest, figures())
    is_sound(page)
    assert "an attack that does not know the scores fools the model unseen in 6" in page
    assert "an attacker who knows them, in 25 (" in page
    assert "still catches 33 of 100 wrong" in page
    assert "Fooled unseen" in page
    assert "0.5 (best)" in page
    assert "apgd-ce + apgd-t; the others climb the served graph" in page


def test_card_and_limits_say_it_too() -> None:
    manifest, whole = example()
    text = card(msgspec.structs.replace(manifest, evaluation=whole))
    assert "| attacked rows that fool it unseen | 6.2% (" in text
    assert "| attacked rows that fool it unseen, attacker who knows the score | 25.0% (" in text
    assert any("of 100 attacked rows 25 fool the model unseen" in line for line in limits(whole))


def test_what_was_not_measured_is_told_aloud_with_its_reason() -> None:
    manifest, _ = example()
    plain = plain_example()[1]
    plain["scores"] = plain["scores"] | {"adaptive": None}
    whole = read(plain | {"not_measured": [{"name": "adaptive attack", "reason": REASON}]})
    page = render(manifest, whole)
    is_sound(page)
    assert page.count(REASON) == 2, "beside the scores and among what falls short"
    assert any(REASON in line for line in shortfalls(whole))
    assert "Fooled unseen" not in page


@pytest.mark.parametrize("make", [example, table_example])
def test_scores_without_an_adaptive_attack_still_make_a_page(make: Any) -> None:
    manifest, whole = make()
    roc = tuple(msgspec.structs.replace(c, caught={}) for c in whole.scores.roc)
    scores = msgspec.structs.replace(whole.scores, adaptive=None, likelihood=None, roc=roc)
    whole = msgspec.structs.replace(whole, scores=scores)
    page = render(manifest, whole)
    is_sound(page)
    for words in ("an attacker who knows them", "gains who knows the scores", "Fooled unseen"):
        assert words not in page, "a figure of an attack that was not made"
    open_still = "an attacker who knows the scores sets a patch or a few pixels past them"
    assert (open_still in page) == (make is example), "a limit of every image version, no figure"
    assert not any("measured" in line for line in shortfalls(whole))


def test_no_row_at_all_is_not_called_a_share() -> None:
    none = {key: share(0.0, 0) for key in ("fooled", "undetected", "undetected_by_both")}
    whole = figures(n=0, static={"attack": "square", **none}, adaptive=none, weights=[], flat=None)
    page = render(example()[0], whole)
    is_sound(page)
    assert "no row was right without an attack" in page


@pytest.mark.parametrize(("flat", "passed"), [(0.0, True), (0.2, False)])
def test_a_detector_without_a_gradient_makes_the_figure_doubtful(flat: float, passed: bool) -> None:
    checks = {c.name: c for c in findings(figures(flat=flat))}
    check = checks["the attacker sees the perturbation score"]
    assert check.passed is passed
    assert f"{flat:.1%}" in check.detail


def test_a_likelihood_that_is_off_falls_short_only_if_the_interval_says_so() -> None:
    for low, short in ((0.02, False), (0.06, True)):
        whole = plain_example()[1]
        ece = {"value": 0.08, "low": low, "high": 0.1, "n": 368}
        whole["scores"] = whole["scores"] | {"likelihood": {"ece": ece, "bins": []}}
        told = [line for line in shortfalls(read(whole)) if "likelihood" in line]
        assert bool(told) is short


def test_the_share_caught_at_each_rate_stands_in_the_table() -> None:
    page = render(*example())
    assert "caught at 1%" in page
    assert "37.4%" in page or "37.5%" in page
