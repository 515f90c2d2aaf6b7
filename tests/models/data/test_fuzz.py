"""Whatever bytes lie at a path: rows, or a DataError, and never anything else."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import data
from models.base.errors import DataError
from tests import samples


@pytest.mark.parametrize("suffix", [".csv", ".npz", ".parquet", ".csv.gz", "-images", ".jpg"])
@given(st.binary(max_size=300))
def test_no_bytes_lead_to_anything_but_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, raw: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(raw)
    with pytest.raises(DataError):
        data.load(str(path))


@pytest.mark.parametrize("kind", ["csv", "npz", "parquet", "images", "idx"])
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
    if kind == "csv":
        samples.write_csv(path, samples.people(20))
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
