"""Versions and aliases of models in a directory: immutable bundles, audited pointers.

    <root>/<model>/<version>/     a bundle (models.bundle), never changed once it has its number
    <root>/<model>/audit.jsonl    append-only; every record carries the aliases it leads to
    <root>/<model>/aliases.json   what readers look at: the aliases of the last audit record

The audit record is written first (fsync), the alias file second (atomic rename). A crash in
between is mended by the next writer: the last whole audit record is the truth.
"""

import datetime as dt
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from models.bundle import NO_KEYS, Bundle, open_bundle, read_manifest, write_files
from models.errors import (
    ChampionMovedError,
    RegistryError,
    UnfitFileError,
    UnknownModelError,
    UnknownVersionError,
)
from models.files import fsync_dir, locked, write_atomic
from models.inside import Folder, opened
from models.schema import Manifest
from models.signature import Keys

MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
VERSION = re.compile(r"[0-9]{1,9}")
ALIASES = ("champion", "challenger", "previous")
ALIAS_FILE, AUDIT_FILE, LOCK_FILE = "aliases.json", "audit.jsonl", ".lock"
MOST_ALIAS_BYTES = 1 << 16
MOST_AUDIT_BYTES = 1 << 26  # 200,000 changes and more


class Aliases(msgspec.Struct, frozen=True):
    """Which version each alias names; `None` where it names none."""

    champion: int | None = None
    challenger: int | None = None
    previous: int | None = None


class AuditRecord(msgspec.Struct, frozen=True):
    """One change of the registry: who, what, why, and the aliases after it."""

    at: str
    action: str
    version: int
    aliases: Aliases
    actor: str
    reason: str
    event: str | None = None


def check_name(model: str) -> None:
    """Raise RegistryError unless `model` can name a model (and a directory)."""
    if not MODEL_NAME.fullmatch(model):
        raise RegistryError(f"model name {model!r}: use a-z, 0-9, '_' and '-', at most 63")


