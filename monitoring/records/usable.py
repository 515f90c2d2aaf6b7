"""Which labelled rows a window may use: none that is contradicted, and not too many of one client.

Whoever labels most of a window decides what is learnt from it. So beside others a client may give
at most a share of the rows that are used. What it gave beyond that is kept, and not used.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models.statistics.arrays import Bools, IntArray


class Quota(NamedTuple):
    """How many rows of a window one client may give.

    It is at most `share` of all rows that are used, or `least` rows where that is more. A client
    that may label any request is trusted, and one that is alone outvotes nobody: both give all.

    Where nothing is learnt from a window of less than N rows, `least = share * N` lets nobody have
    more than the share of what is learnt from, and leaves rows to judge by where others give few.
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
        """Say how many rows are not used, and why; empty where all are. It names no client."""
        parts = [f"{self.contradicted} contradicted"] if self.contradicted else []
        if self.beyond:
            clients = "one client" if len(self.beyond) == 1 else f"{len(self.beyond)} clients"
            parts.append(f"{sum(self.beyond.values())} above the quota of {clients}")
        return f"not used: {', '.join(parts)}" if parts else ""

    def words_of(self, needed: int, what_for: str) -> str:
        """Say how many of the needed labels may be used, and why others may not."""
        unused = f" ({self.words()})" if self.words() else ""
        return f"{len(self)} of the {needed} labels {what_for}{unused}"


def most_of_one(counts: Sequence[int], trusted: int, quota: Quota, limit: int | None = None) -> int:
    """The most rows of one client: the largest c <= share min(limit, trusted + sum_i min(n_i, c)).

    Args:
        counts: n_i, rows of each client that is not trusted.
        trusted: rows of all trusted clients.
        limit: rows of a window; None where it takes all.

    >>> most_of_one([1000, 60, 40], 0, Quota(0.5))  # 100 of 200
    100
    >>> most_of_one([1000, 60, 40], 0, Quota(0.5, least=300))
    300
    >>> most_of_one([1000, 1000], 0, Quota(0.5), limit=600)
    300
    >>> most_of_one([1000], 0, Quota(0.5))
    1000
    """
    top = max(counts, default=0)
    if len(counts) + bool(trusted) <= 1:
        return top
    larger = len(counts) - np.cumsum(np.bincount(counts))  # clients with more than c rows
    used = trusted + np.concatenate([[0], np.cumsum(larger[:-1])])
    most = max(int(np.flatnonzero(np.arange(top + 1) <= quota.share * used)[-1]), quota.least)
    return most if limit is None else min(most, int(quota.share * limit))


def choose_usable(
    *,
    seq: IntArray,
    clients: Sequence[str],
    trusted: Bools,
    contradicted: Bools,
    quota: Quota,
    limit: int | None = None,
) -> Usable:
    """Choose rows: not contradicted, of each client the latest up to its quota, the latest of all.

    Args:
        seq: `(N,)` in rising order.
        clients: `(N,)` who gave the label.
        trusted: `(N,)` whether the client may label any request.
        contradicted: `(N,)`.
        quota: of clients that are not trusted.
        limit: the most rows that are chosen; of these the quota is a share.
    """
    limited = np.flatnonzero(~contradicted & ~trusted).tolist()
    counts = Counter(clients[k] for k in limited)
    most = most_of_one(list(counts.values()), int((~contradicted & trusted).sum()), quota, limit)
    used = ~contradicted
    seen: Counter[str] = Counter()
    for k in reversed(limited):
        seen[clients[k]] += 1
        used[k] = seen[clients[k]] <= most
    beyond = {name: rows - most for name, rows in counts.items() if rows > most}
    chosen = seq[used] if limit is None else seq[used][max(0, int(used.sum()) - limit) :]
    return Usable(chosen, int(contradicted.sum()), beyond)
