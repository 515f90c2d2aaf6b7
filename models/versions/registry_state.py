"""The state of a model in the registry, and the audit record of each change of it.

The state is its aliases, its holds, its anchor, its canary, and the traffic that a person has
accepted as normal.

It is in two JSON files: `aliases.json` (the present state) and `audit.jsonl` (a record for each
change, with the state after it).
"""

import datetime as dt
import math
import re
import time
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec

from models.base.errors import RegistryError

Kind = TypeVar("Kind")

MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
ALIASES = ("champion", "challenger", "previous")
Stops = Literal["everything", "promotions"]
MOST_SHARE = 0.5  # of the requests for a canary
LONGEST_HOLD_SECONDS = 10 * 366 * 86_400.0


class Aliases(msgspec.Struct, frozen=True):
    """Which version each alias names; `None` where it names none."""

    champion: int | None = None
    challenger: int | None = None
    previous: int | None = None


class Anchor(msgspec.Struct, frozen=True):
    """The version that a person approved last, and the challengers compared with it since.

    Args:
        version: its number; the first champion until a person approves one.
        attempts: challengers that were compared with it.
        alpha, passed, event: level, outcome and job of the last of them.
    """

    version: int
    attempts: int = 0
    alpha: float = 0.0
    passed: bool = False
    event: str = ""

    def words(self) -> str:
        """What the anchor is and how often it was tried.

        >>> Anchor(1, 2, 0.038, True, "job").words()
        'anchor: version 1; 2 challengers compared with it, the last one passed at 0.038'
        """
        if not self.attempts:
            return f"anchor: version {self.version}; no challenger compared with it yet"
        tried = f"{self.attempts} challenger{'s' * (self.attempts > 1)} compared with it"
        last = f"the last one {'passed' if self.passed else 'did not pass'} at {self.alpha:.2g}"
        return f"anchor: version {self.version}; {tried}, {last}"


class Hold(msgspec.Struct, frozen=True):
    """A person's order that the loop must leave a model alone.

    `everything` stops triggers and promotions; `promotions` lets the loop evaluate and report.
    `until` is in seconds since 1970, or None: until it is released.
    """

    actor: str
    reason: str
    at: str
    until: float | None = None
    stops: Stops = "everything"

    def in_force(self, now: float) -> bool:
        """Whether the hold is in force at `now`, seconds since 1970."""
        return self.until is None or now < self.until

    def words(self) -> str:
        """Describe who holds the model, until when and why.

        >>> Hold("alice", "audit week", "2026-01-01T00:00:00.000Z", 1767312000.0).words()
        'held by alice until 2026-01-02T00:00:00Z (audit week)'
        """
        until = "until it is released" if self.until is None else f"until {show_time(self.until)}"
        return f"held by {self.actor} {until} ({self.reason})"


class HeldError(RegistryError):
    """A person holds the model, so that only a person can promote."""

    def __init__(self, model: str, hold: Hold) -> None:
        super().__init__(
            f"model {model!r} is {hold.words()}: promote by hand (`holdfast models promote`), or "
            f"release it (`holdfast models release {model}`)"
        )
        self.model = model
        self.hold = hold


class Acceptance(msgspec.Struct, frozen=True):
    """A person's word that the traffic of a recorded period is what is normal for a version.

    `since` and `until` are in seconds since 1970. `cycle_seconds` is how long the traffic takes to
    have shown all that it does: a day, say.
    """

    version: int
    since: float
    until: float
    cycle_seconds: float
    actor: str
    reason: str
    at: str

    def words(self) -> str:
        """Describe what was accepted, by whom and why.

        >>> day = Acceptance(2, 0.0, 86400.0, 86400.0, "ada", "summer", "1970-01-02T00:00:00.000Z")
        >>> day.words()
        'traffic from 1970-01-01T00:00:00Z to 1970-01-02T00:00:00Z, accepted by ada (summer)'
        """
        period = f"{show_time(self.since)} to {show_time(self.until)}"
        return f"traffic from {period}, accepted by {self.actor} ({self.reason})"


