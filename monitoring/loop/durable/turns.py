"""Turns of training: so many at a time, first come first served, no model twice in a row.

Turns live in this process and are gone with it: a watcher that is killed leaves none taken.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from monitoring.loop.durable.patience import Interrupted

LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class _Ticket:
    model: str
    since: float


@dataclass
class Turns:
    """`most` trainings at a time; who waits is told the place in the queue."""

    most: int
    _running: int = 0
    _last_model: str = ""
    _waiting: list[_Ticket] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def turn(
        self,
        model: str,
        since: float,
        tell: Callable[[int], None],
        stop: threading.Event,
    ) -> Iterator[None]:
        """Hold a turn. `tell(place)` is called with 1, 2, ... when the place changes, 0 at last.

        Args:
            model: whose training it is; the one that had the last turn lets the others go first.
            since: when it was asked for, seconds since 1970: the first comes first.
            tell: called without a lock held, about once a second while it waits.
            stop: set when the process ends.

        Raises:
            Interrupted: `stop` was set.
        """
        ticket = _Ticket(model, since)
        with self._changed:
            self._waiting.append(ticket)
        try:
            while (place := self._place_or_take(ticket)) > 0:
                tell(place)
                with self._changed:
                    self._changed.wait(LOOK_SECONDS)
                if stop.is_set():
                    raise Interrupted("the watcher stops")
        except BaseException:
            self._leave(ticket)
            raise
        try:
            tell(0)
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _place_or_take(self, ticket: _Ticket) -> int:
        """0 and the turn is taken; else the place in the queue."""
        with self._changed:
            order = sorted(self._waiting, key=lambda t: (t.model == self._last_model, t.since))
            place = next(k for k, waiting in enumerate(order, 1) if waiting is ticket)
            if place > self.most - self._running:
                return place
            self._waiting = [waiting for waiting in self._waiting if waiting is not ticket]
            self._running += 1
            self._last_model = ticket.model
            self._changed.notify_all()
            return 0

    def _leave(self, ticket: _Ticket) -> None:
        with self._changed:
            self._waiting = [waiting for waiting in self._waiting if waiting is not ticket]
            self._changed.notify_all()


def nth(place: int) -> str:
    """1st, 2nd, 3rd, 4th ... of a short queue.

    >>> [nth(k) for k in (1, 2, 3, 4, 11, 22)]
    ['1st', '2nd', '3rd', '4th', '11th', '22nd']
    """
    teen = place % 100 in (11, 12, 13)
    return f"{place}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(place % 10, 'th')}"
