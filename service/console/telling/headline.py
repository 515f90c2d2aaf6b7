"""The sentence at the top of the page: what matters most now, and the promise that goes with it."""

from collections.abc import Callable
from typing import Literal

import msgspec

from service.console.telling.numbers import (
    LEAST,
    ago,
    as_sentence,
    count,
    lasting,
    of_hundred,
    percent,
    power,
)
from service.console.watched import Job, Row, View

Tone = Literal["plain", "good", "warn", "bad", "unknown"]
FAILED = 0.001  # share of answers with a status of 500 and above
DEMO = "digits"
SOURCES = {
    "drift": "the drift", "accuracy": "labels that say so", "alert": "an alert",
    "schedule": "the schedule", "person": "a person",
}  # fmt: skip
DOING = {
    "collecting": "labelled rows are collected",
    "evaluating": "version {champion} is evaluated on what came since",
    "awaiting labels": "it waits for labels",
    "refereeing": "the labels are checked",
    "approval of changed labels": "changed labels wait for your word",
    "training": "a challenger is trained",
    "gating": "version {challenger} is held against the gates",
    "approval": "version {challenger} waits for your word",
    "shadowing": "version {challenger} answers in the shadow",
    "canary": "version {challenger} answers a share of the requests",
    "promoting": "version {challenger} takes over",
    "probation": "version {challenger} is on probation",
}


class Headline(msgspec.Struct, frozen=True):
    """Title, what is behind it, the promise with its condition, and commands that help."""

    title: str
    lead: str = ""
    note: str = ""
    tone: Tone = "plain"
    commands: tuple[str, ...] = ()


def tell_headline(view: View) -> Headline:
    """What matters most now: the first of the rules that has something to say."""
    for rule in RULES:
        said = rule(view)
        if said is not None:
            return said
    return _tell_calm(view)


def doing(job: Job) -> str:
    """What a run does now, as half a sentence.

    >>> doing(Job("j", champion=1, challenger=2, stage="gating"))
    'version 2 is held against the gates'
    """
    if job.stage.startswith("queued"):
        return "it waits for its turn"
    words = DOING.get(job.stage, job.stage or "it begins")
    return words.format(champion=job.champion, challenger=job.challenger or "the new one")


def say_unseen(view: View) -> str:
    """Why nobody knows how it stands now, and when what is known was so; half a sentence."""
    why = "The watcher does not answer" if view.watcher == "away" else "Nothing is counted now"
    return why if view.known_at is None else f"{why}; as of @{{{view.known_at:.0f}}}"


def find_errors(view: View) -> str:
    """How many answers of an hour were server errors; empty where few, or where nobody counts."""
    rates = view.rates
    if view.watcher != "here" or rates is None or not rates.answered_hour:
        return ""
    share = rates.failed_hour / rates.answered_hour
    if share <= FAILED:
        return ""
    return f"{percent(share)} of {count(rates.answered_hour)} requests of the last hour failed"


def find_probes(view: View) -> str:
    """How many queries of five minutes probe the model; empty where none, or nobody counts."""
    if view.watcher != "here" or view.rates is None or not view.rates.probing:
        return ""
    return f"{count(view.rates.probing)} of {count(view.rates.rows)} inputs of the last 5 minutes"


def _tell_training(view: View) -> Headline | None:
    loading = view.loading
    if view.served is not None or loading is None:
        return None
    title = f"{loading.model} is being trained."
    lead = "This page goes on by itself when it is there."
    if loading.model == DEMO:
        title = "The demo model is being trained."
        lead = (
            "8 × 8 digits, about a minute of one core. Draw one on Try it meanwhile: it is asked "
            "as soon as the model is there."
        )
    return Headline(title, lead, tone="unknown")


def _tell_no_model(view: View) -> Headline | None:
    if view.served is not None:
        return None
    if not view.any_version:
        return Headline(
            "There is no model yet.",
            "Train one on your data, or wrap an ONNX model that exists. This page follows by "
            "itself.",
            tone="unknown",
            commands=("holdfast train photos/", "holdfast wrap model.onnx --data photos/"),
        )
    why = view.refused or "no version of it is the champion"
    return Headline(
        "No model answers.", f"{view.model or 'The model'}: {why}.", tone="bad",
        commands=("holdfast models list", "holdfast doctor"),
    )  # fmt: skip


def _tell_refused(view: View) -> Headline | None:
    if not view.refused or view.served is None:
        return None
    wanted = view.row.aliases.champion if view.row and view.row.aliases else None
    which = f"Version {wanted}" if wanted and wanted != view.served else "The champion"
    return Headline(
        f"{which} cannot be loaded; {view.served} answers.", as_sentence(view.refused), tone="bad"
    )


def _tell_away(view: View) -> Headline | None:
    if view.watcher != "away":
        return None
    since = "" if view.seen_at is None else f" What is below is from {lasting(_age(view))} ago."
    return Headline(
        "Predictions go on; nobody watches.",
        f"The watcher does not answer ({view.away}).{since}",
        tone="warn",
        commands=("holdfast watch",),
    )


def _tell_blind(view: View) -> Headline | None:
    if view.watcher != "blind" or view.row is None:
        return None
    bad = [s for s in view.row.services if s.status != "ok"]
    words = "; ".join(f"{s.service}: {s.detail or s.status}" for s in bad[:2])
    since = min((s.since for s in bad), default=view.now)
    advice = bad[0].advice if bad else ""
    lead = f"{words}. Evidence stands still for {lasting(view.now - since)}. {as_sentence(advice)}"
    return Headline("The watcher sees no counters.", lead.strip(), tone="bad")


