"""What the looks at a version have weighed, so that a person can say of a period: this is normal.

Looks go into blocks of 1000 requests or more; a look that raises an alarm ends its block, and so
does accepted traffic. A line of the file is a look, a block, or the mere end of one, after its
checksum:

    <crc32> {"opens":true,"ends":false,"since":...,"until":...,"before":...,"after":...,"counts":{}}

A line that opens no block is added to the block before it. Where the file gets too long, the older
half of the blocks is merged two by two: what lies longer ago is known less finely, and nothing is
forgotten. A torn end is dropped; a file that is damaged elsewhere is set aside (`.damaged`).
"""

import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from models.base.files import write_atomic
from models.base.logs import logger
from monitoring.evidence.class_band import BLOCK

MOST_BYTES = 1 << 23  # of a version's file: millions of requests before blocks are merged
CHECKSUM = 8  # hexadecimal digits
log = logger("watcher")

IntArray = npt.NDArray[np.int64]
Sparse = dict[str, list[tuple[int, int]]]  # channel -> cells and their counts, without zeros


class Block(msgspec.Struct, frozen=True):
    """What one look or several have weighed.

    Args:
        opens: whether it begins a block; else it belongs to the one before it.
        ends: whether the next look begins a block, whatever this one holds.
        since, until: the time of the look before it, and of its last one; seconds since 1970.
        before, after: requests that the evidence of the version had counted until then.
        counts: sparse counts by channel, as JSON.
    """

    opens: bool
    ends: bool
    since: float
    until: float
    before: int
    after: int
    counts: msgspec.Raw

    @property
    def requests(self) -> int:
        """Requests in it."""
        return self.after - self.before

    def merge(self, later: "Block") -> "Block":
        """Return this block with what came directly after it."""
        mine, theirs = _decode(self.counts), _decode(later.counts)
        sums: dict[str, dict[int, int]] = {name: dict(cells) for name, cells in mine.items()}
        for name, cells in theirs.items():
            row = sums.setdefault(name, {})
            for cell, count in cells:
                row[cell] = row.get(cell, 0) + count
        # Evidence that began anew meanwhile counts from 0: requests are added, not numbers.
        before = max(0, later.after - self.requests - later.requests)
        counts = _encode({name: sorted(row.items()) for name, row in sums.items()})
        return Block(self.opens, later.ends, self.since, later.until, before, later.after, counts)


class Span(msgspec.Struct, frozen=True):
    """What of a history lies between two times; times are those of its first and last look.

    Args:
        since, until: seconds since 1970.
        requests: in it.
        blocks: whole ones, of 1000 requests or more.
    """

    since: float
    until: float
    requests: int
    blocks: int


