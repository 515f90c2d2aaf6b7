"""Exact repeats: a row that a client sends again within a minute counts once in the cells.

A client that got no answer asks again, and a stream of retries looks like one whose rows hang
together. So what has the very bytes of one of the client's last rows is answered and recorded, and
not counted as one more observation.

Independent requests must not be thinned by that, or evidence would be of the thinning. Two rows
agree by chance with a probability p, which the reference tells (sum of c (c - 1) over n (n - 1), c:
rows of one content; where no two agree, 3 over the pairs: p is smaller with 95 %). Then

- nothing is left out where p > 1e-3, as in a table of few different rows;
- only the client's last .01 / p rows are looked at, so that of independent requests at most 1 %
  are left out, whatever the rate of the client;
- a content that the reference itself has twice always counts: blank images are a part of traffic.

What is biased: a client that sends one input over and over on purpose (a probe, a test of load) is
one observation a minute, also after its input has become a good part of what is answered.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.base.bounded import Bounded
from models.base.logs import logger
from models.versions.bundle import Bundle
from models.versions.schema import InputArray
from monitoring.counting.prints import Uint64s, row_prints
from monitoring.counting.repeat_memory import RepeatMemory, file_of

SECONDS = 60
MOST_PROBABLE = 1e-3  # of two different rows being equal
LEFT_OUT = 0.01  # of independent requests, at most
NATURAL = "repeats/natural"  # `(M,)` prints of contents that the reference has more than once
KEYS = 1024  # clients whose key is not made anew


def calibrate(x: InputArray) -> tuple[float | None, dict[str, Uint64s]]:
    """The chance that two different rows of a reference `(n, *shape)` are equal, and which are.

    Returns:
        sum c (c - 1) / (n (n - 1)), None below two rows; and what goes beside the reference.

    >>> calibrate(np.array([[0], [1], [1], [2]], np.uint8))[0] == 2 / 12
    True
    """
    n = len(x)
    if n < 2:
        return None, {}
    prints, counts = np.unique(row_prints(x, b""), return_counts=True)
    probability = float((counts * (counts - 1.0)).sum() / (n * (n - 1.0)))
    return probability, {NATURAL: prints[counts > 1]}


def rows_back(probability: float | None, n: int) -> int:
    """How many of a client's last rows a row may repeat; 0: every row counts.

    Args:
        probability: of two rows of the reference being equal; None: not known.
        n: rows of the reference.

    >>> rows_back(0.0, 5000), rows_back(0.0, 360), rows_back(5e-4, 5000), rows_back(0.002, 5000)
    (41658, 215, 20, 0)
    >>> rows_back(0.0, 50), rows_back(None, 5000)  # too few rows to know; not measured
    (0, 0)
    """
    if probability is None or n < 2:
        return 0
    chance = max(probability, 3 / (n * (n - 1) / 2))
    return 0 if chance > MOST_PROBABLE else int(LEFT_OUT / chance)


@dataclass(frozen=True)
class RepeatCheck:
    """Tells which rows of a version's requests are repeats; its state is in the memory.

    >>> check = RepeatCheck("m", 100, frozenset(), RepeatMemory())
    >>> x = np.array([[1], [2], [1]], np.float32)
    >>> check.fresh("somebody", x).tolist()
    [True, True, False]
    >>> check.fresh("somebody else", x[:1]) is None  # all are
    True
    """

    model: str
    rows_back: int
    natural: frozenset[int]
    memory: RepeatMemory
    keys: Bounded[str, int] = field(default_factory=lambda: Bounded(KEYS), repr=False)

    def fresh(
        self, client: str, x: InputArray, prints: Uint64s | None = None
    ) -> npt.NDArray[np.bool_] | None:
        """Which rows `(N, *shape)` of a request count, `(N,)`; None: all.

        Args:
            client: as the detector of queries knows it.
            x: the raw rows.
            prints: of the rows, where they are known already.
        """
        key = self.keys.get(client)
        if key is None:
            key = self.keys[client] = self.memory.key(self.model.encode(), client.encode())
        if prints is None:
            prints = row_prints(x, self.memory.secret)
        repeated = self.memory.repeats(
            key,
            prints.tolist(),
            int(time.monotonic()),
            seconds=SECONDS,
            rows_back=self.rows_back,
        )
        if not any(repeated):
            return None
        if self.natural:
            for row in np.flatnonzero(repeated).tolist():
                repeated[row] = int(row_prints(x[row : row + 1], b"")[0]) not in self.natural
        return ~np.array(repeated)


class RepeatWatch:
    """Makes the checks of loaded versions, all on one memory.

    Args:
        directory: of the file that the workers share, or None where this process is alone.
    """

    def __init__(self, directory: Path | None) -> None:
        try:
            self._memory = RepeatMemory(directory and file_of(directory))
        except OSError as error:
            logger("repeats").error("repeats_not_shared", reason=f"each worker alone: {error}")
            self._memory = RepeatMemory()

    def check(self, bundle: Bundle) -> RepeatCheck | None:
        """Make the check of a version; None where every row of it counts."""
        manifest = bundle.manifest
        n = round(float(bundle.reference["class/alpha"].sum())) - 1
        back = rows_back(manifest.calibration.repeat_probability, n)
        if not back:
            return None
        natural = frozenset(bundle.reference[NATURAL].tolist())
        return RepeatCheck(manifest.model, back, natural, self._memory)

    def close(self) -> None:
        """Close the shared file."""
        self._memory.close()
