"""Swaps, reloads, recycling, stopping and kills cost no request and mix no versions.

`tests/service/server/test_gunicorn.py` has one of each that is quick; `benchmarks/never_dropped.py`
prints the figures.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service import campaign
from tests.service.campaign import Books, Truth
from tests.service.processes import Running, running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return campaign.publish(tmp_path_factory.mktemp("truth"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    state = tmp_path_factory.mktemp("state")
    campaign.publish(state)
    with running(state, drain_seconds=0.3, max_requests=1000) as found:
        yield found


def assert_clean(books: Books, *, resets: int = 0) -> None:
    """Nothing was lost, and every answer is of the version that it names."""
    assert books.failed == []
    assert books.wrong == 0
    assert books.resets <= resets
    assert books.sent > 0


def test_twenty_swaps_under_load(server: Running, truth: Truth) -> None:
    with campaign.clients(server, truth, pause=0.002) as clients:
        campaign.swap(server, 20, 0.3)
        clients.wait(50)
    assert_clean(clients.books)
    assert clients.books.versions == {1, 2}


def test_five_hups_whether_connections_are_kept_or_not(server: Running, truth: Truth) -> None:
    with (
        campaign.clients(server, truth, clients=2) as kept,
        campaign.clients(server, truth, clients=2, keep=False) as new,
    ):
        campaign.hup(server, 5)
        kept.wait(50)
    assert_clean(kept.books)
    assert_clean(new.books)


def test_five_killed_workers_cost_a_client_that_tries_once_more_nothing(
    server: Running, truth: Truth
) -> None:
    with campaign.clients(server, truth, retry=True) as clients:
        campaign.kill(server, 5, 2.0)
        clients.wait(50)
    assert_clean(clients.books, resets=5 * 4)


def test_five_services_that_are_stopped(tmp_path: Path) -> None:
    truth = campaign.publish(tmp_path)
    for _ in range(5):
        with running(tmp_path, drain_seconds=0.3) as server:
            with (
                campaign.clients(server, truth, clients=2) as kept,
                campaign.clients(server, truth, clients=2, keep=False, pause=0.0) as new,
            ):
                new.wait(200)
                assert campaign.stop(server) < 60
            assert_clean(kept.books)
            assert_clean(new.books)
