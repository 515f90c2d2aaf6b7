"""The watched services as Prometheus sees them, in place of the services themselves."""

from collections.abc import Sequence

from monitoring.counting.counters import Page, hide_password
from monitoring.loop.metrics import WatchMetrics
from monitoring.watching.services import (
    Reason,
    Services,
    ServiceState,
    WatchedService,
    in_words,
    reason_of,
)
from monitoring.watching.sources.prometheus import PrometheusSource, ScrapeError

GONE_LOOKS = 30  # for which one that is gone is still shown


class ScrapedServices(Services):
    """All replicas that a Prometheus scrapes. They may come and go.

    Args:
        url: of Prometheus.
        metrics: of the watcher.
    """

    def __init__(self, url: str, metrics: WatchMetrics) -> None:
        super().__init__((), metrics)
        self._source = PrometheusSource(url)
        self._prometheus = WatchedService(url, hide_password(url))
        self._gone: dict[str, int] = {}

    def look(self, now: float) -> dict[str, Page]:
        """Read all replicas; returns the pages of those that were scraped since the last look.

        Of one that is not scraped any more that is its last page, once. A replica that is late, not
        scraped or gone has no page; its state says so.
        """
        self._begin()
        known = {service.name: service for service in self._services}
        try:
            replicas = self._source.read()
        except Exception as error:
            reason: Reason = "not_metrics" if isinstance(error, ScrapeError) else reason_of(error)
            self._note(self._prometheus, reason, in_words(error), now)
            for service in known.values():
                words = "Prometheus cannot be asked, so it is not known how it does"
                self._note(service, "unscraped", words, now)
            return {}
        words = "" if replicas else "it has no target of the job holdfast-service"
        self._note(self._prometheus, "ok" if replicas else "unscraped", words, now)
        pages: dict[str, Page] = {}
        for name, replica in replicas.items():
            service = known.get(name) or WatchedService("", name)
            known[name] = service
            self._gone.pop(name, None)
            new = replica.page is not None and replica.page != service.before
            if replica.page is not None and (not replica.fault or new):
                pages[name] = replica.page
                self._take(service, replica.page, now)
            if replica.fault:
                self._note(service, replica.fault, replica.detail, now)
        self._services = [s for s in known.values() if s.name in replicas or self._stays(s, now)]
        return pages

    def _stays(self, service: WatchedService, now: float) -> bool:
        """Whether one that Prometheus knows no more is still shown; its gauge goes at once."""
        self._note(service, "gone", "Prometheus has no such target any more", now)
        self._metrics.service_up.remove_by_labels({"service": service.name})
        looks = self._gone[service.name] = self._gone.get(service.name, 0) + 1
        if looks > GONE_LOOKS:
            del self._gone[service.name]
        return looks <= GONE_LOOKS

    def states(self) -> list[ServiceState]:
        """Return the state of Prometheus, and of each replica."""
        first = self._prometheus.state
        return [*([] if first is None else [first]), *super().states()]


def services_of(urls: Sequence[str], prometheus: str, metrics: WatchMetrics) -> Services:
    """The services that are read themselves, or all that a Prometheus scrapes where it is named."""
    return ScrapedServices(prometheus, metrics) if prometheus else Services(urls, metrics)
