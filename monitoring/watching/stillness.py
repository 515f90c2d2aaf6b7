"""Checks that the cells of the watched version rise while its model answers.

Without traffic the answer is *not known*, which is no problem. Looks are counted, not seconds, so
that setting the clock has no effect.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from monitoring.counting.counters import Page

STILL_LOOKS = 5  # with answered requests, and none of them in a cell
UNSEEN_LOOKS = 3


class Movement(NamedTuple):
    """What is wrong, in words; empty: nothing; None: not known."""

    still: str | None
    unseen: str | None


@dataclass
class _Past:
    predictions: float
    cells: Mapping[str, float]  # by version
    still_looks: int = 0
    others: set[str] = field(default_factory=set)  # versions whose cells rose meanwhile


@dataclass
class Stillness:
    """Compares the looks at one version of a model, service by service."""

    model: str
    version: int
    _past: dict[str, _Past] = field(default_factory=dict)
    _moved: bool = False
    _unseen_looks: int = 0

    def look(self, pages: Mapping[str, Page], canary: int | None = None) -> Movement:
        """Compare the services' counters with those of earlier looks.

        A canary may answer for the version: for a while each request there is may be of its share.
        """
        still, ours = [], {str(self.version)} | ({str(canary)} if canary is not None else set())
        for service, page in pages.items():
            past = self._compare(service, page, ours)
            if past.still_looks >= STILL_LOOKS:
                still.append(self._still(service, past))
        unseen = self._unseen(pages)
        if still:
            return Movement("; ".join(still), unseen)
        return Movement("" if self._moved else None, unseen)

    def _compare(self, service: str, page: Page, ours: Set[str]) -> _Past:
        cells: dict[str, float] = {}
        for (model, version, _, _), count in page.cells.items():
            if model == self.model:
                cells[version] = cells.get(version, 0.0) + count
        predictions = page.counted(self.model)
        past = self._past.get(service)
        if past is None or predictions < past.predictions:  # a first look, or a restart
            looks = 0 if past is None else past.still_looks
            past = self._past[service] = _Past(predictions, cells, looks)
            return past
        if any(cells.get(each, 0.0) > past.cells.get(each, 0.0) for each in ours):
            past.still_looks, self._moved = 0, True
            past.others.clear()
        elif predictions > past.predictions:
            past.still_looks += 1
            rose = {v for v, count in cells.items() if count > past.cells.get(v, 0.0)}
            past.others |= rose
        past.predictions, past.cells = predictions, cells
        return past

    def _still(self, service: str, past: _Past) -> str:
        words = f"{service} answers for {self.model}, and no cell of version {self.version} moves"
        if past.others:
            return f"{words}: version {', '.join(sorted(past.others))} is served there"
        return f"{words}: its cells are not counted"

    def _unseen(self, pages: Mapping[str, Page]) -> str | None:
        versions = {v for page in pages.values() for (m, v, _, _) in page.cells if m == self.model}
        if str(self.version) in versions:
            self._unseen_looks = 0
            return ""
        self._unseen_looks += 1
        if self._unseen_looks < UNSEEN_LOOKS:
            return None
        if not pages:
            return "no service can be read"
        if versions:
            others = ", ".join(sorted(versions, key=int))
            return f"no service counts version {self.version}; there is only version {others}"
        return f"no service that can be read counts anything of {self.model}"
