"""How a request is answered: read this module first.

body ─ decode ─ x ─ ONE onnxruntime run ─ answer ─ look ─ count ─ record ─ encode ─ body

`look` checks whether the client probes the model with queries that hardly differ, and which rows it
has just sent before: those are no new observations.

A request takes one `Served` at its start and keeps it to its end. So prediction, scores, thresholds
and version come from the same bundle, even if another version is promoted meanwhile.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

from models.versions.promises import sets_of
from models.versions.runner import Answer
from models.versions.schema import InputArray, Manifest
from monitoring.counting.metrics import STAGES, Flags, Timer
from monitoring.counting.queries import ProbeCheck
from monitoring.records.requests import Request, pack_scores
from monitoring.records.writer import RecordWriter
from service.configuration.values import Policy
from service.fleet.served import Served
from service.web.errors import JSON, FlaggedError, UnavailableError
from service.web.reply import Reply

_BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LEAST_PROBABILITY = 1e-300  # whose logarithm is still a number
_PAIRS = [a + b for a in _BASE32 for b in _BASE32]


# The flags (`Flags`) for which a policy refuses a request.
REFUSED: Mapping[Policy, tuple[str, ...]] = {
    "observe": (),
    "reject": ("drift", "perturbation", "query"),
    "require_certified": ("drift", "perturbation", "query"),
    "reject_suspicious": ("drift", "perturbation", "query", "suspicious"),
}
Verdict = Literal["clean", "attack", "corruption"]


class Decoded(NamedTuple):
    """A request body as arrays; `id` is the id that the client gave, or None."""

    x: InputArray
    id: str | None


class Scored(NamedTuple):
    """N rows with their answers and flags."""

    id: str
    manifest: Manifest
    answer: Answer
    predicted: npt.NDArray[np.int64]  # (N,)
    flags: Flags
    near: npt.NDArray[np.int64] | None  # (N,) near queries of the client; None: not checked
    out_of_range: npt.NDArray[np.bool_] | None = None  # (N,) of a table; None: no table

    def reply(
        self, body: bytes, media: str = JSON, headers: tuple[tuple[str, str], ...] = ()
    ) -> Reply:
        """Return a reply with this body, and the id, model and version of the answer."""
        model, version = self.manifest.model, self.manifest.version
        return Reply(body, 200, media, headers, self.id, model, version, describe=self.describe)

    def describe(self) -> dict[str, str | int | float]:
        """Return attributes of a span: how the rows look together, and nothing of their inputs."""
        return {
            "holdfast.rows": len(self.predicted),
            "holdfast.drift.p_value": float(self.answer.drift_p_value.min(initial=1.0)),
            "holdfast.drift.flagged_rows": int(self.flags.drift.sum()),
            "holdfast.perturbation.likelihood": float(
                self.answer.perturbation_likelihood.max(initial=0.0)
            ),
            "holdfast.perturbation.flagged_rows": int(self.flags.perturbation.sum()),
            "holdfast.query.flagged_rows": int(self.flags.query.sum()),
        }


class DriftScore(TypedDict):
    """How unusual a row is."""

    p_value: float
    flagged: bool
    out_of_range: NotRequired[bool]  # of tables


class PerturbationScore(TypedDict):
    """How likely a row was perturbed, or only corrupted."""

    likelihood: float
    corruption: float
    flagged: bool
    suspicious: bool
    verdict: Verdict


class QueryScore(TypedDict):
    """How many of the client's last queries are near to this one."""

    near: int
    flagged: bool


class RowCertificate(TypedDict):
    """What is proven of a row: no change within eps turns the answer.

    `set` holds the true class as often as the manifest says, whatever the change within the
    version's eps. A certificate says nothing of an input of another kind: see `drift`.
    """

    certified: bool  # at the version's eps
    eps: float  # the largest size that is proven; 0: none
    set: list[str] | None  # None: not calibrated


class RowScores(TypedDict):
    """The scores of a row. Plain dictionaries, as all JSON that is made for every request."""

    drift: DriftScore
    perturbation: PerturbationScore
    query: QueryScore | None  # None: queries are not watched
    certificate: RowCertificate | None  # None: the version was not trained for certificates


