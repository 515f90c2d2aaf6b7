"""What `GET /models` of the watcher says: a row for every model, also for one that cannot be read.

Asked by any thread while the watcher looks: each part is asked by itself, and one that is not known
is null.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from models.base.logs import logger
from monitoring.evidence.performance import expected_accuracy, promised_accuracy
from monitoring.evidence.stream import Stream
from monitoring.watching.problems import ALL_MODELS
from monitoring.watching.watcher import Watcher

log = logger("watcher")


def describe_models(watcher: Watcher) -> list[dict[str, Any]]:
    """One row a model: what is watched, how it stands, what is wrong, since when, what to do."""
    names = dict.fromkeys([*watcher.watched.names, *list(watcher.streams)])
    return [_row(watcher, model) for model in sorted(names)]


def _row(watcher: Watcher, model: str) -> dict[str, Any]:
    stream = watcher.streams.get(model)
    troubles = watcher.problems.of(model) + watcher.problems.of(ALL_MODELS)
    first = troubles[0] if troubles else None
    return {
        "model": model,
        "version": None if stream is None else stream.version,
        **(_known(model, lambda: _evidence(stream)) or _UNWATCHED),
        "observed_accuracy": _known(model, lambda: _live(watcher, model)),
        "accuracy": _known(model, lambda: msgspec.to_builtins(watcher.accuracy(model))),
        "aliases": _known(model, lambda: msgspec.to_builtins(watcher.registry.aliases(model))),
        "problem": None if first is None else first.problem,
        "since": None if first is None else first.since,
        "advice": None if first is None else first.advice,
        "problems": msgspec.to_builtins(troubles),
        "services": msgspec.to_builtins(watcher.services.states()),
    }


_UNWATCHED: dict[str, Any] = dict.fromkeys(
    (
        "requests", "evidence_log10", "threshold_log10", "alarm", "alarm_since", "promise",
        "last_alarm", "expected_accuracy",
    )
)  # fmt: skip


def _evidence(stream: Stream | None) -> dict[str, Any] | None:
    if stream is None:
        return None
    alarm = stream.evidence.alarm
    return {
        "requests": stream.evidence.requests,
        "evidence_log10": stream.evidence.log10_evidence(),
        "threshold_log10": stream.evidence.threshold_log10,
        "alarm": None if alarm is None else msgspec.to_builtins(alarm),
        "alarm_since": stream.alarm_since,
        "promise": stream.promise,
        "last_alarm": msgspec.to_builtins(stream.explained),
        "expected_accuracy": expected_accuracy(
            promised_accuracy(stream.bundle.manifest.evaluation)
        ),
    }


def _live(watcher: Watcher, model: str) -> Any:
    stream = watcher.streams.get(model)
    if watcher.problems.has(model, "records"):
        return None  # who asks would wait for the store as the look did
    live = None if stream is None else watcher.observe(stream)
    return msgspec.to_builtins(live) if live is not None and live.n else None


def _known(model: str, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except Exception as error:  # it is a problem of the watcher's next look, by name
        log.debug("not_known", model=model, error=type(error).__name__)
        return None
