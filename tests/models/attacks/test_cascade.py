"""The cascade's verdict: held against its parts, the reference, and closed forms."""

from typing import Any

import pytest
import torch
from torch import Tensor

from models import attacks
from models.attacks import Strength
from models.attacks.threat import L2, Columns, Linf, Threat
from models.data import DataSet
from tests.conftest import Published

RESTRICTED = ("apgd-ce", "apgd-t", "square")


@pytest.fixture(scope="module")
def rows(digits: DataSet) -> tuple[Tensor, Tensor]:
    """Unit-range test images and labels."""
    x = torch.from_numpy(digits.schema.to_unit(digits.test.x[:100]))
    return x, torch.from_numpy(digits.test.y[:100])


@pytest.fixture
def logits_of(published: Published) -> Any:
    """The quickly trained net, frozen."""
    with attacks.frozen(published.net) as net:
        yield attacks.logits_only(net)


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5)])
def test_verdict_is_borne_out_by_its_points(threat: Threat, logits_of: Any, rows: Any) -> None:
    x, y = rows[0][:40], rows[1][:40]
    verdict = attacks.cascade(
        logits_of, x, y, threat, attacks=attacks.standard(steps=20, queries=60), batch_size=15
    )
    assert torch.equal(logits_of(verdict.x_adv).argmax(dim=1) == y, verdict.survived)
    torch.testing.assert_close(threat.project(verdict.x_adv, x), verdict.x_adv, atol=1e-6, rtol=0)
    assert torch.equal(verdict.x_adv[verdict.survived], x[verdict.survived])
    assert list(verdict.after) == list(RESTRICTED)
    assert torch.equal(verdict.after["square"], verdict.survived)
    assert 0 < verdict.survived.sum() < 38


def test_each_attack_meets_the_survivors_of_the_ones_before(logits_of: Any, rows: Any) -> None:
    x, y = rows[0][:160], rows[1][:160]
    verdict = attacks.cascade(
        logits_of, x, y, Linf(0.12), attacks=attacks.standard(steps=20, queries=40)
    )
    left = logits_of(x).argmax(dim=1) == y
    for name, after in verdict.after.items():
        assert not (after & ~left).any(), f"{name} brought a row back"
        left = after
    shares = [after.sum() for after in verdict.after.values()]
    assert shares[0] > shares[1], "targeted attacks find more than the cross-entropy alone"


def test_is_reproducible_and_leaves_the_global_random_state(logits_of: Any, rows: Any) -> None:
    x, y = rows[0][:30], rows[1][:30]
    before = torch.get_rng_state()
    one, two = (
        attacks.cascade(
            logits_of, x, y, Linf(0.12), attacks=attacks.standard(steps=10, queries=50), seed=3
        )
        for _ in "12"
    )
    assert torch.equal(one.x_adv, two.x_adv)
    assert torch.equal(torch.get_rng_state(), before)


def test_progress_ends_at_the_total_and_never_goes_back(logits_of: Any, rows: Any) -> None:
    seen: list[tuple[int, int, str]] = []
    x, y = rows[0][:50], rows[1][:50]
    attacks.cascade(
        logits_of,
        x,
        y,
        Linf(0.1),
        attacks=[Strength("pgd", 5), Strength("apgd-dlr", 5)],
        batch_size=20,
        progress=lambda done, total, text: seen.append((done, total, text)),
    )
    done = [entry[0] for entry in seen]
    assert done == sorted(done)
    assert seen[-1][:2] == (100, 100)
    assert seen[-1][2].startswith("apgd-dlr: ")


def test_a_cascade_over_nothing_left_ends_at_once(rows: Any) -> None:
    asked = 0

    def net(z: Tensor) -> Tensor:
        nonlocal asked
        asked += 1
        return torch.zeros(len(z), 10).index_fill(1, torch.tensor([9]), 1.0)

    seen: list[int] = []
    y = torch.zeros(100, dtype=torch.int64)
    verdict = attacks.cascade(
        net, rows[0], y, Linf(0.1), progress=lambda done, total, text: seen.append(done)
    )
    assert not verdict.survived.any()
    assert asked == 1, "the clean answers are all that is needed"
    assert seen[-1] == 300