class Canary(msgspec.Struct, frozen=True):
    """A challenger that answers a share of the requests, for a time.

    Args:
        version: its number.
        share: of the requests, in (0, .5].
        until: seconds since 1970; from then on nobody is sent to it, whoever has died meanwhile.
        event: the job that began it.
    """

    version: int
    share: float
    until: float
    event: str

    def __post_init__(self) -> None:
        if not (0 < self.share <= MOST_SHARE and math.isfinite(self.until)):
            raise ValueError(f"a canary of share {self.share:g} until {self.until:g}")

    def words(self) -> str:
        """Describe which version answers how much, and until when.

        >>> Canary(2, 0.05, 86400.0, "job").words()
        'canary: version 2 answers 5 % of the requests until 1970-01-02T00:00:00Z at the latest'
        """
        share, end = 100 * self.share, show_time(self.until)
        return (
            f"canary: version {self.version} answers {share:g} % of the requests until {end} at "
            "the latest"
        )


class AuditRecord(msgspec.Struct, frozen=True):
    """One change of the registry: who, what, why, and the state after it."""

    at: str
    action: str
    version: int
    aliases: Aliases
    actor: str
    reason: str
    event: str | None = None
    holds: tuple[Hold, ...] = ()
    by_person: bool = False
    accepted: Acceptance | None = None
    anchor: Anchor | None = None
    canary: Canary | None = None
    line_before: str = ""  # hash of the line before (`audit_chain`); empty: of an earlier program
    highest: int = 0  # number of a version so far; it is never given again


class State(msgspec.Struct, frozen=True):
    """Aliases, holds, accepted traffic, anchor and canary, and how many records have led to them.

    There is at most one hold of each kind; when one ends by itself, the other still counts. What
    was accepted is of one version, and says nothing about another.
    """

    aliases: Aliases = Aliases()
    holds: tuple[Hold, ...] = ()
    records: int | None = None  # None: written before this was kept
    accepted: Acceptance | None = None
    anchor: Anchor | None = None  # None: there was no champion yet
    canary: Canary | None = None
    head: str | None = None  # what the next audit record holds; None: written before there was any
    highest: int = 0  # number of a version so far, also of one that was removed

    def find_hold(self, now: float) -> Hold | None:
        """Return the hold in force; of two, the one that stops more."""
        standing = [hold for hold in self.holds if hold.in_force(now)]
        return min(standing, key=lambda hold: hold.stops != "everything", default=None)

    def find_anchor(self, version: int) -> Anchor:
        """Return the anchor; where nobody has named one yet, the champion, else `version`."""
        return self.anchor or Anchor(self.aliases.champion or version)

    def with_hold(self, hold: Hold) -> "State":
        """Return the state with this hold instead of an earlier one of its kind."""
        others = tuple(each for each in self.holds if each.stops != hold.stops)
        return msgspec.structs.replace(self, holds=(*others, hold))

    def find_canary(self, now: float) -> Canary | None:
        """Return the canary that answers at `now`, seconds since 1970."""
        return None if self.canary is None or now >= self.canary.until else self.canary

    def names_of(self, version: int) -> list[str]:
        """What a version is for this state, so that it cannot be removed; empty: nothing.

        >>> State(Aliases(2, previous=1), anchor=Anchor(1)).names_of(1)
        ['previous', 'anchor']
        """
        names = [name for name in ALIASES if getattr(self.aliases, name) == version]
        for name in ("anchor", "canary", "accepted"):
            part = getattr(self, name)
            names += [name] if part is not None and part.version == version else []
        return names

    def without(self, version: int) -> "State":
        """Return the state in which this version is neither challenger nor canary."""
        aliases, canary = self.aliases, self.canary
        if aliases.challenger == version:
            aliases = msgspec.structs.replace(aliases, challenger=None)
        if canary is not None and canary.version == version:
            canary = None
        return msgspec.structs.replace(self, aliases=aliases, canary=canary)


