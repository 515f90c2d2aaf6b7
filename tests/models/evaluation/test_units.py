"""Laws of units of work: done once, in the order of the rows, the same whoever does them."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.data import Rows
from models.evaluation.subject import Arrays
from models.evaluation.units import BLOCK, LONG, Block, Results, Store, Unit, run_units
from models.training import distributed

ROWS = Rows(np.arange(2 * BLOCK + 37, dtype=np.float32)[:, None], np.zeros(2 * BLOCK + 37, int))


def noisy(block: Block) -> Arrays:
    """Something random that depends on the row."""
    drawn = np.random.default_rng(block.seed).random(len(block.index))
    return {"x": block.rows.x[:, 0] + drawn, "place": block.index}


def counted(calls: list[str], name: str) -> Callable[[Block], Arrays]:
    def compute(block: Block) -> Arrays:
        calls.append(f"{name}{block.index[0]}")
        return noisy(block)

    return compute


def run(units: list[Unit], store: Path | None = None, seed: int = 0) -> Results:
    results: Results = {}
    run_units(units, results, seed=seed, store=Store(store))
    return results


def test_blocks_come_back_in_the_order_of_the_rows() -> None:
    told = run([Unit("a", ROWS, noisy)])["a"]
    np.testing.assert_array_equal(told["place"], np.arange(len(ROWS)))
    assert (np.floor(told["x"]) == ROWS.x[:, 0]).all()


def test_random_numbers_depend_on_seed_unit_and_block_alone() -> None:
    one = run([Unit("a", ROWS, noisy), Unit("b", ROWS, noisy)])
    np.testing.assert_array_equal(run([Unit("b", ROWS, noisy)])["b"]["x"], one["b"]["x"])
    assert not np.array_equal(one["a"]["x"], one["b"]["x"])
    assert not np.array_equal(run([Unit("a", ROWS, noisy)], seed=1)["a"]["x"], one["a"]["x"])
    drawn = one["a"]["x"].astype(float) % 1
    assert not np.allclose(drawn[:10], drawn[BLOCK : BLOCK + 10])


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    calls: list[str] = []
    units = [Unit("a", ROWS, counted(calls, "a")), Unit("b", ROWS, counted(calls, "b"))]
    first = run(units, tmp_path)
    assert len(calls) == 6
    again = run([*units, Unit("c", ROWS, counted(calls, "c"))], tmp_path)
    assert calls[6:] == ["c0", f"c{BLOCK}", f"c{2 * BLOCK}"]
    np.testing.assert_array_equal(first["a"]["x"], again["a"]["x"])


@pytest.mark.parametrize("long", [True, False])
def test_a_killed_unit_loses_a_block_or_itself_but_never_the_rest(
    long: bool, tmp_path: Path
) -> None:
    cost = LONG if long else 1

    def die(block: Block) -> Arrays:
        if block.index[0] == BLOCK:
            os.kill(os.getpid(), signal.SIGKILL)
        return noisy(block)

    def units(second: Callable[[Block], Arrays]) -> list[Unit]:
        return [Unit("a", ROWS, noisy), Unit("b", ROWS, second, cost)]

    child = os.fork()
    if child == 0:
        run(units(die), tmp_path)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    calls: list[str] = []
    told = run(units(counted(calls, "b")), tmp_path)
    assert calls == ["b0", f"b{BLOCK}", f"b{2 * BLOCK}"][long:]
    np.testing.assert_array_equal(told["b"]["x"], run(units(noisy))["b"]["x"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def test_a_damaged_file_is_as_good_as_none(tmp_path: Path) -> None:
    run([Unit("a", ROWS, noisy)], tmp_path)
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:100])
    (tmp_path / ".b.npz.0123").write_bytes(b"a write that was cut off")
    calls: list[str] = []
    run([Unit("a", ROWS, counted(calls, "a"))], tmp_path)
    assert len(calls) == 3


def test_processes_do_every_block_once_and_agree(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Two processes in turn: what the other one gives is what it would compute.
    alone = run([Unit("a", ROWS, noisy)])["a"]
    parts: dict[int, object] = {}
    done: list[list[str]] = []
    for rank in (1, 0):
        calls: list[str] = []
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(distributed, "world", lambda: 2)

        def gather(value: object, rank: int = rank) -> list[object]:
            if not value:
                return [{}, {}]
            parts[rank] = value
            return list(parts.values())

        monkeypatch.setattr(distributed, "gather", gather)
        if rank == 1:  # it cannot finish before the other has done its part
            with pytest.raises(KeyError):
                run([Unit("a", ROWS, counted(calls, ""))], tmp_path)
            assert not list(tmp_path.iterdir()), "only process 0 writes the whole"
        else:
            told = run([Unit("a", ROWS, counted(calls, ""))], tmp_path)["a"]
            np.testing.assert_array_equal(told["x"], alone["x"])
        done.append(calls)
    assert done == [[str(BLOCK)], ["0", str(2 * BLOCK)]]


def test_progress_ends_at_the_whole_and_counts_what_was_done_before(tmp_path: Path) -> None:
    units = [Unit("a", ROWS, noisy, cost=3), Unit("b", ROWS, noisy)]
    run(units[:1], tmp_path)
    told: list[tuple[int, int, str]] = []
    run_units(units, {}, store=Store(tmp_path), progress=lambda *step: told.append(step))
    total = 4 * len(ROWS)
    assert told[0] == (3 * len(ROWS), total, "a")
    assert told[-1] == (total, total, "b")
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
