"""What could not be measured: a measurement that fails is named with its reason and stops nothing.

Only clean accuracy must be there. Everything else may fail for a model of somebody else's: an
operator without a gradient, memory that does not suffice, a time that runs out.
"""

from collections.abc import Callable
from typing import TypeVar

from models.base.errors import HoldfastError, out_of_memory
from models.base.logs import logger
from models.versions.figures import NotMeasured

Result = TypeVar("Result")
LONGEST = 300  # of a reason
log = logger("evaluation")


class Gaps:
    """Measurements without a figure, each with a reason, in the order in which they came up."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    @property
    def records(self) -> tuple[NotMeasured, ...]:
        """As the evaluation holds them."""
        return tuple(NotMeasured(name, reason) for name, reason in self._reasons.items())

    def add(self, name: str, reason: str) -> None:
        """Note that `name` (as people call it) was not measured."""
        if name not in self._reasons:
            log.debug("not_measured", measurement=name, why=reason)
            self._reasons[name] = reason

    def attempt(self, name: str, measure: Callable[[], Result]) -> Result | None:
        """What `measure` gives; None, and a gap, where it fails."""
        try:
            return measure()
        except Exception as error:
            log.debug("measurement_failed", measurement=name, exc_info=True)
            self.add(name, reason_of(error))
            return None


def reason_of(error: BaseException) -> str:
    """An error as a reason: our own say it themselves, others are named by their type.

    >>> reason_of(RuntimeError("Non-zero status code returned.\\nmore"))
    'RuntimeError: Non-zero status code returned.'
    """
    if isinstance(error, HoldfastError):
        words = str(error)
    elif isinstance(error, Exception) and out_of_memory(error):
        return "there was not enough memory"
    elif isinstance(error, TimeoutError):
        words = f"it took too long ({error})" if str(error) else "it took too long"
    else:
        first = next(iter(str(error).splitlines()), "")
        words = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return words if len(words) <= LONGEST else words[: LONGEST - 1] + "…"
