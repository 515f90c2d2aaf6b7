"""Counters as Prometheus has scraped them: a page of each replica, as the replica itself gave it.

All samples of a scrape are taken together: an instant query gives the page of the last scrape. Of a
replica that cannot be scraped any more Prometheus answers nothing; what its last good scrape saw is
asked for once, so that nothing that was scraped is lost. A replica without a fresh scrape is not
known, which is not the same as no traffic.
"""

import json
import re
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from models.base.errors import HoldfastError
from monitoring.counting.counters import TIMEOUT, Page, read_page, read_url

JOB = "holdfast-service"  # as the shipped configuration, rules and dashboards have it
LATE_SECONDS = 130.0  # two scrapes of a minute, the longest interval that is usual, and a little
WINDOW = "15m"  # in which the last good scrape of a replica is looked for
NAMES = (
    "cell_observations_total|predictions_total|repeats_total|model_loaded_timestamp_seconds"
    "|http_requests_total|http_request_duration_seconds_bucket|flagged_total"
)
SERIES = f'{{__name__=~"holdfast_({NAMES})",job="{JOB}"}}'
UP = f'up{{job="{JOB}"}}'
AGE = f"time() - timestamp({UP})"
OF_PROMETHEUS = ("__name__", "instance", "job")  # labels that are not the replica's own
MOST_BYTES = 1 << 28

Fault = Literal["unscraped", "late", "gone"]


class ScrapeError(HoldfastError):
    """Prometheus answers, but not with what was asked for."""


@dataclass
class Replica:
    """What Prometheus has of a replica.

    Args:
        page: of its last scrape; None where that failed, or was of another program.
        fault: why it is not known how it does now; empty where it is.
        detail: the fault in words.
    """

    page: Page | None = None
    fault: Fault | Literal["not_metrics", ""] = ""
    detail: str = ""


@dataclass
class PrometheusSource:
    """Reads all replicas of the job `holdfast-service` from a Prometheus; for one thread.

    Args:
        url: of Prometheus, with its prefix where it has one.
    """

    url: str
    _known: set[str] = field(default_factory=set)  # scraped at the look before

    def read(self) -> dict[str, Replica]:
        """Return the replicas by the label `instance`: those there are, and those just gone.

        Raises:
            OSError, HTTPException, ValueError: as `counters.read_url`.
            ScrapeError: the answer is no result of Prometheus.
        """
        up = {_instance(row): _value(row) for row in self._ask(UP)}
        ages = {_instance(row): _value(row) for row in self._ask(AGE)}
        pages = _by_instance(self._ask(SERIES))
        found: dict[str, Replica] = {}
        for name in sorted(up.keys() | self._known):
            fault, detail = _judge(up.get(name), ages.get(name))
            found[name] = Replica(None, fault, detail)
            if not fault or fault == "late":
                self._fill(found[name], pages.get(name, ""))
            elif name in self._known:
                self._fill(found[name], self._last_page(name))
        self._known = {name for name, replica in found.items() if not replica.fault}
        return found

    def _fill(self, replica: Replica, text: str) -> None:
        """Read a page; one that is of another program is the fault where there was none."""
        try:
            replica.page = read_page(text)
        except HoldfastError as error:
            if not replica.fault:
                replica.fault, replica.detail = "not_metrics", str(error)

    def _last_page(self, name: str) -> str:
        """The page of the last good scrape of a replica that is not scraped any more."""
        instance = f'{SERIES[:-1]},instance="{_escape(name)}"}}'
        rows = self._ask(f"{instance}[{WINDOW}]")
        last = max((float(row["values"][-1][0]) for row in rows), default=0.0)
        lines = (
            _line(row["metric"], row["values"][-1][1])
            for row in rows
            if float(row["values"][-1][0]) == last
        )
        return "\n".join(lines)

    def _ask(self, query: str) -> list[Any]:
        form = urllib.parse.urlencode({"query": query}).encode()
        text = read_url(f"{self.url.rstrip('/')}/api/v1/query", TIMEOUT, form, MOST_BYTES)
        try:
            rows = json.loads(text)["data"]["result"]
            assert isinstance(rows, list)
        except (ValueError, KeyError, TypeError, AssertionError):
            raise ScrapeError(f"no answer of Prometheus: it begins {text.strip()[:40]!r}") from None
        return rows


def _judge(up: float | None, age: float | None) -> tuple[Fault | Literal[""], str]:
    """Why it is not known how a replica does; empty where Prometheus has just scraped it.

    >>> _judge(0.0, 1.0)
    ('unscraped', 'Prometheus cannot scrape it')
    """
    if up is None:
        return "gone", "Prometheus has no such target any more"
    if up != 1.0:
        return "unscraped", "Prometheus cannot scrape it"
    if age is None or not age <= LATE_SECONDS:
        words = "at a time that is not known" if age is None else f"{age:.0f} s ago"
        return "late", f"Prometheus scraped it last {words}"
    return "", ""


def _by_instance(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    lines: dict[str, list[str]] = {}
    for row in rows:
        lines.setdefault(_instance(row), []).append(_line(row["metric"], row["value"][1]))
    return {name: "\n".join(of_replica) for name, of_replica in lines.items()}


def _instance(row: Mapping[str, Any]) -> str:
    return str(row["metric"].get("instance", ""))


def _value(row: Mapping[str, Any]) -> float:
    return float(row["value"][1])


def _line(labels: Mapping[str, str], value: str) -> str:
    """A series as the replica wrote it.

    >>> _line({"__name__": "holdfast_predictions_total", "job": "x", "model": 'a"b'}, "7")
    'holdfast_predictions_total{model="a\\\\"b"} 7'
    """
    own = (f'{k}="{_escape(v)}"' for k, v in labels.items() if k not in OF_PROMETHEUS)
    return f"{labels['__name__']}{{{','.join(own)}}} {value}"


def _escape(text: str) -> str:
    return re.sub(r'[\\"\n]', lambda m: "\\n" if m[0] == "\n" else f"\\{m[0]}", text)
