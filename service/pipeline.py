"""The way of a request, to be read first.

body ─ decode ─ x ─ ONE onnxruntime run ─ answer ─ look ─ count ─ record ─ encode ─ body

`look` asks whether the client probes the model: do its queries hardly differ?

A request takes one `Served` at its start and keeps it, so prediction, scores, thresholds and the
version in the answer are of the same bundle, whatever is promoted meanwhile.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from models.runner import Answer, Runner
from models.schema import InputArray, Manifest
from monitoring.metrics import Flags, Metrics, ModelMetrics
from monitoring.queries import Detector, Looked
from monitoring.record_writer import RecordWriter
from monitoring.records import Record
from service.call import Reply
from service.errors import FlaggedError
from service.web import JSON

_BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [a + b for a in _BASE32 for b in _BASE32]


@dataclass(frozen=True)
class Served:
    """A loaded version with all that a request needs of it; replaced as a whole."""

    runner: Runner
    metrics: ModelMetrics
    queries: Detector | None = None  # None: nobody watches the clients of this version
    max_rows: int = 1024  # in one request

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself."""
        return self.runner.manifest


class Decoded(NamedTuple):
    """A request body as arrays; `id` is the client's, or None."""

    x: InputArray
    id: str | None


@dataclass(frozen=True)
class Scored:
    """N answered rows."""

    id: str
    manifest: Manifest
    answer: Answer
    predicted: npt.NDArray[np.int64]  # (N,)
    flags: Flags
    near: npt.NDArray[np.int64] | None  # (N,) near queries of the client; None: not watched

    def reply(
        self, body: bytes, media: str = JSON, headers: tuple[tuple[str, str], ...] = ()
    ) -> Reply:
        """The answer with this body."""
        manifest = self.manifest
        return Reply(body, 200, media, headers, self.id, manifest.model, manifest.version)


class Pipeline:
    """Decode, run, look, count, record, encode; the state is counters and a queue of records."""

    def __init__(
        self,
        metrics: Metrics,
        writer: RecordWriter | None,
        policy: Literal["observe", "reject"] = "observe",
    ) -> None:
        self._writer = writer
        self._reject = policy == "reject"
        self._decode_time = metrics.stages["decode"]
        self._run_time = metrics.stages["run"]
        self._count_time = metrics.stages["count"]
        self._encode_time = metrics.stages["encode"]

    def handle(
        self,
        served: Served,
        client: str,
        decode: Callable[[], Decoded],
        encode: Callable[[Scored], Reply],
    ) -> Reply:
        """Answer one request with one version; `client` names who asks and is told to nobody.

        Raises:
            InputError: from `decode`, where the body does not fit.
            FlaggedError: the policy is `reject` and a row is flagged.
        """
        began = time.perf_counter()
        x, request_id = decode()
        decoded = time.perf_counter()
        answer = served.runner.run(x)
        ran = time.perf_counter()
        looked = _looked(served, client, x)
        scored = _scored(request_id or new_id(), served.manifest, answer, looked)
        served.metrics.count(answer, scored.predicted, scored.flags)
        if self._writer is not None:
            self._writer.put(_records(scored, x))
        counted = time.perf_counter()
        if self._reject:
            _refuse_flagged(scored)
        reply = encode(scored)
        self._decode_time.observe(decoded - began)
        self._run_time.observe(ran - decoded)
        self._count_time.observe(counted - ran)
        self._encode_time.observe(time.perf_counter() - counted)
        return reply


def new_id() -> str:
    """A request id: 26 characters that sort by time (ULID), unguessable."""
    number = int(time.time() * 1000) << 80 | secrets.randbits(80)
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])


def _looked(served: Served, client: str, x: InputArray) -> Looked | None:
    """What the client's queries look like; None where nobody watches."""
    return None if served.queries is None else served.queries.look(client, x)


def _scored(request_id: str, manifest: Manifest, answer: Answer, looked: Looked | None) -> Scored:
    predicted = answer.probabilities.argmax(axis=1)
    near, probing = looked or (None, None)
    flags = Flags.of(answer, manifest, probing)
    return Scored(request_id, manifest, answer, predicted, flags, near)


def _records(scored: Scored, x: InputArray) -> list[Record]:
    at, manifest = time.time(), scored.manifest
    columns = (
        scored.predicted.tolist(),
        scored.answer.drift_p_value.tolist(),
        scored.answer.perturbation_likelihood.tolist(),
    )
    return [
        Record(
            scored.id, row, at, manifest.model, manifest.version, x[row].tobytes(),
            predicted, p_value, perturbation,
        )
        for row, (predicted, p_value, perturbation) in enumerate(zip(*columns, strict=True))
    ]  # fmt: skip


def _refuse_flagged(scored: Scored) -> None:
    flags = scored.flags
    rows = np.flatnonzero(flags.drift | flags.perturbation | flags.query).tolist()
    if rows:
        raise FlaggedError(
            f"{len(rows)} of {len(scored.predicted)} rows flagged; this service refuses those",
            id=scored.id,
            model=scored.manifest.model,
            version=scored.manifest.version,
            flagged=[{"row": row, **scores(scored, row)} for row in rows],
        )


def scores(scored: Scored, row: int) -> dict[str, dict[str, float | bool] | None]:
    """The scores of a row as plain data."""
    answer, flags = scored.answer, scored.flags
    return {
        "drift": {
            "p_value": float(answer.drift_p_value[row]),
            "flagged": bool(flags.drift[row]),
        },
        "perturbation": {
            "likelihood": float(answer.perturbation_likelihood[row]),
            "corruption": float(answer.corruption_likelihood[row]),
            "flagged": bool(flags.perturbation[row]),
        },
        "query": None
        if scored.near is None
        else {"near": int(scored.near[row]), "flagged": bool(flags.query[row])},
    }
