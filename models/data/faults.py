"""All faults of a source in one message, instead of one a run."""

from collections.abc import Iterator
from contextlib import contextmanager

from models.base.errors import DataError

MOST_FAULTS = 20


class Faults:
    """Collects what is wrong with a source; `check` raises one `DataError` that lists it all.

    A single fault is raised in its own words.

    >>> faults = Faults("sales.csv")
    >>> faults.add("column 'price' holds no number")
    >>> with faults.gather():
    ...     raise DataError("class 'b' has 2 rows")
    >>> faults.check()
    Traceback (most recent call last):
    ...
    models.data.faults.FaultsError: sales.csv has 2 faults:
      1. column 'price' holds no number
      2. class 'b' has 2 rows
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._sentences: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._sentences)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What is wrong so far, in the order in which it was noted."""
        return tuple(self._sentences)

    def add(self, *sentences: str) -> None:
        """Note faults; one that is known already counts once."""
        for sentence in sentences:
            if sentence not in self._sentences:
                self._sentences.append(sentence)

    @contextmanager
    def gather(self) -> Iterator[None]:
        """Note the `DataError` that the block raises, and go on after the block."""
        try:
            yield
        except FaultsError as error:
            self.add(*error.sentences)
        except DataError as error:
            self.add(str(error))

    def check(self) -> None:
        """Raise DataError if there are faults."""
        if self._sentences:
            raise self.error()

    def error(self) -> "FaultsError":
        """All faults as one error."""
        return FaultsError(self._what, tuple(self._sentences))


class FaultsError(DataError):
    """Several faults of one source, each a sentence of its own."""

    def __init__(self, what: str, sentences: tuple[str, ...]) -> None:
        self.sentences = sentences
        if len(sentences) == 1:
            super().__init__(sentences[0])
            return
        lines = [f"  {place}. {each}" for place, each in enumerate(sentences[:MOST_FAULTS], 1)]
        if len(sentences) > MOST_FAULTS:
            lines.append(f"  ... and {len(sentences) - MOST_FAULTS} more")
        super().__init__("\n".join([f"{what} has {len(sentences)} faults:", *lines]))
