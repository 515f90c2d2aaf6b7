"""Keeps the table of metrics in docs/metrics.md as the code has it.

    python -m monitoring.prometheus.metrics_page

Names, types, labels, sources and order come from the code. What a metric means may be said at
length in the page, and stays as it is there; a new one begins with the help text of the code.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from prometheus_client.metrics import MetricWrapperBase

from monitoring.counting.metrics import Metrics
from monitoring.loop.metrics import WatchMetrics

PATH = Path(__file__).parents[2] / "docs" / "metrics.md"
HEAD = "| name | type | labels | source | meaning |\n|---|---|---|---|---|\n"


class Row(NamedTuple):
    """A metric as the page shows it."""

    name: str
    type: str
    labels: tuple[str, ...]
    source: str
    help: str


def exported_metrics() -> Iterator[Row]:
    """What service and watcher export, in the order of the code."""
    watcher = WatchMetrics()
    for holder, source in ((Metrics(), "service"), (watcher, "watcher"),
                           (watcher.standing, "watcher")):  # fmt: skip
        for metric in vars(holder).values():
            if isinstance(metric, MetricWrapperBase):
                name = metric._name + ("_total" if metric._type == "counter" else "")
                text = metric._documentation.rstrip(".")
                yield Row(name, str(metric._type), tuple(metric._labelnames), source, text)


def render_page(page: str) -> str:
    """The page with its first table made anew; the rest stays.

    Raises:
        ValueError: the page has no such table.
    """
    begin = page.index(HEAD)
    end = page.index("\n\n", begin)
    table = re.compile(r"^\| `(\w+)` \|.*?\|.*?\|.*?\| (.*) \|$", re.MULTILINE)
    meanings = dict(table.findall(page[begin:end]))
    rows = [
        f"| `{row.name}` | {row.type} | {', '.join(row.labels)} | {row.source} |"
        f" {meanings.get(row.name, row.help)} |".replace("|  |", "| |")
        for row in exported_metrics()
    ]
    return page[:begin] + HEAD + "\n".join(rows) + page[end:]


if __name__ == "__main__":
    PATH.write_text(render_page(PATH.read_text(encoding="utf-8")), encoding="utf-8")
