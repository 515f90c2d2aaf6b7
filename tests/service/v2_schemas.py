"""What the published descriptions say of the answers of V2, as JSON schemas.

Sources: `open_inference_rest.yaml` of the Open Inference Protocol (kserve/open-inference-protocol,
version 2.0) for metadata, inference and errors; its `inference_rest.md` for health; the pages
`extension_statistics`, `extension_model_repository`, `extension_model_configuration` and
`extension_binary_data` of Triton, with its `model_config.proto`.
"""

from typing import Any

import jsonschema

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
TRUTH: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
SHAPE: Schema = {"type": "array", "items": {"type": "integer"}}


def fields(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    """An object that has the required members, and no others than both."""
    properties = required | (optional or {})
    return {
        "type": "object",
        "required": list(required),
        "properties": properties,
        "additionalProperties": False,
    }


def several(items: Schema) -> Schema:
    return {"type": "array", "items": items}


PARAMETERS: Schema = {"type": "object"}
TENSOR = fields({"name": TEXT, "datatype": TEXT, "shape": SHAPE}, {"parameters": PARAMETERS})
DATA = several({"type": ["number", "string", "boolean"]})
OUTPUT = {"name": TEXT, "shape": SHAPE, "datatype": TEXT}
IN_JSON = fields({**OUTPUT, "data": DATA}, {"parameters": PARAMETERS})
BINARY = fields({**OUTPUT, "parameters": fields({"binary_data_size": COUNT})})
DURATION = fields({"count": COUNT, "ns": COUNT})
COMPUTED = dict.fromkeys(("compute_input", "compute_infer", "compute_output"), DURATION)
CONFIGURED = fields({"name": TEXT, "data_type": TEXT, "dims": SHAPE})

SERVER = fields({"name": TEXT, "version": TEXT, "extensions": several(TEXT)})
LIVE = fields({"live": TRUTH})
READY = fields({"ready": TRUTH})
MODEL_READY = fields({"name": TEXT, "ready": TRUTH})
MODEL = fields(
    {"name": TEXT, "platform": TEXT},
    {"versions": several(TEXT), "inputs": several(TENSOR), "outputs": several(TENSOR)},
)
INFERENCE_OF = {"model_name": TEXT}, {"model_version": TEXT, "id": TEXT, "parameters": PARAMETERS}
INFERENCE = fields({**INFERENCE_OF[0], "outputs": several(IN_JSON)}, INFERENCE_OF[1])
INFERENCE_BINARY = fields(
    {**INFERENCE_OF[0], "outputs": several({"anyOf": [IN_JSON, BINARY]})}, INFERENCE_OF[1]
)
ERROR = fields({"error": {"type": "string", "minLength": 1}})
CONFIG = fields(
    {
        "name": TEXT,
        "max_batch_size": COUNT,
        "input": several(CONFIGURED),
        "output": several(CONFIGURED),
    },
    {"platform": TEXT, "backend": TEXT, "version_policy": {"type": "object"}},
)
STATISTICS = fields(
    {
        "model_stats": several(
            fields(
                {
                    "name": TEXT,
                    "last_inference": COUNT,
                    "inference_count": COUNT,
                    "execution_count": COUNT,
                    "inference_stats": fields(
                        {"success": DURATION, "fail": DURATION, "queue": DURATION, **COMPUTED},
                        {"cache_hit": DURATION, "cache_miss": DURATION},
                    ),
                    "batch_stats": several(fields({"batch_size": COUNT, **COMPUTED})),
                },
                {"version": TEXT},
            )
        )
    }
)
INDEX = several(fields({"name": TEXT, "state": TEXT, "reason": TEXT}, {"version": TEXT}))


def conforms(document: Any, schema: Schema) -> None:
    """Fail where a document is not what the schema says."""
    jsonschema.validate(document, schema)
