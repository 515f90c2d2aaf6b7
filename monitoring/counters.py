"""Reading the cell counters of one or several services, summed, as increments.

Counters only rise while a process group lives; a smaller value means a restart from zero.
"""

import re
from collections.abc import Mapping

from monitoring.direct import open_url

SERIES = re.compile(
    r"^holdfast_cell_observations_total\{(?P<labels>[^}]*)\} (?P<value>[0-9.e+]+)", re.MULTILINE
)
LABEL = re.compile(r'(\w+)="([^"]*)"')
TIMEOUT = 5.0

Cell = tuple[str, str, str, int]  # model, version, channel, cell
Counts = dict[Cell, float]


def fetch(url: str) -> str:
    """The text of a service's /metrics. Raises OSError."""
    with open_url(f"{url.rstrip('/')}/metrics", TIMEOUT) as answer:
        return str(answer.read().decode())


def parse(text: str) -> Counts:
    """The cell counters in a Prometheus exposition.

    >>> line = 'holdfast_cell_observations_total{cell="03",channel="energy",model="m",version="1"}'
    >>> parse(line + " 7.0")
    {('m', '1', 'energy', 3): 7.0}
    """
    counts: Counts = {}
    for match in SERIES.finditer(text):
        labels = dict(LABEL.findall(match["labels"]))
        key = (labels["model"], labels["version"], labels["channel"], int(labels["cell"]))
        counts[key] = counts.get(key, 0.0) + float(match["value"])
    return counts


def increments(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """What was added since `before`; where a counter fell, all of it is new.

    >>> increments({"energy/3": 7.0}, {"energy/3": 9.0})
    {'energy/3': 2.0}
    >>> increments({"energy/3": 7.0}, {"energy/3": 2.0})
    {'energy/3': 2.0}
    """
    added: dict[str, float] = {}
    for key, value in now.items():
        old = before.get(key, 0.0)
        gained = value - old if value >= old else value
        if gained:
            added[key] = gained
    return added
