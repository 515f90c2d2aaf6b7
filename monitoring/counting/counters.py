"""Reads the counters of a service's `/metrics`: cells, predictions, and the time of loading.

Counters only rise while the service lives; a smaller value means a restart from zero. A value that
cannot be a count (NaN, infinite, negative, beyond 2^53) is left out with its whole channel and
named: a channel without some of its cells would look like drift.
"""

import re
import time
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from models.base.errors import HoldfastError
from monitoring.counting.answers import Answers, read_answers

SERIES = re.compile(
    r"^holdfast_(?P<name>cell_observations_total|predictions_total|repeats_total"
    r"|model_loaded_timestamp_seconds)"
    r'\{(?P<labels>(?:[^"}\n]|"(?:[^"\\\n]|\\.)*")*)\} (?P<value>\S+)',
    re.MULTILINE,
)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
ESCAPED = re.compile(r"\\(.)")
# What a service of ours says first, with a model or without.
OURS = re.compile(
    r"^(?:# TYPE )?holdfast_(?:http_requests|predictions|cell_observations)_total\b", re.MULTILINE
)
MOST = float(2**53)  # beyond it a counter no longer counts one by one
MOST_BYTES = 1 << 26
CHUNK_BYTES = 1 << 16
TIMEOUT = 5.0

Cell = tuple[str, str, str, int]  # model, version, channel, cell
Counts = dict[Cell, float]


class ForeignPageError(HoldfastError):
    """The answer does not come from a Holdfast service."""


@dataclass
class Page:
    """The counters of a service."""

    cells: Counts = field(default_factory=dict)
    predictions: dict[str, float] = field(default_factory=dict)  # rows answered, by model
    repeats: dict[str, float] = field(default_factory=dict)  # of those, rows that no cell counts
    loaded_at: float | None = None  # when a version was last loaded, seconds since 1970
    spoiled: set[str] = field(default_factory=set)  # channels with a value that is no count
    answers: Answers = field(default_factory=Answers)

    def counted(self, model: str) -> float:
        """Rows of a model that cells should have."""
        return self.predictions.get(model, 0.0) - self.repeats.get(model, 0.0)


def share_of_repeats(pages: Iterable[Page], model: str) -> float | None:
    """Return the share of a model's rows that no cell counts because they repeat others.

    None where no page says so, or there were no rows.

    >>> share_of_repeats([Page(predictions={"m": 8.0}, repeats={"m": 2.0}), Page()], "m")
    0.25
    """
    telling = [page for page in pages if model in page.repeats]
    rows = sum(page.predictions.get(model, 0.0) for page in telling)
    return sum(page.repeats[model] for page in telling) / rows if rows else None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Treats a redirect as an error: the setting must name the address itself."""

    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        """Follow nothing."""


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())


def fetch(url: str, timeout_seconds: float = TIMEOUT) -> str:
    """Fetch the text of a service's /metrics, without a proxy and without following redirects.

    Args:
        url: of the service.
        timeout_seconds: for the whole answer.

    Raises:
        OSError: the service does not answer, or not in time.
        HTTPException: the answer is no HTTP.
        ValueError: the answer is no text, or too large.
    """
    return read_url(f"{url.rstrip('/')}/metrics", timeout_seconds)


def read_url(
    url: str, timeout_seconds: float, form: bytes | None = None, most_bytes: int = MOST_BYTES
) -> str:
    """Fetch a text as `fetch` does, from any address; with a `form` by POST. Raises as `fetch`."""
    deadline = time.monotonic() + timeout_seconds
    with _OPENER.open(url, form, timeout_seconds) as answer:
        parts, size = [], 0
        while chunk := answer.read1(CHUNK_BYTES):
            parts.append(chunk)
            size += len(chunk)
            if size > most_bytes:
                raise ValueError(f"more than {most_bytes >> 20} MiB")
            if time.monotonic() > deadline:
                raise TimeoutError(f"no whole answer within {timeout_seconds:g} s")
        if answer.length:  # a connection that was cut: the rest would count as gone
            raise ValueError(f"the answer ends {answer.length} bytes early")
    return b"".join(parts).decode()


def hide_password(url: str) -> str:
    """Return a URL for people and labels: without user, password and query.

    >>> hide_password("http://me:secret@[::1]:8080/inner?token=x")
    'http://[::1]:8080/inner'
    """
    parts = urlsplit(url)
    return urlunsplit(
        (parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", "")
    )


def read_page(text: str) -> Page:
    """Read the counters from the Prometheus exposition of a service.

    Raises:
        ForeignPageError: the page does not come from a Holdfast service.
    """
    if not OURS.search(text):
        what = "an empty page" if not text.strip() else f"a page that begins {text.strip()[:40]!r}"
        raise ForeignPageError(f"{what}, no metrics of a service of Holdfast")
    page, spoiled = Page(answers=read_answers(text)), set()
    for match in SERIES.finditer(text):
        labels = {
            name: ESCAPED.sub(_plain, value) for name, value in LABEL.findall(match["labels"])
        }
        value = _count(match["value"])
        try:
            model = labels["model"]
            if match["name"] == "cell_observations_total":
                key = (model, labels["version"], labels["channel"], int(labels["cell"]))
                if value is None:
                    spoiled.add(key[:3])
                else:
                    page.cells[key] = page.cells.get(key, 0.0) + value
            elif match["name"] == "predictions_total":
                page.predictions[model] = page.predictions.get(model, 0.0) + (value or 0.0)
            elif match["name"] == "repeats_total":
                page.repeats[model] = page.repeats.get(model, 0.0) + (value or 0.0)
            elif value is not None:
                page.loaded_at = max(page.loaded_at or 0.0, value)
        except (KeyError, ValueError):
            continue  # a series of another shape says nothing of this one
    page.cells = {key: count for key, count in page.cells.items() if key[:3] not in spoiled}
    page.spoiled = {"/".join(each) for each in spoiled}
    return page


def parse(text: str) -> Counts:
    """Read the cell counters of a Prometheus exposition; empty for a foreign page.

    For tests and benchmarks; the watcher reads whole pages.

    >>> line = 'holdfast_cell_observations_total{cell="03",channel="energy",model="m",version="1"}'
    >>> parse(line + " 7.0")
    {('m', '1', 'energy', 3): 7.0}
    """
    try:
        return read_page(text).cells
    except ForeignPageError:
        return {}


def _count(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= MOST else None  # NaN is neither


def _plain(match: "re.Match[str]") -> str:
    return "\n" if match[1] == "n" else match[1]


def increments(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """Return the increments since `before`; where a counter fell, all of it is new.

    >>> increments({"energy/3": 7.0}, {"energy/3": 9.0})
    {'energy/3': 2.0}
    >>> increments({"energy/3": 7.0}, {"energy/3": 2.0})
    {'energy/3': 2.0}
    """
    gains: dict[str, float] = {}
    for key, value in now.items():
        old = before.get(key, 0.0)
        gained = value - old if value >= old else value
        if gained:
            gains[key] = gained
    return gains
