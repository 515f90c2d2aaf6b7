"""Laws of the training: robust where plain training is not, reproducible, loud when it fails."""

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from models import attacks
from models.attacks.threat import Linf
from models.base.errors import TrainingError
from models.data import DataSet, Rows
from models.nets import export, factories
from models.training import loop
from models.training.loop import Recipe, train
from models.training.methods import METHODS
from tests.conftest import NET, QUICK, Published

TINY = factories.NetSpec("small_conv", NET.kwargs | {"widths": [8, 16], "hidden": 32})


def trained(
    digits: DataSet, recipe: Recipe, spec: factories.NetSpec = TINY, **kwargs: Any
) -> nn.Module:
    """A net from the recipe's seed."""
    torch.manual_seed(recipe.seed)
    return train(factories.build(spec), digits.train, digits.schema, recipe, **kwargs).net


def robust_and_clean(
    net: nn.Module, digits: DataSet, eps: float, steps: int
) -> tuple[float, float]:
    """Accuracy on all test rows under PGD and APGD, and without."""
    x = torch.from_numpy(digits.schema.to_unit(digits.test.x))
    y = torch.from_numpy(digits.test.y)
    with attacks.frozen(net):
        f, threat = attacks.logits_only(net), Linf(eps)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            clean = f(x).argmax(dim=1) == y
            survived = clean
            for attack in (attacks.pgd, attacks.apgd):
                with torch.enable_grad():
                    x_adv = attack(f, x, y, threat, steps=steps, generator=generator)
                survived = survived & (f(x_adv).argmax(dim=1) == y)
    return float(survived.float().mean()), float(clean.float().mean())


def test_trades_is_far_more_robust_than_standard_training_at_the_same_epochs(
    published: Published, digits: DataSet
) -> None:
    plain = trained(digits, msgspec.structs.replace(QUICK, method="standard"), NET)
    standard, standard_clean = robust_and_clean(plain, digits, 0.15, 20)
    trades, trades_clean = robust_and_clean(published.net, digits, 0.15, 20)
    assert standard_clean > 0.9
    assert trades_clean > 0.85
    assert trades > standard + 0.3


def test_pgd_training_is_more_robust_than_standard_training(digits: DataSet) -> None:
    recipe = Recipe(epochs=15, eps=0.15, attack_steps=3)
    figures = {
        method: robust_and_clean(
            trained(digits, msgspec.structs.replace(recipe, method=method)), digits, 0.1, 10
        )[0]
        for method in ("standard", "pgd")
    }
    assert figures["pgd"] > figures["standard"] + 0.1


@pytest.mark.parametrize("method", METHODS)
def test_training_is_the_same_with_the_same_seed_and_another_with_another(
    method: Any, digits: DataSet
) -> None:
    recipe = Recipe(method=method, max_steps=12, attack_steps=2, beta=1.0)
    one, two, other = (
        trained(digits, r).state_dict()
        for r in (recipe, recipe, msgspec.structs.replace(recipe, seed=1))
    )
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert not any(torch.equal(one[k], other[k]) for k in one if k.endswith("weight"))


def test_seed_alone_decides_the_order_and_the_noise(digits: DataSet) -> None:
    torch.manual_seed(0)
    start = factories.build(TINY).state_dict()
    results = []
    for seed in (0, 1):
        net = factories.build(TINY)
        net.load_state_dict(start)
        torch.manual_seed(99)  # the global state is another one than at the start
        recipe = Recipe(max_steps=6, attack_steps=2, seed=seed)
        results.append(train(net, digits.train, digits.schema, recipe).net.head.weight)
    assert not torch.equal(*results)


