"""Exit statuses and JSON of every command: 0, 1, 2, 130, and one envelope."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from models.versions.registry import Registry
from service.cli import main
from service.cli.terminal.output import SCHEMA
from service.configuration.settings import Settings
from tests import bundles
from tests.ops import ROOT
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
    "score": ("absent.csv", "--model", "absent", "--out", "out.parquet"),
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


@pytest.fixture
def spare(empty: Path) -> Path:
    """A state with a version that `models prune` would ask about."""
    for _ in range(4):  # the anchor, one to spare, the previous one and the champion
        bundles.publish(empty / "state" / "registry")
    return empty


PRUNE = ("models", "prune", "--keep", "0", "--json")


def test_ctrl_c_at_a_question_has_status_130_and_nothing_is_done(spare: Path) -> None:
    """A real process, a real SIGINT; the same beside a running training: `test_progress.py`."""
    with subprocess.Popen(
        [sys.executable, "-m", "service", *PRUNE], env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=spare, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        asked = b""
        while not asked.endswith(b"[y/N]:") and (byte := process.stderr.read(1)):
            asked += byte
        assert asked.endswith(b"[y/N]:"), asked
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert said.strip() == b""
    assert b"Traceback" not in errors
    assert len(Registry(spare / "state" / "registry").versions("digits")) == 4


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_a_question_that_is_not_answered_with_yes_is_status_1_and_the_envelope(
    answer: str, spare: Path
) -> None:
    done = CliRunner().invoke(main, PRUNE, input=answer)
    assert done.exit_code == 1
    envelope = json.loads(done.stdout[done.stdout.index("{") :])
    assert (envelope["command"], envelope["data"]) == ("models prune", None)
    assert "nobody said yes" in envelope["error"]
    assert len(Registry(spare / "state" / "registry").versions("digits")) == 4


def test_traffic_that_fails_prints_one_document(empty: Path) -> None:
    done = CliRunner().invoke(main, ["traffic", "--seconds", "0.2", "--rate", "10", "--json"])
    assert done.exit_code == 1
    assert data_of(done.stdout)["failed"] > 0
    assert "requests and 0 labels failed" in done.stderr


@pytest.mark.parametrize("named", ["nowhere", "variable", "file"])
def test_the_demo_rests_shortly_unless_somebody_says_how_long(
    named: str, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles.publish(empty / "state" / "registry")
    given: list[Any] = []
    monkeypatch.setattr("service.cli.demo.start", lambda *told: given.append(told[2]))
    default = f"{Settings().cool_down_seconds:g}"
    if named == "variable":
        monkeypatch.setenv("HOLDFAST_COOL_DOWN_SECONDS", default)
    if named == "file":
        (empty / "holdfast.toml").write_text(f"cool_down_seconds = {default}\n")
    assert CliRunner().invoke(main, ["demo"]).exit_code == 0
    assert given == [{"HOLDFAST_COOL_DOWN_SECONDS": "5"} if named == "nowhere" else {}]


def test_every_command_that_takes_an_argument_is_among_those_that_fail() -> None:
    taking = {
        words
        for words in commands()
        if any(isinstance(each, click.Argument) and each.required
               for each in command_of(words).params)
    }  # fmt: skip
    assert taking - set(NEEDS) == set()
