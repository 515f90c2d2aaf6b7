"""Master, worker and child of a real watcher die in every order; the next one goes on at once."""

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from models.base.processes import ends_with_parent
from monitoring.loop.jobs import Job
from tests.monitoring.loop import kills
from tests.monitoring.loop.lab import Lab, audit, job_of, leftovers
from tests.monitoring.loop.parameters import first_of
from tests.ops import free_port
from tests.postgres import postgres
from tests.processes import children_with, is_over
from tests.waiting import PATIENCE_SECONDS, wait_until

PROMOTED = ["publish", "promote", "publish", "promote"]


@dataclass
class Watch:
    """Watchers on one state and one port, one after the other."""

    lab: Lab
    port: int = field(default_factory=free_port)
    settings: dict[str, str] = field(default_factory=dict)

    def start(self) -> "subprocess.Popen[bytes]":
        """Start a master in a group of its own, as a terminal does."""
        settings = {
            "STATE": str(self.lab.folder),
            "WATCH_PORT": str(self.port),
            "WATCH_INTERVAL_SECONDS": "60",
            "SHADOW_SECONDS": "0.2",
            "PROBATION_SECONDS": "0.2",
            "LABEL_PATIENCE_SECONDS": "0.2",
        } | self.settings
        env = {f"HOLDFAST_{name}": value for name, value in settings.items()}
        env[kills.FOLDER] = str(self.lab.folder)
        with (self.lab.folder / "watch.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.monitoring.loop.watcher"],
                env={**os.environ, **env}, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=ends_with_parent(signal.SIGKILL),
            )  # fmt: skip

    @contextmanager
    def running(self) -> Iterator["subprocess.Popen[bytes]"]:
        """A watcher until the block ends; killed where it has not ended by then."""
        process = self.start()
        try:
            yield process
        except BaseException:
            print((self.lab.folder / "watch.log").read_text()[-6000:])
            raise
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE_SECONDS)

    def ended(self) -> bool:
        """Whether every job is done."""
        jobs = self.lab.jobs().values()
        return bool(jobs) and all(job.state == "done" for job in jobs)

    def free(self) -> bool:
        """Whether nobody listens on the port any more."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) != 0


def retraining(**options: Any) -> Job:
    """A job that trains without a look at labels."""
    return msgspec.structs.replace(job_of("job", **options), kind="retrain")


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    """A state with a job that trains until it is told to end."""
    lab = Lab(tmp_path)
    lab.put(retraining(held=["train"]))
    return Watch(lab)


def family(master: int) -> dict[str, psutil.Process]:
    """The master, its worker and the training that it runs; those that are there."""
    found = {"master": psutil.Process(master)}
    for worker in found["master"].children():
        found["worker"] = worker
        for child in children_with("train", worker):
            found["child"] = child
    return found


def in_training(watch: Watch, master: int) -> dict[str, psutil.Process]:
    """The whole family, once the training runs."""
    runs = watch.lab.folder / "jobs" / "job" / "train.runs"

    def whole() -> dict[str, psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            found = family(master)
            return found if len(found) == 3 and runs.exists() else {}
        return {}

    return wait_until(whole, what="the training runs", every=0.05)


def is_finished_once(watch: Watch) -> None:
    """By whichever watcher."""
    (job,) = watch.lab.jobs().values()
    assert job.outcome == "promoted", job
    assert audit(watch.lab) == PROMOTED
    assert leftovers(watch.lab) == {}


ORDERS = ["master", "worker", "master worker child", "child master worker", "worker child master"]


@pytest.mark.parametrize("order", first_of(*ORDERS))
def test_whoever_is_killed_the_job_is_finished_once(order: str, watch: Watch) -> None:
    with watch.running() as first:
        everybody = in_training(watch, first.pid)
        kills.kill([everybody[name].pid for name in order.split()])
        wait_until(lambda: is_over(everybody["child"]), what="the training died, too")
        wait_until(lambda: is_over(everybody["worker"]), what="the worker died, too")
        watch.lab.let_go("job", "train")
        if "master" not in order:
            wait_until(watch.ended, what="the master's next worker finishes the job")
            is_finished_once(watch)
            return
        wait_until(watch.free, what="the port is free")
        with watch.running():
            wait_until(watch.ended, what="the next watcher finishes the job")
    is_finished_once(watch)


@pytest.mark.parametrize("number", first_of(signal.SIGINT, signal.SIGTERM))
def test_a_watcher_that_is_ended_in_order_leaves_its_job_to_the_next(
    number: signal.Signals, watch: Watch
) -> None:
    with watch.running() as first:
        everybody = in_training(watch, first.pid)
        os.killpg(first.pid, number)  # as the terminal does: to all of the group
        assert first.wait(PATIENCE_SECONDS) == 0
        wait_until(lambda: is_over(everybody["child"]), what="the training has ended")
    (job,) = watch.lab.jobs().values()
    assert (job.state, job.stage) == ("running", "training")
    watch.lab.let_go("job", "train")
    with watch.running():
        wait_until(watch.ended, what="the next watcher finishes the job")
    is_finished_once(watch)


def test_a_second_watcher_on_a_state_refuses_and_the_first_goes_on(watch: Watch) -> None:
    with watch.running() as first:
        in_training(watch, first.pid)
        second = Watch(watch.lab)
        with second.running() as process:
            assert process.wait(PATIENCE_SECONDS) != 0
        log = (watch.lab.folder / "watch.log").read_text()
        assert "another watcher runs on the state directory" in log
        watch.lab.let_go("job", "train")
        wait_until(watch.ended, what="the first watcher finishes the job")
    is_finished_once(watch)


@pytest.mark.slow
def test_a_second_watcher_on_a_database_refuses_whatever_its_state(tmp_path: Path) -> None:
    with postgres() as server:
        settings = {"DATABASE_URL": server.url}
        one, two = (Watch(Lab(tmp_path / name), settings=settings) for name in ("one", "two"))
        log = tmp_path / "two" / "watch.log"
        with one.running() as first:
            wait_until(lambda: not one.free(), what="the first watcher listens")
            with two.running() as second:
                assert second.wait(PATIENCE_SECONDS) != 0
            assert "another watcher runs on the database postgresql://holdfast@" in log.read_text()
            first.kill()
            with two.running():
                wait_until(lambda: not two.free(), what="the second watcher listens")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_worker_master_and_both_are_killed_at_points_of_a_run(seed: int, watch: Watch) -> None:
    rng = random.Random(seed)
    watch.lab.put(retraining())
    who = ["self", "parent", "self parent", "parent self"]
    number = 0
    for _ in range(6):
        number += rng.randint(2, 20)
        kills.ask_for(watch.lab.folder, number, rng.choice(who))
    for _ in range(10):
        with watch.running() as process:

            def over(process: "subprocess.Popen[bytes]" = process) -> bool:
                return watch.ended() or process.poll() is not None

            wait_until(over, what="the job or the watcher has ended")
            if watch.ended():
                break
        wait_until(watch.free, what="the port is free")
    (job,) = watch.lab.jobs().values()
    killed = sorted(path.name for path in watch.lab.folder.glob("killed-*"))
    assert len(killed) >= 3
    if job.outcome == "failed":  # a child of its was killed alone
        assert "was killed" in job.detail
        assert watch.lab.registry.aliases("digits").challenger is None
    else:
        is_finished_once(watch)
