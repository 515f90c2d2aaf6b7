"""How a model stands after a change, for people: its aliases, and who holds it."""

from typing import Any

import msgspec

from models.versions.registry import Registry
from models.versions.registry_state import Hold


def show_state(registry: Registry, model: str) -> dict[str, Any]:
    """The aliases of a model and the hold in force, as plain data; `note` says what it means."""
    hold = registry.find_hold(model)
    aliases: dict[str, Any] = msgspec.to_builtins(registry.aliases(model))
    note = {} if hold is None else {"note": hold_note(model, hold)}
    return {**aliases, "hold": msgspec.to_builtins(hold), **note}


def hold_note(model: str, hold: Hold) -> str:
    """What a hold means for the loop, with the way out of it.

    >>> hold_note("digits", Hold("ada", "audit week", "2026-01-01T00:00:00.000Z"))
    'digits is held by ada until it is released (audit week): the loop does nothing until: \
holdfast models release digits'
    """
    means = "does nothing" if hold.stops == "everything" else "only reports"
    return f"{model} is {hold.words()}: the loop {means} until: holdfast models release {model}"
