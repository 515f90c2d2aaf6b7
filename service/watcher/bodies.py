"""The bodies of the calls that change something: a record each, and every fault of one at once.

The fields of a record are the members that its body may have; a field without a default is a member
that must be there. What a member's value may be stands in `CHECKS`.
"""

import math
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any, Literal, TypeVar

import msgspec

from models.base.errors import InputError, show_value
from models.base.json_body import decode_body
from models.versions.registry_state import LONGEST_HOLD_SECONDS
from monitoring.loop.triggers import ACTIONS
from monitoring.watching.acceptance import CYCLE_SECONDS
from service.watcher.reasons import NO_REASON, check_reason
from service.web.errors import RequestError

HOUR = 3600.0
STARTED_BY = "asked for by a person"
MOST_VERSION = 999_999_999
LATEST_SECONDS = 253_402_300_799.0  # the last second of the year 9999
LENGTH = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)([mhd])")
UNITS = {"m": 60.0, "h": 3600.0, "d": 86_400.0}
LONGEST_CYCLE_SECONDS = 366 * 86_400.0
Check = Callable[[Any, str], Any]  # the value and its member; raises InputError


class FaultsError(RequestError):
    """Several members of a body do not fit; `errors` has one entry for each."""

    status = HTTPStatus.BAD_REQUEST

    def __init__(self, faults: list[InputError]) -> None:
        errors = [{"field": f.field, "expected": f.expected, "got": f.got} for f in faults]
        super().__init__("; ".join(map(str, faults)), errors=errors)


class ReasonBody(msgspec.Struct, frozen=True):
    """A reason, and the champion that was seen, where it matters."""

    reason: str = NO_REASON
    expected: int | None = None


class HoldBody(msgspec.Struct, frozen=True):
    """Why a model is held, and until when: seconds since 1970, or None: until it is released."""

    hours: float | None = None  # the end of these hours, seconds since 1970
    until: float | None = None
    reason: str = NO_REASON
    expected: int | None = None

    @property
    def end(self) -> float | None:
        """When the hold ends. Raises InputError where the body says it in two ways."""
        if self.hours is not None and self.until is not None:
            raise InputError("until", "either hours or until", "both")
        return self.hours if self.until is None else self.until


class RollbackBody(msgspec.Struct, frozen=True):
    """The champion that is rolled back, where it matters, and why."""

    expected: int | None = None
    reason: str = NO_REASON


class AcceptBody(msgspec.Struct, frozen=True):
    """The period whose traffic is normal now, of which version, and why; or that it is taken back.

    Times are seconds since 1970; without `since` from the end of the last alarm's onset on, without
    `until` until now.
    """

    since: float | None = None
    until: float | None = None
    cycle: float = CYCLE_SECONDS
    expected: int | None = None
    undo: bool = False
    reason: str = NO_REASON


class PromoteBody(msgspec.Struct, frozen=True):
    """The version that becomes champion, in whose place, and why."""

    version: int
    expected: int | Literal["any"] = "any"
    reason: str = NO_REASON


class DemoBody(msgspec.Struct, frozen=True):
    """Whether the demonstration shall run, and for which model."""

    run: bool
    model: str = ""


class StartBody(msgspec.Struct, frozen=True):
    """The run that is started: of which model and kind, since when, and why."""

    model: str
    kind: str
    since: float = 0.0
    options: Mapping[str, object] = {}
    reason: str = STARTED_BY


Body = TypeVar("Body", bound=msgspec.Struct)
_members = msgspec.json.Decoder(dict[str, Any])


