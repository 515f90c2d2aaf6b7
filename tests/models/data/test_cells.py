"""Laws of cells: what a text is, in a file and from a client."""

import math
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import data
from models.base.errors import DataError
from models.data import Source
from models.data.cells import key_of, key_of_number, read_number
from models.data.cells.judging import judge
from models.data.cells.precision import merging_pair
from models.data.cells.texts import Law, Texts
from models.data.formats.arrow_casts import cast_texts
from models.versions.schema import Column, Notation
from tests import samples

CASES = (Path(__file__).parents[3] / "../shared/cases/tables").resolve()
ROWS = 120


def law_of(*texts: str, **options: Any) -> Law:
    return judge(Texts("c", texts, [1] * len(texts), lambda p: f"row {p + 1}"), **options)


def refusal_of(*texts: str, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        law_of(*texts, **options)
    return str(caught.value)


def case(name: str) -> str:
    path = CASES / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return str(path)


def column_of(folder: Path, cells: list[Any], **options: Any) -> Column:
    """The schema's column of a CSV with these cells, repeated."""
    rows = {"c": (cells * ROWS)[:ROWS], "n": range(ROWS), "label": [0, 1] * (ROWS // 2)}
    path = samples.write_csv(folder / "a.csv", rows)
    return data.load(Source(str(path), **options)).schema.columns[0]


@pytest.mark.parametrize(
    ("texts", "kind", "notation"),
    [
        (("1", "2.5", "-3e2", ".5", "+4"), "numeric", Notation()),
        (("1", "NA", "None", "n/a", "-", "?", "#N/A", "NULL"), "numeric", Notation()),
        (("3,5", "3"), "numeric", Notation(decimal=",")),
        (("1,450", "950", "12,500"), "numeric", Notation(grouping=",")),
        (("1,234,567", "5"), "numeric", Notation(grouping=",")),
        (("1.234.567", "5"), "numeric", Notation(decimal=",", grouping=".")),
        (("1.200,50", "3"), "numeric", Notation(decimal=",", grouping=".")),
        (("1\u00a0200", "1 300,5"), "numeric", Notation(decimal=",", grouping=" ")),
        (("12'500", "3.5"), "numeric", Notation(grouping="'")),
        (("1,00,000", "99"), "numeric", Notation(grouping=",")),
        (("\u22125", "3"), "numeric", Notation()),
        (("$1,200.50", "-$3"), "numeric", Notation(grouping=",", unit="$")),
        (("5 \u20ac", "7,5\u00a0\u20ac"), "numeric", Notation(decimal=",", unit="\u20ac")),
        (("12%", "3.5 %", "0"), "numeric", Notation(unit="%")),
        (("2.562", "0.708"), "numeric", Notation()),
        (("2.562", "1.708"), "numeric", Notation()),
        (("2024-02-29", "2023-12-31 23:59:59.5", "NaT"), "numeric", Notation("date")),
        (("2024/02/29", "2024-03-01T00:00:00+02:00"), "numeric", Notation("date")),
        (("08:30", "23:59:59"), "numeric", Notation("time")),
        (("3:45", "12:01"), "numeric", Notation("time")),
        (("True", "FALSE", "t"), "categorical", Notation("truth")),
        (("T", "F", "NA"), "categorical", Notation("truth")),
        (("F",), "categorical", Notation()),
        (("yes", "no"), "categorical", Notation()),
        (("00501", "10001"), "categorical", Notation("code")),
        (("00501", "NA"), "categorical", Notation("code")),
        (("007", "a"), "categorical", Notation()),
        (("A", "B", "None"), "categorical", Notation()),
        (("1", "2", "A", "B", "C"), "categorical", Notation()),
    ],
)
def test_what_a_column_is_follows_from_all_its_texts(
    texts: tuple[str, ...], kind: str, notation: Notation
) -> None:
    assert law_of(*texts) == Law(kind, notation)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (("1,200", "12,500"), r"'1,200' \(row 1\) can be 1200 or 1.200; say with --decimal"),
        (("1,200", "3,5"), r"'1,200' \(row 1\) can be 1200 or 1.200"),
        (("1.200", "3"), r"can be 1.200 or 1200; say with --decimal"),
        (("3,5", "3.5"), "'3,5' .* with a decimal comma, '3.5' .* with a decimal point"),
        (("12%", "5"), "different units: '12%' .*'5'"),
        (("$5", "7", "\u20ac8"), "different units"),
        (("1", "2", "3", "4", "five"), r"numbers, but also 'five' \(row 5\).*--missing 'five'"),
        (("1", "2", "3", "4", "inf"), r"also 'inf' \(row 5\)"),
        (("2024-01-01", "2024-01-02", "2024-13-01"), None),
        (("03/04/2024", "13/04/2024"), "do not say for certain what is day.* write them as 2024-"),
        (("Jan 5, 2024", "Feb 6, 2024"), "dates such as 'Jan 5, 2024'"),
        (("3:45", "1:03:45"), "times of two and of three numbers"),
        (("2024-01-0" + d for d in "12345"), None),
    ],
)  # fmt: skip
def test_what_can_be_read_in_two_ways_is_refused_in_a_sentence(
    texts: tuple[str, ...], sentence: str | None
) -> None:
    if sentence is None:
        law_of(*texts)
        return
    assert re.search(sentence, refusal_of(*texts))


def test_at_most_five_odd_texts_are_named() -> None:
    odd = [f"x{i}" for i in range(8)]
    told = refusal_of(*map(str, range(90)), *odd)
    assert "'x4' (row 95) and 3 more" in told
    assert "x5" not in told


def test_the_option_decides_which_mark_stands_before_the_decimals() -> None:
    assert law_of("1,200", "12,500", decimal=",").notation == Notation(decimal=",")
    assert law_of("1,200", "12,500", decimal=".").notation == Notation(grouping=",")
    assert law_of("1.200", "3", decimal=",").notation == Notation(decimal=",", grouping=".")
    assert "'1,5' (row 1) is no number" in refusal_of("1,5", "2.5", decimal=".")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_read_as_python_reads_it(number: float) -> None:
    assert read_number(repr(number), Notation()) == number


@given(st.text(max_size=12))
def test_any_text_is_a_number_a_missing_value_or_none(text: str) -> None:
    for kind in ("plain", "number", "date", "time"):
        for decimal in (".", ","):
            notation = Notation(kind, decimal, " ,.'", "%")
            number = read_number(text, notation)
            assert number is None or math.isnan(number) or math.isfinite(number)
    for kind in ("plain", "number", "code", "truth"):
        notation = Notation(kind)  # type: ignore[arg-type]
        key = key_of(text, notation)
        assert key is None or key_of(key, notation) == key, "a key is its own key"


@given(st.integers(-(10**40), 10**40))
def test_a_whole_number_of_any_size_keeps_its_digits(number: int) -> None:
    for kind in ("plain", "number"):
        assert key_of(str(number), Notation(kind)) == str(number) == key_of_number(number)
        assert key_of(f"{number}.0", Notation(kind)) == str(number)


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=1e-300))
def test_the_text_of_a_number_and_the_number_have_one_key(number: float) -> None:
    assert key_of(repr(number), Notation("number")) == key_of_number(number)


