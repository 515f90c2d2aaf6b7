"""What the page shows first: one small document, made at most once a second by a worker.

It holds nothing that changes by itself, so that a page which asks again gets a 304 where nothing
happened.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from models.base.bounded import Bounded
from models.base.errors import HoldfastError
from models.versions.registry import Registry
from models.versions.schema import Manifest
from monitoring.records.store import RecordStore, StoreError
from service.console.relay import TIMEOUT_SECONDS, Reading, Relay
from service.console.telling.acts import Act, rollback
from service.console.telling.answers import Answer, tell_answers
from service.console.telling.asks import (
    Ask,
    Happening,
    subject_of,
    tell_asks,
    tell_happened,
)
from service.console.telling.headline import Headline, Tone, tell_headline
from service.console.telling.numbers import LEAST
from service.console.watched import (
    Change,
    Demo,
    Hold,
    Job,
    Overview,
    Progress,
    Row,
    View,
    Watcher,
)
from service.fleet.served import Served
from service.fleet.served_models import Champions

FRESH_SECONDS = 1.0
OLD_SECONDS = 10.0  # older ones are not given, even while another thread makes it anew
PATIENCE_SECONDS = TIMEOUT_SECONDS + 1  # a question to the watcher, and the rest
PROGRESS_SECONDS = 30.0  # a file that is older was left by a training that was killed
LAST = 100
SHOWN_CHANNELS = 8
SHOWN_JOBS = 5
SHOWN_CHANGES = 12
BRIEF = 220  # characters of a text in the list of jobs
UNSEEN: dict[Watcher, str] = {
    "away": "not known: the watcher is away", "blind": "not known: nothing is counted",
}  # fmt: skip
_overview = msgspec.json.Decoder(Overview)
_progress = msgspec.json.Decoder(Progress)


class Evidence(msgspec.Struct, frozen=True):
    """The evidence of drift for the picture on the first view."""

    channels: list[tuple[str, float]]  # those with the most, and log10 of it
    threshold: float | None
    alarm_since: float | None
    harmless: str


class Brief(msgspec.Struct, frozen=True):
    """One of several models, for the list of them."""

    model: str
    version: int | None
    word: str
    tone: Tone


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What the page shows first; times are seconds since 1970."""

    program: str
    watcher: Watcher
    seen_at: float | None  # of the watcher's answer, where it is away
    ready: bool
    model: str
    version: int | None
    kind: str  # of the model's input, or empty
    models: list[Brief]
    headline: Headline
    answers: tuple[Answer, ...]
    asks: tuple[Ask, ...]
    happened: tuple[Happening, ...]
    last: str
    evidence: Evidence | None
    jobs: list[Job]
    champion: int | None
    previous: int | None
    challenger: int | None
    hold: Hold | None
    mode: str
    loading: Progress | None
    demo: Demo
    demo_possible: bool
    back: Act | None  # the rollback, where there is a version to go back to


class Made(NamedTuple):
    """A document as JSON, with the monotonic times at which making it began and ended."""

    began: float
    ended: float
    body: bytes


