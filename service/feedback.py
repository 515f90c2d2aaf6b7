"""`POST /feedback`: true labels for answers given earlier; on disk when it answers 200."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from models.errors import InputError
from monitoring.records import Found, Key, RecordStore, StoreError
from service.call import Call, Endpoint, Reply, json_reply
from service.codec import decode_body
from service.errors import NotFoundError, UnavailableError, shown
from service.pipeline import Served
from service.reload import Champions
from service.web import checked_id

MAX_LABELS = 10_000
LOOK_EVERY_SECONDS = 0.05
MAX_ROW_DIGITS = 7


class Item(msgspec.Struct):
    """One label: `id` or `id/row`, and the name of the true class."""

    id: str
    label: str


class _Label(msgspec.Struct, frozen=True):
    field: str
    key: Key
    label: str


_decoder = msgspec.json.Decoder(Item | list[Item])


def endpoints(
    store: RecordStore | None, champions: Champions, *, wait_seconds: float
) -> tuple[Endpoint, ...]:
    """The address; `store` is None where it could not be opened."""

    def feedback(call: Call) -> Reply:
        call.require_json()
        labels = _decode(call.body())
        served = champions.served
        _check_labels(labels, served)
        if store is None:
            raise UnavailableError("the store of records is not available; the label was not kept")
        try:
            found = _wait_for(store, [label.key for label in labels], wait_seconds)
            known = [label for label in labels if label.key in found]
            results = _resolve(known, found, served)
            store.add_feedback([(key, found[key], index) for key, index, _ in results])
        except StoreError as error:
            raise UnavailableError(f"{error}; the label was not kept") from error
        _count(results, found, served)
        if len(known) < len(labels):
            _raise_unknown([label for label in labels if label.key not in found], len(known))
        return json_reply(
            {"accepted": len(known), "results": [document for _, _, document in results]}
        )

    return (Endpoint("POST", "/feedback", feedback, "feedback"),)


def _decode(body: bytes) -> list[_Label]:
    decoded = decode_body(_decoder, body)
    single = isinstance(decoded, Item)
    items: list[Item] = [decoded] if isinstance(decoded, Item) else decoded
    if not 1 <= len(items) <= MAX_LABELS:
        raise InputError("body", f"1 to {MAX_LABELS} labels", f"{len(items)}")
    places = ("",) if single else tuple(f"[{n}]." for n in range(len(items)))
    return [
        _Label(place, _key(item.id, f"{place}id"), item.label)
        for place, item in zip(places, items, strict=True)
    ]


def _key(text: str, field: str) -> Key:
    request_id, slash, row = text.partition("/")
    if slash and not (row.isascii() and row.isdigit() and len(row) <= MAX_ROW_DIGITS):
        raise InputError(field, "an id, or id/row with a row number", shown(text))
    return Key(checked_id(request_id, field), int(row) if slash else 0)


def _check_labels(labels: Sequence[_Label], served: Mapping[str, Served]) -> None:
    """Refuse a label that is no class of any served model, before waiting for records."""
    classes = {name for model in served.values() for name in model.manifest.classes}
    for label in labels if served else ():
        if label.label not in classes:
            _raise_no_class(label, sorted(classes))


def _wait_for(store: RecordStore, keys: list[Key], wait_seconds: float) -> dict[Key, Found]:
    """Find records; one that is on its way to the store gets `wait_seconds` to arrive."""
    deadline = time.monotonic() + wait_seconds
    found = store.find(keys)
    while any(key not in found for key in keys) and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_SECONDS)
        found |= store.find([key for key in keys if key not in found])
    return found


def _resolve(
    known: Sequence[_Label], found: Mapping[Key, Found], served: Mapping[str, Served]
) -> list[tuple[Key, int, dict[str, Any]]]:
    """Class index and answer of every label whose record is there."""
    results = []
    for label in known:
        record = found[label.key]
        if record.model not in served:
            raise NotFoundError(f"{label.field}id: model {record.model!r} is not served now")
        classes = served[record.model].manifest.classes
        if label.label not in classes:
            _raise_no_class(label, classes)
        index = classes.index(label.label)
        document = {
            "id": label.key.id,
            "row": label.key.row,
            "model": record.model,
            "version": record.version,
            "predicted": classes[record.predicted],
            "label": label.label,
            "correct": record.predicted == index,
        }
        results.append((label.key, index, document))
    return results


def _count(
    results: Sequence[tuple[Key, int, dict[str, Any]]],
    found: Mapping[Key, Found],
    served: Mapping[str, Served],
) -> None:
    for key, _, document in results:
        served[found[key].model].metrics.feedback(document["correct"])


def _raise_no_class(label: _Label, classes: Sequence[str]) -> None:
    names = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
    raise InputError(f"{label.field}label", f"one of {names}", shown(label.label))


def _raise_unknown(unknown: Sequence[_Label], accepted: int) -> None:
    keys = [f"{label.key.id}/{label.key.row}" for label in unknown[:100]]
    raise NotFoundError(
        f"no record of {len(unknown)} of the ids; the other {accepted} labels were kept",
        field=f"{unknown[0].field}id",
        expected="the id of an answered request (and a row it had)",
        got=keys[0],
        accepted=accepted,
        unknown=keys,
    )
