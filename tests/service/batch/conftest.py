from pathlib import Path

import pytest

from tests.once import make_once
from tests.service.batch.files import make_registry


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with the model of tests/service/batch/files.py; nobody changes it."""
    made = make_once(tmp_path_factory, "batch", lambda root: make_registry(root / "registry"))
    return made / "registry"
