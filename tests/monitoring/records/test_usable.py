"""Laws of which labelled rows a window may use."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monitoring.records.usable import Quota, choose_usable

ROWS = st.lists(
    st.tuples(st.sampled_from("aaaaabbc"), st.booleans(), st.sampled_from([False, False, True])),
    max_size=60,
)


@given(rows=ROWS, share=st.sampled_from([0.1, 0.34, 0.5, 0.9]), least=st.integers(0, 8))
def test_no_client_gives_more_than_its_quota_and_none_less_without_need(
    rows: list[tuple[str, bool, bool]], share: float, least: int
) -> None:
    """The brute force: the largest c with c <= share * (rows used at c)."""
    clients = [name if not trusted else "T" for name, trusted, _ in rows]
    trusted = np.array([trusted for _, trusted, _ in rows], dtype=np.bool_)
    contradicted = np.array([bad for *_, bad in rows], dtype=np.bool_)
    seq = np.arange(len(rows), dtype=np.int64) + 7
    usable = choose_usable(
        seq=seq, clients=clients, trusted=trusted, contradicted=contradicted,
        quota=Quota(share, least),
    )  # fmt: skip
    good = [(k, name) for k, name in enumerate(clients) if not contradicted[k]]
    limited = Counter(name for _, name in good if name != "T")
    rest = sum(name == "T" for _, name in good)
    most = max(limited.values(), default=0)
    if len(limited) + bool(rest) > 1:
        fits = [c for c in range(most + 1)
                if c <= share * (rest + sum(min(n, c) for n in limited.values()))]  # fmt: skip
        most = max(fits[-1], least)
    used = Counter(clients[int(s) - 7] for s in usable.seq)
    assert used.get("T", 0) == rest
    assert all(used[name] == min(n, most) for name, n in limited.items())
    for name in limited:  # the latest of its rows
        own = [k for k, other in good if other == name]
        assert set(own[-used[name] :] if used[name] else []) <= {int(s) - 7 for s in usable.seq}
    assert usable.contradicted == contradicted.sum()
    assert len(usable) + usable.contradicted + sum(usable.beyond.values()) == len(rows)


def test_a_flood_of_one_client_is_told_by_name() -> None:
    clients = ["flood"] * 900 + [f"client {k % 9}" for k in range(90)]
    usable = choose_usable(
        seq=np.arange(990), clients=clients, trusted=np.zeros(990, np.bool_),
        contradicted=np.arange(990) >= 988, quota=Quota(0.5),
    )  # fmt: skip
    assert len(usable) == 2 * 88
    assert usable.words() == "not used: 2 contradicted, 812 above the quota of flood"
