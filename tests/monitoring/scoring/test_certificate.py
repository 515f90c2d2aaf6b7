"""Laws of certificates in the graph: what is certified holds against proofs and attacks."""

import copy
import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models import attacks
from models.attacks.base import margin
from models.base.errors import TrainingError
from models.certificates.bounds import box_around, check_chain, worst_margins
from models.certificates.layers import Relu, Scale, chain_of
from models.training.recipe import Recipe
from models.versions.judging import ThreatModel
from models.versions.promises import CertificateFacts
from monitoring.making.version import certifying_of
from monitoring.scoring.certificates.last import pairwise
from monitoring.scoring.certificates.outputs import (
    Certifying,
    _samples,
    emit_certificate,
    least_lead,
)
from monitoring.scoring.certificates.rounding import MOST_CLASSES, gamma
from monitoring.scoring.graph import GraphBuilder
from tests import bundles, certified
from tests.certified import Small, compiled, small

Array = npt.NDArray[Any]
NAMES = sorted(certified.WHAT)
every = pytest.mark.parametrize("name", NAMES)


@every
def test_what_the_graph_certifies_float64_bounds_certify_too(name: str) -> None:
    version = small(name)
    x = version.data.test.x
    logits, proven, eps = version.answer(x)
    y, unit = torch.from_numpy(logits.argmax(axis=1)), version.tensors(x)
    for radius in version.facts.radii:
        margins = worst_margins(chain_of(version.net), unit, y, version.threat(radius)).numpy()
        told = eps >= np.float32(radius)
        assert not (told & ~(margins > 0)).any()
        assert (told == (margins > 1e-3)).mean() > 0.97  # rounding outwards costs next to nothing
    assert np.array_equal(proven, eps >= np.float32(version.facts.eps))
    assert proven.mean() > 0.5, "a net that is certified nowhere would show nothing"


@every
def test_no_corner_and_no_attack_turns_a_certified_answer(name: str) -> None:
    version = small(name)
    assert broken_by_attacks(version, certified.rows(version.data, 50), steps=10, corners=20) == 0


@pytest.mark.slow
@every
def test_no_long_attack_turns_a_certified_answer(name: str) -> None:
    version = small(name)
    assert broken_by_attacks(version, version.data.test.x, steps=1000, corners=200, restarts=3) == 0


def broken_by_attacks(
    version: Small, x: Array, *, steps: int, corners: int, restarts: int = 1
) -> int:
    """How many certified answers any of the attacks turns: PGD, APGD-CE, APGD-T, random corners."""
    logits, proven, _ = version.answer(x)
    unit, label = version.tensors(x)[proven], torch.from_numpy(logits.argmax(axis=1))[proven]
    tried = [*_corners(version, unit, corners), *_attacked(version, unit, label, steps, restarts)]
    turned = torch.zeros(len(unit), dtype=torch.bool)
    for x_adv in tried:
        raw = version.data.schema.from_unit(x_adv.numpy())
        turned |= torch.from_numpy(version.answer(raw)[0].argmax(axis=1)) != label
    return int(turned.sum())


def _attacked(
    version: Small, unit: Tensor, label: Tensor, steps: int, restarts: int
) -> list[Tensor]:
    threat, generator = version.threat(), torch.Generator().manual_seed(0)
    with attacks.frozen(version.net):
        logits_of = attacks.logits_only(version.net)
        given = (logits_of, unit, label, threat)
        found = [attacks.pgd(*given, steps=steps, loss=margin, restarts=restarts,
                             generator=generator)]  # fmt: skip
        found.append(attacks.apgd(*given, steps=min(steps, 100), generator=generator))
        if len(version.data.classes) > 3:
            found.append(attacks.apgd_targeted(*given, steps=min(steps, 100), generator=generator))
    return found


def _corners(version: Small, unit: Tensor, count: int) -> Iterator[Tensor]:
    """Random corners of the box."""
    generator, box = torch.Generator().manual_seed(1), box_around(unit, version.threat())
    for _ in range(count):
        yield torch.where(torch.rand(unit.shape, generator=generator) < 0.5, *box)


@every
@settings(max_examples=20)
@given(data=st.data())
def test_absurd_values_are_not_certified(name: str, data: st.DataObject) -> None:
    version = small(name)
    x = certified.rows(version.data, 4).copy()
    columns = version.data.schema.columns
    numbers = [k for k, c in enumerate(columns) if c.kind == "numeric"] or range(x[0].size)
    place = data.draw(st.sampled_from(list(numbers)))
    wild = [1e9, -1e9, 3e38, -3e38, np.inf, -np.inf]
    if not (columns and columns[place].missing):
        wild.append(np.nan)
    flat = x.reshape(len(x), -1)
    flat[0, place] = data.draw(st.sampled_from(wild))
    _, proven, eps = version.answer(x)
    assert not proven[0]
    assert eps[0] == 0
    alone = version.answer(x[1:])  # its neighbours in the batch are answered as ever
    assert np.array_equal(proven[1:], alone[1])


