"""The law of the detector, against a plain account of it."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.versions.schema import InputSchema
from monitoring.counting.queries import ALARM, RECENT, Detector, ProbeCheck
from monitoring.counting.query_embedding import CAPACITY, Embedding
from monitoring.counting.query_memory import QueryMemory
from tests import bundles

SCHEMA = InputSchema("x", (1, 4, 4), "float32", 0.0, 1.0, "image")
THRESHOLD = 0.05
# Inputs of which some are alike: rows of a family lie 0.01 apart, families 0.1 and more.
FAMILIES = np.random.default_rng(0).random((40, 1, 4, 4), np.float32)


def member(family: int, index: int) -> Any:
    x = FAMILIES[family].copy()
    x[0, 0, index % 4] += np.float32(0.01 * (1 + index // 4))
    return x


def detector(clients: int = 4, memory: QueryMemory | None = None) -> Detector:
    return Detector("m", Embedding.of(SCHEMA), THRESHOLD, memory or QueryMemory(clients))


def plain(x: Any) -> ProbeCheck:
    """The law, one row after the other, without any of the product's code but the embedding."""
    kept: list[tuple[bytes, Any, bool, bool]] = []
    counts, flags = [], []
    for row, z in zip(x, Embedding.of(SCHEMA)(x), strict=True):
        ring = kept[-CAPACITY:]
        same = [each for each in ring if each[0] == row.tobytes()]
        if not same:
            near = any(np.linalg.norm(z - other) <= THRESHOLD for _, other, _, _ in ring)
            recent = sum(each[2] for each in kept[-RECENT + 1 :]) + near
            kept.append((row.tobytes(), z, near, near and recent >= ALARM))
        counts.append(sum(each[2] for each in kept[-RECENT:]))
        flags.append(same[0][3] if same else kept[-1][3])
    return ProbeCheck(np.array(counts), np.array(flags))


rows = st.lists(st.tuples(st.integers(0, 39), st.integers(0, 7)), min_size=1, max_size=150)


def taken(pairs: list[tuple[int, int]]) -> Any:
    return np.stack([member(*pair) for pair in pairs])


@settings(max_examples=60)
@given(rows, st.lists(st.integers(1, 90), min_size=1, max_size=8))
def test_batches_of_any_size_are_judged_like_the_plain_account(
    pairs: list[tuple[int, int]], sizes: list[int]
) -> None:
    x, found, begin, turn = taken(pairs), [], 0, 0
    judge = detector()
    while begin < len(x):
        size = sizes[turn % len(sizes)]
        found.append(judge.look("c", x[begin : begin + size]))
        begin, turn = begin + size, turn + 1
    expected = plain(x)
    np.testing.assert_array_equal(np.concatenate([f.near for f in found]), expected.near)
    np.testing.assert_array_equal(np.concatenate([f.flagged for f in found]), expected.flagged)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=200), st.booleans())
def test_exact_repeats_are_never_flagged(order: list[int], batched: bool) -> None:
    judge, x = detector(), FAMILIES[order]
    looked = [judge.look("c", x)] if batched else [judge.look("c", row[None]) for row in x]
    assert not any(f.flagged.any() or f.near.any() for f in looked)


@settings(max_examples=40)
@given(rows, rows, st.randoms())
def test_clients_do_not_see_each_other(a: Any, b: Any, random: Any) -> None:
    judge, alone = detector(), {name: plain(taken(p)) for name, p in (("a", a), ("b", b))}
    waiting = {"a": list(taken(a)), "b": list(taken(b))}
    found: dict[str, list[ProbeCheck]] = {"a": [], "b": []}
    while any(waiting.values()):
        name = random.choice([name for name, left in waiting.items() if left])
        found[name].append(judge.look(name, waiting[name].pop(0)[None]))
    for name, looked in found.items():
        np.testing.assert_array_equal(np.concatenate([f.near for f in looked]), alone[name].near)
        assert np.array_equal(np.concatenate([f.flagged for f in looked]), alone[name].flagged)


