"""The step before a training: which labelled rows of the window may be used, and what they say.

Its result is `referee.json` and, beside it, `referee.npz` with `kept` `(N,)`, true for the rows of
`window.npz` that may be trained and judged on, and `earlier` `(M,)`, the same for those of before.
`aside.json` names the clients that are set aside, for the owner's eyes; results only count them.
Where labels have changed, `lineage.npz` has what old rows are called then: it is used once a person
or a trusted labeller has said that the change is meant.
"""

from collections.abc import Collection
from pathlib import Path

import msgspec
import numpy as np

from models.base.files import write_atomic, write_durable
from models.data import DataSet, Rows
from models.data.contents import content_hashes
from models.data.lineage import FILE as LINEAGE
from models.data.lineage import NO_LINEAGE, Lineage, LiveRows
from models.data.window import Window
from models.evaluation.subject import Subject
from models.versions.bundle import Bundle
from monitoring.loop import results
from monitoring.loop.deciding.labels import LabelledWindow, rule_on_window
from monitoring.records.store import Labelled


def write_window(folder: Path, rows: Labelled, earlier: Labelled) -> None:
    """Freeze the window of a job, and labelled rows of before; whole or not at all, mode 0600."""
    temporary = folder / ".window.npz"
    temporary.unlink(missing_ok=True)
    write_durable(temporary, b"", 0o600)
    arrays = {
        "x": rows.x, "y": rows.y, "predicted": rows.predicted, "at": rows.at,
        "clients": np.array(rows.clients, dtype=np.str_), "trusted": rows.trusted,
        "earlier/x": earlier.x, "earlier/y": earlier.y, "earlier/at": earlier.at,
    }  # fmt: skip
    with temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)
    temporary.replace(folder / "window.npz")


def read_window(folder: Path) -> LabelledWindow:
    """The window of a job's folder."""
    with np.load(folder / "window.npz", allow_pickle=False) as archive:
        clients = tuple(str(name) for name in archive["clients"])
        rows = Rows(archive["x"], archive["y"])
        at = archive["at"] if "at" in archive else np.zeros(len(rows))
        before, times = Rows(rows.x[:0], rows.y[:0]), np.zeros(0)
        if "earlier/x" in archive:
            before, times = Rows(archive["earlier/x"], archive["earlier/y"]), archive["earlier/at"]
        earlier = LiveRows(before, times, np.zeros(len(before), dtype=np.int64))
        return LabelledWindow(rows, archive["predicted"], clients, at, earlier)


def usable_window(folder: Path, data: DataSet, lineage: Lineage) -> Window:
    """The rows that the referee has kept, dealt in three parts.

    Args:
        folder: of the job.
        data: the data set of the version.
        lineage: of the version; a row that it holds stays on its side.
    """
    with np.load(folder / "referee.npz", allow_pickle=False) as archive:
        kept = archive["kept"]
    window = read_window(folder)
    return Window.of(window.rows.take(kept), data, window.at[kept], lineage)


def earlier_rows(folder: Path, data: DataSet, window: Window, lineage: Lineage) -> LiveRows:
    """Labelled rows of the champion from before the window, that the referee has kept.

    They are one more window of old data: only trained on, and none of them is judged on.
    """
    with np.load(folder / "referee.npz", allow_pickle=False) as archive:
        rows = read_window(folder).earlier.take(archive["earlier"])
    judged = [window.calibration.x, window.test.x, data.test.x, data.calibration.x]
    judged += [live.rows.x for side, live in lineage.live.items() if side == "test"]
    elsewhere = np.concatenate([content_hashes(x) for x in judged])
    return rows.take(~np.isin(content_hashes(rows.rows.x), elsewhere))


def judge_window(
    anchor: Subject,
    data: DataSet,
    folder: Path,
    lineage: Lineage = NO_LINEAGE,
    trusted: Collection[str] = (),
    champion: Bundle | None = None,
) -> results.Refereed:
    """Rule on the window of a job, and keep which rows may be used; the rest as `rule_on_window`.

    Args:
        anchor, data, lineage, trusted, champion: as of `rule_on_window`.
        folder: of the job.
    """
    ruling = rule_on_window(anchor, data, read_window(folder), lineage, trusted, champion)
    if ruling.lineage is not None:
        write_atomic(folder / LINEAGE, ruling.lineage.encode(), 0o600)
    write_atomic(folder / "aside.json", msgspec.json.encode(ruling.aside), 0o600)
    np.savez(folder / "referee.npz", allow_pickle=False, kept=ruling.kept, earlier=ruling.earlier)
    return ruling.told
