"""The precision that layers run in while training."""

import contextlib
from pathlib import Path

import torch

from models.training.adversary import Precision


def choose_precision(wanted: str) -> tuple[str, Precision]:
    """bfloat16 where it is asked for, or where the processor computes in it (`auto`)."""
    if wanted == "bf16" or (wanted == "auto" and _has_bf16()):
        return "bf16", lambda: torch.autocast("cpu", dtype=torch.bfloat16)
    return "fp32", contextlib.nullcontext


def _has_bf16() -> bool:
    """Whether the processor multiplies in bfloat16 (AVX512-BF16 or AMX)."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
