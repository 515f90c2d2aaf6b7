"""The four questions of the page and their answers: a word that follows an interval, then figures.

"Unknown" and "too early" are no good news and never look like it.
"""

import msgspec

from models.statistics.clopper_pearson import clopper_pearson
from monitoring.evidence.labels.biases import BEYOND_REPAIR
from service.console.telling.headline import Tone, find_errors, say_unseen
from service.console.telling.numbers import (
    LEAST,
    count,
    milliseconds,
    percent,
    power,
)
from service.console.watched import Mended, Observed, Row, Share, View

SLOW_SECONDS = 0.1  # the 99 % quantile; as the alert HoldfastLatency


class Scale(msgspec.Struct, frozen=True):
    """A figure between `least` and `most`: the value, its interval, and marks with words."""

    value: float | None
    most: float
    low: float | None = None
    high: float | None = None
    marks: tuple[tuple[float, str], ...] = ()
    grey: bool = False  # it is an estimate
    least: float = 0.0


class Answer(msgspec.Struct, frozen=True):
    """A question with its answer; the figures behind it in `text` and in the picture."""

    question: str
    word: str
    tone: Tone
    text: str
    view: str
    scale: Scale | None = None


def tell_answers(view: View) -> tuple[Answer, ...]:
    """The four answers."""
    moved, right = _as_known(view, _tell_moved(view)), _as_known(view, _tell_right(view))
    return _tell_serving(view), moved, _tell_tampering(view), right


def _as_known(view: View, told: Answer) -> Answer:
    """The answer, or while nobody looks that it is unknown, and what it was when somebody did."""
    if view.watcher == "here":
        return told
    text = say_unseen(view)
    if view.known_at is not None:
        text += f": {told.word}, {told.text}"
    return Answer(told.question, "Unknown", "unknown", text, told.view)


def _tell_serving(view: View) -> Answer:
    question, rates = "Is it serving?", view.rates
    if view.served is None:
        return Answer(question, "No", "bad", "No model answers.", "now")
    if not view.ready:
        return Answer(question, "No", "bad", "The service says that it is not ready.", "now")
    if rates is None or view.watcher != "here":
        text = "It answered this page. How fast it is, the watcher would know."
        return Answer(question, "It answers", "unknown", text, "now")
    if not rates.answered_hour:
        return Answer(question, "Yes", "plain", "Nobody asked in the last hour.", "now")
    failed = rates.failed_hour / rates.answered_hour
    errors = "no server errors" if not failed else f"{percent(failed)} server errors"
    speed = ""
    if rates.p50 is not None and rates.p99 is not None:
        half, most = milliseconds(rates.p50), milliseconds(rates.p99)
        speed = f"half within {half}, 99 of 100 within {most}, "
    rate = "" if not rates.per_second else f"{rates.per_second:.1f} requests a second, "
    text = f"{rate}{speed}{errors} in {count(rates.answered_hour)} requests of an hour"
    if find_errors(view):
        return Answer(question, "With errors", "bad", text, "now")
    if rates.p99 is not None and rates.p99 > SLOW_SECONDS:
        return Answer(question, "Slowly", "warn", text, "now")
    return Answer(question, "Yes", "good", text, "now")


def _tell_moved(view: View) -> Answer:
    question, row = "Has the world moved?", view.row
    strongest = None if row is None else row.strongest
    if row is None or strongest is None or row.threshold_log10 is None:
        return Answer(question, "Unknown", "unknown", "There is no evidence to look at.", "drift")
    name, value, bar = *strongest, row.threshold_log10
    text = f"strongest: {name}, {power(value)}; alarm at {power(bar)}"
    scale = Scale(max(value, 0.0), max(2 * bar, value), marks=((bar, "alarm"),))
    if row.accepted is not None:
        text += f"; compared with what {row.accepted.actor} accepted as normal"
    if row.alarm is not None:
        word, tone = ("Yes, harmlessly", "warn") if row.harmless else ("Yes", "bad")
        return Answer(question, word, tone, text, "drift", scale)  # type: ignore[arg-type]
    if (row.requests or 0) < LEAST:
        early = f"{count(row.requests or 0)} requests so far; {text}"
        return Answer(question, "Too early to say", "unknown", early, "drift", scale)
    return Answer(question, "No", "plain", text, "drift", scale)


