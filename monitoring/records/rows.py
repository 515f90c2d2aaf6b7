"""What a store of records holds: its tables, and the rows that are written and read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from models.statistics.arrays import IntArray
from models.versions.schema import InputArray, InputSchema

KEYS_PER_QUERY = 400
T = TypeVar("T")
METADATA = sa.MetaData()
REQUESTS = sa.Table(
    "requests",
    METADATA,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("id", sa.String(128), nullable=False),
    sa.Column("row", sa.Integer, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("model", sa.String(64), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("x", sa.LargeBinary, nullable=False),
    sa.Column("predicted", sa.Integer, nullable=False),
    sa.Column("p_value", sa.Float, nullable=False),
    sa.Column("perturbation", sa.Float, nullable=False),
    sa.Column("confidence", sa.Float, nullable=False),
    sa.Column("entropy", sa.Float, nullable=False),
    sa.Column("client", sa.String(128), nullable=False),
    sa.Index("requests_by_id", "id", "row"),
    sqlite_autoincrement=True,
)
FEEDBACK = sa.Table(
    "feedback",
    METADATA,
    # In the order in which records were first labelled; a label that is sent again keeps its own.
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False, unique=True),
    sa.Column("label", sa.Integer, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("client", sa.String(128), nullable=False),
    sa.Column("trusted", sa.Boolean, nullable=False),
    sa.Column("contradicted", sa.Boolean, nullable=False),
    sqlite_autoincrement=True,
)
# What clients said of a row that another one had labelled before; it never counts as the label.
FURTHER = sa.Table(
    "further_labels",
    METADATA,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("client", sa.String(128), primary_key=True),
    sa.Column("label", sa.Integer, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)


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

    @classmethod
    def of(cls, rows: Sequence[sa.Row[Any]]) -> "Recent":
        """Return rows of the database as arrays."""
        return cls(
            seq=np.array([r.seq for r in rows], dtype=np.int64),
            at=np.array([r.at for r in rows], dtype=np.float64),
            predicted=np.array([r.predicted for r in rows], dtype=np.int64),
            p_value=np.array([r.p_value for r in rows], dtype=np.float64),
            confidence=np.array([r.confidence for r in rows], dtype=np.float64),
            label=np.array([-1 if r.label is None else r.label for r in rows], dtype=np.int64),
        )

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

    @classmethod
    def of(cls, rows: Sequence[sa.Row[Any]]) -> "LabelledAnswers":
        """Return rows of the database as arrays."""
        return cls(
            number=np.array([r.number for r in rows], dtype=np.int64),
            seq=np.array([r.seq for r in rows], dtype=np.int64),
            at=np.array([r.at for r in rows], dtype=np.float64),
            label=np.array([r.label for r in rows], dtype=np.int64),
            right=np.array([r.right for r in rows], dtype=np.bool_),
            p_value=np.array([r.p_value for r in rows], dtype=np.float64),
            confidence=np.array([r.confidence for r in rows], dtype=np.float64),
            entropy=np.array([r.entropy for r in rows], dtype=np.float64),
        )

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
