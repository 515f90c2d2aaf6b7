"""The attacks that see labels only: HopSkipJump and Boundary."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from models import attacks
from models.attacks.queries.decisions import BlackBoxRow, OutOfQueriesError, bisect
from models.data import DataSet
from tests.conftest import Published

ATTACKS: dict[str, tuple[Callable[..., Tensor], str]] = {
    "hop_skip_jump": (attacks.hop_skip_jump, "l2"),
    "hop_skip_jump_linf": (
        lambda *args, **options: attacks.hop_skip_jump(*args, norm="linf", **options),
        "linf",
    ),
    "boundary": (attacks.boundary, "l2"),
}
battery = pytest.mark.parametrize("name", ATTACKS)


def run(name: str, logits_of: Any, x: Tensor, y: Tensor, queries: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return ATTACKS[name][0](logits_of, x, y, queries=queries, generator=generator)


def lengths(name: str, change: Tensor) -> Tensor:
    flat = change.flatten(1)
    return flat.norm(dim=1) if ATTACKS[name][1] == "l2" else flat.abs().amax(dim=1)


@pytest.fixture(scope="module")
def rows(digits: DataSet) -> tuple[Tensor, Tensor]:
    test = digits.test.take(slice(0, 12))  # type: ignore[arg-type]
    return torch.from_numpy(digits.schema.to_unit(test.x)), torch.from_numpy(test.y)


@pytest.fixture
def logits_of(published: Published) -> Any:
    with attacks.frozen(published.net) as net:
        yield attacks.logits_only(net)


@battery
def test_finds_wrong_points_that_draw_nearer_with_queries(
    name: str, logits_of: Any, rows: Any
) -> None:
    x, y = rows[0][:8], rows[1][:8]
    before, last = x.clone(), torch.full((len(x),), math.inf)

    def one_by_one(queries: int) -> Tensor:
        """A longer run of a row begins like a shorter one."""
        pairs = [(x[k : k + 1], y[k : k + 1]) for k in range(len(x))]
        return torch.cat([run(name, logits_of, *pair, queries, k) for k, pair in enumerate(pairs)])

    first = last
    for queries in (60, 250, 700):
        x_adv = one_by_one(queries)
        assert x_adv.shape == x.shape
        assert x_adv.min() >= 0
        assert x_adv.max() <= 1
        assert (logits_of(x_adv).argmax(dim=1) != y).all()
        distance = lengths(name, x_adv - x)
        assert (distance <= last + 1e-6).all(), "more queries never lose what was found"
        first, last = (distance if queries == 60 else first), distance
    assert torch.equal(x, before)
    assert last.median() < 0.75 * first.median()


@battery
def test_asks_as_often_as_it_may_and_sees_nothing_but_labels(
    name: str, logits_of: Any, rows: Any
) -> None:
    x, y = rows[0][:3], rows[1][:3]
    asked: list[int] = []

    def labels_only(z: Tensor) -> Tensor:
        asked.append(len(z))
        found = logits_of(z).argmax(dim=1)
        return torch.nn.functional.one_hot(found, 10).float()

    torch.testing.assert_close(
        run(name, labels_only, x, y, 150), run(name, logits_of, x, y, 150), rtol=0, atol=0
    )
    assert sum(asked) <= 3 * 150
    assert sum(asked) >= 3 * 150 - int((lengths(name, x) == 0).sum())


@battery
def test_is_reproducible_and_leaves_the_global_random_state_alone(
    name: str, logits_of: Any, rows: Any
) -> None:
    x, y = rows[0][:4], rows[1][:4]
    state = torch.get_rng_state()
    one, two, other = (run(name, logits_of, x, y, 200, seed) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


@battery
def test_a_row_that_is_wrong_by_itself_stays_and_costs_one_query(name: str, rows: Any) -> None:
    asked: list[int] = []

    def wrong(z: Tensor) -> Tensor:
        asked.append(len(z))
        return torch.eye(10)[torch.zeros(len(z), dtype=torch.int64)]

    x = rows[0][:2]
    assert torch.equal(run(name, wrong, x, torch.tensor([1, 2]), 100), x)
    assert sum(asked) == 2
    asked.clear()
    assert torch.equal(run(name, wrong, x, torch.tensor([0, 0]), 1000), x), "nothing to be found"
    assert sum(asked) <= 2 * 101


@battery
def test_no_rows_are_no_error(name: str, logits_of: Any, rows: Any) -> None:
    assert len(run(name, logits_of, rows[0][:0], rows[1][:0], 10)) == 0


@battery
def test_the_distance_to_a_plane_is_found(name: str) -> None:
    """What is known: a plane at .2 (L2) from the middle of the cube, all coordinates alike."""
    normal = torch.ones(16) / 4

    def plane(z: Tensor) -> Tensor:
        side = (z.flatten(1) - 0.5) @ normal - 0.2
        return torch.stack([-side, side], dim=1)

    x, y = torch.full((3, 1, 4, 4), 0.5), torch.zeros(3, dtype=torch.int64)
    found = lengths(name, run(name, plane, x, y, 3000) - x)
    truth = 0.2 if ATTACKS[name][1] == "l2" else 0.05
    assert (found >= truth - 1e-5).all()
    assert found.max() <= 1.35 * truth


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_bisection_ends_at_the_boundary_on_its_wrong_side(norm: Any) -> None:
    asked = BlackBoxRow(
        lambda z: torch.stack([0.3 - z[:, 0], z[:, 0] - 0.3], 1), torch.zeros(2), 0, norm, 99
    )
    point = bisect(asked, torch.tensor([1.0, 0.5]), 1e-4)
    assert 0.3 < point[0] < 0.3005
    assert asked.best.tolist() == point.tolist()


def test_the_last_queries_are_asked_before_the_budget_ends_it() -> None:
    asked = BlackBoxRow(
        lambda z: torch.tensor([[0.0, 1.0]]).repeat(len(z), 1), torch.zeros(2), 0, "l2", 3
    )
    with pytest.raises(OutOfQueriesError):
        asked.wrong(torch.tensor([[0.9, 0.0], [0.8, 0.0], [0.5, 0.0], [0.1, 0.0]]))
    assert asked.best.tolist() == [0.5, 0.0]
