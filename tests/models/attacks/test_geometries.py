"""The battery under L2 (images) and under a bound per column (tables)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import attacks
from models.attacks.catalogue import CATALOGUE
from models.attacks.threat import L2, Columns, Threat, geometry_of
from models.data import DataSet
from models.versions.judging import ThreatModel
from models.versions.schema import Column, InputSchema
from tests.conftest import Published
from tests.models.attacks.test_attacks import ATTACKS, RANDOM, accuracy

battery = pytest.mark.parametrize("name", ATTACKS)
ON_TABLES = [name for name in ATTACKS if not CATALOGUE[name].images]
COLUMNS = 30
FIXED, ONE_SIDED, MISSING = 3, 5, 7


@dataclass(frozen=True)
class Case:
    """A net with rows, and threat models of every size."""

    logits_of: Any
    x: Tensor
    y: Tensor
    threat_at: Callable[[float], Threat]


@pytest.fixture(scope="module")
def table() -> Case:
    """Breast cancer (scikit-learn), min-max scaled; a small MLP, trained for a second."""
    from sklearn.datasets import load_breast_cancer

    raw, labels = load_breast_cancer(return_X_y=True)
    x = torch.tensor(raw, dtype=torch.float32)
    x = (x - x.amin(dim=0)) / (x.amax(dim=0) - x.amin(dim=0))
    x[::5, MISSING] = float("nan")
    y = torch.tensor(labels)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(COLUMNS, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x.nan_to_num(0.3)), y).backward()
        optimizer.step()
    net.eval().requires_grad_(False)
    columns = tuple(Column(f"c{k}", missing=k == MISSING) for k in range(COLUMNS))
    schema = InputSchema("x", (COLUMNS,), "float32", 0, 1, "tabular", columns)
    model = ThreatModel(columns={f"c{FIXED}": 0.0, f"c{ONE_SIDED}": (0.0, 2.0)})
    return Case(
        lambda z: net(z.nan_to_num(0.3)),
        x[:150],
        y[:150],
        lambda eps: geometry_of(model, schema, eps),
    )


@pytest.fixture
def images(published: Published, digits: DataSet) -> Any:
    """The quickly trained net on digits, under L2."""
    x = torch.from_numpy(digits.schema.to_unit(digits.test.x[:100]))
    with attacks.frozen(published.net) as net:
        yield Case(attacks.logits_only(net), x, torch.from_numpy(digits.test.y[:100]), L2)


def suited(name: str, on_images: Any, on_table: Any) -> tuple[Any, ...]:
    """The cases that an attack makes sense for."""
    return (on_images, on_table) if name in ON_TABLES else (on_images,)


@battery
@pytest.mark.parametrize("eps", [0.0, 0.3, 1.5])
def test_stays_in_the_l2_ball_and_in_range(name: str, eps: float, images: Case) -> None:
    x, y = images.x[:40], images.y[:40]
    before = x.clone()
    x_adv = ATTACKS[name](images.logits_of, x, y, L2(eps), 0)  # type: ignore[arg-type]
    assert x_adv.shape == x.shape
    assert (x_adv - x).flatten(1).norm(dim=1).max() <= eps + 1e-5
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    assert torch.equal(x, before), "the caller's images are not changed"


@pytest.mark.parametrize("name", ON_TABLES)
@pytest.mark.parametrize("eps", [0.0, 0.1, 0.6])
def test_stays_in_the_box_of_every_column(name: str, eps: float, table: Case) -> None:
    x, y = table.x[:40], table.y[:40]
    threat = table.threat_at(eps)
    assert isinstance(threat, Columns)
    x_adv = ATTACKS[name](table.logits_of, x, y, threat, 0)  # type: ignore[arg-type]
    assert torch.equal(x_adv.isnan(), x.isnan()), "missing stays missing"
    change = (x_adv - x).nan_to_num()
    assert (change >= -eps * threat.down - 1e-6).all()
    assert (change <= eps * threat.up + 1e-6).all()
    assert (change[:, FIXED] == 0).all()
    assert (change[:, ONE_SIDED] >= 0).all()
    present = x_adv[~x.isnan()]
    assert present.min() >= 0
    assert present.max() <= 1


@battery
def test_is_reproducible_with_a_seed_in_every_geometry(
    name: str, images: Case, table: Case
) -> None:
    for case, eps in suited(name, (images, 0.5), (table, 0.1)):
        x, y, threat = case.x[:12], case.y[:12], case.threat_at(eps)
        one, two, other = (
            ATTACKS[name](case.logits_of, x, y, threat, seed)  # type: ignore[arg-type]
            for seed in (1, 1, 2)
        )
        assert torch.equal(one.nan_to_num(), two.nan_to_num())
        if case is images:  # all starts in the box of a table may end in the same corner
            assert torch.equal(one, other) == (name not in RANDOM)


@battery
def test_is_stronger_than_noise_of_the_same_size_in_every_geometry(
    name: str, images: Case, table: Case
) -> None:
    for case, eps in suited(name, (images, 0.6), (table, 0.1)):
        threat, generator = case.threat_at(eps), torch.Generator().manual_seed(3)
        far = case.x + 10 * torch.randn(case.x.shape, generator=generator)
        noise = accuracy(case.logits_of, threat.project(far, case.x), case.y)
        x_adv = ATTACKS[name](case.logits_of, case.x, case.y, threat, 0)  # type: ignore[arg-type]
        assert accuracy(case.logits_of, x_adv, case.y) < noise - 0.03


@battery
def test_is_stronger_with_eps_in_every_geometry(name: str, images: Case, table: Case) -> None:
    curves = ((images, (0.0, 0.4, 1.0, 2.0)), (table, (0.0, 0.05, 0.15, 0.4)))
    for case, sizes in suited(name, *curves):
        x, y = case.x[:60], case.y[:60]
        curve = []
        for eps in sizes:
            threat: Any = case.threat_at(eps)
            curve.append(
                accuracy(case.logits_of, ATTACKS[name](case.logits_of, x, y, threat, 0), y)
            )
        assert curve == sorted(curve, reverse=True)
        assert curve[0] > curve[-1] + 0.4


def test_apgd_on_a_linear_model_finds_the_farthest_point_of_the_l2_ball() -> None:
    w = torch.tensor([[1.0, -2.0, 0.5], [-1.0, 1.0, 3.0]])
    x, y = torch.full((1, 3), 0.5), torch.tensor([0])
    away = w[1] - w[0]
    for attack in (attacks.fgsm, attacks.apgd):
        found = attack(lambda z: z @ w.T, x, y, L2(0.3))
        torch.testing.assert_close(found, x + 0.3 * away / away.norm(), atol=1e-3, rtol=0)


def test_a_table_of_which_no_column_may_move_is_left_alone(table: Case) -> None:
    zero = torch.zeros(COLUMNS)
    threat: Any = Columns(0.5, zero, zero)
    for name in ON_TABLES:
        x_adv = ATTACKS[name](table.logits_of, table.x[:5], table.y[:5], threat, 0)
        assert torch.equal(x_adv.nan_to_num(), table.x[:5].nan_to_num())
