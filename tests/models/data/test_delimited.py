"""Laws of CSV files: what programs write around a table is no part of it, and nothing is lost."""

import codecs
import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import data
from models.base.errors import DataError
from models.data import PARTS, DataSet, Source
from models.data.formats.delimited import read_csv
from tests import samples

ROWS = [(f"{i}.5", str(i % 3), "yes" if i % 2 else "no") for i in range(40)]
LINES = ["a,b,label", *(",".join(row) for row in ROWS)]
PLAIN = "".join(f"{line}\n" for line in LINES)
CELLS = st.text(
    st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=("Cs",)), max_size=6
)


def load(path: Path, content: bytes | str, **options: object) -> DataSet:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return data.load(Source(str(path), **options))  # type: ignore[arg-type]


def refuse(path: Path, content: bytes | str, message: str) -> str:
    with pytest.raises(DataError, match=message) as caught:
        load(path, content)
    return str(caught.value)


def archive(**members: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return stream.getvalue()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return load(tmp_path_factory.mktemp("plain") / "a.csv", PLAIN)


def numbered(lines: list[str], first: str, number: Callable[[int], object]) -> str:
    """The lines with one more column in front."""
    return "".join(
        f"{first if place == 0 else number(place - 1)},{line}\n" for place, line in enumerate(lines)
    )


WRITTEN = {
    "excel": ("sep=;\r\n" + PLAIN.replace(",", ";").replace("\n", "\r\n"), ""),
    "excel, tab in quotes": ('"sep=\\t"\n' + PLAIN.replace(",", "\t"), ""),
    "excel with a mark": (codecs.BOM_UTF8 + b"SEP=,\n" + PLAIN.encode(), ""),
    "utf-16": (PLAIN.encode("utf-16"), ""),
    "utf-16, other end first": (codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"), ""),
    "old mac": (PLAIN.replace("\n", "\r"), ""),
    "a delimiter at the end of every row": (PLAIN.replace("\n", ",\n"), "column 4 is empty and"),
    "the same without a name": ("a,b,label\n" + PLAIN[10:].replace("\n", ",\n"), "column 4 is emp"),
    "a name of nothing": (PLAIN.replace("label", "label,"), ""),
    "comments": (f"# by me\n# 1,2,k\n{PLAIN}# the end\n", "1 line that begin"),
    "empty rows": (PLAIN + ",,\n , ,\n\n  \n", "2 rows of empty cells only left out"),
    "pandas' index": (numbered(LINES, "", int), "the first column has no name"),
    "pandas' index, read again": (numbered(LINES, "Unnamed: 0", int), "the first column has no"),
    "pandas' index, shuffled": (numbered(LINES, "", lambda i: i * 7 % 41), "the first column has"),
    "row names of R": ("\n".join([LINES[0], *(f'"r{i}",{r}' for i, r in enumerate(LINES[1:])), ""]),
                       "the first column has no name"),
    "unnamed gzip": (gzip.compress(PLAIN.encode()), ""),
    "unnamed zip": (archive(**{"in/b.csv": PLAIN, "__MACOSX/in/._b.csv": "x"}), ""),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRITTEN)
def test_what_programs_write_around_a_table_is_no_part_of_it(
    tmp_path: Path, plain: DataSet, kind: str
) -> None:
    content, note = WRITTEN[kind]
    loaded = load(tmp_path / "a.csv", content)
    assert loaded.fingerprint == plain.fingerprint
    own = [each for each in loaded.notes if each not in plain.notes]
    assert note in " ".join(own)
    assert bool(own) == bool(note), "what is left out is told, and nothing else"


@pytest.mark.parametrize("name", ["a.csv.zip", "a.zip", "a.csv.gz", "a.tsv"])
def test_packed_files_are_read_by_their_names(tmp_path: Path, plain: DataSet, name: str) -> None:
    content = {
        "a.csv.gz": gzip.compress(PLAIN.encode()),
        "a.tsv": PLAIN.replace(",", "\t").encode(),
    }.get(name, archive(**{"b.csv": PLAIN}))
    assert load(tmp_path / name, content).fingerprint == plain.fingerprint


def test_case_excel_sep() -> None:
    path = samples.case("tables/excel_sep.csv")
    loaded = data.load(str(path))
    assert [column.name for column in loaded.schema.columns] == ["a", "b"]
    rows = sum(len(getattr(loaded, part)) for part in PARTS)
    assert rows == len(path.read_text().split()) - 2


def test_cells_hold_line_breaks_in_files_of_any_size(tmp_path: Path) -> None:
    filler = "x" * 50_000
    rows = [f'{i},"{filler}\r\n{i}","{"ab"[i % 2]}"\n' for i in range(200)]
    (tmp_path / "a.csv").write_text("n,text,label\n" + "".join(rows), newline="")
    assert (tmp_path / "a.csv").stat().st_size > 9 << 20, "more than a block"
    sheet = read_csv(tmp_path / "a.csv")
    assert sheet.table.num_rows == 200
    assert sheet.table.column("text")[199].as_py() == f"{filler}\r\n199"
    (tmp_path / "a.csv").write_text(f"n,text,label\n1,{'x' * (9 << 20)},a\n2,y,b\n")
    assert read_csv(tmp_path / "a.csv").table.num_rows == 2, "a row longer than a block"


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8), st.sampled_from([",", ";", "\t"]))
def test_every_cell_comes_out_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], delimiter: str
) -> None:
    path = tmp_path_factory.mktemp("a") / "a.csv"
    quoted = [[f'"{cell}"' for cell in (cell.replace('"', '""') for cell in row)] for row in rows]
    text = "\n".join(delimiter.join(row) for row in [["first", "second"], *quoted]) + "\n"
    path.write_bytes(text.encode())
    sheet = read_csv(path, delimiter)
    assert not sheet.faults
    assert {field.type for field in sheet.table.schema} == {pa.large_string()}
    trimmed = [tuple(cell.strip(" \t\n\r\v\f") for cell in row) for row in rows]
    columns = sheet.table.to_pydict()
    full = [row for row in trimmed if any(row)]
    assert list(zip(columns["first"], columns["second"], strict=True)) == full


