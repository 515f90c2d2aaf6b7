"""What is evaluated, and how it is asked: the served graph, and the net that attacks go through."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models import attacks
from models.attacks import LogitsOf
from models.data import Rows
from models.statistics.arrays import Bools
from models.versions.runner import Answer, Runner, in_pieces
from models.versions.schema import InputArray, InputSchema

CHUNK = 256
Arrays = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class Subject:
    """The served graph and its torch net; a wrapped graph has no net: a black box."""

    runner: Runner
    net: nn.Module | None = None

    @property
    def schema(self) -> InputSchema:
        """The input schema."""
        return self.runner.manifest.input

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.runner.manifest.classes

    @property
    def black_box(self) -> bool:
        """Whether it can only be asked."""
        return self.net is None

    def on(self, device: torch.device) -> "Subject":
        """The same with a copy of its net on a device, where attacks then run."""
        if self.net is None or device.type == "cpu":
            return self
        return Subject(self.runner, copy.deepcopy(self.net).to(device))

    @contextmanager
    def logits(self) -> Iterator[LogitsOf]:
        """Logits of unit-range inputs: of the frozen net, or log-probabilities of the graph."""
        if self.net is None:
            yield lambda x: ask_log_probabilities(self.runner, x)
            return
        with attacks.frozen(self.net):
            yield attacks.logits_only(self.net)

    def tensors(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Unit-range inputs and labels where the net is."""
        return tensors(self.net, self.schema, rows)


def ask_log_probabilities(runner: Runner, x_unit: Tensor) -> Tensor:
    """Log-probabilities `(N, C)` of the served graph for `(N, *shape)`: no gradient."""
    x = runner.manifest.input.from_unit(x_unit.detach().cpu().numpy())
    probabilities = answer(runner, x).probabilities
    return torch.from_numpy(np.log(np.clip(np.nan_to_num(probabilities), 1e-12, None)))


def tensors(net: nn.Module | None, schema: InputSchema, rows: Rows) -> tuple[Tensor, Tensor]:
    """Unit-range inputs `(N, *shape)` and labels `(N,)` on the device of `net`."""
    weight = None if net is None else next(net.parameters(), None)
    device = torch.device("cpu") if weight is None else weight.device
    x, y = torch.from_numpy(schema.to_unit(rows.x)), torch.from_numpy(rows.y.astype(np.int64))
    return x.to(device), y.to(device)


def answer(runner: Runner, x: InputArray) -> Answer:
    """Run raw rows `(N, *shape)` in chunks."""
    return Answer(*in_pieces(runner.run, x, CHUNK))


def right(runner: Runner, rows: Rows) -> Bools:
    """Which rows `(N,)` the served graph gets right."""
    return np.asarray(answer(runner, rows.x).probabilities.argmax(axis=1) == rows.y)


def ask_rows(runner: Runner, rows: Rows, *, whole: bool = False) -> Arrays:
    """What is kept of the answers to `rows`: an array `(N,)` each.

    `right`, `predicted` (class), `confidence` (its probability), `drift` (p-value), `perturbation`
    (likelihood), `suspicion`, `certified` (of versions that prove answers), `finite` (whether every
    probability was); where `whole`, `probabilities` `(N, C)`.
    """
    answers = answer(runner, rows.x)
    predicted = answers.probabilities.argmax(axis=1)
    columns: Arrays = {
        "right": np.asarray(predicted == rows.y),
        "predicted": predicted.astype(np.int32),
        "confidence": answers.probabilities.max(axis=1),
        "drift": answers.drift_p_value,
        "perturbation": answers.perturbation_likelihood,
        "suspicion": answers.suspicion,
        "finite": np.asarray(np.isfinite(answers.probabilities).all(axis=1)),
    }
    if answers.certified is not None:
        columns["certified"] = answers.certified
    return columns | ({"probabilities": answers.probabilities} if whole else {})


def right_rows(answers: Arrays) -> Bools:
    """Which rows `(N,)` of `ask_rows` are right."""
    return np.asarray(answers["right"], dtype=bool)
