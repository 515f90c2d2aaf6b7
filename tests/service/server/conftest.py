"""Servers that are ended with the test."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.service.server.serving import Limits, Serve, Serving


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers with limits of their own."""
    with ExitStack() as stack:

        def make(**changes: Any) -> Serving:
            serving = Serving(Limits(**changes))
            stack.callback(serving.end)
            return serving

        yield make


@pytest.fixture(scope="module")
def patient() -> Iterator[Serving]:
    """One that gives clients time."""
    serving = Serving(Limits(header_seconds=60, body_seconds=60, keep_alive_seconds=60,
                             body_bytes=200_000, held_bytes=10**7))  # fmt: skip
    yield serving
    serving.end()
