"""What the process of a step does around it: read the task, write the result or a sentence.

It is started as `python -m MODULE STEP DIR`. DIR holds `<step>.task.json`, a
`monitoring.loop.jobs.Task`; the step writes `<step>.json` there, whole or not at all.
"""

import os
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from models.base.errors import HoldfastError, out_of_memory
from models.base.files import write_atomic
from monitoring.loop.durable.faults import passing_words
from monitoring.loop.jobs import Task
from monitoring.loop.steps import PASSING_STATUS

OUT_OF_MEMORY = (
    "there was not enough memory; nothing was published. Give the watcher's machine or container "
    "more, or make the data, the net or the batch smaller, and ask again"
)
Step = Callable[[Task, Path], msgspec.Struct]


def run_step(steps: Mapping[str, Step], step: str, folder: Path) -> int:
    """Run a step: 0 and `<step>.json`; else `<step>.error` with a sentence.

    The status is then 1, or `steps.PASSING_STATUS` where the fault passes and a new try is worth
    while.
    """
    os.nice(5)
    try:
        task = msgspec.json.decode((folder / f"{step}.task.json").read_bytes(), type=Task)
        result = steps[step](task, folder)
        write_atomic(folder / f"{step}.json", msgspec.json.encode(result))
    except Exception as error:
        passing = passing_words(error) is not None
        if not isinstance(error, HoldfastError):
            traceback.print_exc()
        with suppress(OSError):  # the status alone says enough
            write_atomic(folder / f"{step}.error", _sentence(error).encode())
        return PASSING_STATUS if passing else 1
    return 0


def _sentence(error: Exception) -> str:
    if isinstance(error, HoldfastError):
        return str(error)
    return OUT_OF_MEMORY if out_of_memory(error) else f"{type(error).__name__}: {error}"