def test_all_rows_that_do_not_fit_are_named_and_the_others_keep_their_numbers(
    tmp_path: Path,
) -> None:
    text = "a,label\n1,x\n2\n3,x\n4,y,z\n5,\n# 6\n7\n8,\n" + "1,x\n2,y\n" * 9
    told = refuse(tmp_path / "a.csv", text, "a.csv has 2 faults:")
    assert "row 2: 1 cell, expected 2 as in the header" in told
    assert "(also in 2 other rows: 4 (3 cells), 7 (1 cell))" in told
    assert (
        "row 5: the label is missing; fill it, or leave the row out (also in 1 other row: 8)"
        in (told)
    )


def test_nul_bytes_are_named_by_row_and_column(tmp_path: Path) -> None:
    text = "a,b,label\n1,2,x\n1\n\0,2,x\n1,\0,x\n1,2,x\0\n1,2\0,x\n" + "1,2,x\n2,3,y\n" * 9
    told = refuse(tmp_path / "a.csv", text, "4 faults")
    assert "row 3: column 'a' holds a NUL byte" in told
    assert "row 4: column 'b' holds a NUL byte" in told
    assert "(also in 1 other row: 6)" in told
    assert "row 5: column 'label' holds a NUL byte" in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('1,2,"x\n3,4,y\n5,6,z\n', "row 1: a quote that opens here is never closed"),
        ('1,2,x\n1,"2,x\n3,4,y\n', "row 2: a quote that opens here is never closed"),
        ('1,"2,x\n3,"4",y\n', "row 1: column 'b' holds line breaks .* in row 1 something follows"),
        ('1,"2,x\n3,4,"y"\n', "row 1: 2 cells, .* opens in this row is closed in a later line"),
    ],
)
def test_a_quote_that_swallows_rows_is_named(tmp_path: Path, text: str, message: str) -> None:
    refuse(tmp_path / "a.csv", "a,b,label\n" + text, message)


