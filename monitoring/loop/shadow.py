"""A version that answers live requests in the shadow of the one that serves, off the request path.

It reads recorded requests, so no request waits for it, and needs neither torch nor onnx. Both
versions are compared on the same requests: before and after a promotion traffic may differ.
"""

import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from models.statistics.shadow import Agreement, ShadowComparison, Verdict
from models.versions.registry import Registry
from models.versions.runner import Runner
from models.versions.schema import InputArray
from monitoring.loop.jobs import Task
from monitoring.loop.step_process import Step, run_step
from monitoring.loop.terms import terms_of
from monitoring.records.store import RecordStore

MOST_REQUESTS = 200  # of a look: a sample where traffic is faster
MOST_LABELS = 2000
TIMED_ROWS = 10  # of a look, run one by one
TIMES_KEPT = 1000
LOOK_SECONDS = 1.0


class Shadowed(msgspec.Struct, frozen=True):
    """What is known of the challenger from the requests that both versions answered.

    Args:
        comparison: of labelled requests.
        agreement: of all requests.
        champion_seconds, challenger_seconds: median processor time of a run of one row.
    """

    comparison: ShadowComparison
    agreement: Agreement
    champion_seconds: float | None
    challenger_seconds: float | None

    @property
    def verdict(self) -> Verdict:
        """The verdict of the labels; as long as there are none, that of the agreement.

        So one rule decides, whichever it is, and 5 % bounds the chance that it errs, if the time
        at which the first label comes does not depend on what it says.
        """
        if not self.comparison.labels and self.agreement.shown:
            return "no worse"
        return self.comparison.verdict

    def words(self) -> str:
        """Say how the challenger stands, with the figures."""
        pairs, agreement = self.comparison, self.agreement
        verdict = {
            "worse": "the challenger is worse than the champion on the same requests",
            "no worse": f"the challenger is less than {pairs.margin:.0%} worse",
            "not known": "whether the challenger is worse is not known yet",
        }[self.verdict]
        labelled = (
            f"{pairs.labels} labelled: only the champion right {pairs.champion_only}, only the "
            f"challenger {pairs.challenger_only}"
        )
        return (
            f"{verdict}: of {agreement.requests} live requests {agreement.disagreed} answered "
            f"differently; {labelled}"
        )


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


def watch(
    shadow: Shadow,
    *,
    seconds: float,
    early: bool,
    goes_on: Callable[[], bool] = lambda: True,
    pause: Callable[[float], None] = time.sleep,
) -> Shadowed:
    """Look every second until the challenger is shown to be worse, or the time is over.

    Args:
        shadow: of the two versions.
        seconds: the longest time.
        early: whether `no worse` ends it, too.
        goes_on: asked at each look; False ends it.
        pause: waits so many seconds.

    Raises:
        StoreError: as `Shadow.look`.
    """
    deadline = time.monotonic() + seconds
    while True:
        shadowed = shadow.look()
        decided = shadowed.verdict == "worse" or (early and shadowed.verdict == "no worse")
        left = deadline - time.monotonic()
        if decided or left <= 0 or not goes_on():
            return shadowed
        pause(min(LOOK_SECONDS, left))


def shadow(task: Task, folder: Path) -> Shadowed:
    """Before the promotion: the challenger answers what the champion has answered."""
    return _watch(task, serving=task.job.champion, early=True)


def probation(task: Task, folder: Path) -> Shadowed:
    """After it: the champion of before answers what the new one has answered."""
    assert task.job.challenger is not None
    return _watch(task, serving=task.job.challenger, early=False)


def _watch(task: Task, *, serving: int, early: bool) -> Shadowed:
    job, terms = task.job, terms_of(task.job)
    assert job.challenger is not None
    registry = Registry(Path(task.registry), task.keys)
    runners = {
        version: Runner(registry.open(job.model, str(version)))
        for version in (job.champion, job.challenger)
    }
    watched = Shadow(
        RecordStore(task.database_url),
        runners[job.champion],
        runners[job.challenger],
        serving=runners[serving],
        since=time.time(),
    )
    return watch(
        watched,
        seconds=terms.shadow_seconds if early else terms.probation_seconds,
        early=early,
        goes_on=lambda: registry.aliases(job.model).champion == serving,
    )


STEPS: dict[str, Step] = {"shadow": shadow, "probation": probation}


def _median(seconds: deque[float]) -> float | None:
    return float(np.median(seconds)) if seconds else None


if __name__ == "__main__":
    sys.exit(run_step(STEPS, sys.argv[1], Path(sys.argv[2])))