def utc_now() -> str:
    """The time now, RFC 3339, UTC, in milliseconds."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Registry:
    """A directory of models. Safe for several processes on one machine (advisory locks).

    Versions are signed, and unsigned ones refused, as the `keys` say.
    """

    def __init__(self, root: Path, keys: Keys = NO_KEYS) -> None:
        self.root = root
        self.keys = keys

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
        return tuple(sorted(int(p.name) for p in folder.iterdir() if VERSION.fullmatch(p.name)))

    def aliases(self, model: str) -> Aliases:
        """The aliases now. Raises UnknownModelError, or RegistryError for an unreadable file."""
        if not MODEL_NAME.fullmatch(model):  # which may come from a client: no path of its own
            raise UnknownModelError(model, self.models())
        try:
            data = self._read(model, ALIAS_FILE, MOST_ALIAS_BYTES)
        except FileNotFoundError:
            if not self.versions(model):
                raise UnknownModelError(model, self.models()) from None
            return Aliases()
        try:
            return msgspec.json.decode(data, type=Aliases)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            path = self.root / model / ALIAS_FILE
            raise RegistryError(f"{path} is damaged: {error}") from error

    def path(self, model: str, version: int) -> Path:
        """Folder of a version. Raises UnknownModelError or UnknownVersionError."""
        known = self.versions(model)
        if not known:
            raise UnknownModelError(model, self.models())
        if version not in known:
            raise UnknownVersionError(model, str(version), known)
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
        try:
            data = self._read(model, AUDIT_FILE, MOST_AUDIT_BYTES)
        except FileNotFoundError:
            return ()
        # A torn last line (crash while appending) has no newline: it never took effect.
        lines = data.split(b"\n")[:-1]
        try:
            return tuple(msgspec.json.decode(line, type=AuditRecord) for line in lines)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            path = self.root / model / AUDIT_FILE
            raise RegistryError(f"{path} is damaged: {error}") from error

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
        with self._changing(model):
            version = None if event is None else self.published_for(model, event)
            if version is None:
                version = max(self.versions(model), default=0) + 1
                self._write_version(folder, version, make)
            elif any(r.event == event and r.action == "publish" for r in self.audit(model)):
                return version
            aliases = msgspec.structs.replace(self.aliases(model), challenger=version)
            self._record(model, "publish", version, aliases, actor, reason, event)
            return version

    def promote(
        self,
        model: str,
        version: int,
        *,
        expected: int | None,
        actor: str,
        reason: str,
        event: str | None = None,
    ) -> Aliases:
        """Make `version` the champion if the champion is still `expected` (compare-and-swap).

        The bundle is verified first. Promoting the champion again is a no-op.

        Raises:
            ChampionMovedError: the champion is neither `expected` nor already `version`.
            BundleError: the bundle is damaged.
        """
        open_bundle(self.path(model, version), self.keys)
        with self._changing(model):
            now = self.aliases(model)
            if now.champion == version:
                return now
            if now.champion != expected:
                raise ChampionMovedError(model, expected, now.champion)
            challenger = None if now.challenger == version else now.challenger
            after = Aliases(champion=version, challenger=challenger, previous=now.champion)
            self._record(model, "promote", version, after, actor, reason, event)
            return after

    def withdraw(self, model: str, version: int, *, actor: str, reason: str) -> Aliases:
        """`version` is no longer the challenger; a no-op where it is not. The bundle stays."""
        with self._changing(model):
            now = self.aliases(model)
            if now.challenger != version:
                return now
            after = msgspec.structs.replace(now, challenger=None)
            self._record(model, "withdraw", version, after, actor, reason, None)
            return after

    def rollback(
        self, model: str, *, expected: int | None = None, actor: str, reason: str
    ) -> Aliases:
        """Make `previous` the champion again; the bad champion becomes `previous`.

        With `expected` given it happens only while that version is the champion.
        """
        now = self.aliases(model)
        if now.previous is None:
            raise RegistryError(f"model {model!r} has no previous champion to roll back to")
        open_bundle(self.path(model, now.previous), self.keys)
        with self._changing(model):
            again = self.aliases(model)
            if again != now or (expected is not None and now.champion != expected):
                raise ChampionMovedError(model, expected or now.champion, again.champion)
            after = Aliases(champion=now.previous, challenger=now.challenger, previous=now.champion)
            self._record(model, "rollback", now.previous, after, actor, reason, None)
            return after

    @contextmanager
    def _changing(self, model: str) -> Iterator[None]:
        with self._folder(model) as folder:
            for name in (LOCK_FILE, AUDIT_FILE):  # both are opened for writing
                folder.require_file(name)
        with locked(self.root / model / LOCK_FILE):
            self._mend(model)
            yield

    @contextmanager
    def _folder(self, model: str) -> Iterator[Folder]:
        """The folder of a model, opened. Raises UnfitFileError where it is a link."""
        with opened(self.root / model, inside=1) as folder:
            yield folder

    def _read(self, model: str, name: str, most: int) -> bytes:
        """A small file of a model. Raises UnfitFileError, or OSError where it is not there."""
        with self._folder(model) as folder:
            return folder.read(name, most)

    def _mend(self, model: str) -> None:
        """Undo what a crash left half done: a torn audit line, old aliases, staging folders."""
        folder = self.root / model
        with suppress(FileNotFoundError):
            data = self._read(model, AUDIT_FILE, MOST_AUDIT_BYTES)
            whole = data.rfind(b"\n") + 1
            if whole != len(data):
                os.truncate(folder / AUDIT_FILE, whole)
        records = self.audit(model)
        if records:
            truth = msgspec.json.encode(records[-1].aliases)
            # Compared as bytes: a damaged file must be mended too, not stop the mending.
            try:
                written = self._read(model, ALIAS_FILE, MOST_ALIAS_BYTES)
            except (FileNotFoundError, UnfitFileError):
                written = b""
            if written != truth:
                write_atomic(folder / ALIAS_FILE, truth)
        for stale in folder.glob(".staging-*"):
            shutil.rmtree(stale, ignore_errors=True)

    def published_for(self, model: str, event: str) -> int | None:
        """The version that the job `event` has written already, audited or not; else None."""
        audited = {r.version: r.event for r in self.audit(model) if r.action == "publish"}
        for version in self.versions(model):
            if version in audited:
                if audited[version] == event:
                    return version
            elif self.manifest(model, version).event.get("id") == event:
                return version
        return None

    def _write_version(
        self,
        folder: Path,
        version: int,
        make: Callable[[int], tuple[Mapping[str, bytes], Manifest]],
    ) -> None:
        staging = folder / f".staging-{uuid.uuid4().hex}"
        staging.mkdir()
        try:
            files, manifest = make(version)
            write_files(staging, files, manifest, self.keys)
            open_bundle(staging)
            staging.rename(folder / str(version))
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        fsync_dir(folder)

    def _record(
        self,
        model: str,
        action: str,
        version: int,
        aliases: Aliases,
        actor: str,
        reason: str,
        event: str | None,
    ) -> None:
        folder = self.root / model
        record = AuditRecord(utc_now(), action, version, aliases, actor, reason, event)
        with (folder / AUDIT_FILE).open("ab") as stream:
            stream.write(msgspec.json.encode(record) + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        write_atomic(folder / ALIAS_FILE, msgspec.json.encode(aliases))
