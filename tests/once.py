"""What is dear to make is made once in a run of the tests, however many processes test."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from models.base.files import lock_file


def make_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that the first test process that asks has made; nobody may change it.

    Args:
        factory: pytest's, of this process.
        name: the folder's, one for each thing that is made.
        make: fills the folder whose path it is given. Where it fails, the next process tries again.
    """
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with lock_file(folder.with_suffix(".lock")):
        if not folder.exists():
            making = factory.mktemp(f"making-{name}")
            make(making)
            making.rename(folder)
    return folder
