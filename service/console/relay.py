"""Asks the watcher on behalf of the page: a closed list of addresses, and nothing else is sent.

The watcher's address comes from the settings alone. An answer is waited for 2 s and has 1 MiB at
most; redirects are not followed. What is only read is read at most once a second by a worker,
however many pages are open, and the last good answer is kept for when the watcher is away.
"""

import http.client
import threading
import time
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote, urlencode

from models.base.bounded import Bounded
from models.base.errors import HoldfastError
from models.base.logs import logger
from service.configuration.addresses import Place, read_url
from service.web.errors import JSON, UnavailableError
from service.web.reply import Reply

TIMEOUT_SECONDS = 2.0
MOST_BYTES = 1 << 20
FRESH_SECONDS = 1.0
KEPT = 256
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


class Relay:
    """One per worker; threads share it.

    Args:
        url: of the watcher, from the settings.
        secret: reads the admin token of the state.
    """

    def __init__(self, url: str, secret: Callable[[], str]) -> None:
        self._place = read_url(url)
        self._secret = secret
        self._kept: Bounded[str, Reading] = Bounded(KEPT)
        self._asked: Bounded[str, float] = Bounded(KEPT)
        self._lock = threading.Lock()

    def read(self, address: str, *names: str, **query: str) -> Reading:
        """GET one of `READS`; its `{}` are filled with `names`."""
        assert address in READS, address
        target = _fill(address, names, query)
        with self._lock:  # one at a time: the others then find the answer
            now, asked = time.monotonic(), self._asked.get(target)
            kept = self._kept.get(target)
            if kept is not None and asked is not None and now - asked < FRESH_SECONDS:
                return kept
            self._asked[target] = now
            try:
                status, body, _ = self._ask("GET", target, b"", "")
                if status >= 500:
                    raise _AwayError(f"it answered {status}")
                reading = Reading(status, body, time.time())
            except _AwayError as error:
                seen = (kept.status, kept.body, kept.seen_at) if kept else (0, b"", None)
                reading = Reading(*seen, away=str(error))
            self._kept[target] = reading
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
        with self._lock:
            self._asked.clear()  # what is read next shows what was done
        return Reply(answer, status, media)

    def _ask(self, method: str, target: str, body: bytes, secret: str) -> tuple[int, bytes, str]:
        connection = _connect(self._place)
        headers = {"Accept": JSON, "Connection": "close"}
        if method == "POST":
            headers["Content-Type"] = JSON
        if secret:
            headers["Authorization"] = secret
        try:
            connection.request(method, self._place.path + target, body or None, headers)
            answer = connection.getresponse()
            said = answer.read(MOST_BYTES + 1)
            media = answer.getheader("content-type", JSON)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _AwayError(_in_words(error)) from None
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


def _fill(address: str, names: tuple[str, ...], query: dict[str, str]) -> str:
    target = address.format(*(quote(name, safe="") for name in names))
    return f"{target}?{urlencode(query)}" if query else target


def _in_words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS:g} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "what it said is no HTTP"