@dataclass
class States:
    """Makes the document of a model; threads share one.

    Args:
        program: version of this program.
        champions: the served models.
        registry: of all models.
        store: of records, or None.
        relay: to the watcher.
        ready: whether the service takes requests.
        progress: file of a training that is under way.
    """

    program: str
    champions: Champions
    registry: Registry
    store: RecordStore | None
    relay: Relay
    ready: Callable[[], bool]
    progress: Path
    _made: Bounded[str, Made] = field(default_factory=lambda: Bounded(64))
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _changed: float = -math.inf  # monotonic

    def encode(self, model: str | None) -> bytes:
        """The document as JSON; that of the last second is given again.

        One thread makes it; the others take the one before meanwhile, where it is not old.
        """
        name = self.choose(model)
        last = self._find(name, OLD_SECONDS)
        if not self._lock.acquire(timeout=PATIENCE_SECONDS if last is None else 0.0):
            return self._encode(name) if last is None else last.body
        try:
            fresh = self._find(name, FRESH_SECONDS)
            if fresh is not None:
                return fresh.body
            began, body = time.monotonic(), self._encode(name)
            self._made[name] = Made(began, time.monotonic(), body)
            return body
        finally:
            self._lock.release()

    def _encode(self, name: str) -> bytes:
        return msgspec.json.encode(self.make(name, time.time()))

    def _find(self, name: str, seconds: float) -> Made | None:
        """The last document, unless it is older or somebody has changed something since."""
        made = self._made.get(name)
        if made is None or made.began <= self._changed:
            return None
        return made if time.monotonic() - made.ended < seconds else None

    def forget(self) -> None:
        """Make it anew at the next call: somebody has changed something."""
        self._changed = time.monotonic()

    def choose(self, model: str | None) -> str:
        """The model that is meant: the named one if there is one, else the worst is not guessed."""
        served = self.champions.served
        known = sorted({*served, *self.registry.models()})
        if model is not None and model in known:
            return model
        return next((name for name in known if name in served), known[0] if known else "")

    def make(self, model: str, now: float) -> State:
        """The document of a model, or of none where the name is empty."""
        reading = self.relay.read("/overview")
        overview = read_overview(reading)
        served = self.champions.served.get(model)
        view = self._view(model, now, reading, overview, served)
        row = view.row
        aliases = None if row is None else row.aliases
        manifest = None if served is None else served.manifest
        return State(
            program=self.program,
            watcher=view.watcher,
            seen_at=reading.seen_at if reading.away else None,
            ready=view.ready,
            model=model,
            version=view.served,
            kind="" if manifest is None else manifest.input.kind,
            models=self._list_models(reading, overview),
            headline=tell_headline(view),
            answers=tell_answers(view),
            asks=tell_asks(view),
            happened=tell_happened(view),
            last=view.last,
            evidence=_evidence(row),
            jobs=[_shorten(job) for job in view.jobs[:SHOWN_JOBS]],
            champion=view.served if aliases is None else aliases.champion,
            previous=None if aliases is None else aliases.previous,
            challenger=None if aliases is None else aliases.challenger,
            hold=None if row is None else row.hold,
            mode=view.mode,
            loading=view.loading,
            demo=view.demo,
            demo_possible=view.watcher == "here" and _is_bundled(manifest),
            back=_way_back(view),
        )

    def view(self, model: str, now: float) -> View:
        """All that the sentences about a model rest on."""
        reading = self.relay.read("/overview")
        served = self.champions.served.get(model)
        return self._view(model, now, reading, read_overview(reading), served)

    def _view(
        self, model: str, now: float, reading: Reading, overview: Overview, served: Served | None
    ) -> View:
        row = next((each for each in overview.models if each.model == model), None)
        manifest = None if served is None else served.manifest
        return View(
            now=now,
            watcher=_find_watcher(reading, row),
            seen_at=reading.seen_at,
            away=reading.away,
            ready=self.ready(),
            served=None if manifest is None else manifest.version,
            any_version=bool(self.registry.models()),
            refused=self._reason(model),
            loading=read_progress(self.progress, now),
            model=model,
            row=row,
            rates=overview.rates.get(model),
            jobs=tuple(job for job in overview.jobs if job.model == model),
            mode=overview.mode,
            min_labels=overview.min_labels,
            demo=overview.demo,
            alpha=0.01 if manifest is None else manifest.calibration.alpha,
            last="" if manifest is None else self._last(manifest),
            changes=read_changes(self.registry, model, SHOWN_CHANGES),
        )

    def _reason(self, model: str) -> str:
        state = next((each for each in self.champions.index() if each.name == model), None)
        return "" if state is None else state.reason

    def _list_models(self, reading: Reading, overview: Overview) -> list[Brief]:
        """Every model, the worst first."""
        rows = {row.model: row for row in overview.models}
        names = sorted({*self.champions.served, *self.registry.models(), *rows})
        briefs = []
        for name in names:
            served = self.champions.served.get(name)
            version = None if served is None else served.manifest.version
            row = rows.get(name)
            word, tone = _word(row, version, _find_watcher(reading, row))
            briefs.append(Brief(name, version, word, tone))
        order: dict[Tone, int] = {"bad": 0, "warn": 1, "unknown": 2, "plain": 3, "good": 4}
        return sorted(briefs, key=lambda brief: order[brief.tone])

    def _last(self, manifest: Manifest) -> str:
        """The last answers, a letter each; empty where the records cannot be read now."""
        if self.store is None:
            return ""
        try:
            recent = self.store.recent(manifest.model, manifest.version, LAST)
        except StoreError:
            return ""
        right = recent.predicted == recent.label
        unlike = recent.p_value <= manifest.calibration.alpha
        letters = []
        for known, good, strange in zip(
            recent.labelled.tolist(), right.tolist(), unlike.tolist(), strict=True
        ):
            letters.append(("r" if good else "w") if known else "u" if strange else "n")
        return "".join(letters)


