"""A version that answers live requests in the shadow of the one that serves, off the request path.

It reads recorded requests, so no request waits for it, and needs neither torch nor onnx. Both
versions are compared on the same requests: before and after a promotion traffic may differ.
"""

import os
import sys
import time
import traceback
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import msgspec
import numpy as np

from models.base.errors import HoldfastError
from models.base.files import write_atomic
from models.statistics.shadow import Agreement, ShadowComparison, Shadowed
from models.versions.registry import Registry
from models.versions.runner import Runner
from models.versions.schema import InputArray
from monitoring.loop.jobs import Task
from monitoring.records.store import RecordStore, StoreError

MOST_REQUESTS = 200  # of a look: a sample where traffic is faster
MOST_LABELS = 2000
TIMED_ROWS = 10  # of a look, run one by one
TIMES_KEPT = 1000
LOOK_SECONDS = 1.0


class Shadow:
    """Lets the version that does not serve answer what the other one has answered.

    Args:
        records: where requests and labels stand.
        champion, challenger: both opened; their classes are the same.
        serving: which of them answers the requests.
        since: requests before it (epoch s) are left alone.
    """

    def __init__(
        self,
        records: RecordStore,
        champion: Runner,
        challenger: Runner,
        *,
        serving: Runner,
        since: float,
    ) -> None:
        self._records = records
        self._champion, self._challenger, self._serving = champion, challenger, serving
        self._silent = champion if serving is challenger else challenger
        self._since = since
        self._seq = self._label = 0
        self._answers: dict[int, tuple[int, int]] = {}  # by seq, until the label: served, silent
        self._early: dict[int, int] = {}  # labels by seq of requests that are not read yet
        self._comparison, self._agreement = ShadowComparison(), Agreement()
        self._seconds: dict[Runner, deque[float]] = {
            runner: deque(maxlen=TIMES_KEPT) for runner in (champion, challenger)
        }

    @property
    def shadowed(self) -> Shadowed:
        """What is known so far."""
        return Shadowed(
            comparison=self._comparison,
            agreement=self._agreement,
            champion_seconds=_median(self._seconds[self._champion]),
            challenger_seconds=_median(self._seconds[self._challenger]),
        )

    def look(self) -> Shadowed:
        """Answer the requests that came since the last look, and compare those with a label.

        Raises:
            StoreError: the records cannot be read now; the next look goes on.
        """
        self._answer()
        self._compare()
        return self.shadowed

    def _answer(self) -> None:
        manifest = self._serving.manifest
        requests = self._records.answered(
            manifest.model, manifest.version, manifest.input,
            after=self._seq, most=MOST_REQUESTS, since=self._since,
        )  # fmt: skip
        if not len(requests.seq):
            return
        silent = self._silent.run(requests.x).probabilities.argmax(axis=1)
        self._time(requests.x[:TIMED_ROWS])
        self._agreement = self._agreement.update(silent != requests.predicted)
        answers = zip(requests.predicted.tolist(), silent.tolist(), strict=True)
        self._answers |= dict(zip(requests.seq.tolist(), answers, strict=True))
        self._seq = int(requests.seq[-1])

    def _time(self, x: InputArray) -> None:
        for row in range(len(x)):
            for runner, seconds in self._seconds.items():
                began = time.thread_time()
                runner.run(x[row : row + 1])
                seconds.append(time.thread_time() - began)

    def _compare(self) -> None:
        manifest = self._serving.manifest
        labels = self._records.labels_after(
            manifest.model, manifest.version, self._label, MOST_LABELS, since=self._since
        )
        came = self._early | dict(zip(labels.seq.tolist(), labels.label.tolist(), strict=True))
        if len(labels):
            self._label = int(labels.number[-1])
        self._early = {seq: label for seq, label in came.items() if seq > self._seq}
        pairs = [
            (*self._answers.pop(seq), label) for seq, label in came.items() if seq in self._answers
        ]
        if not pairs:
            return
        served, silent, true = np.array(pairs).T
        right = {self._serving: served == true, self._silent: silent == true}
        self._comparison = self._comparison.update(right[self._champion], right[self._challenger])


def main(step: str, folder: Path) -> int:
    """Look every second and write `<step>.json`, a `Shadowed`, until the process is ended.

    Args:
        step: `shadow`; or `canary` or `probation`, in which the challenger's answers are compared.
        folder: of the job; it holds `<step>.task.json`.

    Returns:
        1, and `<step>.error` holds a sentence: it cannot compare.
    """
    os.nice(5)
    try:
        compare(step, folder)
    except Exception as error:
        ours = isinstance(error, HoldfastError)
        if not ours:
            traceback.print_exc()
        words = str(error) if ours else f"{type(error).__name__}: {error}"
        with suppress(OSError):  # the status alone says enough
            write_atomic(folder / f"{step}.error", words.encode())
    return 1


def compare(step: str, folder: Path) -> NoReturn:
    """Look every second, also where records cannot be read or the disk is full for a while."""
    task = msgspec.json.decode((folder / f"{step}.task.json").read_bytes(), type=Task)
    shadow = open_shadow(task, serving_champion=step == "shadow")
    while True:
        try:
            write_atomic(folder / f"{step}.json", msgspec.json.encode(shadow.look()))
        except (StoreError, OSError) as error:
            print(error, flush=True)
        time.sleep(LOOK_SECONDS)


def open_shadow(task: Task, *, serving_champion: bool) -> Shadow:
    """Open champion and challenger of a job, for the requests that come from now on."""
    job, registry = task.job, Registry(Path(task.registry), task.keys)
    assert job.challenger is not None
    champion, challenger = (
        Runner(registry.open(job.model, str(version))) for version in (job.champion, job.challenger)
    )
    return Shadow(
        RecordStore(task.database_url),
        champion,
        challenger,
        serving=champion if serving_champion else challenger,
        since=time.time(),
    )


def _median(seconds: deque[float]) -> float | None:
    return float(np.median(seconds)) if seconds else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
