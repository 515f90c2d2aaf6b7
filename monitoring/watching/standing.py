"""Where the loop stands with a model, as gauges: what runs since when, and what waits for people.

What a person must act on rests on these: a challenger that waits, a budget that is spent, labels
that fell silent, a disk that fills. 0 means that there is none; what is not known is absent, or 0
and said by name in `holdfast_figure_unknown`, where an alert needs it.
"""

import math
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.base.errors import RegistryError
from models.versions.registry import Registry
from models.versions.registry_state import read_instant
from monitoring.evidence.stream import Stream
from monitoring.loop.jobs import Job, JobStore
from monitoring.loop.metrics import HOLD_ENDS, WatchMetrics
from monitoring.loop.terms import terms_of
from monitoring.loop.triggers import DAY, ROBUSTNESS, Policy
from monitoring.records.store import RecordStore

SHOW_EVERY = 5.0  # seconds between two looks at a model's jobs
COUNT_EVERY = 60.0  # seconds between two looks at labels and at what the state holds
LABELS = 2000  # latest ones that the usual gap is learnt from
LEAST_GAPS = 3
MADE, GAP = "version_made", "usual_gap"  # figures that may not be known
PARTS = ("registry", "records", "jobs", "watch", "logs")


def usual_gap(times: npt.NDArray[np.float64]) -> float:
    """How long labels usually let wait for them: the second longest gap between minutes with one.

    The longest is left out, so that one outage does not become the rule.

    >>> nightly = np.concatenate([day * 86400.0 + np.arange(0, 600, 30) for day in range(5)])
    >>> round(usual_gap(nightly) / 3600)
    24
    >>> usual_gap(np.array([0.0, 1.0]))
    0.0

    Args:
        times: of labels, seconds since 1970, ascending.

    Returns:
        seconds; 0 with fewer than three gaps: not known yet.
    """
    minutes = np.unique(np.floor(times / 60.0)) * 60.0
    gaps = np.sort(np.diff(minutes))
    return float(gaps[-2]) if len(gaps) >= LEAST_GAPS else 0.0


def measure_parts(state: Path) -> dict[str, int]:
    """Bytes of each part of a state directory; `records` are its databases, with their inputs."""
    sizes = {part: _measure_folder(state / part) for part in PARTS}
    for entry in os.scandir(state):
        if entry.is_file(follow_symlinks=False):
            sizes["records"] += entry.stat(follow_symlinks=False).st_size
        elif entry.name.endswith(".segments"):
            sizes["records"] += _measure_folder(Path(entry.path))
    return sizes


def _measure_folder(folder: Path) -> int:
    size = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                size += (Path(root) / name).lstat().st_size
            except OSError:  # it went while it was counted
                continue
    return size


@dataclass
class Standings:
    """Shows how each model stands; `show` is called at every look, and works now and then."""

    policy: Policy
    state: Path
    registry: Registry
    jobs: JobStore
    records: RecordStore
    metrics: WatchMetrics
    due_at: Callable[[str], float]
    _shown: dict[str, float] = field(default_factory=dict)
    _counted: dict[str, float] = field(default_factory=dict)
    _stages: dict[str, set[str]] = field(default_factory=dict)

    def show(self, stream: Stream, now: float) -> None:
        """Export how a model stands. Raises SQLAlchemyError."""
        model = stream.model
        if not _is_due(self._shown, model, now, SHOW_EVERY):
            return
        made_at, gauges = read_instant(stream.bundle.manifest.created_at), self.metrics.standing
        gauges.made_at.remove_by_labels({"model": model})
        gauges.made_at.labels(model, str(stream.version)).set(made_at)
        gauges.unknown.labels(model, MADE).set(made_at == 0.0)
        self._show_registry(model, now)
        gauges.due_at.labels(model).set(self.due_at(model))
        self._show_jobs(model, now)
        self._shown[model] = now

    def show_labels(self, model: str, now: float) -> None:
        """Export when labels came last, and how long one usually waits. Raises StoreError."""
        if not _is_due(self._counted, model, now, COUNT_EVERY):
            return
        times = self.records.label_times(model, LABELS)
        self.metrics.standing.labelled_at.labels(model).set(times[-1] if len(times) else 0.0)
        gap = usual_gap(times)
        self.metrics.standing.usual_gap.labels(model).set(gap)
        self.metrics.standing.unknown.labels(model, GAP).set(gap == 0.0)
        self._counted[model] = now

    def show_disk(self, now: float) -> None:
        """Export what the state directory holds, and what its disk has left. Raises OSError."""
        if not _is_due(self._counted, "", now, COUNT_EVERY):
            return
        self.metrics.standing.free_bytes.set(shutil.disk_usage(self.state).free)
        for part, size in measure_parts(self.state).items():
            self.metrics.standing.used_bytes.labels(part).set(size)
        self._counted[""] = now

    def forget(self, model: str) -> None:
        """Forget a model that is gone."""
        for kept in (self._shown, self._counted, self._stages):
            kept.pop(model, None)

    def _show_registry(self, model: str, now: float) -> None:
        champion, held = math.nan, dict.fromkeys(HOLD_ENDS, math.nan)  # told as its problem already
        with suppress(RegistryError, OSError):
            state = self.registry.state(model)
            hold = state.find_hold(now)
            champion = float(state.aliases.champion or 0)
            held = dict.fromkeys(HOLD_ENDS, 0.0)
            if hold is not None:
                held[HOLD_ENDS[hold.until is not None]] = read_instant(hold.at)
        self.metrics.standing.champion.labels(model).set(champion)
        for ends, since in held.items():
            self.metrics.standing.held_since.labels(model, ends).set(since)

    def _show_jobs(self, model: str, now: float) -> None:
        open_jobs = self.jobs.unfinished(model)
        stages = {job.stage_name: job.in_stage_since for job in reversed(open_jobs)}
        known = self._stages.setdefault(model, {"approval", "training"})
        known |= stages.keys()
        for stage in known:
            self.metrics.standing.stage_since.labels(model, stage).set(stages.get(stage, 0.0))
        deadlines = [_deadline(job, now) for job in open_jobs if job.state == "waiting"]
        self.metrics.standing.deadline.labels(model).set(min(deadlines, default=0.0))
        today = self.jobs.begun(model, after=now - DAY, until=now)
        own = sum(job.source != "person" and job.kind != ROBUSTNESS for job in today)
        left = max(0, self.policy.daily_budget - own)
        self.metrics.standing.budget_left.labels(model).set(left)


def _is_due(shown: Mapping[str, float], key: str, now: float, every: float) -> bool:
    """Whether it is time again; what failed is tried at the next look, or it would look mended."""
    return not 0 <= now - shown.get(key, -every) < every


def _deadline(job: Job, now: float) -> float:
    """When a waiting job expires, seconds since 1970, if its watcher goes on running."""
    passed: Mapping[str, float] = job.waited
    since_noted = max(0.0, now - max(job.in_stage_since, job.updated_at))
    left = terms_of(job).approval_timeout_seconds - passed.get(job.stage, 0.0) - since_noted
    return now + max(0.0, left)
