"""The attacks that look for the smallest change: Carlini & Wagner's in L2, and DeepFool."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from models import attacks
from models.attacks.base import margin
from models.attacks.threat import Linf
from models.data import DataSet
from tests.conftest import Published
from tests.models.attacks.test_attacks import accuracy

NEAREST: dict[str, Callable[..., Tensor]] = {
    "cw_l2": lambda f, x, y, **more: attacks.cw_l2(f, x, y, steps=40, searches=4, **more),
    "deepfool": lambda f, x, y, **more: attacks.deepfool(f, x, y, **more),
}
both = pytest.mark.parametrize("name", NEAREST)


@pytest.fixture(scope="module")
def rows(digits: DataSet) -> tuple[Tensor, Tensor]:
    """Unit-range test images and labels."""
    test = digits.test.take(slice(0, 60))  # type: ignore[arg-type]
    return torch.from_numpy(digits.schema.to_unit(test.x)), torch.from_numpy(test.y)


@pytest.fixture
def logits_of(published: Published) -> Any:
    """The quickly trained net, frozen."""
    with attacks.frozen(published.net) as net:
        yield attacks.logits_only(net)


def lengths(x_adv: Tensor, x: Tensor) -> Tensor:
    """L2 length of each change."""
    return (x_adv - x).flatten(1).norm(dim=1)


@both
def test_fools_nearly_every_row_inside_the_range(name: str, logits_of: Any, rows: Any) -> None:
    x, y = rows
    before, state = x.clone(), torch.get_rng_state()
    x_adv = NEAREST[name](logits_of, x, y)
    assert torch.equal(x, before), "the caller's images are not changed"
    assert torch.equal(torch.get_rng_state(), state)
    assert x_adv.shape == x.shape
    assert not x_adv.requires_grad
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    assert accuracy(logits_of, x_adv, y) <= 0.02
    assert torch.equal(x_adv, NEAREST[name](logits_of, x, y)), "nothing in it is random"


@both
def test_leaves_what_is_wrong_already(name: str, logits_of: Any, rows: Any) -> None:
    x = rows[0]
    wrong = (logits_of(x).argmax(dim=1) + 1) % 10
    assert torch.equal(NEAREST[name](logits_of, x, wrong), x)


@both
def test_is_nearer_than_an_attack_that_fills_its_ball(name: str, logits_of: Any, rows: Any) -> None:
    x, y = rows
    near = NEAREST[name](logits_of, x, y)
    filled = attacks.pgd(logits_of, x, y, Linf(0.3), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        fell = (margin(logits_of(filled), y) > 0) & (margin(logits_of(x), y) < 0)
    assert fell.sum() > 40
    assert (lengths(near, x)[fell] < lengths(filled, x)[fell]).float().mean() > 0.95


def test_descent_finds_smaller_changes_than_linear_steps(logits_of: Any, rows: Any) -> None:
    x, y = rows
    descent, linear = (lengths(NEAREST[name](logits_of, x, y), x) for name in NEAREST)
    assert descent.mean() < linear.mean()


@both
def test_finds_the_nearest_point_of_a_linear_boundary(name: str) -> None:
    w = torch.tensor([[2.0, -1.0], [0.0, 0.0]])
    x = torch.tensor([[0.6, 0.4], [0.5, 0.3]])
    y = torch.zeros(2, dtype=torch.int64)
    expected = (x @ w.T)[:, 0] / w[0].norm()
    found = NEAREST[name](lambda z: z @ w.T, x, y)
    assert ((found @ w.T).argmax(dim=1) != y).all()
    torch.testing.assert_close(lengths(found, x), expected, rtol=0.05, atol=0.005)


@both
def test_what_may_not_change_or_is_missing_stays(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    w = torch.randn((6, 3), generator=generator)
    x = torch.rand((30, 6), generator=generator)
    x[:, 1] = torch.nan
    x[:, 2] = 1.5  # a number beyond the range of training
    movable = torch.tensor([True, True, True, False, True, True])

    def logits_of(z: Tensor) -> Tensor:
        return 4 * (z.nan_to_num(0.5).clamp(0, 1) - 0.5) @ w

    y = logits_of(x).argmax(dim=1)
    found = NEAREST[name](logits_of, x, y, movable=movable)
    torch.testing.assert_close(found[:, 1:4], x[:, 1:4], equal_nan=True, rtol=0, atol=0)
    assert (logits_of(found).argmax(dim=1) != y).float().mean() > 0.3


@both
def test_a_row_that_cannot_fall_is_left_as_it_is(name: str) -> None:
    x, y = torch.full((3, 4), 0.5), torch.zeros(3, dtype=torch.int64)

    def sure(z: Tensor) -> Tensor:
        return torch.stack([100 + z.sum(dim=1), z.sum(dim=1)], dim=1)

    assert torch.equal(NEAREST[name](sure, x, y), x)


@both
def test_a_black_box_is_refused(name: str, rows: Any) -> None:
    def box(z: Tensor) -> Tensor:
        return z.detach().flatten(1)[:, :10]

    with pytest.raises(ValueError, match="use the square attack"):
        NEAREST[name](box, rows[0], box(rows[0]).argmax(dim=1))


def test_confidence_pushes_beyond_the_boundary(logits_of: Any, rows: Any) -> None:
    x, y = rows[0][:20], rows[1][:20]
    widths = []
    for confidence in (0.0, 1.0):
        x_adv = attacks.cw_l2(logits_of, x, y, steps=40, confidence=confidence)
        with torch.no_grad():
            right = margin(logits_of(x), y) < 0
            widths.append(margin(logits_of(x_adv), y)[right])
    assert (widths[1] > 1).float().mean() > 0.9
    assert widths[0].median() < 0.2
