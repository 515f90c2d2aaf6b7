"""How labels are written: the first client's word counts; what others say is kept beside it.

If the last word of anybody counted, whoever may label could overwrite the labels of all others.
"""

from collections.abc import Mapping
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from monitoring.records.rows import FEEDBACK, FURTHER, Key, Standing, in_parts

LABELLING = 0x486F6C6C  # PostgreSQL's lock of who writes labels
_MARK = (
    sa.update(FEEDBACK)
    .where(FEEDBACK.c.id == sa.bindparam("its_id"), FEEDBACK.c.row == sa.bindparam("its_row"))
    .values(contradicted=sa.bindparam("differs"))
)


class GivenLabel(NamedTuple):
    """A label (class index) that `client` gives to the record `seq`."""

    id: str
    row: int
    seq: int
    label: int
    at: float  # seconds since the epoch
    client: str
    trusted: bool  # whether the client may label any request


def write_labels(
    connection: sa.Connection, dialect: str, labels: Mapping[Key, GivenLabel]
) -> dict[Key, Standing]:
    """Write the labels of one client, and whether their rows are contradicted now.

    The first statement takes the write lock of SQLite; PostgreSQL has one for this, so that the
    numbers of labels rise in the order of commits.
    """
    if dialect == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LABELLING)))
    rows = [label._asdict() | {"contradicted": False} for label in labels.values()]
    connection.execute(_upsert(dialect), rows)
    first = _read(connection, FEEDBACK, labels)
    further = [label for key, label in labels.items() if label.client not in first[key]]
    if further:
        names = FURTHER.c.keys()
        rows = [{name: getattr(label, name) for name in names} for label in further]
        connection.execute(_upsert_further(dialect), rows)
    said = _read(connection, FURTHER, labels)
    marks, standings = [], {}
    for key, label in labels.items():
        counting = next(iter(first[key].values()))
        differs = any(given != counting for given in said[key].values())
        marks.append({"its_id": key.id, "its_row": key.row, "differs": differs})
        others = {given for name, given in (first[key] | said[key]).items() if name != label.client}
        standings[key] = Standing(label.client in first[key], tuple(sorted(others - {label.label})))
    connection.execute(_MARK, marks)
    return standings


def _upsert(dialect: str) -> sa.Executable:
    """Insert the label of a row, or replace it where it is the client's own.

    An id may have been used again since: what was said of the row before is then another's.
    """
    insert = _insert(dialect, FEEDBACK)
    new = insert.excluded
    return insert.on_conflict_do_update(
        index_elements=["id", "row"],
        set_={name: new[name] for name in ("seq", "label", "at", "client", "trusted")},
        where=(FEEDBACK.c.client == new.client) | (FEEDBACK.c.seq != new.seq),
    )


def _upsert_further(dialect: str) -> sa.Executable:
    insert = _insert(dialect, FURTHER)
    return insert.on_conflict_do_update(
        index_elements=["id", "row", "client"],
        set_={name: insert.excluded[name] for name in ("seq", "label", "at")},
    )


def _insert(dialect: str, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def _read(
    connection: sa.Connection, table: sa.Table, labels: Mapping[Key, GivenLabel]
) -> dict[Key, dict[str, int]]:
    """Return the labels of the same records by client; stale ones of an id used again are none."""
    read: dict[Key, dict[str, int]] = {key: {} for key in labels}
    for part in in_parts(sorted({key.id for key in labels})):
        query = sa.select(*(table.c[n] for n in ("id", "row", "seq", "client", "label")))
        for each in connection.execute(query.where(table.c.id.in_(part))):
            key = Key(each.id, each.row)
            if key in labels and labels[key].seq == each.seq:
                read[key][each.client] = each.label
    return read
