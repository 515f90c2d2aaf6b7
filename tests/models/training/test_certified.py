"""Laws of certified training: the start, the loss, boxes that grow, and going on after a kill."""

import contextlib
import math
from pathlib import Path

import msgspec
import pytest
import torch
from torch import nn

from models import data as sets
from models.attacks.threat import L2, Linf, Threat, geometry_of
from models.base.errors import TrainingError
from models.certificates.bounds import box_around, margins, propagate, worst_margins
from models.certificates.layers import chain_of
from models.data import load_digits
from models.nets import factories
from models.training.adversary import Adversary
from models.training.certified import certified, start_certified
from models.training.loop import train
from models.training.presets import preset
from models.training.recipe import Recipe
from models.versions.judging import ThreatModel
from models.versions.schema import InputSchema
from tests import bundles

IMAGE = InputSchema("x", (1, 8, 8), "float32", 0.0, 1.0, "image")
RECIPE = Recipe(
    method="certified", eps=0.1, beta=0.0, epochs=4, batch_size=64, learning_rate=3e-3,
    eps_warm_up=0.6, precision="fp32",
)  # fmt: skip


def net_of(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    spec = factories.spec_for(IMAGE, 10, widths=[4, 8], hidden=16)
    net = factories.build(spec)
    start_certified(net, torch.Generator().manual_seed(seed))
    return net


def adversary(threat: Threat, reach: float) -> Adversary:
    return Adversary(threat, 1, torch.Generator(), contextlib.nullcontext, reach)


def test_the_start_keeps_the_width_of_a_box_from_layer_to_layer() -> None:
    torch.manual_seed(0)
    wide = factories.build(factories.spec_for(IMAGE, 10, hidden=512))
    start_certified(wide, torch.Generator().manual_seed(0))
    chain, x = chain_of(wide), torch.rand(16, 1, 8, 8)
    first = box_around(x, Linf(0.05))
    widths = [(box.high - box.low).detach().mean() for box in propagate(chain, first).active]
    usual = factories.build(factories.spec_for(IMAGE, 10, hidden=512))
    theirs = propagate(chain_of(usual), first).active
    assert float(widths[-1] / widths[0]) < 3
    theirs_first, theirs_last = ((b.high - b.low).detach().mean() for b in (theirs[0], theirs[-1]))
    assert float(theirs_last / theirs_first) > 5  # what the usual start does to a box


def test_without_a_box_the_loss_is_the_plain_one() -> None:
    net, x, y = net_of(), torch.rand(8, 1, 8, 8), torch.arange(8)
    plain = nn.functional.cross_entropy(net(x)[0], y)
    for reach in (0.0, 1.0):  # whichever of the two terms counts
        loss = certified(net, x, y, adversary(Linf(0.0), reach), 0.0)
        torch.testing.assert_close(loss, plain)


def test_the_loss_is_no_less_than_under_any_change() -> None:
    net, x, y = net_of(), torch.rand(8, 1, 8, 8), torch.arange(8)
    worst = certified(net, x, y, adversary(Linf(0.1), 1.0), 0.0)
    for seed in range(10):
        moved = Linf(0.1).random(x, torch.Generator().manual_seed(seed))
        assert nn.functional.cross_entropy(net(moved)[0], y) <= worst + 1e-5


def test_margins_bound_every_difference_of_logits() -> None:
    net, x, y = net_of(), torch.rand(8, 1, 8, 8), torch.arange(8)
    chain, threat = chain_of(net), Linf(0.08)
    lower = margins(chain.last, propagate(chain, box_around(x, threat)).box, y)
    for seed in range(20):
        moved = threat.random(x, torch.Generator().manual_seed(seed))
        logits = net(moved)[0]
        assert bool((logits.gather(1, y[:, None]) - logits >= lower - 1e-4).all())


def test_certified_training_certifies_and_plain_training_does_not() -> None:
    data = sets.load(sets.Source("breast_cancer"))
    x, y = torch.from_numpy(data.schema.to_unit(data.test.x)), torch.from_numpy(data.test.y)
    threat = geometry_of(ThreatModel(eps=0.02), data.schema)
    shares = {}
    for method in ("certified", "standard"):
        recipe = msgspec.structs.replace(RECIPE, method=method, eps=0.02, epochs=20, beta=0.5)
        torch.manual_seed(0)
        net = factories.build(factories.spec_for(data.schema, 2))
        if method == "certified":
            start_certified(net, torch.Generator().manual_seed(0))
        found = train(net, data.train, data.schema, recipe).net
        shares[method] = float((worst_margins(chain_of(found), x, y, threat) > 0).double().mean())
    assert shares["certified"] > 0.8
    assert shares["standard"] < shares["certified"] - 0.3


def test_a_run_that_was_cut_off_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = bundles.few_rows(load_digits()).train
    schema = load_digits().schema
    whole = train(net_of(), rows, schema, RECIPE).net

    class StopError(Exception):
        pass

    def stop(step: int, steps: int, loss: float) -> None:
        if step >= steps // 2:
            raise StopError

    kept = tmp_path / "run.safetensors"
    monkeypatch.setattr("models.training.loop.SAVE_EVERY_SECONDS", 0.0)
    with pytest.raises(StopError):
        train(net_of(), rows, schema, RECIPE, checkpoint=kept, progress=stop)
    again = train(net_of(), rows, schema, RECIPE, checkpoint=kept)
    assert again.resumed_from > 0
    for one, other in zip(whole.parameters(), again.net.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize(("threat", "beta"), [(L2(1.0), 0.0), (Linf(0.1), 6.0), (Linf(0.1), -0.1)])
def test_what_it_cannot_do_is_an_error_with_both_figures(threat: Threat, beta: float) -> None:
    with pytest.raises(TrainingError, match="norm linf and a beta of 0 to 1"):
        certified(net_of(), torch.rand(2, 1, 8, 8), torch.arange(2), adversary(threat, 1.0), beta)


def test_the_preset_of_the_method_is_its_own_for_every_kind() -> None:
    table = bundles.table().schema
    colour = InputSchema("x", (3, 32, 32), "uint8", 0.0, 255.0, "image")
    large = InputSchema("x", (1, 28, 28), "uint8", 0.0, 255.0, "image")
    for schema in (IMAGE, table, colour, large):
        chosen = preset(schema, 1000, method="certified")
        assert chosen.recipe.method == "certified"
        assert 0 <= chosen.recipe.beta <= 1
        assert 0 < chosen.threat.eps <= chosen.recipe.eps
        assert preset(schema, 1000).recipe.method != "certified"
        spec = factories.spec_for(schema, 3, certifiable=True)
        assert chain_of(factories.build(spec)).last.out_features == 3
        assert math.isfinite(chosen.recipe.eps)
