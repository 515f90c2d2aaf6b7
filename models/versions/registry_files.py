"""The alias file and the audit file of a model: each can repair the other after damage.

Disks and people damage files. The remaining parts decide how far the state is known:

    audit whole                         its last record, whatever the alias file says
    audit damaged, alias file whole     the alias file, or the last record where that is newer
    audit damaged, its last line whole  that record
    anything else                       a guess: the last record that can be read

An audit with fewer records than the alias file says is damaged, too, and so is one whose hash chain
(`audit_chain`) is broken.
"""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from models.base.errors import RegistryError, UnfitFileError
from models.base.files import write_atomic, write_durable
from models.base.inside import Folder, open_folder
from models.base.logs import logger
from models.versions.audit_chain import NEW_AUDIT, NOTHING, Chain, follow_chain, hash_bytes
from models.versions.registry_state import (
    AuditRecord,
    State,
    decode_record,
    decode_state,
    encode_record,
    encode_state,
    record_of,
    utc_now,
)

ALIAS_FILE, AUDIT_FILE, LOCK_FILE = "aliases.json", "audit.jsonl", ".lock"
MOST_ALIAS_BYTES = 1 << 16
MOST_AUDIT_BYTES = 1 << 26  # 100,000 changes and more
_ASIDE = re.compile(rf"kept as ({re.escape(AUDIT_FILE)}\.damaged-[0-9A-Za-z.-]+)")
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


