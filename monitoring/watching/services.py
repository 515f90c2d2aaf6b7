"""Reads the counters of all services at the same time, within one time limit.

A service that is slow, away or another program does not delay the others. If two services are
behind one address, counters fall although no version was loaded; such counters are not weighed.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Literal
from urllib.error import HTTPError, URLError

import msgspec

from models.base.logs import logger
from monitoring.counting import counters
from monitoring.counting.counters import ForeignPageError, Page
from monitoring.loop.metrics import WatchMetrics
from monitoring.watching.problems import LOG_AGAIN_SECONDS, SHOWN_CHARACTERS

GRACE_SECONDS = 0.5  # beyond the time that a reading has itself
QUARANTINE_LOOKS = 10  # after a fall that no restart explains
log = logger("watcher")

Reason = Literal[
    "ok", "refused", "timeout", "status", "redirect", "not_metrics", "backwards",
    "unscraped", "late", "gone",
]  # fmt: skip
ADVICE: Mapping[Reason, str] = {
    "ok": "",
    "refused": "see that the service runs and that HOLDFAST_SERVICE_URL names its host and port",
    "timeout": "see whether the service is overloaded, or a firewall drops what is sent to it",
    "status": "compare HOLDFAST_SERVICE_URL with the address that the service listens on",
    "redirect": "name the address itself in HOLDFAST_SERVICE_URL: redirects are not followed",
    "not_metrics": "another program answers there: correct HOLDFAST_SERVICE_URL",
    "backwards": "name each service by itself in HOLDFAST_SERVICE_URL: several seem to answer here",
    "unscraped": "see the target in Prometheus: what it counts since then is not known",
    "late": "see whether Prometheus is overloaded, and its scrape_interval (a minute at most)",
    "gone": "nothing, where the replica was taken away",
}


class ServiceState(msgspec.Struct, frozen=True):
    """The result of reading a service, and since when it is so (seconds since 1970)."""

    service: str
    status: Reason
    since: float
    detail: str = ""
    advice: str = ""


@dataclass
class WatchedService:
    """A service, what was read of it last, and whether that is believed."""

    url: str
    name: str
    reading: threading.Thread | None = None
    answer: Page | Exception | None = None
    before: Page | None = None  # the last page that was read
    loaded_at: float | None = None  # the latest load that was seen
    odd_looks: int = 0  # for which it is still not believed
    state: ServiceState | None = None
    logged_at: float = 0.0

    def read(self) -> None:
        """Read its page, or note why not; a thread's target."""
        try:
            self.answer = counters.read_page(counters.fetch(self.url))
        except Exception as error:
            self.answer = error


