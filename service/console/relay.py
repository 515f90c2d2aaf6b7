"""Asks the watcher on behalf of the page: a closed list of addresses, and nothing else is sent.

The watcher's address comes from the settings alone. An answer is waited for 2 s and has 1 MiB at
most; redirects are not followed. What is only read is read at most once a second by a worker,
however many pages are open, and the last good answer is kept for when the watcher is away.

The threads that read also answer probes and scrapes. So one of them at most waits for a watcher
that is known to be silent, and that one only every few seconds.
"""

import http.client
import math
import threading
import time
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote, urlencode

from models.base.errors import HoldfastError
from models.base.logs import logger
from service.configuration.addresses import Place, read_url
from service.web.errors import JSON, UnavailableError
from service.web.reply import Reply

TIMEOUT_SECONDS = 2.0
MOST_BYTES = 1 << 20
FRESH_SECONDS = 1.0
AWAY_SECONDS = 2.0  # after silence nothing is asked for this long
KEPT, KEPT_BYTES = 256, 2 << 20  # of an address of `READS`
READS = ("/overview", "/history", "/jobs", "/jobs/{}")
SENDS = (
    "/jobs", "/jobs/{}/approve", "/jobs/{}/reject", "/models/{}/promote", "/models/{}/rollback",
    "/models/{}/hold", "/models/{}/release", "/models/{}/accept-drift", "/demo",
)  # fmt: skip
log = logger("console")


class Reading(NamedTuple):
    """What the watcher said of itself; `away` says why it does not say it now.

    `seen_at` is when `body` came, seconds since 1970; both are of before where it is away.
    """

    status: int
    body: bytes
    seen_at: float | None
    away: str = ""


class _AwayError(Exception):
    """No answer came, or none that is one."""


class _SilentError(_AwayError):
    """Nothing came: whatever else is asked, nothing comes either."""


class _Kept(NamedTuple):
    """A reading, with the monotonic times of its question and of its end."""

    began: float
    ended: float
    reading: Reading


class _Shelf:
    """The last readings of an address; the oldest go first where they are too many or too large."""

    def __init__(self) -> None:
        self._held: dict[str, _Kept] = {}
        self.size = 0  # bytes of bodies and targets

    def get(self, target: str) -> _Kept | None:
        """What is kept of a target; needs no lock."""
        return self._held.get(target)

    def put(self, target: str, kept: _Kept) -> None:
        """Keep it; one thread at a time."""
        self._drop(target)
        self._held[target] = kept
        self.size += _size(target, kept)
        while len(self._held) > KEPT or (self.size > KEPT_BYTES and len(self._held) > 1):
            self._drop(next(iter(self._held)))

    def _drop(self, target: str) -> None:
        old = self._held.pop(target, None)
        if old is not None:
            self.size -= _size(target, old)


