"""A client sends what stands in the file: every cell falls where it fell in training."""

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from models.base.errors import DataError, InputError
from models.data import Rows, Source, tables
from models.data import read as read_source
from models.data.found import format_of
from models.data.split import Index
from models.versions.schema import InputSchema
from service.cli.traffic.command import as_sent
from service.protocols.v2.codec import decode_infer
from tests.service.decoding.test_codec import decode_instances

ROWS = 40
COMMON = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=5)
MISSING = st.sampled_from(["", "NA", "nan", "None", "null", "N/A", "-"])
WHOLE = st.integers(-(10**6), 10**6)


def column_of(cells: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    """A column of a few different cells, so that they may be categories."""
    few = st.lists(cells, min_size=1, max_size=8)
    return few.flatmap(lambda some: st.lists(st.sampled_from(some), min_size=ROWS, max_size=ROWS))


FLOATS = st.floats(-1e30, 1e30, allow_nan=False).map(repr)
MONEY = st.builds("{}{:,}.{:02}".format, st.sampled_from(["", "$"]), WHOLE, st.integers(0, 99))
COMMA = st.builds("{},{}".format, WHOLE, st.integers(1, 99))
DATES = st.dates().map(str) | st.datetimes().map(lambda moment: moment.isoformat(" "))
TIMES = st.times().map(lambda time: time.isoformat("seconds"))
TRUTHS = st.sampled_from(["True", "FALSE", "t", "F", "true"])
CODES = st.integers(0, 99_999).map("{:05}".format)
IDS = st.integers(2**53, 2**53 + 5).map(str) | st.integers(10**20, 10**20 + 5).map(str)
MIXED = (
    st.sampled_from(["1", "1.0", "M", "10.0", "007", "True", "None", "a b", "1e5", "-0"]) | WORDS
)
COLUMNS: Sequence[st.SearchStrategy[str]] = (
    FLOATS, WHOLE.map(str), WHOLE.map(str) | MISSING, MONEY, COMMA, COMMA | MISSING, DATES,
    DATES | MISSING, TIMES, TRUTHS, TRUTHS | MISSING, CODES, CODES | MISSING, IDS, MIXED, WORDS,
    WHOLE.map("{}%".format),
)  # fmt: skip


def write(path: Path, columns: dict[str, list[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
        writer.writerow([*columns, "label"])
        writer.writerows([*row, i % 2] for i, row in enumerate(zip(*columns.values(), strict=True)))
    return path


def read(path: Path, **options: Any) -> tuple[InputSchema, np.ndarray[Any, Any]]:
    """The schema and the rows of all of a file, without dividing it."""
    raw = read_source(Source(str(path), format_of(path), **options))
    if raw.faults:
        raise DataError(raw.faults[0])
    train: Index = np.arange(len(raw.train.labels))
    schema = tables.schema_of(raw.train, train, "a")
    return schema, tables.matrix(raw.train.columns, schema)


def read_unless(
    reason: str, path: Path, **options: Any
) -> tuple[InputSchema, np.ndarray[Any, Any]] | None:
    """The same, None where the file is refused for that reason."""
    try:
        return read(path, **options)
    except DataError as error:
        if reason not in str(error):
            raise
        return None


def check(schema: InputSchema, x: Any, rows: list[list[Any]]) -> None:
    """Rows sent as lists and by name are the rows of training."""
    names = [column.name for column in schema.columns]
    by_name = [dict(zip(names, row, strict=True)) for row in rows]
    for instances in (rows, by_name):
        body = json.dumps({"instances": instances}).encode()
        np.testing.assert_array_equal(decode_instances(body, schema, len(rows)), x)


def as_json(cell: str) -> Any:
    """A cell as JSON's own type where it has one, else its text."""
    if cell.lower() in ("true", "false"):
        return cell.lower() == "true"
    if cell.lower() in ("", "nan", "null", "none", "na"):
        return None
    try:
        value = json.loads(cell)
    except ValueError:
        return cell
    return value if isinstance(value, int | float) and math.isfinite(value) else cell


@COMMON
@given(
    st.lists(st.sampled_from(COLUMNS).flatmap(column_of), min_size=1, max_size=4),
    st.booleans(),
)
@example([["1000000000000000.0"] * ROWS, ["1"] * (ROWS - 2) + ["M", "1e5"]], True)  # long beside e
def test_every_cell_of_a_csv_falls_where_it_fell_in_training(
    tmp_path: Path, cells: list[list[str]], forced: bool
) -> None:
    columns = {f"c{i}": column for i, column in enumerate(cells)}
    options = {"categorical": tuple(columns)} if forced else {}
    table = read_unless("column", write(tmp_path / "a.csv", columns), **options)
    if table is None:
        return
    schema, x = table
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    check(schema, x, rows)
    check(schema, x, as_sent(Rows(x, np.zeros(ROWS, np.int64)), schema).x.tolist())
    own = [
        [
            cell if column.kind == "categorical" and _means_text(column, cell) else as_json(cell)
            for column, cell in zip(schema.columns, row, strict=True)
        ]
        for row in rows
    ]
    check(schema, x, own)


def _means_text(column: Any, cell: str) -> bool:
    """Whether a word that JSON would write as null is a text like others here."""
    return column.notation.kind == "plain" and as_json(cell) is None and cell != ""


TYPED: dict[str, tuple[st.SearchStrategy[Any], pa.DataType]] = {
    "int64": (st.integers(-(2**63), 2**63 - 1), pa.int64()),
    "uint64": (st.integers(2**53, 2**64 - 1), pa.uint64()),
    "float64": (st.floats(-1e30, 1e30), pa.float64()),
    "float32": (st.floats(-(2.0**99), 2.0**99, width=32), pa.float32()),
    "bool": (st.booleans(), pa.bool_()),
    "text": (WORDS, pa.string()),
    "decimal": (st.decimals(-(10**6), 10**6, places=2), pa.decimal128(12, 2)),
    "date": (st.dates(), pa.date32()),
    "timestamp": (st.datetimes(), pa.timestamp("us")),
    "time": (st.times(), pa.time64("us")),
}


def own_type(value: Any) -> Any:
    """A value as JSON writes it."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


@COMMON
@given(st.sampled_from(sorted(TYPED)), st.booleans(), st.booleans(), st.data())
def test_every_cell_of_a_parquet_falls_where_it_fell_in_training(
    tmp_path: Path, kind: str, forced: bool, gaps: bool, drawn: st.DataObject
) -> None:
    values, arrow = TYPED[kind]
    some = drawn.draw(st.lists(values, min_size=2, max_size=6)) + [None] * gaps
    cells = (some * ROWS)[:ROWS]
    columns = {"c": pa.array(cells, arrow), "label": pa.array([i % 2 for i in range(ROWS)])}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    table = read_unless(
        "would be one number", tmp_path / "a.parquet", categorical=("c",) if forced else ()
    )
    if table is None:
        return
    schema, x = table
    check(schema, x, [[own_type(value)] for value in cells])
    texts = [[None if value is None else str(value)] for value in cells]
    check(schema, x, texts)


@COMMON
@given(st.sampled_from(["int64", "uint64", "float64", "float32", "bool"]), st.booleans(), st.data())
def test_every_value_of_an_array_falls_where_it_fell_in_training(
    tmp_path: Path, dtype: str, forced: bool, drawn: st.DataObject
) -> None:
    some = drawn.draw(st.lists(TYPED[dtype][0], min_size=2, max_size=6))
    values = np.array((some * ROWS)[:ROWS], dtype=dtype)
    np.savez(tmp_path / "a.npz", x=values[:, None], y=np.arange(ROWS) % 2)
    table = read_unless(
        "would be one number", tmp_path / "a.npz", categorical=("x0",) if forced else ()
    )
    if table is None:
        return
    schema, x = table
    check(schema, x, [[value] for value in values.tolist()])
    check(schema, x, [[str(value)] for value in values.tolist()])


def test_two_numbers_that_float32_would_make_one_are_two_categories(tmp_path: Path) -> None:
    values = np.array([0.0, -1e-187] * (ROWS // 2))
    np.savez(tmp_path / "a.npz", x=values[:, None], y=np.arange(ROWS) % 2)
    schema, x = read(tmp_path / "a.npz", categorical=("x0",))
    assert len(set(x[:, 0].tolist())) == 2
    check(schema, x, [[value] for value in values.tolist()])


def test_numbers_that_mean_missing_do_so_in_every_protocol(tmp_path: Path) -> None:
    columns = {"c": ["-999", "5", "6", "7"] * 10}
    schema, x = read(write(tmp_path / "a.csv", columns | {"d": ["1"] * 40}), missing=("-999",))
    check(schema, x[:4], [[-999, 1], [5, 1], ["6", 1], [7.0, 1]])
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, 2], "data": [-999, 1]}
    asked = decode_infer(json.dumps({"inputs": [tensor]}).encode(), schema, 4)
    np.testing.assert_array_equal(asked.x, x[:1])
    binary = tensor | {"parameters": {"binary_data_size": 8}}
    del binary["data"]
    head = json.dumps({"inputs": [binary]}).encode()
    body = head + np.array([-999, 1], dtype=np.float32).tobytes()
    np.testing.assert_array_equal(decode_infer(body, schema, 4, str(len(head))).x, x[:1])


@pytest.mark.parametrize(
    ("cells", "value", "expected"),
    [
        (["2024-03-31"], "31.03.2024", "a date such as 2024-03-31, or a number of days since"),
        (["08:30:00"], "soon", "a time such as 08:30:00, or a number of seconds"),
        (["3,5", "4"], "3.5", "a number (as text with a decimal comma)"),
        (["1", "2"], "1,200", "a number"),
        (["1", "2"], "NA", "a number"),
        (["1", ""], "one", "a number, or null where it is missing"),
    ],
)
def test_a_cell_that_no_file_has_is_refused_with_what_was_expected(
    tmp_path: Path, cells: list[str], value: str, expected: str
) -> None:
    columns = {"c": (cells * ROWS)[:ROWS], "d": ["1"] * ROWS}
    schema, _ = read(write(tmp_path / "a.csv", columns))
    with pytest.raises(InputError) as caught:
        decode_instances(json.dumps({"instances": [[value, 1]]}).encode(), schema, 1)
    assert caught.value.field == "instances[0].c"
    assert caught.value.expected.startswith(expected)
    assert caught.value.got == repr(value)
