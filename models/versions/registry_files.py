"""The alias file and the audit file of a model: each can repair the other after damage.

Disks and people damage files. The remaining parts decide how far the state is known:

    audit whole                         its last record, whatever the alias file says
    audit damaged, alias file whole     the alias file, or the last record where that is newer
    audit damaged, its last line whole  that record
    anything else                       a guess: the last record that can be read

An audit with fewer records than the alias file says is damaged, too.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from models.base.errors import RegistryError, UnfitFileError
from models.base.files import write_atomic, write_durable
from models.base.inside import Folder, open_folder
from models.versions.registry_state import (
    AuditRecord,
    State,
    decode_record,
    decode_state,
    encode_record,
    encode_state,
    utc_now,
)

ALIAS_FILE, AUDIT_FILE, LOCK_FILE = "aliases.json", "audit.jsonl", ".lock"
MOST_ALIAS_BYTES = 1 << 16
MOST_AUDIT_BYTES = 1 << 26  # 100,000 changes and more
LOOKS = 3  # a reader who comes between two writes looks again


class FileContents(NamedTuple):
    """The contents of the two files; `unfit` says why the audit cannot be read at all."""

    alias: bytes | None
    state: State | None
    lines: list[bytes]
    tail: bytes
    unfit: str


class Truth(NamedTuple):
    """The state according to the two files; `damage` says what is wrong with the audit."""

    state: State
    files: FileContents
    damage: str = ""
    certain: bool = True


@dataclass(frozen=True)
class ModelFiles:
    """The alias file and the audit file in the folder of a model."""

    folder: Path

    def read_state(self) -> State:
        """The state as the alias file has it. Raises RegistryError, or FileNotFoundError."""
        path = self.folder / ALIAS_FILE
        try:
            return decode_state(self._read(ALIAS_FILE, MOST_ALIAS_BYTES))
        except ValueError as error:
            raise RegistryError(f"{path} is damaged: {error}") from error
        except FileNotFoundError:
            records = self._records()
            if not records:
                raise
        state = _state_after(records)
        if state.aliases.champion is None and state.aliases.previous is None and not state.holds:
            return State()  # of a model that was never promoted nothing is lost
        raise RegistryError(f"{path} is gone; the next change writes it again")

    def read_audit(self) -> tuple[AuditRecord, ...]:
        """All whole records, oldest first. Raises RegistryError where it is damaged."""
        for _ in range(LOOKS):
            expected = self._records_expected()
            records = self._records()
            if len(records) >= expected:
                return records
        raise RegistryError(_loss(self.folder / AUDIT_FILE, len(records), expected))

    def find_truth(self) -> Truth:
        """Find the state as far as the files are readable; the caller has the lock."""
        files = self._find()
        records, damage = _decode_lines(self.folder / AUDIT_FILE, files)
        if not damage:
            return Truth(_state_after([each for each in records if each is not None]), files)
        last = records[-1] if records else None
        records_known = None if files.state is None else files.state.records
        newer = records_known is None or records_known < len(records)
        if last is not None and newer:
            return Truth(_state_of(last, len(records)), files, damage)
        if files.state is not None:
            return Truth(files.state, files, damage)
        guess = next((each for each in reversed(records) if each is not None), None)
        state = State() if guess is None else _state_of(guess, len(records))
        return Truth(state, files, damage, certain=False)

    def mend(self, truth: Truth) -> State:
        """Repair a torn last line or outdated aliases, where the audit is whole."""
        files = truth.files
        if files.tail:
            os.truncate(self.folder / AUDIT_FILE, sum(len(line) + 1 for line in files.lines))
        if files.lines and files.alias != encode_state(truth.state):
            self._write_alias(truth.state)
        return truth.state

    def start_anew(self, truth: Truth, actor: str, by_person: bool) -> State:
        """Begin a new audit file with the known state; the damaged one is kept beside it."""
        path = self.folder / AUDIT_FILE
        aside = path.with_name(f"{AUDIT_FILE}.damaged-{utc_now().replace(':', '')}")
        sentence = self._set_aside(path, aside)
        reason = f"{truth.damage}; {sentence}"
        if not truth.certain:
            reason += (
                f"; {ALIAS_FILE} was of no use either: aliases and holds are those of the last "
                "record that could be read, so hold the model again where it was held"
            )
        state = msgspec.structs.replace(truth.state, records=1)
        version = state.aliases.champion or 0
        record = AuditRecord(
            utc_now(),
            "new_audit",
            version,
            state.aliases,
            actor,
            reason,
            None,
            state.holds,
            by_person,
            state.accepted,
            state.anchor,
            state.canary,
        )
        write_atomic(path, encode_record(record))
        self._write_alias(state)
        return state

    def append(self, record: AuditRecord, before: State) -> State:
        """Write a record, then the state that it leads to."""
        with (self.folder / AUDIT_FILE).open("ab") as stream:
            stream.write(encode_record(record))
            stream.flush()
            os.fsync(stream.fileno())
        state = _state_of(record, (before.records or 0) + 1)
        self._write_alias(state)
        return state

    def _write_alias(self, state: State) -> None:
        path = self.folder / ALIAS_FILE
        if path.is_dir() and not path.is_symlink():  # nothing can be renamed over a folder
            path.rename(path.with_name(f"{ALIAS_FILE}.damaged-{utc_now().replace(':', '')}"))
        write_atomic(path, encode_state(state))

    def _set_aside(self, path: Path, aside: Path) -> str:
        """Keep the damaged audit under another name; returns a note on that."""
        try:
            data = self._read(AUDIT_FILE, MOST_AUDIT_BYTES)
        except FileNotFoundError:
            return "there was nothing to keep"
        except UnfitFileError:
            path.rename(aside)
        else:
            write_durable(aside, data)  # a copy: at no time is there no audit
        return f"kept as {aside.name}"

    def _find(self) -> FileContents:
        with open_folder(self.folder, inside=1) as folder:
            alias = state = None
            with suppress(UnfitFileError, FileNotFoundError):
                alias = _read(folder, ALIAS_FILE, MOST_ALIAS_BYTES)
                with suppress(ValueError):
                    state = decode_state(alias)
            data, unfit = b"", ""
            try:
                data = _read(folder, AUDIT_FILE, MOST_AUDIT_BYTES)
            except UnfitFileError as error:
                unfit = str(error)
            except FileNotFoundError:
                pass
        *lines, tail = data.split(b"\n")
        return FileContents(alias, state, lines, tail, unfit)

    def _read(self, name: str, most: int) -> bytes:
        with open_folder(self.folder, inside=1) as folder:
            return _read(folder, name, most)

    def _records(self) -> tuple[AuditRecord, ...]:
        """Read all records; a torn last line (without its end) never took effect."""
        path = self.folder / AUDIT_FILE
        try:
            lines = self._read(AUDIT_FILE, MOST_AUDIT_BYTES).split(b"\n")[:-1]
        except FileNotFoundError:
            return ()
        records = []
        for number, line in enumerate(lines, 1):
            try:
                records.append(decode_record(line))
            except ValueError as error:
                raise RegistryError(f"{path} is damaged: line {number}: {error}") from error
        return tuple(records)

    def _records_expected(self) -> int:
        try:
            return decode_state(self._read(ALIAS_FILE, MOST_ALIAS_BYTES)).records or 0
        except (ValueError, FileNotFoundError, RegistryError):
            return 0


def _read(folder: Folder, name: str, most: int) -> bytes:
    """A small file. Raises UnfitFileError, FileNotFoundError, or RegistryError for the rest."""
    try:
        return folder.read(name, most)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RegistryError(f"{folder.path / name} cannot be read: {error.strerror}") from error


def _state_of(record: AuditRecord, records: int) -> State:
    return State(
        record.aliases, record.holds, records, record.accepted, record.anchor, record.canary
    )


def _state_after(records: "tuple[AuditRecord, ...] | list[AuditRecord]") -> State:
    return _state_of(records[-1], len(records)) if records else State()


def _decode_lines(path: Path, files: FileContents) -> tuple[list[AuditRecord | None], str]:
    """Decode the records, None for a damaged line; also returns what is wrong."""
    records: list[AuditRecord | None] = []
    damage = files.unfit
    for number, line in enumerate(files.lines, 1):
        try:
            records.append(decode_record(line))
        except ValueError as error:
            records.append(None)
            damage = damage or f"{path} is damaged: line {number}: {error}"
    if not damage and not records and files.alias is not None and files.state != State():
        damage = f"{path} is gone or empty"
    expected = 0 if files.state is None else files.state.records or 0
    if not damage and len(records) < expected:
        damage = _loss(path, len(records), expected)
    return records, damage


def _loss(path: Path, count: int, expected: int) -> str:
    return f"{path} is damaged: it has {count} of {expected} records"
