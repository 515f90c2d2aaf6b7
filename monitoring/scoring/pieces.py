"""Progress of work that is made of pieces whose shares are known beforehand.

>>> pieces = Pieces({"attacks": 3, "head": 1}, lambda done, total, words: print(done, total, words))
>>> part = pieces.begin("attacks")
0 100 attacks
>>> part(1, 2)
37 100 attacks
>>> _ = pieces.begin("head")
75 100 head
>>> pieces.end()
100 100 head
"""

from collections.abc import Callable, Mapping

Report = Callable[[int, int, str], None]  # done, total, what is at work
Part = Callable[[int, int], None]  # done and total of the piece at work


class Pieces:
    """Reports how far the whole is while its pieces are worked at, in the order of `shares`.

    Args:
        shares: name of each piece and how long it takes in comparison with the others, about.
        report: called with (done, 100, name of the piece); None: nobody wants to know.
    """

    def __init__(self, shares: Mapping[str, float], report: Report | None = None) -> None:
        self._shares, self._report = shares, report
        self._before, self._current = 0.0, ""

    def begin(self, name: str) -> Part:
        """A piece begins, and the one before it is done; gives what reports its inside."""
        if self._report is None:
            return lambda done, total: None
        names = list(self._shares)
        self._before = sum(self._shares[each] for each in names[: names.index(name)])
        self._current = name
        self._tell(0.0)
        return lambda done, total: self._tell(self._shares[name] * done / max(total, 1))

    def end(self) -> None:
        """All pieces are done."""
        self._before = sum(self._shares.values())
        self._tell(0.0)

    def _tell(self, inside: float) -> None:
        if self._report is not None:
            whole = sum(self._shares.values())
            self._report(int(100 * (self._before + inside) / whole), 100, self._current)


SILENT = Pieces({})
