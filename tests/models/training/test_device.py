"""Which device a training takes, and its precision there."""

import pytest
import torch

from models.base.errors import TrainingError
from models.training import precision
from models.training.precision import choose_device, choose_precision


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
