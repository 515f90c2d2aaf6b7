"""What the page needs of inputs: examples, recorded requests, and answers that are no traffic.

Recorded inputs are the users' data. A holder of `feedback` gets the requests of its own alone, of
`feedback:any` and `admin` those of all.
"""

import math
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from models.base.bounded import Bounded
from models.base.errors import HoldfastError, InputError, show_value
from models.versions.bundle import Bundle
from models.versions.examples import read_examples
from models.versions.registry import Registry
from models.versions.schema import InputArray, InputSchema, Manifest
from monitoring.counting.metrics import Flags
from monitoring.counting.queries import Detector, QueryWatch
from monitoring.evidence.labels.asking import RANDOM_FIRST, choose_to_label
from monitoring.evidence.labels.poststratified import Poststratified, poststratify
from monitoring.records.keeping.limits import NO_INPUTS
from monitoring.records.store import Key, RecordedInput, RecordStore, StoreError, fits, raw_inputs
from service.console.relay import Relay
from service.console.state import read_overview
from service.console.telling.answer import tell_answer
from service.console.telling.boxes import (
    find_columns,
    find_judged_eps,
    share_of_columns,
    tell_box,
    tell_judged,
)
from service.console.telling.numbers import percent
from service.console.watched import Mover, Overview
from service.fleet.served import Served
from service.pipeline import Scored, new_id
from service.protocols import predict
from service.web.call import Call
from service.web.errors import NotFoundError, TooLargeError, TooManyError, UnavailableError
from service.web.reply import Reply, json_reply

MOST_ROWS = 64  # of a call of `/console/predict`
PATIENCE_SECONDS = 2.0  # with the call before it
TABS = 16  # whose last queries are remembered by a worker
TAB = re.compile(r"[A-Za-z0-9]{8,40}")
WANTED = ("label", "movers")
SURVEYED = 2000  # latest requests that labels are chosen from
MOST_LABELS = 50
MOST_DIGITS = 9  # of a number in an address; Python refuses to read one of thousands
ANY = "feedback:any"
WAYS = {
    "random": "drawn at random, so that the figures they give hold for all",
    "stratified": "chosen where a label tells most about the accuracy; within each level of "
    "confidence at random, and weighted, so that the figure stays unbiased",
}


class Example(msgspec.Struct, frozen=True):
    """A held-out row and its class."""

    x: Any
    label: str


class Examples(msgspec.Struct, frozen=True, kw_only=True):
    """What a page needs to make an input: the schema, and rows to begin with.

    Args:
        eps: the greatest change of each value that the version was judged against, in units of the
            range; None: it was not judged, or against changes of another kind.
        judged: the same in words.
        shares: of a table, which share of eps each column may fall and rise in an attack.
        box: the same in words.
        left_out: whether the version was made without examples.
    """

    model: str
    version: int
    input: InputSchema
    classes: tuple[str, ...]
    alpha: float
    perturbation_threshold: float
    eps: float | None
    judged: str
    shares: tuple[tuple[float, float], ...]
    box: str
    rows: list[Example]
    left_out: bool


class AskedRow(msgspec.Struct, frozen=True):
    """A recorded request; `gain` says how much it moved the evidence, in nats."""

    id: str
    row: int
    at: float
    x: Any
    cell: str = ""
    gain: float | None = None


class AskedRows(msgspec.Struct, frozen=True, kw_only=True):
    """Rows to look at or to label.

    Args:
        how: `random`, `stratified` or `movers`.
        since: of the alarm; None: there is none, and all requests count.
        labelled: of the surveyed requests.
        accuracy: of all of them, weighted; None: too few labels.
    """

    model: str
    version: int
    how: str
    why: str = ""  # they were chosen, in words
    since: float | None
    rows: list[AskedRow]
    surveyed: int
    labelled: int
    accuracy: Poststratified | None
    words: str = ""  # the same
    needed: tuple[int, int]


