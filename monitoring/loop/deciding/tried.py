"""Whether a training would only repeat an earlier one: same champion, same shift, same evidence.

A shift that no training mends goes on being harmful, and its alarm goes on asking. What was tried
is tried again where there is something new to learn from: another world, a referee that can judge
the rows now, or so many more rows that errors are half as large. Else it waits for a person.
"""

import math
from collections.abc import Iterable

from models.evaluation.gates.checks import Check
from monitoring.loop.jobs import Job
from monitoring.loop.results import WINDOW_LIMIT, Look, WindowFacts

MORE = 4.0  # times the rows: half the standard error
OTHER = 0.1  # by which kept share or accuracy must differ for a window of another world
WINDOW_GATE = "window_accuracy"
BY_CHANCE = ("refused", "rolled_back")  # ends that leave the gain of a challenger as it was
NOT_TRIED = ("failed", "abandoned")  # ends that say nothing of the challenger


def explain_repeat(job: Job, window: WindowFacts, earlier: Iterable[Job]) -> str:
    """Why a training would only repeat an earlier one (`find_tried`), in words; else empty."""
    before = find_tried(job, window, earlier)
    return "" if before is None else _describe(job, window, before)


def find_tried(job: Job, window: WindowFacts, earlier: Iterable[Job]) -> Job | None:
    """The earlier job whose training this one would repeat; None where there is none.

    A person's wish is no repeat, nor is what a person has just approved (labels that have changed),
    and neither is the retry of a challenger that did gain on the
    window and that another gate refused. Where the referee cannot judge the rows, more of them
    change nothing; where it can, four times as many do.

    Args:
        job: that would train now, with the labels that it follows.
        window: what the referee has left of its window.
        earlier: jobs of the same model that began since its champion became it, in any order.
    """
    approved = job.labels_answer is not None and job.labels_answer.approved
    if job.source == "person" or approved:
        return None
    tried = (each for each in earlier if each.id != job.id and _is_repeated(each, job, window))
    return max(tried, key=lambda each: each.created_at, default=None)


def _is_repeated(before: Job, job: Job, window: WindowFacts) -> bool:
    then = before.window
    if before.challenger is None or before.state != "done" or then is None:
        return False
    if before.source == "person" and before.options:  # trained as the person asked
        return False
    if before.champion != job.champion or bool(before.followed) != bool(job.followed):
        return False
    if before.outcome in NOT_TRIED or abs(window.share - then.share) > OTHER:
        return False
    if _moved_on(before.evaluation, job.evaluation):
        return False
    if window.verdict == "unknown":
        return True
    if then.verdict != window.verdict or window.kept >= MORE * then.kept:
        return False
    return not (shows_gain(before.checks) and before.outcome in BY_CHANCE)


def _moved_on(before: Look | None, now: Look | None) -> bool:
    """Whether the champion does otherwise on live rows: another shift has come over the first."""
    if before is None or now is None:
        return False
    return abs(before.window.value - now.window.value) > OTHER


def _describe(job: Job, window: WindowFacts, before: Job) -> str:
    assert before.window is not None
    start = f"`holdfast jobs start {job.model} --kind retrain`"
    words = (
        f"job {before.id} has trained version {before.challenger} for the same shift "
        f"({before.outcome}), and there is nothing new to learn from: the referee keeps "
        f"{window.kept} of {window.different} different rows, {before.window.kept} of "
        f"{before.window.different} then"
    )
    if window.verdict == "unknown":
        return f"{words}, and cannot judge them; other rows, or a person ({start}), change that"
    needed = math.ceil(MORE * before.window.kept)
    if needed > WINDOW_LIMIT:
        most = f"{needed} kept rows would, but a window has {WINDOW_LIMIT} at most"
        return f"{words}; of this shift only a person ({start}) changes that: {most}"
    return f"{words}; {needed} kept rows, or a person ({start}), change that"


def shows_gain(checks: Iterable[Check]) -> bool:
    """Whether the challenger was better on held-out rows of the window."""
    return any(check.name == WINDOW_GATE and check.verdict == "pass" for check in checks)


def describe_choice(model: str, challenger: int, checks: Iterable[Check]) -> str:
    """What a person can do with a challenger that the gates could not decide on: the truth of it.

    One that has shown no gain is not recommended.
    """
    by_hand = f"`holdfast models promote {model} {challenger}`"
    if shows_gain(checks):
        return f"it is better on the window, so a person may promote it: {by_hand}"
    return (
        "it has shown no gain on the window, so nothing speaks for promoting it; a person who "
        f"knows better can: {by_hand}"
    )