@settings(max_examples=30)
@given(scale=st.sampled_from([1e-30, 1e-9, 1e9, 1e20, 1e30, 1e38, np.inf, np.nan]),
       layer=st.integers(0, 3), seed=st.integers(0, 99))  # fmt: skip
def test_absurd_weights_certify_nothing_that_is_not_so(scale: float, layer: int, seed: int) -> None:
    version = small("digits")
    net = copy.deepcopy(version.net)
    parameters = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    with torch.no_grad():
        parameters[layer].weight[seed % len(parameters[layer].weight)] *= scale
    other = compiled(net, version.data, version.facts)
    x = certified.rows(version.data, 16, seed)
    logits, proven, _ = other.answer(x)
    if proven.any():
        label = torch.from_numpy(logits.argmax(axis=1))
        margins = worst_margins(chain_of(net), version.tensors(x), label, version.threat())
        assert bool((margins[torch.from_numpy(proven)] > 0).all())
        assert np.isfinite(logits[proven]).all()


def test_a_net_that_may_overflow_certifies_nothing_and_says_so() -> None:
    version = small("digits")
    net = copy.deepcopy(version.net)
    with torch.no_grad():
        next(net.parameters()).mul_(1e36)
    other = compiled(net, version.data, version.facts)
    assert not other.answer(version.data.test.x[:20])[1].any()


@every
def test_a_chain_that_is_not_the_net_is_never_compiled(name: str) -> None:
    """Wherever in the chain it differs: another constant, another layer, other weights."""
    version = small(name)
    chain, schema = chain_of(version.net), version.data.schema
    where = next(k for k, layer in enumerate(chain.layers) if isinstance(layer, Relu))
    others = copy.deepcopy(chain.layers)
    with torch.no_grad():
        others[-1].weight[0, 0] += 0.1
    wrong = [
        (*chain.layers[:where], *chain.layers[where + 1 :]),
        (*chain.layers[:where], Scale("mul", torch.tensor(1.01)), *chain.layers[where:]),
        others,
    ]
    x = _samples(schema)
    check_chain(version.net, chain, x)
    for layers in wrong:
        other = dataclasses.replace(chain, layers=layers)
        with pytest.raises(TrainingError, match="logits differ by"):
            emit_certificate(
                GraphBuilder(certified.empty(schema)), schema, schema.name,
                Certifying(version.net, other, version.facts), 1.0,
            )  # fmt: skip


def test_a_row_is_certified_alike_alone_and_in_a_batch() -> None:
    version = small("digits")
    x = version.data.test.x[:40]
    _, _, together = version.answer(x)
    alone = np.concatenate([version.answer(row[None])[2] for row in x])
    assert (together == alone).mean() > 0.97  # sums in another order may part a tie


def test_held_columns_and_categories_do_not_move() -> None:
    version = small("table")
    box = box_around(version.tensors(version.data.test.x), version.threat())
    held = [0, *(k for k, c in enumerate(version.data.schema.columns) if c.kind == "categorical")]
    assert torch.equal(box.low[:, held].nan_to_num(9), box.high[:, held].nan_to_num(9))
    free = list(range(1, 8))
    assert bool((box.low[:, free] < box.high[:, free]).all())


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_the_last_product_bounds_every_difference(seed: int, positive: bool) -> None:
    rng = np.random.default_rng(seed)
    weight, bias = rng.normal(size=(5, 7)), rng.normal(size=5)
    low = rng.uniform(0 if positive else -1, 1, size=7)
    high = low + rng.uniform(0, 1, size=7)
    matrix, shift = pairwise(weight, bias, positive)
    parts = [low, high] if positive else [low, high, np.maximum(np.abs(low), np.abs(high))]
    lower = (matrix @ np.concatenate(parts) + shift).reshape(5, 5)
    points = rng.uniform(low, high, size=(200, 7))
    logits = points @ weight.T + bias
    for i, j in itertools.permutations(range(5), 2):
        difference = logits[:, i] - logits[:, j]
        assert lower[i, j] <= difference.min()
        exact = np.where(weight[i] > weight[j], low, high) @ (weight[i] - weight[j])
        assert lower[i, j] == pytest.approx(exact + bias[i] - bias[j], abs=1e-4)


