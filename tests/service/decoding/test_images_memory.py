"""What pictures cost at most, each measured in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from service.decoding.images import MAX_PIXELS
from tests.service import pictures
from tests.service.pictures import grey, saved, with_chunks

MEASURE = """
import sys
from models.base.errors import InputError
from models.versions.schema import InputSchema
from service.decoding.images import Upload, decode_images
from tests.service import pictures

schema = InputSchema("input", (1, 8, 8), "uint8", 0, 255, kind="image")

def told(data):
    try:
        return decode_images([Upload("body", data)], schema, 1, resize="stretch").shape
    except InputError as error:
        return error.got

def most():
    # Not ru_maxrss: that begins with what the parent had when it started this process.
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

told(pictures.saved(pictures.grey(height=64, width=64)))
for path in sys.argv[1:]:
    data = open(path, "rb").read()
    before = most()
    print(told(data), most() - before, sep=";")
"""


def test_bombs_are_refused_in_constant_memory_and_what_is_allowed_is_bounded(
    tmp_path: Path,
) -> None:
    files = {
        "bomb": pictures.bomb(30_000, 30_000),
        "texts": with_chunks(saved(grey(height=64, width=64)), *pictures.texts(60)),
        "scans": pictures.scans(100_000),
        "largest": pictures.bomb(4000, MAX_PIXELS // 4000),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *(str(tmp_path / name) for name in files)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    told, grown = zip(*(line.split(";") for line in done.stdout.splitlines()), strict=True)
    assert told == ("900000000 pixels", "(1, 1, 8, 8)", "one of 100006", "(1, 1, 8, 8)")
    kilobytes = [int(each) for each in grown]
    assert max(kilobytes[:3]) < 2000  # a copy of the file, not what it becomes
    assert kilobytes[3] < 80_000


RESIZING = """
import io, sys
from PIL import Image
from models.versions.schema import InputSchema
from service.decoding.images import Upload, decode_images

def shape(data, resize, side):
    wanted = InputSchema("input", (3, side, side), "uint8", 0, 255, kind="image")
    return decode_images([Upload("body", data)], wanted, 1, resize=resize).shape

def most():
    # Not ru_maxrss: that begins with what the parent had when it started this process.
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

stream = io.BytesIO()
Image.new("RGB", (64, 64)).save(stream, "png")
shape(stream.getvalue(), "stretch", 8)
for case in sys.argv[1:]:
    path, resize, side = case.split(":")
    data = open(path, "rb").read()
    before = most()
    print(shape(data, resize, int(side)), most() - before, sep=";")
"""


@pytest.mark.parametrize(
    ("image", "kind", "resize", "side"),
    [
        (Image.new("RGBA", (16, 1_000_000), "white"), "png", "stretch", 8),
        (Image.new("RGB", (1_000_000, 16)), "png", "pad", 8),
        (Image.new("P", (4000, 4000)), "png", "crop", 8),
        (Image.new("RGB", (250, 64_000)), "jpeg", "pad", 8),
        (Image.new("RGB", (40_000, 400)), "png", "stretch", 1000),  # then it is 400 wide
    ],
    ids=["tall", "wide", "palette", "jpeg", "flat"],
)
def test_what_resizing_needs_in_between_is_bounded_by_the_pixels(
    tmp_path: Path, image: Image.Image, kind: str, resize: str, side: int
) -> None:
    (tmp_path / "file").write_bytes(saved(image, kind, orientation=6))
    done = subprocess.run(
        [sys.executable, "-c", RESIZING, f"{tmp_path / 'file'}:{resize}:{side}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    shape, grown = done.stdout.split(";")
    assert shape == f"(1, 3, {side}, {side})"
    assert int(grown) * 1024 < 10 * MAX_PIXELS  # two pictures of 4 bytes, and the rows' addresses
