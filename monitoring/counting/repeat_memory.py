"""When each client last sent which row: one memory-mapped file that all workers share.

An entry is a print and a stamp (second, and number of the row among the client's), in the one place
that the print has: a later row that has the same place overwrites it, so the memory is bounded and
forgets early where traffic is heavy. There are no locks, so nobody waits and a killed worker leaves
nothing behind: an entry is two words, each written at once. Whoever reads between the two may take
a repeat for a new row; a row that never came is never taken for a repeat, since all 64 bits of its
print would have to agree. Two workers that get the same row in the same microsecond both count it.

Without a path the memory is private to this process.
"""

from pathlib import Path

from models.base.mapped_file import HEADER_BYTES, MappedFile

MAGIC = b"holdfast repeats 1"
ENTRIES = 1 << 18  # 4 MiB
CLIENTS = 1 << 12  # counters; clients that share one count faster, and so forget earlier
MASK = (1 << 32) - 1


class RepeatMemory:
    """Entries by print, and the number of rows of each client.

    Args:
        path: the shared file, or None for memory of this process.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path | None = None) -> None:
        size = HEADER_BYTES + 16 * ENTRIES + 8 * CLIENTS
        self._map = MappedFile(path, MAGIC, size_bytes=size, locks=1, reserved_bytes=size)
        self.secret = self._map.secret
        words = memoryview(self._map.memory)[HEADER_BYTES:].cast("Q")
        self._prints, self._stamps = words[:ENTRIES], words[ENTRIES : 2 * ENTRIES]
        self._rows = words[2 * ENTRIES :]

    def close(self) -> None:
        """Give up the file; the memory goes with the last view."""
        self._map.close()

    def key(self, *parts: bytes) -> int:
        """A number of 64 bits; without the secret nobody can tell the parts from it."""
        return self._map.key(*parts)

    def repeats(
        self, client: int, prints: list[int], now: int, *, seconds: int, rows_back: int
    ) -> list[bool]:
        """Tell which rows came before, and remember all.

        Args:
            client: key of the client and the model.
            prints: of the rows, in their order.
            now: seconds of a clock that all workers share.
            seconds: from the row that was new, within which others are its repeats.
            rows_back: rows of the client since the same one, within which it is a repeat.
        """
        at = client % CLIENTS
        number = self._rows[at]
        self._rows[at] = (number + len(prints)) & MASK
        told = []
        for own in prints:
            number = (number + 1) & MASK
            mixed = own ^ client
            place = mixed % ENTRIES
            stamp = self._stamps[place]
            began, last = stamp >> 32, stamp & MASK
            same = (
                self._prints[place] == mixed
                and 0 <= now - began <= seconds
                and (number - last) & MASK <= rows_back
            )
            self._stamps[place] = (began if same else now) << 32 | number
            if not same:
                self._prints[place] = mixed
            told.append(same)
        return told


def file_of(directory: Path) -> Path:
    """Return the path of the file; its name has the parameters of its layout."""
    return directory / f"repeats-{ENTRIES}x{CLIENTS}.map"
