"""Files of text as a stream of UTF-8, whatever packs them and whichever mark they begin with."""

import codecs
import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from models.base.errors import DataError
from models.data.raw import list_rows, quote

DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile)
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
OTHERS = (  # files that are no text, however they are called
    (b"\xd0\xcf\x11\xe0", "a workbook of old Excel (.xls): open it and save it as CSV UTF-8"),
    (b"PAR1", "a Parquet file: name it .parquet, or say --format parquet"),
    (b"\x89HDF", "an HDF5 file: read it with pandas.read_hdf and write it with to_parquet"),
    (b"\x93NUMPY", "a NumPy array: save it with its labels as .npz (x and y)"),
    (b"SQLite format 3", "an SQLite database: export the table as CSV"),
    (b"BZh", "packed with bzip2: unpack it first (bunzip2)"),
    (b"\xfd7zXZ", "packed with xz: unpack it first (unxz)"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd: unpack it first (unzstd)"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it first"),
)
LEAST = 64  # bytes in which UTF-16 without a mark shows
CHUNK = 1 << 20
LINES_NAMED = 20


class Text(io.RawIOBase):
    """The bytes of a stream as UTF-8; where they are not of its encoding, U+FFFD stands for them.

    `replaced` says whether that happened in what was read so far.
    """

    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        self._stream, self.encoding, self.replaced = stream, encoding, False
        self._decoder = codecs.getincrementaldecoder(encoding)("strict")
        self._ready, self._ended = memoryview(b""), False

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill `buffer` as far as one piece of the stream goes."""
        while not self._ready and not self._ended:
            piece = self._stream.read(CHUNK)
            self._ended = not piece
            self._ready = memoryview(self._decode(piece).encode("utf-8", "replace"))
        size = min(len(buffer), len(self._ready))
        buffer[:size], self._ready = self._ready[:size], self._ready[size:]
        return size

    def _decode(self, piece: bytes) -> str:
        try:
            return self._decoder.decode(piece, self._ended)
        except UnicodeDecodeError:
            state = self._decoder.getstate()
            self._decoder = codecs.getincrementaldecoder(self.encoding)("replace")
            self._decoder.setstate(state)
            self.replaced = True
            return self._decoder.decode(piece, self._ended)


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file: plain, unpacked from gzip, or of the one file in a zip archive.

    Raises:
        DataError: damaged, of another kind than text, or in an encoding that cannot be told;
            inside the block, too.
    """
    with ExitStack() as stack:
        try:
            stream = _unpack(path, stack)
            _check_kind(stream.peek(LEAST)[:LEAST], path)
            yield stream
        except DAMAGED as error:
            raise DataError(
                f"{path}: the packed data is truncated or damaged ({error}); get the file again"
            ) from error


@contextmanager
def open_text(path: Path) -> Iterator[Text]:
    """The text of a file without a byte order mark, as UTF-8; see `open_bytes` for what it raises.

    With a mark it may be UTF-16.
    """
    with open_bytes(path) as stream:
        assert isinstance(stream, io.BufferedReader)
        head = stream.peek(LEAST)
        mark, encoding = next((m for m in MARKS if head.startswith(m[0])), (b"", "utf-8"))
        stream.read(len(mark))
        yield Text(stream, encoding)


def explain_encoding(path: Path) -> str:
    """The fault of a file that is not UTF-8: its lines, and what it is likely in."""
    lines, first = [], b""
    with open_bytes(path) as stream:
        head = stream.read(2)
        if head in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return f"{path}: begins with a mark of UTF-16, but is not all in it; save it as UTF-8"
    with open_bytes(path) as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                lines.append(number)
                first = first or _word(line, error.start)
    bad = next(byte for byte in first if byte > 127)
    others = list_rows(lines[1:], LINES_NAMED).replace("row", "line")
    sentence = f"{path}, line {lines[0]}: byte 0x{bad:02x} is not UTF-8{others}; save it as UTF-8"
    try:
        reading = first.decode("cp1252").strip()
    except UnicodeDecodeError:
        return f"{sentence} (iconv -f ENCODING -t UTF-8, with the encoding that it was saved in)"
    return (
        f"{sentence} (iconv -f WINDOWS-1252 -t UTF-8, if {reading!r} is what stands there; else "
        "with the encoding that it was saved in)"
    )


def is_packed(path: Path) -> bool:
    """Whether the file is gzip or a zip archive, by its first bytes."""
    with path.open("rb") as stream:
        return stream.read(4).startswith((b"\x1f\x8b", b"PK\x03\x04"))


def _unpack(path: Path, stack: ExitStack) -> io.BufferedReader:
    stream = stack.enter_context(path.open("rb"))
    head = stream.peek(4)[:4]
    if head[:2] == b"\x1f\x8b":
        unpacked: Any = stack.enter_context(gzip.GzipFile(fileobj=stream))
    elif head == b"PK\x03\x04":
        archive = stack.enter_context(zipfile.ZipFile(stream))
        try:
            unpacked = stack.enter_context(archive.open(_member(archive, path)))
        except (RuntimeError, OSError) as error:  # a password, another packing, a wrong offset
            raise DataError(f"{path}: cannot be unpacked ({error}); unpack it first") from error
    else:
        return stream
    return stack.enter_context(io.BufferedReader(unpacked, CHUNK))


def _member(archive: zipfile.ZipFile, path: Path) -> str:
    """The one file of an archive, beside what systems put into it."""
    names = [
        name
        for name in archive.namelist()
        if not name.endswith("/") and not name.startswith("__MACOSX/")
    ]
    names = [name for name in names if not name.rpartition("/")[2].startswith(".")]
    if any(name.startswith("xl/") for name in names):
        raise DataError(
            f"{path}: is an Excel workbook, whatever its name says: save it as CSV UTF-8 in Excel"
        )
    if len(names) != 1:
        raise DataError(
            f"{path}: the archive holds {len(names)} files ({quote(names, 5)}); expected one: "
            "unpack it, and name the folder"
        )
    return names[0]


def _check_kind(head: bytes, path: Path) -> None:
    """Raise DataError for bytes that are no text, or text in an encoding that is not read."""
    for mark, sentence in OTHERS:
        if head.startswith(mark):
            raise DataError(f"{path}: is no text but {sentence}")
    if head.lstrip()[:9].lower().startswith((b"<html", b"<!doctype", b"<?xml", b"<table")):
        raise DataError(
            f"{path}: is HTML or XML; open it as a spreadsheet and save it as CSV UTF-8"
        )
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise DataError(f"{path}: is UTF-32; save it as UTF-8 (iconv -f UTF-32 -t UTF-8)")
    if not head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        halves = (("UTF-16LE", head[1::2], head[::2]), ("UTF-16BE", head[::2], head[1::2]))
        for name, empty, full in halves:
            if len(head) >= 8 and empty.count(0) > 0.8 * len(empty) and full.count(0) == 0:
                raise DataError(
                    f"{path}: looks like {name} without a byte order mark; save it as UTF-8 "
                    f"(iconv -f {name} -t UTF-8)"
                )


def _word(line: bytes, place: int) -> bytes:
    """The word around a byte."""
    start = max(line.rfind(mark, 0, place) for mark in (b" ", b",", b";", b"\t", b'"')) + 1
    return line[start : place + 1] + line[place + 1 :].split(b" ")[0].split(b",")[0][:20]