class AuditCheck(NamedTuple):
    """What `ModelFiles.check_audit` finds; `fault` is empty where the audit is whole.

    `line` is the first one at fault, 0 where it is none of them; `torn_bytes` are of a last line
    that a crash has cut short, whose change never took effect. `links` are all hashes that lead to
    the last line, those of audits that were set aside among them. `unknown` says what of these is
    not known.
    """

    records: int
    unchained: int
    head: str
    line: int
    fault: str
    torn_bytes: int
    links: tuple[str, ...]
    unknown: str = ""


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
            records, lines = self._records_and_lines()
            if not records:
                raise
        state = _state_after(records, follow_chain(lines))
        if state.aliases.champion is None and state.aliases.previous is None and not state.holds:
            return State()  # of a model that was never promoted nothing is lost
        raise RegistryError(f"{path} is gone; the next change writes it again")

    def read_audit(self) -> tuple[AuditRecord, ...]:
        """All whole records, oldest first. Raises RegistryError where it is damaged."""
        path = self.folder / AUDIT_FILE
        for _ in range(LOOKS):
            alias = self._find_alias()
            records, lines = self._records_and_lines()
            damage = _find_damage(path, lines, alias)
            if not damage:
                return records
        raise RegistryError(damage)

    def check_audit(self) -> AuditCheck:
        """Follow the hash chain of the audit, and compare it with the alias file.

        Without an alias file that tells the last line, a line that is gone at the end would not
        show: that is a fault, too. So is an audit that was set aside and is not what it was.

        Raises:
            RegistryError: the audit cannot be read at all.
        """
        path = self.folder / AUDIT_FILE
        for _ in range(LOOKS):
            alias = self._find_alias()
            files = self._find()
            chain = follow_chain(files.lines)
            line, fault = chain.broken, chain.reason
            if files.unfit:
                fault = files.unfit
            elif not line:
                decoded, fault = _decode_lines(path, files)
                if None in decoded:
                    line = decoded.index(None) + 1
                fault = fault or _find_damage(path, files.lines, alias)
                fault = fault or _miss_end(files.lines, chain, alias)
            if not fault:
                break
        links, unknown, changed = self._follow_aside(files.lines[:1])
        return AuditCheck(
            len(files.lines), chain.unchained, chain.head, line, fault or changed,
            len(files.tail), links + chain.links, unknown,
        )  # fmt: skip

    def _follow_aside(self, first: list[bytes]) -> tuple[tuple[str, ...], str, str]:
        """Follow audits that were set aside; their links, what is not known, and what is wrong."""
        links: tuple[str, ...] = ()
        seen = set[str]()
        while first:
            try:
                record = decode_record(first[0])
            except ValueError:
                break  # a damaged one has no line before that it could name
            if record.action != NEW_AUDIT:
                break
            named = _ASIDE.search(record.reason)
            if named is None or named[1] in seen or record.line_before in ("", NOTHING):
                return links, "what was before a new audit began is not known", ""
            seen.add(name := named[1])
            try:
                data = self._read(name, MOST_AUDIT_BYTES)
            except (FileNotFoundError, RegistryError) as error:
                why = f"{name}, which was kept, cannot be read: {error}"
                return links, why, f"what was before is not known: {why}"
            if hash_bytes(data) != record.line_before:
                why = f"{name} is not the file that was set aside"
                return links, why, f"{why}: it was changed since"
            first = data.split(b"\n")[:-1]
            chain = follow_chain(first)
            links = chain.links[: chain.broken - 1 if chain.broken else None] + links
        return links, "", ""

    def find_truth(self) -> Truth:
        """Find the state as far as the files are readable; the caller has the lock."""
        files = self._find()
        records, damage = _decode_lines(self.folder / AUDIT_FILE, files)
        if not damage:
            whole = [each for each in records if each is not None]
            return Truth(_state_after(whole, follow_chain(files.lines)), files)
        last = records[-1] if records else None
        records_known = None if files.state is None else files.state.records
        newer = records_known is None or records_known < len(records)
        if last is not None and newer:
            return Truth(
                _state_of(last, len(records), follow_chain(files.lines).head), files, damage
            )
        if files.state is not None:
            return Truth(files.state, files, damage)
        guess = next((each for each in reversed(records) if each is not None), None)
        state = (
            State()
            if guess is None
            else _state_of(guess, len(records), follow_chain(files.lines).head)
        )
        return Truth(state, files, damage, certain=False)

    def mend(self, truth: Truth) -> State:
        """Repair a torn last line or outdated aliases, where the audit is whole."""
        files = truth.files
        if files.tail:
            logger("registry").warning(
                "audit_tail_cut",
                file=str(self.folder / AUDIT_FILE),
                bytes=len(files.tail),
                reason="a crash has cut its last line short; that change never took effect",
            )
            os.truncate(self.folder / AUDIT_FILE, sum(len(line) + 1 for line in files.lines))
        if files.lines and files.alias != encode_state(truth.state):
            self._write_alias(truth.state)
        return truth.state

    def start_anew(self, truth: Truth, actor: str, by_person: bool) -> State:
        """Begin a new audit file with the known state; the damaged one is kept beside it."""
        path = self.folder / AUDIT_FILE
        aside = path.with_name(f"{AUDIT_FILE}.damaged-{utc_now().replace(':', '')}")
        sentence, before = self._set_aside(path, aside)
        reason = f"{truth.damage}; {sentence}"
        if not truth.certain:
            reason += (
                f"; {ALIAS_FILE} was of no use either: aliases and holds are those of the last "
                "record that could be read, so hold the model again where it was held"
            )
        state = truth.state
        version = state.aliases.champion or 0
        record = record_of(state, NEW_AUDIT, version, actor, reason, by_person)
        highest = max(record.highest, *_numbers_in(truth.files.lines), 0)
        line = encode_record(msgspec.structs.replace(record, line_before=before, highest=highest))
        state = msgspec.structs.replace(
            state, records=1, head=hash_bytes(line[:-1]), highest=highest
        )
        write_atomic(path, line)
        self._write_alias(state)
        return state

    def append(self, record: AuditRecord, before: State) -> State:
        """Write a record behind the last one, then the state that it leads to."""
        line = encode_record(msgspec.structs.replace(record, line_before=before.head or NOTHING))
        with (self.folder / AUDIT_FILE).open("ab") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        state = _state_of(record, (before.records or 0) + 1, hash_bytes(line[:-1]))
        self._write_alias(state)
        return state

    def _write_alias(self, state: State) -> None:
        path = self.folder / ALIAS_FILE
        if path.is_dir() and not path.is_symlink():  # nothing can be renamed over a folder
            path.rename(path.with_name(f"{ALIAS_FILE}.damaged-{utc_now().replace(':', '')}"))
        write_atomic(path, encode_state(state))

    def _set_aside(self, path: Path, aside: Path) -> tuple[str, str]:
        """Keep the damaged audit under another name; returns a note on that, and its hash."""
        try:
            data = self._read(AUDIT_FILE, MOST_AUDIT_BYTES)
        except FileNotFoundError:
            return "there was nothing to keep", NOTHING
        except UnfitFileError:
            path.rename(aside)
            return f"kept as {aside.name}", NOTHING
        write_durable(aside, data)  # a copy: at no time is there no audit
        return f"kept as {aside.name}", hash_bytes(data)

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

    def _records_and_lines(self) -> tuple[tuple[AuditRecord, ...], list[bytes]]:
        """Read all records; a torn last line (without its end) never took effect."""
        path = self.folder / AUDIT_FILE
        try:
            lines = self._read(AUDIT_FILE, MOST_AUDIT_BYTES).split(b"\n")[:-1]
        except FileNotFoundError:
            return (), []
        records = []
        for number, line in enumerate(lines, 1):
            try:
                records.append(decode_record(line))
            except ValueError as error:
                raise RegistryError(f"{path} is damaged: line {number}: {error}") from error
        return tuple(records), lines

    def _find_alias(self) -> State | None:
        """The state of the alias file, as far as it can be read."""
        try:
            return decode_state(self._read(ALIAS_FILE, MOST_ALIAS_BYTES))
        except (ValueError, FileNotFoundError, RegistryError):
            return None


