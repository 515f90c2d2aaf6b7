"""What holds for the random searches alone: the schedule, what is asked, black boxes."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from models import attacks
from models.attacks.queries.search import stages, wider
from models.attacks.queries.square import _fill
from models.attacks.queries.square_l2 import _bump, _proposal
from models.attacks.threat import L2, Columns, Linf
from models.data import DataSet
from tests.conftest import Published


@pytest.fixture
def logits_of(published: Published) -> Any:
    """The quickly trained net, frozen."""
    with attacks.frozen(published.net) as net:
        yield attacks.logits_only(net)


@pytest.mark.parametrize("queries", [1, 7, 100, 5000, 20_000])
def test_stages_spend_all_queries_on_shrinking_sizes(queries: int) -> None:
    found = stages(queries, 0.8, lambda p: max(1, round(28 * math.sqrt(p))))
    assert sum(count for _, count in found) == queries
    assert all(count > 0 for _, count in found)
    sizes = [size for size, _ in found]
    assert sizes == sorted(set(sizes), reverse=True)


def test_the_schedule_is_the_papers() -> None:
    # Andriushchenko et al. 2020, section 3.1: p halves at 10, 50, 200, 1000, 2000, 4000 (and 500).
    found = stages(5000, 0.8, lambda p: round(p * 1e6))
    assert [size / 1e6 for size, _ in found[:4]] == [0.8, 0.4, 0.2, 0.1]
    assert [count for _, count in found] == [10, 40, 150, 300, 500, 1000, 2000, 1000]


def test_rounding_is_no_improvement() -> None:
    best = torch.tensor([-1.0, -1.0, 0.5, -math.inf])
    width = torch.tensor([-1.0 + 1e-7, -0.999, 0.6, -3.0])
    assert wider(width, best).tolist() == [False, True, True, True]


def test_every_square_of_every_sign_has_its_number() -> None:
    low, high = torch.zeros(64, 2, 4, 3), torch.ones(64, 2, 4, 3)
    spots = 3 * 2  # of side 2 in 4 x 3
    inside, fill = _fill(torch.arange(4 * spots), 2, low[: 4 * spots], high[: 4 * spots])
    assert (inside.flatten(1).sum(dim=1) == 4).all()
    assert len({tuple(row) for row in inside.flatten(1).int().tolist()}) == spots
    painted = torch.where(inside, fill, 0.5).flatten(1)
    assert len({tuple(row) for row in painted.tolist()}) == 4 * spots


def test_what_is_known_is_not_asked_and_nothing_is_lost() -> None:
    # One pixel matters: after the squares of side 1 are known, a row has nothing to ask.
    asked = 0

    def net(z: Tensor) -> Tensor:
        nonlocal asked
        asked += len(z)
        return torch.stack([z[:, 0, 0, 0], torch.full((len(z),), 0.2)], dim=1)

    x, y = torch.full((6, 1, 4, 4), 0.5), torch.zeros(6, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    x_adv = attacks.square(net, x, y, Linf(0.1), queries=5000, generator=generator)
    assert torch.allclose(x_adv[:, 0, 0, 0], torch.tensor(0.4)), "the best there is"
    assert asked < 6 * 200


def test_square_agrees_with_a_search_that_asks_everything(logits_of: Any, digits: DataSet) -> None:
    """Single pixels to the end: no flip of one pixel may improve the result."""
    x = torch.from_numpy(digits.schema.to_unit(digits.test.x[:7]))
    y, threat = torch.from_numpy(digits.test.y[:7]), Linf(0.1)
    generator = torch.Generator().manual_seed(0)
    x_adv = attacks.square(logits_of, x, y, threat, queries=4000, generator=generator)
    with torch.no_grad():
        width = attacks.base.margin(logits_of(x_adv), y)
        left = (width <= 0).nonzero()[:, 0]
        assert len(left) >= 4
        for row in left:
            others = x_adv[row].repeat(128, 1, 1, 1)
            pixels = torch.arange(128)
            sign = torch.where(pixels < 64, -1.0, 1.0)
            others.view(128, 64)[pixels, pixels % 64] += sign
            others = threat.project(others, x[row : row + 1])
            best = attacks.base.margin(logits_of(others), y[row].repeat(128)).max()
            assert best <= width[row] + 1e-5


def test_l2_proposals_keep_the_length_they_may_have() -> None:
    generator = torch.Generator().manual_seed(0)
    change = torch.randn((5, 3, 9, 9), generator=generator)
    change *= 0.4 / change.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    for side in (3, 5, 9):
        bump = _bump(side, change, generator)
        assert bump.shape == (side, side)
        assert bump.norm().item() == pytest.approx(1)
        after = _proposal(change, side, 0.5, generator)
        assert (after.flatten(1).norm(dim=1) <= 0.5 + 1e-5).all()
        assert (after != change).any()


def test_works_on_a_black_box_of_log_probabilities(published: Published, digits: DataSet) -> None:
    runner = published.runner
    rows = digits.test.take(slice(0, 30))  # type: ignore[arg-type]

    def box(z: Tensor) -> Tensor:
        raw = digits.schema.from_unit(z.numpy())
        return torch.from_numpy(runner.run(raw).probabilities).log()

    x, y = torch.from_numpy(digits.schema.to_unit(rows.x)), torch.from_numpy(rows.y)
    generator = torch.Generator().manual_seed(0)
    x_adv = attacks.square(box, x, y, Linf(0.3), queries=100, generator=generator)
    clean = (box(x).argmax(dim=1) == y).float().mean()
    assert (box(x_adv).argmax(dim=1) == y).float().mean() < clean - 0.3


def test_search_over_columns_crosses_the_steps_of_a_tree() -> None:
    """Only the middle of one column is wrong, and the way there is flat."""

    def tree(z: Tensor) -> Tensor:
        wrong = ((z[:, 0] > 0.55) & (z[:, 0] < 0.65) & (z[:, 1] > 0.5)).float()
        return torch.stack([1 - wrong, wrong], dim=1)

    x, y = torch.full((20, 8), 0.5), torch.zeros(20, dtype=torch.int64)
    threat = Columns(0.3, torch.ones(8), torch.ones(8))
    generator = torch.Generator().manual_seed(0)
    x_adv = attacks.square(tree, x, y, threat, queries=3000, generator=generator)
    assert (tree(x_adv).argmax(dim=1) == 1).all()


@pytest.mark.slow
@pytest.mark.parametrize(("threat", "norm"), [(Linf(0.15), "Linf"), (L2(0.7), "L2")])
def test_square_is_as_strong_as_its_authors_own(
    threat: Any, norm: str, logits_of: Any, digits: DataSet
) -> None:
    from pyautoattack.square import SquareAttack

    x = torch.from_numpy(digits.schema.to_unit(digits.test.x[:100]))
    y = torch.from_numpy(digits.test.y[:100])
    own = attacks.square(
        logits_of, x, y, threat, queries=1500, generator=torch.Generator().manual_seed(0)
    )
    with torch.random.fork_rng(), torch.no_grad():
        options = {"n_queries": 1500, "eps": threat.eps, "norm": norm, "seed": 0}
        theirs = SquareAttack(logits_of, resc_schedule=False, **options).perturb(x, y)
        ours, reference = (
            float((logits_of(z).argmax(dim=1) == y).float().mean()) for z in (own, theirs)
        )
    assert ours <= reference + 0.01
    assert reference < 0.9, "an attack that does nothing"