def test_a_cell_that_may_be_rows_is_told_and_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('a,b,label\n1,"2,x\n3,4",y\n5,6,x\n')
    sheet = read_csv(tmp_path / "a.csv")
    assert not sheet.faults
    assert sheet.notes == (
        "a.csv, row 1: column 'b' holds line breaks and as many delimiters as whole rows; if those "
        "are rows, a quote is missing",
    )


def test_bytes_of_another_encoding_are_named_with_what_they_may_mean(tmp_path: Path) -> None:
    rows = PLAIN + "1,2,caf\xe9\n1,2,na\xefve\n"
    told = refuse(tmp_path / "a.csv", rows.encode("cp1252"), "line 42: byte 0xe9 is not UTF-8")
    assert "(also in 1 other line: 43)" in told
    assert "iconv -f WINDOWS-1252 -t UTF-8, if 'caf\xe9' is what stands there" in told
    told = refuse(tmp_path / "a.csv", b"a,b,label\n1,\x81\x8d,x\n", "byte 0x81 is not UTF-8")
    assert "WINDOWS-1252" not in told, "no text of that encoding holds such a byte"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b,b,c,c,c,label\n1,2,3,4,5,6,x\n", "2 columns are named 'b'.*\n.*3 columns are named"),
        (b"a\0,b,label\n" + b"1,2,x\n2,3,y\n" * 9, "the name 'a.x00' of a column holds a NUL byte"),
        (b"a,,b,,label\n1,2,3,4,x\n", "columns 2, 4 have no name"),
        (b"5.1,3.5,setosa\n4.9,3,setosa\n", "first line holds numbers"),
        (b"5,3,setosa\n4,3,setosa\n", "first line holds numbers"),
        (b"My report\n\na,b,label\n1,2,x\n", "later rows have 3 cells: take the line out if it is"),
        (b"<html><table>", "is HTML or XML"),
        (b"PAR1....", "is no text but a Parquet file"),
        (b"\xd0\xcf\x11\xe0....", "a workbook of old Excel"),
        (archive(**{"xl/workbook.xml": ""}), "is an Excel workbook"),
        (archive(a="", b=""), r"the archive holds 2 files \('a', 'b'\); expected one: unpack it"),
        (archive(a=PLAIN)[:-30], "packed data is truncated or damaged"),
        (gzip.compress(PLAIN.encode())[:-9], "packed data is truncated or damaged"),
        (gzip.compress(PLAIN.encode())[:-8] + b"checksum", "packed data is truncated or damaged"),
    ],
)
def test_a_file_that_is_no_table_says_what_it_is(
    tmp_path: Path, content: bytes, message: str
) -> None:
    refuse(tmp_path / "a.csv", content, f"(?s)a.csv.*{message}")


def test_years_and_pixels_are_names_of_columns(tmp_path: Path) -> None:
    rows = "".join(f"c{i % 3},{i / 7},{i / 9},{'ab'[i % 2]}\n" for i in range(40))
    loaded = load(tmp_path / "a.csv", "country,1990,1991,label\n" + rows)
    assert [column.name for column in loaded.schema.columns] == ["country", "1990", "1991"]
    rows = "".join(f"{i % 2},{i / 7},{i / 9}\n" for i in range(40))
    loaded = load(tmp_path / "a.csv", "label,0,1\n" + rows)
    assert [column.name for column in loaded.schema.columns] == ["0", "1"]


def test_a_header_may_begin_with_a_hash(tmp_path: Path) -> None:
    loaded = load(tmp_path / "a.csv", f"# by me\n#{PLAIN}")
    assert [column.name for column in loaded.schema.columns] == ["#a", "b"]
