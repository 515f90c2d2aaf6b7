"""Several processes as one (`torchrun`): who is who, sums and gathering.

Without `torchrun` there is one process and every function is the identity. The group talks by
gloo on the CPU: what lies on a GPU goes through the memory of its host.
"""

import os
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch import distributed as group


def world() -> int:
    """How many processes work together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """Which of the processes on its machine this is, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def join_group() -> bool:
    """Join the group, the first time; False where there is one process only."""
    if world() == 1:
        return False
    if not group.is_initialized():
        group.init_process_group("gloo")
    return True


def add(tensors: Iterable[Tensor]) -> None:
    """Replace every tensor by its sum over the processes, in one message."""
    parts = list(tensors)
    if not join_group() or not parts:  # a net without batch statistics has none to add
        return
    flat = torch.cat([part.detach().reshape(-1) for part in parts]).cpu()
    group.all_reduce(flat)
    start = 0
    for part in parts:
        part.copy_(flat[start : start + part.numel()].view_as(part))
        start += part.numel()


def same(tensors: Iterable[Tensor]) -> None:
    """Replace every tensor by that of process 0."""
    if join_group():
        for tensor in tensors:
            own = tensor.cpu()  # the tensor itself where it lies on the CPU
            group.broadcast(own, src=0)
            tensor.copy_(own)


def share(value: Any) -> Any:
    """The value that process 0 holds (plain data)."""
    if not join_group():
        return value
    box = [value]
    group.broadcast_object_list(box, src=0)
    return box[0]


def gather(value: Any) -> list[Any]:
    """The values of all processes, in order of rank, on every process (plain data)."""
    if not join_group():
        return [value]
    values: list[Any] = [None] * world()
    group.all_gather_object(values, value)
    return values


def leave() -> None:
    """Leave the group, if it was joined."""
    if group.is_available() and group.is_initialized():
        group.destroy_process_group()
