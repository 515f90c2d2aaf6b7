"""The watched version of each model and its stream.

A champion that cannot be opened is tried again, with pauses that double, and at once when its alias
or its folder changes. Until then the stream of the old version goes on, because the service still
answers with that version.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from models.base.errors import BundleError, UnknownModelError
from models.base.logs import logger
from models.versions.registry import Registry
from models.versions.registry_files import ALIAS_FILE, AUDIT_FILE
from models.versions.registry_state import MODEL_NAME
from monitoring.evidence.stream import Stream
from monitoring.watching.problems import ALL_MODELS, Problem, Problems, in_words

LEAST_PAUSE_SECONDS = 2.0
MOST_PAUSE_SECONDS = 300.0
SCHEDULE_FILE = "schedule.json"
CHAMPION_PROBLEMS: tuple[Problem, ...] = ("champion_missing", "champion_damaged")
TRACES = (ALIAS_FILE, AUDIT_FILE)
log = logger("watcher")

Mark = tuple[tuple[str, int, int, int], ...]  # name, inode, size and time of each file


@dataclass
class _Failure:
    version: int
    mark: Mark
    tried_at: float
    pause: float = LEAST_PAUSE_SECONDS

    def stands(self, version: int, mark: Mark, now: float) -> bool:
        """Whether it is too early to try the same version again; a clock set back ends the wait."""
        same = (self.version, self.mark) == (version, mark)
        return same and 0 <= now - self.tried_at < self.pause


@dataclass
class WatchedVersions:
    """Opens the stream of the champion of each model, or of the version it is pinned to."""

    registry: Registry
    serves: Mapping[str, int | None]  # models that are served, and pinned to what; empty: all
    folder: Path  # of the streams' state files
    c: float
    problems: Problems
    on_open: Callable[[Stream, float], None]  # called with each new stream
    streams: dict[str, Stream] = field(default_factory=dict)
    names: tuple[str, ...] = ()  # of the last look
    _marks: dict[str, Mark] = field(default_factory=dict)
    _failures: dict[str, _Failure] = field(default_factory=dict)

    def models(self, now: float) -> tuple[str, ...]:
        """Return the models to watch: the served ones, else all that the registry has files of.

        If the registry cannot be read, or has lost all its models, those of the last look stay.
        """
        try:
            models = known_models(self.registry, self.serves)
            lost = not models and bool(self.names or self._had_models())
            words = f"{self.registry.root} holds no model any more"
        except OSError as error:
            models, lost, words = (), True, in_words(error)
        if lost:
            self.problems.note(ALL_MODELS, "registry", words, now)
            return self.names
        self.problems.clear(ALL_MODELS, "registry", now)
        self.names = models
        return models

    def _had_models(self) -> bool:
        """Whether an earlier watcher has left evidence of models."""
        return any(
            MODEL_NAME.fullmatch(p.stem)
            for p in self.folder.glob("*.json")
            if p.name != SCHEDULE_FILE
        )

    def forget(self, model: str) -> None:
        """Forget a model that is gone."""
        for table in (self.streams, self._marks, self._failures):
            table.pop(model, None)

    def find(self, model: str, now: float) -> Stream | None:
        """Return the stream of the version to watch; a new version gets a new stream."""
        stream, version = self.streams.get(model), self._version(model, now)
        if version is None:  # `_version` has noted why; a champion that is not known has no problem
            for problem in CHAMPION_PROBLEMS:
                self.problems.clear(model, problem, now)
            return stream
        folder = self.registry.root / model / str(version)
        mark = mark_of(folder)
        if mark is None:
            self.problems.note(model, "champion_missing", f"{folder} is not there", now)
            self._marks.pop(model, None)  # what comes back in its place is looked at
            return stream
        self.problems.clear(model, "champion_missing", now)
        current = stream is not None and stream.version == version
        if current and self._marks.get(model) == mark:
            self.problems.clear(model, "champion_damaged", now)
            return stream
        failure = self._failures.get(model)
        if failure is not None and failure.stands(version, mark, now):
            return stream
        return self._open(model, version, mark, now)

    def _version(self, model: str, now: float) -> int | None:
        """Return the version to watch.

        Where the alias file is damaged, that is the version watched before, which is still served;
        at a start it is the last champion of the audit.
        """
        stream, champion, torn = self.streams.get(model), None, ""
        try:
            champion = self.registry.aliases(model).champion
        except UnknownModelError as error:
            self.problems.note(model, "model_missing", str(error), now)
            return self.serves.get(model)
        except Exception as error:
            torn = in_words(error)
        if champion is None and not torn and (stream is not None or self._state(model).exists()):
            torn = "it has no champion any more: the files of its aliases are gone"
        self._tell(model, "alias_file", torn, now)
        self.problems.clear(model, "model_missing", now)
        audit = self.problems.attempt(model, "audit_file", now, lambda: self.registry.audit(model))
        if torn and audit == ():
            self.problems.note(model, "audit_file", "it has no whole record", now)
        if torn and stream is not None:
            champion = stream.version
        elif torn and audit:
            champion = audit[-1].aliases.champion
        return self.serves.get(model) or champion

    def _state(self, model: str) -> Path:
        return self.folder / f"{model}.json"

    def _tell(self, model: str, problem: Problem, words: str, now: float) -> None:
        if words:
            self.problems.note(model, problem, words, now)
        else:
            self.problems.clear(model, problem, now)

    def _open(self, model: str, version: int, mark: Mark, now: float) -> Stream | None:
        stream = self.streams.get(model)
        try:
            bundle = self.registry.open(model, str(version))
            fresh = stream is None or stream.bundle.manifest != bundle.manifest
            if fresh:
                stream = Stream.open(bundle, self.folder, c=self.c)
        except Exception as error:
            self._fail(model, version, mark, error, now)
            return stream
        self._failures.pop(model, None)
        self._marks[model] = mark
        self.problems.clear(model, "champion_damaged", now)
        if fresh and stream is not None:
            self.streams[model] = stream
            log.info("watching", model=model, version=version)
            if stream.fault:
                self.problems.note(model, "evidence_state", stream.fault, now)
            self.on_open(stream, now)
        return stream

    def _fail(self, model: str, version: int, mark: Mark, error: Exception, now: float) -> None:
        old = self._failures.get(model)
        pause = LEAST_PAUSE_SECONDS
        if old is not None and (old.version, old.mark) == (version, mark):
            pause = min(2 * old.pause, MOST_PAUSE_SECONDS)
        self._failures[model] = _Failure(version, mark, now, pause)
        words = error.reason if isinstance(error, BundleError) else in_words(error)
        self.problems.note(model, "champion_damaged", f"version {version}: {words}", now)


def known_models(registry: Registry, serves: Mapping[str, int | None]) -> tuple[str, ...]:
    """Return the served models, else those with a version, an alias file or an audit file.

    Raises:
        OSError: the registry's folder cannot be read.
    """
    if serves:
        return tuple(sorted(serves))
    if not registry.root.exists():
        return ()
    traces = {path.parent.name for path in registry.root.glob("*/a*") if path.name in TRACES}
    return tuple(sorted(set(registry.models()) | {t for t in traces if MODEL_NAME.fullmatch(t)}))


def mark_of(folder: Path) -> Mark | None:
    """Return a value that changes with the files of a folder; None where there is no folder."""
    try:
        entries = [(path.name, path.lstat()) for path in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return ()
    return tuple(sorted((name, s.st_ino, s.st_size, s.st_mtime_ns) for name, s in entries))
