import shutil
from pathlib import Path

import pytest

from tests.e2e.stack import Stack


@pytest.fixture(scope="session")
def trained_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with the demo model, trained once per session by the real command."""
    state = tmp_path_factory.mktemp("trained")
    Stack(state).cli("train", "digits")
    return state


@pytest.fixture
def stack(trained_state: Path, tmp_path: Path) -> Stack:
    """A stack of its own on a copy of the trained state."""
    state = tmp_path / "state"
    shutil.copytree(trained_state, state)
    return Stack(state)
