"""Which labelled rows a window may use: none that is contradicted, and not too many of one client.

Whoever labels most of a window decides what is learnt from it. So beside others a client may give
at most a share of the rows that are used. What it gave beyond that is kept, and not used.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.statistics.arrays import IntArray

Bools = npt.NDArray[np.bool_]


class Quota(NamedTuple):
    """How many rows of a window one client may give.

    It is at most `share` of all rows that are used, or `least` rows where that is more. A client
    that may label any request is trusted, and one that is alone outvotes nobody: both give all.
    """

    share: float = 1.0
    least: int = 0


NO_QUOTA = Quota()


@dataclass(frozen=True)
class Usable:
    """The rows that may be used, and how many of the others are not.

    Args:
        seq: `(N,)` of the usable rows, in rising order.
        contradicted: rows about which clients disagree.
        beyond: by client, its rows above its quota.
    """

    seq: IntArray
    contradicted: int
    beyond: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.seq)

    def words(self) -> str:
        """Say which rows are not used, and why; empty where all are."""
        parts = [f"{self.contradicted} contradicted"] if self.contradicted else []
        parts += [f"{rows} above the quota of {name}" for name, rows in self.beyond.items()]
        return f"not used: {', '.join(parts)}" if parts else ""

    def words_of(self, needed: int, what_for: str) -> str:
        """Say how many of the needed labels may be used, and why others may not."""
        unused = f" ({self.words()})" if self.words() else ""
        return f"{len(self)} of the {needed} labels {what_for}{unused}"


def most_of_one(counts: Sequence[int], trusted: int, quota: Quota) -> int:
    """The most rows of one client: the largest c <= share (trusted + sum_i min(n_i, c)).

    Args:
        counts: n_i, rows of each client that is not trusted.
        trusted: rows of all trusted clients.

    >>> most_of_one([1000, 60, 40], 0, Quota(0.5))  # 100 of 200
    100
    >>> most_of_one([1000, 60, 40], 0, Quota(0.5, least=300))
    300
    >>> most_of_one([1000], 0, Quota(0.5))
    1000
    """
    top = max(counts, default=0)
    if len(counts) + bool(trusted) <= 1:
        return top
    larger = len(counts) - np.cumsum(np.bincount(counts))  # clients with more than c rows
    used = trusted + np.concatenate([[0], np.cumsum(larger[:-1])])
    return max(int(np.flatnonzero(np.arange(top + 1) <= quota.share * used)[-1]), quota.least)


def choose_usable(
    *,
    seq: IntArray,
    clients: Sequence[str],
    trusted: Bools,
    contradicted: Bools,
    quota: Quota,
) -> Usable:
    """Choose rows: not contradicted, and of each client the latest up to its quota.

    Args:
        seq: `(N,)` in rising order.
        clients: `(N,)` who gave the label.
        trusted: `(N,)` whether the client may label any request.
        contradicted: `(N,)`.
        quota: of clients that are not trusted.
    """
    limited = np.flatnonzero(~contradicted & ~trusted).tolist()
    counts = Counter(clients[k] for k in limited)
    most = most_of_one(list(counts.values()), int((~contradicted & trusted).sum()), quota)
    used = ~contradicted
    seen: Counter[str] = Counter()
    for k in reversed(limited):
        seen[clients[k]] += 1
        used[k] = seen[clients[k]] <= most
    beyond = {name: rows - most for name, rows in counts.items() if rows > most}
    return Usable(seq[used], int(contradicted.sum()), beyond)
