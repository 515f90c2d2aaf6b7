"""The view Drift: moved and harmed apart, each with its promise, and what to check first."""

from service.console.telling import acts
from service.console.telling.asks import say_loop, subject_of
from service.console.telling.blocks import (
    Bars,
    Block,
    Box,
    Document,
    Heading,
    Histogram,
    Listing,
    Own,
    Part,
    Table,
    Text,
    note,
    one,
)
from service.console.telling.headline import Headline, say_unseen
from service.console.telling.numbers import LEAST, ago, as_sentence, count, percent, power
from service.console.watched import Explained, Harm, Row, View

MOST_BARS = 16
CHECKS = (
    "A release of a client: a changed preprocessing step is the most frequent cause.",
    "One client or all? Requests per client stand in the access log of the proxy in front.",
    "Is it meant to be so? Then say that this is normal now.",
    "Nothing wrong at the clients: the world did change. Label some rows, and let the loop run.",
)


def tell_drift(view: View) -> Document:
    """The view, for a model that is watched or not."""
    row = view.row
    if row is None or row.evidence_log10 is None:
        return Document(
            Headline("Whether it drifts is not known.", _say_why(view), tone="unknown"), (), ()
        )
    asked = "How strong is the evidence?" if row.alarm is None else "When did it begin?"
    parts = [one(Heading(asked), Own("history")), _moved(row), *_harm(view, row)]
    if row.last_alarm is not None:
        checks = (Heading("What to check first"), Listing(CHECKS))
        parts.append(Part(((Heading("Which requests moved it most?"), Own("movers")), checks)))
    return Document(_top(view, row), _side(view, row), (*parts, one(Own("demo"))))


def _say_why(view: View) -> str:
    if view.away:
        return f"The watcher does not answer: {view.away}."
    if view.served is None:
        return "No version answers."
    return "Nothing watches it." if view.row is None else "There is no evidence yet to look at."


def _top(view: View, row: Row) -> Headline:
    strongest = row.strongest
    stands = ""
    if strongest is not None and row.threshold_log10 is not None:
        bar = power(row.threshold_log10)
        stands = f" The evidence stands at {power(strongest[1])}; the alarm is at {bar}."
    promise = f"{as_sentence(row.promise or '')}{stands}"
    weighed = f"{count(row.requests or 0)} requests of version {row.version} were weighed"
    if view.watcher != "here":
        found = "no alarm" if row.alarm is None else f"an alarm, {row.alarm.words}"
        lead = f"{say_unseen(view)}: {found}; {weighed}."
        return Headline("Whether it drifts now is not known.", lead, promise, "unknown")
    if row.alarm is None:
        if (row.requests or 0) < LEAST:
            return Headline("Too early to say.", f"{weighed}.", promise, "unknown")
        return Headline("No drift is seen.", f"{weighed}.", promise)
    since = "" if row.alarm_since is None else f" {ago(view.now - row.alarm_since)}"
    harmless = f" {as_sentence(row.harmless)}" if row.harmless else ""
    return Headline(
        f"The world moved{since}.", f"{as_sentence(row.alarm.words)}{harmless}", promise, "warn"
    )


def _side(view: View, row: Row) -> tuple[Block, ...]:
    of, job = subject_of(view), view.open_job
    if row.alarm is not None:
        text = say_loop(view)
        busy = "" if job is None or job.state == "waiting" else "A run is under way."
        buttons = (acts.LOOP, acts.accept(of), acts.evaluate(of, busy))
        return (Box("What it does about it", text, "warn", buttons),)
    if row.accepted is not None:
        one_ = row.accepted
        text = (
            f"{one_.actor} took the traffic from @{{{one_.since:.0f}}} to @{{{one_.until:.0f}}} "
            f"for normal: {one_.reason}"
        )
        return (Box("Compared with what was accepted", text, "plain", (acts.unaccept(of),)),)
    return ()


def _moved(row: Row) -> Part:
    channels = sorted((row.evidence_log10 or {}).items(), key=lambda item: -item[1])
    rows = tuple((name, f"{value:.2f}") for name, value in channels)
    left: tuple[Block, ...] = (
        Heading("What moved?" if row.alarm is not None else "Which channel has the most?"),
        Bars("Evidence by channel", tuple(channels[:MOST_BARS]), row.threshold_log10),
        note("Strongest first. A channel beyond the dashed line raises the alarm by itself."),
        Table("Evidence by channel", ("channel", "evidence, power of ten"), rows, fold=True),
    )
    return Part((left, _change(row.last_alarm)))


def _change(alarm: Explained | None) -> tuple[Block, ...]:
    if alarm is None:
        text = "There was no alarm of this version, so there is nothing to compare."
        return Heading("How did it change?"), note(text)
    began = ""
    if alarm.first_at is not None and alarm.last_at is not None:
        between = f"between @{{{alarm.first_at:.0f}}} and @{{{alarm.last_at:.0f}}}"
        began = f" It began {between} ({percent(alarm.confidence)})."
    told = (
        f"Bars: requests since the drift began. Lines: before. {as_sentence(alarm.words)} Raised "
        f"@{{{alarm.raised_at:.0f}}}, after {count(alarm.requests)} requests.{began}"
    )
    label = f"Shares of {alarm.channel} before and since"
    return (
        Heading(f"How did `{alarm.channel}` change?"),
        Histogram(label, tuple((b.label, b.before, b.after) for b in alarm.histogram)),
        note(told),
        Table(
            label,
            ("bin", "before", "since"),
            tuple((b.label, percent(b.before), percent(b.after)) for b in alarm.histogram),
            fold=True,
        ),
    )


def _harm(view: View, row: Row) -> tuple[Part, ...]:
    harm = row.harm
    if harm is None:
        return ()
    return (one(Heading("Does it do harm?"), *_tell_harm(view, row, harm)),)


def _tell_harm(view: View, row: Row, harm: Harm) -> tuple[Block, ...]:
    if view.watcher != "here":
        word = Text("Not known now. When it was last looked at:", tone="unknown")
    elif harm.labels == 0:
        word = Text("Nobody knows: no label came.", tone="unknown")
    elif harm.alarm is not None:
        word = Text("Yes: it is right less often than promised.", tone="bad")
    elif row.harmless:
        word = Text(f"No: {row.harmless}.", tone="good")
    else:
        word = Text("Labels do not show that it does.", tone="plain")
    figures = ""
    if harm.evidence_log10 is not None and harm.threshold_log10 is not None:
        figures = f" Evidence {power(harm.evidence_log10)}, alarm at {power(harm.threshold_log10)}."
    doubt = f" It starts nothing: {harm.doubt}." if harm.doubt else ""
    return (
        word,
        Text(f"{as_sentence(harm.words)}{figures}{doubt}"),
        note(as_sentence(harm.promise)),
        Text("", href="#label", link="Label rows"),
    )
