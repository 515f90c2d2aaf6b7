"""Laws of tables: columns are told from what training holds, whatever file they come from."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import data
from models.data import PARTS, DataSet, Source
from tests import samples


def decoded(found: DataSet) -> list[tuple[Any, ...]]:
    """Every row of a set as values with its class name, sorted; it fits its schema."""
    rows = []
    for part in PARTS:
        own = getattr(found, part)
        found.schema.check(own.x)
        for x, y in zip(own.x.tolist(), own.y, strict=True):
            told = [
                c.categories[int(v)] if c.kind == "categorical" and v >= 0 else v
                for c, v in zip(found.schema.columns, x, strict=True)
            ]
            rows.append((*("missing" if v != v else v for v in told), found.classes[y]))
    return sorted(rows, key=str)


def wanted(columns: dict[str, list[Any]]) -> list[tuple[Any, ...]]:
    """What `decoded` shall give."""
    cast = [[float(np.float32(v)) if isinstance(v, int | float) else v for v in c]
            for c in columns.values()]  # fmt: skip
    rows = zip(*cast, strict=True)
    return sorted((tuple("missing" if v is None else v for v in row) for row in rows), key=str)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz", "semicolon.csv", "a.parquet"])
def test_every_file_of_a_table_gives_its_rows(tmp_path: Path, name: str) -> None:
    columns = samples.people()
    if name == "a.parquet":
        samples.write_parquet(tmp_path / name, columns)
    else:
        delimiter = {"a.tsv": "\t", "semicolon.csv": ";"}.get(name, ",")
        samples.write_csv(tmp_path / name, columns, delimiter)
    found = data.load(str(tmp_path / name))
    assert decoded(found) == wanted(columns)
    age, income, city = found.schema.columns
    assert (age.kind, income.kind, city.kind) == ("numeric", "numeric", "categorical")
    assert (age.missing, income.missing, city.missing) == (False, True, False)
    assert city.categories == ("Bern", "Oslo", "Rome")
    assert (age.low, age.high) == (found.train.x[:, 0].min(), found.train.x[:, 0].max())
    assert income.high == np.nanmax(found.train.x[:, 1])
    assert found.classes == ("no", "yes")
    assert found.train.x.dtype == np.float32


def test_csv_and_parquet_of_the_same_table_are_the_same_set(tmp_path: Path) -> None:
    columns = samples.people()
    samples.write_csv(tmp_path / "a.csv", columns)
    samples.write_parquet(tmp_path / "a.parquet", columns)
    first, second = (data.load(str(tmp_path / name)) for name in ("a.csv", "a.parquet"))
    assert first.fingerprint == second.fingerprint


def test_spaces_and_a_mark_of_the_encoding_are_no_part_of_a_csv(tmp_path: Path) -> None:
    columns = samples.people()
    text = samples.write_csv(tmp_path / "a.csv", columns, " ,  ").read_text()
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n\r\n").encode())
    found = data.load(str(tmp_path / "a.csv"))
    assert decoded(found) == wanted(columns)
    assert [c.name for c in found.schema.columns] == ["age", "income", "city"]


def test_columns_can_be_categories_ignored_or_the_label(tmp_path: Path) -> None:
    columns = samples.people() | {"floor": [i % 12 for i in range(60)]}
    path = str(samples.write_csv(tmp_path / "a.csv", columns))
    found = data.load(Source(path, categorical=("floor",), ignore=("age", "income")))
    assert [c.name for c in found.schema.columns] == ["city", "floor"]
    assert found.schema.columns[1].categories == tuple(str(n) for n in range(12)), "by number"
    found = data.load(Source(path, label="city", ignore=("label",)))
    assert found.classes == ("Bern", "Oslo", "Rome")
    assert [c.name for c in found.schema.columns] == ["age", "income", "floor"]


def test_types_of_parquet_that_are_numbers_or_categories(tmp_path: Path) -> None:
    rows = 40
    table = pa.table(
        {
            "small": pa.array([i % 9 for i in range(rows)], pa.uint8()),
            "half": pa.array(np.arange(rows, dtype=np.float16)),
            "money": pa.array(range(rows), pa.decimal128(9, 2)),
            "flag": pa.array([None if i < 9 else i % 2 == 0 for i in range(rows)]),
            "coded": pa.array([f"c{i % 3}" for i in range(rows)]).dictionary_encode(),
            "large": pa.array(["", None, "a", "b"] * (rows // 4), pa.large_string()),
            "target": pa.array([i % 2 == 0 for i in range(rows)]),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    found = data.load(str(tmp_path / "a.parquet"))
    kinds = {c.name: (c.kind, c.categories, c.missing) for c in found.schema.columns}
    assert kinds == {
        "small": ("numeric", (), False),
        "half": ("numeric", (), False),
        "money": ("numeric", (), False),
        "flag": ("categorical", ("false", "true"), True),
        "coded": ("categorical", ("c0", "c1", "c2"), False),
        "large": ("categorical", ("a", "b"), True),
    }
    assert found.classes == ("false", "true")
    assert sum(len(getattr(found, part)) for part in PARTS) == rows


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("layout", ["folder", "file", "named"])
def test_a_test_file_is_the_test_part(tmp_path: Path, kind: str, layout: str) -> None:
    write = samples.write_csv if kind == "csv" else samples.write_parquet
    train, test = samples.people(60), samples.people(20, seed=1)
    write(tmp_path / f"train.{kind}", train)
    write(tmp_path / f"{'other' if layout == 'named' else 'test'}.{kind}", test)
    if layout == "folder":
        found = data.load(str(tmp_path))
    elif layout == "file":
        found = data.load(str(tmp_path / f"train.{kind}"))
    else:
        other = str(tmp_path / f"other.{kind}")
        found = data.load(Source(str(tmp_path / f"train.{kind}"), test=other))
    assert len(found.test) == 20
    assert decoded(found) == sorted(wanted(train) + wanted(test), key=str)


def test_a_test_file_without_labels_is_not_used_and_that_is_told(tmp_path: Path) -> None:
    samples.write_csv(tmp_path / "train.csv", samples.people())
    unlabelled = samples.people(10)
    del unlabelled["label"]
    samples.write_csv(tmp_path / "test.csv", unlabelled)
    samples.write_csv(tmp_path / "sample_submission.csv", {"id": [1], "label": ["no"]})
    found = data.load(str(tmp_path))
    assert sum(len(getattr(found, part)) for part in PARTS) == 60
    assert found.notes == (
        "left out, for they are of no part: sample_submission.csv",
        "test.csv lies beside the data but has no column 'label': not used as test part",
    )


def test_range_and_categories_come_from_training_alone(tmp_path: Path) -> None:
    train = {"n": list(range(60)), "c": ["a", "b"] * 30, "y": [0, 0, 1] * 20}
    test = {"y": [0, 1], "c": ["zebra", "a"], "extra": [1, 2], "n": [1000, 3]}
    samples.write_csv(tmp_path / "train.csv", train)
    samples.write_csv(tmp_path / "test.csv", test)
    found = data.load(str(tmp_path / "train.csv"))
    number, category = found.schema.columns
    assert number.high <= 59
    assert category.categories == ("a", "b")
    assert sorted(found.test.x.tolist()) == [[3.0, 0.0], [1000.0, -1.0]]
    found.schema.check(found.test.x)


def test_texts_of_training_stay_texts_where_the_test_part_has_only_numbers(tmp_path: Path) -> None:
    train = {"code": ["007", "a"] * 20, "n": list(range(40)), "label": ["01", "02"] * 20}
    train["label"][0], train["code"][2] = "x", "007"
    train["label"][1:6] = ["x"] * 5
    samples.write_csv(tmp_path / "train.csv", train)
    samples.write_csv(tmp_path / "test.csv", {"code": ["007"], "n": [-1], "label": ["02"]})
    found = data.load(str(tmp_path / "train.csv"))
    assert found.test.x.tolist() == [[0.0, -1.0]]
    assert [found.classes[y] for y in found.test.y] == ["02"]


@given(st.permutations(range(40)))
def test_a_table_does_not_depend_on_the_order_of_its_rows(
    tmp_path_factory: pytest.TempPathFactory, order: list[int]
) -> None:
    folder, columns = tmp_path_factory.mktemp("a"), samples.people(40)
    samples.write_csv(folder / "a.csv", columns)
    samples.write_csv(folder / "b.csv", {k: [v[i] for i in order] for k, v in columns.items()})
    first, second = (data.load(str(folder / name)) for name in ("a.csv", "b.csv"))
    assert first.fingerprint == second.fingerprint


def test_a_test_row_is_unseen_where_a_model_was_shown_no_equal(
    tmp_path: Path,
) -> None:
    # Rare categories fall outside training; without its category such a row is like another.
    rare = [f"rare{i}" if i % 3 == 0 else "usual" for i in range(240)]
    columns = {"c": rare, "n": [i // 3 % 8 for i in range(240)], "label": [0, 0, 1, 1] * 60}
    found = data.load(str(samples.write_csv(tmp_path / "a.csv", columns)))
    assert (found.test.x[:, 0] == -1).any(), "a category that is not in training"
    training = {row.tobytes() for row in found.train.x}
    fresh = [row.tobytes() not in training for row in found.test.x]
    assert found.unseen_test is not None
    assert found.unseen_test.tolist() == fresh
    assert 0 < sum(fresh) < len(fresh)


def test_integer_labels_are_numbered_in_rising_order(tmp_path: Path) -> None:
    path = samples.write_csv(tmp_path / "a.csv", {"n": range(60), "y": [10, 2, 5] * 20})
    assert data.load(str(path)).classes == ("2", "5", "10")


def test_arrays_of_a_table_have_the_names_that_stand_beside(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((40, 3))
    x[::4, 2] = np.nan
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(40) % 2, columns=["p", "q", "r"])
    np.savez(tmp_path / "b.npz", data=x, fine=np.arange(40) % 4, target=np.arange(40) % 2)
    found = data.load(Source(str(tmp_path / "a.npz"), ignore=("p",)))
    assert [(c.name, c.missing) for c in found.schema.columns] == [("q", False), ("r", True)]
    found = data.load(Source(str(tmp_path / "b.npz"), label="fine"))
    assert [c.name for c in found.schema.columns] == ["x0", "x1", "x2"]
    assert len(found.classes) == 4
