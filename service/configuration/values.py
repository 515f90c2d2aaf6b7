"""Converts values of settings from the environment or `holdfast.toml` and checks them."""

import re
import tomllib
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

from service.configuration.checks import CHECKS
from service.web.errors import SettingsError

T = TypeVar("T")
# What is done with flagged, suspicious or uncertified rows.
Policy = Literal["observe", "reject", "reject_suspicious", "require_certified"]


def read_value(name: str, value: Any, hint: Any) -> Any:
    """Convert a value to its type, and check its bounds and form.

    Args:
        name: of the setting.
        value: a text from the environment, or a value from the file.
        hint: its type, annotated with bounds.

    Raises:
        SettingsError: it does not fit.
    """
    converted = _convert(name, value, hint)
    return CHECKS[name](converted) if name in CHECKS else converted


def read_toml(path: Path | None) -> dict[str, object]:
    """Read a file of settings; an absent file has none.

    Raises:
        SettingsError: it cannot be read.
    """
    if path is None or not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # a byte order mark is skipped
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(str(path), "a TOML file in UTF-8", str(error)) from error


def type_text(kind: Any) -> str:
    """Name a type for people."""
    if get_origin(kind) is Literal:
        return " | ".join(get_args(kind))
    return {"str": "text", "int": "integer", "float": "number"}[kind.__name__]


def collect(faults: list[SettingsError], parse: Callable[[], T], instead: T) -> T:
    """Return what `parse` returns; if it raises, note the fault and return `instead`."""
    try:
        return parse()
    except SettingsError as error:
        faults.append(error)
        return instead


def unknown(name: str, names: Iterable[str], variable: str) -> SettingsError:
    """Make the error for an unknown name of a setting."""
    near_names = get_close_matches(name, names, n=3)
    hint = f"did you mean {' or '.join(near_names)}? " if near_names else ""
    expected = f"a name that docs/settings.md lists ({hint}`holdfast doctor` prints all)"
    return SettingsError(name, expected, f"an unknown name ({variable})")


def _convert(name: str, value: Any, hint: Any) -> Any:
    try:
        return msgspec.convert(value, hint, strict=not isinstance(value, str))
    except msgspec.ValidationError as error:
        kind, about = get_args(hint)
        bounds = [
            f"{sign} {bound:g}"
            for sign, bound in ((">=", about.ge), (">", about.gt), ("<=", about.le))
            if bound is not None
        ]
        expected = " ".join([type_text(kind), *bounds])
        # A value from the environment may be a secret in the wrong place: show it short.
        raise SettingsError(name, expected, re.sub(r"\s+", " ", repr(value))[:60]) from error
