"""Laws of what lies at a path: told by name or content, and never guessed."""

import zipfile
from pathlib import Path

import pytest

from models import data
from models.base.errors import DataError
from models.data import Source
from models.data.catalogue import CATALOGUE, CONVERSIONS
from models.data.found import format_of, is_hidden, name_of, walk
from tests import samples


@pytest.mark.parametrize("suffix", sorted(CONVERSIONS))
def test_a_file_that_is_not_read_says_how_to_convert_it(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"anything")
    with pytest.raises(DataError, match=r"is not read: it is .{20}") as caught:
        data.load(str(tmp_path / f"a{suffix}"))
    assert CONVERSIONS[suffix] in str(caught.value)
    assert any(
        word in CONVERSIONS[suffix]
        for word in (".npz", "to_parquet", "to_csv", "write.csv", "CSV", ".jsonl", "csv", "unpack")
    ), "it says what to make of it"


@pytest.mark.parametrize(
    "name", [f"a{suffix}" for record in CATALOGUE.values() for suffix in record.suffixes]
)
def test_every_suffix_of_a_format_tells_it_and_is_no_part_of_the_name(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert (tmp_path / name).name.endswith(CATALOGUE[format_of(tmp_path / name)].suffixes)
    assert name_of(Source(str(tmp_path / name))) == "a"


@pytest.mark.parametrize(("inside", "form"), [("a.csv", "csv"), ("a.jsonl", "jsonl")])
def test_an_archive_of_one_file_is_of_its_format(tmp_path: Path, inside: str, form: str) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(inside, "x")
        archive.writestr("__MACOSX/._x", "x")
    assert format_of(path) == form
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("b.csv", "x")
    with pytest.raises(DataError, match="is an archive: unpack it first"):
        format_of(path)


SYSTEM = ("@eaDir/cat.png", ".DS_Store", "__MACOSX/a/._b.png", "Thumbs.db", ".git/x/y.png")


@pytest.mark.parametrize("name", SYSTEM)
def test_what_systems_put_beside_files_is_left_out_and_told(tmp_path: Path, name: str) -> None:
    samples.write_folder(tmp_path / "images")
    plain = data.load(str(tmp_path / "images"))
    for place in (tmp_path / "images", tmp_path / "images" / "cat"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(b"no image")
    loaded = data.load(str(tmp_path / "images"))
    assert loaded.fingerprint == plain.fingerprint
    told = [note for note in loaded.notes if note not in plain.notes]
    hidden = next(part for part in Path(name).parts if is_hidden(Path(part)))
    assert told == [f"left out, for systems put such files and folders there: {hidden!r}"]


def test_files_of_other_formats_in_a_folder_are_told(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    samples.write_csv(tmp_path / "a" / "train.csv", samples.people())
    (tmp_path / "a" / "test.xlsx").touch()
    (tmp_path / "a" / "readme.txt").touch()
    assert "left out, for they are of another format: test.xlsx" in (
        data.load(str(tmp_path / "a")).notes
    )


def test_a_folder_is_walked_in_a_fixed_order_without_what_is_hidden(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a", "c/.d/e", "@eaDir/f", "~$x.xlsx"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [str(path.relative_to(tmp_path)) for path in walk(tmp_path)] == ["a", "b/1", "b/2"]


def test_files_may_lie_deep(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / "c" / "d" / "e"
    folder.mkdir(parents=True)
    samples.write_csv(folder / "x.csv", samples.people())
    assert data.load(str(tmp_path)).source.format == "csv"
