"""The lease on a real PostgreSQL: one holder, tokens that rise, fences that hold."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from models.versions.registry import Registry
from monitoring.loop.jobs import Job, JobStore
from monitoring.records.database import engine_url, make_engine
from monitoring.records.lease import LEASE, Candidate, Lease, LeaseLostError, fence_of
from tests.monitoring.loop import versions
from tests.postgres import Postgres, postgres

JOB = Job("job", "evaluate", "digits", 1, "person", "", 0.0, 0.0)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture
def database(server: Postgres) -> Iterator[sa.Engine]:
    """The database without a lease and without jobs."""
    engine = make_engine(server.url, 10.0)
    with engine.begin() as connection:
        for table in ("watcher_lease", "jobs"):
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")
    yield engine
    engine.dispose()


@pytest.fixture
def make(server: Postgres, database: sa.Engine) -> Iterator[Callable[..., Lease]]:
    """Make the side of a watcher at a place."""
    made: list[Lease] = []

    def lease(name: str, state: str = "s", clock: Callable[[], float] | None = None) -> Lease:
        more = {} if clock is None else {"clock": clock}
        made.append(Lease(server.url, Candidate(name, name, state), **more))
        return made[-1]

    yield lease
    for each in made:
        each.close()


def move(database: sa.Engine, change: str) -> None:
    """Move the times of the lease, as a clock of the server that is set the other way does."""
    with database.begin() as connection:
        moved = {n: LEASE.c[n] + sa.text(change) for n in ("taken_at", "renewed_at", "ends_at")}
        connection.execute(sa.update(LEASE).values(**moved))


def run_out(database: sa.Engine) -> None:
    move(database, "interval '-1 hour'")


def test_one_of_many_that_ask_at_once_gets_the_lease(
    server: Postgres, database: sa.Engine, make: Callable[..., Lease]
) -> None:
    leases = [make(f"w{k}") for k in range(8)]
    start, got = threading.Barrier(8), []

    def ask(lease: Lease) -> None:
        start.wait()
        if lease.take():
            got.append(lease)

    threads = [threading.Thread(target=ask, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (holder,) = got
    seen = leases[0].holder()
    assert seen is not None
    assert (seen.token, seen.name) == (holder.token, holder.candidate.name)
    assert [lease.leads() for lease in leases].count(True) == 1


def test_a_lease_is_taken_when_it_has_run_out_and_the_first_learns_of_it(
    server: Postgres, database: sa.Engine, make: Callable[..., Lease]
) -> None:
    first, second = make("first"), make("second")
    assert first.take()
    assert not second.take()
    assert first.renew()
    run_out(database)
    assert first.renew(), "nobody has taken it: it is still the first one's"
    run_out(database)
    assert second.take()
    assert second.token == first.token + 1
    assert not first.renew()
    assert not first.leads()
    with pytest.raises(LeaseLostError, match="second"):
        first.check()
    with pytest.raises(LeaseLostError):
        fence_of(server.url, first.token)()
    fence_of(server.url, second.token)()


def test_a_watcher_that_starts_again_at_its_place_goes_on_at_once(
    server: Postgres, database: sa.Engine, make: Callable[..., Lease]
) -> None:
    before, after = make("w"), make("w")
    elsewhere = make("w", state="another")
    assert before.take()
    assert not elsewhere.take()
    assert after.take()
    assert not before.renew()


def test_a_released_lease_is_free_at_once(
    server: Postgres, database: sa.Engine, make: Callable[..., Lease]
) -> None:
    first, second = make("first"), make("second")
    assert first.take()
    first.release()
    assert not first.leads()
    assert second.take()
    first.release()  # of one that was lost: nothing happens
    assert second.renew()


def test_the_clock_of_the_database_counts_and_may_be_set_back(
    server: Postgres, database: sa.Engine, make: Callable[..., Lease]
) -> None:
    ahead = make("a", clock=lambda: 1e12)
    assert ahead.take(), "what the client's clock says does not matter"
    second = make("second")
    assert not second.take()
    move(database, "interval '1 hour'")  # the server's clock was set back by an hour
    assert second.take(), "else a dead watcher would lead for an hour"


def test_a_lease_is_not_known_to_hold_once_its_time_is_over(
    server: Postgres, database: sa.Engine, make: Callable[..., Lease]
) -> None:
    now = [0.0]
    lease = make("a", clock=lambda: now[0])
    assert lease.take()
    assert lease.leads()
    now[0] = 15.0
    assert not lease.leads()
    assert lease.renew()
    assert lease.leads()


def test_jobs_are_not_written_under_a_lost_lease(
    server: Postgres, database: sa.Engine, make: Callable[..., Lease]
) -> None:
    first, second = make("first"), make("second")
    assert first.take()
    old, free = JobStore(database, first.check_in), JobStore(database)
    old.put(JOB)
    run_out(database)
    assert second.take()
    for write in (
        lambda: old.put(JOB),
        lambda: old.advance("job", stage="training"),
        lambda: old.end("job", "promoted", ""),
    ):
        with pytest.raises(LeaseLostError):
            write()
    assert (free.get("job").stage, free.get("job").state) == ("queued", "running")
    JobStore(database, second.check_in).advance("job", stage="gating")
    assert free.get("job").stage == "gating"


def test_a_lease_is_not_taken_in_the_middle_of_a_write_and_a_hanging_one_is_cut(
    server: Postgres, database: sa.Engine, make: Callable[..., Lease]
) -> None:
    """The next watcher waits for the end of a transaction; the server ends one that hangs."""
    first, second = make("first"), make("second")
    assert first.take()
    hasty = make_engine(server.url, 1.0)  # so are the limits of its transactions
    with hasty.connect() as hanging:
        hanging.begin()
        first.check_in(hanging)
        hanging.exec_driver_sql("CREATE TABLE half_written (n int)")
        with database.begin() as connection:
            connection.exec_driver_sql("SET LOCAL lock_timeout = 100")
            with pytest.raises(sa.exc.OperationalError):
                connection.execute(sa.update(LEASE).values(ends_at=LEASE.c.taken_at))
        run_out(database)  # waits for the lock, until the server has ended what hangs
        assert second.take()
        with pytest.raises(sa.exc.DBAPIError):
            hanging.exec_driver_sql("SELECT 1")
        hanging.invalidate()
    hasty.dispose()
    assert not sa.inspect(database).has_table("half_written")


def test_the_registry_is_not_changed_under_a_lost_lease(
    server: Postgres, database: sa.Engine, make: Callable[..., Lease], tmp_path: Path
) -> None:
    first, second = make("first"), make("second")
    assert first.take()
    versions.publish(tmp_path, "digits")
    old, free = Registry(tmp_path, fence=first.check), Registry(tmp_path)
    run_out(database)
    assert second.take()
    before = free.audit("digits")
    for change in (
        lambda: old.promote("digits", 1, expected=None, actor="lifecycle", reason=""),
        lambda: old.rollback("digits", actor="lifecycle", reason=""),
        lambda: old.withdraw("digits", 1, actor="lifecycle", reason=""),
    ):
        with pytest.raises(LeaseLostError):
            change()
    assert free.audit("digits") == before
    assert free.versions("digits") == (1,)
    Registry(tmp_path, fence=second.check).withdraw("digits", 1, actor="lifecycle", reason="")


def test_connections_that_are_dropped_cost_nothing(
    server: Postgres, database: sa.Engine, make: Callable[..., Lease]
) -> None:
    lease = make("first")
    assert lease.take()
    name = engine_url(server.url).database
    with database.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{name}' AND pid <> pg_backend_pid()"
        )
    assert lease.renew()
    lease.check()
