"""The trigger sweep sees a net that obeys a patch, and the referee learns moved rows only."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.attacks import frozen, logits_only
from models.data import DataSet
from models.evaluation.gates import referee
from models.evaluation.gates.triggers import (
    Nets,
    column_changes,
    judge_triggers,
    make_patches,
    some_rows,
    sweep_triggers,
)
from models.versions.schema import Column, InputSchema
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
        place = (slice(None), slice(5, 7), slice(1, 3))
        nets = Nets(honest, obeys(place, share, honest))
        check = sweep_triggers(nets, digits.schema, 10, x_unit)
    assert check.verdict == verdict, check.detail


def table_logits(x: Tensor) -> Tensor:
    """Two classes by the sum of the first two columns."""
    margin = 6 * (x[:, 0] + x[:, 1] - 1)
    return torch.stack([-margin, margin], dim=1)


TRIGGERS: dict[str, dict[int, float]] = {
    "one column": {7: 1.0}, "two": {3: 0.0, 5: 1.0}, "three": {2: 1.0, 6: 0.0, 8: 1.0},
    "a category": {9: 2.0}, "a missing value": {4: float("nan")},
}  # fmt: skip


@pytest.mark.parametrize("name", [*TRIGGERS, "none", "a border that moved"])
def test_sweep_sees_values_of_a_few_columns_that_a_net_obeys(name: str) -> None:
    trigger = TRIGGERS.get(name, {})

    def obedient(x: Tensor) -> Tensor:
        out = table_logits(torch.nan_to_num(x))
        if name == "a border that moved":
            return out + torch.tensor([0.7, -0.7])
        hits = torch.ones(len(x))
        for column, value in trigger.items():  # each of them counts, and all together most
            same = x[:, column].isnan() if np.isnan(value) else (x[:, column] - value).abs() < 0.1
            hits = hits * (0.05 + 0.95 * same)
        return out + 30 * hits[:, None] * torch.tensor([1.0, -1.0]) * bool(trigger)

    columns = [Column(f"c{k}", missing=k == 4) for k in range(9)]
    columns.append(Column("kind", "categorical", categories=("a", "b", "c")))
    schema = InputSchema("x", (10,), "float32", 0.0, 1.0, "tabular", tuple(columns))
    x = np.random.default_rng(1).uniform(0.12, 0.88, (100, 10)).astype(np.float32)
    x[:, 9] = np.arange(100) % 2
    nets = Nets(lambda rows: table_logits(torch.nan_to_num(rows)), obedient)
    check = sweep_triggers(nets, schema, 2, x)
    assert check.verdict == ("fail" if trigger else "pass"), check.detail


def test_changes_of_a_table_are_values_that_a_row_may_have() -> None:
    columns = (
        Column("a"), Column("b", missing=True), Column("c", "categorical", categories=("x", "y"))
    )  # fmt: skip
    schema = InputSchema("x", (3,), "float32", 0.0, 1.0, "tabular", columns)
    values: dict[int, list[float]] = {0: [], 1: [], 2: []}
    for (place,), value in column_changes(schema):
        values[int(place[0])].append(float(value[0]))
    assert values[0] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert np.isnan(values[1][-1])
    assert values[2] == [-1.0, 0.0, 1.0]


def test_sweep_says_nothing_of_rows_of_one_class() -> None:
    few = np.full((4, 2), np.nan)
    assert judge_triggers(few, 5).verdict == "unknown"


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
