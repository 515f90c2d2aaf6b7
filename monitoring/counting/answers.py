"""What a service's `/metrics` says of its answers: how many, how fast, how many failed or flagged.

Only routes that predict count. The figures are of all models of the service, but the flags.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

SERIES = re.compile(
    r"^holdfast_(?P<name>http_requests_total|http_request_duration_seconds_bucket|flagged_total)"
    r'\{(?P<labels>(?:[^"}\n]|"(?:[^"\\\n]|\\.)*")*)\} (?P<value>\S+)',
    re.MULTILINE,
)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
PREDICTS = re.compile(r"/predict|.*:predict|.*/infer")  # and not the page's `/console/predict`
KINDS = ("drift", "perturbation", "query", "suspicious")
MOST = float(2**53)


@dataclass
class Answers:
    """Counters of the routes that predict, and of flags.

    Args:
        answered, failed: requests, and those of them with a status of 500 and above.
        buckets: requests by the seconds that they took at most.
        flagged: rows by model and kind.
    """

    answered: float = 0.0
    failed: float = 0.0
    buckets: dict[float, float] = field(default_factory=dict)
    flagged: dict[tuple[str, str], float] = field(default_factory=dict)

    def add(self, other: "Answers") -> None:
        """Add the counters of another service."""
        self.answered += other.answered
        self.failed += other.failed
        for bounds, count in other.buckets.items():
            self.buckets[bounds] = self.buckets.get(bounds, 0.0) + count
        for key, count in other.flagged.items():
            self.flagged[key] = self.flagged.get(key, 0.0) + count

    def since(self, before: "Answers") -> "Answers":
        """What was counted since; a counter that fell has begun anew."""

        def rise(now: float, then: float) -> float:
            return now - then if now >= then else now

        return Answers(
            rise(self.answered, before.answered),
            rise(self.failed, before.failed),
            {k: rise(v, before.buckets.get(k, 0.0)) for k, v in self.buckets.items()},
            {k: rise(v, before.flagged.get(k, 0.0)) for k, v in self.flagged.items()},
        )


def read_answers(text: str) -> Answers:
    """Read the counters from the Prometheus exposition of a service.

    >>> line = 'holdfast_http_requests_total{code="200",method="POST",route="/predict"} 3.0'
    >>> read_answers(line).answered
    3.0
    """
    found = Answers()
    for match in SERIES.finditer(text):
        labels, value = dict(LABEL.findall(match["labels"])), _count(match["value"])
        if value is None:
            continue
        if match["name"] == "flagged_total":
            key = labels.get("model", ""), labels.get("kind", "")
            found.flagged[key] = found.flagged.get(key, 0.0) + value
        elif PREDICTS.fullmatch(labels.get("route", "")):
            if match["name"] == "http_requests_total":
                found.answered += value
                found.failed += value if labels.get("code", "").startswith("5") else 0.0
            elif (bound := _bound(labels.get("le", ""))) is not None:
                found.buckets[bound] = found.buckets.get(bound, 0.0) + value
    return found


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """The seconds within which a share of the requests were answered; None where there were none.

    Within a bucket linear, as `histogram_quantile` of Prometheus; the last one gives its start.

    >>> quantile({0.001: 0.0, 0.002: 10.0, float("inf"): 10.0}, 0.5)
    0.0015
    """
    total = max(buckets.values(), default=0.0)
    if total <= 0:
        return None
    start, below = 0.0, 0.0
    for bound in sorted(buckets):
        if buckets[bound] >= share * total:
            if bound == float("inf"):
                return start
            inside = buckets[bound] - below
            return start + (bound - start) * (share * total - below) / inside if inside else bound
        start, below = bound, buckets[bound]
    return start


def _count(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= MOST else None


def _bound(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
