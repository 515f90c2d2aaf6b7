"""The memory of waiting requests and answers: one counter with a limit."""


class Held:
    """Counts the bytes of waiting requests and answers; for the event loop's thread.

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
        """Count `size` more bytes; False, and no change, if less than `spare` would be left."""
        if size and self.bytes + size > self.limit - spare:
            return False
        self.bytes += size
        return True

    def give(self, size: int) -> None:
        """Count `size` bytes less."""
        self.bytes -= size
