"""Laws of faults: one run names all that is wrong with a source, whatever finds it."""

from pathlib import Path

import pytest

from models import data
from models.base.errors import DataError
from models.data import Source
from tests import samples

GOOD = [f"{i}.5,{i % 4},{['red', 'blue'][i % 2]},0,{'yes' if i % 3 else 'no'}" for i in range(60)]
HEADER = "size,count,colour,spare,label"


def faults_of(path: Path, **options: object) -> list[str]:
    with pytest.raises(DataError) as caught:
        data.load(Source(str(path), **options))  # type: ignore[arg-type]
    first, *lines = str(caught.value).split("\n")
    return [line.strip() for line in lines] or [first]


def test_eight_faults_of_one_file_are_named_in_one_run(tmp_path: Path) -> None:
    rows = list(GOOD)
    rows[4] = "1,2,red"  # a row that is too short
    rows[9] = "1.5,1,blue,0,"  # no label
    rows[14] = "1.5,\0,blue,0,yes"  # a NUL byte
    rows[19] = "1.5,1,red,0,perhaps"  # a class with one row
    rows[24] = "a lot,1,red,0,yes"  # no number
    head = "size,count,colour,spare,label,void,void,"
    wide = [
        row + f",,{i},{i}" if i != 4 else row for i, row in enumerate(rows)
    ]  # two columns of one name, one without a name, one that is empty
    path = tmp_path / "a.csv"
    path.write_text("\n".join([head, *wide]) + "\n")
    told = faults_of(path, ignore=("nowhere",))
    wanted = [
        "row 5: 3 cells, expected 8",
        "row 15: column 'count' holds a NUL byte",
        "column 8 has no name",
        "2 columns are named 'void'",
        "no column 'nowhere', which --ignore names",
        "column 'size' holds numbers, but also 'a lot'",
        "row 10: the label is missing",
        "class 'perhaps' has 1 row",
        "column 'void' has no value in any row",
    ]
    for words in wanted:
        assert sum(words in each for each in told) == 1, words
    assert len(told) == len(wanted)


def test_faults_of_all_files_and_parts_are_named_in_one_run(tmp_path: Path) -> None:
    (tmp_path / "train-1.csv").write_text("\n".join([HEADER, *GOOD, "1,2"]) + "\n")
    (tmp_path / "train-2.csv").write_bytes(
        ("\n".join([HEADER, *GOOD]) + "\n1,2,\xe9,0,no\n").encode("latin-1")
    )
    (tmp_path / "test.csv").write_text("\n".join([HEADER, *GOOD, "1,2,red,0,perhaps", "1"]) + "\n")
    told = faults_of(tmp_path)
    wanted = [
        "train-1.csv, row 61: 2 cells",
        "train-2.csv, line 62: byte 0xe9",
        "test.csv, row 62: 1 cell",
        "test.csv, row 61: label 'perhaps' does not occur in the training part",
    ]
    for words in wanted:
        assert sum(words in each for each in told) == 1, words
    assert len(told) == len(wanted)


def test_a_column_that_is_wrong_hides_no_other(tmp_path: Path) -> None:
    columns = samples.people() | {"a": ["x1", *range(59)], "b": [f"t{i}" for i in range(60)]}
    columns["label"][3] = None
    told = faults_of(samples.write_csv(tmp_path / "a.csv", columns))
    assert len(told) == 3
    assert sum("column 'a'" in each for each in told) == 1
    assert sum("column 'b' has 60 different" in each for each in told) == 1
    assert sum("row 4: the label is missing" in each for each in told) == 1