def read_overview(reading: Reading) -> Overview:
    """What the watcher said last; an empty one where it never said anything that can be read."""
    if not reading.body or reading.status != 200:
        return Overview()
    try:
        return _overview.decode(reading.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Overview()


def read_progress(path: Path, now: float) -> Progress | None:
    """How a training comes along; None where there is none, or where its process has gone."""
    try:
        if not 0 <= now - path.stat().st_mtime + 1 <= PROGRESS_SECONDS:
            return None
        return _progress.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def read_changes(registry: Registry, model: str, most: int) -> tuple[Change, ...]:
    """The last changes of a model, the newest first; none where the audit cannot be read."""
    try:
        records = registry.audit(model)[-most:] if model else ()
    except (HoldfastError, OSError):
        return ()
    return tuple(
        Change(_seconds(r.at), r.action, r.version, r.actor, r.reason) for r in reversed(records)
    )


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _evidence(row: Row | None) -> Evidence | None:
    if row is None or row.evidence_log10 is None:
        return None
    most = sorted(row.evidence_log10.items(), key=lambda item: -item[1])[:SHOWN_CHANNELS]
    shown = [(name, round(value, 2)) for name, value in most]
    return Evidence(shown, row.threshold_log10, row.alarm_since, row.harmless or "")


def _shorten(job: Job) -> Job:
    return msgspec.structs.replace(job, reason=job.reason[:BRIEF], detail=job.detail[:BRIEF])


def _find_watcher(reading: Reading, row: Row | None) -> Watcher:
    """Whether the watcher answers, and sees counters of a model."""
    if reading.away:
        return "away"
    services = () if row is None else row.services
    return "blind" if services and all(each.status != "ok" for each in services) else "here"


def _word(row: Row | None, version: int | None, watcher: Watcher) -> tuple[str, Tone]:
    if version is None:
        return "no version answers", "bad"
    if row is None:
        return ("nobody watches it" if watcher == "here" else UNSEEN[watcher]), "unknown"
    found = _worst(row)
    if watcher != "here":  # what was bad may be bad still; what was good is not known to be
        why = UNSEEN[watcher]
        return (why, "unknown") if found is None else (f"{found[0]} when last seen; {why}", "warn")
    if found is not None:
        return found
    if row.strongest is None or row.threshold_log10 is None:
        return "not known: no evidence", "unknown"
    if (row.requests or 0) < LEAST:
        return "too early to say", "unknown"
    return "nothing moved", "good"


def _worst(row: Row) -> tuple[str, Tone] | None:
    if row.harm is not None and row.harm.alarm is not None:
        return "right less often than promised", "bad"
    if row.problems:
        return row.problems[0].problem.replace("_", " "), "warn"
    if row.alarm is not None:
        return "moved" if not row.harmless else "moved, not harmed", "warn"
    return None


def _way_back(view: View) -> Act | None:
    of = subject_of(view)
    return None if of.previous is None else rollback(of)


def _is_bundled(manifest: Manifest | None) -> bool:
    """Whether the model was made of bundled data, which alone a demonstration sends."""
    if manifest is None or manifest.training is None:
        return False
    return manifest.training.data.source.get("format") == "bundled"
