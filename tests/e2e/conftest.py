import shutil
from pathlib import Path

import pytest

from tests.e2e.stack import Stack
from tests.once import make_once


@pytest.fixture(scope="session")
def trained_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with the demo model, trained once by the real command for all workers.

    A third of the demo's epochs: what the loop does with a model does not depend on them.
    """

    def train(state: Path) -> None:
        Stack(state).cli("train", "digits", "--quick")

    return make_once(tmp_path_factory, "trained", train)


@pytest.fixture
def stack(trained_state: Path, tmp_path: Path) -> Stack:
    """A stack of its own on a copy of the trained state."""
    state = tmp_path / "state"
    shutil.copytree(trained_state, state)
    return Stack(state)