def test_unknown_attacks_are_named(logits_of: Any, rows: Any) -> None:
    with pytest.raises(ValueError, match=r"unknown attack 'fab'; known: fgsm, .*square"):
        attacks.cascade(logits_of, *rows, Linf(0.1), attacks=[Strength("fab", 1)])


def test_the_reference_says_what_it_cannot_take(published: Published) -> None:
    x, threat = torch.zeros(2, 5), Columns(0.1, torch.ones(5), torch.ones(5))
    with pytest.raises(ValueError, match="use the own cascade"):
        attacks.reference_autoattack(published.net, x, torch.zeros(2, dtype=torch.int64), threat)


def test_smallest_finds_the_distance_of_a_linear_net() -> None:
    generator = torch.Generator().manual_seed(0)
    w = torch.randn((6, 2), generator=generator)
    x = 0.5 + 0.1 * torch.randn((30, 6), generator=generator).clamp(-2, 2)
    y = (x @ w).argmax(dim=1)
    wrong = torch.tensor([4])
    y[wrong] = 1 - y[wrong]
    distance = ((x @ w)[:, 0] - (x @ w)[:, 1]).abs() / (w[:, 0] - w[:, 1]).abs().sum()
    x_adv, eps = attacks.smallest(lambda z: z @ w, x, y, Linf, eps_max=0.16, rounds=9)
    found = eps.isfinite()
    assert eps[wrong] == 0
    assert torch.equal(x_adv[wrong], x[wrong])
    assert torch.equal(found, (distance < 0.16) | (torch.arange(30) == 4))
    assert found.sum() > 10
    assert not found.all()
    assert torch.equal(x_adv[~found], x[~found])
    right = found & (eps > 0)
    torch.testing.assert_close(eps[right], distance[right], atol=0.16 / 2**9 + 1e-5, rtol=0)
    assert (((x_adv - x).abs().amax(dim=1) <= eps + 1e-6) | ~found).all()
    assert ((x_adv @ w).argmax(dim=1) != y)[found].all()


@pytest.mark.parametrize("queries", [None, 60])
def test_smallest_is_wrong_at_its_eps_and_below_what_was_known(
    queries: int | None, logits_of: Any, rows: Any
) -> None:
    x, y = rows[0][:12], rows[1][:12]
    generator = torch.Generator().manual_seed(0)
    x_adv, eps = attacks.smallest(
        logits_of, x, y, L2, eps_max=3.0, rounds=4, queries=queries, generator=generator
    )
    found = eps.isfinite()
    assert found.sum() >= 10
    assert (logits_of(x_adv).argmax(dim=1) != y)[found].all()
    assert ((x_adv - x).flatten(1).norm(dim=1) <= eps + 1e-5)[found].all()
    assert len(eps[found].unique()) > 3, "rows differ"


def test_cascade_gives_the_references_verdict(published: Published, rows: Any) -> None:
    x, y = rows[0][:30], rows[1][:30]
    with attacks.frozen(published.net) as net:
        own = attacks.cascade(attacks.logits_only(net), x, y, Linf(0.2)).survived
    theirs = attacks.reference_autoattack(published.net, x, y, Linf(0.2), attacks=RESTRICTED)
    assert 0 < theirs.sum() < 25, "a net on which attacks differ"
    assert (own != theirs).sum() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("threat", [Linf(0.12), L2(0.6)])
def test_cascade_gives_the_full_references_verdict(
    threat: Threat, published: Published, rows: Any
) -> None:
    """100 images against the standard suite, with FAB-T."""
    with attacks.frozen(published.net) as net:
        logits_of = attacks.logits_only(net)
        own = attacks.cascade(logits_of, *rows, threat).survived
    theirs = attacks.reference_autoattack(published.net, *rows, threat)
    assert 20 < theirs.sum() < 90
    assert (own != theirs).sum() <= 1
