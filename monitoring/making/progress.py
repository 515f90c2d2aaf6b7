"""How a version comes along: the stage it is in, how far that is, and what is at work.

Commands show it (`service.cli.terminal.progress.Bar` is one), the loop writes it to the log of a
job. A function that has one stage gets `of_stage(progress, "judging")`, which is called with
(done, total, words).
"""

from collections.abc import Callable
from typing import Literal

Stage = Literal["reading", "adapting", "training", "calibrating", "judging"]
Progress = Callable[[Stage, int, int, str], None]  # stage, done, total, what is at work
StageProgress = Callable[[int, int, str], None]

# What calibrating is made of, and how long each takes: about what the digits need.
CALIBRATING = {
    "the graph": 4.0,
    "benign rows": 2.0,
    "attacks to learn from": 3.0,
    "attacks to calibrate on": 2.0,
    "scores": 0.5,
    "perturbation head": 5.0,
    "accuracy estimate": 0.6,
}


def of_stage(progress: Progress | None, stage: Stage) -> StageProgress | None:
    """The progress of one stage; None where nobody wants to know.

    >>> judging = of_stage(lambda *report: print(*report), "judging")
    >>> judging(3, 4, "pgd-20")
    judging 3 4 pgd-20
    """
    if progress is None:
        return None
    return lambda done, total, words: progress(stage, done, total, words)
