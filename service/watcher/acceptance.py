"""A person accepts traffic as normal, or takes that back: the same by a call and by a command."""

from pathlib import Path

import msgspec

from models.versions.registry import Registry, utc_now
from models.versions.registry_state import Acceptance
from monitoring.evidence.stream import Stream
from monitoring.watching.acceptance import AcceptanceError, Agreement, Wish, agree
from monitoring.watching.history import History
from service.watcher.bodies import AcceptBody


class AcceptanceState(msgspec.Struct, frozen=True):
    """What a version is compared with from the watcher's next look on, in words as well."""

    model: str
    accepted: Acceptance | None  # None: the reference of the version
    note: str
    agreement: Agreement | msgspec.UnsetType = msgspec.UNSET  # of what was accepted just now
    undone: Acceptance | msgspec.UnsetType | None = msgspec.UNSET  # None: nothing was accepted


def accept(
    registry: Registry, stream: Stream, history: History, wish: AcceptBody, actor: str, now: float
) -> AcceptanceState:
    """Keep in the registry that a period of a version's traffic is normal now.

    Raises:
        AcceptanceError: the period cannot be accepted; nothing is changed.
    """
    model, version = stream.model, stream.version
    if wish.expected not in (None, version):
        words = f"version {version} of {model} is watched, not {wish.expected}"
        raise AcceptanceError([f"{words}: traffic counts for the version that answered it"])
    agreement = agree(Wish(wish.since, wish.until, wish.cycle), stream, history, now)
    accepted = Acceptance(
        version, agreement.since, agreement.until, wish.cycle, actor, wish.reason, utc_now()
    )
    registry.accept(model, accepted)
    note = (
        f"from the next look on, traffic of {model} {version} is compared with "
        f"{agreement.requests:,} requests of that period; {agreement.words}"
    )
    return AcceptanceState(model, accepted, note, agreement=agreement)


def undo(registry: Registry, model: str, reason: str, actor: str) -> AcceptanceState:
    """Take back what was accepted; a no-op where nothing was."""
    undone = registry.undo_acceptance(model, actor=actor, reason=reason)
    note = f"nothing was accepted for {model}"
    if undone is not None:
        note = (
            f"{undone.words()}: no longer; from the next look on, traffic of {model} "
            f"{undone.version} is compared with the reference of the version again"
        )
    return AcceptanceState(model, None, note, undone=undone)


def read_watched(folder: Path, registry: Registry, model: str, *, c: float) -> Stream:
    """Read the stream of a model as its watcher has left it.

    Args:
        folder: of the watcher's state files.
        c: requests per false alarm.

    Raises:
        AcceptanceError: nothing watches it yet, or what was left cannot be read.
    """
    try:
        return Stream.read(folder, model, lambda number: registry.open(model, str(number)), c=c)
    except FileNotFoundError:
        words = f"nothing watches {model} yet: start `holdfast watch` (or `holdfast up`)"
        raise AcceptanceError([words]) from None
    except (OSError, ValueError) as error:
        raise AcceptanceError(
            [f"the watcher's state of {model} is not readable: {error}"]
        ) from None
