"""Laws of the L-inf threat: projections are allowed, nearest and idempotent."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.threat import Linf

SHAPE = (3, 1, 2, 2)
units = hnp.arrays("float32", SHAPE, elements=st.floats(0, 1, width=32)).map(torch.from_numpy)
anywhere = hnp.arrays("float32", SHAPE, elements=st.floats(-3, 3, width=32)).map(torch.from_numpy)
sizes = st.floats(0, 1)


def allowed(x_adv: torch.Tensor, x: torch.Tensor, eps: float) -> bool:
    """Inside the ball (to a float32's rounding) and in [0, 1]."""
    inside = (x_adv - x).abs().max() <= eps + 1e-6
    return bool(inside and x_adv.min() >= 0 and x_adv.max() <= 1)


@given(anywhere, units, sizes)
def test_projection_is_allowed_and_idempotent(
    x_adv: torch.Tensor, x: torch.Tensor, eps: float
) -> None:
    given_, threat = x_adv.clone(), Linf(eps)
    projected = threat.project(x_adv, x)
    assert allowed(projected, x, eps)
    assert torch.equal(threat.project(projected, x), projected)
    assert torch.equal(x_adv, given_), "the argument is not changed"


@given(anywhere, units, units, sizes)
def test_projection_is_the_nearest_allowed_input(
    x_adv: torch.Tensor, x: torch.Tensor, other: torch.Tensor, eps: float
) -> None:
    threat = Linf(eps)
    other = threat.project(other, x)
    assert ((threat.project(x_adv, x) - x_adv).abs() <= (other - x_adv).abs() + 1e-6).all()


@given(units, sizes, st.integers(0, 99))
def test_random_start_is_allowed_and_follows_the_generator(
    x: torch.Tensor, eps: float, seed: int
) -> None:
    one, two = (Linf(eps).random(x, torch.Generator().manual_seed(seed)) for _ in range(2))
    assert allowed(one, x, eps)
    assert torch.equal(one, two)


def test_random_start_fills_the_ball() -> None:
    x = torch.full((4000, 1, 1, 1), 0.5)
    moved = (Linf(0.2).random(x, torch.Generator().manual_seed(0)) - x).flatten()
    assert moved.min() < -0.199
    assert moved.max() > 0.199
    assert moved.abs().mean() == pytest.approx(0.1, abs=0.003)


@given(units, anywhere, st.floats(0.001, 1))
def test_step_moves_every_value_by_its_size_uphill(
    x: torch.Tensor, gradient: torch.Tensor, size: float
) -> None:
    moved = Linf(0.1).step(x, gradient, size) - x
    torch.testing.assert_close(moved, size * gradient.sign(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("eps", [-0.1, 1.1, 8.0, float("nan"), float("inf")])
def test_eps_outside_the_unit_range_is_refused_with_its_unit(eps: float) -> None:
    with pytest.raises(ValueError, match=r"units of the \[0, 1\] range"):
        Linf(eps)
    if eps == 8:
        with pytest.raises(ValueError, match=r"8/255 = 0\.0314 meant"):
            Linf(eps)
