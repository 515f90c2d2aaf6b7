"""Laws of image data: every format gives the same rows, as bytes in `(N, C, H, W)`."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from models import data
from models.data import PARTS, DataSet, Source
from models.data.formats.images import Stack
from tests import samples

NAMES = ("cat", "dog")


def everything(found: DataSet) -> dict[bytes, str]:
    """Class name of every input of a set, and that it fits its schema."""
    told = {}
    for part in PARTS:
        rows = getattr(found, part)
        found.schema.check(rows.x)
        assert rows.y.dtype == np.int64
        told |= {
            x.tobytes(): found.classes[y] for x, y in zip(rows.x, rows.y.tolist(), strict=True)
        }
    return told


def test_all_formats_give_the_same_rows_in_the_same_parts(tmp_path: Path) -> None:
    x, y = samples.pictures(40, channels=3)
    samples.write_folder(tmp_path / "folder", NAMES, rows=20, channels=3)
    np.savez(tmp_path / "last.npz", x=x, y=y, classes=NAMES)
    np.savez(tmp_path / "first.npz", images=x.transpose(0, 3, 1, 2), labels=np.array(NAMES)[y])
    np.savez(tmp_path / "wide.npz", X=x.astype(np.int64), Y=y[:, None], class_names=NAMES)
    images = [samples.encoded(each) for each in x]
    pq.write_table(pa.table({"png": images, "label": np.array(NAMES)[y]}), tmp_path / "a.parquet")
    sets = [
        data.load(str(tmp_path / name))
        for name in ("folder", "last.npz", "first.npz", "wide.npz", "a.parquet")
    ]
    assert len({found.fingerprint for found in sets}) == 1
    assert sets[0].classes == NAMES
    assert sets[0].schema.shape == (3, 8, 8)
    assert (sets[0].schema.dtype, sets[0].schema.low, sets[0].schema.high) == ("uint8", 0, 255)
    wanted = {x[i].transpose(2, 0, 1).tobytes(): NAMES[y[i]] for i in range(40)}
    assert everything(sets[0]) == wanted


def test_mnist_files_are_read_packed_or_plain_from_the_folder_or_the_file(tmp_path: Path) -> None:
    packed = samples.write_mnist(tmp_path / "packed")
    plain = tmp_path / "plain"
    plain.mkdir()
    for part, rows, seed in (("train", 24, 0), ("test", 8, 1)):
        x, y = samples.pictures(rows, seed=seed)
        samples.write_idx(plain / f"{part}-images.idx3-ubyte", x)
        samples.write_idx(plain / f"{part}-labels.idx1-ubyte", y)
    paths = (
        packed,
        packed / "train-images-idx3-ubyte.gz",
        plain,
        plain / "train-images.idx3-ubyte",
    )
    sets = [data.load(str(path)) for path in paths]
    assert len({found.fingerprint for found in sets}) == 1
    assert [found.name for found in sets] == ["packed", "packed", "plain", "plain"]
    assert len(sets[0].test) == 8
    assert sets[0].schema.shape == (1, 8, 8)


def test_idx_labels_and_test_part_can_be_named(tmp_path: Path) -> None:
    x, y = samples.pictures(20, seed=5)
    samples.write_idx(tmp_path / "scans", x)
    samples.write_idx(tmp_path / "truth.gz", y)
    found = data.load(Source(str(tmp_path / "scans"), label="truth.gz"))
    assert len(everything(found)) == 20
    mnist = samples.write_mnist(tmp_path / "mnist")
    named = Source(str(tmp_path / "scans"), label="truth.gz", test=str(mnist))
    assert len(data.load(named).test) == 24


@pytest.mark.parametrize("tested", ["test", "val"])
def test_train_and_test_folders_are_parts(tmp_path: Path, tested: str) -> None:
    samples.write_folder(tmp_path / "train", NAMES, rows=20, seed=0)
    samples.write_folder(tmp_path / tested, NAMES, rows=4, seed=1)
    found = data.load(str(tmp_path))
    assert [len(getattr(found, part)) for part in PARTS] == [32, 8, 8]
    expected = data.load(Source(str(tmp_path / "train"), test=str(tmp_path / tested)))
    assert found.fingerprint == expected.fingerprint


def test_validation_beside_a_test_part_is_trained_on_and_told(tmp_path: Path) -> None:
    for part, seed in (("train", 0), ("val", 1), ("test", 2)):
        samples.write_folder(tmp_path / part, NAMES, rows=10, seed=seed)
    found = data.load(str(tmp_path))
    assert [len(getattr(found, part)) for part in PARTS] == [32, 8, 20]
    assert found.notes[:-1] == ("the validation part was added to training",)
    arrays = {}
    for part, seed in (("train", 0), ("val", 1), ("test", 2)):
        arrays[f"x_{part}"], arrays[f"y_{part}"] = samples.pictures(20, seed=seed)
    np.savez(tmp_path / "a.npz", **arrays, classes=NAMES)
    assert data.load(str(tmp_path / "a.npz")).fingerprint == found.fingerprint


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    samples.write_folder(tmp_path, ("boat", "train"))
    found = data.load(str(tmp_path))
    assert found.classes == ("boat", "train")
    assert len(everything(found)) == 24


def test_nested_images_hidden_files_and_strangers_in_a_folder(tmp_path: Path) -> None:
    samples.write_folder(tmp_path, NAMES)
    (tmp_path / "cat" / "more").mkdir()
    (tmp_path / "cat" / "00000.png").rename(tmp_path / "cat" / "more" / "0.PNG")
    (tmp_path / "cat" / ".DS_Store").touch()
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "dog" / "readme.txt").touch()
    (tmp_path / "README.md").touch()
    (tmp_path / "fox").mkdir()
    found = data.load(str(tmp_path))
    assert len(everything(found)) == 24
    assert found.classes == NAMES
    assert found.notes[:-1] == (
        "1 files without an image's suffix were left out, such as "
        f"{tmp_path / 'dog' / 'readme.txt'}",
        "left out, for systems put such files and folders there: '.DS_Store', '__MACOSX'",
        "classes without rows were left out: fox",
    )


def test_rows_of_the_test_part_are_dropped_from_training_and_counted(tmp_path: Path) -> None:
    x, y = samples.pictures(40)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x[:6], y_test=y[:6])
    found = data.load(str(tmp_path / "a.npz"))
    assert [len(getattr(found, part)) for part in PARTS] == [28, 6, 6]
    assert found.notes[0].startswith("6 rows of the training part stand in the test part, too")


def test_a_test_part_without_some_class_is_told(tmp_path: Path) -> None:
    x, y = samples.pictures(40)
    np.savez(
        tmp_path / "a.npz", train_images=x, train_labels=y, test_images=x[::8], test_labels=y[::8]
    )
    assert "the test part has no row of: 1" in data.load(str(tmp_path / "a.npz")).notes


def test_hugging_face_names_its_classes_and_parts(tmp_path: Path) -> None:
    meta = '{"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}'
    for part, rows, seed in (("train", 24, 0), ("test", 8, 1)):
        path = tmp_path / "data" / f"{part}-00000-of-00001.parquet"
        path.parent.mkdir(exist_ok=True)
        table = pq.read_table(samples.write_images_parquet(path, rows=rows, seed=seed))
        table = table.append_column("id", [list(range(rows))])
        pq.write_table(table.replace_schema_metadata({"huggingface": meta}), path)
    found = data.load(str(tmp_path))
    assert found.classes == NAMES
    assert len(found.test) == 8
    assert found.notes[:-1] == ("columns beside the image and the label were left out: 'id'",)


def test_shards_of_a_parquet_folder_are_one_set(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    whole = samples.write_images_parquet(tmp_path / "whole.parquet", rows=30, kind="jpg")
    table = pq.read_table(whole)
    for index in range(3):
        pq.write_table(table.slice(10 * index, 10), tmp_path / "shards" / f"{index}.parquet")
    sets = [data.load(str(tmp_path / name)) for name in ("shards", "whole.parquet")]
    assert sets[0].fingerprint == sets[1].fingerprint


GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
COLOUR = np.stack([GREY, GREY // 2, 255 - GREY], axis=2)


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        (Image.fromarray(GREY), GREY[None]),
        (Image.fromarray(COLOUR), COLOUR.transpose(2, 0, 1)),
        (Image.fromarray(GREY > 99), (GREY > 99)[None] * 255),
        (Image.fromarray(np.dstack([COLOUR, np.full_like(GREY, 255)])), COLOUR.transpose(2, 0, 1)),
        (Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (8, 6), 255)]), GREY[None]),
        (
            Image.fromarray(COLOUR).quantize(256, dither=Image.Dither.NONE),
            np.asarray(
                Image.fromarray(COLOUR).quantize(256, dither=Image.Dither.NONE).convert("RGB")
            ).transpose(2, 0, 1),
        ),
    ],
    ids=["grey", "colour", "bilevel", "opaque alpha", "opaque alpha on grey", "palette"],
)
def test_images_are_decoded_without_loss(tmp_path: Path, image: Image.Image, wanted: Any) -> None:
    image.save(tmp_path / "a.png")
    stack = Stack(1, "pictures")
    stack.add(tmp_path / "a.png", "a.png")
    np.testing.assert_array_equal(stack.pixels[0], wanted)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_images_are_upright_as_viewers_show_them(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    image = Image.fromarray(COLOUR)
    image.getexif()[0x0112] = orientation
    image.save(tmp_path / f"a.{kind}", exif=image.getexif())
    stack = Stack(1, "pictures")
    stack.add(tmp_path / f"a.{kind}", f"a.{kind}")
    with Image.open(tmp_path / f"a.{kind}") as opened:
        shown = np.asarray(ImageOps.exif_transpose(opened))
    np.testing.assert_array_equal(stack.pixels[0], shown.transpose(2, 0, 1))


def test_floating_point_images_stay_float32(tmp_path: Path) -> None:
    x, y = samples.pictures(20)
    np.savez(tmp_path / "a.npz", x=x / 255, y=y)
    found = data.load(str(tmp_path / "a.npz"))
    assert (found.train.x.dtype, found.schema.low, found.schema.high) == (np.float32, 0, 1)
    assert len(everything(found)) == 20


def test_parts_of_images_lie_in_one_array_that_is_not_copied(tmp_path: Path) -> None:
    x, y = samples.pictures(20)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    found = data.load(str(tmp_path / "a.npz"))
    base = found.train.x.base
    assert base is not None
    assert np.shares_memory(base, found.test.x)
    assert found.train.x.flags.c_contiguous


@given(st.permutations(range(30)))
def test_the_set_does_not_depend_on_the_order_of_the_source(
    tmp_path_factory: pytest.TempPathFactory, order: list[int]
) -> None:
    path = tmp_path_factory.mktemp("a") / "a.npz"
    x, y = samples.pictures(30, size=4, classes=3)
    np.savez(path, x=x, y=y)
    first = data.load(str(path)).fingerprint
    np.savez(path, x=x[order], y=y[order])
    assert data.load(str(path)).fingerprint == first


@pytest.mark.skipif(not (samples.SHARED / "mnist").is_dir(), reason="needs the shared MNIST files")
def test_mnist_is_whole_and_shuffled() -> None:
    found = data.load(str(samples.SHARED / "mnist"))
    assert [len(getattr(found, part)) for part in PARTS] == [55_000, 5000, 10_000]
    assert found.classes == tuple("0123456789")
    assert found.train.x.dtype == np.uint8
    assert np.bincount(found.test.y).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    assert found.test.y[:10].tolist() != [7, 2, 1, 0, 4, 1, 4, 9, 5, 9], "not in file order"


@pytest.mark.slow
@pytest.mark.skipif(not (samples.SHARED / "cifar10").is_dir(), reason="needs the shared CIFAR-10")
def test_cifar_is_whole() -> None:
    found = data.load(str(samples.SHARED / "cifar10"))
    assert [len(getattr(found, part)) for part in PARTS] == [45_000, 5000, 10_000]
    assert np.bincount(found.test.y).tolist() == [1000] * 10
    assert found.schema.shape == (3, 32, 32)
