"""Laws of the checks for masked gradients: honest figures pass, every kind of cheat fails."""

import dataclasses

import numpy as np
import pytest

from models.evaluation.figures.masking import Evidence, masking
from models.statistics.arrays import Bools

N = 400


def share(value: float) -> Bools:
    """The first rows right."""
    return np.arange(N) < round(value * N)


HONEST = Evidence(
    curve=[(0.1, share(0.9)), (0.2, share(0.6)), (0.5, share(0.0))],
    chance=0.1,
    hopeless=True,
    attack=share(0.6),
    noise=share(0.95),
    single=share(0.7),
    iterated=share(0.6),
    fewer=share(0.61),
    more=share(0.6),
    white=share(0.55),
    black=share(0.75),
)
NAMES = [
    "accuracy_falls_with_eps",
    "iterations_not_weaker_than_one_step",
    "white_box_not_weaker_than_black_box",
    "attack_not_weaker_than_noise",
    "more_steps_not_weaker",
]


def failed(**changes: object) -> list[str]:
    checks = masking(dataclasses.replace(HONEST, **changes))  # type: ignore[arg-type]
    assert all(len(check.detail) > 20 for check in checks)
    return [check.name for check in checks if not check.passed]


def test_honest_figures_pass_every_check() -> None:
    assert [check.name for check in masking(HONEST)] == NAMES
    assert failed() == []


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("accuracy_falls_with_eps", {"curve": [(0.1, share(0.9)), (0.5, share(0.4))]}),
        (
            "accuracy_falls_with_eps",
            {"curve": [(0.1, share(0.5)), (0.2, share(0.7)), (0.5, share(0))]},
        ),
        ("iterations_not_weaker_than_one_step", {"single": share(0.4)}),
        ("white_box_not_weaker_than_black_box", {"black": share(0.4)}),
        ("attack_not_weaker_than_noise", {"noise": share(0.5)}),
        ("more_steps_not_weaker", {"fewer": share(0.5)}),
    ],
)
def test_a_sign_of_masking_fails_its_check_alone(name: str, changes: dict[str, object]) -> None:
    assert failed(**changes) == [name]


def test_differences_within_chance_pass() -> None:
    assert failed(single=share(0.59), fewer=share(0.595), black=share(0.545)) == []


def test_curve_need_not_end_at_chance_where_the_attacker_cannot_change_everything() -> None:
    high = [(0.1, share(0.9)), (1.0, share(0.6))]
    assert failed(curve=high) == ["accuracy_falls_with_eps"]
    assert failed(curve=high, hopeless=False) == []


def test_a_constant_answer_passes_at_its_own_accuracy() -> None:
    # It is right on the largest class at every size; that is no masking.
    assert failed(curve=[(0.1, share(0.6)), (0.5, share(0.6))], chance=0.6) == []


def test_what_was_not_run_is_not_checked() -> None:
    black = dataclasses.replace(
        HONEST, single=None, iterated=None, fewer=None, more=None, white=None
    )
    assert [c.name for c in masking(black)] == [NAMES[0], "attack_not_weaker_than_noise"]


def test_details_hold_the_figures() -> None:
    details = {check.name: check.detail for check in masking(HONEST)}
    assert "60.0% at 0.2" in details["accuracy_falls_with_eps"]
    assert "55.0%" in details["white_box_not_weaker_than_black_box"]
    assert "on 400 rows" in details["more_steps_not_weaker"]
