"""`POST /feedback`: true labels for answers given earlier; on disk when it answers 200.

The store is called through a gate. If it is locked, full or hangs, a label gets a 503 within a few
seconds and the next ones at once, so that predictions keep their threads. A label that was refused
may still be stored when the store recovers; sending it again has no further effect.

Where calls need a token, a client labels its own requests; those of others take the scope
`feedback:any`. Clients choose ids, so an id of several clients means the caller's own request; to
who has none with that id it means nothing certain, and the label is refused. Several clients may
label a row; `monitoring.records.labels` has the rule by which one label counts.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple, NoReturn

import msgspec

from models.base.errors import InputError, show_value
from models.base.json_body import decode_body
from monitoring.records.breaker import Gate
from monitoring.records.store import Key, RecordedRow, RecordStore, Standing, StoreError
from service.decoding.class_labels import AmbiguousLabelError, ClassLabels, label_text
from service.decoding.json_amount import check_count
from service.fleet.served import Served
from service.fleet.served_models import Champions
from service.web.call import Call, Endpoint
from service.web.errors import ConflictError, ForbiddenError, NotFoundError, UnavailableError
from service.web.reply import Reply, json_reply
from service.web.request_id import check_id

MAX_LABELS = 10_000
MOST_BRACES = 2 * MAX_LABELS  # a label may hold one of its own
LOOK_EVERY_SECONDS = 0.05
MAX_ROW_DIGITS = 7
MOST_NAMED = 100  # ids in the answer to labels that were not kept
ANY = "feedback:any"
STORE_PATIENCE_SECONDS = 3.0  # of the store itself, which can say why
PATIENCE_SECONDS = 4.0  # of the gate, for a store that says nothing


class Item(msgspec.Struct):
    """One label: `id` or `id/row`, and the true class as its file writes it."""

    id: str
    label: msgspec.Raw


class _Label(msgspec.Struct, frozen=True):
    field: str
    key: Key
    label: str


@dataclass(frozen=True, slots=True)
class LabelResult:
    """The result of a label in the answer.

    `counts`: whether it is the label of the row, as no other client labelled the row before.
    `contradicts`: the other classes that other clients gave; such a row is not trained on.
    """

    id: str
    row: int
    model: str
    version: int
    predicted: str
    label: str
    correct: bool
    counts: bool
    contradicts: list[str]


class _Resolved(NamedTuple):
    """A label whose record is there, and the place of its class among the classes."""

    label: _Label
    record: RecordedRow
    place: int


_decoder = msgspec.json.Decoder(Item | list[Item])


class Labels:
    """The store with limits: how long a request waits, and how many wait at once."""

    def __init__(self, store: RecordStore, wait_seconds: float, at_once: int) -> None:
        self._store = store
        self._wait_seconds = wait_seconds
        self._gate = Gate(at_once, PATIENCE_SECONDS)
        self._waiting = threading.BoundedSemaphore(at_once)

    def find(self, keys: list[Key], client: str, *, own: bool) -> dict[Key, RecordedRow]:
        """Find records, those of `client` first; waits a while for one that is not written yet.

        Args:
            keys: of the records.
            client: who gives the labels.
            own: whether only its own records are waited for.

        Raises:
            StoreError: the store cannot be read now.
            UnavailableError: a record is not there yet, and too many requests wait for theirs.
        """
        records = self._gate.call(lambda: self._store.find(keys, client))

        def missing() -> list[Key]:
            there = (key for key, row in records.items() if not own or row.client == client)
            return list(set(keys).difference(there))

        if not self._wait_seconds or not missing():
            return records
        if not self._waiting.acquire(blocking=False):
            raise UnavailableError("too many labels wait for their records; no label was kept")
        try:
            deadline = time.monotonic() + self._wait_seconds
            while (late := missing()) and time.monotonic() < deadline:
                time.sleep(LOOK_EVERY_SECONDS)
                records |= self._gate.call(lambda: self._store.find(late, client))
        finally:
            self._waiting.release()
        return records

    def keep(
        self, labels: Sequence[tuple[Key, RecordedRow, int]], client: str, *, trusted: bool
    ) -> dict[Key, Standing]:
        """Store labels of existing records; on disk on return. Raises StoreError on failure."""
        return self._gate.call(lambda: self._store.add_feedback(labels, client, trusted=trusted))

    def check(self) -> None:
        """Raise StoreError where nothing can be written now, so that records may be missing."""
        self._gate.call(self._store.check_writable)


def endpoints(
    store: RecordStore | None, champions: Champions, *, wait_seconds: float, at_once: int = 2
) -> tuple[Endpoint, ...]:
    """Return the endpoint.

    Args:
        store: None where the store cannot be opened at all.
        champions: the served models, whose classes the labels name.
        wait_seconds: how long a label waits for its record.
        at_once: requests that may wait for the store, or for a record, at the same time; fewer
            than the threads of the worker.
    """
    store_of_labels = Labels(store, wait_seconds, at_once) if store is not None else None

    def feedback(call: Call) -> Reply:
        call.require_json()
        labels = _decode(call.body())
        served = champions.served
        classes = {name: ClassLabels(model.manifest.classes) for name, model in served.items()}
        _check_labels(labels, classes)
        if store_of_labels is None:
            raise UnavailableError("the store of records is not available; the label was not kept")
        trusted = call.grants is not None and call.grants(ANY)
        any_client = call.grants is None or trusted
        try:
            keys = [label.key for label in labels]
            records = store_of_labels.find(keys, call.caller, own=not any_client)
            known = [label for label in labels if label.key in records]
            others = [x for x in known if records[x.key].client != call.caller]
            foreign = [] if any_client else others
            ambiguous = [x for x in others if any_client and records[x.key].shared]
            refused = {label.key for label in foreign + ambiguous}
            resolved = _resolve([x for x in known if x.key not in refused], records, classes)
            if resolved:
                standings = store_of_labels.keep(
                    [(label.key, record, place) for label, record, place in resolved],
                    call.caller,
                    trusted=trusted,
                )
            else:
                store_of_labels.check()
        except StoreError as error:
            raise UnavailableError(f"{error}; the label was not kept") from error
        results = [_tell_result(each, standings[each.label.key], classes) for each in resolved]
        _count(results, served)
        unknown = [label for label in labels if label.key not in records]
        if foreign:
            _raise_foreign(foreign, unknown, len(resolved))
        if ambiguous:
            _raise_ambiguous(ambiguous, unknown, len(resolved))
        if unknown:
            _raise_unknown(unknown, len(resolved))
        return json_reply({"accepted": len(resolved), "results": results})

    return (Endpoint("POST", "/feedback", feedback, "feedback"),)


def _decode(body: bytes) -> list[_Label]:
    check_count(body, b"{", MOST_BRACES, "body", "labels")
    content = decode_body(_decoder, body)
    single = isinstance(content, Item)
    items: list[Item] = [content] if isinstance(content, Item) else content
    if not 1 <= len(items) <= MAX_LABELS:
        raise InputError("body", f"1 to {MAX_LABELS} labels", f"{len(items)}")
    places = ("",) if single else tuple(f"[{n}]." for n in range(len(items)))
    return [
        _Label(place, _key(item.id, f"{place}id"), _text(item.label, f"{place}label"))
        for place, item in zip(places, items, strict=True)
    ]


def _key(text: str, field: str) -> Key:
    request_id, slash, row = text.partition("/")
    if slash and not (row.isascii() and row.isdigit() and len(row) <= MAX_ROW_DIGITS):
        raise InputError(field, "an id, or id/row with a row number", show_value(text))
    return Key(check_id(request_id, field), int(row) if slash else 0)


def _text(raw: msgspec.Raw, field: str) -> str:
    """Return the text of a label. Raises InputError unless it is a text, number or boolean."""
    text = label_text(bytes(raw))
    if text is None:
        kinds = {b"n": "null", b"[": "a list", b"{": "an object"}
        raise InputError(field, "the name of a class", kinds[bytes(raw)[:1]])
    return text


def _check_labels(labels: Sequence[_Label], classes: Mapping[str, ClassLabels]) -> None:
    """Refuse labels that are no class of any served model, before waiting for records."""
    checked: set[str] = set()
    for label in labels if classes else ():
        if label.label not in checked:
            if not any(each.may_mean(label.label) for each in classes.values()):
                names = dict.fromkeys(chain.from_iterable(each.names for each in classes.values()))
                _raise_no_class(label, list(names))
            checked.add(label.label)


def _class_of(label: _Label, classes: ClassLabels) -> int:
    """Return the index of the class that a label means. Raises InputError."""
    try:
        index = classes.index(label.label)
    except AmbiguousLabelError as error:
        got = f"{show_value(label.label)}, which may mean {error}"
        raise InputError(f"{label.field}label", "the name of one class", got) from None
    if index is None:
        _raise_no_class(label, classes.names)
    return index


def _resolve(
    labels: Sequence[_Label], records: Mapping[Key, RecordedRow], classes: Mapping[str, ClassLabels]
) -> list[_Resolved]:
    """Return the record and the class index of every label."""
    resolved = []
    for label in labels:
        record = records[label.key]
        if record.model not in classes:
            raise NotFoundError(f"{label.field}id: model {record.model!r} is not served now")
        resolved.append(_Resolved(label, record, _class_of(label, classes[record.model])))
    return resolved


def _tell_result(
    resolved: _Resolved, standing: Standing, classes: Mapping[str, ClassLabels]
) -> LabelResult:
    label, record, place = resolved
    names = classes[record.model].names
    return LabelResult(
        id=label.key.id,
        row=label.key.row,
        model=record.model,
        version=record.version,
        predicted=names[record.predicted],
        label=names[place],
        correct=record.predicted == place,
        counts=standing.counts,
        contradicts=[names[other] for other in standing.others],
    )


def _count(results: Sequence[LabelResult], served: Mapping[str, Served]) -> None:
    for result in results:
        metrics = served[result.model].metrics
        metrics.feedback(result.version, result.correct, bool(result.contradicts))


def _raise_no_class(label: _Label, classes: Sequence[str]) -> NoReturn:
    names = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
    raise InputError(f"{label.field}label", f"one of {names}", show_value(label.label))


def _raise_unknown(unknown: Sequence[_Label], accepted: int) -> NoReturn:
    keys = _name_keys(unknown)
    raise NotFoundError(
        f"no record of {len(unknown)} of the ids; the other {accepted} labels were kept",
        field=f"{unknown[0].field}id",
        expected="the id of an answered request (and a row it had)",
        got=keys[0],
        accepted=accepted,
        unknown=keys,
    )


def _raise_foreign(foreign: Sequence[_Label], unknown: Sequence[_Label], accepted: int) -> NoReturn:
    keys = _name_keys(foreign)
    raise ForbiddenError(
        f"{len(foreign)} of the ids are of another client's requests, whose labels take a token of "
        f"scope {ANY}; {accepted} labels were kept",
        field=f"{foreign[0].field}id",
        expected="the id of a request of the same client",
        got=keys[0],
        accepted=accepted,
        foreign=keys,
        unknown=_name_keys(unknown),
    )


def _raise_ambiguous(
    ambiguous: Sequence[_Label], unknown: Sequence[_Label], accepted: int
) -> NoReturn:
    keys = _name_keys(ambiguous)
    raise ConflictError(
        f"{len(ambiguous)} of the ids are of requests of several clients: which one is meant is "
        f"not known; {accepted} labels were kept",
        field=f"{ambiguous[0].field}id",
        expected="an id that one client has used, or one of the caller's own requests",
        got=keys[0],
        accepted=accepted,
        ambiguous=keys,
        unknown=_name_keys(unknown),
    )


def _name_keys(labels: Sequence[_Label]) -> list[str]:
    return [f"{label.key.id}/{label.key.row}" for label in labels[:MOST_NAMED]]
