"""Two watchers, one leads: the other takes over and goes on with its jobs, exactly once."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.monitoring.loop.lab import Lab
from tests.monitoring.loop.test_processes import Watch, in_training, is_finished_once, retraining
from tests.postgres import Postgres, postgres
from tests.replicas.watchers import (
    ask,
    kill_all,
    leads,
    lease_row,
    relay,
    send,
    wait_for_leader,
    wait_for_standby,
)
from tests.waiting import wait_until

TAKEOVER_SECONDS = 30.0


@pytest.fixture
def server() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


def lab_of(folder: Path, server: Postgres) -> Lab:
    """A state with a job that trains until it is told to end."""
    lab = Lab(folder, database_url=server.url, system_url=server.url)
    lab.put(retraining(held=["train"]))
    return lab


@pytest.mark.slow
def test_a_standby_says_so_and_leads_at_once_when_the_first_is_stopped(
    tmp_path: Path, server: Postgres
) -> None:
    lab = lab_of(tmp_path, server)
    one, two = (Watch(lab, settings={"DATABASE_URL": server.url}) for _ in range(2))
    with one.running() as first:
        wait_for_leader(one)
        with two.running():
            wait_for_standby(two)
            assert not leads(two)
            assert ask(two, "/healthz")[0] == 200
            assert [job["id"] for job in ask(two, "/jobs")[1]] == ["job"]
            status, body = ask(two, "/models")
            assert (status, "stands by" in body["detail"]) == (503, True)
            in_training(one, first.pid)
            renewed = lease_row(server.url)[2]
            first.send_signal(signal.SIGTERM)
            wait_for_leader(two)
            assert (lease_row(server.url)[1] - renewed).total_seconds() < TAKEOVER_SECONDS
            lab.let_go("job", "train")
            wait_until(two.ended, what="the second finishes the job")
    is_finished_once(two)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kill", "hang", "cut"])
def test_the_second_goes_on_with_the_jobs_of_the_first_exactly_once(
    fault: str, tmp_path: Path, server: Postgres, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = lab_of(tmp_path, server)
    with relay(server, tmp_path) as way:
        around = str(sa.make_url(server.url).set(port=way.port))
        one = Watch(lab, settings={"DATABASE_URL": around if fault == "cut" else server.url})
        two = Watch(lab, settings={"DATABASE_URL": server.url})
        with one.running() as first:
            wait_for_leader(one)
            with two.running() as second:
                wait_for_standby(two)
                in_training(one, first.pid)
                if fault == "kill":
                    kill_all(first)
                elif fault == "hang":
                    send(first, signal.SIGSTOP)
                else:
                    way.cut()
                before = lease_row(server.url)
                wait_for_leader(two)
                after = lease_row(server.url)
                seconds = (after[1] - before[2]).total_seconds()
                with capsys.disabled():
                    print(f"\n{fault}: {seconds:.1f} s from the last sign of life to the next")
                assert after[0] == before[0] + 1
                assert seconds < TAKEOVER_SECONDS
                in_training(two, second.pid)
                if fault == "hang":
                    send(first, signal.SIGCONT)
                elif fault == "cut":
                    way.mend()
                if fault != "kill":
                    wait_for_standby(one)
                assert leads(two)
                lab.let_go("job", "train")
                wait_until(two.ended, what="the second finishes the job", every=0.2)
                assert lease_row(server.url)[0] == after[0]
    is_finished_once(two)
