"""Laws of repeats: one observation a minute, of this client only, and no thinning by chance."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.counting import repeats
from monitoring.counting.prints import row_prints
from monitoring.counting.repeat_memory import RepeatMemory, file_of
from monitoring.counting.repeats import LEFT_OUT, RepeatCheck, RepeatWatch, calibrate, rows_back
from tests import bundles


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(repeats, "time", clock)
    return clock


def check_of(back: int = 1000, memory: RepeatMemory | None = None) -> RepeatCheck:
    return RepeatCheck("m", back, frozenset(), memory or RepeatMemory())


def rows(*numbers: int) -> Any:
    return np.array(numbers, np.float32)[:, None]


def fresh(check: RepeatCheck, client: str, *numbers: int) -> list[bool]:
    told = check.fresh(client, rows(*numbers))
    return [True] * len(numbers) if told is None else told.tolist()


def test_repeat_of_one_client_counts_once_a_minute(clock: Clock) -> None:
    check = check_of()
    assert fresh(check, "a", 1, 2, 1) == [True, True, False]
    assert fresh(check, "b", 1, 2) == [True, True], "another client's row is its own"
    other = RepeatCheck("n", 1000, frozenset(), check.memory)
    assert fresh(other, "a", 1) == [True], "and so is another model's"
    for _ in range(6):
        clock.now += 10
        assert fresh(check, "a", 1) == [False]
    clock.now += 1
    assert fresh(check, "a", 1) == [True], "a minute after the one that counted"
    assert fresh(check, "a", 1) == [False]


def test_row_is_compared_with_the_clients_last_rows_only(clock: Clock) -> None:
    check = check_of(back=5)
    fresh(check, "a", 1, 2, 3, 4, 5)
    fresh(check, "b", *range(100))
    assert fresh(check, "a", 1) == [False]
    assert fresh(check, "a", 6, 7, 8, 9, 10, 2) == [True] * 6


def test_clock_that_began_anew_makes_nothing_a_repeat(clock: Clock) -> None:
    check = check_of()
    fresh(check, "a", 1)
    clock.now = 3.0
    assert fresh(check, "a", 1) == [True]


def test_workers_share_the_memory_and_its_file_is_bounded(tmp_path: Path) -> None:
    first, second = (RepeatMemory(file_of(tmp_path)) for _ in range(2))
    assert fresh(check_of(memory=first), "a", 1, 2) == [True, True]
    assert fresh(check_of(memory=second), "a", 2, 3, 1) == [False, True, False]
    size = file_of(tmp_path).stat().st_size
    rng = np.random.default_rng(0)
    many = check_of(memory=first)
    for client in range(200):
        many.fresh(f"client {client}", rng.random((1000, 1)).astype(np.float32))
    assert file_of(tmp_path).stat().st_size == size < 5 << 20
    for memory in (first, second):
        memory.close()


def test_no_room_for_the_file_leaves_each_worker_its_own(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    watch = RepeatWatch(tmp_path / "taken")  # no folder
    assert fresh(check_of(memory=watch._memory), "a", 1, 1) == [True, False]
    watch.close()


@given(st.lists(st.integers(0, 30), min_size=2, max_size=60))
def test_probability_is_the_share_of_pairs_that_agree(numbers: list[int]) -> None:
    pairs = [a == b for i, a in enumerate(numbers) for j, b in enumerate(numbers) if i != j]
    probability, natural = calibrate(rows(*numbers))
    assert probability == pytest.approx(np.mean(pairs))
    twice = {n for n in numbers if numbers.count(n) > 1}
    assert set(natural[repeats.NATURAL].tolist()) == {
        int(print_) for print_ in (row_prints(rows(*twice), b"") if twice else ())
    }


@pytest.mark.parametrize("different", [1100, 5000])
def test_independent_requests_are_hardly_thinned_whatever_their_rate(different: int) -> None:
    rng, n = np.random.default_rng(different), 5000
    shares = rng.dirichlet(np.full(different, 20.0))
    reference = rng.choice(different, n, p=shares)
    probability, natural = calibrate(rows(*reference))
    back = rows_back(probability, n)
    assert back > 0
    check = RepeatCheck("m", back, frozenset(), RepeatMemory())
    told = fresh(check, "a", *rng.choice(different, 20_000, p=shares))
    left_out = 1 - np.mean(told)
    assert 0 < left_out < LEFT_OUT + 3 * (LEFT_OUT / 20_000) ** 0.5
    known = frozenset(natural[repeats.NATURAL].tolist())
    always = RepeatCheck("m", back, known, RepeatMemory())
    common = int(np.bincount(reference).argmax())
    assert fresh(always, "a", common, common, common) == [True] * 3, "natural repeats count"


def test_version_of_a_table_with_many_repeats_counts_every_row() -> None:
    made, data, watch = bundles.prepared("small"), bundles.digits(), RepeatWatch(None)
    manifest = made.manifest("digits", data.schema, data.classes)
    assert manifest.calibration.repeat_probability == 0, "no two digits agree"
    assert watch.check(made.bundle(manifest)) is not None
    for probability in (0.02, None):
        facts = msgspec.structs.replace(manifest.calibration, repeat_probability=probability)
        other = msgspec.structs.replace(manifest, calibration=facts)
        assert watch.check(made.bundle(other)) is None