class Pipeline:
    """Decode, run, look, count, record, encode; the state is counters and a queue of records."""

    def __init__(
        self,
        writer: RecordWriter | None,
        policy: Policy = "observe",
        timed: Callable[[Mapping[str, Timer]], Mapping[str, Timer]] | None = None,
    ) -> None:
        self._writer = writer
        self._refused, self._proven = REFUSED[policy], policy == "require_certified"
        self._timed = timed  # wraps the timers of a version; tracing uses it

    def handle(
        self,
        served: Served,
        client: str,
        decode: Callable[[], Decoded],
        encode: Callable[[Scored], Reply],
    ) -> Reply:
        """Answer one request with one version.

        Args:
            served: the version.
            client: who asks: for the query detector, repeats and the records; neither logged nor
                answered.
            decode: reads the request.
            encode: writes the answer.

        Raises:
            InputError: from `decode`, where the body does not fit.
            FlaggedError: the policy refuses a row: it is flagged, or its answer is not certified.
            UnavailableError: the model does not run, or too many requests to it run already.
        """
        began = time.perf_counter()
        try:
            return self._answer(began, served, client, decode, encode)
        except Exception:
            served.metrics.failures.observe(time.perf_counter() - began)
            raise

    def _answer(
        self,
        began: float,
        served: Served,
        client: str,
        decode: Callable[[], Decoded],
        encode: Callable[[Scored], Reply],
    ) -> Reply:
        x, request_id = decode()
        decoded = time.perf_counter()
        served, answer = _run(served, x)
        ran = time.perf_counter()
        prints = served.prints(x)
        probes = None if served.queries is None else served.queries.look(client, x, prints)
        fresh = None if served.repeats is None else served.repeats.fresh(client, x, prints)
        scored = _score_answer(request_id or new_id(), served, x, answer, probes)
        served.metrics.count(answer, scored.predicted, scored.flags, fresh)
        if self._writer is not None:
            self._writer.put(RowRecords(scored, x, client))
        counted = time.perf_counter()
        if self._refused:
            _refuse_rows(scored, self._refused, proven=self._proven)
        reply = encode(scored)
        ended = time.perf_counter()
        seconds = (decoded - began, ran - decoded, counted - ran, ended - counted)
        if self._timed is None:
            served.metrics.observe_stages(seconds)
        else:
            timers = self._timed(served.metrics.stages)
            for stage, stage_seconds in zip(STAGES, seconds, strict=True):
                timers[stage].observe(stage_seconds)
        return reply


def _run(served: Served, x: InputArray) -> tuple[Served, Answer]:
    """Run a version; where a canary does not run, the champion in its place."""
    try:
        return served, served.runner.run(x)
    except UnavailableError:
        if served.instead is None:
            raise
        return served.instead, served.instead.runner.run(x)


def new_id() -> str:
    """A request id: 26 characters that sort by time (ULID), unguessable."""
    number = int(time.time() * 1000) << 80 | int.from_bytes(os.urandom(10))
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])


def _score_answer(
    request_id: str, served: Served, x: InputArray, answer: Answer, probes: ProbeCheck | None
) -> Scored:
    manifest, far = served.manifest, served.runner.out_of_range(x)
    predicted = answer.probabilities.argmax(axis=1)
    near, probing = probes or (None, None)
    flags = Flags.of(answer, manifest, probing)
    return Scored(request_id, manifest, answer, predicted, flags, near, far)


class RowRecords:
    """The rows of a request as records; the writer's thread makes them."""

    def __init__(self, scored: Scored, x: InputArray, client: str) -> None:
        self._scored, self._x, self._client, self._at = scored, x, client, time.time()

    def __len__(self) -> int:
        return len(self._x)

    def flagged(self) -> bool:
        """Whether one of them is flagged, by whatever it is."""
        return bool(np.any(self._scored.flags))

    def request(self) -> Request:
        """Make the request as it is written."""
        scored, manifest, answer = self._scored, self._scored.manifest, self._scored.answer
        p = np.asarray(answer.probabilities, np.float64)
        entropy = -(p * np.log(np.maximum(p, LEAST_PROBABILITY))).sum(axis=1)
        x = np.ascontiguousarray(self._x).reshape(-1).view(np.uint8).data
        size = len(x) // len(self._x)
        scores = pack_scores(
            [x[k : k + size] for k in range(0, len(x), size)],
            scored.predicted,
            answer.drift_p_value,
            answer.perturbation_likelihood,
            p.max(axis=1),
            entropy,
        )
        model, version = manifest.model, manifest.version
        return Request(scored.id, 0, self._at, model, version, self._client, x, scores)


