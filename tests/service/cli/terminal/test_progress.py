"""Laws of progress: stages with the time left, no long silence, and Ctrl-C leaves nothing."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from models.data import DataSet
from models.training.recipe import Recipe
from models.versions.facts import EventFacts
from models.versions.registry import Registry
from monitoring.making.orders import Order
from monitoring.making.version import make_version
from service.cli.terminal.progress import LINE_SECONDS, TICK_SECONDS, Bar
from tests import bundles
from tests.conftest import NET
from tests.ops import ROOT
from tests.waiting import wait_until


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_line_has_the_stage_the_words_and_the_time_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    bar = Bar("k", clock=clock, terminal=False)
    bar("training", 0, 100, "100 steps")
    clock.now += 10
    bar("training", 20, 100, "20/100, loss 0.500")
    assert lines(capsys) == ["k: training 20%, 20/100, loss 0.500, 40 s left"]
    clock.now += 20
    bar("training", 100, 100, "100/100, loss 0.400")
    assert lines(capsys) == ["k: training 100%, 100/100, loss 0.400, took 30 s"]


def test_the_time_left_is_that_of_this_run_where_an_earlier_one_is_taken_up(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    bar = Bar("k", clock=clock, terminal=False)
    bar("training", 60, 100, "goes on after step 60 of 100")
    assert "k: training 60%, goes on after step 60 of 100" in lines(capsys)[0]
    clock.now += 10  # ten seconds for ten steps: thirty are left
    bar("training", 70, 100, "70/100")
    assert lines(capsys) == ["k: training 70%, 70/100, 30 s left"]


@pytest.mark.parametrize("total", [0, 12])
def test_no_silence_is_longer_than_ten_seconds(
    total: int, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    bar = Bar("k", clock=clock, terminal=False)
    bar("judging", 0, total, "square-5000")
    silences, last = [], clock.now
    for _ in range(600):
        clock.now += TICK_SECONDS
        bar.tick()
        if lines(capsys):
            silences.append(clock.now - last)
            last = clock.now
    assert len(silences) > 60
    assert max(silences) <= LINE_SECONDS + TICK_SECONDS < 10


def test_lines_do_not_crowd_and_say_how_long_it_is_at_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    bar = Bar("k", clock=clock, terminal=False)
    for done in range(100):
        bar("judging", done, 1000, "fgsm")
        clock.now += 0.1
    assert len(lines(capsys)) == 1
    clock.now += 200
    bar.tick()
    assert lines(capsys) == ["k: judging 10%, fgsm, 200 s at this"]


def test_the_end_of_a_stage_is_shown_once_and_the_next_begins(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bar = Bar("k", clock=Clock(), terminal=False)
    for _ in range(3):
        bar("calibrating", 50, 100, "scores")
        bar("calibrating", 100, 100, "scores")
    bar.of("judging")(1, 2, "clean")
    bar.of("judging")(2, 2, "stress")
    ends = [line for line in lines(capsys) if "100%" in line]
    assert ends == ["k: calibrating 100%, scores, took 0 s", "k: judging 100%, stress, took 0 s"]


def test_a_terminal_has_one_line_per_stage_and_notes_between(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    clock = Clock()
    with Bar("k", clock=clock, terminal=True) as bar:
        for step in range(5):
            bar("training", step, 10, f"{step}/10, loss 0.5")
            clock.now += 1
        bar.note("note: few rows")
        bar("judging", 0, 10, "clean")
        clock.now += 1
        bar("judging", 5, 10, "a name that is much too long for a terminal of sixty columns")
    text = capsys.readouterr().err
    pictures = re.findall(r"\r([^\r\n]*)", text)
    assert len(pictures) == 5
    assert {len(picture) for picture in pictures} == {59}
    assert pictures[-2].startswith("[#########...............] k: training 40%")
    assert "\nnote: few rows\n" in text
    assert text.endswith("\n")


def test_other_processes_than_the_first_show_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar("k", silent=True, terminal=True) as bar:
        bar("training", 1, 2, "1/2")
        bar("training", 2, 2, "2/2")
    assert capsys.readouterr().err == ""


def test_making_a_version_reports_every_stage_from_its_start_to_its_end(
    digits: DataSet, empty: Registry
) -> None:
    reports: list[tuple[str, int, int, str]] = []
    order = Order("digits", Recipe(max_steps=3, attack_steps=1), NET, EventFacts("a", "b"), "t")
    make_version(
        empty, bundles.few_rows(digits), order, progress=lambda *each: reports.append(each)
    )
    stages = list(dict.fromkeys(stage for stage, *_ in reports))
    assert stages == ["training", "calibrating", "judging"]
    for stage in stages:
        own = [(done, total) for name, done, total, _ in reports if name == stage]
        shares = [done / total for done, total in own]
        assert shares == sorted(shares), f"{stage} never goes back"
        assert shares[-1] == 1
        assert len(own) > (1 if stage == "training" else 5)
    assert next(words for stage, _, _, words in reports if stage == "calibrating") == "the graph"


# Real processes and a real Ctrl-C.


def begin_training(state: Path, *options: str) -> "subprocess.Popen[bytes]":
    """`holdfast train digits` with its standard error in `state/../log`."""
    environment = os.environ | {"HOLDFAST_STATE": str(state), "PYTHONUNBUFFERED": "1"}
    with (state.parent / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "service", "train", "digits", *options],
            env=environment, cwd=ROOT, stderr=log, stdout=subprocess.DEVNULL,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "sign"),
    [
        (("--epochs", "4000"), r"digits: training .*loss"),
        (("--epochs", "1", "--attack-steps", "1"), r"digits: calibrating 100%"),
    ],
    ids=["training", "judging"],
)
def test_ctrl_c_ends_with_130_says_how_to_go_on_and_leaves_nothing_half_written(
    options: tuple[str, ...], sign: str, tmp_path: Path
) -> None:
    state, log = tmp_path / "state", tmp_path / "log"
    process = begin_training(state, *options)
    try:
        wait_until(
            lambda: process.poll() is not None or re.search(sign, log.read_text()),
            what=f"a line like {sign}",
        )
        assert process.poll() is None, log.read_text()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait()
    text = log.read_text()
    assert "Aborted" not in text
    assert "Traceback" not in text
    assert re.search(
        r"stopped; nothing was published; the same command (goes on|begins anew)", text
    )
    assert Registry(state / "registry").versions("digits") == ()
    files = [path for path in state.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".safetensors"}, files
    assert ("goes on" in text) == bool(files)
