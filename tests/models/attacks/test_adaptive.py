"""Laws of the adaptive attack: it keeps to the threat, tells the truth, and knows the detector."""

from typing import Any

import pytest
import torch
from torch import Tensor

from models.attacks.base import margin
from models.attacks.gradient.adaptive import WEIGHTS, adaptive
from models.attacks.threat import L2, Columns, Linf, Threat

SIZE = 12
THREATS: dict[str, Threat] = {
    "linf": Linf(0.25),
    "l2": L2(0.6),
    "columns": Columns(
        0.4, torch.tensor([0.0] + [1.0] * (SIZE - 1)), torch.tensor([0.0] + [0.5] * (SIZE - 1))
    ),
}
weights = pytest.mark.parametrize("weight", WEIGHTS)


class Case:
    """A linear net and a detector of energy along a direction that the net's own attack takes."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.w = torch.randn((SIZE, 3), generator=generator)
        self.u = torch.randn((SIZE, 1), generator=generator)
        self.x = 0.3 + 0.4 * torch.rand((40, SIZE), generator=generator)
        self.centre = (self.x @ self.u).mean()
        self.y = ((self.x - 0.5) @ self.w).argmax(dim=1)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Flagged is what lies more than .7 from the usual along `u`."""
        strange = (x @ self.u - self.centre).abs()
        return 5 * (x - 0.5) @ self.w, 20 * (strange - 0.7)


def found(case: Case, threat: Threat, weight: float | None, **more: Any) -> Any:
    options = {"steps": 40, "generator": torch.Generator().manual_seed(0)} | more
    return adaptive(case, case.x, case.y, threat, weight=weight, **options)


@weights
@pytest.mark.parametrize("name", THREATS)
def test_stays_in_the_threat_and_tells_the_truth(name: str, weight: float | None) -> None:
    case, threat = Case(), THREATS[name]
    before, state = case.x.clone(), torch.get_rng_state()
    told = found(case, threat, weight)
    assert torch.equal(case.x, before)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(threat.project(told.x_adv, case.x), told.x_adv, atol=1e-6, rtol=0)
    logits, excess = case(told.x_adv)
    wrong = margin(logits, case.y) > 0
    assert (wrong | ~told.wrong).all()
    assert ((wrong & (excess <= 0).all(dim=1)) | ~told.unseen).all()
    assert (told.wrong | ~told.unseen).all()
    assert told.wrong.any()
    again = found(case, threat, weight)
    assert torch.equal(again.x_adv, told.x_adv)


def test_who_knows_the_detector_gets_past_it_more_often() -> None:
    case, threat = Case(), Linf(0.25)
    blind = found(case, threat, 0.0).unseen.sum()
    for weight in (0.5, 1.0, None):
        assert found(case, threat, weight).unseen.sum() > blind


def test_a_start_that_is_wrong_and_unseen_is_kept() -> None:
    case, threat = Case(), Linf(0.25)
    first = found(case, threat, 1.0)
    again = found(case, threat, 0.0, start=first.x_adv, steps=1)
    assert (again.unseen | ~first.unseen).all()


def test_more_restarts_never_lose_a_row() -> None:
    case, threat = Case(), Linf(0.12)
    one, three = (found(case, threat, 1.0, start=case.x, restarts=n, steps=10) for n in (1, 3))
    assert (three.unseen | ~one.unseen).all()


def test_all_detectors_must_be_quiet() -> None:
    case = Case()

    def two(x: Tensor) -> tuple[Tensor, Tensor]:
        logits, excess = case(x)
        return logits, torch.cat([excess, torch.ones_like(excess) + 0 * excess], dim=1)

    told = adaptive(two, case.x, case.y, Linf(0.25), weight=1.0, steps=10)
    assert told.wrong.any()
    assert not told.unseen.any(), "the second detector is never quiet"


def test_a_gradient_is_needed() -> None:
    case = Case()

    def box(x: Tensor) -> tuple[Tensor, Tensor]:
        logits, excess = case(x)
        return logits.detach(), excess.detach()

    with pytest.raises(ValueError, match="needs the gradient"):
        adaptive(box, case.x, case.y, Linf(0.1), weight=1.0)
