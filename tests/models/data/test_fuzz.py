"""Whatever bytes lie at a path: rows, or a DataError, and never anything else."""

import contextlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import data
from models.base.errors import DataError
from tests import samples

SUFFIXES = [
    ".csv", ".npz", ".parquet", ".csv.gz", ".csv.zip", ".jsonl", ".jsonl.gz", ".zip", "-images",
    ".jpg",
]  # fmt: skip
STRUCTURE = st.text(st.sampled_from('a1,;\t"\n\r\0 #=\xe9{}[]:.-'), max_size=60)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=5,
)


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(st.binary(max_size=300))
def test_no_bytes_lead_to_anything_but_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, raw: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(raw)
    with pytest.raises(DataError):
        data.load(str(path))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
@given(STRUCTURE, st.sampled_from(["a,label\n", "sep=;\na;label\n", "#a,label\n", ""]))
def test_any_text_is_rows_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, encoding: str, text: str, head: str
) -> None:
    for suffix in (".csv", ".jsonl"):
        path = tmp_path_factory.getbasetemp() / f"text-{encoding}{suffix}"
        path.write_bytes((head + text).encode(encoding))
        with contextlib.suppress(DataError):
            data.load(str(path))


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "label"]), JSON) | JSON, max_size=12))
def test_any_json_is_rows_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, rows: list[object]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any-json.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with contextlib.suppress(DataError):
        data.load(str(path))


@pytest.mark.parametrize(
    "kind", ["csv", "csv.gz", "csv.zip", "jsonl", "npz", "parquet", "images", "idx"]
)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_one_wrong_byte_is_a_data_error_or_changes_a_value(
    tmp_path_factory: pytest.TempPathFactory, kind: str, place: int, flip: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"flipped-{kind}"
    folder.mkdir(exist_ok=True)
    whole = _whole(folder, kind)
    path = folder / f"train-images-idx3-ubyte{'.gz' if kind == 'idx' else '.' + kind}"
    if kind == "images":
        path = folder / "a.parquet"
    broken = bytearray(whole)
    broken[place % len(broken)] ^= flip
    path.write_bytes(bytes(broken))
    with contextlib.suppress(DataError):
        data.load(str(path))


def _whole(folder: Path, kind: str) -> bytes:
    """The bytes of a file that can be used."""
    path = folder / f"whole.{kind}"
    if path.exists():
        return path.read_bytes()
    if kind in ("csv", "csv.gz"):
        samples.write_csv(path, samples.people(20))
    elif kind == "csv.zip":
        text = samples.write_csv(folder / "a.csv", samples.people(20)).read_text()
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.csv", text)
    elif kind == "jsonl":
        columns = samples.people(20)
        rows = zip(*columns.values(), strict=True)
        lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in rows]
        path.write_text("\n".join(lines))
    elif kind == "npz":
        x, y = samples.pictures(20, size=4)
        with path.open("wb") as stream:
            np.savez(stream, x=x, y=y)
    elif kind == "parquet":
        samples.write_parquet(path, samples.people(20))
    elif kind == "images":
        samples.write_images_parquet(path, rows=12)
    else:
        samples.write_mnist(folder)
        (folder / "train-images-idx3-ubyte.gz").rename(path)
    return path.read_bytes()
