"""How a model stands after a change, for people: its aliases, and who holds it."""

import msgspec

from models.versions.registry import Registry
from models.versions.registry_state import Aliases, Hold


class ModelState(Aliases, frozen=True):
    """The aliases of a model and the hold in force; `note` says what the hold means."""

    hold: Hold | None = None
    note: str | msgspec.UnsetType = msgspec.UNSET
    released: Hold | msgspec.UnsetType | None = msgspec.UNSET  # by this change; None: no hold stood


def find_state(
    registry: Registry, model: str, released: Hold | msgspec.UnsetType | None = msgspec.UNSET
) -> ModelState:
    """How a model stands after a change, which may have released a hold."""
    hold, aliases = registry.find_hold(model), registry.aliases(model)
    return ModelState(
        aliases.champion,
        aliases.challenger,
        aliases.previous,
        hold,
        msgspec.UNSET if hold is None else hold_note(model, hold),
        released,
    )


def hold_note(model: str, hold: Hold) -> str:
    """What a hold means for the loop, with the way out of it.

    >>> hold_note("digits", Hold("ada", "audit week", "2026-01-01T00:00:00.000Z"))
    'digits is held by ada until it is released (audit week): the loop does nothing until: \
holdfast models release digits'
    """
    means = "does nothing" if hold.stops == "everything" else "only reports"
    return f"{model} is {hold.words()}: the loop {means} until: holdfast models release {model}"
