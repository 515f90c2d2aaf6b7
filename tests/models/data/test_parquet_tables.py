"""Laws of tables in Parquet: a client can send every column that a model sees."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models import data
from models.base.errors import DataError
from models.data import DataSet, Source
from tests import samples

TABLE = samples.people()
NOTE = "the row index of pandas was left out, for a client cannot send it: "


def write(path: Path, index: list[Any] | None = None, **more: Any) -> Path:
    table = pa.table(TABLE | more)
    if index is not None:
        table = table.replace_schema_metadata({"pandas": json.dumps({"index_columns": index})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def names(loaded: DataSet) -> list[str]:
    return [column.name for column in loaded.schema.columns]


@pytest.mark.parametrize(
    ("index", "columns", "note"),
    [
        ([{"kind": "range", "name": None, "start": 0, "stop": 60, "step": 1}], {}, ""),
        (["__index_level_0__"], {"__index_level_0__": range(60)}, "'__index_level_0__'"),
        (None, {"__index_level_0__": range(60)}, "'__index_level_0__'"),
        (["customer"], {"customer": [f"c{i % 4}" for i in range(60)]}, "'customer'"),
        (["a", "__index_level_1__"], {"a": range(60), "__index_level_1__": range(60)}, "'a', '__"),
        (["label"], {}, ""),
    ],
)
def test_the_row_index_of_pandas_is_no_column(
    tmp_path: Path, index: list[Any] | None, columns: dict[str, Any], note: str
) -> None:
    loaded = data.load(str(write(tmp_path / "a.parquet", index, **columns)))
    assert loaded.fingerprint == data.load(str(write(tmp_path / "b.parquet"))).fingerprint
    assert [each.startswith(NOTE + note) for each in loaded.notes if "index" in each] == (
        [True] if note else []
    )


@pytest.mark.parametrize("option", [{"categorical": ("kind",)}, {"label": "kind"}])
def test_an_index_that_an_option_names_is_kept(tmp_path: Path, option: dict[str, Any]) -> None:
    path = write(tmp_path / "a.parquet", ["kind"], kind=[f"k{i % 3}" for i in range(60)])
    loaded = data.load(Source(str(path), **option))
    assert "kind" in names(loaded) or loaded.classes == ("k0", "k1", "k2")
    assert not [note for note in loaded.notes if note.startswith(NOTE)]


@pytest.mark.parametrize("metadata", [b"", b"[", b"[1]", b"{}", b'{"index_columns": 3}', b"\xff"])
def test_metadata_that_says_nothing_changes_nothing(tmp_path: Path, metadata: bytes) -> None:
    table = pa.table(TABLE).replace_schema_metadata({b"pandas": metadata})
    pq.write_table(table, tmp_path / "a.parquet")
    assert names(data.load(str(tmp_path / "a.parquet"))) == ["age", "income", "city"]


@pytest.mark.parametrize("name", ["pandas_index", "shuffled_index"])
def test_case_of_an_index(name: str) -> None:
    path = samples.case(f"tables/{name}.parquet")
    loaded = data.load(str(path))
    assert not [column for column in names(loaded) if "index" in column]
    assert any(note.startswith(NOTE) for note in loaded.notes)


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    arrays = [pa.array(TABLE["age"]), pa.array(TABLE["age"]), pa.array(TABLE["label"])]
    pq.write_table(pa.Table.from_arrays(arrays, ["n", "n", "label"]), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a.parquet: 2 columns are named 'n'"):
        data.load(str(tmp_path / "a.parquet"))


def test_folders_of_partitions_are_columns(tmp_path: Path) -> None:
    for town in ("Rome", "New%20York", "__HIVE_DEFAULT_PARTITION__"):
        for part in (1, 2):
            write(tmp_path / "a" / f"town={town}" / f"part={part}" / "data.parquet")
    (tmp_path / "a" / "_SUCCESS").touch()
    loaded = data.load(str(tmp_path / "a"))
    assert names(loaded) == ["age", "income", "city", "town", "part"]
    town = loaded.schema.columns[3]
    assert town.categories == ("New York", "Rome")
    assert town.missing


def test_a_folder_that_names_a_part_is_no_column(tmp_path: Path) -> None:
    write(tmp_path / "a" / "split=train" / "data.parquet")
    pq.write_table(pa.table(samples.people(20, seed=1)), tmp_path / "test.parquet")
    (tmp_path / "a" / "split=test").mkdir()
    (tmp_path / "test.parquet").rename(tmp_path / "a" / "split=test" / "data.parquet")
    loaded = data.load(str(tmp_path / "a"))
    assert names(loaded) == ["age", "income", "city"]
    assert len(loaded.test) == 20


def test_a_delta_table_is_refused_for_its_deleted_rows(tmp_path: Path) -> None:
    write(tmp_path / "a" / "data.parquet")
    (tmp_path / "a" / "_delta_log").mkdir()
    with pytest.raises(DataError, match="is a Delta table, in which files of rows that were del"):
        data.load(str(tmp_path / "a"))