def _tell_approval(view: View) -> Headline | None:
    job = next((job for job in view.jobs if job.state == "waiting"), None)
    if job is None:
        return None
    if job.asks_about_labels:
        return Headline(
            "Labels have changed; it waits for your word.",
            "Labels of whole classes contradict what the model learnt. People who poison labels "
            "together look the same, so nothing is trained on them before you say so.",
            tone="warn",
        )
    version = f"Version {job.challenger}"
    lead = f"It was made because of {SOURCES.get(job.source, job.source)}: {job.reason}"
    lead = as_sentence(lead)
    if job.failed or job.unknown:
        open_ = f"{job.unknown} of its gates {_could(job.unknown)} not tell"
        return Headline(f"{version} waits for your word; {open_}.", lead, tone="warn")
    return Headline(f"{version} passed every gate and waits for your word.", lead, tone="warn")


def _tell_harm(view: View) -> Headline | None:
    row = view.row
    if row is None or row.harm is None or row.harm.alarm is None:
        return None
    loop = _tell_loop(view)
    return Headline(
        "It is right less often than promised.", f"{as_sentence(row.harm.words)} {loop}".strip(),
        as_sentence(row.harm.promise), "bad",
    )  # fmt: skip


def _tell_errors(view: View) -> Headline | None:
    errors = find_errors(view)
    if not errors:
        return None
    return Headline("It answers with errors.", f"{errors} with a server error.", tone="bad")


def _tell_probes(view: View) -> Headline | None:
    probes = find_probes(view)
    if not probes:
        return None
    lead = f"{probes} hardly differ from one another, as queries of an attack do."
    return Headline("A client probes the model.", lead, tone="bad")


def _tell_drift(view: View) -> Headline | None:
    row = view.row
    if row is None or row.alarm is None:
        return None
    since = "" if row.alarm_since is None else f" {ago(view.now - row.alarm_since)}"
    lead = f"{as_sentence(row.alarm.words)} {_tell_loop(view)}".strip()
    if row.harmless:
        title = f"The world moved{since}, and answers are as good as before."
        return Headline(title, f"{lead} {as_sentence(row.harmless)}", _promise(row), "warn")
    return Headline(f"The world moved{since}.", lead, _promise(row), "warn")


def _tell_trouble(view: View) -> Headline | None:
    if view.row is None or not view.row.problems:
        return None
    first = view.row.problems[0]
    return Headline(
        "Something is broken; the rest goes on.",
        f"{first.problem}: {as_sentence(first.detail)} {as_sentence(first.advice)}".strip(),
        tone="warn",
    )


def _tell_early(view: View) -> Headline | None:
    if view.row is None or (view.row.requests or 0) >= LEAST:
        return None
    so_far = view.row.requests or 0
    requests = "No request so far" if not so_far else f"{count(so_far)} requests so far"
    title = "Too early to say." if so_far else f"Version {view.served} is ready."
    return Headline(
        title, f"{requests}; words follow from {LEAST} on, evidence from the first.",
        _promise(view.row), "unknown",
    )  # fmt: skip


def _tell_calm(view: View) -> Headline:
    row = view.row
    if row is None:
        return Headline(
            f"Version {view.served} answers.", "The watcher has not looked at it yet.",
            tone="unknown",
        )  # fmt: skip
    if row.strongest is None or row.threshold_log10 is None:
        return Headline(
            f"Version {view.served} answers.", "Whether it drifts is not known: no evidence.",
            tone="unknown",
        )  # fmt: skip
    requests = count(row.requests or 0)
    return Headline(
        f"Nothing has moved in the last {requests} requests.",
        f"{_tell_rate(view)} {_tell_accuracy(row)} {_tell_loop(view)}".strip(),
        _promise(row),
        "good",
    )


RULES: tuple[Callable[[View], Headline | None], ...] = (
    _tell_training, _tell_no_model, _tell_refused, _tell_away, _tell_blind, _tell_approval,
    _tell_errors, _tell_harm, _tell_drift, _tell_trouble, _tell_probes, _tell_early,
)  # fmt: skip


def _tell_rate(view: View) -> str:
    rate = None if view.rates is None else view.rates.per_second
    if not rate:
        return f"Version {view.served} answers."
    shown = f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"
    return f"Version {view.served} answers {shown} requests a second."


def _tell_accuracy(row: Row) -> str:
    observed = None if row.accuracy is None else row.accuracy.observed
    if observed is None or observed.accuracy.value is None or observed.accuracy.n < LEAST:
        return ""
    live = observed.accuracy
    assert live.value is not None
    told = f"Of the last {count(live.n)} answers whose truth came back, {of_hundred(live.value)}"
    promised = row.expected_accuracy
    bias = " Their labels are no random sample." if observed.bias else ""
    if promised is None:
        return f"{told} were right.{bias}"
    return f"{told} were right; {of_hundred(promised)} were promised.{bias}"


def _tell_loop(view: View) -> str:
    job = view.open_job
    return "" if job is None else f"The loop is at it: {doing(job)}."


def _promise(row: Row) -> str:
    """The promise of the threshold with its condition, and where the evidence stands."""
    strongest = row.strongest
    if strongest is None or row.threshold_log10 is None:
        return as_sentence(row.promise or "")
    stands = (
        f"The evidence stands at {power(strongest[1])}; the alarm is at "
        f"{power(row.threshold_log10)}."
    )
    return f"{as_sentence(row.promise or '')} {stands}".strip()


def _age(view: View) -> float:
    return 0.0 if view.seen_at is None else view.now - view.seen_at


def _could(number: int) -> str:
    return "could" if number else "can"
