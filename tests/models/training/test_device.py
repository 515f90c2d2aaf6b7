"""Training and evaluation on another device than the CPU: nothing is left behind on either."""

from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from models.base.errors import TrainingError
from models.data import DataSet
from models.evaluation.adversarial import robust
from models.nets import factories
from models.training import loop, precision
from models.training.loop import train
from models.training.precision import choose_device, choose_precision
from models.training.recipe import Recipe
from tests.elsewhere import ELSEWHERE, DeviceMixError, elsewhere

SHORT = Recipe(epochs=1, max_steps=2, batch_size=16, attack_steps=2, precision="fp32")


def test_the_device_of_the_tests_refuses_a_tensor_that_was_left_on_the_cpu() -> None:
    with elsewhere() as device:
        here, there = torch.ones(3), torch.ones(3).to(device)
        assert (there + there).device == device
        assert (there * 2).cpu().tolist() == [2.0, 2.0, 2.0]
        with pytest.raises(DeviceMixError):
            here + there
        with pytest.raises((RuntimeError, TypeError)):
            there.numpy()


def use_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "choose_device", lambda wanted: ELSEWHERE)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "trades", "augment": ("shift", "noise")},
        {"method": "trades", "norm": "l2"},
        {"method": "pgd"},
        {"method": "nfgsm"},
        {"method": "fgsm"},
        {"method": "standard"},
        {"method": "certified", "beta": 0.5, "eps_warm_up": 1.0},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_every_method_trains_elsewhere_as_on_the_cpu(
    changes: dict[str, Any], digits: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = msgspec.structs.replace(SHORT, **changes)
    rows = digits.train.take(np.arange(48))
    spec = factories.spec_for(digits.schema, 10, certifiable=recipe.method == "certified")
    torch.manual_seed(0)
    net = factories.build(spec)
    start = {name: value.clone() for name, value in net.state_dict().items()}
    here = train(net, rows, digits.schema, recipe, device="cpu").net.state_dict()
    with elsewhere():
        other = factories.build(spec)
        other.load_state_dict(start)
        use_elsewhere(monkeypatch)
        told = train(other, rows, digits.schema, recipe)
        assert told.device == ELSEWHERE.type
        there = told.net.state_dict()
        for name, value in here.items():
            assert there[name].device.type == "cpu", name
            torch.testing.assert_close(there[name].detach(), value, rtol=1e-4, atol=1e-5)


def test_a_table_trains_elsewhere(wine: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    use_elsewhere(monkeypatch)
    with elsewhere():
        net = factories.build(factories.spec_for(wine.schema, len(wine.classes)))
        rows = wine.train.take(np.arange(40))
        told = train(net, rows, wine.schema, msgspec.structs.replace(SHORT, eps=0.02))
        assert np.isfinite(told.mean_loss)


def test_attacks_of_an_evaluation_run_where_the_net_is(published: Any, digits: DataSet) -> None:
    rows = digits.test.take(np.arange(24))
    from monitoring.making.opening import open_subject

    here = robust(open_subject(published.bundle), rows, 0.15, steps=5)
    with elsewhere() as device:
        subject = open_subject(published.bundle).on(device)
        assert subject.net is not None
        assert next(subject.net.parameters()).device == device
        there = robust(subject, rows, 0.15, steps=5)
    np.testing.assert_array_equal(here, there)


def test_auto_takes_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == choose_device("cpu").type == "cpu"
    with pytest.raises(TrainingError, match=r"device cuda: torch .* can use no GPU here"):
        choose_device("cuda")


def test_auto_takes_a_gpu_and_processes_share_them_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for rank, index in (("0", 0), ("1", 1), ("2", 0)):
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert choose_device("auto") == choose_device("cuda") == torch.device("cuda", index)
        assert choose_device("cpu").type == "cpu"


@pytest.mark.parametrize("able", [True, False])
def test_bf16_is_taken_where_the_gpu_computes_in_it(
    able: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = lambda including_emulation=True: able or including_emulation  # noqa: E731
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", told)
    gpu = torch.device("cuda", 0)
    assert choose_precision("auto", gpu)[0] == ("bf16" if able else "fp32")
    assert choose_precision("bf16", gpu)[0] == "bf16"
    assert choose_precision("fp32", gpu)[0] == "fp32"
    name, context = choose_precision("bf16", torch.device("cpu"))
    with context():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    assert name == "bf16"
    monkeypatch.setattr(precision, "_has_bf16", lambda device: False)
    assert choose_precision("auto", torch.device("cpu"))[0] == "fp32"
