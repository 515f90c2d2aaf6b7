"""The models that are served; they follow the registry and the calls of operators.

A thread checks small files for changes. A model follows its champion, or is pinned to a version; a
canary may answer a share of its requests (`service.fleet.canary`). A new version is opened,
verified and warmed while the old one still answers; then one reference is swapped, and the old
version is freed with the last request that uses it. A bundle that fails is refused: the old version
stays, and the next attempt comes after a pause that doubles.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Literal, NamedTuple

from models.base.errors import HoldfastError, InputError, RegistryError, show_value
from models.base.logs import logger
from models.versions.registry import Registry
from models.versions.registry_state import Canary
from monitoring.counting.metrics import Metrics
from monitoring.counting.queries import QueryWatch
from monitoring.counting.repeats import RepeatWatch
from service.configuration.model_specs import ModelLimits, ModelSpec
from service.fleet.canary import ServedCanary, open_canary
from service.fleet.loader import Loader
from service.fleet.overrides import Signature, signature
from service.fleet.pauses import Pauses
from service.fleet.served import Served
from service.fleet.wanted import WantedModels
from service.web.call import Call
from service.web.errors import NotFoundError, RequestError, UnavailableError

NO_CHAMPION = "it has no champion"
UNLOADED = "unloaded"
NOT_NAMED = "not named in the settings"
DOES_NOT_RUN = "a run failed, and so did a trial; the log says why"
NO_LIMITS: Mapping[str, ModelLimits] = MappingProxyType({})


class ModelState(NamedTuple):
    """The state of a model in this worker; `version` is the served one, else the wanted one."""

    name: str
    version: int | None
    state: Literal["READY", "UNAVAILABLE", "LOADING"]
    reason: str


class _View(NamedTuple):
    """What requests see; replaced as a whole and never changed."""

    served: Mapping[str, Served]
    wanted: Mapping[str, ModelSpec]
    only: str | None  # the one model that is wanted
    canaries: Mapping[str, ServedCanary]  # of served models


class Champions:
    """Loads and serves every model that has a champion, or the named ones.

    Args:
        registry: has the versions and the calls of operators.
        metrics: of this process.
        specs: the named models; empty: every model with a champion.
        watch: detects query attacks, or None.
        repeats: knows the rows that clients sent of late; None: of this process.
        max_rows: of one request, where a model has no limit of its own.
        limits: by model.
        threads: of onnxruntime for a run.
    """

    def __init__(
        self,
        registry: Registry,
        metrics: Metrics,
        specs: tuple[ModelSpec, ...] = (),
        watch: QueryWatch | None = None,
        repeats: RepeatWatch | None = None,
        *,
        max_rows: int = 1024,
        limits: Mapping[str, ModelLimits] = NO_LIMITS,
        threads: int = 1,
    ) -> None:
        self._registry = registry
        self._metrics = metrics
        self._loader = Loader(
            registry,
            metrics,
            watch,
            repeats or RepeatWatch(None),
            max_rows=max_rows,
            limits=limits,
            threads=threads,
        )
        self._wanted = WantedModels(registry, specs)
        self._view = _view({}, self._wanted.named, {})
        self._signatures: dict[str, Signature | None] = {}
        self._pauses = Pauses()
        self._changing = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._log = logger("reload")

    @property
    def served(self) -> Mapping[str, Served]:
        """The served versions by model name; the mapping is replaced and never changed."""
        return self._view.served

    @property
    def ready(self) -> bool:
        """Whether at least one model and all named ones are served, and every one of them runs."""
        served, wanted, *_ = self._view
        required = wanted.keys() if self._wanted.named else set()
        runs = all(not each.runner.failing for each in served.values())
        return bool(served) and required <= served.keys() and runs

    def is_ready(self, model: str) -> bool:
        """Whether the model is served and runs."""
        served = self._view.served.get(model)
        return served is not None and not served.runner.failing

    def find(self, model: str | None) -> Served:
        """Return the served version of a model; None means the only model.

        Raises:
            UnavailableError: the model is to be served and cannot be now.
            NotFoundError: the model is not to be served.
            InputError: several are, and none is named.
        """
        view = self._view
        name = view.only if model is None else model
        served = view.served.get(name) if name is not None else None
        if served is not None:
            return served
        if not view.wanted:
            raise UnavailableError("no model is loaded yet")
        if name in view.wanted:
            raise UnavailableError(f"model {name!r} is not loaded; the log of the service says why")
        names = ", ".join(sorted(view.wanted))
        if model is None:
            raise InputError("model", f"one of {names}", "none: name it as ?model=")
        got = show_value(model)
        raise NotFoundError(
            f"model: expected one of {names}, got {got}",
            field="model",
            expected=f"one of {names}",
            got=got,
        )

    def choose(self, model: str | None, call: Call) -> Served:
        """Return the version that answers a request: as `find`, or the canary. Raises as `find`."""
        canaries = self._view.canaries
        served = self.find(model)
        canary = canaries.get(served.manifest.model) if canaries else None
        return served if canary is None else canary.choose(call)

    def index(self) -> list[ModelState]:
        """Return the state of every model of the registry and every named one in this worker."""
        names = {*self._registry.models(), *self._view.wanted}
        return [self._state(name) for name in sorted(names)]

    def load(self, model: str) -> None:
        """Serve a model from now on, in every worker; a failed one is tried again at once.

        Raises:
            NotFoundError: the registry has no such model.
            UnavailableError: it cannot be loaded, or the decision cannot be stored; says why.
        """
        with self._operating(model):
            spec = self._wanted.spec(model)
            self._follow(spec, self._signature(spec))
            if model not in self._view.served:
                raise UnavailableError(f"model {model!r}: {NO_CHAMPION}")
            self._decide(model, True)

    def unload(self, model: str) -> None:
        """Stop serving a model, in every worker, until it is loaded; running requests finish.

        Raises:
            NotFoundError: the registry has no such model.
            UnavailableError: the decision cannot be stored; says why.
        """
        with self._operating(model):
            self._decide(model, False)

    def start(self, interval_seconds: float) -> None:
        """Refresh now, and then every `interval_seconds` in a thread."""
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
        """Check every model once, load what changed and retry what failed; never raises."""
        with self._changing:
            try:
                self._follow_operators()
            except OSError as error:  # what was known still holds
                self._log.error("registry_unreadable", reason=str(error))
            for spec in self._view.wanted.values():
                try:
                    self._refresh(spec)
                except Exception as error:  # a thread that died would serve an old model for ever
                    self._metrics.reload_failures.labels(spec.name).inc()
                    self._log.exception("reload_failed", model=spec.name, reason=str(error))

    def _run(self, interval_seconds: float) -> None:
        while not self._closing.wait(interval_seconds):
            self.refresh()

    @contextmanager
    def _operating(self, model: str) -> Iterator[None]:
        """Run one call of an operator at a time; its errors become answers with a reason."""
        if model not in self._view.wanted and model not in self._registry.models():
            raise NotFoundError(f"model {show_value(model)}: the registry has no such model")
        with self._changing:
            try:
                yield
            except RequestError:
                raise
            except (HoldfastError, OSError) as error:
                raise UnavailableError(f"model {model!r}: {self._describe_error(error)}") from error

    def _decide(self, model: str, loaded: bool) -> None:
        self._wanted.decide(model, loaded)
        self._log.info("model_called_for" if loaded else "model_called_off", model=model)
        self._follow_operators()

    def _follow_operators(self) -> None:
        """Apply the calls of operators: stop serving what is not wanted any more."""
        try:
            if self._wanted.look():
                self._pauses.forget()
        except (RegistryError, OSError) as error:
            self._log.error("repository_unreadable", reason=str(error))
        served = self._view.served
        specs = self._wanted.specs(served)
        for model in served.keys() - specs.keys():
            self._signatures.pop(model, None)
            self._log.info("model_unloaded", model=model)
        kept = {name: served[name] for name in served if name in specs}
        self._view = _view(kept, specs, self._view.canaries)

    def _state(self, model: str) -> ModelState:
        """Return the state of a model without reading its files again."""
        view, reason = self._view, self._pauses.reason(model)
        served, spec = view.served.get(model), view.wanted.get(model)
        if served is not None:
            failing = served.runner.failing
            state: Literal["READY", "UNAVAILABLE"] = "UNAVAILABLE" if failing else "READY"
            return ModelState(
                model, served.manifest.version, state, DOES_NOT_RUN if failing else reason
            )
        version = spec.version if spec and spec.version else self._champion(model)
        if spec is None:
            why = UNLOADED if self._wanted.is_unloaded(model) else NOT_NAMED
            return ModelState(model, version, "UNAVAILABLE", why)
        if not reason and model not in self._signatures:
            return ModelState(model, version, "LOADING", "")
        return ModelState(model, version, "UNAVAILABLE", reason or NO_CHAMPION)

    def _champion(self, model: str) -> int | None:
        try:
            return self._registry.aliases(model).champion
        except RegistryError:
            return None

    def _refresh(self, spec: ModelSpec) -> None:
        name, signature = spec.name, self._signature(spec)
        served = self._view.served.get(name)
        if served is not None and served.runner.failing:
            if served.runner.trial():
                self._log.info("model_runs_again", model=name, version=served.manifest.version)
            else:
                self._signatures.pop(name, None)  # a fresh session may do
        canary = self._view.canaries.get(name)
        if canary is not None and (canary.over() or canary.challenger.runner.failing):
            self._end_canary(name)
        if name in self._signatures and self._signatures[name] == signature:
            return
        if not self._pauses.waits(name, signature):
            with suppress(HoldfastError, OSError):  # refused: counted and logged
                self._follow(spec, signature)

    def _signature(self, spec: ModelSpec) -> Signature | None:
        """Return a value that changes when the model must be checked again."""
        folder = self._registry.root / spec.name
        if spec.version is None:
            return signature(folder / "aliases.json")
        return signature(folder / str(spec.version) / "manifest.json")

    def _follow(self, spec: ModelSpec, signature: Signature | None) -> None:
        """Serve the version of the spec; on failure note why and raise."""
        try:
            self._serve(spec)
        except (HoldfastError, OSError) as error:
            self._refuse(spec.name, error, signature)
            raise
        self._signatures[spec.name] = signature
        self._pauses.forget(spec.name)

    def _serve(self, spec: ModelSpec) -> None:
        """Serve the pinned version or the champion; if that fails at the start, the previous one.

        A pinned model has no version to fall back to.
        """
        if spec.version is not None:
            self._load(spec, spec.version)
            return
        state = self._registry.state(spec.name)
        aliases = state.aliases
        if aliases.champion is None:
            return
        try:
            self._load(spec, aliases.champion)
            self._follow_canary(spec.name, state.find_canary(time.time()))
        except (HoldfastError, OSError):
            if spec.name not in self._view.served and aliases.previous is not None:
                self._load_previous(spec, aliases.previous)
            raise

    def _load_previous(self, spec: ModelSpec, version: int) -> None:
        try:
            self._load(spec, version)
        except (HoldfastError, OSError) as error:
            self._log.error("previous_refused", model=spec.name, version=version, reason=str(error))

    def _load(self, spec: ModelSpec, version: int) -> None:
        served, name = self._view.served, spec.name
        current = served.get(name)
        if current and current.manifest.version == version and not current.runner.failing:
            return
        loaded = self._loader.open(name, version)
        self._view = _view({**served, name: loaded}, self._view.wanted, self._view.canaries)
        loaded.metrics.note_load()
        pinned = spec.version is not None
        self._log.info("model_loaded", model=name, version=version, pinned=pinned)

    def _follow_canary(self, model: str, canary: Canary | None) -> None:
        """Let a canary answer its share. One that cannot be loaded is refused and costs nothing."""
        champion, known = self._view.served[model], self._view.canaries.get(model)
        if known is not None and known.canary == canary and known.champion is champion:
            return
        if known is not None:
            self._end_canary(model)
        if canary is None:
            return
        about = {"model": model, "version": canary.version, "share": canary.share}
        try:
            loaded = open_canary(self._loader, canary, champion)
        except (HoldfastError, OSError) as error:
            self._metrics.reload_failures.labels(model).inc()
            self._log.error("canary_refused", **about, reason=str(error))
            return
        self._view = _view(*self._view[:2], {**self._view.canaries, model: loaded})
        self._log.info("canary_loaded", **about)

    def _end_canary(self, model: str) -> None:
        canaries = dict(self._view.canaries)
        ended = canaries.pop(model)
        self._view = _view(*self._view[:2], canaries)
        why = ended.challenger.runner.failing
        self._log.info("canary_ended", model=model, version=ended.canary.version, reason=why)

    def _describe_error(self, error: Exception) -> str:
        """Describe an error for clients: the path of the registry is only logged."""
        return str(error).replace(f"{self._registry.root}/", "")

    def _refuse(self, model: str, error: Exception, signature: Signature | None) -> None:
        pause = self._pauses.note_failure(model, signature, self._describe_error(error))
        self._metrics.reload_failures.labels(model).inc()
        serving = self._view.served.get(model)
        self._log.error(
            "model_refused",
            model=model,
            reason=str(error),
            serving=serving.manifest.version if serving else None,
            retry_in_seconds=pause,
        )


def _view(
    served: Mapping[str, Served],
    specs: Mapping[str, ModelSpec],
    canaries: Mapping[str, ServedCanary],
) -> _View:
    only = next(iter(specs)) if len(specs) == 1 else None
    kept = {name: canaries[name] for name in canaries if name in served}
    return _View(MappingProxyType(served), specs, only, MappingProxyType(kept))
