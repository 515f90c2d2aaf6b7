"""What was removed is counted, and a reservoir remembers which share of the requests it keeps."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the tables `removed` and `reservoirs`."""
    op.create_table(
        "removed",
        sa.Column("model", sa.String(64), primary_key=True),
        sa.Column("why", sa.String(16), primary_key=True),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("instances", sa.BigInteger, nullable=False),
        sa.Column("labels", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_table(
        "reservoirs",
        sa.Column("model", sa.String(64), primary_key=True),
        sa.Column("share", sa.Float, nullable=False),
        sa.Column("salt", sa.LargeBinary, nullable=False),
    )
