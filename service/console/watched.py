"""What the page needs of the watcher's overview, read leniently: a part that is absent is None.

The watcher may be of another version than the service, so nothing here is required but names.
"""

from typing import Literal, NamedTuple

import msgspec

Watcher = Literal["here", "away", "blind"]  # blind: it answers, and sees no counters


class Share(msgspec.Struct, frozen=True):
    """A share with its interval; None where there are no rows."""

    value: float | None = None
    low: float = 0.0
    high: float = 1.0
    n: int = 0


class Mended(msgspec.Struct, frozen=True):
    """The observed accuracy, corrected for which requests got labels."""

    value: float
    low: float
    high: float
    n: int


class Observed(msgspec.Struct, frozen=True):
    """What labels say."""

    accuracy: Share = Share()
    bias: str = ""
    corrected: Mended | None = None
    delay_median_seconds: float | None = None


class Estimated(msgspec.Struct, frozen=True):
    """The accuracy without labels."""

    value: float
    low: float
    high: float
    n: int = 0
    trustworthy: bool = False
    why: str = ""


class Accuracy(msgspec.Struct, frozen=True):
    """What is known of the live accuracy."""

    observed: Observed | None = None
    estimated: Estimated | None = None
    absent: str = ""


class HarmAlarm(msgspec.Struct, frozen=True):
    """An alarm of harm."""

    since: float = 0.0


class Harm(msgspec.Struct, frozen=True):
    """Whether answers are worse than promised."""

    labels: int = 0
    evidence_log10: float | None = None
    threshold_log10: float | None = None
    floor: float | None = None
    alarm: HarmAlarm | None = None
    doubt: str = ""
    words: str = ""
    promise: str = ""


class Alarm(msgspec.Struct, frozen=True):
    """An alarm of drift."""

    channel: str = ""
    direction: str = ""
    words: str = ""
    log10_r: float = 0.0
    requests: int = 0


class Aliases(msgspec.Struct, frozen=True):
    """Which version is what."""

    champion: int | None = None
    challenger: int | None = None
    previous: int | None = None


class Trouble(msgspec.Struct, frozen=True):
    """A problem with its advice."""

    problem: str
    since: float = 0.0
    detail: str = ""
    advice: str = ""


class ServiceState(msgspec.Struct, frozen=True):
    """How reading a service went."""

    service: str = ""
    status: str = "ok"
    since: float = 0.0
    detail: str = ""
    advice: str = ""


class Hold(msgspec.Struct, frozen=True):
    """A hold in force."""

    actor: str = ""
    reason: str = ""
    at: str = ""
    until: float | None = None
    stops: str = "everything"


class Wait(msgspec.Struct, frozen=True):
    """What the loop waits for before it does more."""

    reason: str = ""
    sentence: str = ""


class Accepted(msgspec.Struct, frozen=True):
    """Traffic that a person took for normal."""

    since: float = 0.0
    until: float = 0.0
    actor: str = ""
    reason: str = ""


class Mover(msgspec.Struct, frozen=True):
    """A request that moved the evidence; `gain` in nats."""

    id: str
    row: int = 0
    cell: str = ""
    gain: float = 0.0


class Bin(msgspec.Struct, frozen=True):
    """Shares of requests before and after."""

    label: str = ""
    before: float = 0.0
    after: float = 0.0


class Explained(msgspec.Struct, frozen=True):
    """The last alarm, explained when it was raised."""

    version: int = 0
    raised_at: float = 0.0
    channel: str = ""
    words: str = ""
    requests: int = 0
    first_at: float | None = None
    last_at: float | None = None
    confidence: float = 0.95
    histogram: tuple[Bin, ...] = ()
    movers: tuple[Mover, ...] = ()
    note: str = ""


class Row(msgspec.Struct, frozen=True):
    """A model as the watcher sees it."""

    model: str
    version: int | None = None
    requests: int | None = None
    evidence_log10: dict[str, float] | None = None
    threshold_log10: float | None = None
    alarm: Alarm | None = None
    alarm_since: float | None = None
    harmless: str | None = None
    promise: str | None = None
    last_alarm: Explained | None = None
    accepted: Accepted | None = None
    expected_accuracy: float | None = None
    accuracy: Accuracy | None = None
    harm: Harm | None = None
    aliases: Aliases | None = None
    problems: tuple[Trouble, ...] = ()
    services: tuple[ServiceState, ...] = ()
    hold: Hold | None = None
    waits: tuple[Wait, ...] = ()

    @property
    def strongest(self) -> tuple[str, float] | None:
        """The channel with the most evidence, and that; None where nothing is known."""
        if not self.evidence_log10:
            return None
        return max(self.evidence_log10.items(), key=lambda item: item[1])


