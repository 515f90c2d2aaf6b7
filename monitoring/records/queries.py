"""What the store asks its tables, and the inputs that it reads back from bytes.

A row about which clients disagree has a label that nobody can rely on: no harm, no observed
accuracy and no comparison of versions rests on it. One that was weighed before the other client
spoke stays weighed: evidence is not taken back.
"""

from collections.abc import Sequence

import numpy as np
import sqlalchemy as sa

from models.versions.schema import InputArray, InputSchema
from monitoring.records.rows import FEEDBACK, REQUESTS

INSERT = sa.insert(REQUESTS)
AGREED = FEEDBACK.c.contradicted.is_(False)


def fits(x: bytes, schema: InputSchema) -> bool:
    """Whether recorded bytes have the length of a row of this shape and dtype."""
    return len(x) == schema.size * np.dtype(schema.dtype).itemsize


def raw_inputs(rows: Sequence[bytes], schema: InputSchema) -> InputArray:
    """Convert recorded bytes, each of which `fits`, to raw inputs `(N, *shape)`."""
    x: InputArray = np.frombuffer(b"".join(rows), np.dtype(schema.dtype))
    return x.reshape(len(rows), *schema.shape)


def select_recent(model: str, version: int) -> sa.Select[tuple[object, ...]]:
    """Requests of a version, with labels where there are some."""
    columns = (REQUESTS.c[n] for n in ("seq", "at", "predicted", "p_value", "confidence"))
    return (
        sa.select(*columns, FEEDBACK.c.label)
        .join(FEEDBACK, FEEDBACK.c.seq == REQUESTS.c.seq, isouter=True)
        .where(REQUESTS.c.model == model, REQUESTS.c.version == version)
    )


def select_answers(model: str, version: int, since: float) -> sa.Select[tuple[object, ...]]:
    """Labelled requests of a version that came at or after `since`, and whether it was right."""
    columns = (REQUESTS.c[n] for n in ("seq", "at", "p_value", "confidence", "entropy"))
    right = (REQUESTS.c.predicted == FEEDBACK.c.label).label("right")
    return (
        sa.select(*columns, FEEDBACK.c.number, FEEDBACK.c.label, right)
        .join(FEEDBACK, FEEDBACK.c.seq == REQUESTS.c.seq)
        .where(REQUESTS.c.model == model, REQUESTS.c.version == version)
        .where(REQUESTS.c.at >= since, AGREED)
    )