@pytest.fixture(
    params=[
        {"batch_norm": True, "dropout": 0.2},
        pytest.param({"batch_norm": True}, marks=pytest.mark.slow),
        pytest.param({"dropout": 0.3}, marks=pytest.mark.slow),
    ]
)
def options(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Options of the net that behave otherwise in training."""
    return request.param


def test_options_train_and_export_and_keep_parity(options: dict[str, Any], digits: DataSet) -> None:
    spec = factories.NetSpec("small_conv", TINY.kwargs | options)
    net = trained(digits, Recipe(epochs=4, attack_steps=3, eps=0.1, ema=0.9), spec)
    assert not net.training
    _, clean = robust_and_clean(net, digits, 0.1, 1)
    assert clean > 0.7
    plain = export.to_onnx(net, digits.schema)
    assert export.parity(net, plain, digits.schema, digits.test.x) <= export.TOLERANCE


def test_batch_norm_does_not_learn_from_the_attack(digits: DataSet) -> None:
    spec = factories.NetSpec("small_conv", TINY.kwargs | {"batch_norm": True})
    torch.manual_seed(0)
    net = factories.build(spec)
    train(net, digits.train, digits.schema, Recipe(max_steps=5, attack_steps=4))
    (norm,) = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)][:1]
    assert norm.num_batches_tracked == 5


def test_progress_has_the_mean_loss_of_every_epoch(
    digits: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[tuple[int, int, float]] = []
    batches: list[tuple[float, int]] = []
    rows = digits.train.take(np.arange(100))
    recipe = Recipe(method="standard", epochs=3, batch_size=30)
    step = loop._Run.step

    def noted(run: loop._Run, number: int) -> tuple[float, int]:
        batches.append(step(run, number))
        return batches[-1]

    monkeypatch.setattr(loop._Run, "step", noted)
    monkeypatch.setattr(loop, "REPORT_EVERY_SECONDS", 1e9)
    result = train(
        factories.build(TINY), rows, digits.schema, recipe, progress=lambda *a: reports.append(a)
    )
    assert [step for step, _, _ in reports] == [0, 4, 8, 12]
    assert {steps for _, steps, _ in reports} == {result.steps} == {12}
    assert np.isnan(reports[0][2])
    assert [size for _, size in batches] == [30, 30, 30, 10] * 3
    for (_, _, mean), start in zip(reports[1:], (0, 4, 8), strict=True):
        losses, sizes = np.array(batches[start : start + 4]).T
        assert mean == pytest.approx(np.average(losses, weights=sizes))
    assert reports[-1][2] == pytest.approx(result.mean_loss)
    assert result.cpu_seconds > 0


def test_progress_in_a_long_epoch_does_not_wait_for_its_end(
    digits: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[int] = []
    monkeypatch.setattr(loop, "REPORT_EVERY_SECONDS", 0.0)
    train(
        factories.build(TINY), digits.train, digits.schema, Recipe(method="standard", max_steps=5),
        progress=lambda step, steps, loss: reports.append(step),
    )  # fmt: skip
    assert reports == [0, 1, 2, 3, 4, 5]


def test_steps_are_cut_at_their_limit(digits: DataSet) -> None:
    recipe = Recipe(method="standard", max_steps=3)
    assert train(factories.build(TINY), digits.train, digits.schema, recipe).steps == 3


def test_result_is_the_moving_average_of_the_weights(digits: DataSet) -> None:
    torch.manual_seed(0)
    net = factories.build(TINY)
    start = net.head.weight.detach().clone()
    recipe = Recipe(method="standard", max_steps=1, ema=0.75, learning_rate=0.1, warm_up=0.0)
    average = train(net, digits.train, digits.schema, recipe).net
    assert (net.head.weight - start).abs().mean() > 0.05
    torch.testing.assert_close(
        average.head.weight, (0.75 * start + 0.25 * net.head.weight).detach()
    )


@pytest.mark.parametrize("method", METHODS)
def test_loss_that_is_not_finite_is_an_error_with_the_step(method: Any, digits: DataSet) -> None:
    recipe = Recipe(
        method=method, learning_rate=1e30, max_steps=20, attack_steps=1, warm_up=0.0, beta=0.5
    )
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step \d+; lower"):
        trained(digits, recipe)


def test_training_without_rows_is_an_error(digits: DataSet) -> None:
    for count in (0, 1):
        rows = Rows(digits.train.x[:count], digits.train.y[:count])
        with pytest.raises(TrainingError, match=f"at least 2 rows, got {count}"):
            train(factories.build(TINY), rows, digits.schema, Recipe())


def test_recipe_refuses_words_it_does_not_know() -> None:
    for wrong in ({"epoch": 3}, {"method": "magic"}, {"eps": "big"}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, Recipe)


@pytest.mark.slow
def test_full_recipe_is_accurate_and_robust_within_a_minute(digits: DataSet) -> None:
    torch.manual_seed(0)
    result = train(factories.build(NET), digits.train, digits.schema, Recipe())
    assert result.cpu_seconds <= 60
    robust, clean = robust_and_clean(result.net, digits, 0.15, 100)
    assert clean >= 0.95
    assert robust >= 0.75  # measured .804