def test_a_long_text_takes_no_longer_than_its_length() -> None:
    started = time.process_time()
    for text in (
        "1" * 10**6 + "x",
        "-" + " " * 10**6 + "x",
        "1,111" * 10**5,
        "0" * 10**6,
        "9" * 10**6,
    ):
        for kind in ("plain", "number", "date", "time"):
            read_number(text, Notation(kind, grouping=","))
        key_of(text, Notation())
    assert time.process_time() - started < 20  # what is quadratic takes hours


# Rows of the cases


@pytest.mark.parametrize("options", [{}, {"categorical": ("zip",)}])
def test_a_code_with_a_leading_zero_is_a_text(options: dict[str, Any]) -> None:
    column = data.load(Source(case("zip.csv"), **options)).schema.columns[0]
    assert column.categories == ("00501", "02138", "10001", "60601", "90210")


def test_spellings_of_true_are_one_category(tmp_path: Path) -> None:
    assert data.load(case("bool.csv")).schema.columns[0].categories == ("false", "true")
    assert column_of(tmp_path, ["True", "TRUE", "true", "F"]).categories == ("false", "true")


def test_whole_numbers_beyond_two_to_53_are_three_merchants() -> None:
    found = data.load(Source(case("bigid.csv"), categorical=("merchant",)))
    assert found.schema.columns[0].categories == tuple(str(2**53 + i) for i in range(3))


@pytest.mark.parametrize(("name", "first"), [("epoch.csv", "17000000"), ("bigid.csv", "9007199")])
def test_numbers_that_float32_merges_are_refused_by_name(name: str, first: str) -> None:
    with pytest.raises(DataError, match=rf"{first}\d+ and {first}\d+ would be one number.*origin"):
        data.load(case(name))


