"""How labels are written: the first client's word counts; what others say is kept beside it.

A label belongs to a record, not to an id: who uses an id again takes no label from its first use.
If the last word of anybody counted, whoever may label could overwrite the labels of all others.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from monitoring.records.rows import Standing, in_parts
from monitoring.records.tables import FEEDBACK, FURTHER

LABELLING = 0x486F6C6C  # PostgreSQL's lock of who writes labels
_MARK = (
    sa.update(FEEDBACK)
    .where(FEEDBACK.c.seq == sa.bindparam("its_seq"))
    .values(contradicted=sa.bindparam("differs"))
)


class GivenLabel(NamedTuple):
    """A label (class index) that `client` gives to the record `seq`."""

    seq: int
    label: int
    at: float  # seconds since the epoch
    client: str
    trusted: bool  # whether the client may label any request


def write_labels(
    connection: sa.Connection, dialect: str, labels: Mapping[int, GivenLabel]
) -> dict[int, Standing]:
    """Write the labels of one client by `seq`, and whether their rows are contradicted now.

    The first statement takes the write lock of SQLite; PostgreSQL has one for this, so that the
    numbers of labels rise in the order of commits.
    """
    if dialect == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LABELLING)))
    rows = [label._asdict() | {"contradicted": False} for label in labels.values()]
    connection.execute(_upsert(dialect), rows)
    first = _read(connection, FEEDBACK, labels)
    further = [label for seq, label in labels.items() if label.client not in first[seq]]
    if further:
        names = FURTHER.c.keys()
        rows = [{name: getattr(label, name) for name in names} for label in further]
        connection.execute(_upsert_further(dialect), rows)
    said = _read(connection, FURTHER, labels)
    marks, standings = [], {}
    for seq, label in labels.items():
        counting = next(iter(first[seq].values()))
        differs = any(given != counting for given in said[seq].values())
        marks.append({"its_seq": seq, "differs": differs})
        others = {given for name, given in (first[seq] | said[seq]).items() if name != label.client}
        standings[seq] = Standing(label.client in first[seq], tuple(sorted(others - {label.label})))
    connection.execute(_MARK, marks)
    return standings


def _upsert(dialect: str) -> sa.Executable:
    """Insert the label of a row, or replace it where it is the client's own."""
    insert = _insert(dialect, FEEDBACK)
    new = insert.excluded
    return insert.on_conflict_do_update(
        index_elements=["seq"],
        set_={name: new[name] for name in ("label", "at", "trusted")},
        where=FEEDBACK.c.client == new.client,
    )


def _upsert_further(dialect: str) -> sa.Executable:
    insert = _insert(dialect, FURTHER)
    return insert.on_conflict_do_update(
        index_elements=["seq", "client"],
        set_={name: insert.excluded[name] for name in ("label", "at")},
    )


def _insert(dialect: str, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def _read(
    connection: sa.Connection, table: sa.Table, seqs: Iterable[int]
) -> dict[int, dict[str, int]]:
    """Return the labels of records by client."""
    read: dict[int, dict[str, int]] = {seq: {} for seq in seqs}
    for part in in_parts(sorted(read)):
        query = sa.select(*(table.c[n] for n in ("seq", "client", "label")))
        for each in connection.execute(query.where(table.c.seq.in_(part))):
            read[each.seq][each.client] = each.label
    return read
