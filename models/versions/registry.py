"""Versions and aliases of models in a directory: immutable bundles, audited pointers.

    <root>/<model>/<version>/     a bundle, never changed once it has its number
    <root>/<model>/audit.jsonl    append-only; every record carries the state that it leads to
    <root>/<model>/aliases.json   what readers look at: the state after the last audit record

The audit record is written first (fsync), the alias file second (atomic rename). After a crash in
between the next writer repairs the alias file: the last whole audit record counts. The state is
aliases, holds by which a person stops the loop, a canary, and traffic accepted as normal.
"""

import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from models.base.errors import (
    ChampionMovedError,
    RegistryError,
    UnknownModelError,
    UnknownVersionError,
)
from models.base.files import lock_file
from models.base.inside import open_folder
from models.versions.bundle import NO_KEYS, Bundle, open_bundle, read_manifest, write_version
from models.versions.numbers import find_published, next_version
from models.versions.registry_files import AUDIT_FILE, LOCK_FILE, ModelFiles
from models.versions.registry_state import ALIASES as ALIASES
from models.versions.registry_state import MODEL_NAME as MODEL_NAME
from models.versions.registry_state import (
    Acceptance,
    Canary,
    HeldError,
    State,
    Stops,
    check_until,
    record_of,
)
from models.versions.registry_state import Aliases as Aliases
from models.versions.registry_state import Anchor as Anchor
from models.versions.registry_state import AuditRecord as AuditRecord
from models.versions.registry_state import Hold as Hold
from models.versions.registry_state import check_name as check_name
from models.versions.registry_state import utc_now as utc_now
from models.versions.schema import Manifest
from models.versions.signature import Keys

VERSION = re.compile(r"[0-9]{1,9}")
Fence = Callable[[], None]  # asked with the lock of a model whether it may change; raises if not
FindUse = Callable[[], Sequence[str]]  # what else uses a version, in words
Mends = Literal["no", "what is certain", "all"]


