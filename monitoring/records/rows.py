"""What a store of records takes and gives."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from models.statistics.arrays import IntArray
from models.versions.schema import InputArray, InputSchema

KEYS_PER_QUERY = 400
T = TypeVar("T")


class Record(NamedTuple):
    """One answered instance; times are seconds since the epoch, `x` raw bytes in schema dtype.

    `confidence` is the probability of the answer, `entropy` that of all probabilities, in nats;
    `client` asked for it: a token, or an address; empty where that is not known.
    """

    id: str
    row: int
    at: float
    model: str
    version: int
    x: bytes
    predicted: int
    p_value: float
    perturbation: float
    confidence: float
    entropy: float
    client: str = ""


class Key(NamedTuple):
    """What a label names a record by: the id of a request and the row in it.

    Clients choose ids, so several records may have the same key.
    """

    id: str
    row: int


class Recorded(NamedTuple):
    """A request as it was recorded; `x` are raw bytes in schema dtype."""

    id: str
    row: int
    at: float
    x: bytes


class RecordedInput(NamedTuple):
    """A request with its input, raw bytes in schema dtype, and who asked."""

    seq: int
    id: str
    row: int
    at: float
    x: bytes
    client: str


class RecordedRow(NamedTuple):
    """A stored record without its input.

    `shared` says that other clients have used its id, too.
    """

    seq: int
    model: str
    version: int
    predicted: int
    client: str = ""
    shared: bool = False


class Standing(NamedTuple):
    """How a label stands beside those of other clients for the same row.

    `counts` says whether it is the label of the row; `others` are the classes that other clients
    gave and that differ from it, each once, in rising order.
    """

    counts: bool
    others: tuple[int, ...]


@dataclass(frozen=True)
class Labelled:
    """Recorded inputs with their true labels, oldest first."""

    x: InputArray  # (N, *shape) raw
    y: IntArray  # (N,) true class
    predicted: IntArray  # (N,) class answered
    at: npt.NDArray[np.float64]  # (N,) seconds since the epoch of the request
    p_value: npt.NDArray[np.float64]  # (N,)
    perturbation: npt.NDArray[np.float64]  # (N,)
    versions: IntArray  # (N,) that answered
    clients: tuple[str, ...]  # (N,) who gave the label
    askers: tuple[str, ...]  # (N,) who asked for the answer
    trusted: npt.NDArray[np.bool_]  # (N,) whether the label's client may label any request

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Recent:
    """The latest requests without their inputs, oldest first; times in seconds since the epoch."""

    seq: IntArray  # (N,)
    at: npt.NDArray[np.float64]  # (N,) of the request
    predicted: IntArray  # (N,) class answered
    p_value: npt.NDArray[np.float64]  # (N,)
    confidence: npt.NDArray[np.float64]  # (N,) probability of the answer
    label: IntArray  # (N,) true class, -1 where none came

    def __len__(self) -> int:
        return len(self.seq)

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """`(N,)`: whether a label came."""
        came: npt.NDArray[np.bool_] = self.label >= 0
        return came


@dataclass(frozen=True)
class LabelledAnswers:
    """Labelled requests without their inputs, in the order in which their labels came."""

    number: IntArray  # (N,) of the label
    seq: IntArray  # (N,) of the request
    at: npt.NDArray[np.float64]  # (N,) seconds since the epoch of the request
    label: IntArray  # (N,) true class
    right: npt.NDArray[np.bool_]  # (N,) whether the answer was right
    p_value: npt.NDArray[np.float64]  # (N,)
    confidence: npt.NDArray[np.float64]  # (N,) probability of the answer
    entropy: npt.NDArray[np.float64]  # (N,) of the probabilities, in nats

    def __len__(self) -> int:
        return len(self.number)


class Answered(NamedTuple):
    """Requests with their inputs and answers, oldest first."""

    seq: IntArray  # (N,)
    x: InputArray  # (N, *shape) raw
    predicted: IntArray  # (N,) class answered


class Counts(NamedTuple):
    """How much the store holds."""

    requests: int
    labelled: int


def in_parts(keys: list[T]) -> Iterator[list[T]]:
    """Cut a list of keys into lists that fit into one query."""
    return (keys[start : start + KEYS_PER_QUERY] for start in range(0, len(keys), KEYS_PER_QUERY))


def fits(x: bytes, schema: InputSchema) -> bool:
    """Whether recorded bytes have the length of a row of this shape and dtype."""
    return len(x) == schema.size * np.dtype(schema.dtype).itemsize


def raw_inputs(rows: Sequence[bytes], schema: InputSchema) -> InputArray:
    """Convert recorded bytes, each of which `fits`, to raw inputs `(N, *shape)`."""
    x: InputArray = np.frombuffer(b"".join(rows), np.dtype(schema.dtype))
    return x.reshape(len(rows), *schema.shape)