@dataclass
class Inputs:
    """Answers of one worker; threads share it.

    Args:
        find: returns the served version of a model.
        registry: has the bundles.
        store: of records, or None.
        relay: to the watcher, which knows the alarm.
        max_pixels: of the pictures of a call.
        rng: for the choice of rows.
    """

    find: Callable[[str | None], Served]
    registry: Registry
    store: RecordStore | None
    relay: Relay
    max_pixels: int
    rng: np.random.Generator = field(default_factory=np.random.default_rng)
    _watch: QueryWatch = field(default_factory=lambda: QueryWatch(TABS, None))
    _detectors: Bounded[tuple[str, int], Detector | None] = field(
        default_factory=lambda: Bounded(8)
    )
    _busy: threading.Lock = field(default_factory=threading.Lock)

    def close(self) -> None:
        """Forget the queries of the tabs."""
        self._watch.close()

    def predict(self, call: Call) -> Reply:
        """Answer as `/predict` does; nothing is counted or recorded."""
        served, tab = self.find(call.argument("model")), call.argument("tab") or ""
        if tab and not TAB.fullmatch(tab):
            raise InputError("tab", "8 to 40 letters and digits", show_value(tab))
        x, _ = predict.decode(call, served, self.max_pixels)
        if len(x) > MOST_ROWS:
            raise TooLargeError(MOST_ROWS, "a call of the page has at most 64 rows; it")
        if not self._busy.acquire(timeout=PATIENCE_SECONDS):
            raise TooManyError("another call of a page is under way", 1)
        try:
            answer = served.runner.run(x)
            detector = self._detector(served)
            probes = detector.look(tab, x) if detector is not None and tab else None
        finally:
            self._busy.release()
        near, probing = probes or (None, None)
        manifest = served.manifest
        flags = Flags.of(answer, manifest, probing)
        predicted = answer.probabilities.argmax(axis=1)
        scored = Scored(
            call.id() or f"console-{new_id()}", manifest, answer, predicted, flags, near,
            served.runner.out_of_range(x),
        )  # fmt: skip
        reply = predict.encode(scored)
        if len(x) > 1 or call.argument("told") is None:
            return reply
        (row,) = predict.predictions(scored)
        blocks = msgspec.json.encode(tell_answer(row, manifest, scored.id))
        return reply._replace(body=b'%s,"blocks":%s}' % (reply.body.removesuffix(b"}"), blocks))

    def _detector(self, served: Served) -> Detector | None:
        """The detector of a version on the memory of the tabs; the clients' is not touched."""
        key = served.manifest.model, served.manifest.version
        if key not in self._detectors:
            self._detectors[key] = self._watch.detector(served.runner.bundle)
        return self._detectors[key]

    def examples(self, call: Call) -> Reply:
        """The schema of a model and some held-out rows."""
        manifest = self.find(call.argument("model")).manifest
        path = self.registry.path(manifest.model, manifest.version)
        found = read_examples(Bundle(path, manifest, {}, b""))
        rows = []
        if found is not None:
            shown = show_inputs(found[0], manifest.input)
            names = (manifest.classes[k] for k in found[1].tolist())
            rows = [Example(x, name) for x, name in zip(shown, names, strict=True)]
        columns = find_columns(manifest)
        threat = None if manifest.evaluation is None else manifest.evaluation.threat
        document = Examples(
            model=manifest.model,
            version=manifest.version,
            input=manifest.input,
            classes=manifest.classes,
            alpha=manifest.calibration.alpha,
            perturbation_threshold=manifest.calibration.perturbation_threshold,
            eps=find_judged_eps(threat),
            judged=tell_judged(threat),
            shares=share_of_columns(manifest.input, columns),
            box=tell_box(manifest.input, columns),
            rows=rows,
            left_out=found is None,
        )
        return Reply(msgspec.json.encode(document))

    def rows(self, call: Call) -> Reply:
        """Recorded requests: those that moved the evidence, or those that a label is wanted of."""
        wanted = call.argument("want") or "label"
        if wanted not in WANTED:
            raise InputError("want", f"one of {', '.join(WANTED)}", show_value(wanted))
        if self.store is None:
            raise UnavailableError("the store of records is not available")
        manifest = self.find(call.argument("model")).manifest
        owner = None if call.grants is None or call.grants(ANY) else call.caller
        try:
            if wanted == "movers":
                document = self._movers(manifest, self.store, owner)
            else:
                document = self._to_label(manifest, self.store, owner, _count(call))
        except StoreError as error:
            raise UnavailableError(str(error)) from error
        return json_reply(msgspec.json.encode(document))

    def _to_label(
        self, manifest: Manifest, store: RecordStore, owner: str | None, count: int
    ) -> AskedRows:
        overview = read_overview(self.relay.read("/overview"))
        row = next((each for each in overview.models if each.model == manifest.model), None)
        since = None if row is None else row.alarm_since
        recent = store.recent(manifest.model, manifest.version, SURVEYED)
        here = recent.at >= (since or 0.0)
        labelled, right = recent.labelled[here], (recent.predicted == recent.label)[here]
        confidence, seqs = recent.confidence[here], recent.seq[here]
        most = len(seqs) if owner is not None else count
        order = seqs[choose_to_label(confidence, labelled, most, self.rng)].tolist()
        found = {each.seq: each for each in store.pick(order)}
        chosen = [found[seq] for seq in order if seq in found]
        if owner is not None:
            chosen = [each for each in chosen if each.client == owner][:count]
        schema = manifest.input
        whole = [each for each in chosen if fits(each.x, schema)]
        known = int(labelled.sum())
        accuracy = poststratify(confidence, confidence[labelled], right[labelled])
        how = "random" if known < RANDOM_FIRST else "stratified"
        period = "of late" if since is None else "since the alarm"
        off = len(seqs) and not whole and store.has_inputs(manifest.model) is False
        return AskedRows(
            model=manifest.model,
            version=manifest.version,
            how=how,
            why=f"Nothing to show: {NO_INPUTS}."
            if off
            else f"{len(whole)} rows of {len(seqs):,} {period}, {WAYS[how]}.",
            since=since,
            rows=_asked(whole, schema),
            surveyed=len(seqs),
            labelled=known,
            accuracy=accuracy,
            words=tell_accuracy(accuracy, known),
            needed=(RANDOM_FIRST, overview.min_labels),
        )

    def _movers(self, manifest: Manifest, store: RecordStore, owner: str | None) -> AskedRows:
        overview = read_overview(self.relay.read("/overview"))
        movers = find_movers(overview, manifest.model, manifest.version)
        keys = {Key(mover.id, mover.row): mover for mover in movers}
        records = store.find(keys)
        seqs = {record.seq: keys[key] for key, record in records.items()}
        picked = store.pick(list(seqs)) if seqs else []
        schema = manifest.input
        mine = [r for r in picked if owner is None or r.client == owner]
        whole = [r for r in mine if fits(r.x, schema)]
        rows = [
            msgspec.structs.replace(row, cell=seqs[r.seq].cell, gain=seqs[r.seq].gain)
            for row, r in zip(_asked(whole, schema), whole, strict=True)
        ]
        rows.sort(key=lambda row: -(row.gain or 0.0))
        return AskedRows(
            model=manifest.model, version=manifest.version, how="movers", since=None, rows=rows,
            surveyed=len(movers), labelled=0, accuracy=None, needed=(RANDOM_FIRST, 0),
        )  # fmt: skip


