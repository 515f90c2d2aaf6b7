"""Bytes of requests and answers that wait, counted together."""


class Held:
    """Bytes of requests and answers that wait, against a bound; for the event loop's thread.

    >>> held = Held(100)
    >>> held.take(80), held.take(30), held.take(20)
    (True, False, True)
    >>> held.give(80)
    >>> held.bytes
    20
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0

    def take(self, size: int, spare: int = 0) -> bool:
        """Hold so many more; False, and nothing is held, where fewer than `spare` would be left."""
        if size and self.bytes + size > self.limit - spare:
            return False
        self.bytes += size
        return True

    def give(self, size: int) -> None:
        """Hold so many less."""
        self.bytes -= size