def test_many_classes_take_the_cheaper_last_layer_and_it_holds() -> None:
    classes = MOST_CLASSES + 5
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, classes))
    data = bundles.digits()
    version = compiled(Pair(net), data, CertificateFacts(0.002, (0.001, 0.002)))
    x = data.test.x
    logits, proven, _ = version.answer(x)
    label = torch.from_numpy(logits.argmax(axis=1))
    margins = worst_margins(chain_of(version.net), version.tensors(x), label, version.threat())
    assert proven.any()
    assert bool((margins[torch.from_numpy(proven)] > 0).all())


class Pair(nn.Module):
    """A net of the user's with logits alone, as one of ours."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.net(x)
        return logits, logits


LAYERS = {
    "normalised": lambda: nn.Sequential(Normalise(), nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(),
                                        nn.Flatten(), nn.Linear(256, 10)),
    "pools": lambda: nn.Sequential(nn.Conv2d(1, 6, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
                                   nn.Conv2d(6, 6, 3, groups=2), nn.AvgPool2d(2), nn.Flatten(),
                                   nn.Linear(6, 10)),
    "signed": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Linear(12, 10)),
}  # fmt: skip


class Normalise(nn.Module):
    """(x - mean) / std, as many nets begin."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((1, 1, 1, 1), 0.3))
        self.register_buffer("std", torch.full((1, 1, 1, 1), 0.35))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def test_inputs_fitted_after_the_first_trace_are_certified_as_they_are_exported() -> None:
    """Certified with the first mean and std, most answers would stand far from the truth."""
    torch.manual_seed(1)
    data, first = bundles.digits(), Normalise()
    net = Pair(nn.Sequential(first, nn.Flatten(), nn.Linear(64, 10))).eval()
    chain_of(net)
    first.mean, first.std = torch.full((1, 1, 1, 1), 0.6), torch.full((1, 1, 1, 1), 0.02)
    version = compiled(net, data, CertificateFacts(0.003, (0.003,)))
    logits, proven, _ = version.answer(data.test.x)
    exact = nn.Linear(64, 10)  # the same answers, with the scaling in the weights
    last = chain_of(net).last
    with torch.no_grad():
        exact.weight.copy_(last.weight / 0.02)
        exact.bias.copy_(last.bias - last.weight.sum(dim=1) * 0.6 / 0.02)
    plain = chain_of(nn.Sequential(nn.Flatten(), exact))
    label = torch.from_numpy(logits.argmax(axis=1))
    margins = worst_margins(plain, version.tensors(data.test.x), label, version.threat()).numpy()
    assert 0.02 < proven.mean() < 0.98
    assert not (proven & ~(margins > 0)).any()


@pytest.mark.parametrize("eps", [0.0, 1e-60], ids=["zero", "zero in float32"])
def test_where_nothing_is_proven_nothing_is_certified(eps: float) -> None:
    trained = small("digits")
    version = compiled(trained.net, trained.data, CertificateFacts(eps, (eps,)))
    x = trained.data.test.x[:20].copy()
    x[0, ..., 0] = np.nan
    _, proven, size = version.answer(x)
    assert not proven.any()
    assert not size.any()


@pytest.mark.parametrize("eps", [0.0, -0.1, float("nan")])
def test_an_eps_that_allows_no_change_is_refused(eps: float) -> None:
    net, threat = small("digits").net, ThreatModel(eps=eps)
    with pytest.raises(TrainingError, match="eps must be above 0 for method certified"):
        certifying_of(net, certified.RECIPE, threat)
    plain = Recipe(method="standard")
    assert certifying_of(net, plain, threat) is None


@pytest.mark.parametrize("name", LAYERS)
def test_every_supported_layer_is_bounded_in_the_graph(name: str) -> None:
    torch.manual_seed(1)
    data = bundles.digits()
    net = Pair(LAYERS[name]()).eval()
    version = compiled(net, data, CertificateFacts(0.004, (0.002, 0.004)))
    x = data.test.x
    logits, _, eps = version.answer(x)
    label = torch.from_numpy(logits.argmax(axis=1))
    for radius in version.facts.radii:
        threat = version.threat(radius)
        margins = worst_margins(chain_of(net), version.tensors(x), label, threat).numpy()
        told = eps >= np.float32(radius)
        assert told.any()
        assert not (told & ~(margins > 0)).any()
        assert (told == (margins > 2e-3)).mean() > 0.9


def test_rounding_grows_with_the_sums_and_stays_small() -> None:
    assert gamma(9) < gamma(1024) < 2e-4


def test_the_least_lead_grows_with_the_temperature() -> None:
    version = small("digits")
    what = certified.Certifying(version.net, chain_of(version.net), version.facts)
    cool, hot = (least_lead(what, version.data.schema, heat) for heat in (1.0, 3.0))
    assert 0 < cool < hot < 0.05
