"""What the page asks of a person: each with the reason, and the buttons that answer it."""

from collections.abc import Iterator, Sequence

import msgspec

from service.console.telling import acts
from service.console.telling.acts import Act, Subject
from service.console.telling.answers import labels_of
from service.console.telling.headline import Tone, doing, find_errors, find_probes
from service.console.telling.numbers import as_sentence, count, lasting
from service.console.watched import Change, Job, View, Wait

UNLABELLED_REQUESTS = 200  # without one label, before the page asks for some
MOST_HAPPENED = 8
BRIEF = 110  # characters of a reason in the list of what happened
DONE = {
    "publish": "published version {version}",
    "promote": "made version {version} the champion",
    "rollback": "rolled back to version {version}",
    "withdraw": "withdrew version {version}",
    "hold": "held the loop",
    "release": "released the loop",
    "accept_drift": "took today's traffic for normal",
    "undo_accept_drift": "took back what was accepted as normal",
    "canary": "gave version {version} a share of the requests",
    "end_canary": "ended the canary of version {version}",
    "approve": "approved version {version}",
    "compare": "compared version {version}",
}
OUTCOMES = {
    "passed": "the run found nothing wrong",
    "promoted": "version {challenger} was promoted",
    "refused": "version {challenger} was refused",
    "rolled_back": "version {challenger} was rolled back",
    "inconclusive": "the run could not tell",
    "reported": "the run was reported, nothing was promoted",
    "rejected": "version {challenger} was rejected",
    "expired": "nobody answered for version {challenger}",
    "failed": "the run failed",
    "abandoned": "the run was abandoned",
}


class Ask(msgspec.Struct, frozen=True):
    """One thing that waits for a person; `id` says which, so that it is announced once."""

    id: str
    title: str
    text: str
    tone: Tone = "warn"
    acts: tuple[Act, ...] = ()


class Happening(msgspec.Struct, frozen=True):
    """Something that happened; `href` leads to the run behind it."""

    at: float
    text: str
    href: str = ""


def tell_asks(view: View) -> tuple[Ask, ...]:
    """Everything that waits for a person, the most pressing first."""
    parts = (_ask_about_requests, _ask_for_approval, _ask_about_loop, _ask_about_drift,
             _ask_for_labels, _ask_about_troubles)  # fmt: skip
    return tuple(ask for part in parts for ask in part(view))


def subject_of(view: View) -> Subject:
    """What an act of this model is about: the champion is the one that the person sees."""
    aliases = None if view.row is None else view.row.aliases
    champion = view.served if aliases is None else aliases.champion
    return Subject(view.model, champion, None if aliases is None else aliases.previous)


def _ask_for_approval(view: View) -> Iterator[Ask]:
    for job in view.jobs:
        if job.state != "waiting":
            continue
        if job.asks_about_labels:
            yield _ask_about_labels(view, job)
            continue
        judged = job.passed + job.failed + job.unknown
        text = f"{job.passed} of {judged} gates passed"
        if job.unknown:
            text += f", {job.unknown} could not tell"
        if job.waits_until is not None:
            text += f". It expires in {lasting(job.waits_until - view.now)}"
        text += f". Requests go on; version {job.champion} stays one step away."
        of = msgspec.structs.replace(subject_of(view), version=job.challenger, job=job.id)
        yield Ask(
            f"approve {job.id}", f"Promote version {job.challenger} of {job.model}?", text,
            acts=(acts.approve(of), acts.reject(of), acts.hold(of)),
        )  # fmt: skip


def _ask_about_labels(view: View, job: Job) -> Ask:
    text = (
        "The labels of whole classes say something else than what the model learnt. Nothing is "
        "trained on them until somebody says whether that is meant"
    )
    if job.waits_until is not None:
        text += f"; the run expires in {lasting(job.waits_until - view.now)}"
    of = msgspec.structs.replace(subject_of(view), job=job.id)
    title = f"Have labels of {job.model} changed on purpose?"
    does = (acts.follow(of), acts.refuse_labels(of), acts.hold(of))
    return Ask(f"approve {job.id}", title, f"{text}.", acts=does)


def _ask_about_loop(view: View) -> Iterator[Ask]:
    hold = None if view.row is None else view.row.hold
    if hold is not None:
        means = "does nothing by itself" if hold.stops == "everything" else "only reports"
        until = "until it is released"
        if hold.until is not None:
            until = f"for another {lasting(hold.until - view.now)}"
        text = f"{hold.actor} holds it {until}: {hold.reason}. The loop {means} meanwhile."
        yield Ask("held", "The loop is held.", text, acts=(acts.release(subject_of(view)),))
    for wait in _waits(view):
        yield Ask(f"waits {wait.reason}", "The loop waits.", as_sentence(wait.sentence), "plain",
                  (acts.LOOP,))  # fmt: skip