def _tell_tampering(view: View) -> Answer:
    question, rates = "Is someone tampering?", view.rates
    if rates is None or view.watcher != "here":
        return Answer(question, "Unknown", "unknown", "Nobody counts the flags now.", "try")
    if rates.rows < LEAST:
        text = f"{count(rates.rows)} inputs in 5 minutes; a word rests on {LEAST} at least"
        return Answer(question, "Too early to say", "unknown", text, "try")
    share, (low, high) = rates.perturbed / rates.rows, clopper_pearson(rates.perturbed, rates.rows)
    text = f"{percent(share)} of {count(rates.rows)} inputs flagged in 5 minutes"
    text += f", about {percent(view.alpha)} of clean ones are"
    if rates.suspicious:
        text += f"; {percent(rates.suspicious / rates.rows)} suspicious"
    most = max(6 * view.alpha, share, high if high < 0.5 else share)
    scale = Scale(share, most, low, min(high, most), ((view.alpha, "usual"),))
    if rates.probing:
        text += f"; {count(rates.probing)} queries probe the model"
        return Answer(question, "A client probes", "bad", text, "try", scale)
    if low > view.alpha:
        return Answer(question, "More than usual", "warn", text, "try", scale)
    return Answer(question, "No", "plain", f"{text}; no probing client", "try", scale)


def _tell_right(view: View) -> Answer:
    question, row = "Is it right?", view.row
    if row is None:
        return Answer(question, "Unknown", "unknown", "The watcher has not looked yet.", "label")
    observed = None if row.accuracy is None else row.accuracy.observed
    if observed is None or not observed.accuracy.n or observed.accuracy.value is None:
        return _tell_estimate(question, row)
    live: Share | Mended = observed.accuracy
    # Labels that depend on whether the answer was right cannot be mended.
    mended = observed.corrected
    if any(reason in observed.bias for reason in BEYOND_REPAIR):
        mended = None
    note = ""
    if observed.bias:
        note = f"; labels are no random sample ({observed.bias})"
        if mended is not None:
            live, note = mended, f"{note}: corrected for it"
    value = live.value
    assert value is not None
    promised, floor = row.expected_accuracy, None if row.harm is None else row.harm.floor
    interval_text = f"{100 * live.low:.1f} to {100 * live.high:.1f}"
    text = f"{percent(value)} ({interval_text}) on {count(live.n)} labels"
    text += "; nothing was promised" if promised is None else f"; {percent(promised)} promised"
    text += note
    marks = () if promised is None else ((promised, "promised"),)
    scale = _zoom(Scale(value, 1.0, live.low, live.high, marks))
    if live.n < LEAST:
        return Answer(question, "Too early to say", "unknown", text, "label", scale)
    if promised is None:
        return Answer(question, percent(value), "plain", text, "label", scale)
    if _harmed(row) or live.high < (promised if floor is None else floor):
        return Answer(question, "Less often", "bad", text, "label", scale)
    if observed.bias and mended is None:
        return Answer(question, "Unknown", "unknown", text, "label", scale)
    if live.low > promised:
        return Answer(question, "Better", "good", text, "label", scale)
    return Answer(question, "As promised", "good", text, "label", scale)


def _tell_estimate(question: str, row: Row) -> Answer:
    estimated = None if row.accuracy is None else row.accuracy.estimated
    word = "Nobody has told it"
    if estimated is None:
        why = row.accuracy.absent if row.accuracy is not None else "no requests yet"
        return Answer(question, word, "unknown", f"No label came, and no estimate: {why}", "label")
    text = (
        f"estimated without labels: {percent(estimated.value)} ({100 * estimated.low:.1f} to "
        f"{100 * estimated.high:.1f})"
    )
    if not estimated.trustworthy:
        text += f"; not to be trusted: {estimated.why}"
    promised = row.expected_accuracy
    marks = () if promised is None else ((promised, "promised"),)
    scale = _zoom(Scale(estimated.value, 1.0, estimated.low, estimated.high, marks, grey=True))
    return Answer(question, word, "unknown", text, "label", scale)


def _zoom(scale: Scale) -> Scale:
    """The scale from below everything that it shows; a whole one would show a dot at its end."""
    shown = [mark for mark, _ in scale.marks] + [scale.value or 0.0, scale.low or 0.0]
    return msgspec.structs.replace(scale, least=max(0.0, 1.0 - 2.2 * (1.0 - min(shown))))


def _harmed(row: Row) -> bool:
    return row.harm is not None and row.harm.alarm is not None and not row.harm.doubt


def labels_of(row: Row | None) -> Observed | None:
    """What labels say of a model; None where none came."""
    if row is None or row.accuracy is None or row.accuracy.observed is None:
        return None
    return row.accuracy.observed if row.accuracy.observed.accuracy.n else None
