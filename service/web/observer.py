"""The interface of what counts, times and logs answers."""

from typing import Protocol

from service.web.reply import Reply

UNMATCHED = "unmatched"


class Observer(Protocol):
    """Counts, times and logs answers."""

    def __call__(self, rule: str, method: str, reply: Reply, seconds: float) -> None:
        """`rule` is that of the endpoint, or `UNMATCHED`."""
