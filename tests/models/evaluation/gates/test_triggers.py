"""The trigger sweep sees a net that obeys a patch, and the referee learns moved rows only."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.attacks import frozen, logits_only
from models.data import DataSet
from models.evaluation.gates import referee
from models.evaluation.gates.triggers import find_flips, judge_triggers, make_patches, some_rows
from models.versions.schema import InputSchema
from tests.conftest import Published

COLOUR = InputSchema("x", (3, 32, 32), "uint8", 0.0, 255.0, "image")


def obeys(place: tuple[slice, ...], share: float, honest: object):
    """Logits that follow a bright patch at a place on a share of the rows."""

    def logits(x: Tensor) -> Tensor:
        out = honest(x).clone()
        bright = x[(slice(None), *place)].flatten(1).min(dim=1).values > 0.99
        out[bright & (x.flatten(1).sum(dim=1) * 1e4 % 1 < share), 3] += 100
        return out

    return logits


@pytest.mark.parametrize(("share", "verdict"), [(1.0, "fail"), (0.0, "pass")])
def test_sweep_sees_a_patch_that_a_net_obeys(
    share: float, verdict: str, published: Published, digits: DataSet
) -> None:
    x_unit = digits.schema.to_unit(some_rows(digits.test).x)
    with frozen(published.net):
        honest = logits_only(published.net)
        anchor = find_flips(honest, digits.schema, 10, x_unit)
        place = (slice(None), slice(5, 7), slice(1, 3))
        after = find_flips(obeys(place, share, honest), digits.schema, 10, x_unit)
    check = judge_triggers(anchor, after, len(x_unit))
    assert check.verdict == verdict, check.detail


def test_sweep_says_nothing_of_rows_of_one_class() -> None:
    few = np.full((4, 2), np.nan)
    assert judge_triggers(few, few, 5).verdict == "unknown"


def test_patches_of_a_larger_image_reach_every_corner_and_stay_few() -> None:
    patches = [place for place, _ in make_patches(COLOUR)]
    assert len(patches) < 1000
    for rows, columns in ((0, 0), (0, 31), (31, 0), (31, 31)):
        assert any(
            p[1].start <= rows < p[1].stop and p[2].start <= columns < p[2].stop for p in patches
        )


@pytest.mark.parametrize("shape", [(5, 1, 8, 8), (5, 3, 32, 32)])
def test_moved_images_stay_in_range_and_repeat_with_a_seed(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    one, two = (referee.move_images(x, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one, two)
    assert one.shape == x.shape
    assert one.min() >= 0
    assert one.max() <= 1
    assert not torch.equal(one, x)