def test_thousands_commas_and_words_are_read_and_told() -> None:
    price = data.load(case("thousands.csv"))
    assert price.schema.columns[0].high == 12_500
    assert "column 'price': '12,500' is read as 12500" in price.notes
    comma = data.load(case("decimal_comma_mixed.csv"))
    assert (comma.schema.columns[0].kind, comma.schema.columns[0].high) == ("numeric", 29.5)
    none = data.load(case("token_none.csv"))
    assert (none.schema.columns[0].kind, none.schema.columns[0].missing) == ("numeric", True)
    assert "read as missing values: 'None', in 'age'" in none.notes


def test_penguins_are_an_ordinary_table() -> None:
    found = data.load(Source(case("penguins.csv"), label="species"))
    missing = {column.name: column.missing for column in found.schema.columns}
    assert missing["bill_length_mm"]
    assert not missing["year"]
    assert "NA" in found.schema.columns[5].categories, "among texts a word is a text"
    found = data.load(Source(case("penguins.csv"), label="species", missing=("NA",)))
    assert (found.schema.columns[5].categories, found.schema.columns[5].missing) == (
        ("female", "male"),
        True,
    )


# Missing values, by the file and not by the split


@pytest.mark.parametrize("row", range(0, 60, 7))
def test_one_missing_value_is_never_refused_whatever_part_it_falls_in(
    tmp_path: Path, row: int
) -> None:
    columns = samples.people() | {"income": [*range(row), "", *range(row + 1, 60)]}
    found = data.load(str(samples.write_csv(tmp_path / "a.csv", columns)))
    assert found.schema.columns[1].missing
    learnt = np.isnan(found.train.x[:, 1]).any()
    told = [note for note in found.notes if "no row of training lacks a value in 'income'" in note]
    assert len(told) == (not learnt)


def test_a_column_with_its_only_values_outside_training_is_not_refused(tmp_path: Path) -> None:
    for row in range(0, 60, 6):
        rare = [""] * row + ["7"] + [""] * (59 - row)
        path = samples.write_csv(tmp_path / "a.csv", samples.people() | {"rare": rare})
        column = data.load(str(path)).schema.columns[-1]
        assert (column.low, column.high, column.missing) == (7, 7, True)


def test_words_of_the_user_are_missing_everywhere(tmp_path: Path) -> None:
    cells = ["-999", "5", "6", "-999.0"]
    assert column_of(tmp_path, cells).low == -999
    column = column_of(tmp_path, cells, missing=("-999",))
    assert (column.low, column.high, column.missing) == (5, 6, True)
    column = column_of(tmp_path, cells, missing=("-999",), categorical=("c",))
    assert (column.categories, column.missing) == (("5", "6"), True)
    column = column_of(tmp_path, ["red", "unknown"], missing=("unknown",))
    assert (column.categories, column.missing) == (("red",), True)


# float32


@pytest.mark.parametrize(
    ("values", "merges"),
    [
        (np.arange(100) + 1_700_000_000, True),
        (np.append(np.arange(100) + 1_700_000_000, 0), True),
        (np.append(np.arange(100) + 1_700_000_000, np.arange(100)), True),
        (np.array([20_240_101 + day for day in range(28)]), True),
        (1_700_000_000 + np.random.default_rng(0).integers(0, 31_536_000, 5000), False),
        (np.random.default_rng(0).random(50_000), False),
        (np.random.default_rng(0).normal(size=50_000) * 1e9, False),
        (np.array([0.3, 0.1 + 0.2]), False),
        (np.repeat([0.1, 0.2, 0.3], 99) + 1e-17 * np.random.default_rng(0).normal(size=297), False),
        (np.round(np.random.default_rng(0).lognormal(8, 1, 50_000), 2), False),
        (np.array([2**53, 2**53 + 1]), True),
        (np.array([10**30, 10**30 + 1], dtype=object), True),
    ],
)
def test_only_differences_that_matter_are_refused(values: Any, merges: bool) -> None:
    pair = merging_pair(values)
    assert (pair is not None) == merges
    if pair is not None:
        assert pair[0] < pair[1]
        assert np.float32(pair[0]) == np.float32(pair[1])


# All faults, all types


