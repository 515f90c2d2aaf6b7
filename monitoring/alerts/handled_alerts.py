"""The keys of alerts that have started a job, in the database of the jobs."""

from collections.abc import Sequence

import sqlalchemy as sa

KEPT_SECONDS = 90 * 86_400.0  # since an alert was last sent
KEPT_LEAST = 10_000  # keys that are kept whatever their age: a clock that is set drops none of them
REFRESH_SECONDS = 86_400.0
CHUNK = 500  # keys in one statement

_METADATA = sa.MetaData()
HANDLED = sa.Table(
    "alerts_handled",
    _METADATA,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),  # when it was last sent
)


class HandledAlerts:
    """The keys of alerts that have started a job; dropped some months after they last came."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._prepared = False

    def _prepare(self) -> None:
        """Make the table at the first use: a store that is away at the start may come back."""
        if not self._prepared:
            _METADATA.create_all(self._engine)
            self._prepared = True

    def find(self, keys: Sequence[str], now: float = 0.0) -> set[str]:
        """Return the known ones of these keys; they count as sent `now` (seconds since 1970)."""
        self._prepare()
        sent_at: dict[str, float] = {}
        with self._engine.connect() as connection:
            for start in range(0, len(keys), CHUNK):
                some = HANDLED.c.key.in_(keys[start : start + CHUNK])
                sent_at |= {
                    row.key: row.at for row in connection.execute(sa.select(HANDLED).where(some))
                }
        old = [key for key, at in sent_at.items() if now - at > REFRESH_SECONDS]
        if old:
            with self._engine.begin() as connection:
                for start in range(0, len(old), CHUNK):
                    some = HANDLED.c.key.in_(old[start : start + CHUNK])
                    connection.execute(sa.update(HANDLED).where(some).values(at=now))
        return set(sent_at)

    def add(self, key: str, now: float = 0.0) -> None:
        """Store a key that was sent `now`."""
        if not self.find([key], now):
            with self._engine.begin() as connection:
                connection.execute(sa.insert(HANDLED).values(key=key, at=now))

    def prune(self, now: float) -> int:
        """Drop keys that did not come for months, if there are many; returns how many."""
        self._prepare()
        with self._engine.begin() as connection:
            count = sa.select(sa.func.count()).select_from(HANDLED)
            if (connection.execute(count).scalar() or 0) <= KEPT_LEAST:
                return 0
            old = sa.delete(HANDLED).where(HANDLED.c.at < now - KEPT_SECONDS)
            return connection.execute(old).rowcount
