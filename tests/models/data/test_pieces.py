"""Files in pieces: every row once with its number, whatever is wrong beside it."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.base.errors import DataError
from models.data.pieces import Block, Wanted, delimited, files_in, open_pieces
from models.data.pieces.piece import block_rows
from models.data.records import Format


def blocks(path: Path, form: Format, *columns: str, root: Path | None = None) -> list[Block]:
    wanted = Wanted(columns, len(columns), root or path.parent)
    return [block for piece in open_pieces(path, form, wanted) for block in piece.blocks()]


def numbers(found: list[Block]) -> list[int]:
    return np.concatenate([block.numbers for block in found]).tolist()


def broken(found: list[Block]) -> dict[int, str]:
    return {number: why for block in found for number, why in block.broken.items()}


def test_rows_of_a_csv_keep_their_numbers_around_those_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n3\n# a comment\n4,5\n,\n6,7,8\n9,10\n11\n")
    found = blocks(path, "csv", "a", "b")
    assert numbers(found) == [1, 4, 7]
    assert found[0].table.to_pydict() == {"a": ["1", "4", "9"], "b": ["2", "5", "10"]}
    assert broken(found) == {
        2: "1 cell, expected 2 as in the header",
        6: "3 cells, expected 2 as in the header",
        8: "1 cell, expected 2 as in the header",
    }


@pytest.mark.parametrize("packed", [False, True])
def test_a_csv_of_many_pieces_has_every_row_once(
    tmp_path: Path, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "block_rows", lambda _: 16)
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 1 << 10)
    text = "a,b\n" + "".join(f'{k},"x\n{k}"\n' if k % 97 else f"{k}\n" for k in range(1, 1001))
    path = tmp_path / ("a.csv.gz" if packed else "a.csv")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    wanted = Wanted(("a",), 1, tmp_path)
    found, pieces = [], 0
    for piece in open_pieces(path, "csv", wanted):
        found += list(piece.blocks())
        pieces += 1
    assert pieces == 8
    rows = [k for k in range(1, 1001) if k % 97]
    assert numbers(found) == rows
    assert [int(cell) for block in found for cell in block.table["a"].to_pylist()] == rows
    assert sorted(broken(found)) == [k for k in range(1, 1001) if not k % 97]


def test_a_quote_that_is_never_closed_and_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'a,b\n1,x\xff\n2,y\n3,"z\n4,w\n')
    found = blocks(path, "csv", "a", "b")
    assert numbers(found) == [2]
    assert broken(found) == {
        1: "a cell holds bytes that are not UTF-8",
        3: "a quote that opens here is never closed",
    }


def test_row_groups_have_names_and_folders_are_columns(tmp_path: Path) -> None:
    folder = tmp_path / "city=Rome"
    folder.mkdir()
    pq.write_table(pa.table({"a": range(10), "b": range(10)}), folder / "x.parquet", 4)
    form, (path,) = files_in(tmp_path)
    assert form == "parquet"
    pieces = list(open_pieces(path, form, Wanted(("a", "city", "c"), 3, tmp_path)))
    ends = [piece.name.partition("x.parquet, ")[2] for piece in pieces]
    assert ends == [
        "row group 0 (rows 1 to 4)", "row group 1 (rows 5 to 8)", "row group 2 (rows 9 to 10)",
    ]  # fmt: skip
    found = blocks(path, form, "a", "city", "c", root=tmp_path)
    assert numbers(found) == list(range(1, 11))
    assert found[2].table.to_pydict() == {"a": [8, 9], "city": ["Rome", "Rome"]}


def test_a_file_that_is_none_fails_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 and no more PAR1")
    (piece,) = open_pieces(path, "parquet", Wanted(("a",), 1, tmp_path))
    with pytest.raises(DataError, match=r"a\.parquet: no Parquet file, or a damaged one"):
        list(piece.blocks())


def test_arrays_are_read_a_piece_at_a_time_also_where_one_is_left_out(tmp_path: Path) -> None:
    path, x = tmp_path / "a.npz", np.arange(3000 * 64).reshape(3000, 1, 8, 8).astype(np.float32)
    np.savez_compressed(path, x=x, y=np.arange(3000))
    wanted = Wanted(("y",), 1 << 14, tmp_path)
    pieces = _first_and_third(path, wanted)
    size = block_rows(1 << 14) * 8
    own = [*range(1, size + 1), *range(2 * size + 1, 3 * size + 1)]
    assert numbers(pieces) == own
    for block in pieces:
        np.testing.assert_array_equal(block.pixels, x[block.numbers - 1])
        assert block.table["y"].to_pylist() == (block.numbers - 1).tolist()


def _first_and_third(path: Path, wanted: Wanted) -> list[Block]:
    found = list[Block]()
    for piece in open_pieces(path, "npz", wanted):
        if piece.place in (0, 2):
            found += list(piece.blocks())
    return found


def test_formats_that_are_not_read_in_pieces_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(DataError, match=r"jsonl is not read in pieces; expected parquet, csv, npz"):
        files_in(tmp_path / "a.jsonl")


def test_a_large_row_group_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    rows = 2_000_000
    columns = {f"c{k}": np.random.default_rng(k).normal(size=rows) for k in range(4)}
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=rows)
    del columns
    wanted = Wanted(tuple(f"c{k}" for k in range(4)), 4, tmp_path)
    most, seen = 0, 0
    before = pa.total_allocated_bytes()
    for piece in open_pieces(path, "parquet", wanted):
        for block in piece.blocks():
            seen += len(block.numbers)
            most = max(most, pa.total_allocated_bytes() - before)
            assert len(block.numbers) <= block_rows(4)
    assert seen == rows
    assert most < rows * 4 * 8 / 2, f"{most} bytes of {rows * 4 * 8}"