class _AliasFile(Aliases, frozen=True):
    holds: tuple[Hold, ...] = ()
    records: int | None = None
    accepted: Acceptance | None = None
    anchor: Anchor | None = None
    canary: Canary | None = None
    head: str | None = None
    highest: int = 0


def encode_state(state: State) -> bytes:
    """Encode the alias file of a state; empty members are left out."""
    members: dict[str, object] = msgspec.to_builtins(state.aliases)
    if state.holds:
        members["holds"] = state.holds
    if state.accepted is not None:
        members["accepted"] = state.accepted
    if state.records is not None:
        members["records"] = state.records
    if state.anchor is not None:
        members["anchor"] = state.anchor
    if state.canary is not None:
        members["canary"] = state.canary
    if state.head is not None:
        members["head"] = state.head
    if state.highest:
        members["highest"] = state.highest
    return msgspec.json.encode(members)


def decode_state(data: bytes) -> State:
    """Decode an alias file. Raises ValueError where it is damaged."""
    file = _decode(data, _AliasFile)
    aliases = Aliases(file.champion, file.challenger, file.previous)
    known = file.holds, file.records, file.accepted, file.anchor, file.canary, file.head
    return State(aliases, *known, file.highest)


def record_of(
    after: State,
    action: str,
    version: int,
    actor: str,
    reason: str,
    by_person: bool = False,
    event: str | None = None,
) -> AuditRecord:
    """Make the record of a change that has led to a state, at this moment."""
    return AuditRecord(
        utc_now(), action, version, after.aliases, actor, reason, event, after.holds, by_person,
        after.accepted, after.anchor, after.canary, highest=max(after.highest, version),
    )  # fmt: skip


def encode_record(record: AuditRecord) -> bytes:
    """Encode a line of the audit file."""
    return msgspec.json.encode(record) + b"\n"


def decode_record(line: bytes) -> AuditRecord:
    """Decode a line of the audit file, without its end. Raises ValueError if it is damaged."""
    return _decode(line, AuditRecord)


def _decode(data: bytes, kind: type[Kind]) -> Kind:
    try:
        value = msgspec.json.decode(data, type=kind)
        _require_names(msgspec.json.decode(data), kind)
    except (msgspec.DecodeError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise ValueError(str(error)) from error
    return value


def _require_names(members: Mapping[str, object], kind: Any) -> None:
    """Raise ValueError where one name is unknown and another is missing: a damaged name.

    Unknown names alone come from a later version of this program, missing ones from an earlier.
    """
    fields = set(kind.__struct_fields__)
    unknown, missing = sorted(set(members) - fields), sorted(fields - set(members))
    if unknown and missing:
        raise ValueError(f"Object contains {unknown[0]!a}, and no `{missing[0]}`")
    aliases = members.get("aliases")
    if isinstance(aliases, dict):
        _require_names(aliases, Aliases)


def check_name(model: str) -> None:
    """Raise RegistryError unless `model` can name a model (and a directory)."""
    if not MODEL_NAME.fullmatch(model):
        raise RegistryError(f"model name {model!r}: use a-z, 0-9, '_' and '-', at most 63")


def check_until(until: float | None) -> None:
    """Raise RegistryError unless a hold may last until then, seconds since 1970."""
    if until is None:
        return
    now = time.time()
    if not (math.isfinite(until) and now < until <= now + LONGEST_HOLD_SECONDS):
        raise RegistryError(
            f"a hold until {until:g} (seconds since 1970): expected is a time to come, within "
            "ten years"
        )


def utc_now() -> str:
    """Return the time now: RFC 3339, UTC, with milliseconds."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_instant(text: str) -> float:
    """Seconds since 1970 of a record's time; 0, which is long ago, where it was damaged.

    >>> read_instant("1970-01-01T00:01:00.000Z")
    60.0
    """
    try:
        return dt.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0


def show_time(at: float) -> str:
    """Render seconds since 1970 as RFC 3339 in UTC; as a number beyond the calendar."""
    try:
        return f"{dt.datetime.fromtimestamp(at, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return f"{at:g}"
