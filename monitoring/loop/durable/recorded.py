"""Steps of the loop: kept by DBOS once done, tried again while a fault passes.

What a step raises is kept as data, by name, so that a replay tells the same. What DBOS raises
because it cannot keep a result is another matter: the step is done and not known to be, so the
workflow stops where it stands and the supervisor has it go on from its last record.
"""

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, get_type_hints

import msgspec
from dbos import DBOS

from models.base.errors import HoldfastError
from models.base.logs import logger
from monitoring.loop.durable.faults import passing_words
from monitoring.loop.durable.patience import Interrupted
from monitoring.loop.jobs import Job, JobOverError
from monitoring.loop.steps import StepFailedError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
log = logger("lifecycle")


class Patient(Protocol):
    """What has steps."""

    fence: Callable[[], None]

    def patiently(self, job_id: str, step: str, act: Callable[[], Any]) -> Any:
        """The result of `act`, tried again while its fault passes."""

    def over(self, job_id: str) -> Job:
        """The job as it is stored."""


Runner = TypeVar("Runner", bound=Patient)
Step = Callable[Concatenate[Runner, str, Arguments], Result]


def recorded(function: Step[Runner, Arguments, Result]) -> Step[Runner, Arguments, Result]:
    """A method `(self, job_id, ...)` as a step.

    Its result is recorded as plain data, and given back as the type that the method names.

    Raises:
        StepFailedError: it failed; the message names the error.
        JobOverError: the job was ended by another hand.
        Interrupted: it goes on later.
    """
    name, kind = function.__name__, get_type_hints(function)["return"]

    @DBOS.step(name=name)
    def keep(self: Runner, job_id: str, *args: Any, **kwargs: Any) -> Any:
        record = work(self, job_id, *args, **kwargs)
        self.patiently(job_id, name, self.fence)  # a failure here may be no failure of the job
        return record

    def work(self: Runner, job_id: str, *args: Any, **kwargs: Any) -> Any:
        try:
            value = self.patiently(job_id, name, lambda: function(self, job_id, *args, **kwargs))
        except JobOverError:
            return {"over": True}
        except Exception as error:
            log.warning("step_failed", job=job_id, step=name, error=sentence(error), exc_info=True)
            return {"failed": sentence(error)}
        return {"value": msgspec.to_builtins(value)}

    @functools.wraps(function)
    def call(self: Runner, job_id: str, *args: Any, **kwargs: Any) -> Any:
        try:
            record = keep(self, job_id, *args, **kwargs)
        except Exception as error:
            if (words := passing_words(error)) is None:
                raise StepFailedError(f"the record of {name}: {sentence(error)}") from error
            log.warning("step_not_recorded", job=job_id, step=name, why=words, error=str(error))
            raise Interrupted(f"the record of {name} cannot be kept: {words}") from error
        if "over" in record:
            raise JobOverError(self.over(job_id))
        if "failed" in record:
            raise StepFailedError(record["failed"])
        return msgspec.convert(record["value"], kind)

    return cast("Step[Runner, Arguments, Result]", call)


def sentence(error: BaseException) -> str:
    """An error for people: our own say it themselves, others are named by their type.

    >>> sentence(KeyError("champion"))
    "KeyError: 'champion'"
    """
    if isinstance(error, HoldfastError):
        return str(error)
    cause = getattr(error, "orig", None) or error  # SQLAlchemy's own text holds the statement
    return f"{type(error).__name__}: {cause}"
