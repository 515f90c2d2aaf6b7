"""Holds, releases, promotions and rollbacks on the command line, and what listings say of them."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from models.versions.registry import Registry
from service.cli import main
from service.cli.changes import MOST_USER_CHARACTERS, actor
from tests.models.versions.test_registry import WHY, publish
from tests.printed import data_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of three versions; version 2 is their champion, 1 the previous."""
    registry = Registry(tmp_path_factory.mktemp("made"))
    for model in ("digits", "wine"):
        for _ in range(3):
            publish(registry, model=model)
        registry.promote(model, 1, expected=None, **WHY)
        registry.promote(model, 2, expected=1, **WHY)
    return registry.root


@pytest.fixture
def registry(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    shutil.copytree(made, tmp_path / "registry")
    monkeypatch.setenv("HOLDFAST_STATE", str(tmp_path))
    monkeypatch.setenv("LOGNAME", "ada")
    return Registry(tmp_path / "registry")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def said(*arguments: str) -> str:
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def told(*arguments: str) -> Any:
    return data_of(said(*arguments, "--json"))


@pytest.mark.parametrize(
    ("action", "arguments"),
    [
        ("promote", ("digits", "3")),
        ("rollback", ("digits",)),
        ("hold", ("digits",)),
        ("release", ("digits",)),
    ],
)
def test_the_audit_names_the_user_and_the_reason(
    registry: Registry, action: str, arguments: tuple[str, ...]
) -> None:
    registry.hold("digits", **WHY)
    said("models", action, *arguments, "--reason", "looks right")
    last = registry.audit("digits")[-1]
    assert (last.action, last.actor, last.reason, last.by_person) == (
        action,
        "command line (ada)",
        "looks right",
        True,
    )


def test_a_rollback_says_that_the_loop_only_reports_until_the_release(registry: Registry) -> None:
    text = said("models", "rollback", "digits", "--reason", "complaints")
    assert text.startswith("champion of digits is 1\n")
    assert "the loop only reports until: holdfast models release digits" in text
    assert "complaints" in said("models", "list")
    assert "complaints" in said("models", "show", "digits")
    assert told("models", "show", "digits")["hold"]["stops"] == "promotions"
    up = told("models", "promote", "digits", "3")
    assert (up["champion"], up["hold"]["actor"]) == (3, "command line (ada)"), "the hold stays"
    assert said("models", "release", "digits").startswith("digits is released; it was held by")
    assert said("models", "release", "digits") == "digits was not held\n"
    assert "held" not in said("models", "list")


def test_a_hold_has_hours_or_a_time_or_no_end(registry: Registry) -> None:
    assert told("models", "hold", "digits")["hold"]["until"] is None
    hours = told("models", "hold", "digits", "--hours", "2")["hold"]["until"]
    later = told("models", "hold", "digits", "--until", "2030-01-01T00:00:00Z")["hold"]["until"]
    assert hours < later == 1893456000.0
    rows = {(row["model"], row["version"]): row["hold"] for row in told("models", "list")}
    assert rows["digits", 1] == rows["digits", 2]
    assert rows["digits", 2]["until"] == later
    assert rows["wine", 1] is None


@pytest.mark.parametrize(
    "arguments",
    [
        ("hold", "digits", "--hours", "0"),
        ("hold", "digits", "--hours", "nan"),
        ("hold", "digits", "--hours", "1", "--until", "2030-01-01T00:00:00Z"),
        ("hold", "digits", "--until", "tomorrow"),
        ("hold", "digits", "--until", "2020-01-01T00:00:00Z"),
        ("hold", "digits", "--reason", "two\nlines"),
        ("release", "digits", "--reason", "\x1b[31m"),
        ("rollback", "digits", "--reason", "x" * 501),
        ("promote", "digits", "3", "--reason", "\u202e"),
        ("hold",),
    ],
)
def test_wrong_usage_is_status_2_and_changes_nothing(
    registry: Registry, arguments: tuple[str, ...]
) -> None:
    before = registry.audit("digits")
    done = run("models", *arguments)
    assert done.exit_code == 2, done.output
    assert registry.audit("digits") == before


@pytest.mark.parametrize("command", ["hold", "release", "rollback"])
def test_an_unknown_model_is_status_1(registry: Registry, command: str) -> None:
    done = run("models", command, "nope")
    assert (done.exit_code, done.stderr) == (
        1,
        "holdfast: unknown model 'nope'; known: digits, wine\n",
    )


def test_a_torn_model_is_listed_as_that_and_promote_mends_it(registry: Registry) -> None:
    (registry.root / "digits" / "aliases.json").write_text("{")
    (registry.root / "digits" / "audit.jsonl").write_bytes(b"\x00" * 300)
    text = said("models", "list")
    assert "aliases.json is damaged" in text
    assert "champion" in text, "of the other model"
    rows = told("models", "list")
    torn = [row for row in rows if row["model"] == "digits"]
    assert all("damaged" in row["error"] and row["aliases"] is None for row in torn)
    assert all(row["created_at"] for row in torn), "who mends it wants to know what there is"
    assert run("models", "hold", "digits").exit_code == 1
    assert said("models", "promote", "digits", "2").startswith("champion of digits is 2")
    assert "new_audit" in said("models", "show", "digits")


def test_a_damaged_audit_does_not_hide_the_manifest(registry: Registry) -> None:
    (registry.root / "digits" / "audit.jsonl").write_bytes(b"no\n")
    assert "audit.jsonl is damaged" in said("models", "show", "digits")
    assert "damaged" in told("models", "show", "digits")["audit_error"]


@pytest.mark.parametrize("name", ["", "a\nb", "x" * (MOST_USER_CHARACTERS + 1)])
def test_a_user_without_a_fit_name_is_a_number(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def getuser() -> str:
        if not name:
            raise KeyError("getpwuid(): uid not found: 1000770000")
        return name

    monkeypatch.setattr("getpass.getuser", getuser)
    assert actor().startswith("command line (user ")