class Registry:
    """A directory of models. Safe for several processes on one machine (advisory locks).

    `keys`: whether versions are signed, and unsigned ones refused. `fence`: of a watcher that
    another one may have replaced: what it raises, a change raises.
    """

    def __init__(self, root: Path, keys: Keys = NO_KEYS, fence: Fence = lambda: None) -> None:
        self.root, self.keys, self._fence = root, keys, fence

    def models(self) -> tuple[str, ...]:
        """Names of models that have at least one version."""
        if not self.root.is_dir():
            return ()
        names = (p.name for p in self.root.iterdir() if MODEL_NAME.fullmatch(p.name))
        return tuple(sorted(name for name in names if self.versions(name)))

    def versions(self, model: str) -> tuple[int, ...]:
        """Version numbers in rising order."""
        folder = self.root / model
        if not MODEL_NAME.fullmatch(model) or not folder.is_dir():
            return ()
        try:
            return tuple(sorted(int(p.name) for p in folder.iterdir() if VERSION.fullmatch(p.name)))
        except OSError:  # gone meanwhile, or not for us: the others are not concerned
            return ()

    def aliases(self, model: str) -> Aliases:
        """The aliases now. Raises UnknownModelError, or RegistryError for an unreadable file."""
        return self.state(model).aliases

    def find_hold(self, model: str, now: float | None = None) -> Hold | None:
        """Return the hold in force at `now` (seconds since 1970), or None. Raises as `aliases`."""
        return self.state(model).find_hold(time.time() if now is None else now)

    def state(self, model: str) -> State:
        """Read aliases and holds together. Raises as `aliases`."""
        if not MODEL_NAME.fullmatch(model):  # which may come from a client: no path of its own
            raise UnknownModelError(model, self.models())
        try:
            return ModelFiles(self.root / model).read_state()
        except FileNotFoundError:
            if not self.versions(model):
                raise UnknownModelError(model, self.models()) from None
            return State()

    def path(self, model: str, version: int) -> Path:
        """Folder of a version. Raises UnknownModelError or UnknownVersionError."""
        versions = self.versions(model)
        if version not in versions:
            if not versions:
                raise UnknownModelError(model, self.models())
            raise UnknownVersionError(model, str(version), versions)
        return self.root / model / str(version)

    def resolve(self, model: str, which: str = "champion") -> int:
        """Version number of an alias or of a number given as text."""
        if VERSION.fullmatch(which):
            self.path(model, int(which))
            return int(which)
        version = getattr(self.aliases(model), which) if which in ALIASES else None
        if version is None:
            raise UnknownVersionError(model, which, self.versions(model))
        return int(version)

    def open(self, model: str, which: str = "champion") -> Bundle:
        """Open and verify a version by number or alias. Raises BundleError when it is damaged."""
        return open_bundle(self.path(model, self.resolve(model, which)), self.keys)

    def manifest(self, model: str, version: int) -> Manifest:
        """The manifest alone, checked against its digest (and signature)."""
        return read_manifest(self.path(model, version), self.keys)

    def audit(self, model: str) -> tuple[AuditRecord, ...]:
        """All whole audit records, oldest first. Raises RegistryError for a damaged file."""
        if not MODEL_NAME.fullmatch(model):
            return ()
        return ModelFiles(self.root / model).read_audit()

    def publish(
        self,
        model: str,
        make: Callable[[int], tuple[Mapping[str, bytes], Manifest]],
        *,
        actor: str,
        reason: str,
        event: str | None = None,
    ) -> int:
        """Write a new version as `challenger` and return its number.

        `make(version)` gives the files and the manifest. With an `event` (the id of the job
        that asks) a second call returns the version that the first one wrote: at most once.
        """
        check_name(model)
        folder = self.root / model
        folder.mkdir(parents=True, exist_ok=True)
        with self._changing(model, actor) as now:
            version = None if event is None else self.published_for(model, event)
            if version is None:
                version = next_version(self, model, now)
                write_version(folder, version, make, self.keys)
            elif any(r.event == event and r.action == "publish" for r in self.audit(model)):
                return version
            aliases = msgspec.structs.replace(now.aliases, challenger=version)
            after = msgspec.structs.replace(now, aliases=aliases)
            self._record(model, now, after, "publish", version, actor, reason, event=event)
            return version

    def promote(
        self,
        model: str,
        version: int,
        *,
        expected: int | Literal["any"] | None,
        actor: str,
        reason: str,
        event: str | None = None,
        by_person: bool = False,
        approved: bool = False,
    ) -> Aliases:
        """Make `version` the champion if the champion is still `expected` (compare-and-swap).

        The bundle is verified first. Promoting the champion again changes nothing, but a person who
        does so approves it. A promotion by a person ignores a hold (which stays), may leave the
        champion open (`any`), and repairs damaged files. What a person promotes, or has `approved`,
        becomes the anchor.

        Raises:
            ChampionMovedError: the champion is neither `expected` nor already `version`.
            HeldError: a hold is in force, and it is no promotion by a person.
            BundleError: the bundle is damaged.
        """
        open_bundle(self.path(model, version), self.keys)
        mends: Mends = "all" if by_person else "no"
        with self._changing(model, actor, mends=mends) as now:
            old = now.aliases
            anchor = Anchor(version) if by_person or approved else now.find_anchor(version)
            after = msgspec.structs.replace(now, anchor=anchor)
            if old.champion == version:
                if by_person and after != now:
                    self._record(model, now, after, "approve", version, actor, reason, True)
                return old
            if expected != "any" and old.champion != expected:
                raise ChampionMovedError(model, expected, old.champion)
            if not by_person and (hold := now.find_hold(time.time())) is not None:
                raise HeldError(model, hold)
            challenger = None if old.challenger == version else old.challenger
            aliases = Aliases(version, challenger, previous=old.champion)
            after = msgspec.structs.replace(after, aliases=aliases, canary=None)
            self._record(model, now, after, "promote", version, actor, reason, by_person, event)
            return aliases

    def note_attempt(
        self, model: str, version: int, *, alpha: float, passed: bool, event: str, actor: str
    ) -> None:
        """Count a challenger that was compared with the anchor; once per `event`, its job."""
        with self._changing(model, actor) as now:
            if (anchor := now.find_anchor(version)).event == event:
                return
            tried = Anchor(anchor.version, anchor.attempts + 1, alpha, passed, event)
            after = msgspec.structs.replace(now, anchor=tried)
            self._record(model, now, after, "compare", version, actor, tried.words(), event=event)

    def withdraw(self, model: str, version: int, *, actor: str, reason: str) -> Aliases:
        """Let `version` be neither challenger nor canary. The bundle stays."""
        with self._changing(model, actor) as now:
            if (after := now.without(version)) != now:
                self._record(model, now, after, "withdraw", version, actor, reason)
            return after.aliases

    def begin_canary(
        self, model: str, canary: Canary, *, expected: int, actor: str, reason: str
    ) -> None:
        """Let a version answer a share of the requests, if the champion is still `expected`.

        Any promotion, rollback or hold ends it. Raises as `promote`.
        """
        open_bundle(self.path(model, canary.version), self.keys)
        with self._changing(model, actor) as now:
            if now.aliases.champion != expected:
                raise ChampionMovedError(model, expected, now.aliases.champion)
            if (hold := now.find_hold(time.time())) is not None:
                raise HeldError(model, hold)
            after, version = msgspec.structs.replace(now, canary=canary), canary.version
            self._record(model, now, after, "canary", version, actor, reason, event=canary.event)

    def end_canary(self, model: str, event: str, *, actor: str, reason: str) -> None:
        """End the canary that the job `event` has begun, if it goes on."""
        with self._changing(model, actor) as now:
            if now.canary is not None and now.canary.event == event:
                after, version = msgspec.structs.replace(now, canary=None), now.canary.version
                self._record(model, now, after, "end_canary", version, actor, reason, event=event)

    def rollback(
        self,
        model: str,
        *,
        expected: int | None = None,
        actor: str,
        reason: str,
        by_person: bool = False,
    ) -> Aliases:
        """Make `previous` the champion again; the bad champion becomes `previous`.

        With `expected`, it fails unless that is the champion. No hold stops it. What comes back is
        the anchor. A person's also holds promotions: the loop would make that version again.
        """
        self._require(model)
        with self._changing(model, actor, mends="what is certain", by_person=by_person) as now:
            old = now.aliases
            if expected is not None and old.champion != expected:
                raise ChampionMovedError(model, expected, old.champion)
            if old.previous is None:
                raise RegistryError(f"model {model!r} has no previous champion to roll back to")
            open_bundle(self.path(model, old.previous), self.keys)
            aliases = Aliases(old.previous, old.challenger, previous=old.champion)
            anchor = Anchor(old.previous) if by_person else now.find_anchor(old.previous)
            after = msgspec.structs.replace(now, aliases=aliases, anchor=anchor, canary=None)
            if by_person:
                why = f"rolled back from version {old.champion} to {old.previous}: {reason}"
                after = after.with_hold(Hold(actor, why, utc_now(), None, "promotions"))
            self._record(model, now, after, "rollback", old.previous, actor, reason, by_person)
            return aliases

    def hold(
        self,
        model: str,
        *,
        actor: str,
        reason: str,
        until: float | None = None,
        stops: Stops = "everything",
    ) -> Hold:
        """Hold a model until a time (seconds since 1970), or until it is released.

        It replaces an earlier hold of its kind. Raises RegistryError for a time it may not have.
        """
        check_until(until)
        self._require(model)
        hold = Hold(actor, reason, utc_now(), until, stops)
        with self._changing(model, actor, mends="what is certain", by_person=True) as now:
            after, version = now.with_hold(hold), now.aliases.champion or 0
            after = msgspec.structs.replace(after, canary=None)
            self._record(model, now, after, "hold", version, actor, reason, by_person=True)
        return hold

    def release(self, model: str, *, actor: str, reason: str) -> Hold | None:
        """End all holds of a model; returns the one that was in force. A no-op without holds."""
        self._require(model)
        with self._changing(model, actor, mends="what is certain", by_person=True) as now:
            if now.holds:
                after, version = msgspec.structs.replace(now, holds=()), now.aliases.champion or 0
                self._record(model, now, after, "release", version, actor, reason, by_person=True)
            return now.find_hold(time.time())

    def accept(self, model: str, accepted: Acceptance) -> None:
        """Keep what a person takes for normal traffic; it replaces what was accepted before."""
        self.path(model, accepted.version)
        actor, reason = accepted.actor, accepted.reason
        with self._changing(model, actor, mends="what is certain", by_person=True) as now:
            after, version = msgspec.structs.replace(now, accepted=accepted), accepted.version
            self._record(model, now, after, "accept_drift", version, actor, reason, by_person=True)

    def undo_acceptance(self, model: str, *, actor: str, reason: str) -> Acceptance | None:
        """Take back what was accepted, and return it. A no-op where nothing was."""
        self._require(model)
        with self._changing(model, actor, mends="what is certain", by_person=True) as now:
            if now.accepted is not None:
                after, version = msgspec.structs.replace(now, accepted=None), now.accepted.version
                action = "undo_accept_drift"
                self._record(model, now, after, action, version, actor, reason, by_person=True)
            return now.accepted

    def _require(self, model: str) -> None:
        if not self.versions(model):
            raise UnknownModelError(model, self.models())

    @contextmanager
    def _changing(
        self, model: str, actor: str, *, mends: Mends = "no", by_person: bool = False
    ) -> Iterator[State]:
        """Lock the model, repair its files after a crash or damage, and yield the state.

        If the audit itself is damaged, `mends` says whether to begin a new one. Otherwise a person
        must look at it first, but a rollback to a good champion never has to wait for that.
        """
        files = ModelFiles(self.root / model)
        with open_folder(files.folder, inside=1) as folder:
            folder.require_file(LOCK_FILE)  # it is opened for writing
        with lock_file(files.folder / LOCK_FILE):
            self._fence()
            for stale in files.folder.glob(".staging-*"):
                shutil.rmtree(stale, ignore_errors=True)
            truth = files.find_truth()
            if not truth.damage:
                state = files.mend(truth)
            elif mends == "all" or (mends == "what is certain" and truth.certain):
                state = files.start_anew(truth, actor, by_person or mends == "all")
            else:
                raise RegistryError(
                    f"{truth.damage}; `holdfast models promote {model} VERSION` begins a new "
                    f"{AUDIT_FILE} and keeps this one beside it"
                )
            yield state

    def published_for(self, model: str, event: str) -> int | None:
        """Return the version that the job `event` has written already, audited or not, or None."""
        return find_published(self, model, event)

    def note(self, model: str, action: str, *, actor: str, reason: str) -> None:
        """Write into the audit what a person did to what is kept of a model; no state changes."""
        with self._changing(model, actor) as now:
            self._record(model, now, now, action, now.aliases.champion or 0, actor, reason, True)

    def remove(
        self, model: str, version: int, *, actor: str, reason: str, find_use: FindUse = tuple
    ) -> None:
        """Remove a version that nothing names. Its number is never given again.

        Raises RegistryError where the state names it, or `find_use`, asked with the lock.
        """
        path = self.path(model, version)
        with self._changing(model, actor) as now:
            if use := [*now.names_of(version), *find_use()]:
                raise RegistryError(f"version {version} of {model!r} is {' and '.join(use)}")
            self._record(model, now, now, "remove", version, actor, reason, by_person=True)
            shutil.rmtree(path.rename(path.with_name(f".staging-removed-{version}")))

    def _record(
        self,
        model: str,
        before: State,
        after: State,
        action: str,
        version: int,
        actor: str,
        reason: str,
        by_person: bool = False,
        event: str | None = None,
    ) -> None:
        record = record_of(after, action, version, actor, reason, by_person, event)
        ModelFiles(self.root / model).append(record, before)
