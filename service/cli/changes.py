"""`holdfast models promote | rollback | hold | release`: what a person changes in the registry.

The registry is changed directly: no watcher has to run, and one that does obeys at once.
"""

import getpass
import os
from collections.abc import Callable
from typing import Any

import click

from models.base.errors import InputError
from models.versions.registry import Registry
from service.cli.terminal.output import emit, json_option
from service.configuration.settings import Settings
from service.watcher.bodies import end_at, end_of_hours
from service.watcher.holds import find_state
from service.watcher.reasons import MOST_CHARACTERS, NO_REASON, check_reason

MOST_USER_CHARACTERS = 64


def actor() -> str:
    """Who acts, for the audit: `command line (USER)`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no name belongs to the number, as in some containers
        user = ""
    if not user.isprintable() or not 0 < len(user) <= MOST_USER_CHARACTERS:
        user = f"user {os.getuid()}"
    return f"command line ({user})"


def check_with(check: Callable[[Any, str], Any]) -> Callable[..., Any]:
    """An option's callback: what does not fit is wrong usage (status 2)."""

    def convert(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
        try:
            return None if value is None else check(value, f"--{parameter.name}")
        except InputError as error:
            raise click.UsageError(str(error), ctx) from None

    return convert


def reason_option(default: str = NO_REASON) -> Callable[..., Any]:
    """`--reason`, of one line."""
    text = f"Why, in one line of at most {MOST_CHARACTERS} characters; kept for good."
    return click.option("--reason", default=default, callback=check_with(check_reason), help=text)


@click.command()
@click.argument("model")
@click.argument("version", type=int)
@click.option("--expected", type=int, help="The champion it shall replace; the present one.")
@reason_option()
@json_option
@click.pass_obj
def promote(
    settings: Settings, model: str, version: int, expected: int | None, reason: str, as_json: bool
) -> None:
    """Make a version the champion; running services follow within a second.

    A hold does not stop it, and stays. Damaged files of the registry are mended.

    \b
    Example:
      holdfast models promote digits 2 --reason "checked by eye"
    """
    registry = Registry(settings.registry_dir, settings.keys)
    registry.promote(
        model,
        version,
        expected="any" if expected is None else expected,
        actor=actor(),
        reason=reason,
        by_person=True,
    )
    _tell(registry, model, as_json)


@click.command()
@click.argument("model")
@reason_option()
@json_option
@click.pass_obj
def rollback(settings: Settings, model: str, reason: str, as_json: bool) -> None:
    """Bring the previous champion back; from then on the loop only reports.

    It evaluates, and neither trains by itself nor promotes, until `holdfast models release`.

    \b
    Example:
      holdfast models rollback digits --reason "complaints from the field"
    """
    registry = Registry(settings.registry_dir, settings.keys)
    registry.rollback(model, actor=actor(), reason=reason, by_person=True)
    _tell(registry, model, as_json)


@click.command()
@click.argument("model")
@click.option("--hours", type=float, callback=check_with(end_of_hours), help="For how long.")
@click.option("--until", callback=check_with(end_at), help="RFC 3339, as 2026-12-24T18:00:00Z.")
@reason_option()
@json_option
@click.pass_obj
def hold(
    settings: Settings,
    model: str,
    hours: float | None,
    until: float | None,
    reason: str,
    as_json: bool,
) -> None:
    """Let the loop leave a model alone: no runs by itself, no promotions.

    Without --hours or --until it holds until `holdfast models release`. What a person starts or
    promotes goes through, and so does the rollback of a new champion on probation.

    \b
    Example:
      holdfast models hold digits --hours 12 --reason "the label team is moving house"
    """
    if hours is not None and until is not None:
        raise click.UsageError("give --hours or --until, not both")
    registry = Registry(settings.registry_dir, settings.keys)
    end = hours if until is None else until
    registry.hold(model, actor=actor(), reason=reason, until=end)
    _tell(registry, model, as_json)


@click.command()
@click.argument("model")
@reason_option()
@json_option
@click.pass_obj
def release(settings: Settings, model: str, reason: str, as_json: bool) -> None:
    """End every hold of a model, also the one that a rollback has set.

    \b
    Example:
      holdfast models release digits --reason "the cause was found"
    """
    registry = Registry(settings.registry_dir, settings.keys)
    released = registry.release(model, actor=actor(), reason=reason)
    value = find_state(registry, model, released)
    what = "was not held" if released is None else f"is released; it was {released.words()}"
    emit(value, as_json, lambda: f"{model} {what}")


def _tell(registry: Registry, model: str, as_json: bool) -> None:
    state = find_state(registry, model)
    lines = [f"champion of {model} is {state.champion}"]
    if state.note:
        lines.append(state.note)
    emit(state, as_json, lambda: "\n".join(lines))
