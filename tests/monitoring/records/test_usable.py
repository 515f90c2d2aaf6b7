"""Laws of which labelled rows a window may use."""

from collections import Counter
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.loop.terms import Terms, quota_of
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


def test_a_flood_of_one_client_is_counted_and_not_named() -> None:
    clients = ["flood"] * 900 + [f"client {k % 9}" for k in range(90)]
    usable = choose_usable(
        seq=np.arange(990), clients=clients, trusted=np.zeros(990, np.bool_),
        contradicted=np.arange(990) >= 988, quota=Quota(0.5),
    )  # fmt: skip
    assert len(usable) == 2 * 88
    assert usable.words() == "not used: 2 contradicted, 812 above the quota of one client"
    assert usable.beyond == {"flood": 812}


@given(
    rows=st.lists(st.sampled_from("aaaabbcT"), max_size=80),
    share=st.sampled_from([0.1, 0.34, 0.5, 0.9]),
    least=st.integers(0, 30),
    limit=st.integers(1, 90),
)
def test_a_window_that_is_cut_holds_the_quota_too(
    rows: list[str], share: float, least: int, limit: int
) -> None:
    trusted, seq = np.array([name == "T" for name in rows], np.bool_), np.arange(len(rows))
    choose = partial(
        choose_usable, seq=seq, clients=rows, trusted=trusted,
        contradicted=np.zeros(len(rows), np.bool_),
    )  # fmt: skip
    usable = choose(quota=Quota(share, least), limit=limit)
    whole = choose(quota=Quota(share, least))
    used = Counter(rows[k] for k in usable.seq)
    assert len(usable) <= limit
    if len(set(rows)) > 1:
        assert all(n <= max(share * len(usable), min(least, share * limit))
                   for name, n in used.items() if name != "T")  # fmt: skip
    if least <= share * limit:
        assert len(usable) >= min(len(whole), limit - len(set(rows))), "not fewer than need be"


def test_the_latest_rows_of_one_client_are_not_the_whole_window() -> None:
    clients = [f"honest {k % 10}" for k in range(5000)] + ["flood"] * 5000
    usable = choose_usable(
        seq=np.arange(10_000), clients=clients, trusted=np.zeros(10_000, np.bool_),
        contradicted=np.zeros(10_000, np.bool_), quota=Quota(0.5, 150), limit=5000,
    )  # fmt: skip
    assert len(usable) == 5000
    assert sum(clients[k] == "flood" for k in usable.seq) == 2500


@pytest.mark.parametrize(("others", "enough"), [(0, True), (40, False), (150, True)])
def test_a_window_to_train_on_is_no_clients_beside_others(others: int, enough: bool) -> None:
    """300 labels of one client: alone they do, beside the 40 of others they do not."""
    clients = [f"honest {k % 10}" for k in range(others)] + ["much"] * 300
    n, terms = len(clients), Terms()
    usable = choose_usable(
        seq=np.arange(n), clients=clients, trusted=np.zeros(n, np.bool_),
        contradicted=np.zeros(n, np.bool_), quota=quota_of(terms),
    )  # fmt: skip
    assert (len(usable) >= terms.min_labels) == enough
    share = np.mean([clients[k] == "much" for k in usable.seq])
    assert not enough or not others or share <= terms.labeller_share
