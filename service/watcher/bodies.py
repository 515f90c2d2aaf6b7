"""What the watcher's changes take: the members of each body, and all that is wrong at once."""

import math
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any

from models.base.errors import InputError
from models.base.json_body import decode_json
from models.versions.registry_state import LONGEST_HOLD_SECONDS
from monitoring.loop.triggers import ACTIONS
from service.watcher.reasons import NO_REASON, check_reason
from service.web.errors import RequestError, show_value

HOUR = 3600.0
MOST_VERSION = 999_999_999
Check = Callable[[Any, str], Any]  # the value and its member; raises InputError


class FaultsError(RequestError):
    """Several members of a body do not fit; `errors` has one entry for each."""

    status = HTTPStatus.BAD_REQUEST

    def __init__(self, faults: list[InputError]) -> None:
        errors = [{"field": f.field, "expected": f.expected, "got": f.got} for f in faults]
        super().__init__("; ".join(map(str, faults)), errors=errors)


def read_members(body: bytes, checks: Mapping[str, Check], required: str = "") -> dict[str, Any]:
    """The members of a body; one that is null counts as one that is missing.

    Args:
        body: JSON of an object, or nothing.
        checks: by the name of a member, what makes its value or says what is wrong with it.
        required: the names that may not be missing.

    Raises:
        InputError: no JSON, or one member does not fit.
        FaultsError: several do not.
    """
    expected = f"JSON of {', '.join(checks)}"
    members = decode_json(body or b"{}", dict[str, Any], expected)
    values, faults = {}, []
    for name, value in members.items():
        if name not in checks:
            faults.append(
                InputError(show_value(name)[1:-1], f"one of {', '.join(checks)}", "no such")
            )
        elif value is not None:
            try:
                values[name] = checks[name](value, name)
            except InputError as error:
                faults.append(error)
    for name in required.split():
        if members.get(name) is None:
            faults.append(InputError(name, "a value", "nothing"))
    if len(faults) > 1:
        raise FaultsError(faults)
    if faults:
        raise faults[0]
    return values


def read_reason(body: bytes) -> str:
    """The reason, of a body that has nothing else."""
    return str(read_members(body, REASON).get("reason", NO_REASON))


def read_hold(body: bytes) -> tuple[str, float | None]:
    """Why a model is held, and until when: seconds since 1970, or None: until it is released."""
    members = read_members(body, HOLD)
    if "hours" in members and "until" in members:
        raise InputError("until", "either hours or until", "both")
    until = members.get("until", members.get("hours"))
    return members.get("reason", NO_REASON), until


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
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(at, datetime):
            at = at.timestamp() if at.tzinfo is not None else math.nan
    except (ValueError, OverflowError):
        at = math.nan
    if not _is_number(at) or not 0 < at - time.time() <= LONGEST_HOLD_SECONDS:
        raise InputError(field, expected, show_value(value))
    return float(at)


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


def _object(value: Any, field: str) -> dict[str, Any]:
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


REASON: Mapping[str, Check] = {"reason": check_reason}
HOLD: Mapping[str, Check] = {"hours": end_of_hours, "until": end_at, **REASON}
ROLLBACK: Mapping[str, Check] = {"expected": _version, **REASON}
PROMOTE: Mapping[str, Check] = {"version": _version, **ROLLBACK}
START: Mapping[str, Check] = {
    "model": _text,
    "kind": _kind,
    "since": _instant,
    "options": _object,
    **REASON,
}
