"""The rows of the watcher's `GET /models`: one for every model, also for one that cannot be read.

Any thread may ask while the watcher looks. Each part of a row is read by itself; a part that cannot
be read is null.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from models.base.logs import logger
from models.statistics.shares import Proportion
from models.versions.registry_state import Aliases, Anchor, Canary, Hold
from monitoring.evidence.accuracy_watch import Accuracy
from monitoring.evidence.labels.watch import Harm
from monitoring.evidence.performance import expected_accuracy, promised_accuracy
from monitoring.evidence.stream import Stream
from monitoring.loop.deciding.waits import Wait
from monitoring.watching.drift_status import DriftStatus, describe_drift
from monitoring.watching.problems import ALL_MODELS, Problem, Trouble
from monitoring.watching.services import ServiceState
from monitoring.watching.watcher import Watcher

Part = TypeVar("Part")
log = logger("watcher")


class ModelStatus(DriftStatus, frozen=True, kw_only=True):
    """A model's watched version, its evidence and accuracy, and its problems with advice.

    Times are seconds since 1970. `problem`, `since` and `advice` are of the gravest of `problems`.
    `anchor` is the version that challengers are compared with; `canary` answers requests now.
    """

    expected_accuracy: float | None = None
    observed_accuracy: Proportion | None = None
    accuracy: Accuracy | None = None
    harm: Harm | None = None
    aliases: Aliases | None = None
    problem: Problem | None = None
    since: float | None = None
    advice: str | None = None
    problems: list[Trouble]
    services: list[ServiceState]
    hold: Hold | None = None
    anchor: Anchor | None = None
    canary: Canary | None = None
    waits: list[Wait] | None = None  # why it is not retrained yet; None: that is not known


def describe_models(watcher: Watcher) -> list[ModelStatus]:
    """Return a row for every model, in the order of their names."""
    names = dict.fromkeys([*watcher.watched.names, *list(watcher.streams)])
    return [_describe(watcher, model) for model in sorted(names)]


def _describe(watcher: Watcher, model: str) -> ModelStatus:
    stream, registry = watcher.streams.get(model), watcher.registry
    troubles = watcher.problems.of(model) + watcher.problems.of(ALL_MODELS)
    first = troubles[0] if troubles else None
    status = ModelStatus(
        model=model,
        version=None if stream is None else stream.version,
        observed_accuracy=_try(model, lambda: _observe(watcher, model)),
        accuracy=_try(model, lambda: watcher.accuracy(model)),
        harm=_try(model, lambda: watcher.harms.standing(model)),
        aliases=_try(model, lambda: registry.aliases(model)),
        problem=None if first is None else first.problem,
        since=None if first is None else first.since,
        advice=None if first is None else first.advice,
        problems=troubles,
        services=watcher.services.states(),
        hold=_try(model, lambda: registry.find_hold(model)),
        anchor=_try(model, lambda: registry.state(model).anchor),
        canary=_try(model, lambda: registry.state(model).find_canary(time.time())),
        waits=_waits(watcher, model),
    )
    if stream is None:
        return status
    return _try(model, lambda: _add_evidence(status, watcher, stream)) or status


def _add_evidence(status: ModelStatus, watcher: Watcher, stream: Stream) -> ModelStatus:
    drift = describe_drift(stream, watcher.acceptances.history(stream))
    return msgspec.structs.replace(
        status,
        **msgspec.structs.asdict(drift),
        expected_accuracy=expected_accuracy(promised_accuracy(stream.bundle.manifest.evaluation)),
    )


def _observe(watcher: Watcher, model: str) -> Proportion | None:
    """Return the live accuracy; None where there are no labels, or the store is away."""
    stream = watcher.streams.get(model)
    if stream is None or watcher.problems.has(model, "records"):
        return None  # to ask would wait for the store as the look did
    live = watcher.observe(stream)
    return live if live.n else None


def _waits(watcher: Watcher, model: str) -> list[Wait] | None:
    """Say why a model is not retrained yet; the store is not waited for where it is away."""
    if watcher.problems.has(model, "records"):
        return None
    return _try(model, lambda: watcher.waits(model, time.time()))


def _try(model: str, ask: Callable[[], Part]) -> Part | None:
    """Return what `ask` returns; None where it fails."""
    try:
        return ask()
    except Exception as error:  # it is a problem of the watcher's next look, by name
        log.debug("not_known", model=model, error=type(error).__name__)
        return None