def test_the_ring_forgets_what_is_older_than_its_capacity() -> None:
    rng = np.random.default_rng(1)
    others = rng.random((CAPACITY + 40, 1, 4, 4), np.float32)
    near = FAMILIES[0] + np.float32(0.01) * np.eye(4, dtype=np.float32)
    for batched in (False, True):
        for between, remembered in ((CAPACITY - 1, True), (CAPACITY, False)):
            judge = Detector("m", Embedding.of(SCHEMA), 0.02, QueryMemory(1))
            judge.look("c", FAMILIES[:1])
            for row in (others[:between],) if batched else others[:between, None]:
                judge.look("c", row)
            assert judge.look("c", near[None]).near[0] == remembered


def test_a_long_stream_round_the_ring_is_judged_alike_one_by_one_and_in_batches() -> None:
    rng = np.random.default_rng(2)
    x = rng.random((2300, 1, 4, 4), np.float32)
    alike = rng.random(len(x)) < 0.2
    back = np.maximum(np.arange(len(x)) - rng.integers(1, 900, len(x)), 0)
    for k in np.flatnonzero(alike):
        x[k] = np.clip(x[back[k]] + 0.002 * rng.normal(size=(1, 4, 4)), 0, 1)
    single, batches = detector(), detector()
    one = [single.look("c", row[None]) for row in x]
    many = [batches.look("c", x[k : k + 40]) for k in range(0, len(x), 40)]
    for name in ("near", "flagged"):
        a, b = (np.concatenate([getattr(f, name) for f in found]) for found in (one, many))
        np.testing.assert_array_equal(a, b)
    assert 0.05 < np.mean(np.concatenate([f.flagged for f in one])) < 0.5


def test_real_images_of_the_full_grid_are_judged_like_the_plain_account() -> None:
    """The coarse part is a real cut here: 16 numbers of 100."""
    data = bundles.large_digits()
    x = data.test.x[:120].repeat(3, axis=0)
    x[1::3] += np.float32(0.004)  # a change of light is no distance at all
    x[2::3, 0, 10:14, 10:14] += np.float32(0.06)
    judge = Detector("m", Embedding.of(data.schema), 0.1, QueryMemory(1))
    z, near = Embedding.of(data.schema)(x), np.zeros(len(x), int)
    for k in range(1, len(x)):
        near[k] = np.linalg.norm(z[:k] - z[k], axis=1).min() <= 0.1
    expected = [near[max(0, k - RECENT + 1) : k + 1].sum() for k in range(len(x))]
    one = np.concatenate([judge.look("a", row[None]).near for row in x])
    many = np.concatenate([judge.look("b", x[k : k + 50]).near for k in range(0, len(x), 50)])
    np.testing.assert_array_equal(one, expected)
    np.testing.assert_array_equal(many, expected)
    assert 0.2 < near.mean() < 0.9


def test_a_refused_query_that_is_sent_again_is_refused_again_and_does_not_count() -> None:
    judge = detector()
    probes = taken([(0, k) for k in range(6)])
    looked = [judge.look("c", row[None]) for row in probes]
    assert [bool(f.flagged[0]) for f in looked] == [False] * ALARM + [True] * 3
    for _ in range(30):
        again = judge.look("c", probes[-1:])
        assert (again.near[0], again.flagged[0]) == (5, True)
    assert not judge.look("c", probes[:1]).flagged[0]
    assert not judge.look("c", FAMILIES[7:8]).flagged[0], "another input of the same client"


def test_a_new_version_that_embeds_alike_goes_on_and_one_that_does_not_starts_afresh() -> None:
    memory, probes = QueryMemory(8), taken([(0, k) for k in range(6)])
    detector(memory=memory).look("c", probes[:5])
    assert detector(memory=memory).look("c", probes[5:]).flagged[0]
    other = Detector("m", Embedding.of(SCHEMA, 2.0), THRESHOLD, memory)
    assert other.look("c", probes[5:]).near[0] == 0
    another_model = Detector("n", Embedding.of(SCHEMA), THRESHOLD, memory)
    assert another_model.look("c", probes[5:]).near[0] == 0


def test_a_full_disk_takes_no_answer_with_it(monkeypatch: Any, tmp_path: Any) -> None:
    import os

    memory = QueryMemory(2, tmp_path / "m")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    looked = detector(memory=memory).look("c", FAMILIES[:3])
    assert (looked.near.tolist(), looked.flagged.tolist()) == ([0, 0, 0], [False] * 3)
    monkeypatch.undo()
    detector(memory=memory).look("c", FAMILIES[:3])
    assert memory.clients == 1
    memory.close()
