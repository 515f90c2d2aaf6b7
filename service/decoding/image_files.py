"""PNG and JPEG files cut down to what their pixels need, before a decoder sees them.

Texts, colour profiles, thumbnails, further frames and whatever else a file may hold do not change
the pixels that a model gets, but they cost: a few kilobytes of compressed text become a megabyte
each, a picture of a hundred thousand scans takes hours. They are cut off unread. What is kept is
checked by the decoder; the orientation, which does change the pixels, is read here.

Sources: PNG (W3C, third edition), 5.3 chunk layout; JPEG (ITU-T T.81), B.1.1 markers; EXIF 2.32,
4.6.2 (the layout of TIFF 6.0).
"""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from models.base.errors import InputError, show_value
from models.data.pictures.pixels import ORIENTATION

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
FILE = "a PNG or JPEG file"
PNG_KEPT = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))
JPEG_CUT = frozenset((0xFE, *range(0xE1, 0xEE), 0xEF))  # but JFIF's and Adobe's: how colours lie
SCAN = b"\xff\xda"
MOST_PARTS = 100_000  # chunks of a PNG; libpng cuts 8 KiB of data into each
MOST_SEGMENTS = 10_000  # of a JPEG before its first scan
MOST_SCANS = 100  # of a JPEG: each goes over all pixels. Encoders write one, or about ten
_EXIF = b"Exif\0\0"
_ENTRIES = re.compile(b"(.{12})", re.DOTALL)


class Essential(NamedTuple):
    """What of a file its pixels need; `orientation` is EXIF's, 1 where the file says none."""

    kind: Literal["png", "jpeg"]
    data: bytes
    orientation: int


def essential(data: bytes, field: str) -> Essential:
    """Cut a file down.

    Args:
        data: the bytes of the file.
        field: where it came from, for the message.

    Raises:
        InputError: neither PNG nor JPEG, broken off, or made of far too many parts.
    """
    if data.startswith(PNG_SIGNATURE):
        return _png(data, field)
    if data.startswith(JPEG_SIGNATURE):
        return _jpeg(data, field)
    raise InputError(field, FILE, f"{show_value(data[:16])}..." if data else "an empty file")


def orientation_of(exif: bytes) -> int:
    """The orientation in an EXIF block (a TIFF file of one directory), 1 where it says none.

    >>> entry = b"\\x01\\x12" b"\\0\\x03" b"\\0\\0\\0\\x01" b"\\0\\x06\\0\\0"
    >>> orientation_of(b"MM\\0*" b"\\0\\0\\0\\x08" b"\\0\\x01" + entry)
    6
    """
    order: Literal["big", "little"] = "little" if exif[:2] == b"II" else "big"
    if exif[:4] not in (b"II*\0", b"MM\0*"):
        return 1
    start = int.from_bytes(exif[4:8], order)
    count = int.from_bytes(exif[start : start + 2], order)
    for entry in _ENTRIES.findall(exif, start + 2, start + 2 + 12 * count):
        if int.from_bytes(entry[:2], order) == ORIENTATION:
            return int.from_bytes(entry[8:10], order)
    return 1


def _png(data: bytes, field: str) -> Essential:
    chunks, orientation = [PNG_SIGNATURE], 1
    for kind, chunk in _chunks(data, field):
        if kind in PNG_KEPT:
            chunks.append(chunk)
        elif kind == b"eXIf":
            orientation = orientation_of(chunk[8:-4])
    return Essential("png", b"".join(chunks), orientation)


def _chunks(data: bytes, field: str) -> Iterator[tuple[bytes, bytes]]:
    """Kind and bytes of every chunk: length, kind, content, checksum."""
    place = len(PNG_SIGNATURE)
    for _ in range(MOST_PARTS):
        end = place + 12 + int.from_bytes(data[place : place + 4])
        if end > len(data):
            raise InputError(field, "a whole PNG file", "one that breaks off")
        kind = data[place + 4 : place + 8]
        yield kind, data[place:end]
        if kind == b"IEND":
            return
        place = end
    raise InputError(field, f"a PNG file of at most {MOST_PARTS} chunks", "one of more")


def _jpeg(data: bytes, field: str) -> Essential:
    scans = data.count(SCAN)  # in the coded data themselves, 0xFF is followed by 0
    if scans > MOST_SCANS:
        raise InputError(field, f"a JPEG file of at most {MOST_SCANS} scans", f"one of {scans}")
    segments, orientation = [data[:2]], 1
    for marker, segment in _segments(data, field):
        if marker not in JPEG_CUT:
            segments.append(segment)
        elif segment.startswith(_EXIF, 4):
            orientation = orientation_of(segment[4 + len(_EXIF) :])
    return Essential("jpeg", b"".join(segments), orientation)


def _segments(data: bytes, field: str) -> Iterator[tuple[int, bytes]]:
    """Marker and bytes of every segment; the last one goes from the first scan to the end."""
    place = 2
    for _ in range(MOST_SEGMENTS):
        head = data[place : place + 4]
        if len(head) < 4:
            raise InputError(field, "a whole JPEG file", "one that breaks off")
        if head[0] != 0xFF or head[1] < 0xC0:
            raise InputError(field, "a JPEG file", f"a broken one: no marker at byte {place}")
        if head[:2] == SCAN:
            yield head[1], data[place:]
            return
        if head[1] == 0xFF:  # a fill byte
            place += 1
            continue
        end = place + 2 + int.from_bytes(head[2:])
        yield head[1], data[place:end]
        place = end
    raise InputError(field, f"a JPEG file of at most {MOST_SEGMENTS} segments", "one of more")
