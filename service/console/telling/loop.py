"""The view Loop: the run that waits or was last, its stages and gates, earlier runs, the audit."""

import msgspec

from models.statistics.shadow import Shadowed
from service.console.telling import acts
from service.console.telling.asks import subject_of, tell_asks, tell_change
from service.console.telling.blocks import (
    Acts,
    Block,
    Box,
    Cell,
    Document,
    Feed,
    GateMark,
    Heading,
    Line,
    Part,
    Stage,
    Stages,
    Table,
    Text,
    note,
    one,
)
from service.console.telling.headline import SOURCES, Headline, Tone
from service.console.telling.numbers import as_sentence, lasting
from service.console.watched import Check, FullJob, Job, View

MOST_RUNS, MOST_CHANGES, BRIEF = 12, 20, 100
ORDER = (
    ("collecting", "Collect"), ("evaluating", "Evaluate"), ("awaiting labels", "Labels"),
    ("refereeing", "Referee"), ("approval of changed labels", "Labels meant?"),
    ("training", "Train"), ("gating", "Gates"),
    ("approval", "Your word"), ("shadowing", "Shadow"), ("canary", "Canary"),
    ("promoting", "Promote"), ("probation", "Probation"),
)  # fmt: skip
RARE = ("canary", "approval of changed labels")  # stages that most runs do not have
MARKS: dict[str, tuple[str, Tone]] = {
    "pass": ("✓ pass", "good"), "fail": ("✗ fail", "bad"), "unknown": ("? unknown", "warn"),
}  # fmt: skip
BAD = ("refused", "failed", "rolled_back", "abandoned")


def tell_loop(view: View, job: FullJob | None) -> Document:
    """The view with a run in full; None where there is none."""
    boxes = tuple(Box(a.title, a.text, a.tone, a.acts) for a in tell_asks(view))
    parts: list[Part] = [one(*boxes)] if boxes else []
    if job is not None:
        words = "" if job.evaluation is None else job.evaluation.words
        found = (note(f"The evaluation found: {words}."),) if words else ()
        stages = Stages(tell_stages(job, view.now))
        parts.append(one(Heading("How it came here"), stages, *found))
        parts.append(one(Heading("Which gates, and by how much?"), *_tell_gates(job)))
        parts += _tell_shadow(job)
    parts.append(Part((_tell_runs(view, job), _tell_changes(view))))
    return Document(_top(view, job), (Acts(_buttons(view)),), tuple(parts))


def title_of(job: FullJob) -> str:
    """A run as a sentence; what did not pass is never left out.

    >>> title_of(FullJob("j", challenger=2, state="waiting", checks=(Check("a", "pass"),)))
    'Version 2 passed every gate and waits for your word.'
    """
    passed, all_ = sum(c.verdict == "pass" for c in job.checks), len(job.checks)
    if job.asks_about_labels:
        return "Labels have changed; the run waits for your word."
    if job.state == "waiting":
        how = "every gate" if passed == all_ else f"{passed} of {all_} gates"
        return f"Version {job.challenger} passed {how} and waits for your word."
    if job.state != "done":
        return f"A run is under way: {job.stage}."
    return f"The run ended: {(job.outcome or 'done').replace('_', ' ')}."


def _top(view: View, job: FullJob | None) -> Headline:
    if job is None:
        lead = (
            "It runs by itself when the world moves and labels do not call that harmless, or when "
            f"answers get worse. Mode: {view.mode}."
        )
        if view.away:
            return Headline(
                "What the loop does is not known.",
                f"The watcher does not answer: {view.away}.",
                tone="unknown",
            )
        return Headline("The loop has not run yet.", lead)
    lead = f"It was made because of {SOURCES.get(job.source, job.source)}: {job.reason}"
    ended = as_sentence(job.detail) if job.state == "done" else ""
    if job.answer is not None:
        word = "approved" if job.answer.approved else "rejected"
        ended = f"{ended} {job.answer.actor} {word} it: {job.answer.reason}."
    return Headline(title_of(job), as_sentence(lead), ended.strip())


def _buttons(view: View) -> tuple[acts.Act, ...]:
    of = subject_of(view)
    busy = any(job.state == "running" for job in view.jobs)
    start = acts.evaluate(of, "A run is under way." if busy else "")
    held = view.row is not None and view.row.hold is not None
    return (start, *(() if held else (acts.hold(of),)), acts.rollback(of))