def test_every_column_that_cannot_be_read_is_named_at_once(tmp_path: Path) -> None:
    columns = samples.people() | {
        "stamp": [1_700_000_000 + i for i in range(60)],
        "day": ["03/04/2024", "05/06/2024"] * 30,
        "size": [*range(55), *"abcde"],
        "price": ["1,200", "3,500"] * 30,
        "id": [f"user{i}" for i in range(60)],
    }
    with pytest.raises(DataError) as caught:
        data.load(str(samples.write_csv(tmp_path / "a.csv", columns, ";")))
    told = str(caught.value)
    assert all(f"column {name!r}" in told for name in ("stamp", "day", "size", "price", "id"))
    assert str(tmp_path / "a.csv") in told


def test_typed_columns_are_read_as_their_texts_are(tmp_path: Path) -> None:
    rows = 60
    days = [np.datetime64("2024-01-01") + i for i in range(rows)]
    table = {
        "day": pa.array(np.array(days), pa.date32()),
        "at": pa.array(np.array(days, "datetime64[us]"), pa.timestamp("us", "UTC")),
        "ns": pa.array(np.array(days, "datetime64[ns]"), pa.timestamp("ns")),
        "time": pa.array([i * 61 for i in range(rows)], pa.time32("s")),
        "flag": pa.array([i % 2 == 0 for i in range(rows)]),
        "id": pa.array([2**53 + i % 3 for i in range(rows)]),
        "money": pa.array(range(rows), pa.decimal128(9, 2)),
        "kind": pa.array([f"0{i % 3}" for i in range(rows)]).dictionary_encode(),
    }
    labels = [i % 2 for i in range(rows)]
    pq.write_table(pa.table(table | {"label": labels}), tmp_path / "a.parquet")
    texts = {name: [str(value) for value in column.to_pylist()] for name, column in table.items()}
    texts["ns"] = [str(day) for day in days]
    samples.write_csv(tmp_path / "a.csv", texts | {"label": labels})
    typed, written = (
        data.load(Source(str(tmp_path / name), categorical=("id",)))
        for name in ("a.parquet", "a.csv")
    )
    assert typed.schema == written.schema
    assert typed.fingerprint == written.fingerprint
    assert [c.notation.kind for c in typed.schema.columns] == [
        "date", "date", "date", "time", "truth", "number", "plain", "code",
    ]  # fmt: skip


def test_a_test_file_is_read_as_the_training_file_was(tmp_path: Path) -> None:
    train = {"n": range(60), "v": ["3,5", "4"] * 30, "z": ["00501", "10001"] * 30}
    train["label"] = [0, 0, 1, 1] * 15
    samples.write_csv(tmp_path / "train.csv", train, ";")
    samples.write_csv(
        tmp_path / "test.csv", {"n": [9], "v": ["7"], "z": ["10001"], "label": [1]}, ";"
    )
    found = data.load(str(tmp_path / "train.csv"))
    assert found.test.x.tolist() == [[9, 7, 1]]
    samples.write_csv(
        tmp_path / "test.csv", {"n": [9], "v": ["7.5"], "z": ["x"], "label": [1]}, ";"
    )
    with pytest.raises(DataError, match=r"column 'v' holds numbers in training, but here '7.5'"):
        data.load(str(tmp_path / "train.csv"))


ALIKE = st.one_of(
    st.lists(st.floats(-1e9, 1e9).map(repr), min_size=1),
    st.lists(st.decimals(-9999, 9999, places=3).map(str), min_size=1),
    st.lists(
        st.decimals(-9999, 9999, places=3).map(lambda d: str(d).replace(".", ",")), min_size=1
    ),
    st.lists(
        st.decimals(-9999, 9999, places=2).map(lambda d: str(d).replace(".", ",")), min_size=1
    ),
    st.lists(st.integers(-9999, 9999).map("{:,}".format), min_size=1),
    st.lists(st.dates().map(str) | st.datetimes().map(str), min_size=1),
    st.lists(st.text("0123456789.,-+eE:T ", max_size=8), min_size=1),
)


@given(ALIKE, st.lists(st.sampled_from(["", "NA", "nan", "None", "-"])))
def test_what_is_read_at_once_is_what_each_cell_says(cells: list[str], gaps: list[str]) -> None:
    texts = [text.strip() for text in (*cells, *gaps)]
    column = pa.chunked_array([pa.array(texts, pa.large_string())])
    cast = cast_texts(column, Source(""))
    if cast is None:
        return
    distinct = tuple(dict.fromkeys(filter(None, texts)))
    law = law_of(*distinct)
    assert law == Law("numeric", cast.notation)
    values = [math.nan if not text else read_number(text, law.notation) for text in texts]
    np.testing.assert_array_equal(cast.numbers, np.array(values, dtype=np.float64))
    assert set(cast.words) <= set(gaps) | set(texts)
