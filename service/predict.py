"""`POST /predict`: the friendly address."""

from collections.abc import Callable
from typing import Any

import orjson
from flask import Blueprint, Response, request

from models.schema import InputSchema
from service.codec import decode_instances
from service.pipeline import Decoded, Pipeline, Scored, Served
from service.web import header_id, json_response, read_body, require_json


def blueprint(
    pipeline: Pipeline,
    find: Callable[[str | None], Served],
    client: Callable[[], str],
    max_rows: int,
) -> Blueprint:
    """The address; `find` gives the served version of a model, or of the only one.

    `client` names who asks.
    """
    routes = Blueprint("predict", __name__)

    def decode(schema: InputSchema) -> Decoded:
        request_id = header_id()
        require_json()
        return Decoded(decode_instances(read_body(), schema, max_rows), request_id)

    @routes.post("/predict")
    def predict() -> Response:
        served = find(request.args.get("model"))
        return json_response(pipeline.handle(served, client(), decode, encode))

    return routes


def encode(scored: Scored) -> bytes:
    """The answer as JSON."""
    manifest = scored.manifest
    document = {
        "model": manifest.model,
        "version": manifest.version,
        "id": scored.id,
        "predictions": predictions(scored),
    }
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def predictions(scored: Scored) -> list[dict[str, Any]]:
    """One object per row."""
    answer, classes = scored.answer, scored.manifest.classes
    columns = (
        scored.predicted.tolist(),
        answer.probabilities,
        answer.drift_p_value,
        scored.flags.drift.tolist(),
        answer.perturbation_likelihood,
        answer.corruption_likelihood,
        scored.flags.perturbation.tolist(),
        _queries(scored),
    )
    return [
        {
            "label": classes[index],
            "index": index,
            "probability": row[index],
            "probabilities": row,
            "drift": {"p_value": p_value, "flagged": drifted},
            "perturbation": {
                "likelihood": likelihood,
                "corruption": corruption,
                "flagged": perturbed,
            },
            "query": query,
        }
        for index, row, p_value, drifted, likelihood, corruption, perturbed, query in zip(
            *columns, strict=True
        )
    ]


def _queries(scored: Scored) -> list[dict[str, Any] | None]:
    """What the client's queries look like, one object per row; nulls where nobody watches."""
    if scored.near is None:
        return [None] * len(scored.predicted)
    found = zip(scored.near.tolist(), scored.flags.query.tolist(), strict=True)
    return [{"near": near, "flagged": flagged} for near, flagged in found]
