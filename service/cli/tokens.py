"""`holdfast tokens`: who may call the service."""

import re
from datetime import timedelta

import click
import msgspec

from service.access import auth
from service.cli.terminal.output import emit, json_option, table
from service.configuration.settings import Settings

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def lifetime(text: str) -> timedelta:
    """A time such as 12h or 30d, more than nothing."""
    match = re.fullmatch(r"([1-9][0-9]{0,4})([mhdw])", text)
    if match is None:
        raise click.BadParameter("expected a number and m, h, d or w, such as 12h or 30d")
    return timedelta(**{UNITS[match[2]]: int(match[1])})


@click.group()
def tokens() -> None:
    """Make, list and revoke the tokens of the service.

    With the first one every prediction and all feedback need a token. A running service follows
    within a second.

    \b
    Example:
      holdfast tokens list
    """


@tokens.command()
@click.argument("name")
@click.option(
    "--scope", "scopes", required=True, multiple=True,
    help="What it is for; feedback labels the client's own requests, feedback:any those of all; "
    "admin implies all.",
    type=click.Choice(["predict", "feedback", "feedback:any", "admin"]),
)  # fmt: skip
@click.option("--expires", type=lifetime, metavar="TIME", help="Its lifetime, such as 12h or 30d.")
@json_option
@click.pass_obj
def create(
    settings: Settings,
    name: str,
    scopes: tuple[auth.Held, ...],
    expires: timedelta | None,
    as_json: bool,
) -> None:
    """Make a token and print its secret, once: nothing keeps it.

    \b
    Example:
      holdfast tokens create webshop --scope predict --scope feedback --expires 30d
    """
    secret = auth.create(settings.tokens_path, name, scopes, expires)
    emit({"name": name, "scopes": list(scopes), "secret": secret}, as_json, lambda: secret)
    click.echo("note: this is shown once; clients send it as `Authorization: Bearer ...`", err=True)


@tokens.command("list")
@json_option
@click.pass_obj
def list_(settings: Settings, as_json: bool) -> None:
    """The tokens, without their secrets.

    \b
    Example:
      holdfast tokens list
    """
    path = settings.tokens_path
    entries = auth.read(path) if path.exists() else ()
    rows = [
        {
            "name": token.name,
            "scopes": list(token.scopes),
            "created": token.created,
            "expires": token.expires,
            "expired": token.expired(),
        }
        for token in entries
    ]

    def text() -> str:
        if not path.exists():
            return "no tokens: the service lets everybody in who reaches it"
        cells = [
            (t.name, ",".join(t.scopes), t.created.isoformat(), _end(t)) for t in entries
        ]  # fmt: skip
        return table(("name", "scopes", "created", "expires"), cells)

    emit(msgspec.to_builtins(rows), as_json, text)


def _end(token: auth.Token) -> str:
    if token.expires is None:
        return "never"
    return token.expires.isoformat() + (" (over)" if token.expired() else "")


@tokens.command()
@click.argument("name")
@json_option
@click.pass_obj
def revoke(settings: Settings, name: str, as_json: bool) -> None:
    """Take a token away; with the last one gone nobody is let in.

    \b
    Example:
      holdfast tokens revoke webshop
    """
    auth.revoke(settings.tokens_path, name)
    said = f"token {name} is revoked; running services follow within a second"
    emit({"name": name, "revoked": True}, as_json, lambda: said)