def tell_accuracy(accuracy: Poststratified | None, labels: int) -> str:
    """The weighted accuracy in words.

    >>> tell_accuracy(None, 3)
    '3 labels; too few for a figure'
    """
    if accuracy is None:
        return f"{labels} labels; too few for a figure"
    between = f"{100 * accuracy.low:.1f} to {100 * accuracy.high:.1f}"
    return f"model right on {percent(accuracy.value)} ({between}), weighted, on {accuracy.n} labels"


def find_movers(overview: Overview, model: str, version: int) -> tuple[Mover, ...]:
    """The requests that moved the evidence most before the last alarm of a version."""
    alarm = next((row.last_alarm for row in overview.models if row.model == model), None)
    return () if alarm is None or alarm.version != version else alarm.movers


def show_inputs(x: InputArray, schema: InputSchema) -> list[Any]:
    """Rows `(N, *shape)` as a client may send them in JSON.

    Images become nested lists; a row of a table a list, with categories as texts and None where a
    value is missing or no category is known.
    """
    if schema.kind == "image":
        return [np.round(row.astype(np.float64), 4).tolist() for row in x]
    return [
        [_show_cell(schema, k, float(v)) for k, v in enumerate(row.ravel().tolist())] for row in x
    ]


def _show_cell(schema: InputSchema, index: int, value: float) -> float | str | None:
    if math.isnan(value):
        return None
    column = schema.columns[index] if index < len(schema.columns) else None
    if column is None or column.kind == "numeric":
        return float(str(np.float32(value)))
    place = int(value)
    return column.categories[place] if 0 <= place < len(column.categories) else None


def _asked(records: Sequence[RecordedInput], schema: InputSchema) -> list[AskedRow]:
    shown = show_inputs(raw_inputs([r.x for r in records], schema), schema) if records else []
    return [AskedRow(r.id, r.row, r.at, x) for r, x in zip(records, shown, strict=True)]


def _count(call: Call) -> int:
    text = call.argument("n") or "20"
    number = text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS
    if not (number and 1 <= int(text) <= MOST_LABELS):
        raise InputError("n", f"a number from 1 to {MOST_LABELS}", show_value(text))
    return int(text)


def read_report(registry: Registry, model: str, version: str) -> bytes:
    """The evaluation of a version as a page; its digest is checked.

    Raises:
        NotFoundError: there is no such version, or it has no report.
    """
    try:
        plain = version.isascii() and version.isdigit() and len(version) <= MOST_DIGITS
        number = int(version) if plain else 0
        manifest = registry.manifest(model, number)
        return Bundle(registry.path(model, number), manifest, {}, b"").read("report.html")
    except HoldfastError as error:
        raise NotFoundError(f"no report of {model}/{version}: {error}") from None