def read_record(body: bytes, kind: type[Body]) -> Body:
    """The record that a body is; a member that is null counts as one that is missing.

    Args:
        body: JSON of an object, or nothing.
        kind: the record; its fields have checks in `CHECKS`, or in `OWN_CHECKS`.

    Raises:
        InputError: no JSON, or one member does not fit.
        FaultsError: several do not.
    """
    fields = {field.name: field.required for field in msgspec.structs.fields(kind)}
    checks = {**CHECKS, **OWN_CHECKS.get(kind, {})}
    values: dict[str, object] = {}
    faults: list[InputError] = []
    for name, value in decode_body(_members, body or b"{}").items():
        if name not in fields:
            expected = f"one of {', '.join(fields)}"
            faults.append(InputError(show_value(name)[1:-1], expected, "no such"))
        elif value is not None:
            try:
                values[name] = checks[name](value, name)
            except InputError as error:
                faults.append(error)
    settled = {*values, *(fault.field for fault in faults)}
    missing = (name for name, required in fields.items() if required and name not in settled)
    faults += [InputError(name, "a value", "nothing") for name in missing]
    if len(faults) > 1:
        raise FaultsError(faults)
    if faults:
        raise faults[0]
    return kind(**values)


def end_of_hours(value: Any, field: str = "hours") -> float:
    """When hours from now are over, seconds since 1970. Raises InputError."""
    most = LONGEST_HOLD_SECONDS / HOUR
    if not _is_number(value) or not 0 < value <= most:
        raise InputError(
            field, f"hours from now, more than 0 and at most {most:g}", show_value(value)
        )
    return float(time.time() + value * HOUR)


def end_at(value: Any, field: str = "until") -> float:
    """A time to come, seconds since 1970, from that or from RFC 3339. Raises InputError."""
    expected = "a time to come, within ten years: RFC 3339 with a zone, or seconds since 1970"
    at = _read_time(value)
    if not 0 < at - time.time() <= LONGEST_HOLD_SECONDS:  # NaN is neither
        raise InputError(field, expected, show_value(value))
    return at


def time_at(value: Any, field: str) -> float:
    """A time, seconds since 1970, from that or from RFC 3339. Raises InputError."""
    at = _read_time(value)
    if not 0 <= at <= LATEST_SECONDS:
        expected = "a time: RFC 3339 with a zone, or seconds since 1970"
        raise InputError(field, expected, show_value(value))
    return at


def length_of_time(value: Any, field: str = "cycle") -> float:
    """Seconds of a length of time such as `24h`, `90m` or `7d`. Raises InputError.

    >>> length_of_time("24h"), length_of_time("1.5d")
    (86400.0, 129600.0)
    """
    match = LENGTH.fullmatch(value) if isinstance(value, str) else None
    seconds = float(match[1]) * UNITS[match[2]] if match else math.nan
    if not 0 < seconds <= LONGEST_CYCLE_SECONDS:
        expected = "a length of time of at most a year, as 90m, 24h or 7d"
        raise InputError(field, expected, show_value(value))
    return seconds


def _read_time(value: Any) -> float:
    """Seconds since 1970; NaN where it is no time."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(at, datetime):
            at = at.timestamp() if at.tzinfo is not None else math.nan
    except (ValueError, OverflowError):
        return math.nan
    return float(at) if _is_number(at) else math.nan


def _version(value: Any, field: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MOST_VERSION:
        raise InputError(field, "the number of a version", show_value(value))
    return value


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise InputError(field, "a text", show_value(value))
    return value


def _kind(value: Any, field: str) -> str:
    if value not in ACTIONS:
        raise InputError(field, f"one of {', '.join(ACTIONS)}", show_value(value))
    return str(value)


def _instant(value: Any, field: str) -> float:
    if not _is_number(value) or value < 0:
        raise InputError(field, "seconds since 1970", show_value(value))
    return float(value)


def _flag(value: Any, field: str) -> bool:
    if not isinstance(value, bool):
        raise InputError(field, "true or false", show_value(value))
    return value


def _object(value: Any, field: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise InputError(field, "an object", show_value(value))
    return value


def _is_number(value: object) -> bool:
    """Whether it is a finite number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


CHECKS: Mapping[str, Check] = {
    "reason": check_reason,
    "hours": end_of_hours,
    "until": end_at,
    "expected": _version,
    "version": _version,
    "model": _text,
    "kind": _kind,
    "since": _instant,
    "options": _object,
    "cycle": length_of_time,
    "undo": _flag,
    "run": _flag,
}
OWN_CHECKS: Mapping[type[msgspec.Struct], Mapping[str, Check]] = {
    AcceptBody: {"since": time_at, "until": time_at},
}
