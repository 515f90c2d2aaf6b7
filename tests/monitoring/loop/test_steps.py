"""Laws of running a child: its result, its failures by name, its end with its parent's word."""

import textwrap
import threading
from pathlib import Path

import psutil
import pytest

from monitoring.loop import steps
from monitoring.loop.durable.faults import PassingError
from monitoring.loop.durable.patience import Interrupted
from monitoring.loop.steps import StepFailedError, run_beside, run_child
from tests.processes import is_over
from tests.waiting import wait_until


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job's folder; `child_of` says what its child does."""
    (tmp_path / "job").mkdir()
    monkeypatch.setattr(steps, "CHILD", "some_child")
    monkeypatch.setattr(steps, "SHADOW", "some_child")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "job"


def child_of(folder: Path, code: str) -> None:
    """Have the child run this code; it knows its step and folder."""
    head = "import os, signal, subprocess, sys, time\nfrom pathlib import Path\n"
    head += "step, folder = sys.argv[1], Path(sys.argv[2])\n"
    (folder.parent / "some_child.py").write_text(head + textwrap.dedent(code))


def run(folder: Path, seconds: float = 60.0, stop: threading.Event | None = None) -> object:
    """Run the step `train`."""
    given = stop or threading.Event()
    return run_child(folder, "train", seconds=seconds, beat=lambda: None, stop=given)


def test_a_result_is_what_the_child_wrote_and_no_older_one(folder: Path) -> None:
    child_of(folder, "(folder / 'train.json').write_text('{\"version\": 2}')")
    (folder / "train.json").write_text('{"version": 1}')
    (folder / "train.error").write_text("of an earlier try")
    assert run(folder) == {"version": 2}


FAILURES = {
    "sys.exit(1)": (StepFailedError, "train ended with status 1; log: "),
    "(folder / 'train.error').write_text('a sentence'); sys.exit(1)": (
        StepFailedError, "train: a sentence",
    ),
    "(folder / 'train.error').write_text('full'); sys.exit(os.EX_TEMPFAIL)": (
        PassingError, "train: full",
    ),
    "sys.exit(os.EX_TEMPFAIL)": (PassingError, "train: ended with status 75"),
    "os.kill(os.getpid(), signal.SIGKILL)": (StepFailedError, "lack of memory"),
    "raise KeyError('x')": (StepFailedError, "train ended with status 1; log: "),
}  # fmt: skip


@pytest.mark.parametrize("code", FAILURES)
def test_a_failure_is_told_by_name(code: str, folder: Path) -> None:
    kind, words = FAILURES[code]
    child_of(folder, code)
    with pytest.raises(kind) as raised:
        run(folder)
    assert type(raised.value) is kind
    assert words in str(raised.value)


WITH_GRANDCHILD = """
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (folder / "pids").write_text(f"{os.getpid()} {grandchild.pid}")
    time.sleep(600)
"""


def all_gone(folder: Path) -> bool:
    """Whether neither the child nor what it started runs; on a busy machine none may have begun."""
    noted = folder / "pids"
    return all(is_over(int(pid)) for pid in (noted.read_text().split() if noted.exists() else ()))


def test_a_child_that_takes_too_long_is_ended_with_all_it_has_started(folder: Path) -> None:
    child_of(folder, WITH_GRANDCHILD)
    with pytest.raises(StepFailedError, match=r"train took more than 3 s.*STEP_TIMEOUT"):
        run(folder, seconds=3.0)
    wait_until(lambda: all_gone(folder), what="child and grandchild have ended")


def test_the_stop_ends_the_child_and_the_step_is_no_failure(folder: Path) -> None:
    child_of(folder, WITH_GRANDCHILD)
    stop = threading.Event()

    def end() -> None:
        wait_until((folder / "pids").exists, what="the child runs")
        stop.set()

    threading.Thread(target=end, daemon=True).start()
    with pytest.raises(Interrupted):
        run(folder, stop=stop)
    wait_until(lambda: all_gone(folder), what="child and grandchild have ended")


def test_what_a_child_leaves_running_does_not_outlive_its_step(folder: Path) -> None:
    left = """
        grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (folder / "pids").write_text(f"{grandchild.pid}")
        (folder / "train.json").write_text("{}")
    """
    child_of(folder, left)
    assert run(folder) == {}
    wait_until(lambda: all_gone(folder), what="the grandchild has ended")


def test_ctrl_c_of_the_terminal_does_not_reach_a_child(folder: Path) -> None:
    child_of(folder, "(folder / 'train.json').write_text(str(int(os.getsid(0) == os.getpid())))")
    assert run(folder) == 1


NOTED = "(folder / 'runs').open('a').write('x')\n"


def beside(folder: Path, seconds_silent: float, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run the comparison until it was started four times and ended; why it is lost."""
    monkeypatch.setattr(steps, "RESTART_SECONDS", 0.01)
    monkeypatch.setattr(steps, "SILENT_SECONDS", seconds_silent)
    lost: list[str] = []
    before = set(psutil.Process().children())
    with run_beside(folder, "probation", lambda seen: None, lost.append) as latest:

        def over() -> bool:
            assert latest() is None
            runs = folder / "runs"
            own = set(psutil.Process().children()) - before
            return runs.exists() and len(runs.read_text()) == 4 and not any(
                not is_over(child) for child in own
            )  # fmt: skip

        wait_until(over, what="it is given up", every=0.02)
    return lost


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "probation was killed, most likely for lack of"),
        ("(folder / 'probation.error').write_text('a sentence'); sys.exit(1)", "a sentence"),
    ],
)
def test_a_comparison_that_fails_is_started_again_three_times_and_then_lost_with_the_reason(
    code: str, words: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child_of(folder, NOTED + code)
    (why,) = beside(folder, 600.0, monkeypatch)
    assert words in why
    assert why.endswith("(started 4 times)")


def test_a_comparison_that_says_nothing_is_lost_and_one_that_has_ended_well_is_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "SILENT_SECONDS", 0.0)
    lost: list[str] = []
    child_of(folder, "time.sleep(600)")
    with run_beside(folder, "shadow", lambda seen: None, lost.append):
        pass
    assert "shadow has said nothing for 0 s" in lost.pop()
    child_of(folder, "(folder / 'runs').write_text('x')")
    before = set(psutil.Process().children())  # what other tests have left, dead or alive
    with run_beside(folder, "shadow", lambda seen: None, lost.append) as latest:
        (process,) = set(psutil.Process().children()) - before
        wait_until(lambda: is_over(process), what="it has ended")
        latest()
    assert lost == []
