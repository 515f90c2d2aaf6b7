"""The champions that are served, kept up with the registry.

A thread looks at the alias files. A new champion is opened, verified and warmed beside the one
that serves; then one reference is swapped. A bundle that fails is refused: the old one serves on,
and the next attempt at the same version comes after a pause that doubles.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from models.errors import HoldfastError, RegistryError
from models.registry import MODEL_NAME, Registry
from models.runner import Runner
from monitoring.logs import logger
from monitoring.metrics import Metrics, ModelMetrics
from monitoring.queries import QueryWatch
from service.errors import NotFoundError, UnavailableError, shown
from service.pipeline import Served

FIRST_PAUSE_SECONDS = 15.0
LONGEST_PAUSE_SECONDS = 600.0
_Signature = tuple[int, int, int]


@dataclass(frozen=True)
class _Failure:
    """When the same alias file may be tried again."""

    signature: _Signature
    pause_seconds: float
    retry_at: float


class Champions:
    """Loads and serves the champion of every model, or of the named ones."""

    def __init__(
        self,
        registry: Registry,
        metrics: Metrics,
        names: tuple[str, ...] = (),
        watch: QueryWatch | None = None,
        *,
        max_rows: int = 1024,
    ) -> None:
        self._registry = registry
        self._metrics = metrics
        self._names = names
        self._watch = watch
        self._max_rows = max_rows
        self._served: Mapping[str, Served] = MappingProxyType({})
        self._signatures: dict[str, _Signature] = {}
        self._failures: dict[str, _Failure] = {}
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._log = logger("reload")

    @property
    def served(self) -> Mapping[str, Served]:
        """What is served now, by model name; never changed, only replaced."""
        return self._served

    @property
    def ready(self) -> bool:
        """Whether at least one model, and every model that was named, is served."""
        return bool(self._served) and all(name in self._served for name in self._names)

    def find(self, model: str | None) -> Served:
        """The served version of a model; None stands for the only one.

        Raises:
            UnavailableError: nothing is served yet.
            NotFoundError: the model is not served, or several are and none is named.
        """
        served = self._served
        if model is not None and model in served:
            return served[model]
        if not served:
            raise UnavailableError("no model is loaded yet")
        if model is None and len(served) == 1:
            return next(iter(served.values()))
        names = ", ".join(sorted(served))
        raise NotFoundError(
            f"model: expected one of {names}, got {shown(model) if model else 'none'}",
            field="model",
            expected=f"one of {names}",
            got=shown(model) if model else "none",
        )

    def start(self, interval_seconds: float) -> None:
        """Look now, and from now on every `interval_seconds` in a thread."""
        self.refresh()
        self._thread = threading.Thread(
            target=self._run, args=(interval_seconds,), name="reload", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(5.0)

    def refresh(self) -> None:
        """Look at every alias file once and load what changed; never raises."""
        for model in self._names or self._present():
            try:
                self._refresh(model)
            except Exception as error:  # a thread that died would serve an old model for ever
                self._metrics.reload_failures.labels(model).inc()
                self._log.exception("reload_failed", model=model, reason=str(error))

    def _run(self, interval_seconds: float) -> None:
        while not self._closing.wait(interval_seconds):
            self.refresh()

    def _present(self) -> list[str]:
        found = (path.parent.name for path in self._registry.root.glob("*/aliases.json"))
        return sorted(name for name in found if MODEL_NAME.fullmatch(name))

    def _refresh(self, model: str) -> None:
        signature = self._signature(model)
        if signature is None or signature == self._signatures.get(model):
            return
        failure = self._failures.get(model)
        if failure and failure.signature == signature and time.monotonic() < failure.retry_at:
            return
        try:
            self._follow(model)
        except (HoldfastError, OSError) as error:
            again = failure is not None and failure.signature == signature
            self._refuse(model, error, signature, failure if again else None)
            return
        self._signatures[model] = signature
        self._failures.pop(model, None)

    def _signature(self, model: str) -> _Signature | None:
        try:
            stat = (self._registry.root / model / "aliases.json").stat()
        except FileNotFoundError:
            return None
        return stat.st_mtime_ns, stat.st_ino, stat.st_size

    def _follow(self, model: str) -> None:
        """Serve the champion; where nothing is served yet and it fails, the previous one."""
        aliases = self._registry.aliases(model)
        if aliases.champion is None:
            return
        try:
            self._load(model, aliases.champion)
        except (HoldfastError, OSError):
            if model not in self._served and aliases.previous is not None:
                self._load_previous(model, aliases.previous)
            raise

    def _load_previous(self, model: str, version: int) -> None:
        try:
            self._load(model, version)
        except (RegistryError, HoldfastError, OSError) as error:
            self._log.error("previous_refused", model=model, version=version, reason=str(error))

    def _load(self, model: str, version: int) -> None:
        current = self._served.get(model)
        if current is not None and current.manifest.version == version:
            return
        runner = Runner(self._registry.open(model, str(version)))
        queries = None if self._watch is None else self._watch.detector(runner.bundle)
        loaded = Served(
            runner, ModelMetrics(self._metrics, runner.manifest), queries, self._max_rows
        )
        self._served = MappingProxyType({**self._served, model: loaded})
        loaded.metrics.loaded()
        self._log.info("model_loaded", model=model, version=version)

    def _refuse(
        self, model: str, error: Exception, signature: _Signature, last: _Failure | None
    ) -> None:
        pause = FIRST_PAUSE_SECONDS
        if last is not None:
            pause = min(2 * last.pause_seconds, LONGEST_PAUSE_SECONDS)
        self._failures[model] = _Failure(signature, pause, time.monotonic() + pause)
        self._metrics.reload_failures.labels(model).inc()
        serving = self._served.get(model)
        self._log.error(
            "model_refused",
            model=model,
            reason=str(error),
            serving=serving.manifest.version if serving else None,
            retry_in_seconds=pause,
        )
