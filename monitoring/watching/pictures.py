"""Keeps the rings of every watched model: a point for each look of the watcher."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from monitoring.counting.answers import Answers, quantile
from monitoring.counting.counters import Page
from monitoring.evidence.accuracy_watch import Accuracy
from monitoring.evidence.stream import Stream
from monitoring.watching.rings import MOST_CHANNELS, Point, Rings

Counts = Mapping[str, tuple[Answers, float]]  # by service: answers, and rows of a model
LONGEST_SECONDS = 600.0  # between two looks; after a longer pause the rate is not known


@dataclass
class Pictures:
    """The rings by model; `folder` is where they are kept."""

    folder: Path
    rings: dict[str, Rings] = field(default_factory=dict)
    _before: dict[str, tuple[float, Counts]] = field(default_factory=dict)

    def of(self, model: str) -> Rings:
        """The rings of a model; empty ones where nothing was noted."""
        return self.rings.get(model) or Rings(None)

    def note(
        self, stream: Stream, pages: Mapping[str, Page], accuracy: Accuracy, now: float
    ) -> None:
        """Add the point of a look. Raises OSError where the file cannot be written."""
        model, rings = stream.model, self.rings.get(stream.model)
        if rings is None:
            rings = self.rings[model] = Rings.open(self.folder / f"{model}.json")
        counts = {n: (p.answers, p.predictions.get(model, 0.0)) for n, p in pages.items()}
        then, before = self._before.get(model, (now, counts))
        if pages:
            self._before[model] = now, counts
        seconds = now - then
        counted = bool(pages) and 0 < seconds <= LONGEST_SECONDS
        new, fresh = _gain(before, counts) if counted else (Answers(), 0.0)
        evidence = stream.evidence.log10_evidence()
        names = tuple(sorted(evidence, key=lambda name: -evidence[name])[:MOST_CHANNELS])
        if set(rings.channels) <= set(evidence) and len(rings.channels) == len(names):
            names = rings.channels  # the same lines as before, even where others have more now
        observed, estimated = accuracy.observed, accuracy.estimated
        live = None if observed is None or not observed.accuracy.n else observed.accuracy
        point = Point(
            at=round(now, 1),
            seconds=round(seconds, 2) if counted else 0.0,
            version=stream.version,
            requests=stream.evidence.requests,
            rows=fresh,
            answered=new.answered,
            failed=new.failed,
            p50=_round(quantile(new.buckets, 0.5)),
            p99=_round(quantile(new.buckets, 0.99)),
            drift=new.flagged.get((model, "drift"), 0.0),
            perturbed=new.flagged.get((model, "perturbation"), 0.0),
            probing=new.flagged.get((model, "query"), 0.0),
            suspicious=new.flagged.get((model, "suspicious"), 0.0),
            accuracy=None if live is None else live.value,
            low=None if live is None else live.low,
            high=None if live is None else live.high,
            estimate=None if estimated is None else round(estimated.value, 4),
            strongest=round(max(evidence.values(), default=0.0), 2),
            evidence=tuple(round(evidence[name], 2) for name in names),
        )
        rings.add(point, names)
        rings.write(now)

    def forget(self, model: str) -> None:
        """The model is gone."""
        self.rings.pop(model, None)
        self._before.pop(model, None)


def _gain(before: Counts, counts: Counts) -> tuple[Answers, float]:
    """What was counted between two looks by the services that both could read.

    One that was away for a look would seem to have answered all at once what it ever had.
    """
    new, fresh = Answers(), 0.0
    for name, (answers, rows) in counts.items():
        if name in before:
            old_answers, old_rows = before[name]
            new.add(answers.since(old_answers))
            fresh += rows - old_rows if rows >= old_rows else rows
    return new, fresh


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
