"""Why a model is not retrained yet, from the files alone: no watcher is asked."""

import time

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from models.base.errors import HoldfastError
from models.versions.registry import Registry
from monitoring.evidence.labels.watch import Harm
from monitoring.evidence.stream import Stream
from monitoring.loop.deciding.waits import Wait, find_waits
from monitoring.loop.jobs import JobStore
from monitoring.records.database import engine_url
from monitoring.records.store import RecordStore
from monitoring.watching.harm import window_since
from service.configuration.settings import Settings


def read_waits(
    settings: Settings, registry: Registry, records: RecordStore, stream: Stream, harm: Harm
) -> list[Wait] | None:
    """All that stands in the way of a retraining; None where the store cannot tell.

    Args:
        settings: of the watcher.
        registry, records: of the same state.
        stream: of the model, as its watcher has left it.
        harm: what its labels say.
    """
    from service.watch import plan_of  # with what runs the loop, which is slow to import

    plan, model = plan_of(settings), stream.model
    try:
        return find_waits(
            model, registry, JobStore(sa.create_engine(engine_url(settings.database_url))),
            records, plan.serves.get(model), plan.needs, harm, window_since(stream, harm),
            time.time(),
        )  # fmt: skip
    except (HoldfastError, SQLAlchemyError):
        return None
