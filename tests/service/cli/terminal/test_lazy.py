"""Only the command that is asked for is loaded: the start of one does not wait for all."""

import subprocess
import sys

import click
import pytest

from service.cli import COMMANDS
from service.cli.terminal.lazy import LazyCommands

HEAVY = ("scipy", "sqlalchemy", "flask", "onnxruntime", "torch")


@pytest.mark.parametrize("module", ["service.cli", "service.cli.train"])
def test_the_start_of_a_command_loads_nothing_that_it_does_not_need(module: str) -> None:
    code = f"import sys, {module}; print(*(set({HEAVY}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_command_is_in_the_module_that_the_table_names() -> None:
    assert len(COMMANDS) == len(list(COMMANDS)) > 10
    assert {name: COMMANDS[name].name for name in COMMANDS} == {name: name for name in COMMANDS}


def test_a_command_of_ones_own_joins_the_others_and_none_leaves() -> None:
    commands = LazyCommands({"train": "service.cli.train"})
    commands["own"] = own = click.Command("own")
    assert (list(commands), commands["own"]) == (["train", "own"], own)
    with pytest.raises(TypeError, match="a command stays"):
        del commands["train"]
    assert "absent" not in commands
