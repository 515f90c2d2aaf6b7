"""A dictionary that cannot grow without end."""

from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Bounded(dict[Key, Value]):
    """A dictionary that is cleared when it is full: for values that are quickly made again.

    >>> seen = Bounded(2)
    >>> seen["a"], seen["b"], seen["a"] = 1, 2, 3
    >>> seen
    {'a': 3, 'b': 2}
    >>> seen["c"] = 4
    >>> seen
    {'c': 4}
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def __setitem__(self, key: Key, value: Value) -> None:
        if len(self) >= self._most and key not in self:
            self.clear()
        super().__setitem__(key, value)