def tell_stages(job: FullJob, now: float) -> tuple[Stage, ...]:
    """The stages of a run, those that it did not come to as well."""
    told = []
    for name, word in ORDER:
        began = job.stages.get(name)
        if began is None and name in RARE:
            continue
        here = job.state != "done" and job.stage.endswith(name)
        later = [at for at in job.stages.values() if began is not None and at > began]
        ended = min(later, default=job.ended_at or now)
        lasted = "" if began is None else lasting(ended - began)
        state = "now" if here else "done" if began is not None else ""
        told.append(Stage(word, state, lasted, _more(job, name, began is not None)))
    return tuple(told)


def _more(job: FullJob, name: str, began: bool) -> str:
    if name == "evaluating" and job.evaluation is not None:
        return job.evaluation.words.split(" (")[0]  # all of it stands below the stages
    if name == "gating" and job.checks:
        passed = sum(check.verdict == "pass" for check in job.checks)
        return f"{passed} of {len(job.checks)} passed"
    if (lost := job.uncompared.get(name)) is not None:
        return f"not compared: {lost}"
    if not began and job.state != "done" and name == "probation":
        return "falls back if it is worse"
    return "" if began or job.state != "done" else "not reached"


def _tell_gates(job: FullJob) -> tuple[Block, ...]:
    if not job.checks:
        return (note("This run did not come to the gates."),)
    head = ("verdict", "gate", "what was found", "shaded: passes", "bound")
    link = Text(
        "Unknown is no pass: it waits for a person. Judged on rows that nothing was trained on.",
        small=True, href=f"/console/jobs/{job.id}", link="This run as JSON",
    )  # fmt: skip
    judged = job.checks if "gating" in job.stages else tuple(c for c in job.checks if _judged(c))
    rest = [f"`{check.name}`" for check in job.checks if check not in judged]
    blocks: list[Block] = [Table("Gates of the run", head, tuple(map(_gate, judged)))]
    if rest:
        told = "never judged" if job.state == "done" else "still to come"
        blocks.append(Text(f"{len(rest)} {told}: {', '.join(rest)}."))
    return *blocks, link


def _judged(check: Check) -> bool:
    return check.verdict != "unknown" or check.value is not None


def _gate(check: Check) -> tuple[Cell | str, ...]:
    mark, tone = MARKS.get(check.verdict, MARKS["unknown"])
    drawn = None
    if check.value is not None and check.bound is not None:
        drawn = GateMark(check.verdict, check.value, check.bound)
    return (
        Cell(mark, strong=True, tone=tone),
        Cell(f"`{check.name}`", sub="" if check.n is None else f"{check.n} rows"),
        check.detail,
        Cell(gate=drawn),
        "" if check.bound is None else f"{check.bound:.3g}",
    )


def _tell_shadow(job: FullJob) -> list[Part]:
    try:
        shadow = msgspec.json.decode(job.shadow, type=Shadowed | None)
    except (msgspec.DecodeError, TypeError):  # of a watcher of another version
        return []
    if shadow is None:
        return []
    return [one(Heading("Both on the same requests"), Text(as_sentence(shadow.words())))]


def _tell_runs(view: View, shown: FullJob | None) -> tuple[Block, ...]:
    if not view.jobs:
        return Heading("Earlier runs"), note("None yet.")
    rows = tuple(_run(job, shown) for job in view.jobs[:MOST_RUNS])
    return Heading("Earlier runs"), Table(
        "Runs of the loop", ("when", "why", "outcome", "took"), rows
    )


def _run(job: Job, shown: FullJob | None) -> tuple[Cell | str, ...]:
    here = shown is not None and shown.id == job.id
    outcome = (job.outcome or job.stage).replace("_", " ")
    took = "…" if job.ended_at is None else lasting(job.ended_at - job.created_at)
    tone: Tone = "bad" if job.outcome in BAD else "plain"
    return (
        Cell(f"@{{{job.created_at:.0f}}}", strong=here, href=f"#loop?job={job.id}"),
        job.source,
        Cell(outcome, sub=job.detail[:BRIEF], strong=True, tone=tone),
        took,
    )


def _tell_changes(view: View) -> tuple[Block, ...]:
    lines = tuple(Line(change.at, tell_change(change)) for change in view.changes[:MOST_CHANGES])
    return Heading("Who changed what"), Feed(lines)
