"""Laws of the training methods: the adversary stays in bounds, gradients reach the net."""

import contextlib
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from models.attacks.base import frozen
from models.attacks.threat import Linf, Threat, geometry_of
from models.data import DataSet
from models.nets import factories
from models.training import methods
from models.training.adversary import Adversary, resize_threat, soft_cross_entropy
from models.training.methods import METHODS
from models.versions.judging import ThreatModel
from models.versions.schema import Column, InputSchema
from tests.conftest import Published

SCHEMAS = {
    "linf": InputSchema("input", (1, 8, 8), "float32", 0, 16, "image"),
    "l2": InputSchema("input", (1, 8, 8), "float32", 0, 16, "image"),
    "columns": InputSchema(
        "input", (6,), "float32", 0, 1, "tabular",
        tuple(Column(f"c{k}", high=1.0) for k in range(6)),
    ),
}  # fmt: skip
SIZES = {"linf": 0.1, "l2": 1.0, "columns": 0.1}
geometries = pytest.mark.parametrize("norm", SCHEMAS)


def threat_of(norm: str) -> Threat:
    model = ThreatModel("l2" if norm == "l2" else "linf", SIZES[norm])
    if norm == "columns":
        model = ThreatModel("linf", 0.1, {"c0": 0.0, "c1": (0.0, 2.0)})
    return geometry_of(model, SCHEMAS[norm])


def adversary(threat: Threat, steps: int = 5, seed: int = 0) -> Adversary:
    return Adversary(threat, steps, torch.Generator().manual_seed(seed), contextlib.nullcontext)


def batch(norm: str) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    schema = SCHEMAS[norm]
    net = factories.build(factories.spec_for(schema, 3))
    return net, torch.rand(12, *schema.shape), torch.randint(0, 3, (12,))


@geometries
@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_loss_whose_gradient_reaches_all_weights(
    norm: str, method: str
) -> None:
    if method == "certified" and norm == "l2":
        pytest.skip("bounds are for boxes")
    net, x, y = batch(norm)
    before = x.clone()
    beta = 0.5 if method == "certified" else 6.0
    loss = METHODS[method](net.train(), x, y, adversary(threat_of(norm)), beta)
    loss.backward()
    assert loss.dim() == 0
    assert torch.equal(x, before)
    assert net.training, "the mode is put back"
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all()
    assert net.head.weight.grad.abs().sum() > 0


@geometries
def test_climbing_stays_in_the_threat_model_and_raises_the_loss(norm: str) -> None:
    net, x, y = batch(norm)
    threat, target = threat_of(norm), F.one_hot(y, 3).float()
    with frozen(net):
        x_adv = adversary(threat).climb(net, threat.random(x), x, target)
        losses = [soft_cross_entropy(net(z)[0], target) for z in (x, x_adv)]
    torch.testing.assert_close(threat.project(x_adv, x), x_adv)
    assert (losses[1] > losses[0]).float().mean() > 0.8


@geometries
@pytest.mark.parametrize("factor", [0.0, 0.5, 2.0])
def test_resized_is_the_same_geometry_at_another_size(norm: str, factor: float) -> None:
    threat = threat_of(norm)
    other = resize_threat(threat, factor)
    assert other.eps == pytest.approx(threat.eps * factor)
    assert type(other) is type(threat)


def test_resized_linf_stops_at_the_whole_range() -> None:
    assert resize_threat(Linf(0.6), 3.0).eps == 1.0


def test_nfgsm_goes_beyond_the_ball_and_fgsm_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x, y = batch("linf")
    x = 0.4 + 0.2 * x  # away from the rim of the range
    seen: dict[str, Any] = {}
    for name in ("fgsm", "nfgsm"):
        monkeypatch.setattr(methods, "_loss", lambda n, z, y, a, name=name: seen.update({name: z}))
        METHODS[name](net, x, y, adversary(Linf(0.1)), 0.0)
    assert (seen["fgsm"] - x).abs().max() <= 0.1 + 1e-6
    assert 0.2 < (seen["nfgsm"] - x).abs().max() <= 0.3 + 1e-6


def test_trades_without_beta_is_the_clean_loss(published: Published, digits: DataSet) -> None:
    x = torch.from_numpy(digits.schema.to_unit(digits.test.x[:32]))
    y = torch.from_numpy(digits.test.y[:32])
    net = published.net
    losses = [
        METHODS["trades"](net, x, y, adversary(Linf(0.2)), beta).item() for beta in (0.0, 6.0)
    ]
    assert losses[0] == pytest.approx(F.cross_entropy(net(x)[0], y).item(), abs=1e-5)
    assert losses[1] > losses[0] + 0.1
