"""The tables of a store of records."""

import sqlalchemy as sa

METADATA = sa.MetaData()
# Of the tables below, in their order (`migrations/versions/`). What this program makes is the last.
REVISIONS = ("0001", "0002")
NEWEST = REVISIONS[-1]
NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
# One row for each request, whatever its instances: an instance has the number `seq`, and those of a
# request are last - rows + 1 to last. The inputs lie in a segment, or in the row where none is.
REQUESTS = sa.Table(
    "requests",
    METADATA,
    sa.Column("last", NUMBER, primary_key=True, autoincrement=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("id", sa.String(128), nullable=False),
    sa.Column("row", sa.Integer, nullable=False),  # of the first instance
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("model", sa.String(64), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("client", sa.String(128), nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),  # of its inputs
    sa.Column("total", sa.BigInteger, nullable=False),  # of all inputs up to its own, ever
    sa.Column("segment", sa.BigInteger),
    sa.Column("place", sa.BigInteger),  # of its first byte in the segment
    sa.Column("scores", sa.LargeBinary, nullable=False),  # `rows` of `requests.SCORES`
    sa.Column("x", sa.LargeBinary),
    sa.Index("requests_by_id", "id"),
)
# All that was ever written, in its only row: numbers rise with the commits, and none comes twice.
WRITTEN = sa.Table(
    "written",
    METADATA,
    sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
)
# How far the files of segments are written: what lies beyond `bytes` was never acknowledged.
SEGMENTS = sa.Table(
    "segments",
    METADATA,
    sa.Column("number", NUMBER, primary_key=True, autoincrement=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("last", sa.BigInteger, nullable=False),  # the latest instance in it
)
FEEDBACK = sa.Table(
    "feedback",
    METADATA,
    # In the order in which records were first labelled; a label that is sent again keeps its own.
    sa.Column("number", NUMBER, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False, unique=True),
    sa.Column("label", sa.Integer, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("client", sa.String(128), nullable=False),
    sa.Column("trusted", sa.Boolean, nullable=False),
    sa.Column("contradicted", sa.Boolean, nullable=False),
    sqlite_autoincrement=True,
)
# What clients said of a row that another one had labelled before; it never counts as the label.
FURTHER = sa.Table(
    "further_labels",
    METADATA,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("client", sa.String(128), primary_key=True),
    sa.Column("label", sa.Integer, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)
# Of the tables, in its only row; named so that nothing else in the database takes it for its own.
REVISION = sa.Table(
    "records_revision",
    METADATA,
    sa.Column("revision", sa.String(32), primary_key=True),
)
# What was removed of each model and why, ever: no label goes without a trace.
REMOVED = sa.Table(
    "removed",
    METADATA,
    sa.Column("model", sa.String(64), primary_key=True),
    sa.Column("why", sa.String(16), primary_key=True),
    sa.Column("requests", sa.BigInteger, nullable=False),
    sa.Column("instances", sa.BigInteger, nullable=False),
    sa.Column("labels", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("at", sa.Float, nullable=False),  # seconds since the epoch, of the last time
)
# Which share of a model's requests a reservoir keeps: those whose salted hash lies below it.
RESERVOIRS = sa.Table(
    "reservoirs",
    METADATA,
    sa.Column("model", sa.String(64), primary_key=True),
    sa.Column("share", sa.Float, nullable=False),
    sa.Column("salt", sa.LargeBinary, nullable=False),
)
