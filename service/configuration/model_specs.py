"""The settings of each model: which version is served, and its limits.

    HOLDFAST_MODELS=a,b@3,c                         a and c follow their champion, b stays at 3
    HOLDFAST_MODEL_LIMITS=a:rows=64,concurrent=8;c:rows=8

`rows` limits the rows of a request. `concurrent` limits the runs of the model at once in one worker
(a prediction is one run). A further run is refused (503, Retry-After) and not queued: a queue would
block the threads that the limit keeps free for the other models.
"""

import re
import threading
from collections.abc import Mapping
from typing import NamedTuple

from service.web.errors import SettingsError, UnavailableError

ONE_MODEL = "NAME or NAME@VERSION, comma-separated"
ONE_LIMIT = "NAME:rows=N,concurrent=N; entries end with ';', either limit may be left out"
# That of models.versions.registry, which would bring NumPy into the master process.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


class ModelSpec(NamedTuple):
    """A model to serve: this version, or its champion (None)."""

    name: str
    version: int | None = None


class ModelLimits(NamedTuple):
    """The limits of one model; None: the limit of the service, or no limit."""

    rows: int | None = None
    concurrent: int | None = None


class Slots:
    """Limits the runs of a model at once in this worker; a further one is refused.

    >>> slots = Slots("digits", 1)
    >>> with slots:  # doctest: +ELLIPSIS
    ...     with slots:
    ...         pass
    Traceback (most recent call last):
    service.web.errors.UnavailableError: model 'digits': 1 of its runs are under way, ...
    """

    def __init__(self, model: str, count: int) -> None:
        self.count = count
        self._model = model
        self._free = threading.Semaphore(count)

    def __enter__(self) -> None:
        if not self._free.acquire(blocking=False):
            raise UnavailableError(
                f"model {self._model!r}: {self.count} of its runs are under way, the most at once"
            )

    def __exit__(self, *_: object) -> None:
        self._free.release()


def parse_models(text: str) -> tuple[ModelSpec, ...]:
    """Parse the setting `models`; empty: every model with a champion.

    >>> parse_models("a, b@3")
    (ModelSpec(name='a', version=None), ModelSpec(name='b', version=3))

    Raises:
        SettingsError: a bad name or version, or a model named twice.
    """
    specs: dict[str, ModelSpec] = {}
    for part in (part.strip() for part in text.split(",")):
        if not part:
            continue
        name, at, version = part.partition("@")
        if not _NAME.fullmatch(name) or (at and not _VERSION.fullmatch(version)):
            raise SettingsError("models", ONE_MODEL, repr(part)[:60])
        if name in specs:
            raise SettingsError("models", "each model once", f"{name!r} twice")
        specs[name] = ModelSpec(name, int(version) if at else None)
    return tuple(specs.values())


def parse_limits(
    text: str, max_rows: int, specs: tuple[ModelSpec, ...]
) -> Mapping[str, ModelLimits]:
    """Parse the setting `model_limits`: limits by model.

    >>> parse_limits("a:rows=64,concurrent=8;c:rows=8", 1024, ())["a"]
    ModelLimits(rows=64, concurrent=8)

    Args:
        text: the setting.
        max_rows: of any request; a model's own bound is at most that.
        specs: the models that are named; others cannot have limits. None named: any can.

    Raises:
        SettingsError: it does not read so, or speaks of a model twice or of one not named.
    """
    limits: dict[str, ModelLimits] = {}
    names = {spec.name for spec in specs}
    for part in (part.strip() for part in text.split(";")):
        if not part:
            continue
        name, _, rest = (word.strip() for word in part.partition(":"))
        if not _NAME.fullmatch(name):
            raise SettingsError("model_limits", ONE_LIMIT, repr(part)[:60])
        if name in limits:
            raise SettingsError("model_limits", "each model once", f"{name!r} twice")
        if names and name not in names:
            raise SettingsError("model_limits", f"one of {', '.join(sorted(names))}", repr(name))
        limits[name] = _limits(rest, max_rows)
    return limits


def _limits(text: str, max_rows: int) -> ModelLimits:
    values: dict[str, int] = {}
    for part in text.split(","):
        name, _, number = (word.strip() for word in part.partition("="))
        if name not in ModelLimits._fields or name in values or not _VERSION.fullmatch(number):
            raise SettingsError("model_limits", ONE_LIMIT, repr(part)[:60])
        values[name] = int(number)
    if values.get("rows", 1) > max_rows:
        raise SettingsError("model_limits", f"rows <= max_rows ({max_rows})", str(values["rows"]))
    return ModelLimits(**values)
