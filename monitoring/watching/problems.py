"""Problems of a model, by name: what is wrong, since when, and what to do.

One broken part stops nothing else: each part of a look is tried by itself, and a part that fails
becomes a problem of that model. A problem is logged when it begins, every hour after that, and when
it is over; it is counted, exported, and listed in `GET /models`.
"""

import threading
from collections.abc import Callable
from typing import Literal, TypeVar, get_args

import msgspec
from prometheus_client import Counter, Gauge

from models.base.errors import HoldfastError
from models.base.logs import logger

Problem = Literal[
    "alias_file",
    "audit_file",
    "model_missing",
    "champion_missing",
    "champion_damaged",
    "model_unwatched",
    "counters_still",
    "counters_refused",
    "evidence_state",
    "history",
    "acceptance",
    "evidence",
    "explanation",
    "figures",
    "pictures",
    "records",
    "accuracy",
    "labels",
    "trigger",
    "schedule_state",
    "registry",
    "prune",
    "standing",
    "disk",
    "unexpected",
]
PROBLEMS: tuple[Problem, ...] = get_args(Problem)  # the gravest first
ALL_MODELS = ""  # the model of a problem that is no single one's
LOG_AGAIN_SECONDS = 3600.0
SHOWN_CHARACTERS = 300
Result = TypeVar("Result")
log = logger("watcher")

ADVICE: dict[Problem, str] = {
    "alias_file": "write it anew: holdfast models promote <model> <version>",
    "audit_file": "restore audit.jsonl of the model from a backup, or begin a new one: "
    "holdfast models promote <model> <version>",
    "model_missing": "HOLDFAST_MODELS names a model that the registry does not hold: train it, or "
    "take the name out",
    "champion_missing": "restore the version's folder, or promote another version",
    "champion_damaged": "holdfast models verify <model> <version> names the file; restore it, or "
    "promote another version",
    "model_unwatched": "compare HOLDFAST_SERVICE_URL with where the model is served; see the "
    "service's /readyz and its log",
    "counters_still": "see which version the service answers with (/v2/models/<model>) and why it "
    "did not take the champion",
    "counters_refused": "see the service's /metrics: what is there cannot have been counted",
    "evidence_state": "see that the folder watch/ of the state can be written and has space; a "
    "file that could not be read was set aside, and the evidence began anew",
    "history": "see that the folder watch/history/ of the state can be written and has space; a "
    "file that could not be read was set aside, and what was recorded of the version began anew",
    "acceptance": "accept a period that is recorded: holdfast drift accept <model>; or take the "
    "acceptance back: holdfast drift accept <model> --undo",
    "evidence": "see the watcher's log; the counters of later looks are weighed again",
    "explanation": "see the watcher's log; the alarm itself stands",
    "figures": "the version's evaluation cannot be shown: holdfast evaluate makes it anew",
    "pictures": "see that the folder watch/rings/ can be written; only pictures are lost",
    "records": "see that the database of records answers (HOLDFAST_DATABASE_URL)",
    "accuracy": "see the watcher's log; nothing else depends on it",
    "labels": "see the watcher's log; labels that were not weighed are weighed at a later look",
    "trigger": "see that the database of jobs answers; the event is tried again at every look",
    "schedule_state": "see that watch/schedule.json of the state can be written",
    "registry": "see that the registry's folder is there and can be read: is it mounted?",
    "prune": "see that the database of records can be written and has space",
    "standing": "see that the databases of jobs and records answer; it is shown at a later look",
    "disk": "see that the state directory can be read",
    "unexpected": "see the watcher's log, and report it: it is a defect",
}


class Trouble(msgspec.Struct, frozen=True):
    """A problem that a model has now; times are seconds since the epoch."""

    problem: Problem
    since: float
    detail: str
    advice: str


class Problems:
    """The problems of all models. One thread notes them; any thread may read them.

    Args:
        gauge: 1 while a model has a problem, 0 once it is known not to have it.
        counter: times that it began.
    """

    def __init__(self, gauge: Gauge, counter: Counter) -> None:
        self._gauge = gauge
        self._counter = counter
        self._troubles: dict[tuple[str, Problem], Trouble] = {}
        self._logged_at: dict[tuple[str, Problem], float] = {}
        self._lock = threading.Lock()

    def note(self, model: str, problem: Problem, detail: str, now: float) -> None:
        """Note a problem of a model; a new one is logged and counted."""
        key, detail = (model, problem), detail[:SHOWN_CHARACTERS]
        advice = ADVICE[problem].replace("<model>", model or "<model>")
        with self._lock:
            trouble = self._troubles.get(key)
            since = now if trouble is None else min(trouble.since, now)  # also of a clock set back
            self._troubles[key] = Trouble(problem, since, detail, advice)
            loud = trouble is None or abs(now - self._logged_at[key]) >= LOG_AGAIN_SECONDS
            if loud:
                self._logged_at[key] = now
        self._gauge.labels(model, problem).set(1)
        if trouble is None:
            self._counter.labels(model, problem).inc()
        if loud:
            log.error("problem", model=model, problem=problem, detail=detail, advice=advice)

    def clear(self, model: str, problem: Problem, now: float) -> None:
        """Clear a problem that the model does not have; one that this look noted stays."""
        key = (model, problem)
        with self._lock:
            trouble = self._troubles.get(key)
            if trouble is not None and trouble.since == now:
                return
            self._troubles.pop(key, None)
            self._logged_at.pop(key, None)
        self._gauge.labels(model, problem).set(0)
        if trouble is not None:
            lasted = round(now - trouble.since, 1)
            log.info("problem_over", model=model, problem=problem, lasted_seconds=lasted)

    def attempt(
        self, model: str, problem: Problem, now: float, do: Callable[[], Result]
    ) -> Result | None:
        """Return what `do` returns; None where it fails, which is noted."""
        try:
            result = do()
        except Exception as error:
            if (model, problem) not in self._troubles and not isinstance(error, HoldfastError):
                log.exception("part_failed", model=model, problem=problem)
            self.note(model, problem, in_words(error), now)
            return None
        self.clear(model, problem, now)
        return result

    def of(self, model: str) -> list[Trouble]:
        """Return the problems of a model, the gravest first."""
        with self._lock:
            troubles = [t for (name, _), t in self._troubles.items() if name == model]
        return sorted(troubles, key=lambda trouble: PROBLEMS.index(trouble.problem))

    def has(self, model: str, problem: Problem) -> bool:
        """Whether the model has the problem now."""
        return (model, problem) in self._troubles

    def forget(self, model: str) -> None:
        """Forget a model that is gone, and its problems."""
        with self._lock:
            for key in [key for key in self._troubles if key[0] == model]:
                del self._troubles[key]
                self._logged_at.pop(key, None)


def in_words(error: BaseException) -> str:
    """Describe an error for people without a token: ours in full, others by their type only.

    >>> in_words(ValueError("postgresql://me:secret@host"))
    "ValueError; the watcher's log says more"
    >>> in_words(OSError(28, "No space left on device"))
    'OSError: No space left on device'
    """
    if isinstance(error, HoldfastError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}"
    return f"{type(error).__name__}; the watcher's log says more"
