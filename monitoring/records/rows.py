"""What a store of records holds: its two tables, and the rows that are written and read."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from models.statistics.arrays import IntArray
from models.versions.schema import InputArray

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
    sa.Index("requests_by_id", "id", "row"),
    sqlite_autoincrement=True,
)
FEEDBACK = sa.Table(
    "feedback",
    METADATA,
    # In the order in which labels were first committed; a label that is sent again keeps its own.
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("id", sa.String(128), nullable=False),
    sa.Column("row", sa.Integer, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("label", sa.Integer, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.UniqueConstraint("id", "row"),
    sa.Index("feedback_by_seq", "seq"),
    sqlite_autoincrement=True,
)


class Record(NamedTuple):
    """One answered instance; times are seconds since the epoch, `x` raw bytes in schema dtype.

    `confidence` is the probability of the answer, `entropy` that of all probabilities, in nats.
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


class Key(NamedTuple):
    """The key of a record: the id of a request and the row in it."""

    id: str
    row: int


class Recorded(NamedTuple):
    """A request as it was recorded; `x` are raw bytes in schema dtype."""

    id: str
    row: int
    at: float
    x: bytes


class RecordedRow(NamedTuple):
    """A stored record without its input."""

    seq: int
    model: str
    version: int
    predicted: int


@dataclass(frozen=True)
class Labelled:
    """Recorded inputs with their true labels, oldest first."""

    x: InputArray  # (N, *shape) raw
    y: IntArray  # (N,) true class
    predicted: IntArray  # (N,) class answered
    at: npt.NDArray[np.float64]  # (N,) seconds since the epoch of the request
    p_value: npt.NDArray[np.float64]  # (N,)
    perturbation: npt.NDArray[np.float64]  # (N,)

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
    right: npt.NDArray[np.bool_]  # (N,) whether the answer was right
    p_value: npt.NDArray[np.float64]  # (N,)
    confidence: npt.NDArray[np.float64]  # (N,) probability of the answer
    entropy: npt.NDArray[np.float64]  # (N,) of the probabilities, in nats

    def __len__(self) -> int:
        return len(self.number)


class Counts(NamedTuple):
    """How much the store holds."""

    requests: int
    labelled: int
