"""`POST /predict`: predictions for JSON rows or image files."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import orjson

from models.base.errors import show_value
from service.decoding.images import (
    MAX_PIXELS,
    Upload,
    decode_images,
    read_resize,
    takes_images,
)
from service.decoding.instances import FIELD, read_predict_body, read_rows_of
from service.decoding.multipart import FORM, read_files
from service.fleet.served import Served
from service.pipeline import (
    Decoded,
    Pipeline,
    QueryScore,
    RowScores,
    Scored,
    certificates,
    class_sets,
    drift_scores,
    verdict,
)
from service.web.call import Call, Endpoint
from service.web.errors import JSON, MediaTypeError
from service.web.reply import Reply

IMAGES = ("image/png", "image/jpeg")


def endpoints(
    pipeline: Pipeline, choose: Callable[[str | None, Call], Served], max_pixels: int = MAX_PIXELS
) -> tuple[Endpoint, ...]:
    """Return the endpoint; `choose` returns the version of a model, or of the only one."""

    def predict(call: Call) -> Reply:
        served = choose(call.argument("model"), call)
        return pipeline.handle(
            served, call.caller, lambda: decode(call, served, max_pixels), encode
        )

    return (Endpoint("POST", "/predict", predict, "predict", hot=True),)


def decode(call: Call, served: Served, max_pixels: int = MAX_PIXELS) -> Decoded:
    """Read the rows of a request: JSON, or for an image model one file or a form of several."""
    request_id, kind, schema = call.id(), call.media_type, served.manifest.input
    if kind in ("", JSON):
        rows = read_predict_body(call.body(), schema)
        return Decoded(
            read_rows_of(rows, FIELD, served.manifest.input, served.max_rows, call, max_pixels),
            request_id,
        )
    files = _files(call, kind, served)
    x = decode_images(
        files, schema, served.max_rows, resize=read_resize(call), max_pixels=max_pixels
    )
    return Decoded(x, request_id)


def _files(call: Call, kind: str, served: Served) -> list[Upload]:
    pictures = takes_images(served.manifest.input)
    if pictures and kind in IMAGES:
        return [Upload("body", call.body())]
    if pictures and kind == FORM:
        return read_files(call.body(), call.header("content-type") or "", served.max_rows)
    types = ", ".join((JSON, *IMAGES, FORM) if pictures else (JSON,))
    error = MediaTypeError("Content-Type", types, show_value(kind))
    error.headers = {"Accept": types}
    raise error


def encode(scored: Scored) -> Reply:
    """Encode the answer as JSON."""
    manifest = scored.manifest
    document = {
        "model": manifest.model,
        "version": manifest.version,
        "id": scored.id,
        "predictions": predictions(scored),
    }
    return scored.reply(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY))


class Prediction(RowScores):
    """The answer for a row."""

    label: str
    index: int
    probability: np.float32
    probabilities: npt.NDArray[np.float32]  # (C,)
    set: list[str] | None  # the true class is among these as often as told; None: not calibrated


def predictions(scored: Scored) -> list[Prediction]:
    """Return one object per row."""
    answer, classes, sets = scored.answer, scored.manifest.classes, scored.manifest.sets
    columns = (
        scored.predicted.tolist(),
        answer.probabilities,
        drift_scores(scored),
        answer.perturbation_likelihood,
        answer.corruption_likelihood,
        scored.flags.perturbation.tolist(),
        scored.flags.suspicious.tolist(),
        scored.flags.attack.tolist(),
        _queries(scored),
        certificates(scored),
        class_sets(scored, None if sets is None else sets.ratio),
    )
    return [
        {
            "label": classes[index],
            "index": index,
            "probability": row[index],
            "probabilities": row,
            "drift": drift,
            "perturbation": {
                "likelihood": likelihood,
                "corruption": corruption,
                "flagged": perturbed,
                "suspicious": suspicious,
                "verdict": verdict(suspicious, attack),
            },
            "query": query,
            "certificate": certificate,
            "set": members,
        }
        for (
            index,
            row,
            drift,
            likelihood,
            corruption,
            perturbed,
            suspicious,
            attack,
            query,
            certificate,
            members,
        ) in zip(*columns, strict=True)
    ]


def _queries(scored: Scored) -> Sequence[QueryScore | None]:
    """Return the query scores, one object per row; nulls where queries are not checked."""
    if scored.near is None:
        return [None] * len(scored.predicted)
    pairs = zip(scored.near.tolist(), scored.flags.query.tolist(), strict=True)
    return [{"near": near, "flagged": flagged} for near, flagged in pairs]