class Rates(msgspec.Struct, frozen=True):
    """How a model does now."""

    per_second: float | None = None
    p50: float | None = None
    p99: float | None = None
    answered_hour: float = 0.0
    failed_hour: float = 0.0
    rows: float = 0.0
    drift: float = 0.0
    perturbed: float = 0.0
    probing: float = 0.0
    suspicious: float = 0.0
    since: float | None = None


class Job(msgspec.Struct, frozen=True):
    """A run of the loop, without its figures."""

    id: str
    kind: str = ""
    model: str = ""
    champion: int = 0
    challenger: int | None = None
    source: str = ""
    reason: str = ""
    created_at: float = 0.0
    updated_at: float = 0.0
    ended_at: float | None = None
    state: str = "running"
    stage: str = ""
    outcome: str | None = None
    detail: str = ""
    passed: int = 0
    failed: int = 0
    unknown: int = 0
    waits_until: float | None = None

    @property
    def asks_about_labels(self) -> bool:
        """Whether it waits for a person to say that changed labels are meant."""
        return self.state == "waiting" and self.stage == "approval of changed labels"


class Check(msgspec.Struct, frozen=True):
    """A gate's verdict."""

    name: str
    verdict: str = "unknown"
    value: float | None = None
    bound: float | None = None
    detail: str = ""
    n: int | None = None


class Look(msgspec.Struct, frozen=True):
    """What an evaluation found."""

    words: str = ""


class Answered(msgspec.Struct, frozen=True):
    """What a person said."""

    approved: bool = False
    actor: str = ""
    reason: str = ""


class FullJob(Job, frozen=True):
    """A run with its figures; `shadow` is as the watcher has it."""

    checks: tuple[Check, ...] = ()
    stages: dict[str, float] = {}
    evaluation: Look | None = None
    shadow: msgspec.Raw = msgspec.Raw(b"null")
    uncompared: dict[str, str] = {}
    answer: Answered | None = None


class Demo(msgspec.Struct, frozen=True):
    """The demonstration."""

    running: bool = False
    model: str = ""
    words: str = ""
    until: float | None = None
    failed: str = ""


class Overview(msgspec.Struct, frozen=True):
    """All that the watcher knows."""

    now: float = 0.0
    ready: str = "ready"
    models: tuple[Row, ...] = ()
    rates: dict[str, Rates] = {}
    jobs: tuple[Job, ...] = ()
    mode: str = "auto"
    min_labels: int = 300
    demo: Demo = Demo()


class Progress(msgspec.Struct, frozen=True):
    """How a training that a person began comes along."""

    model: str = ""
    stage: str = ""
    done: int = 0
    total: int = 0
    words: str = ""
    seconds_left: float | None = None


class Change(NamedTuple):
    """A change of the registry, as its audit has it."""

    at: float
    action: str
    version: int
    actor: str
    reason: str


class View(msgspec.Struct, frozen=True, kw_only=True):
    """All that the sentences of the page rest on; times are seconds since 1970.

    Args:
        now: when the page asked.
        watcher: whether it answers, and sees counters.
        seen_at, away: when it last answered, and why it does not now.
        ready: whether the service takes requests.
        served: the version of the model that answers; None: none does.
        any_version: whether the registry has a version of any model.
        refused: why the champion is not the one that answers; empty where it is.
        loading: a training that is under way.
        model: that is looked at; row, rates, jobs: what the watcher says of it.
        alpha: share of clean rows that a threshold flags.
        last: of the last 100 answers, a letter each, the oldest first: `r` right, `w` wrong, `u`
            unlike the training data, `n` no label.
        changes: of the registry, the newest first.
    """

    now: float
    watcher: Watcher = "here"
    seen_at: float | None = None
    away: str = ""
    ready: bool = True
    served: int | None = None
    any_version: bool = True
    refused: str = ""
    loading: Progress | None = None
    model: str = ""
    row: Row | None = None
    rates: Rates | None = None
    jobs: tuple[Job, ...] = ()
    mode: str = "auto"
    min_labels: int = 300
    demo: Demo = Demo()
    alpha: float = 0.01
    last: str = ""
    changes: tuple[Change, ...] = ()

    @property
    def open_job(self) -> Job | None:
        """The run that is under way or waits; None without one."""
        return next((job for job in self.jobs if job.state != "done"), None)

    @property
    def known_at(self) -> float | None:
        """When what the row says was so; None where it is so now, or was never known."""
        if self.watcher == "here" or self.row is None:
            return None
        if self.watcher == "away":
            return self.seen_at
        return max((s.since for s in self.row.services if s.status != "ok"), default=None)
