"""Small data sets on disk, of every format that the loaders read, for any test that needs some."""

import gzip
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

Array = np.ndarray[Any, Any]
SHARED = (Path(__file__).parents[1] / "../shared/data").resolve()
CASES = SHARED.parent / "cases"


def case(name: str) -> Path:
    """A file that once came out wrong; the test is skipped where it does not lie beside."""
    path = CASES / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    return path


def pictures(
    rows: int, *, size: int = 8, channels: int = 1, classes: int = 2, seed: int = 0
) -> Any:
    """uint8 images `(rows, size, size[, 3])` that differ, brighter from class to class, and y."""
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    shape = (rows, size, size, 3) if channels == 3 else (rows, size, size)
    light = (y * 160 // classes).reshape(-1, *[1] * (len(shape) - 1))
    return (rng.integers(0, 96, shape) + light).astype(np.uint8), y


def encoded(image: Array, kind: str = "png") -> bytes:
    """An image `(H, W[, 3])` as a file's bytes."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "jpeg" if kind == "jpg" else kind)
    return stream.getvalue()


def write_folder(
    root: Path,
    names: Sequence[str] = ("cat", "dog"),
    *,
    rows: int = 12,
    kind: str = "png",
    channels: int = 1,
    size: int = 8,
    seed: int = 0,
) -> Path:
    """`root/<name>/<i>.<kind>`, `rows` images of each class."""
    x, y = pictures(rows * len(names), size=size, channels=channels, classes=len(names), seed=seed)
    for index, (image, label) in enumerate(zip(x, y, strict=True)):
        folder = root / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{index:05}.{kind}").write_bytes(encoded(image, kind))
    return root


def write_images_parquet(
    path: Path, *, rows: int = 24, kind: str = "png", channels: int = 3, seed: int = 0
) -> Path:
    """Columns `image` (struct of bytes and path, as Hugging Face writes it) and `label`."""
    x, y = pictures(rows, channels=channels, seed=seed)
    images = [{"bytes": encoded(image, kind), "path": None} for image in x]
    pq.write_table(pa.table({"image": images, "label": y}), path)
    return path


def write_idx(path: Path, values: Array) -> Path:
    """An IDX file of bytes, packed where the name ends in `.gz`."""
    sizes = b"".join(n.to_bytes(4, "big") for n in values.shape)
    raw = bytes([0, 0, 8, values.ndim]) + sizes + values.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def write_mnist(root: Path, *, rows: int = 24, test: int = 8) -> Path:
    """MNIST's four files with few small images."""
    root.mkdir(parents=True, exist_ok=True)
    for part, count, seed in (("train", rows, 0), ("t10k", test, 1)):
        x, y = pictures(count, seed=seed)
        write_idx(root / f"{part}-images-idx3-ubyte.gz", x)
        write_idx(root / f"{part}-labels-idx1-ubyte.gz", y)
    return root


def people(rows: int = 60, seed: int = 0) -> dict[str, list[Any]]:
    """A table with numbers (some missing), a category and a label that follows from them."""
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 80, rows)
    income = np.round(rng.lognormal(10, 1, rows), 2)
    city = rng.choice(["Bern", "Oslo", "Rome"], rows)
    label = np.where(age + (city == "Oslo") * 20 > 50, "yes", "no")
    told: list[Any] = [None if i % 7 == 0 else float(v) for i, v in enumerate(income)]
    return {"age": age.tolist(), "income": told, "city": city.tolist(), "label": label.tolist()}


def write_csv(path: Path, columns: Mapping[str, Sequence[Any]], delimiter: str = ",") -> Path:
    """A CSV with a header; None is an empty cell."""
    lines = [delimiter.join(columns)]
    for row in zip(*columns.values(), strict=True):
        lines.append(delimiter.join("" if value is None else str(value) for value in row))
    text = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def write_parquet(path: Path, columns: Mapping[str, Sequence[Any]]) -> Path:
    """A Parquet file of a table."""
    pq.write_table(pa.table(dict(columns)), path)
    return path
