"""Exit statuses and JSON of every command: 0, 1, 2, 130, and one envelope."""

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from service.cli import CommandGroup, main
from service.cli.terminal.output import SCHEMA
from tests import bundles
from tests.printed import MEMBERS, data_of

# Has no data: it runs until it is stopped, or prints a document.
WITHOUT_JSON = {"demo", "up", "serve", "watch", "models card"}
# What a command needs so that it fails in its work, and not in its usage.
NEEDS = {
    "certify": ("absent",), "drift accept": ("absent",), "evaluate": ("absent.csv",),
    "jobs approve": ("absent",), "jobs reject": ("absent",), "jobs show": ("absent",),
    "jobs start": ("absent",), "models card": ("absent",), "models hold": ("absent",),
    "models promote": ("absent", "1"), "models release": ("absent",),
    "models rollback": ("absent",), "models show": ("absent",), "models verify": ("absent",),
    "models sign": ("absent", "--key", "absent.pem"), "tokens revoke": ("absent",),
    "records export": ("absent/records.parquet",), "train": ("absent.csv",),
    "wrap": ("absent.onnx", "--data", "absent.csv"),
    "drift show": ("absent",), "traffic": ("--model", "absent", "--seconds", "1"),
    "tokens create": ("no/name", "--scope", "predict"),
}  # fmt: skip
# With an empty state these have something to say: that there is nothing.
NOTHING_THERE = ("models list", "jobs list", "tokens list", "drift show", "models verify")


def commands(group: click.Group = main, words: str = "") -> Iterator[str]:
    for name, each in group.commands.items():
        if isinstance(each, click.Group):
            yield from commands(each, f"{words}{name} ")
        else:
            yield f"{words}{name}"


COMMANDS = tuple(commands())


def command_of(words: str) -> click.Command:
    found: click.Command = main
    for word in words.split():
        assert isinstance(found, click.Group)
        found = found.commands[word]
    return found


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in, and ports on which nobody answers."""
    monkeypatch.chdir(tmp_path)
    for name, value in (("STATE", "state"), ("PORT", "1"), ("WATCH_PORT", "2")):
        monkeypatch.setenv(f"HOLDFAST_{name}", value)
    return tmp_path


def test_what_has_data_prints_it_as_json() -> None:
    silent = {
        words
        for words in commands()
        if not any(option.name == "as_json" for option in command_of(words).params)
    }
    assert silent == WITHOUT_JSON


@pytest.mark.parametrize("words", COMMANDS)
def test_help_has_status_0_and_an_example(words: str) -> None:
    done = CliRunner().invoke(main, [*words.split(), "--help"])
    assert done.exit_code == 0
    assert f"holdfast {words}" in done.stdout.partition("Example:")[2]


@pytest.mark.parametrize("words", COMMANDS)
def test_wrong_usage_has_status_2_and_says_where_help_is(words: str, empty: Path) -> None:
    done = CliRunner().invoke(main, [*words.split(), "--no-such-option"])
    assert done.exit_code == 2
    assert "--help" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("words", NEEDS)
def test_what_cannot_be_done_has_status_1_one_sentence_and_the_envelope(
    words: str, empty: Path
) -> None:
    asked = [] if words in WITHOUT_JSON else ["--json"]
    done = CliRunner().invoke(main, [*words.split(), *NEEDS[words], *asked])
    assert done.exit_code == 1, done.output
    said = done.stderr.partition("holdfast: ")[2]  # after what tells how far it came
    assert said, done.stderr
    assert "Traceback" not in done.output
    if asked:
        envelope = json.loads(done.stdout)
        assert set(envelope) == MEMBERS
        assert (envelope["schema"], envelope["command"]) == (SCHEMA, words)
        assert envelope["data"] is None
        assert said == f"{envelope['error']}\n"


@pytest.mark.parametrize("words", sorted(set(NOTHING_THERE) - {"drift show", "models verify"}))
def test_nothing_there_is_an_empty_list_with_status_0(words: str, empty: Path) -> None:
    done = CliRunner().invoke(main, [*words.split(), "--json"])
    assert done.exit_code == 0, done.output
    assert data_of(done.stdout) == []
    assert json.loads(done.stdout)["command"] == words


def test_doctor_has_data_and_status_1_where_something_is_wrong(empty: Path) -> None:
    done = CliRunner().invoke(main, ["doctor", "--json"])
    assert done.exit_code == 1
    assert data_of(done.stdout)["settings"] is None
    bundles.publish(empty / "state" / "registry")
    assert CliRunner().invoke(main, ["doctor"]).exit_code == 0


def test_all_wrong_settings_are_one_error_with_status_1(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_PORT", "none")
    monkeypatch.setenv("HOLDFAST_MODE", "perhaps")
    done = CliRunner().invoke(main, ["doctor", "--json"])
    assert done.exit_code == 1
    assert done.stderr.count("\n- ") == 2
    assert done.stdout == ""


@pytest.mark.parametrize("words", COMMANDS)
def test_ctrl_c_has_status_130_in_every_command(
    words: str, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    assert isinstance(main, CommandGroup)
    needed = NEEDS.get(words, ())
    monkeypatch.setattr(command_of(words), "callback", interrupt)
    done = CliRunner().invoke(main, [*words.split(), *needed])
    assert (done.exit_code, done.stdout) == (130, "")


def test_every_command_that_takes_an_argument_is_among_those_that_fail() -> None:
    taking = {
        words
        for words in commands()
        if any(isinstance(each, click.Argument) and each.required
               for each in command_of(words).params)
    }  # fmt: skip
    assert taking - set(NEEDS) == set()
