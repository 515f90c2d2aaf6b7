"""Laws of bad data: a sentence that says which file and row, what was expected and what to do."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from models import data
from models.base.errors import DataError
from models.data import Source
from models.data.formats.images import Stack
from tests import samples

Write = Callable[[Path], Any]
X, Y = samples.pictures(40)
TABLE = samples.people()


def refused(path: Path, message: str, **options: Any) -> None:
    with pytest.raises(DataError, match=message) as caught:
        data.load(Source(str(path), **options))
    lines = str(caught.value).split("\n")
    assert len(lines) == 1 or " faults:" in lines[0], "a sentence, or a list of them"


def changed(name: str, row: int, value: Any) -> dict[str, list[Any]]:
    """The table with one value replaced."""
    columns = {key: list(values) for key, values in TABLE.items()}
    columns[name][row] = value
    return columns


def test_nothing_or_something_unknown_at_a_path(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere.csv", r"no such file or folder: .*nowhere.csv' \(bundled sets")
    refused(
        tmp_path, "cannot be told; found none; expected npz, idx, folder, parquet, csv or jsonl"
    )
    (tmp_path / "a.bin").write_bytes(b"what is this")
    refused(tmp_path / "a.bin", r"a.bin: the format cannot be told .* --format")
    refused(tmp_path, "cannot be told; found 'a.bin'")
    (tmp_path / "empty").touch()
    refused(tmp_path / "empty", "empty: the file is empty")
    np.save(tmp_path / "x.npy", X)
    refused(tmp_path / "x.npy", r"save it with its labels as .npz \(x and y\)")
    (tmp_path / "a.png").write_bytes(samples.encoded(X[0]))
    refused(tmp_path / "a.png", "put images in one folder per class")


# CSV


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "a.csv: the file is empty; expected a header and rows"),
        (b"\n\n", "a.csv: the file is empty"),
        (b"n,label\n", "a.csv: no rows"),
        (b"n:label\n1:a\n", "one column found, named 'n:label'; .* --delimiter"),
        (
            b"5.1,3.5,0\n4.9,3.0,1\n",
            r"first line holds numbers \('5.1', '3.5', '0'\); expected",
        ),
        (b"n,,label\n0,1,a\n", "a.csv: column 2 has no name; give every column one"),
        (b"n,n,label\n0,1,a\n", "a.csv: 2 columns are named 'n'; expected different names"),
        (b"n,label\n1,a\n2,b\n3,b,c\n4,a\n", "a.csv, row 3: 3 cells, expected 2 .*: '3,b,c'"),
        (b"n,label\n1,a\n2,b\n3\n4,a\n", "a.csv, row 3: 1 cell, expected 2"),
        (b"n,label\n1,a\n2,caf\xe9\n", "a.csv, line 3: byte 0xe9 is not UTF-8; save it as UTF-8"),
        (b"n,label,l\xe9\n1,a,2\n", "a.csv, line 1: byte 0xe9 .* if 'l\xe9' is what stands there"),
        ("n,label\n1,a\n".encode("utf-16-le"), "a.csv: looks like UTF-16LE without a byte order m"),
        ("n,label\n1,a\n".encode("utf-16")[:-1], "a.csv: begins with a mark of UTF-16, but is no"),
        ("n,label\n1,a\n".encode("utf-32"), "a.csv: is UTF-32; save it as UTF-8"),
        (b"n,kind\n1,a\n", "no label column found; say which with --label .found 'n', 'kind'"),
        (b"Class,target,n\n1,a,2\n", "columns 'Class', 'target' could each be the label"),
        (b"n,label\n" + b"1,a\n" * 9, "a.csv: every row has the label 'a'"),
        (b"n,label\n1,a\n2,\n", "a.csv, row 2: the label is missing"),
        (b"n,label\n1,3\n2,0.5\n", "a.csv, row 2: label '0.5': expected a whole number or a text"),
        (b"n,label\n1,3\n2,nan\n", "a.csv, row 2: the label is missing"),
        (
            b"n,label\n1,a\n2,b\n",
            r"2 classes .* few rows: 'a' \(1 row\), 'b' \(1 row\); .* 5 rows",
        ),
        (b"label,kind\n1,a\n", "every row has the label '1'"),
    ],
)
def test_a_csv_that_cannot_be_used(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(text)
    refused(tmp_path / "a.csv", message)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text))
    refused(tmp_path / "a.csv.gz", message.replace("a.csv", "a.csv.gz"))


def test_a_wrong_delimiter_names_what_was_found(tmp_path: Path) -> None:
    path = samples.write_csv(tmp_path / "a.csv", TABLE)
    found = r"one column found with delimiter ';', named 'age,income,city,label'; ',' gives 4"
    refused(path, found, delimiter=";")
    refused(path, "--delimiter ';;': expected one ASCII character, or tab", delimiter=";;")
    samples.write_csv(tmp_path / "tab.csv", TABLE, "\t")
    for word in ("\t", "\\t", "tab"):
        assert len(data.load(Source(str(tmp_path / "tab.csv"), delimiter=word)).classes) == 2


def test_damaged_gzip_is_named(tmp_path: Path) -> None:
    whole = samples.write_csv(tmp_path / "a.csv.gz", samples.people(2000)).read_bytes()
    for size in (40, len(whole) // 2):
        (tmp_path / "b.csv.gz").write_bytes(whole[:size])
        refused(tmp_path / "b.csv.gz", "b.csv.gz")


# Tables


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (TABLE, {"label": "nope"}, "no label column 'nope'; found 'age', 'income', 'city', 'lab"),
        (TABLE, {"ignore": ("nope",)}, "no column 'nope', which --ignore names; found 'age'"),
        (TABLE, {"categorical": ("nope",)}, "no column 'nope', which --categorical names"),
        (TABLE, {"ignore": ("age", "income", "city")}, "there is no column besides the label"),
        (changed("age", 4, "inf"), {}, r"column 'age' .* also 'inf' \(a.csv, row 5\)"),
        (changed("age", 4, 1e39), {}, "column 'age' holds '1e.39' .*row 5.* at most 3.4"),
        (TABLE | {"void": [None] * 60}, {}, "column 'void' has no value in any row"),
        (TABLE | {"id": [f"u{i}" for i in range(60)]}, {}, "'id' has 60 different .* --ignore"),
        (
            TABLE | {"when": [f"0{1 + i % 9}/02/2024" for i in range(60)]},
            {},
            "'when' holds dates such as '01/02/2024' .* write them as 2024-",
        ),
        (TABLE | {"price": [f'"{i},500"' for i in range(1, 61)]}, {}, "1500 or 1.500; .*--decimal"),
        (
            TABLE | {"n": ["five", *(f"{i}.5" for i in range(59))]},
            {},
            r"'n' holds numbers, but also 'five' \(a.csv, row 1\); .*--missing 'five'",
        ),
        (TABLE, {"label": "income"}, "row 1: the label is missing"),
        (TABLE, {"label": "age"}, "classes have too few rows: '"),
        (TABLE, {"test": "a.csv", "label": "city", "ignore": ("label", "x")}, "no column 'x'"),
    ],
)
def test_a_table_that_cannot_be_used(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    columns: dict[str, list[Any]],
    options: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(samples.write_csv(tmp_path / "a.csv", columns), message, **options)


def test_a_test_part_that_does_not_fit_training_is_refused(tmp_path: Path) -> None:
    full = TABLE | {"income": list(range(60))}
    samples.write_csv(tmp_path / "train.csv", full)
    samples.write_csv(tmp_path / "test.csv", changed("income", 3, None))
    notes = data.load(str(tmp_path / "train.csv")).notes
    assert any("no row of training lacks a value in 'income'" in note for note in notes)
    samples.write_csv(tmp_path / "test.csv", {k: v[:9] for k, v in full.items() if k != "age"})
    refused(tmp_path / "train.csv", "test part of train.csv: there is no column 'age', which")
    samples.write_csv(tmp_path / "test.csv", full | {"age": ["old"] * 60})
    refused(tmp_path / "train.csv", "'age' holds numbers in training, but here 'old'")
    samples.write_csv(tmp_path / "test.csv", full | {"label": ["no"] * 30 + ["perhaps"] * 30})
    refused(tmp_path / "train.csv", "test.csv, row 31: label 'perhaps' does not occur in the train")
    samples.write_csv(tmp_path / "other.csv", {"age": [1], "income": [2], "city": ["Rome"]})
    other = str(tmp_path / "other.csv")
    refused(tmp_path / "train.csv", "other.csv: no label column 'label'; found 'age'", test=other)
    samples.write_csv(tmp_path / "test.csv", {k: [] for k in full})
    refused(tmp_path / "train.csv", "the test part of train.csv: no rows")


def test_files_of_a_folder_must_fit_together(tmp_path: Path) -> None:
    samples.write_parquet(tmp_path / "a.parquet", TABLE)
    samples.write_parquet(tmp_path / "b.parquet", {k: TABLE[k] for k in ("age", "city", "label")})
    refused(tmp_path, "b.parquet: other columns than .*a.parquet; 'income' stand in one")
    samples.write_parquet(tmp_path / "b.parquet", TABLE | {"age": ["old"] * 60})
    refused(tmp_path, "different types in a column")
    (tmp_path / "a.parquet").rename(tmp_path / "test.parquet")
    (tmp_path / "b.parquet").unlink()
    refused(tmp_path, "found 'test.parquet', but no training part")


def test_parquet_that_is_none_or_damaged(tmp_path: Path) -> None:
    whole = samples.write_images_parquet(tmp_path / "a.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(b"no parquet at all")
    refused(tmp_path / "b.parquet", "b.parquet: no Parquet file, or a damaged one")
    (tmp_path / "b.parquet").write_bytes(whole[:-200])
    refused(tmp_path / "b.parquet", "b.parquet: no Parquet file, or a damaged one")
    (tmp_path / "b.parquet").write_bytes(whole[:4] + bytes(3000) + whole[3004:])
    refused(tmp_path / "b.parquet", "b.parquet: damaged after row 0")
    (tmp_path / "b.parquet").touch()
    pq.write_table(pa.table({"t": [[1, 2]] * 9, "label": range(9)}), tmp_path / "b.parquet")
    refused(tmp_path / "b.parquet", "column 't' holds list.*: convert it, or name it in --ignore")


# Images


def test_a_corrupt_jpeg_among_many_is_named_and_no_further_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples.write_folder(tmp_path, rows=40, kind="jpg", channels=3, size=16)
    bad = tmp_path / "cat" / "00020.jpg"
    whole, added = bad.read_bytes(), []
    add = Stack.add
    monkeypatch.setattr(Stack, "add", lambda s, e, n: (added.append(n), add(s, e, n)))
    for broken in (whole[:200], whole[:-40], b"not an image", b""):
        added.clear()
        bad.write_bytes(broken)
        refused(tmp_path, r"cat/00020.jpg: the image cannot be decoded \(.*\); replace it")
        assert added[-1] == str(bad)
        assert len(added) == 11


def test_images_of_other_modes_name_both_files(tmp_path: Path) -> None:
    samples.write_folder(tmp_path, channels=3)
    other = tmp_path / "dog" / "00003.png"
    other.write_bytes(samples.encoded(np.zeros((8, 8), np.uint8)))
    refused(tmp_path, r"dog/00003.png is 8x8 grey, but .*cat/00000.png is 8x8 RGB; .* one mode")
    clear = np.zeros((8, 8, 4), np.uint8)
    other.write_bytes(samples.encoded(clear))
    refused(tmp_path, "dog/00003.png: mode RGBA is not taken .*convert")
    Image.new("I;16", (8, 8)).save(other)
    refused(tmp_path, "dog/00003.png is 8x8 grey of 16 bits, but")
    Image.new("CMYK", (8, 8)).save(other, "jpeg")
    refused(tmp_path, "dog/00003.png: mode CMYK is not taken")


def test_folders_that_are_not_laid_out_as_classes(tmp_path: Path) -> None:
    samples.write_folder(tmp_path / "one", ("cat",))
    refused(tmp_path / "one", "one: every row has the label 'cat'")
    refused(tmp_path / "one" / "cat", "images lie in the folder itself; expected a folder per")
    samples.write_folder(tmp_path / "two")
    (tmp_path / "two" / "loose.png").write_bytes(samples.encoded(X[0]))
    refused(tmp_path / "two", "two/loose.png: an image outside the class folders")
    samples.write_folder(tmp_path / "few")
    for index in range(2, 24, 2):
        (tmp_path / "few" / "cat" / f"{index:05}.png").unlink()
    refused(tmp_path / "few", "few: class 'cat' has 1 row; each class needs at least 5")
    samples.write_folder(tmp_path / "parts" / "train")
    samples.write_folder(tmp_path / "parts" / "test", ("cat", "fox"), seed=1)
    refused(tmp_path / "parts", "test/fox: class 'fox' does not occur in the training part")
    (tmp_path / "void" / "cat").mkdir(parents=True)
    refused(tmp_path / "void", "no images found", format="folder")
    refused(tmp_path / "two", "--label is for npz", label="y", format="folder")


def test_images_in_parquet_that_cannot_be_used(tmp_path: Path) -> None:
    images: list[Any] = [samples.encoded(image) for image in X]
    path = tmp_path / "a.parquet"

    def write(**columns: Any) -> Path:
        pq.write_table(pa.table(columns), path)
        return path

    broken = [*images[:20], images[20][:60], *images[21:]]
    refused(write(image=broken, label=Y), "a.parquet, row 21: the image cannot be decoded")
    refused(
        write(image=[*images[:3], None, *images[4:]], label=Y), "row 4: column 'image' holds no"
    )
    refused(
        write(image=images, label=[*Y[:9].tolist(), None, *Y[10:].tolist()]), "row 10: the label"
    )
    refused(write(image=images, kind=Y), "no label column found; say which with --label .found 'k")
    refused(write(image=images, mask=images, label=Y), "'image', 'mask' are images; name others")
    refused(write(image=images, label=Y), "--categorical is for tables", categorical=("label",))
    meta = '{"info": {"features": {"label": {"names": ["cat", "dog"]}}}}'
    table = pa.table({"image": images, "label": [*Y[:5].tolist(), 7, *Y[6:].tolist()]})
    pq.write_table(table.replace_schema_metadata({"huggingface": meta}), path)
    refused(path, "row 6: label 7 is out of range; expected 0 to 1, for there are 2 cla")


# Arrays


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": X, "b": Y}, "a.npz holds 'a', 'b'; expected x and y, images and labels, or x_train"),
        ({"x": X}, "a.npz holds 'x'; expected"),
        ({"x": X, "y": Y[:-1]}, "'x' has 40 rows, but 'y' has 39"),
        ({"x": X, "y": np.ones((40, 2))}, r"row 1: label \[1.0, 1.0\] is not one-hot"),
        ({"x": X, "y": np.ones((40, 2, 2))}, r"labels 'y' have shape \[40, 2, 2\]; expected \[N\]"),
        ({"x": X[0, 0], "y": Y[:8]}, r"'x' has shape \[8\]; expected a table"),
        ({"x": X.astype(object), "y": Y}, "array 'x' holds Python objects, which can run code"),
        ({"x": X, "y": Y.astype(object)}, "array 'y' holds Python objects"),
        ({"x": X.astype(str), "y": Y}, "values of type <U.*; expected numbers"),
        ({"x": X, "y": Y + 0j}, "labels of type complex128; expected integers or texts"),
        (
            {"x": X, "y": Y - 1, "classes": ["a", "b"]},
            "row 1: label -1 is out of range; expected 0",
        ),
        ({"x": X, "y": Y + 0.5}, "a.npz: x, row 1: label 0.5: expected a whole number"),
        ({"x": X, "y": Y, "classes": ["cat"]}, "row 2: label 1 is out of range; expected 0 to 0"),
        ({"x": X[:0], "y": Y[:0]}, "a.npz: no rows; expected labelled rows"),
        (
            {"x": X[:, :, None, :4], "y": Y},
            r"shape \[40, 8, 1, 4\] does not tell the axis",
        ),
        (
            {"x_train": X, "y_train": Y, "x_test": X},
            "part 'test' has 'x_test', but not both x",
        ),
        (
            {"x_train": X, "y_train": Y, "x_test": X[:, 1:], "y_test": Y},
            "test part of a.npz has i",
        ),
        ({"x_train": X, "y_train": Y, "x_test": X / 2, "y_test": Y}, "has pixels of float32, but"),
        (
            {"x_train": X, "y_train": Y, "x_test": X[0], "y_test": Y[:8]},
            "tables and some are",
        ),
        ({"x": X[:, 0], "y": Y, "columns": ["a"]}, "8 columns; expected 1"),
        ({"x": X[:, 0, :2], "y": Y, "columns": ["a", "a"]}, "two columns have the same name"),
    ],
)
def test_arrays_that_cannot_be_used(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    refused(tmp_path / "a.npz", message)


def test_a_test_part_that_is_the_training_part_leaves_nothing(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=X, y_train=Y, x_test=X, y_test=Y)
    refused(tmp_path / "a.npz", r"without 40 rows that stand in the test part, too\): 2 cl")
    np.savez(tmp_path / "b.npz", x=X, y=Y)
    refused(tmp_path / "b.npz", "images; --categorical and --ignore are for", ignore=("x1",))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_pixel_that_is_no_number_is_named_by_its_row(tmp_path: Path, value: float) -> None:
    x = X / 255
    x[17, 3, 4] = value
    np.savez(tmp_path / "a.npz", x=x, y=Y)
    refused(tmp_path / "a.npz", "a.npz: x, row 18: a pixel is NaN or infinite")


def test_npz_that_is_none_or_damaged(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=X, y=Y)
    whole = (tmp_path / "a.npz").read_bytes()
    for broken in (b"", b"PK no", whole[: len(whole) // 2]):
        (tmp_path / "b.npz").write_bytes(broken)
        refused(tmp_path / "b.npz", "b.npz: no .npz file, or a damaged one")
    (tmp_path / "b.npz").write_bytes(whole[:200] + bytes(400) + whole[600:])
    refused(tmp_path / "b.npz", "b.npz: array 'x' is damaged")


# IDX


def test_idx_that_is_truncated_or_something_else(tmp_path: Path) -> None:
    samples.write_mnist(tmp_path)
    images, labels = (
        tmp_path / "train-images-idx3-ubyte.gz",
        tmp_path / "train-labels-idx1-ubyte.gz",
    )
    whole = images.read_bytes()
    images.write_bytes(whole[:300])
    refused(tmp_path, "train-images-idx3-ubyte.gz: the gzip data is truncated or damaged")
    raw = gzip.decompress(whole)
    for broken, told in (
        (raw[:500], "promises 1536 bytes of data .24x8x8., but only 484 are there"),
        (raw + b"x", "promises 1536 bytes .* but more are there"),
        (raw[:10], "the file ends inside its header"),
        (b"\0\0\x07\x03" + raw[4:], "wrong magic number 0x00000703; expected an IDX file"),
        (b"\0\0\x08\x01" + raw[4:8] + Y[:24].astype(np.uint8).tobytes(), "holds uint8 of rank 1"),
    ):
        images.write_bytes(gzip.compress(broken))
        refused(tmp_path, f"train-images-idx3-ubyte.gz: .*{told}", format="idx")
    images.write_bytes(whole)
    samples.write_idx(labels, Y[:20])
    refused(tmp_path, "images-idx3-ubyte.gz holds 24 images, but .*idx1-ubyte.gz holds 20 labels")
    samples.write_idx(labels, X)
    refused(tmp_path, "labels-idx1-ubyte.gz: expected labels: integers of rank 1, got rank 3")
    labels.unlink()
    refused(tmp_path, "its labels are not beside it; expected train-labels-idx1-ubyte.gz in")
    samples.write_idx(tmp_path / "more-images", X)
    refused(tmp_path, "expected one file of training images .*found .*name one images file")
