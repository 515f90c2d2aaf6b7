import shutil
from pathlib import Path

import pytest

from models.base.files import lock_file
from tests.e2e.stack import Stack


@pytest.fixture(scope="session")
def trained_state(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A state directory with the demo model, trained once by the real command for all workers.

    A third of the demo's epochs: what the loop does with a model does not depend on them.
    """
    base = tmp_path_factory.getbasetemp()
    state = (base if worker_id == "master" else base.parent) / "trained"
    with lock_file(state.with_suffix(".lock")):
        if not state.exists():
            making = state.with_suffix(".making")
            Stack(making).cli("train", "digits", "--quick")
            making.rename(state)
    return state


@pytest.fixture
def stack(trained_state: Path, tmp_path: Path) -> Stack:
    """A stack of its own on a copy of the trained state."""
    state = tmp_path / "state"
    shutil.copytree(trained_state, state)
    return Stack(state)
