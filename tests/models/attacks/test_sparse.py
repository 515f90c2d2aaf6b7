"""Attacks that change few pixels, whole images softly, or turn them: what each may touch."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from torch import Tensor

from models import attacks
from models.attacks.catalogue import CATALOGUE, Effort
from models.attacks.sparse.pixels import scaled_count
from models.attacks.threat import Linf
from models.data import DataSet
from tests.conftest import Published
from tests.models.attacks.test_attacks import accuracy

BUDGETS = {"pixels": 3, "patch": 3, "ead": 15, "deepfool-l1": 30, "sparsefool": 10, "spatial": 3}
unbound = pytest.mark.parametrize("name", BUDGETS)


@pytest.fixture(scope="module")
def rows(digits: DataSet) -> tuple[Tensor, Tensor]:
    """Unit-range test images and labels."""
    test = digits.test.take(slice(0, 40))  # type: ignore[arg-type]
    return torch.from_numpy(digits.schema.to_unit(test.x)), torch.from_numpy(test.y)


@pytest.fixture
def logits_of(published: Published) -> Any:
    """The quickly trained net, frozen."""
    with attacks.frozen(published.net) as net:
        yield attacks.logits_only(net)


def attacked(name: str, f: Any, x: Tensor, y: Tensor, seed: int = 0) -> Tensor:
    """The rows under an attack of the catalogue."""
    effort = Effort(BUDGETS[name], torch.Generator().manual_seed(seed))
    return CATALOGUE[name].run(f, x, y, Linf(0.1), effort)


@unbound
def test_stays_in_range_follows_its_seed_and_fools(name: str, logits_of: Any, rows: Any) -> None:
    x, y = rows
    before, state = x.clone(), torch.get_rng_state()
    x_adv = attacked(name, logits_of, x, y)
    assert torch.equal(x, before), "the caller's images are not changed"
    assert torch.equal(torch.get_rng_state(), state)
    assert x_adv.shape == x.shape
    assert not x_adv.requires_grad
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    assert accuracy(logits_of, x_adv, y) <= accuracy(logits_of, x, y) - 0.4
    assert torch.equal(x_adv, attacked(name, logits_of, x, y))


def test_pixels_change_no_more_than_asked_and_leave_what_is_wrong(
    logits_of: Any, rows: Any
) -> None:
    x, y = rows
    wrong = logits_of(x).argmax(dim=1) != y
    for count in (1, 2, 5):
        x_adv = attacks.pixels(logits_of, x, y, count=count)
        changed = (x_adv != x).flatten(1).sum(dim=1)
        assert changed.max() <= count
        assert not changed[wrong].any()
        moved = x_adv[x_adv != x]
        assert ((moved == 0) | (moved == 1)).all()
    assert scaled_count(1, 8, 8) == 1
    assert scaled_count(5, 28, 28) == 25


def test_pixels_of_colour_images_change_whole_pixels_also_without_a_gradient() -> None:
    x = torch.rand((6, 3, 5, 7), generator=torch.Generator().manual_seed(0))
    weight = torch.randn((105, 4), generator=torch.Generator().manual_seed(1))

    def black_box(rows: Tensor) -> Tensor:
        return (rows.flatten(1) @ weight).detach()

    y = black_box(x).argmax(dim=1)
    generator = torch.Generator().manual_seed(2)
    x_adv = attacks.pixels(black_box, x, y, count=3, generator=generator)
    changed = (x_adv != x).any(dim=1).flatten(1).sum(dim=1)
    assert 0 < changed.max() <= 3
    assert (black_box(x_adv).argmax(dim=1) != y).any()


@pytest.mark.parametrize("side", [1, 2, 3])
def test_a_patch_lies_in_one_square(side: int, logits_of: Any, rows: Any) -> None:
    x, y = rows
    x_adv = attacks.patch(logits_of, x, y, side=side, generator=torch.Generator().manual_seed(0))
    for others in (2, 3):
        touched = (x_adv != x).any(dim=1).any(dim=others - 1)
        span = [torch.nonzero(each)[:, 0] for each in touched]
        assert all(int(each.max() - each.min()) < side for each in span if len(each))


def test_the_change_of_ead_and_of_deepfool_in_l1_is_sparse(logits_of: Any, rows: Any) -> None:
    x, y = rows
    for name in ("ead", "deepfool-l1", "sparsefool"):
        changed = (attacked(name, logits_of, x, y) - x).abs().flatten(1) > 1e-4
        assert changed.sum(dim=1).float().median() <= 40
    few = (attacked("deepfool-l1", logits_of, x, y) - x).abs().flatten(1).sum(dim=1)
    dense = (attacks.deepfool(logits_of, x, y) - x).abs().flatten(1).sum(dim=1)
    assert few.median() < 1.5 * dense.median()


def test_universal_is_one_change_and_low_frequency_is_smooth(logits_of: Any, rows: Any) -> None:
    x, y = rows
    inner = x.clamp(0.2, 0.8)  # so that nothing is clipped
    generator = torch.Generator().manual_seed(0)
    change = attacks.universal(logits_of, inner, y, Linf(0.1), generator=generator) - inner
    assert change.std(dim=0).max() < 1e-6
    assert change.abs().max() > 0.05
    smooth = attacks.low_frequency(logits_of, inner, y, Linf(0.1), generator=generator) - inner
    spectrum = dctn(smooth.numpy(), axes=(2, 3), norm="ortho")
    assert np.abs(spectrum[:, :, 4:]).max() < 1e-5
    assert np.abs(spectrum[..., 4:]).max() < 1e-5
    assert np.abs(spectrum).max() > 0.1


@pytest.mark.parametrize("name", ["patch", "ead", "deepfool-l1", "sparsefool"])
def test_a_black_box_is_refused_by_those_that_climb(name: str, rows: Any) -> None:
    weight = torch.randn((64, 10), generator=torch.Generator().manual_seed(0))
    x = rows[0]

    def black_box(images: Tensor) -> Tensor:
        return (images.flatten(1) @ weight).detach()

    with pytest.raises(ValueError, match="gradient"):
        attacked(name, black_box, x, black_box(x).argmax(dim=1))
