"""One battery over all attacks under L-inf: what each must obey; then APGD against its authors'."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import attacks
from models.attacks.base import dlr, dlr_targeted, margin, value_and_gradient
from models.attacks.catalogue import CATALOGUE, Attack, Effort
from models.attacks.gradient.apgd import checkpoints
from models.attacks.threat import Linf
from models.data import DataSet
from tests.conftest import Published

BUDGETS = {"step": 1, "steps": 20, "queries": 150}


def tried(record: Attack) -> Callable[[Any, Tensor, Tensor, Any, int], Tensor]:
    """An attack with a small budget, from a seed."""
    budget = 10 if record.name == "apgd-t" else BUDGETS[record.counts]

    def run(f: Any, x: Tensor, y: Tensor, threat: Any, seed: int) -> Tensor:
        return record.run(f, x, y, threat, Effort(budget, torch.Generator().manual_seed(seed)))

    return run


ATTACKS = {
    name: tried(record) for name, record in CATALOGUE.items() if not (record.nearest or record.free)
}
RANDOM = tuple(name for name in ATTACKS if CATALOGUE[name].counts != "step")
STOPS = ("apgd-t", "square")  # where a row is wrong: they widen no margin beyond 0
HELD = ("universal", "low-frequency")  # to one change, to smooth ones: weaker by what they are
battery = pytest.mark.parametrize("name", ATTACKS)


@pytest.fixture(scope="module")
def rows(digits: DataSet) -> tuple[Tensor, Tensor]:
    """Unit-range test images and labels."""
    test = digits.test.take(slice(0, 200))  # type: ignore[arg-type]
    return torch.from_numpy(digits.schema.to_unit(test.x)), torch.from_numpy(test.y)


@pytest.fixture
def logits_of(published: Published) -> Any:
    """The quickly trained net, frozen."""
    with attacks.frozen(published.net) as net:
        yield attacks.logits_only(net)


def accuracy(logits_of: Any, x: Tensor, y: Tensor) -> float:
    """Share of right answers."""
    with torch.no_grad():
        return float((logits_of(x).argmax(dim=1) == y).float().mean())


@battery
@pytest.mark.parametrize("eps", [0.0, 0.05, 0.3, 1.0])
def test_stays_in_the_ball_and_in_range(name: str, eps: float, logits_of: Any, rows: Any) -> None:
    x, y = rows[0][:50], rows[1][:50]
    before = x.clone()
    x_adv = ATTACKS[name](logits_of, x, y, Linf(eps), 0)
    assert x_adv.shape == x.shape
    assert x_adv.dtype == x.dtype
    assert not x_adv.requires_grad
    assert (x_adv - x).abs().max() <= eps + 1e-6
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    assert torch.equal(x, before), "the caller's images are not changed"


@battery
def test_is_reproducible_with_a_seed(name: str, logits_of: Any, rows: Any) -> None:
    x, y = rows[0][:50], rows[1][:50]
    one, two, other = (ATTACKS[name](logits_of, x, y, Linf(0.1), seed) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert torch.equal(one, other) == (name not in RANDOM)


@battery
def test_does_not_touch_the_global_random_state(name: str, logits_of: Any, rows: Any) -> None:
    before = torch.get_rng_state()
    ATTACKS[name](logits_of, rows[0][:8], rows[1][:8], Linf(0.1), 0)
    assert torch.equal(torch.get_rng_state(), before)


@battery
@pytest.mark.parametrize("eps", [0.05, 0.15, 0.3])
def test_is_stronger_than_noise_of_the_same_size(
    name: str, eps: float, logits_of: Any, rows: Any
) -> None:
    x, y = rows
    signs = torch.rand(x.shape, generator=torch.Generator().manual_seed(3)).sub(0.5).sign()
    noise = accuracy(logits_of, (x + eps * signs).clamp(0, 1), y)
    attacked = accuracy(logits_of, ATTACKS[name](logits_of, x, y, Linf(eps), 0), y)
    if name in HELD:  # of small changes they are no better than noise
        assert attacked <= noise + 0.01
    else:
        assert attacked < noise - 0.02


@battery
def test_is_stronger_with_eps(name: str, logits_of: Any, rows: Any) -> None:
    x, y = rows[0][:120], rows[1][:120]
    curve = [
        accuracy(logits_of, ATTACKS[name](logits_of, x, y, Linf(eps), 0), y)
        for eps in (0.0, 0.05, 0.1, 0.2, 0.3)
    ]
    assert curve == sorted(curve, reverse=True)
    assert curve[0] > curve[-1] + (0.15 if name in HELD else 0.5)


@battery
def test_moves_away_from_the_label_it_is_given(name: str, logits_of: Any, rows: Any) -> None:
    x, y = rows[0][:100], rows[1][:100]
    wrong = (y + 1) % 10
    for label, other in ((y, wrong), (wrong, y)):
        x_adv = ATTACKS[name](logits_of, x, label, Linf(0.15), 0)
        against = ATTACKS[name](logits_of, x, other, Linf(0.15), 0)
        with torch.no_grad():
            gained = margin(logits_of(x_adv), label) - margin(logits_of(x), label)
            strayed = margin(logits_of(against), label) - margin(logits_of(x), label)
        least = 0.08 if name in (*STOPS, *HELD) else 0.15
        assert gained.mean() > strayed.mean() + least


@battery
def test_leaves_parameters_gradients_and_mode_alone(
    name: str, published: Published, rows: Any
) -> None:
    net = published.net
    net.train()
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    weights = [p.clone() for p in net.parameters()]
    try:
        with attacks.frozen(net):
            ATTACKS[name](attacks.logits_only(net), rows[0][:20], rows[1][:20], Linf(0.1), 0)
        assert net.training
        for parameter, before in zip(net.parameters(), weights, strict=True):
            assert torch.equal(parameter, before)
            assert torch.equal(parameter.grad, torch.ones_like(parameter))
    finally:
        net.zero_grad()
        net.eval()


def test_rows_of_fgsm_are_attacked_independently(logits_of: Any, rows: Any) -> None:
    x, y = rows[0][:20], rows[1][:20]
    whole = attacks.fgsm(logits_of, x, y, Linf(0.1))
    parts = [attacks.fgsm(logits_of, x[k : k + 1], y[k : k + 1], Linf(0.1)) for k in range(20)]
    # A gradient that is zero up to rounding may change its sign with the size of the batch.
    assert (whole - torch.cat(parts)).abs().gt(1e-6).float().mean() < 0.01


@pytest.mark.parametrize("training", [True, False])
def test_frozen_restores_what_it_found_also_after_an_error(training: bool) -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).train(training)
    net[0].requires_grad_(False)

    def fail() -> None:
        with attacks.frozen(net):
            assert not net.training
            assert not any(p.requires_grad for p in net.parameters())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert net.training is training
    assert [p.requires_grad for p in net.parameters()] == [False, False, True, True]


def test_more_steps_and_restarts_strengthen_pgd(logits_of: Any, rows: Any) -> None:
    def survive(steps: int, restarts: int) -> float:
        generator = torch.Generator().manual_seed(0)
        x_adv = attacks.pgd(
            logits_of, *rows, Linf(0.15), steps=steps, restarts=restarts, generator=generator
        )
        return accuracy(logits_of, x_adv, rows[1])

    one = survive(1, 1)
    assert survive(20, 1) < one
    assert survive(20, 3) <= survive(20, 1)


def test_pgd_on_a_linear_model_finds_the_corner() -> None:
    w = torch.tensor([[1.0, -2.0, 0.5], [-1.0, 1.0, 3.0], [0.0, 0.0, 0.0]])
    x, y = torch.full((1, 3), 0.5), torch.tensor([0])
    best = min(  # all corners of the ball
        (float(-margin((x + torch.tensor(c)) @ w.T, y)), c)
        for c in [(a, b, d) for a in (-0.2, 0.2) for b in (-0.2, 0.2) for d in (-0.2, 0.2)]
    )[1]
    for attack in (attacks.fgsm, attacks.pgd, attacks.apgd):
        x_adv = attack(lambda z: z @ w.T, x, y, Linf(0.2))
        torch.testing.assert_close(x_adv, x + torch.tensor(best))


def test_apgd_halves_its_step_until_it_stands_on_a_maximum_inside_the_ball() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.full((20, 6), 0.5)
    summit = x + 0.25 * (torch.rand(x.shape, generator=generator) - 0.5)

    def hill(z: Tensor) -> Tensor:
        return torch.stack([-((z - summit) ** 2).sum(dim=1), torch.zeros(len(z))], dim=1)

    y = torch.ones(20, dtype=torch.int64)
    found = attacks.apgd(hill, x, y, Linf(0.3), steps=100, loss=margin, generator=generator)
    fixed = attacks.pgd(
        hill, x, y, Linf(0.3), steps=100, step_size=0.6, loss=margin, generator=generator
    )
    assert (found - summit).abs().mean() < 0.01
    assert (fixed - summit).abs().mean() > 0.03, "a step that is never halved does not get there"


def test_losses_are_the_papers() -> None:
    logits, y = torch.tensor([[3.0, 1.0, -1.0, 0.0]]), torch.tensor([0])
    assert margin(logits, y).item() == -2
    assert dlr(logits, y).item() == pytest.approx(-2 / 3)
    assert dlr(logits * 1e4, y).item() == pytest.approx(-2 / 3), "free of scale"
    pair = torch.tensor([[0, 2]])
    assert dlr_targeted(logits, pair).item() == pytest.approx(-4 / (3 - (0 - 1) / 2))
    assert dlr_targeted(logits * 1e4, pair).item() == pytest.approx(-4 / 3.5), "free of scale"
    assert dlr_targeted(logits[:, :3], pair).item() == pytest.approx(-1), "z_(3) stands alone"
    assert dlr_targeted(logits[:, :2], torch.tensor([[0, 1]])).item() == -2, "the margin"
    value, gradient, _ = value_and_gradient(lambda z: z, logits, y, margin)
    assert value.item() == -2
    assert gradient.tolist() == [[-1, 1, 0, 0]]


def test_a_gradient_attack_on_a_black_box_says_what_to_do(rows: Any) -> None:
    def box(z: Tensor) -> Tensor:
        return z.detach().flatten(1)[:, :10]

    x = rows[0][:4]
    for name in (name for name in ATTACKS if CATALOGUE[name].gradient):
        with pytest.raises(ValueError, match="use the square attack"):
            ATTACKS[name](box, x, box(x).argmax(dim=1), Linf(0.1), 0)


def test_rows_that_fell_are_not_asked_again(logits_of: Any, rows: Any) -> None:
    asked: list[int] = []

    def counted(z: Tensor) -> Tensor:
        asked.append(len(z))
        result: Tensor = logits_of(z)
        return result

    x, y = rows
    generator = torch.Generator().manual_seed(0)
    attacks.apgd(counted, x, y, Linf(1.0), steps=50, stop_when_wrong=True, generator=generator)
    assert asked[0] == len(x)
    assert sum(asked) < 5 * len(x), "at eps 1 every row falls within a few steps"
    assert len(asked) < 50, "and the attack ends when none is left"


def test_stopping_changes_no_verdict(logits_of: Any, rows: Any) -> None:
    x, y = rows
    verdicts = []
    for stop in (False, True):
        x_adv = attacks.apgd(logits_of, x, y, Linf(0.15), steps=30, start=x, stop_when_wrong=stop)
        with torch.no_grad():
            verdicts.append(logits_of(x_adv).argmax(dim=1) == y)
    assert 0.2 < verdicts[0].float().mean() < 0.8
    assert (verdicts[0] != verdicts[1]).float().mean() <= 0.01  # batches differ in rounding


def test_giving_up_a_target_saves_passes_and_changes_no_verdict(logits_of: Any, rows: Any) -> None:
    asked, survived = [], []
    for give_up in (False, True):
        count = 0

        def counted(z: Tensor) -> Tensor:
            nonlocal count
            count += len(z)
            result: Tensor = logits_of(z)
            return result

        x, y = rows[0][:50], rows[1][:50]
        generator = torch.Generator().manual_seed(0)
        x_adv = attacks.apgd_targeted(
            counted, x, y, Linf(0.12), targets=3, give_up=give_up, generator=generator
        )
        asked.append(count)
        with torch.no_grad():
            survived.append(logits_of(x_adv).argmax(dim=1) == y)
    assert asked[1] < 0.4 * asked[0]
    assert 15 < survived[0].sum() < 45
    assert (survived[0] != survived[1]).sum() <= 1


@pytest.mark.parametrize("classes", [2, 3])
def test_targeted_apgd_does_with_few_classes(classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    w = torch.randn((6, classes), generator=generator)
    x = torch.full((40, 6), 0.5) + 0.2 * torch.randn((40, 6), generator=generator)
    x = x.clamp(0, 1)
    y = (x @ w).argmax(dim=1)
    inside = Linf(0.1).project(x - 0.1 * (w[:, y].T - w[:, (y + 1) % classes].T).sign(), x)
    found = attacks.apgd_targeted(lambda z: z @ w, x, y, Linf(0.1), generator=generator)
    fell = (found @ w).argmax(dim=1) != y
    assert fell.any()
    assert not fell.all()
    if classes == 2:  # a linear margin: the corner is the worst there is
        assert torch.equal(fell, (inside @ w).argmax(dim=1) != y)


def test_checkpoints_of_apgd_are_the_papers() -> None:
    # Croce & Hein 2020, section 3.1: p = 0, .22, .41, .57, .70, .80, .87, .93, .99
    assert checkpoints(100) == [0, 22, 41, 57, 70, 80, 87, 93, 99]


@pytest.mark.parametrize("eps", [pytest.param(0.1, marks=pytest.mark.slow), 0.2])
def test_apgd_is_as_strong_as_its_authors_own(
    eps: float, published: Published, digits: DataSet
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its import
        from pyautoattack.autopgd_base import APGDAttack
    x = torch.from_numpy(digits.schema.to_unit(digits.test.x))
    y = torch.from_numpy(digits.test.y)
    ours, reference = [], []
    with attacks.frozen(published.net) as net, torch.random.fork_rng():
        logits_of, threat = attacks.logits_only(net), Linf(eps)
        for seed in (0, 1):  # one start is worth 2 rows in 360 more or less
            generator = torch.Generator().manual_seed(seed)
            own = attacks.apgd(logits_of, x, y, threat, steps=50, generator=generator)
            options = {"n_iter": 50, "norm": "Linf", "eps": eps, "seed": seed, "loss": "ce"}
            theirs = APGDAttack(logits_of, **options).perturb(x, y)
            ours.append(accuracy(logits_of, own, y))
            reference.append(accuracy(logits_of, theirs, y))
        clean = accuracy(logits_of, x, y)
    assert clean > max(reference) + 0.1, "an attack that does nothing"
    assert abs(sum(ours) - sum(reference)) / 2 <= 0.015
