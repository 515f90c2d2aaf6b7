"""The command line `holdfast`: every command shows an example.

The status is 0; 1 where the work could not be done; 2 for wrong usage; 130 after Ctrl-C.
What runs until it is stopped ends with 0 then, and `traffic` sums up what it has sent.
"""

import errno
import os
import signal
import sys
from pathlib import Path

import click

from models.base.errors import HoldfastError, out_of_memory
from models.base.processes import prepare_process
from service.cli.terminal.lazy import LazyCommands
from service.cli.terminal.output import emit_error
from service.configuration import settings

TOML = Path("holdfast.toml")
FULL = (errno.ENOSPC, errno.EDQUOT)  # told of a file that is open, without its name
INTERRUPTED = 128 + signal.SIGINT
NOT_CONFIRMED = "nothing was done: nobody said yes (--yes does it without asking)"
OUT_OF_MEMORY = (
    "there was not enough memory, and nothing was published: take a smaller batch or net or fewer "
    "rows, or give the machine (or container) more"
)


class CommandGroup(click.Group):
    """A group whose commands end with a message and status 1 on our own errors."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; only unexpected errors show a traceback."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)  # without a word: who pressed Ctrl-C knows
        except click.Abort as error:  # of a question that click asked
            if isinstance(error.__context__, KeyboardInterrupt):
                sys.exit(INTERRUPTED)
            sentence = NOT_CONFIRMED
        except HoldfastError as error:
            sentence = str(error)
        except BrokenPipeError:
            raise  # whoever read the output has gone; click ends quietly
        except OSError as error:
            if error.filename is None and error.errno not in FULL:
                raise
            where = "" if error.filename is None else f"{error.filename}: "
            sentence = f"{where}{error.strerror}; see to space and permissions there"
        except Exception as error:
            if out_of_memory(error):
                sentence = OUT_OF_MEMORY
            else:
                from monitoring.loop.durable.faults import passing_words  # with SQLAlchemy

                passing = passing_words(error)
                if passing is None:
                    raise
                sentence = f"{passing}; try again"
        emit_error(ctx, sentence)
        click.echo(f"holdfast: {sentence}", err=True)
        sys.exit(1)


CONTEXT = {"help_option_names": ["-h", "--help"], "show_default": True}
# Each with the module that has it under its own name: only the command that is asked for is loaded.
COMMANDS = LazyCommands({
    "demo": "service.cli.demo", "up": "service.cli.serve", "serve": "service.cli.serve",
    "watch": "service.cli.serve", "doctor": "service.cli.checks.doctor",
    "train": "service.cli.train", "wrap": "service.cli.wrap", "evaluate": "service.cli.evaluate",
    "certify": "service.cli.certify", "score": "service.cli.score",
    "traffic": "service.cli.traffic.command",
    "models": "service.cli.models", "audit": "service.cli.kept.audit",
    "records": "service.cli.kept.records", "drift": "service.cli.drift",
    "jobs": "service.cli.jobs", "tokens": "service.cli.tokens",
})  # fmt: skip


@click.group(cls=CommandGroup, context_settings=CONTEXT, commands=COMMANDS)
@click.version_option(package_name="holdfast")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Serve a robust classifier, watch its traffic, and keep it good.

    Settings come from HOLDFAST_* and holdfast.toml; `holdfast doctor --all` shows them.

    \b
    Example:
      holdfast up
    """
    # Parsed here, once, and passed down.
    ctx.obj = settings.load(os.environ, TOML)
    prepare_process(Path(ctx.obj.state))
