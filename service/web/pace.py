"""Decides which requests are quick enough to be answered in the event loop."""

from models.base.bounded import Bounded

QUICK_SECONDS = 0.002  # of CPU: longer ones would keep the other connections waiting
KEPT_PATHS = 1024
LONGEST_KEPT = 256  # characters of a path
WEIGHT = 0.1  # of the latest request in the running mean


class Pace:
    """The CPU time that requests take, per path: a running mean.

    >>> pace = Pace()
    >>> pace.is_quick("/predict")  # not known
    False
    >>> pace.note("/predict", 0.0003)
    >>> pace.is_quick("/predict")
    True
    """

    def __init__(self) -> None:
        self._seconds: Bounded[str, float] = Bounded(KEPT_PATHS)  # some do not exist

    def is_quick(self, path: str) -> bool:
        """Whether a request to the path is expected to take little."""
        return self._seconds.get(path, QUICK_SECONDS) < QUICK_SECONDS

    def note(self, path: str, seconds: float) -> None:
        """Note how much CPU time a request took."""
        if len(path) > LONGEST_KEPT:
            return
        mean = self._seconds.get(path)
        self._seconds[path] = seconds if mean is None else mean + WEIGHT * (seconds - mean)
