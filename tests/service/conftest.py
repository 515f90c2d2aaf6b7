"""A service in this process, on a small real bundle."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from service.app import Application, Service, create_app
from service.configuration.settings import load
from tests import bundles
from tests.asgi import client_of

MakeApp = Callable[..., Application]


@pytest.fixture(scope="session")
def published_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with one champion; nobody may change its registry."""
    state = tmp_path_factory.mktemp("state")
    bundles.publish(state / "registry")
    return state


@pytest.fixture
def make_app() -> Iterator[MakeApp]:
    """Applications that are closed at the end of the test."""
    with ExitStack() as stack:

        def make(state: Path, **settings: Any) -> Application:
            env = {f"HOLDFAST_{name.upper()}": str(value) for name, value in settings.items()}
            app = create_app(load({"HOLDFAST_STATE": str(state), **env}))
            stack.callback(app.service.close)
            return app

        yield make


@pytest.fixture(scope="session")
def session_app(
    published_state: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Application]:
    """One application for all tests that only ask."""
    records = tmp_path_factory.mktemp("records") / "records.sqlite"
    app = create_app(
        load(
            {
                "HOLDFAST_STATE": str(published_state),
                "HOLDFAST_DATABASE_URL": f"sqlite:///{records}",
                "HOLDFAST_MAX_BODY_BYTES": str(2**20),
                "HOLDFAST_FEEDBACK_WAIT_SECONDS": "0.3",
            }
        )
    )
    yield app
    app.service.close()


@pytest.fixture
def client(session_app: Application) -> FlaskClient:
    """Asks the shared application."""
    return client_of(session_app)


@pytest.fixture
def service(session_app: Application) -> Service:
    """The parts of the shared application."""
    found: Service = session_app.service
    return found


@pytest.fixture(scope="session")
def rows() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Held-out digits, raw, `(N, 1, 8, 8)`."""
    return bundles.digits().test.x
