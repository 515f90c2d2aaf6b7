"""Laws of JSON lines: an object a line is a row, and all lines that are none are named."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import data
from models.base.errors import DataError
from models.data import Source
from models.data.formats import jsonlines
from models.data.formats.jsonlines import read_lines
from tests import samples

VALUES = {
    "numbers": st.none() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, width=32),
    "wholes": st.none() | st.integers(-(2**63), 2**63 - 1),
    "texts": st.none() | st.text(st.characters(exclude_categories=("Cs",)), max_size=5),
    "flags": st.none() | st.booleans(),
}
TYPES = {"wholes": pa.int64(), "texts": pa.large_string(), "flags": pa.bool_()}


def write(path: Path, rows: list[Any], end: str = "\n") -> Path:
    text = "".join(json.dumps(row) + end for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def people() -> list[dict[str, Any]]:
    columns = samples.people()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.jsonl.gz"])
def test_lines_of_a_table_are_the_set_that_its_csv_is(tmp_path: Path, name: str) -> None:
    loaded = data.load(str(write(tmp_path / name, people(), "\r\n\n")))
    other = data.load(str(samples.write_csv(tmp_path / "a.csv", samples.people())))
    assert loaded.source.format == "jsonl"
    assert loaded.name == "a"
    assert loaded.fingerprint == other.fingerprint


def test_a_key_that_a_row_does_not_have_is_a_missing_value(tmp_path: Path) -> None:
    first, *others = people()
    rows = [first, *({k: v for k, v in row.items() if v is not None} for row in others)]
    loaded = data.load(str(write(tmp_path / "a.jsonl", rows)))
    assert loaded.fingerprint == data.load(str(write(tmp_path / "b.jsonl", people()))).fingerprint


def test_a_folder_of_parts_is_read(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", people())
    write(tmp_path / "test.jsonl", people()[:9])
    assert len(data.load(str(tmp_path)).test) == 9


@given(st.sampled_from(sorted(VALUES)).flatmap(lambda k: st.tuples(
    st.just(k), st.lists(VALUES[k], min_size=1, max_size=9))), st.integers(1, 4))  # fmt: skip
def test_values_come_out_as_they_stand_there(
    tmp_path_factory: pytest.TempPathFactory, drawn: tuple[str, list[Any]], batch: int
) -> None:
    kind, values = drawn
    path = write(tmp_path_factory.mktemp("a") / "a.jsonl", [{"v": value} for value in values])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonlines, "BATCH", batch)
        column = read_lines(path).table.column("v")
    trimmed = [v.strip(" \t\r\n") if isinstance(v, str) else v for v in values]
    assert column.to_pylist() == trimmed
    if any(value is not None for value in values):
        assert column.type == TYPES.get(kind, column.type)


def test_a_column_of_several_kinds_is_texts_in_all_batches_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonlines, "BATCH", 2)
    values = [1, 2, "x", None, True, 2.5, 10**30, 7]
    sheet = read_lines(write(tmp_path / "a.jsonl", [{"v": value} for value in values]))
    assert sheet.table.column("v").to_pylist() == [
        "1", "2", "x", None, "true", "2.5", str(10**30), "7",
    ]  # fmt: skip
    other = read_lines(write(tmp_path / "b.jsonl", [{"v": 3}]))
    first, second = jsonlines.unify([sheet, other])
    assert first.table.schema == second.table.schema
    assert second.table.column("v").to_pylist() == ["3"]


def test_nan_that_python_writes_is_a_missing_number(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"v": NaN}\n{"v": 1.5}\n')
    values = read_lines(tmp_path / "a.jsonl").table.column("v").to_pylist()
    assert values[0] != values[0]
    assert values[1] == 1.5


def test_all_lines_that_hold_no_object_are_named(tmp_path: Path) -> None:
    lines = ['{"v": 1}', "{", "", "[1]", "3", '"x"', "null", '{"v": "\\ud800"}', '{"v": 2}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    sheet = read_lines(tmp_path / "a.jsonl")
    assert sheet.table.column("v").to_pylist() == [1, 2]
    told = [fault.partition("a.jsonl, ")[2] for fault in sheet.faults]
    wanted = ["row 2: is no JSON", "row 3: holds an array; expected an object a line",
              "row 4: holds a number", "row 5: holds a text", "row 6: holds null",
              "row 7: is no JSON"]  # fmt: skip
    assert [t.startswith(w) for t, w in zip(told, wanted, strict=True)] == [True] * 6
    assert sheet.where(1).endswith("a.jsonl, row 8"), "rows keep their numbers"


def test_nested_values_are_refused_by_name_unless_they_are_ignored(tmp_path: Path) -> None:
    rows = [row | {"tags": [1], "at": {"x": 1}} for row in people()]
    path = write(tmp_path / "a.jsonl", rows)
    with pytest.raises(DataError) as caught:
        data.load(str(path))
    assert "column 'tags' holds an array or an object" in str(caught.value)
    assert "column 'at' holds an array or an object" in str(caught.value)
    loaded = data.load(Source(str(path), ignore=("tags", "at")))
    assert loaded.fingerprint == data.load(str(write(tmp_path / "b.jsonl", people()))).fingerprint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty; expected an object a line"),
        ("\n\n", "the file is empty; expected an object a line"),
        (json.dumps([{"a": 1}]), r"is one JSON value, not lines; .* jq -c '\.\[\]'"),
        (json.dumps({"a": 1}, indent=1), "is one JSON value, not lines"),
        ("[" * 100_000, "is one JSON value, not lines"),
        ('{"label": "a"}\n', "no column besides the label"),
        ("{}\n{}\n", "no label column found"),
    ],
)
def test_a_file_that_is_no_table_says_so(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        data.load(str(tmp_path / "a.jsonl"))
