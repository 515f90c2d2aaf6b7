"""Checkpoints of a training run: one safetensors file, replaced as a whole.

The file says which run it belongs to. A run that is started again goes on from it; the file of
another run (other rows, recipe or net) is left alone and overwritten by the next save.
"""

import hashlib
import struct
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from models.base.files import write_atomic
from models.data import Rows
from models.training.recipe import Recipe


class Done(NamedTuple):
    """What a run has behind it."""

    steps: int
    cpu_seconds: float


def run_digest(net: nn.Module, rows: Rows, recipe: Recipe) -> str:
    """sha256 over what determines the run: rows, recipe and the shapes and start of the net."""
    digest = hashlib.sha256(msgspec.json.encode(recipe))
    digest.update(np.ascontiguousarray(rows.x).data)
    digest.update(np.ascontiguousarray(rows.y).data)
    for name, value in net.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def save(
    path: Path,
    digest: str,
    done: Done,
    net: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write the state of a run, durably."""
    from safetensors.torch import save as encode

    tensors = {f"net/{k}": v for k, v in net.state_dict().items()}
    tensors |= {f"average/{k}": v for k, v in average.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{k}": torch.as_tensor(v) for k, v in state.items()}
    contiguous = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"digest": digest, "step": str(done.steps), "cpu_seconds": str(done.cpu_seconds)}
    write_atomic(path, encode(contiguous, facts))


def restore(
    path: Path,
    digest: str,
    net: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> Done:
    """Put the state of this run back; nothing is done where there is no such file."""
    from safetensors import SafetensorError
    from safetensors.torch import load as decode

    try:
        data = path.read_bytes()
        facts, tensors = _metadata(data), decode(data)
    except (FileNotFoundError, SafetensorError, struct.error, msgspec.DecodeError):
        return Done(0, 0.0)  # no file, or one that a crash of the machine has cut: begin anew
    if facts.get("digest") != digest:
        return Done(0, 0.0)
    parts: dict[str, dict[str, Tensor]] = {"net": {}, "average": {}, "optimizer": {}}
    for name, value in tensors.items():
        part, _, key = name.partition("/")
        parts[part][key] = value
    net.load_state_dict(parts["net"])
    average.load_state_dict(parts["average"])
    state: dict[int, dict[str, Any]] = {}
    for name, value in parts["optimizer"].items():
        index, _, key = name.partition("/")
        state.setdefault(int(index), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    return Done(int(facts["step"]), float(facts["cpu_seconds"]))


def _metadata(data: bytes) -> dict[str, str]:
    """The `__metadata__` of a safetensors file: 8 bytes of length, then a JSON header."""
    (length,) = struct.unpack("<Q", data[:8])
    header: dict[str, Any] = msgspec.json.decode(data[8 : 8 + length])
    return dict(header.get("__metadata__", {}))
