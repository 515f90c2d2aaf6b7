"""The page behind a real port, with a watcher that says what a test wants."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.app import Application
from tests.chromium import Browser
from tests.service.conftest import MakeApp
from tests.service.console.browsing import listening
from tests.service.console.states import publish_with_examples
from tests.service.console.watching import FakeWatcher, model_row


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    made = Browser()
    yield made
    made.close()


@pytest.fixture
def watcher() -> Iterator[FakeWatcher]:
    made = FakeWatcher()
    made.row = model_row(version=2, aliases={"champion": 2, "challenger": None, "previous": 1})
    yield made
    made.close()


@pytest.fixture(scope="module")
def made_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = tmp_path_factory.mktemp("page")
    publish_with_examples(state / "registry")
    return state


@pytest.fixture
def app(make_app: MakeApp, made_state: Path, tmp_path: Path, watcher: FakeWatcher) -> Application:
    records = f"sqlite:///{tmp_path / 'records.sqlite'}"
    return make_app(made_state, watch_url=watcher.url, database_url=records)


@pytest.fixture
def url(app: Application) -> Iterator[str]:
    with listening(app) as address:
        yield address
