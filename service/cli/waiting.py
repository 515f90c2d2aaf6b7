"""Why a model is not retrained yet, from the files alone: no watcher is asked."""

import time
from pathlib import Path

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from models.base.errors import HoldfastError
from models.versions.registry import Registry
from monitoring.evidence.labels.watch import Harm, LabelWatch
from monitoring.evidence.stream import Stream
from monitoring.loop.deciding.waits import Wait, find_waits, waits_text
from monitoring.loop.jobs import JobStore
from monitoring.records.database import engine_url
from monitoring.records.store import RecordStore
from monitoring.watching.harm import window_since
from service.configuration.settings import Settings
from service.watcher.acceptance import read_watched

NOT_TOLD = (ArithmeticError, LookupError, TypeError, ValueError)  # a state that fits and is wrong


def describe_waits(settings: Settings, registry: Registry, model: str) -> str:
    """Why a model is not retrained yet, as one line; or why that is not known."""
    try:
        stream = read_watched(Path(settings.state) / "watch", registry, model, c=settings.drift_c)
        records = RecordStore(settings.database_url, later=True)
        waits = read_waits(
            settings, registry, records, stream, read_harm(settings, stream, records)
        )
    except (HoldfastError, OSError, SQLAlchemyError, *NOT_TOLD) as error:
        return f"{model}: why it is not retrained yet is not known: {error}"
    if waits is None:
        return f"{model}: why it is not retrained yet is not known: the store cannot tell"
    return f"{model}: {waits_text(waits)}"


def read_harm(settings: Settings, stream: Stream, records: RecordStore) -> Harm:
    """What the labels say, as the watcher has left it. Raises one of `NOT_TOLD`."""
    harm = LabelWatch(stream.bundle, records, c=settings.drift_c).judge(stream.labels, None)
    return msgspec.structs.replace(harm, doubt=stream.doubt)


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
