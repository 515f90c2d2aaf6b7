"""Laws of the threat models: projections are allowed, nearest where they say so, idempotent."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.attacks.threat import L2, Columns, Linf, Threat, geometry_of
from models.base.errors import DataError
from models.versions.judging import ThreatModel
from models.versions.schema import Column, InputSchema

SHAPE = (3, 1, 2, 2)
TABLE = (3, 5)
units = hnp.arrays("float32", SHAPE, elements=st.floats(0, 1, width=32)).map(torch.from_numpy)
anywhere = hnp.arrays("float32", SHAPE, elements=st.floats(-3, 3, width=32)).map(torch.from_numpy)
sizes = st.floats(0, 1)
cells = st.one_of(st.floats(-2, 3, width=32), st.just(math.nan))
tables = hnp.arrays("float32", TABLE, elements=cells).map(torch.from_numpy)
proposals = hnp.arrays("float32", TABLE, elements=st.floats(-9, 9, width=32)).map(torch.from_numpy)
shares = hnp.arrays("float32", 5, elements=st.floats(0, 2, width=32)).map(torch.from_numpy)

IMAGE = InputSchema("x", (1, 2, 2), "float32", 0, 1, "image")
ROWS = InputSchema(
    "x",
    (3,),
    "float32",
    0,
    1,
    "tabular",
    (
        Column("age", low=0, high=90),
        Column("dose"),
        Column("site", "categorical", 0, 1, ("a", "b")),
    ),
)


def allowed(x_adv: torch.Tensor, x: torch.Tensor, eps: float) -> bool:
    """Inside the ball (to a float32's rounding) and in [0, 1]."""
    inside = (x_adv - x).abs().max() <= eps + 1e-6
    return bool(inside and x_adv.min() >= 0 and x_adv.max() <= 1)


def lengths(change: torch.Tensor) -> torch.Tensor:
    """Euclidean length of every row."""
    return change.flatten(1).norm(dim=1)


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


@given(anywhere, units, st.floats(0, 3))
def test_l2_projection_is_allowed_and_idempotent(
    x_adv: torch.Tensor, x: torch.Tensor, eps: float
) -> None:
    given_, threat = x_adv.clone(), L2(eps)
    projected = threat.project(x_adv, x)
    assert (lengths(projected - x) <= eps + 1e-5).all()
    assert projected.min() >= 0
    assert projected.max() <= 1
    torch.testing.assert_close(threat.project(projected, x), projected, atol=1e-5, rtol=0)
    assert torch.equal(x_adv, given_), "the argument is not changed"


@given(units, units, st.floats(0, 3))
def test_l2_projection_is_the_nearest_point_of_the_ball_between_images(
    x_adv: torch.Tensor, x: torch.Tensor, eps: float
) -> None:
    # Both ends are in [0, 1], so the clip does nothing, and the nearest lies on the line.
    far = lengths(x_adv - x)
    missing = lengths(L2(eps).project(x_adv, x) - x_adv)
    torch.testing.assert_close(missing, (far - eps).clamp_min(0), atol=1e-5, rtol=0)


def test_l2_random_start_fills_the_ball() -> None:
    x = torch.full((4000, 1, 2, 2), 0.5)
    moved = L2(0.2).random(x, torch.Generator().manual_seed(0)) - x
    radius = lengths(moved)
    assert radius.max() <= 0.2 + 1e-6
    # In 4 dimensions P(radius <= r) = (r / eps)^4.
    assert (radius <= 0.1).float().mean() == pytest.approx(1 / 16, abs=0.015)
    assert moved.flatten(1).mean(dim=0).abs().max() < 0.006


@pytest.mark.parametrize("scale", [1.0, 1e-25])
def test_l2_step_goes_its_size_along_the_gradient_however_small_it_is(scale: float) -> None:
    x, gradient = torch.full(SHAPE, 0.5), torch.randn(SHAPE) * scale
    moved = L2(1.0).step(x, gradient, 0.3) - x
    torch.testing.assert_close(lengths(moved), torch.full((3,), 0.3))
    torch.testing.assert_close(moved, 0.3 * gradient / gradient.abs().amax() / lengths(
        gradient / gradient.abs().amax()).view(-1, 1, 1, 1))  # fmt: skip
    assert torch.equal(L2(1.0).step(x, torch.zeros(SHAPE), 0.3), x)


@pytest.mark.parametrize("eps", [-0.1, float("nan"), float("inf")])
def test_l2_eps_is_a_finite_length(eps: float) -> None:
    with pytest.raises(ValueError, match="eps is a length"):
        L2(eps)


def bounded(moved: torch.Tensor, x: torch.Tensor, threat: Columns) -> None:
    """Every law of what `Columns` allows."""
    assert torch.equal(moved.isnan(), x.isnan()), "missing stays missing"
    change = (moved - x).nan_to_num()
    assert (change >= -threat.eps * threat.down - 1e-6).all()
    assert (change <= threat.eps * threat.up + 1e-6).all()
    inside = (x >= 0) & (x <= 1)
    assert ((moved >= 0) & (moved <= 1))[inside].all()
    outside = (x < 0) | (x > 1)
    assert ((moved - 0.5).abs() <= (x - 0.5).abs())[outside].all(), "no farther outside"


@given(proposals, tables, shares, shares, sizes, st.integers(0, 9))
def test_columns_keep_to_their_box(
    x_adv: torch.Tensor,
    x: torch.Tensor,
    down: torch.Tensor,
    up: torch.Tensor,
    eps: float,
    seed: int,
) -> None:
    threat = Columns(eps, down, up)
    projected = threat.project(x_adv, x)
    bounded(projected, x, threat)
    assert torch.equal(threat.project(projected, x).nan_to_num(), projected.nan_to_num()), (
        "idempotent"
    )
    start = threat.random(x, torch.Generator().manual_seed(seed))
    bounded(start, x, threat)
    again = threat.random(x, torch.Generator().manual_seed(seed))
    assert torch.equal(start.nan_to_num(), again.nan_to_num())


def test_columns_step_by_their_share_and_leave_the_rest() -> None:
    threat = Columns(0.1, torch.tensor([1.0, 0.0, 0.5]), torch.tensor([1.0, 0.0, 2.0]))
    gradient = torch.tensor([[-3.0, 5.0, math.nan]])
    moved = threat.step(torch.zeros(1, 3), gradient, 0.2)
    torch.testing.assert_close(moved, torch.tensor([[-0.2, 0.0, 0.0]]))
    wide = threat.step(torch.zeros(1, 3), torch.ones(1, 3), 0.2)
    torch.testing.assert_close(wide, torch.tensor([[0.2, 0.0, 0.4]]))


def test_model_gives_the_geometry_of_the_schema() -> None:
    assert geometry_of(ThreatModel(eps=0.3), IMAGE) == Linf(0.3)
    assert geometry_of(ThreatModel("l2", eps=2.5), IMAGE) == L2(2.5)
    assert geometry_of(ThreatModel("l2", eps=2.5), IMAGE, 0.5) == L2(0.5)
    box = geometry_of(ThreatModel(eps=0.1, columns={"dose": (0.0, 0.5)}), ROWS)
    assert isinstance(box, Columns)
    assert box.down.tolist() == [1, 0, 0]
    assert box.up.tolist() == [1, 0.5, 0], "a category cannot be changed"
    names = {threat.norm for threat in (Linf(0.1), L2(0.1), box)}
    assert names == {"linf", "l2", "columns"}


@pytest.mark.parametrize(
    ("model", "schema", "says"),
    [
        (ThreatModel(eps=8), IMAGE, r"8/255 = 0\.0314 meant"),
        (ThreatModel("l2", eps=-1), IMAGE, "eps is a length"),
        (ThreatModel("l2"), ROWS, "tables take norm linf"),
        (ThreatModel(eps=2), ROWS, "share of each column's range"),
        (ThreatModel(columns={"weight": 1.0}), ROWS, "no column 'weight'; known: age, dose, site"),
        (ThreatModel(columns={"site": 1.0}), ROWS, "'site'.*a categorical one only 0"),
        (ThreatModel(columns={"dose": (-1.0, 1.0)}), ROWS, "'dose'.*at least 0"),
        (ThreatModel(columns={"dose": math.nan}), ROWS, "'dose'.*at least 0"),
    ],
)
def test_a_threat_model_that_makes_no_sense_is_refused(
    model: ThreatModel, schema: InputSchema, says: str
) -> None:
    with pytest.raises(DataError, match=says):
        geometry_of(model, schema)


@pytest.mark.parametrize("shape", [(0, 1, 2, 2), (2, 1, 2, 2)])
def test_every_geometry_takes_any_number_of_rows(shape: tuple[int, ...]) -> None:
    x = torch.from_numpy(np.full(shape, 0.5, np.float32))
    threats: list[Any] = [Linf(0.1), L2(0.1)]
    for threat in threats:
        kept: Threat = threat
        assert kept.project(kept.step(kept.random(x), x, 0.1), x).shape == shape
