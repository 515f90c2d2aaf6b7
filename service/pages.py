"""Pages of the documentation that are made from the code: `python -m service.pages`.

docs/settings.md from the table of settings, docs/cli.md from the commands' own help. A test says
when they are old.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import click

from service.cli import main
from service.settings import Setting, table

DOCS = Path(__file__).parent.parent / "docs"
WIDTH = 88
MADE = "<!-- made by `python -m service.pages`; do not edit -->\n"


def settings_page() -> str:
    """docs/settings.md."""
    rows = "".join(_setting(row) for row in table())
    return f"""{MADE}
# Settings

A setting comes from the environment (`HOLDFAST_PORT=8081`), else from `holdfast.toml` in the
working directory (`port = 8081`), else it has its default. They are read once, when a command
starts. A name or a value that does not fit ends the command with a sentence that says what was
expected. `holdfast doctor` shows what is in force.

| variable | in `holdfast.toml` | type | default | unit | meaning |
|---|---|---|---|---|---|
{rows}"""


def commands_page() -> str:
    """docs/cli.md."""
    parts = "".join(f"\n## {path}\n```text\n{text}\n```\n" for path, text in helps())
    return f"""{MADE}
# Command line

After `make run` the program is `.venv/bin/holdfast`. The exit status is 0; 1 where the work could
not be done (a sentence on standard error says why); 2 for wrong usage. `--json` prints data;
progress goes to standard error.
{parts}"""


def helps() -> Iterator[tuple[str, str]]:
    """Every command's path and help, the program itself first."""
    yield from _helps(main, "holdfast", None)


PAGES: Mapping[str, Callable[[], str]] = MappingProxyType(
    {"settings.md": settings_page, "cli.md": commands_page}
)


def _helps(
    command: click.Command, name: str, parent: click.Context | None
) -> Iterator[tuple[str, str]]:
    settings = command.context_settings
    context = click.Context(command, parent, info_name=name, terminal_width=WIDTH, **settings)
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            child = command.get_command(context, each)
            assert child is not None
            yield from _helps(child, each, context)


def _setting(row: Setting) -> str:
    kind = (
        " or ".join(f"`{part}`" for part in row.type.split(" | ")) if "|" in row.type else row.type
    )
    default = f"`{row.default}`" if row.default else ""
    return f"| `{row.variable}` | `{row.name}` | {kind} | {default} | {row.unit} | {row.help} |\n"


if __name__ == "__main__":
    for page, make in PAGES.items():
        (DOCS / page).write_text(make(), encoding="utf-8")
        sys.stdout.write(f"docs/{page}\n")
