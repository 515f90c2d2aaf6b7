"""What a version promises of single answers: certificates, and sets of classes."""

import msgspec
import numpy as np
import numpy.typing as npt

from models.statistics.shares import Proportion
from models.versions.judging import Reach

CERTIFICATE_OUTPUTS = ("certified", "certified_eps")  # only in graphs that were trained for it


class CertificateFacts(msgspec.Struct, frozen=True):
    """What `certified` means: no change within the box turns the answer.

    Args:
        eps: how far every value may move, in units of the [0, 1] range (a column's training range).
        radii: rising sizes of the box that `certified_eps` is chosen from; `eps` is one of them.
        columns: of a table, which share of eps a column may move, down and up; 0: it is held.
            Numbers that are not named move by 1, categories and missing values are held.
    """

    eps: float
    radii: tuple[float, ...]
    columns: dict[str, Reach] = {}


class SetFacts(msgspec.Struct, frozen=True):
    """The rule of prediction sets: the classes k with p_k >= ratio max p.

    Args:
        coverage: least share of sets that hold the true class, on rows like those of calibration.
        n: calibration rows.
        ratio: of a row as it was sent.
        certified_ratio: the same coverage under any change within the certificate's eps; None where
            there is no certificate.
    """

    coverage: float
    n: int
    ratio: float
    certified_ratio: float | None = None


class ProvenPoint(Proportion, frozen=True, kw_only=True):
    """Rows that interval bounds prove right under any change of a size."""

    eps: float


class Proven(msgspec.Struct, frozen=True):
    """Certified accuracy by interval bounds, on held-out rows.

    Args:
        eps: size of the change that `certified` is about.
        points: rows proven right, by the size of the change (bounds in float64).
        served: rows that are right and that the served graph certifies at `eps`.
        right_where_certified: accuracy of the answers that are certified at `eps`.
    """

    eps: float
    points: tuple[ProvenPoint, ...]
    served: Proportion
    right_where_certified: Proportion


class SetFigure(Proportion, frozen=True, kw_only=True):
    """Rows whose prediction set holds the true class.

    Args:
        name: which sets: `as sent`, or `under any change within eps` (then a proof, row by row).
        promised: least share of rows, on rows like those of calibration.
        mean_size: classes in a set; `single`: share of sets of one class.
    """

    name: str
    promised: float
    mean_size: float
    single: float


def sets_of(probabilities: npt.NDArray[np.floating], ratio: float) -> npt.NDArray[np.bool_]:
    """Which classes `(N, C)` are in the set of each row: those with p_k >= ratio max p.

    Args:
        probabilities: `(N, C)`.
        ratio: 0 to 1; at 1 a set is the likeliest class alone.

    >>> sets_of(np.array([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25]]), 0.5).tolist()
    [[True, False, False], [True, True, True]]
    """
    return np.asarray(probabilities >= ratio * probabilities.max(axis=1, keepdims=True))
