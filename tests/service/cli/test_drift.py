"""`holdfast drift`: it shows what the watcher knows, and a person says what is normal."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from models.versions.registry import Registry
from models.versions.registry_state import Acceptance
from monitoring.evidence.accepted import Accepted
from monitoring.evidence.alarm import Bin
from monitoring.evidence.explanation import Explanation, Mover
from monitoring.evidence.onset import Onset
from monitoring.evidence.stream import Stream
from monitoring.watching.acceptance import history_path
from monitoring.watching.history import History
from service.cli import main
from tests import bundles
from tests.printed import data_of

NOON = 1_767_268_800.0  # 2026-01-01T12:00:00Z


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a champion."""
    root = tmp_path_factory.mktemp("made") / "registry"
    bundles.publish(root, "digits")
    return root


@pytest.fixture
def registry(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    shutil.copytree(made, tmp_path / "registry")
    monkeypatch.setenv("HOLDFAST_STATE", str(tmp_path))
    monkeypatch.setenv("LOGNAME", "ada")
    return Registry(tmp_path / "registry")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["drift", *arguments])


def said(*arguments: str) -> str:
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def told(*arguments: str) -> Any:
    return data_of(said(*arguments, "--json"))


def watched(registry: Registry, *, requests: int = 0) -> Stream:
    """What a watcher leaves: a state, and a history of looks a minute apart since noon."""
    folder = registry.root.parent / "watch"
    stream = Stream.open(registry.open("digits"), folder, c=1e6)
    history = History.open(history_path(folder, "digits", 1))
    history.add({}, until=NOON, before=0)
    rng = np.random.default_rng(0)
    for k in range(requests // 250):
        counts = {}
        for channel in stream.bundle.manifest.channels:
            alpha = stream.bundle.reference[f"{channel.name}/alpha"].astype(float)
            counts[channel.name] = rng.multinomial(250, alpha / alpha.sum())
        stream.evidence.update(counts)
        history.add(counts, until=NOON + 60.0 * (k + 1), before=250 * k)
    stream.save()
    return stream


def test_show_says_what_moved_with_the_promise_and_what_was_learnt(registry: Registry) -> None:
    unwatched = run("show", "digits")
    assert unwatched.exit_code == 1
    assert "nothing watches digits yet" in unwatched.stderr
    stream = watched(registry, requests=1500)
    calm = said("show", "digits")
    assert "at most one false alarm in 1,000,000 requests" in calm
    assert "if requests come independently from one distribution" in calm
    assert "no alarm since this version is watched" in calm
    assert "compared with the reference of version 1" in calm
    assert "1,500 requests, 2026-01-01 12:00:00 UTC to 2026-01-01 12:06:00 UTC" in calm
    assert "repeats of a client within a minute: not known" in calm
    assert "cycle: not known" in calm
    assert "not retrained yet: whether its answers got worse is not known" in calm
    bins = (Bin("below 1", 0.9, 0.2), Bin("1 and above", 0.1, 0.8))
    mover = Mover("01J", 2, 5.0, "1 and above", 1.25)
    words = "energy: higher than the reference"
    stream.explained = Explanation(
        1, 9.0, "energy", "higher", words, 300, Onset(200, 240, 210), 5.0, 6.0, 0.98, bins,
        (mover,), "",
    )  # fmt: skip
    period = Acceptance(1, NOON, NOON + 360, 86_400.0, "ada", "a new scanner", "2026")
    cells = {
        c.name: len(stream.bundle.reference[f"{c.name}/alpha"])
        for c in stream.bundle.manifest.channels
    }
    history = History.read(history_path(stream.path.parent, "digits", 1))
    counts = history.add_up(NOON, NOON + 360, cells)
    stream.retake(Accepted({name: row.tolist() for name, row in counts.items()}), period)
    shown = said("show")
    assert "alarm over, raised 1970-01-01 00:00:09 UTC, version 1" in shown
    assert period.words() in shown
    for part in (words, "1 and above", "80.0%", "01J/2", "after request 200 to 240 (98% sure)"):
        assert part in shown
    plain = told("show", "digits")
    assert plain["last_alarm"]["movers"][0]["id"] == "01J"
    assert plain["accepted"]["reason"] == "a new scanner"
    assert set(plain["learnt"]["phi"]) == set(plain["evidence_log10"]) == set(cells)
    assert "no accuracy was promised" in plain["harm"]["words"]
    assert plain["waits"][0]["reason"] == "not_harmed"
    assert run("show", "nope").exit_code == 1


def test_accept_keeps_who_and_why_and_undo_takes_it_back(registry: Registry) -> None:
    watched(registry, requests=3000)
    since = ("--since", "2026-01-01T12:00:00Z", "--until", "2026-01-01T13:00:00Z")
    done = told("accept", "digits", *since, "--cycle", "10m", "--reason", "a new scanner")
    accepted = done["accepted"]
    assert (accepted["since"], accepted["until"]) == (NOON, NOON + 3600)
    assert (accepted["actor"], accepted["reason"]) == ("command line (ada)", "a new scanner")
    assert (done["agreement"]["requests"], done["agreement"]["blocks"]) == (3000, 3)
    assert "3 blocks of 1,000 requests, 20 are needed" in done["note"]
    record = registry.audit("digits")[-1]
    assert (record.action, record.by_person) == ("accept_drift", True)
    assert registry.state("digits").accepted == record.accepted
    text = said("accept", "digits", "--undo", "--reason", "a trial")
    assert "compared with the reference of the version again" in text
    assert registry.state("digits").accepted is None
    assert registry.audit("digits")[-1].action == "undo_accept_drift"
    assert said("accept", "digits", "--undo") == "nothing was accepted for digits\n"


def test_what_is_refused_changes_nothing_and_says_what_is_recorded(registry: Registry) -> None:
    watched(registry, requests=3000)
    before = registry.audit("digits")
    for arguments, words in (
        ((), "no alarm of drift stands or stood at version 1"),
        (("--since", "2026-01-01T11:00:00Z"), "recorded are 3,000 requests, from 2026-01-01T12"),
        (("--since", "2026-01-01T12:08:30Z"), "0 requests lie in blocks"),
        (("--since", "2026-01-01T12:00:00Z", "--expected", "7"), "is watched, not 7"),
    ):
        done = run("accept", "digits", *arguments)
        assert done.exit_code == 1
        assert words in done.stderr
    for wrong in (["--since", "noon"], ["--cycle", "24"], ["--cycle", "400d"], ["--undo", *S]):
        assert run("accept", "digits", *wrong).exit_code == 2
    path = history_path(registry.root.parent / "watch", "digits", 1)
    path.write_bytes(b"zeros\n" + path.read_bytes())
    assert "is not readable: line 1 is damaged" in run("accept", "digits", *S).stderr
    assert registry.audit("digits") == before


S = ("--since", "2026-01-01T12:00:00Z")


def test_evidence_that_cannot_be_told_is_said_in_a_sentence_and_hides_no_other_model(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles.publish(registry.root, "unwatched")
    watched(registry, requests=1500)
    shown = said("show")
    assert "digits 1: at most one false alarm" in shown
    assert "unwatched: not known: nothing watches unwatched yet" in shown
    assert [row["fault"] is None for row in told("show")] == [True, False]

    def fail(self: object) -> dict[str, float]:
        raise ValueError("zero-size array")

    monkeypatch.setattr("monitoring.evidence.channels.StreamEvidence.least_eta", fail)
    done = run("show", "digits")
    assert (done.exit_code, done.stdout) == (1, "")
    words = "holdfast: the evidence of digits 1 cannot be told: ValueError: zero-size array"
    assert words in done.stderr
    assert "digits: not known: the evidence of digits 1 cannot be told" in said("show")


def test_list_of_runs_says_why_a_model_is_not_retrained_yet(registry: Registry) -> None:
    for words in (
        "digits: why it is not retrained yet is not known: nothing watches digits yet",
        "digits: not retrained yet: whether its answers got worse is not known",
    ):
        done = CliRunner().invoke(main, ["jobs", "list"])
        assert done.exit_code == 0, done.output
        assert done.stdout.startswith(f"no runs yet\n{words}")
        watched(registry)
