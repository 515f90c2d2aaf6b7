"""Laws of what is cut off a file before a decoder sees it."""

import io
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models.base.errors import InputError
from service.decoding.image_files import (
    MOST_PARTS,
    MOST_SCANS,
    MOST_SEGMENTS,
    essential,
    orientation_of,
)
from tests.service import pictures
from tests.service.pictures import chunk, colour, grey, saved, with_chunks

PROFILE = b"profile" * 9000


def pixels(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGBA"))


FILES = {
    "grey": saved(grey()),
    "colour": saved(colour()),
    "palette": saved(Image.fromarray(colour()).quantize(20)),
    "see-through palette": saved(Image.fromarray(colour()).quantize(20), transparency=3),
    "see-through grey": saved(grey(), transparency=7),
    "black and white": saved(Image.fromarray(grey() > 99)),
    "interlaced": saved(colour(), interlace=1),
    "with everything": with_chunks(
        saved(colour(), icc_profile=PROFILE, dpi=(72, 72), orientation=3), *pictures.texts(3)
    ),
    "moving": saved(colour(), save_all=True, append_images=[Image.fromarray(colour(1))]),
    "jpeg": saved(colour(), "jpeg"),
    "grey jpeg": saved(grey(), "jpeg"),
    "progressive jpeg": saved(colour(), "jpeg", progressive=True),
    "inks": saved(Image.fromarray(colour()).convert("CMYK"), "jpeg"),
    "plain red, green and blue": saved(colour(), "jpeg", keep_rgb=True),
    "jpeg with everything": saved(
        colour(), "jpeg", icc_profile=PROFILE, comment=b"hello", orientation=5, dpi=(72, 72)
    ),
    "filled jpeg": saved(colour(), "jpeg").replace(b"\xff\xdb", b"\xff\xff\xff\xdb"),
}


@pytest.mark.parametrize("name", FILES)
def test_the_pixels_are_those_of_the_whole_file(name: str) -> None:
    data = FILES[name]
    cut = essential(data, "body")
    np.testing.assert_array_equal(pixels(cut.data), pixels(data))
    assert cut.kind == ("jpeg" if data[:2] == b"\xff\xd8" else "png")
    assert cut.orientation == {"with everything": 3, "jpeg with everything": 5}.get(name, 1)


@pytest.mark.parametrize("name", ["with everything", "jpeg with everything", "moving"])
def test_what_the_pixels_do_not_need_is_cut_off(name: str) -> None:
    cut = essential(FILES[name], "body").data
    assert len(cut) < len(saved(colour(), "png" if cut[:1] == b"\x89" else "jpeg")) + 20
    for kind in (b"eXIf", b"Exif", b"iCCP", b"ICC_PROFILE", b"zTXt", b"acTL", b"fdAT", b"hello"):
        assert kind not in cut


@given(st.integers(1, 8), st.booleans(), st.integers(0, 5), st.integers(0, 5))
def test_the_orientation_is_found_among_the_other_entries(
    orientation: int, big: bool, before: int, after: int
) -> None:
    order = "big" if big else "little"

    def number(value: int, size: int) -> bytes:
        return value.to_bytes(size, order)  # type: ignore[arg-type]

    def entry(tag: int, value: int) -> bytes:
        return number(tag, 2) + number(3, 2) + number(1, 4) + number(value, 2) + b"\0\0"

    entries = [entry(0x100 + tag, 9) for tag in range(before)]
    entries += [entry(0x112, orientation)] + [entry(0x113 + tag, 9) for tag in range(after)]
    head = (b"MM" if big else b"II") + number(42, 2) + number(8, 4) + number(len(entries), 2)
    assert orientation_of(head + b"".join(entries) + number(0, 4)) == orientation


@given(st.binary(max_size=60), st.sampled_from([b"", b"II*\0", b"MM\0*"]))
def test_no_exif_block_is_an_error(block: bytes, head: bytes) -> None:
    assert 0 <= orientation_of(head + block) < 2**16


PNG, JPEG = saved(colour()), saved(colour(), "jpeg")
BROKEN = {
    "nothing": (b"", "an empty file"),
    "text": (b'{"instances": []}', "b'{\"instances\": ["),
    "gif": (saved(grey(), "gif"), "b'GIF87a"),
    "only a signature": (PNG[:8], "breaks off"),
    "half a png": (PNG[: len(PNG) // 2], "breaks off"),
    "a png without its end": (PNG[:-12], "breaks off"),
    "a chunk longer than the file": (PNG[:33] + b"\x7f\xff\xff\xffIDAT", "breaks off"),
    "half a jpeg header": (JPEG[:100], "breaks off"),
    "a jpeg without a picture": (JPEG[: JPEG.index(b"\xff\xda")], "breaks off"),
    "junk in a jpeg": (JPEG[:2] + b"\xff\xe5\0\4ab" + b"junk" + JPEG[2:], "no marker at byte 8"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_with_what_is_wrong(name: str) -> None:
    data, got = BROKEN[name]
    with pytest.raises(InputError) as caught:
        essential(data, "files[3]")
    assert caught.value.field == "files[3]"
    assert got in caught.value.got
    assert "PNG" in caught.value.expected or "JPEG" in caught.value.expected


def test_files_of_far_too_many_parts_are_refused_in_no_time() -> None:
    began = time.process_time()
    for data, most in (
        (with_chunks(PNG, chunk(b"prVt") * 600_000), MOST_PARTS),
        (JPEG[:2] + b"\xff\xfe\0\2" * 1_800_000 + JPEG[2:], MOST_SEGMENTS),
        (JPEG[:2] + b"\xff" * 7_000_000 + JPEG[2:], MOST_SEGMENTS),
        (pictures.scans(200_000), MOST_SCANS),
    ):
        with pytest.raises(InputError, match=f"at most {most}"):
            essential(data, "body")
    assert time.process_time() - began < 20  # seconds of CPU; a tenth of that here
