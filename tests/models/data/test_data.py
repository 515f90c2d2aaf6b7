"""Laws of loading: names, bundled sets, fingerprints, and a source that loads the same again."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models import data
from models.base.errors import DataError
from models.data import PARTS, DataSet, Rows, Source
from models.data.found import name_of
from models.data.records import bytes_of
from models.versions.registry import MODEL_NAME
from tests import samples


def keys(rows: Rows) -> set[bytes]:
    """The inputs as bytes."""
    return {row.tobytes() for row in rows.x}


@pytest.mark.parametrize(
    ("name", "rows"), [("digits", 1797), ("breast_cancer", 569), ("wine", 178)]
)
def test_bundled_sets_are_whole_and_fit_their_schema(name: str, rows: int) -> None:
    found = data.load(name)
    parts = [getattr(found, part) for part in PARTS]
    assert sum(map(len, parts)) == rows
    assert len(set.union(*map(keys, parts))) == rows, "no input stands twice in these sets"
    for part in parts:
        found.schema.check(part.x)
        assert set(part.y) == set(range(len(found.classes)))
    assert found.source == Source(name, "bundled")


def test_digits_keep_their_names_and_every_class_its_share(digits: DataSet) -> None:
    assert digits.classes == tuple("0123456789")
    whole = np.concatenate([getattr(digits, part).y for part in PARTS])
    for part, share in zip(PARTS, (0.6, 0.2, 0.2), strict=True):
        counts = np.bincount(getattr(digits, part).y)
        np.testing.assert_allclose(counts, share * np.bincount(whole), atol=1)


def test_fingerprint_is_stable_and_changes_with_everything(digits: DataSet) -> None:
    assert data.load("digits").fingerprint == digits.fingerprint
    y = digits.test.y.copy()
    y[0] += 1
    changed = [
        {"classes": ("x", *digits.classes[1:])},
        {"train": digits.test, "test": digits.train},
        {"test": digits.test.take(np.arange(1))},
        {"test": Rows(digits.test.x, y)},
    ]
    found = {dataclasses.replace(digits, **change).fingerprint for change in changed}  # type: ignore[arg-type]
    assert len({digits.fingerprint} | found) == 5
    renamed = dataclasses.replace(digits, name="other", notes=("told",), source=Source("other"))
    assert renamed.fingerprint == digits.fingerprint


def test_fingerprint_reads_the_rows_where_they_lie() -> None:
    x = np.zeros((4, 3), np.uint8)
    assert np.shares_memory(np.asarray(bytes_of(x)), x)
    assert bytes_of(np.asfortranarray(np.arange(6).reshape(2, 3))) == np.arange(6).tobytes()
    assert len(bytes_of(np.zeros((0, 3)))) == 0


def test_a_source_from_a_manifest_loads_the_same_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples.write_csv(tmp_path / "People 2024.csv", samples.people())
    monkeypatch.chdir(tmp_path)
    first = data.load(Source("People 2024.csv", ignore=("age",)))
    kept = msgspec.json.decode(msgspec.json.encode(first.source), type=Source)
    monkeypatch.chdir(Path("/"))
    again = data.load(kept)
    assert (again.name, again.fingerprint) == ("people-2024", first.fingerprint)
    assert kept.format == "csv"
    assert Path(kept.path) == tmp_path / "People 2024.csv"


def test_a_bundled_name_wins_over_a_file_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    samples.write_folder(tmp_path / "digits")
    assert len(data.load("digits").classes) == 10
    assert data.load("./digits").classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("Flowers (v2)", "flowers-v2"),
        ("sales.CSV", "sales"),
        ("sales.csv.gz", "sales"),
        ("x.y.parquet", "x-y"),
        ("über.npz", "ber"),
        ("___.npz", "data"),
        ("n" * 90 + ".npz", "n" * 63),
        ("shop/train.csv", "shop"),
        ("shop/train-00000-of-00001.parquet", "shop"),
        ("fashion/train-images-idx3-ubyte.gz", "fashion"),
        ("a/spam_train.csv", "spam"),
    ],
)
def test_the_name_is_one_that_the_registry_takes(tmp_path: Path, path: str, name: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    found = name_of(Source(str(file)))
    assert found == name
    assert MODEL_NAME.fullmatch(found)


def test_a_name_that_was_given_is_kept_or_refused() -> None:
    assert data.load(Source("wine", name="my-wine")).name == "my-wine"
    with pytest.raises(DataError, match=r"name 'My Wine': use a-z"):
        data.load(Source("wine", name="My Wine"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Source("mnist"), r"no such file or folder: 'mnist' \(bundled sets: digits, breast_cancer"),
        (Source("mnist", "bundled"), "unknown data set 'mnist': bundled are digits"),
        (Source(""), "made in memory cannot be loaded again"),
        (
            Source("digits", label="y"),
            "--label is for npz, idx, parquet, csv, jsonl; 'digits' is bundled",
        ),
        (Source("digits", delimiter=";"), "--delimiter is for csv"),
        (Source(__file__, "csv", test="nowhere.csv"), "'nowhere.csv', named as the test part"),
    ],
)
def test_a_source_that_cannot_be_is_refused(source: Source, message: str) -> None:
    with pytest.raises(DataError, match=message):
        data.load(source)


def test_importing_the_package_needs_neither_pyarrow_nor_pillow_nor_torch() -> None:
    heavy = ("pyarrow", "PIL", "torch", "sklearn")
    told = f"import sys, models.data; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples.write_csv(tmp_path / "a.csv", samples.people())
    monkeypatch.setitem(sys.modules, "models.data.formats.delimited", None)
    with pytest.raises(DataError, match=r"reading csv needs .*: pip install 'holdfast\[train\]'"):
        data.load(str(tmp_path / "a.csv"))