def say_loop(view: View) -> str:
    """What the loop does about what is wrong; a sentence."""
    hold = None if view.row is None else view.row.hold
    if view.open_job is not None:
        return f"The loop is at it: {doing(view.open_job)}."
    if hold is not None and hold.stops == "everything":
        return "The loop is held: it does nothing about it."
    return "The loop waits." if _waits(view) else "The loop looks at it."


def _waits(view: View) -> list[Wait]:
    """Why the loop does not mend what is wrong; nothing while nothing is wrong, or it is at it."""
    row = view.row
    if row is None or (row.alarm is None and (row.harm is None or row.harm.alarm is None)):
        return []
    return [each for each in row.waits if each.reason != "already_running"]


def _ask_about_requests(view: View) -> Iterator[Ask]:
    if errors := find_errors(view):
        text = f"{errors}. The log of the service has the cause of each 500: `internal_error`."
        yield Ask("errors", "Why does it answer with errors?", text, "bad", (acts.ON_ERRORS,))
    if probes := find_probes(view):
        text = f"{probes} look like an attack. The access log of the proxy says who sent them."
        yield Ask("probes", "Who probes the model?", text, "bad", (acts.ON_PROBES,))


def _ask_about_drift(view: View) -> Iterator[Ask]:
    row = view.row
    if row is None or row.alarm is None:
        return
    text = say_loop(view)
    text += " If this is how things are from now on, say so: then it is compared with that."
    yield Ask(
        "moved", "Is this normal now?", text, acts=(acts.DRIFT, acts.accept(subject_of(view)))
    )


def _ask_for_labels(view: View) -> Iterator[Ask]:
    job = next((j for j in view.jobs if j.state != "done" and j.stage == "awaiting labels"), None)
    if job is not None:
        text = f"A retraining needs {count(view.min_labels)} labelled rows since the cause began."
        yield Ask(f"labels {job.id}", "A run waits for labels.", text, acts=(acts.LABEL,))
        return
    requests = 0 if view.row is None else view.row.requests or 0
    if requests >= UNLABELLED_REQUESTS and labels_of(view.row) is None:
        text = "Without labels nobody knows whether the answers are right."
        yield Ask("unlabelled", "Label 20 rows?", text, "plain", (acts.LABEL,))


def _ask_about_troubles(view: View) -> Iterator[Ask]:
    if view.refused and view.served is not None:
        yield Ask(
            "refused",
            "A version cannot be loaded.",
            as_sentence(view.refused),
            "bad",
            (acts.rollback(subject_of(view)),),
        )
    for trouble in () if view.row is None else view.row.problems[:4]:
        name = as_sentence(trouble.problem.replace("_", " "))
        title = f"{name} For {lasting(view.now - trouble.since)}."
        text = f"{as_sentence(trouble.detail)} {as_sentence(trouble.advice)}"
        yield Ask(f"problem {trouble.problem}", title, text.strip(), "bad")
    if view.demo.failed:
        yield Ask("demo", "The demonstration ended early.", view.demo.failed, "plain")


def tell_happened(view: View) -> tuple[Happening, ...]:
    """What happened of late, the newest first; runs that ended alike are told once."""
    found = [Happening(change.at, tell_change(change)) for change in view.changes]
    found += _tell_jobs(view.jobs)
    row = view.row
    if row is not None and row.alarm is not None and row.alarm_since is not None:
        found.append(Happening(row.alarm_since, f"Alarm: {row.alarm.words}."))
    return tuple(sorted(found, key=lambda each: -each.at)[:MOST_HAPPENED])


def _tell_jobs(jobs: Sequence[Job]) -> Iterator[Happening]:
    alike: dict[tuple[str, str], int] = {}
    for job in jobs:
        key = job.outcome or job.id, job.detail
        alike[key] = alike.get(key, 0) + 1
    for job in jobs:
        more = alike.pop((job.outcome or job.id, job.detail), 0) - 1
        if more >= 0:
            told = _tell_job(job)
            again = f" ({more} more like it)" if more else ""
            yield msgspec.structs.replace(told, text=f"{told.text}{again}")


def tell_change(change: Change) -> str:
    """A change of the registry as a sentence.

    >>> tell_change(Change(0.0, "promote", 2, "token ada", "gates passed"))
    'token ada made version 2 the champion: gates passed'
    """
    words = DONE.get(change.action, change.action.replace("_", " ")).format(version=change.version)
    reason = "" if change.reason in ("", "no reason given") else f": {change.reason[:160]}"
    return f"{change.actor} {words}{reason}"


def _tell_job(job: Job) -> Happening:
    href = f"#loop?job={job.id}"
    if job.state != "done":
        return Happening(job.updated_at, f"A run: {doing(job)}.", href)
    words = OUTCOMES.get(job.outcome or "", job.outcome or "ended")
    text = words.format(challenger=job.challenger)
    detail = f": {job.detail[:BRIEF]}" if job.detail else ""
    return Happening(job.ended_at or job.updated_at, f"{as_sentence(text)[:-1]}{detail}", href)
