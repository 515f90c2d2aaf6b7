"""Makes the pages of the documentation that come from code: `python -m service.pages`.

docs/settings.md comes from the table of settings, docs/cli.md from the help of the commands. A test
fails when they are out of date.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import click

from service.cli import main
from service.configuration.settings_table import Setting, table

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
starts. A name or a value that does not fit ends the command with a sentence for each that says what
was expected: all faults at once. Files, host names and drivers are looked at by the command that
needs them, before it starts; `holdfast doctor` looks at all and exits with 1 where something that
is needed is wrong; with `--all` it shows what is in force.

A host is an address or a name without a port; IPv6 with or without brackets (`::1`, `[::1]`).
`0.0.0.0` and `::` are every address, an empty text is an error. The variables that Kubernetes sets
for a Service named `holdfast` or `holdfast-...` are no settings, nor is a port of the form
`tcp://10.0.0.1:8080`: they are passed over. The file is UTF-8, with a byte order mark or without.

`HOLDFAST_SCHEDULE` has the five fields of cron (minute, hour, day of the month, month, day of the
week; names such as `mon` and `jan`), read in `HOLDFAST_TIMEZONE`. A line that names hours starts an
evaluation once for each time it names: one that the clock skips in spring when it ends to skip, one
that it shows twice in autumn the first time. A line of every hour (`*/15 * * * *`) follows the time
that passes. What came due while the watcher was down starts once when it is back. `holdfast doctor`
prints the next three times.

| variable | in `holdfast.toml` | type | default | unit | meaning |
|---|---|---|---|---|---|
{rows}"""


def commands_page() -> str:
    """docs/cli.md."""
    parts = "".join(f"\n## {path}\n```text\n{text}\n```\n" for path, text in helps())
    return f"""{MADE}
# Command line

After `make run` the program is `.venv/bin/holdfast`. The exit status is 0; 1 where the work could
not be done (a sentence on standard error says why); 2 for wrong usage; 130 after Ctrl-C. `up`,
`demo`, `serve` and `watch` run until Ctrl-C or SIGTERM ends them in order, with 0. `traffic` that
Ctrl-C ends sums up what it has sent: 0, or 1 if a request failed. A question that is not answered
with yes is 1.

Where a command has data, `--json` prints it on standard output, always in the same envelope;
progress and notes go to standard error:

| member | holds |
|---|---|
| `schema` | the number of this envelope, 1; it rises where a member goes or changes its meaning |
| `command` | the command's words, without the program's name: `models list` |
| `data` | what the command has to say; null where it could not do its work |
| `error` | the sentence that says why it could not; null where it could |

Where there is data to show and the status is 1 all the same (`doctor`, `models verify`, `audit
verify`, `traffic`, `records purge`), the envelope holds the data.

An error of usage or of a setting comes before a command begins: a sentence on standard error, no
JSON. [Installing](install.md#completion-in-the-shell) has completion in the shell.
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