class Services:
    """The watched services. One thread reads them; any thread may ask for their states."""

    def __init__(self, urls: Sequence[str], metrics: WatchMetrics) -> None:
        self._services = [
            WatchedService(url, counters.hide_password(url)) for url in dict.fromkeys(urls)
        ]
        self._metrics = metrics
        # At the last look: readable, and not weighed; and begun at zero since the one before.
        self.distrusted: frozenset[str] = frozenset()
        self.restarted: frozenset[str] = frozenset()

    def look(self, now: float) -> dict[str, Page]:
        """Read all services; returns the pages of those that answer, by name, within 5.5 s."""
        for service in self._services:
            if service.reading is None or not service.reading.is_alive():
                service.answer = None
                service.reading = threading.Thread(target=service.read, name="read", daemon=True)
                service.reading.start()
        deadline = time.monotonic() + counters.TIMEOUT + GRACE_SECONDS
        pages = {}
        self._begin()
        for service in self._services:
            assert service.reading is not None
            service.reading.join(max(0.0, deadline - time.monotonic()))
            answer = service.answer
            if isinstance(answer, Page):
                pages[service.name] = answer
                self._take(service, answer, now)
                continue
            error = answer or TimeoutError("the last reading has not ended yet")
            self._note(service, reason_of(error), in_words(error), now)
        return pages

    def _begin(self) -> None:
        self.distrusted, self.restarted = frozenset(), frozenset()

    def _take(self, service: WatchedService, page: Page, now: float) -> None:
        """Note a page that was read: whether it begins anew, and whether it can be weighed."""
        if _restarted(service, page):
            self.restarted |= {service.name}
        if not self._believe(service, page, now):
            self.distrusted |= {service.name}

    def states(self) -> list[ServiceState]:
        """Return the state of each service that was read."""
        return [s.state for s in self._services if s.state is not None]

    def _believe(self, service: WatchedService, page: Page, now: float) -> bool:
        """Whether the counters of a service can be weighed; notes why not."""
        last_load, loaded = service.loaded_at, page.loaded_at
        if _fell(service.before, page) and not _restarted(service, page):
            service.odd_looks = QUARANTINE_LOOKS
        service.before = page
        if loaded is not None:
            service.loaded_at = loaded if last_load is None else max(last_load, loaded)
        if service.odd_looks:
            service.odd_looks -= 1
            if not service.odd_looks:
                service.loaded_at = loaded  # what is there now counts, whatever was seen before
            words = "its counters fell although no version was loaded anew"
            self._note(service, "backwards", words, now)
            return False
        self._note(service, "ok", "", now)
        return True

    def _note(self, service: WatchedService, reason: Reason, detail: str, now: float) -> None:
        old = service.state
        same = old is not None and old.status == reason
        since = min(old.since, now) if same and old is not None else now
        service.state = ServiceState(service.name, reason, since, detail, ADVICE[reason])
        self._metrics.service_up.labels(service.name).set(reason == "ok")
        if reason != "ok":
            self._metrics.scrape_failures.inc()
            self._metrics.service_failures.labels(service.name, reason).inc()
        if same and (reason == "ok" or abs(now - service.logged_at) < LOG_AGAIN_SECONDS):
            return
        service.logged_at = now
        if reason != "ok":
            log.warning(
                "service_unread", service=service.name, reason=reason, detail=detail,
                advice=ADVICE[reason],
            )  # fmt: skip
        elif old is not None:
            log.info("service_read", service=service.name, after_seconds=round(now - old.since, 1))


def _fell(before: Page | None, page: Page) -> bool:
    if before is None:
        return False
    return any(count < before.cells.get(cell, 0.0) for cell, count in page.cells.items())


def _restarted(service: WatchedService, page: Page) -> bool:
    """Whether counters fell because the service restarted.

    Then it has loaded its versions again. Where a page does not say when, the counters must have
    fallen to less than half.
    """
    before, last_load = service.before, service.loaded_at
    if before is None or not _fell(before, page):
        return False
    if page.loaded_at is not None and last_load is not None:
        return page.loaded_at > last_load
    return sum(page.cells.values()) * 2 <= sum(before.cells.values())


def reason_of(error: Exception) -> Reason:
    """Classify a failure, for a label.

    >>> reason_of(URLError(TimeoutError("timed out")))
    'timeout'
    >>> reason_of(URLError(ConnectionRefusedError(111, "Connection refused")))
    'refused'
    """
    if isinstance(error, HTTPError):
        return "redirect" if 300 <= error.code < 400 else "status"
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return "timeout"
    if isinstance(cause, ConnectionError):  # also one that closes without a word
        return "refused"
    if isinstance(cause, ForeignPageError | HTTPException | ValueError):
        return "not_metrics"
    return "refused"


def in_words(error: Exception) -> str:
    """Describe a failure for people; texts of the other side are cut and escaped."""
    if isinstance(error, HTTPError):
        place = error.headers.get("Location", "")
        where = f" to {counters.hide_password(place)}" if 300 <= error.code < 400 and place else ""
        text = f"status {error.code}{where}"
    elif isinstance(error, URLError):
        text = str(error.reason)
    else:
        text = str(error) or type(error).__name__
    return ascii(text)[1:-1][:SHOWN_CHARACTERS]