def _read(folder: Folder, name: str, most: int) -> bytes:
    """A small file. Raises UnfitFileError, FileNotFoundError, or RegistryError for the rest."""
    try:
        return folder.read(name, most)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RegistryError(f"{folder.path / name} cannot be read: {error.strerror}") from error


def _state_of(record: AuditRecord, records: int, head: str) -> State:
    known = record.accepted, record.anchor, record.canary
    return State(record.aliases, record.holds, records, *known, head, record.highest)


def _numbers_in(lines: list[bytes]) -> list[int]:
    """The numbers of versions in the lines that can be read."""
    numbers = list[int]()
    for line in lines:
        with suppress(ValueError):
            record = decode_record(line)
            numbers += [record.version, record.highest]
    return numbers


def _state_after(records: "tuple[AuditRecord, ...] | list[AuditRecord]", chain: Chain) -> State:
    return _state_of(records[-1], len(records), chain.head) if records else State()


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
    return records, damage or _find_damage(path, files.lines, files.state)


def _miss_end(lines: list[bytes], chain: Chain, alias: State | None) -> str:
    """Why it is not known which line is the last; empty where the alias file tells it.

    A crash leaves at most one line that the alias file does not know yet.
    """
    if not lines:
        return ""
    if alias is None:
        return f"the end is not known: {ALIAS_FILE} is gone or damaged"
    if chain.unchained < len(lines) and alias.head is None:
        return f"the end is not known: {ALIAS_FILE} holds no hash of the last line"
    if alias.records is not None and len(lines) > alias.records + 1:
        return f"the end is not known: {ALIAS_FILE} knows {alias.records} of {len(lines)} lines"
    return ""


def _find_damage(path: Path, lines: list[bytes], alias: State | None) -> str:
    """What is wrong with lines that can be read: some are missing, or the chain is broken."""
    expected = 0 if alias is None else alias.records or 0
    if len(lines) < expected:
        return f"{path} is damaged: it has {len(lines)} of {expected} records"
    chain = follow_chain(lines)
    if chain.broken:
        return f"{path} is damaged: line {chain.broken}: {chain.reason}"
    if expected and alias is not None and alias.head not in (None, chain.links[expected - 1]):
        return f"{path} is damaged: line {expected} is not the one that {ALIAS_FILE} was made from"
    return ""
