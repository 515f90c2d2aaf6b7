"""Parameters of which a run that is not slow takes the first."""

from typing import Any

import pytest


def first_of(first: Any, *others: Any) -> list[Any]:
    """The first always, the others only where slow tests run; tuples are several arguments."""
    slow = [o if isinstance(o, tuple) else (o,) for o in others]
    return [first, *(pytest.param(*values, marks=pytest.mark.slow) for values in slow)]