@dataclass
class History:
    """The history of one version of a model. One thread adds to it; any thread may ask.

    Where the file cannot be written, the history goes on in memory and each look tries again.

    >>> history = History(Path("/nowhere/digits.1.jsonl"))
    >>> history.add({}, until=60.0, before=0)
    >>> history.add({"class": np.array([700, 0])}, until=120.0, before=0)
    >>> history.add({"class": np.array([0, 900])}, until=180.0, before=700)
    >>> history.span()
    Span(since=60.0, until=180.0, requests=1600, blocks=1)
    >>> history.add_up(0.0, 200.0, {"class": 3})["class"].tolist()
    [700, 900, 0]
    """

    path: Path
    most_bytes: int = MOST_BYTES
    fault: str = ""  # of the file, in words; empty once it is as it should be
    _blocks: tuple[Block, ...] = ()
    _looks: tuple[Block, ...] = ()  # of the last block, as far as they are known one by one
    _looked_at: float | None = None  # at what; None: not yet
    _size: int | None = None  # of the file as this left it; None: it must be written anew

    @classmethod
    def open(cls, path: Path, most_bytes: int = MOST_BYTES) -> "History":
        """Go on from a file; one that is damaged is set aside, and `fault` says so."""
        try:
            return cls.read(path, most_bytes)
        except (OSError, ValueError) as error:
            log.warning("history_unusable", path=str(path), error=str(error))
            with suppress(OSError):
                path.replace(path.with_name(f"{path.name}.damaged"))
            fault = f"{path.name} cannot be used, the history begins anew: {error}"
            return cls(path, most_bytes, fault)

    @classmethod
    def read(cls, path: Path, most_bytes: int = MOST_BYTES) -> "History":
        """Read a file and change nothing; no file is an empty history.

        Raises:
            OSError: it cannot be read.
            ValueError: it is damaged.
        """
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return cls(path, most_bytes)
        blocks, looks, whole = _read(data)
        return cls(path, most_bytes, "", blocks, looks, _size=len(data) if whole else None)

    def add(self, counts: Mapping[str, IntArray], until: float, before: int) -> None:
        """Note what a look has weighed, be it nothing.

        Args:
            counts: channel -> (G,) increments; a channel without requests may be absent.
            until: the time of the look, seconds since 1970.
            before: requests that the evidence had counted before it.
        """
        requests = max((int(row.sum()) for row in counts.values()), default=0)
        last, looked = self._blocks[-1] if self._blocks else None, self._looked_at
        self._looked_at = until
        if not requests:
            if self.fault and self._blocks:
                self._write(b"")
            return
        if looked is None:
            looked = until if last is None else last.until
        opens = last is None or last.ends or last.requests >= BLOCK
        sparse = {
            name: [(int(cell), int(row[cell])) for cell in row.nonzero()[0]]
            for name, row in counts.items()
        }
        since, after = min(looked, until), before + requests
        self._add(Block(opens, False, since, until, before, after, _encode(sparse)))

    def end_block(self) -> None:
        """Let the next look open a block: what was weighed until now is of another kind."""
        if self._blocks and not self._blocks[-1].ends:
            until, after = self._blocks[-1].until, self._blocks[-1].after
            self._add(Block(False, True, until, until, after, after, _encode({})))

    def _add(self, look: Block) -> None:
        """Add a line, here and to the file."""
        if look.opens:
            self._looks, self._blocks = (look,), (*self._blocks, look)
        else:
            self._looks = (*self._looks, look)
            self._blocks = (*self._blocks[:-1], self._blocks[-1].merge(look))
        self._write(_line(look))

    def span(self, since: float = -np.inf, until: float = np.inf) -> Span | None:
        """Return what lies between two times in whole blocks; None where nothing does.

        The last block is there up to the last look within: what was accepted during a look is
        counted after it.
        """
        blocks = self._between(since, until)
        if not blocks:
            return None
        return Span(
            blocks[0].since,
            blocks[-1].until,
            sum(block.requests for block in blocks),
            sum(block.requests >= BLOCK for block in blocks),
        )

    def coarsest_seconds(self, since: float, until: float) -> float:
        """Return the length of the longest block between two times, or gap between two blocks."""
        blocks = self._between(since, until)
        gaps = [later.since - block.until for block, later in pairwise(blocks)]
        return max([0.0, *gaps, *(block.until - block.since for block in blocks)])

    def add_up(self, since: float, until: float, cells: Mapping[str, int]) -> dict[str, IntArray]:
        """Return the counts between two times.

        Args:
            since, until: seconds since 1970.
            cells: channel -> number of its cells G.

        Returns:
            Channel -> (G,) counts.
        """
        blocks = self._between(since, until)
        sums = {name: np.zeros(size, dtype=np.int64) for name, size in cells.items()}
        for block in blocks:
            for name, row in _decode(block.counts).items():
                for cell, count in row:
                    sums[name][cell] += count
        return sums

    def by_block(self, since: float, until: float, channel: str, cells: int) -> IntArray:
        """Return the counts (B, G) of a channel in each block with 1000 of them or more."""
        blocks = self._between(since, until)
        table = np.zeros((len(blocks), cells), dtype=np.int64)
        for row, block in zip(table, blocks, strict=True):
            for cell, count in _decode(block.counts).get(channel, ()):
                row[cell] = count
        whole: IntArray = table[table.sum(axis=1) >= BLOCK]
        return whole

    def when(self, request: int) -> tuple[float, float] | None:
        """Return two times between which a request was weighed, by its number; None: not known."""
        for block in reversed((*self._blocks, *self._looks)):
            if block.before < request <= block.after:
                return block.since, block.until
        return None

    def _between(self, since: float, until: float) -> list[Block]:
        blocks, looks = self._blocks, self._looks
        part = [b for b in blocks if since <= b.since and b.until <= until]
        if blocks and since <= blocks[-1].since and blocks[-1].until > until:
            early = [look for look in looks if look.until <= until]
            part += [reduce(Block.merge, early)] if early else []
        return part

    def _write(self, line: bytes) -> None:
        """Append a line, or write the file anew where it is not as this left it, or too long."""
        try:
            size = self.path.stat().st_size if self.path.exists() else None
            if size is not None and size == self._size and size + len(line) <= self.most_bytes:
                with self.path.open("ab") as stream:
                    stream.write(line)
                self._size = size + len(line)
            else:
                self._write_anew()
            self.fault = ""
        except OSError as error:
            self._size = None  # a part of the line may be there
            self.fault = f"{self.path.name} cannot be written: {error.strerror or error}"

    def _write_anew(self) -> None:
        """Write the blocks, the older ones merged so that the file is at most half full."""
        lines = [_line(block) for block in self._blocks]
        while sum(map(len, lines)) > self.most_bytes // 2 and len(self._blocks) > 2:
            self._blocks = _merge_older(self._blocks)
            lines = [_line(block) for block in self._blocks]
        data = b"".join(lines)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, data)
        self._size = len(data)


def _merge_older(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    """Merge the older half of the blocks two by two."""
    middle = max(2, len(blocks) // 2 // 2 * 2)
    older = (blocks[k].merge(blocks[k + 1]) for k in range(0, middle, 2))
    return (*older, *blocks[middle:])


def _line(block: Block) -> bytes:
    text = msgspec.json.encode(block)
    return f"{zlib.crc32(text):0{CHECKSUM}x} ".encode() + text + b"\n"


def _read(data: bytes) -> tuple[tuple[Block, ...], tuple[Block, ...], bool]:
    """Return the blocks of a file, the looks of the last one, and whether its end was whole.

    Raises:
        ValueError: it is damaged elsewhere.
    """
    *lines, tail = data.split(b"\n")
    blocks: list[Block] = []
    looks: list[Block] = []
    for number, line in enumerate(lines, 1):
        checksum, text = line[:CHECKSUM], line[CHECKSUM + 1 :]
        if checksum != f"{zlib.crc32(text):0{CHECKSUM}x}".encode():
            raise ValueError(f"line {number} is damaged")
        block = msgspec.json.decode(text, type=Block)
        if block.opens or not blocks:
            blocks.append(block)
            looks = [block]
        else:
            blocks[-1] = blocks[-1].merge(block)
            looks.append(block)
    return tuple(blocks), tuple(looks), not tail


def _encode(counts: Sparse) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(counts))


def _decode(counts: msgspec.Raw) -> Sparse:
    return msgspec.json.decode(counts, type=Sparse)
