"""Where the layers of a net run, and in which precision."""

import contextlib
from functools import partial
from pathlib import Path

import torch

from models.base.errors import TrainingError
from models.training import distributed
from models.training.adversary import Precision


def choose_device(wanted: str) -> torch.device:
    """Return `cpu`, or a GPU of this process: `auto` takes one where torch can use one.

    Under torchrun the processes of a machine share its GPUs in turn.

    Raises:
        TrainingError: `cuda` is wanted, and torch can use none.
    """
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        built = torch.version.cuda
        why = "this torch is built without CUDA" if built is None else f"no GPU for CUDA {built}"
        raise TrainingError(
            f"device cuda: torch {torch.__version__} can use no GPU here ({why}); "
            "take auto or cpu, or install a torch for the GPU's driver"
        )
    if wanted == "cpu" or not there:
        return torch.device("cpu")
    return torch.device("cuda", distributed.local_rank() % torch.cuda.device_count())


def choose_precision(wanted: str, device: torch.device) -> tuple[str, Precision]:
    """bfloat16 where it is asked for, or where the device computes in it (`auto`)."""
    if wanted == "bf16" or (wanted == "auto" and _has_bf16(device)):
        return "bf16", partial(torch.autocast, device.type, dtype=torch.bfloat16)
    return "fp32", contextlib.nullcontext


def _has_bf16(device: torch.device) -> bool:
    """Whether a GPU multiplies in bfloat16, or the processor does (AVX512-BF16 or AMX)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
