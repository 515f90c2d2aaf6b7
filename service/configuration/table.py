"""The table of settings as help, documentation and checks show it."""

from typing import Any, get_args, get_type_hints

import msgspec

from service.configuration.settings import PREFIX, Settings
from service.configuration.values import type_text


class Setting(msgspec.Struct, frozen=True):
    """One row of the table of settings."""

    name: str
    variable: str
    type: str
    default: str
    unit: str
    help: str


def table() -> tuple[Setting, ...]:
    """Return the settings as rows, in order of declaration."""
    hints = get_type_hints(Settings, include_extras=True)
    return tuple(
        _row(field.name, field.default, hints[field.name])
        for field in msgspec.structs.fields(Settings)
    )


def _row(name: str, default: Any, hint: Any) -> Setting:
    kind, about = get_args(hint)
    unit = (about.extra or {}).get("unit", "")
    default_text = f"{default:g}" if isinstance(default, float) else str(default)
    return Setting(
        name,
        f"{PREFIX}{name.upper()}",
        type_text(kind),
        default_text,
        unit,
        about.description or "",
    )
