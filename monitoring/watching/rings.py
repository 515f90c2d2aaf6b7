"""What a model did of late, for pictures: coarser the longer ago, and kept over restarts.

    2 s x 10 min        30 s x 6 h        5 min x 7 d

A point is what was counted in its time, and what stood at its end. Where points are added up, the
median is weighted by answers, and of the 99 % quantiles and the evidence the largest stays.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from models.base.files import write_atomic
from models.base.logs import logger

SPANS = {"10m": (2.0, 300), "6h": (30.0, 720), "7d": (300.0, 2016)}
WRITE_SECONDS = 60.0
MOST_CHANNELS = 24  # lines of a picture; of more, those with the most evidence now
log = logger("watcher")


class Point(msgspec.Struct, frozen=True, array_like=True):
    """A short time of a model.

    Args:
        at: seconds since 1970 of its end; seconds: how long it was.
        version: that was watched.
        requests: that the evidence of the version had counted at its end.
        rows: answered; answered, failed: requests of the service, of all models.
        p50, p99: seconds of an answer; None without any.
        drift, perturbed, probing, suspicious: rows flagged.
        accuracy, low, high: observed, with its interval; estimate: without labels.
        strongest: log10 of the most evidence of a channel.
        evidence: log10 by channel, in the order of `Rings.channels`.
    """

    at: float
    seconds: float
    version: int
    requests: int = 0
    rows: float = 0.0
    answered: float = 0.0
    failed: float = 0.0
    p50: float | None = None
    p99: float | None = None
    drift: float = 0.0
    perturbed: float = 0.0
    probing: float = 0.0
    suspicious: float = 0.0
    accuracy: float | None = None
    low: float | None = None
    high: float | None = None
    estimate: float | None = None
    strongest: float = 0.0
    evidence: tuple[float, ...] = ()

    def join(self, later: "Point") -> "Point":
        """Return this point with the one that came directly after it."""
        old, new = self.answered, later.answered
        return msgspec.structs.replace(
            later,
            seconds=self.seconds + later.seconds,
            rows=self.rows + later.rows,
            answered=old + new,
            failed=self.failed + later.failed,
            p50=_mean(self.p50, later.p50, old, new),
            p99=max((p for p in (self.p99, later.p99) if p is not None), default=None),
            drift=self.drift + later.drift,
            perturbed=self.perturbed + later.perturbed,
            probing=self.probing + later.probing,
            suspicious=self.suspicious + later.suspicious,
            strongest=max(self.strongest, later.strongest),
        )


class Rates(msgspec.Struct, frozen=True):
    """How a model does now; shares as counts, so that their intervals can be told.

    Args:
        per_second: requests answered, of the last minute; None before a minute part is known.
        p50, p99: seconds, of the last minute.
        answered_hour, failed_hour: requests of the last hour.
        rows, drift, perturbed, probing, suspicious: of the last five minutes.
        since: when what is known begins, seconds since 1970.
    """

    per_second: float | None = None
    p50: float | None = None
    p99: float | None = None
    answered_hour: float = 0.0
    failed_hour: float = 0.0
    rows: float = 0.0
    drift: float = 0.0
    perturbed: float = 0.0
    probing: float = 0.0
    suspicious: float = 0.0
    since: float | None = None


class _File(msgspec.Struct):
    channels: tuple[str, ...]
    points: dict[str, list[Point]]


@dataclass
class Rings:
    """The points of one model. One thread adds; any thread may read.

    >>> rings = Rings(None)
    >>> for at in (2.0, 4.0, 33.0):
    ...     rings.add(Point(at, 2.0, 1, rows=10.0), ())
    >>> [len(rings.of(span)) for span in SPANS], rings.of("7d")[0].rows
    ([3, 2, 1], 30.0)
    """

    path: Path | None
    channels: tuple[str, ...] = ()
    _points: dict[str, list[Point]] = field(default_factory=lambda: {span: [] for span in SPANS})
    _written_at: float = 0.0

    @classmethod
    def open(cls, path: Path) -> "Rings":
        """Go on from a file; one that cannot be read is begun anew: these are pictures."""
        rings = cls(path)
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=_File)
        except FileNotFoundError:
            return rings
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("pictures_begun_anew", path=str(path), reason=str(error))
            return rings
        rings.channels = kept.channels
        for span, (_, most) in SPANS.items():
            rings._points[span] = kept.points.get(span, [])[-most:]
        return rings

    def add(self, point: Point, channels: tuple[str, ...]) -> None:
        """Add a point whose evidence is that of `channels`."""
        if channels != self.channels:
            self.channels = channels
            for span, points in self._points.items():
                bare = [msgspec.structs.replace(p, evidence=()) for p in points]
                self._points[span] = bare
        for span, (step, most) in SPANS.items():
            points = self._points[span]
            if points and points[-1].at > point.at:  # the clock was set back
                points = [p for p in points if p.at <= point.at]
            same = bool(points) and math.floor(points[-1].at / step) == math.floor(point.at / step)
            joins = same and points[-1].version == point.version
            last = [points[-1].join(point)] if joins else [point]
            kept = points[:-1] if joins else points
            self._points[span] = [*kept[-(most - 1) :], *last]  # replaced: others may read it

    def of(self, span: str) -> list[Point]:
        """The points of a span, the oldest first."""
        return self._points[span]

    def write(self, now: float) -> None:
        """Write the file, once a minute. Raises OSError."""
        if self.path is None or 0 <= now - self._written_at < WRITE_SECONDS:
            return
        self._written_at = now
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, msgspec.json.encode(_File(self.channels, self._points)))

    def rates(self, now: float) -> Rates:
        """How the model does now."""
        minute = _last(self._points["10m"], now, 60.0)
        five = _last(self._points["10m"], now, 300.0)
        hour = _last(self._points["6h"], now, 3600.0)
        known = self._points["7d"] or self._points["6h"]
        seconds = sum(p.seconds for p in minute)
        joined = minute[0] if minute else None
        for point in minute[1:]:
            joined = point if joined is None else joined.join(point)
        return Rates(
            per_second=sum(p.answered for p in minute) / seconds if seconds else None,
            p50=None if joined is None else joined.p50,
            p99=None if joined is None else joined.p99,
            answered_hour=sum(p.answered for p in hour),
            failed_hour=sum(p.failed for p in hour),
            rows=sum(p.rows for p in five),
            drift=sum(p.drift for p in five),
            perturbed=sum(p.perturbed for p in five),
            probing=sum(p.probing for p in five),
            suspicious=sum(p.suspicious for p in five),
            since=known[0].at - known[0].seconds if known else None,
        )


def _last(points: Sequence[Point], now: float, seconds: float) -> list[Point]:
    return [p for p in points if 0 <= now - p.at <= seconds]


def _mean(a: float | None, b: float | None, weight_a: float, weight_b: float) -> float | None:
    if a is None or b is None:
        return b if a is None else a
    total = weight_a + weight_b
    return (a * weight_a + b * weight_b) / total if total else b