class Relay:
    """One per worker; threads share it.

    Args:
        url: of the watcher, from the settings.
        secret: reads the admin token of the state.
    """

    def __init__(self, url: str, secret: Callable[[], str]) -> None:
        self._place = read_url(url)
        self._secret = secret
        # One for each address: names that somebody makes up push out no overview.
        self._shelves = {address: _Shelf() for address in READS}
        self._lock = threading.Lock()
        self._changed = self._silent_at = -math.inf  # monotonic
        self._silent = ""  # why nothing came last time; empty once something does

    def read(self, address: str, *names: str, **query: str) -> Reading:
        """GET one of `READS`; its `{}` are filled with `names`.

        It ends within about the time of one question, however many threads read.
        """
        assert address in READS, address
        target, shelf = _fill(address, names, query), self._shelves[address]
        # One asks and the others find the answer. None of them waits for a silent watcher again.
        if not self._lock.acquire(timeout=0.0 if self._silent else TIMEOUT_SECONDS):
            self._silent = self._silent or _in_words(TimeoutError())
            return _of_before(shelf.get(target), self._silent)
        try:
            kept, now = shelf.get(target), time.monotonic()
            if kept and kept.began > self._changed and now - kept.ended < FRESH_SECONDS:
                return kept.reading
            if self._silent and now - self._silent_at < AWAY_SECONDS:
                return _of_before(kept, self._silent)
            return self._read_anew(target, shelf, now)
        finally:
            self._lock.release()

    def _read_anew(self, target: str, shelf: _Shelf, began: float) -> Reading:
        kept = shelf.get(target)
        try:
            status, body, _ = self._ask("GET", target, b"", "")
            if status >= 500:
                raise _AwayError(f"it answered {status}")
            reading = Reading(status, body, time.time())
        except _SilentError as error:
            # Noted after the wait: else whoever waited would find it too old, and ask again.
            self._silent, self._silent_at = str(error), time.monotonic()
            return _of_before(kept, self._silent)
        except _AwayError as error:
            reading = _of_before(kept, str(error))
        self._silent = ""
        shelf.put(target, _Kept(began, time.monotonic(), reading))
        return reading

    def send(self, address: str, names: tuple[str, ...], body: bytes, authorization: str) -> Reply:
        """POST to one of `SENDS` and return what the watcher answered.

        Args:
            address: with `{}` where the `names` go.
            names: parts of the path.
            body: of the call.
            authorization: of the person, or empty: the admin token of the state is used.

        Raises:
            UnavailableError: the watcher did not answer; whether it did what was asked for is not
                known.
        """
        assert address in SENDS, address
        target = _fill(address, names, {})
        try:
            own = authorization or f"Bearer {self._secret()}"
            status, answer, media = self._ask("POST", target, body, own)
        except (HoldfastError, OSError) as error:
            log.error("admin_token_unread", reason=str(error))
            words = "the admin token of the state cannot be read; the log says why"
            raise UnavailableError(words) from None
        except _AwayError as error:
            raise UnavailableError(
                f"the watcher did not answer ({error}); look how it stands before you try again"
            ) from None
        self._changed, self._silent = time.monotonic(), ""  # what is read next shows what was done
        return Reply(answer, status, media)

    def _ask(self, method: str, target: str, body: bytes, secret: str) -> tuple[int, bytes, str]:
        connection, ends = _connect(self._place), time.monotonic() + TIMEOUT_SECONDS
        headers = {"Accept": JSON, "Connection": "close"}
        if method == "POST":
            headers["Content-Type"] = JSON
        if secret:
            headers["Authorization"] = secret
        try:
            connection.request(method, self._place.path + target, body or None, headers)
            answer = connection.getresponse()
            said = _read_body(answer, ends)
            media = answer.getheader("content-type", JSON)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _SilentError(_in_words(error)) from None
        finally:
            connection.close()
        if len(said) > MOST_BYTES:
            raise _AwayError(f"its answer has more than {MOST_BYTES >> 20} MiB")
        if 300 <= answer.status < 400 or "json" not in media:
            raise _AwayError("another program answers there: see HOLDFAST_WATCH_URL")
        return answer.status, said, media


def _connect(place: Place) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
    return kind(place.host, place.port, timeout=TIMEOUT_SECONDS)


def _read_body(answer: http.client.HTTPResponse, ends: float) -> bytes:
    """What it says, or a byte more than it may. Raises TimeoutError: it goes on too long."""
    said = b""
    while len(said) <= MOST_BYTES and (part := answer.read1(MOST_BYTES + 1 - len(said))):
        said += part
        if time.monotonic() > ends:  # the socket's own timeout begins again with every byte
            raise TimeoutError
    return said


def _fill(address: str, names: tuple[str, ...], query: dict[str, str]) -> str:
    target = address.format(*(quote(name, safe="") for name in names))
    return f"{target}?{urlencode(query)}" if query else target


def _of_before(kept: _Kept | None, why: str) -> Reading:
    """What was read last, and why it is not read now."""
    last = Reading(0, b"", None) if kept is None else kept.reading
    return last._replace(away=why)


def _size(target: str, kept: _Kept) -> int:
    return len(target) + len(kept.reading.body)


def _in_words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS:g} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "what it said is no HTTP"