def _refuse_rows(scored: Scored, kinds: Sequence[str], *, proven: bool) -> None:
    """Refuse rows that these kinds flag and, if answers must be `proven`, those without a proof.

    Flags count there, too: a certificate says nothing of an input of another kind.
    """
    n = len(scored.predicted)
    refused = np.any([getattr(scored.flags, kind) for kind in kinds], axis=0)
    words = "flagged"
    if proven:
        certified = scored.answer.certified
        refused = refused | (np.True_ if certified is None else ~certified)
        words = "flagged or not certified"
        if certified is None:
            words += " (this version was not trained for certificates)"
    rows = np.flatnonzero(refused).tolist()
    if rows:
        raise FlaggedError(
            f"{len(rows)} of {n} rows {words}; this service refuses those",
            id=scored.id,
            model=scored.manifest.model,
            version=scored.manifest.version,
            flagged=list(_refused_scores(scored, rows)),
        )


def _refused_scores(scored: Scored, rows: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The scores of some rows, for JSON."""
    drift, proven = drift_scores(scored), certificates(scored)
    for row in rows:
        yield {"row": row, **_scores_of(scored, row, drift[row], proven[row])}


def drift_scores(scored: Scored) -> list[DriftScore]:
    """The drift scores of all rows, for JSON."""
    told: Iterable[Any] = scored.answer.drift_p_value  # float32: a float would have more digits
    flagged = scored.flags.drift.tolist()
    if scored.out_of_range is None:
        return [{"p_value": p, "flagged": f} for p, f in zip(told, flagged, strict=True)]
    return [
        {"p_value": p, "flagged": f, "out_of_range": far}
        for p, f, far in zip(told, flagged, scored.out_of_range.tolist(), strict=True)
    ]


def verdict(suspicious: bool, attack: bool) -> Verdict:
    """What a row most likely is, for JSON."""
    if not suspicious:
        return "clean"
    return "attack" if attack else "corruption"


def _scores_of(
    scored: Scored, row: int, drift: DriftScore, certificate: RowCertificate | None
) -> RowScores:
    """The scores of a row, for JSON."""
    answer, flags = scored.answer, scored.flags
    return {
        "drift": {**drift, "p_value": float(drift["p_value"])},
        "perturbation": {
            "likelihood": float(answer.perturbation_likelihood[row]),
            "corruption": float(answer.corruption_likelihood[row]),
            "flagged": bool(flags.perturbation[row]),
            "suspicious": bool(flags.suspicious[row]),
            "verdict": verdict(bool(flags.suspicious[row]), bool(flags.attack[row])),
        },
        "query": None
        if scored.near is None
        else {"near": int(scored.near[row]), "flagged": bool(flags.query[row])},
        "certificate": certificate,
    }


def column_of(scored: Scored, name: str) -> npt.NDArray[np.generic]:
    """An output of the graph by name.

    A version that answers in place of another may prove nothing: then nothing is certified.
    """
    values: npt.NDArray[np.generic] | None = getattr(scored.answer, name)
    if values is None:
        kind = np.bool_ if name == "certified" else np.float32
        return np.zeros(len(scored.predicted), dtype=kind)
    return values


def certificates(scored: Scored) -> Sequence[RowCertificate | None]:
    """What is proven of each row; nulls where the version was not trained for certificates."""
    answer, facts = scored.answer, scored.manifest.sets
    if answer.certified is None or answer.certified_eps is None:
        return [None] * len(scored.predicted)
    sets = class_sets(scored, None if facts is None else facts.certified_ratio)
    proven = (answer.certified.tolist(), answer.certified_eps.tolist(), sets)
    return [
        {"certified": certified, "eps": round(eps, 6), "set": classes}
        for certified, eps, classes in zip(*proven, strict=True)
    ]


def class_sets(scored: Scored, ratio: float | None) -> Sequence[list[str] | None]:
    """The classes of each row with p_k >= ratio max p, by name; nulls without a ratio."""
    if ratio is None:
        return [None] * len(scored.predicted)
    names = scored.manifest.classes
    members = sets_of(scored.answer.probabilities, ratio).tolist()
    return [[name for name, inside in zip(names, row, strict=True) if inside] for row in members]
