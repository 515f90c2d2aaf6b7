"""One battery over all augmentations: range, shape, a draw per image, one generator."""

import pytest
import torch

from models.base.errors import TrainingError
from models.data import DataSet
from models.training.augment import AUGMENTATIONS, chain, cutout, flip, shift
from models.versions.schema import Column, InputSchema

battery = pytest.mark.parametrize("name", AUGMENTATIONS)
TABLE = InputSchema("input", (1,), "float32", 0, 1, "tabular", (Column("a"),))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@battery
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 5, 9)])
def test_keeps_shape_and_range_and_leaves_its_input_alone(
    name: str, shape: tuple[int, int, int]
) -> None:
    x = torch.rand(16, *shape, generator=seeded(1))
    before, state = x.clone(), torch.get_rng_state()
    changed = AUGMENTATIONS[name](x, seeded())
    assert changed.shape == x.shape
    assert changed.dtype == x.dtype
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state), "the generator alone decides"


@battery
def test_is_the_same_with_the_same_seed_and_differs_from_image_to_image(name: str) -> None:
    x = torch.rand(1, 3, 32, 32, generator=seeded(1)).expand(24, -1, -1, -1)
    one, two = (AUGMENTATIONS[name](x, seeded(2)) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, AUGMENTATIONS[name](x, seeded(3)))
    assert len({tuple(row.flatten().tolist()) for row in one}) > 1


@pytest.mark.parametrize("name", ["crop", "noise", "cutout", "augmix"])
def test_a_digit_stays_the_same_digit(name: str, digits: DataSet) -> None:
    """The nearest of all training digits mostly has the label of the digit that was changed."""
    x = torch.from_numpy(digits.schema.to_unit(digits.train.x))
    y = torch.from_numpy(digits.train.y)
    changed = AUGMENTATIONS[name](x[:200], seeded())
    nearest = torch.cdist(changed.flatten(1), x.flatten(1)).argmin(dim=1)
    assert (y[nearest] == y[:200]).float().mean() > 0.8


def test_shift_moves_and_loses_nothing_but_the_rim() -> None:
    x = torch.zeros(50, 1, 16, 16)
    x[:, :, 8, 8] = 1
    moved = shift(x, seeded())
    assert torch.equal(moved.sum(dim=(1, 2, 3)), torch.ones(50))
    places = moved.flatten(1).argmax(dim=1)
    assert {int(p) // 16 for p in places} == {6, 7, 8, 9, 10}


def test_flip_mirrors_about_half() -> None:
    x = torch.rand(400, 1, 4, 4, generator=seeded(1))
    turned = (flip(x, seeded()) != x).flatten(1).any(dim=1)
    assert 150 < int(turned.sum()) < 250
    assert torch.equal(flip(x, seeded())[turned], x.flip(3)[turned])


def test_cutout_blackens_a_square_of_a_quarter_of_the_width() -> None:
    black = cutout(torch.ones(200, 1, 16, 16), seeded()).eq(0).sum(dim=(1, 2, 3))
    assert int(black.max()) == 16
    assert int(black.min()) >= 4, "at least a corner"


def test_augmentations_of_a_table_are_an_error() -> None:
    with pytest.raises(TrainingError, match="'shift' is for images, the data is a table"):
        chain(("shift",), TABLE)
    assert chain((), TABLE)(torch.ones(1), seeded()) == 1
