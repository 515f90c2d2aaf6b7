"""Steps of Alembic run on an open connection, in its transaction: all of them, or none.

Alembic is imported only here, and only where a store has to be changed: a start does not wait for
it.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from monitoring.records.tables import REVISION


def steps() -> ScriptDirectory:
    """The steps that this program knows."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return ScriptDirectory.from_config(config)


def upgrade(connection: sa.Connection, revision: str) -> None:
    """Bring tables at a revision to the newest one, and say so in the table of the revision."""
    order = list(steps().iterate_revisions("head", revision))[::-1]
    with Operations.context(MigrationContext.configure(connection)):
        for step in order:
            step.module.upgrade()
            connection.execute(sa.update(REVISION).values(revision=step.revision))
