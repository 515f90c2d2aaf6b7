"""Requests of the Open Inference Protocol as bytes, and answers as arrays.

Answers are read by NVIDIA's client, which shares no line with the service.
"""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
from tritonclient.http import InferResult

from models.versions.runner import Answer
from models.versions.schema import OUTPUTS, InputSchema
from monitoring.counting.metrics import Flags
from service.pipeline import Scored
from service.protocols.v2.binary import HEADER
from service.web.reply import Reply

CLASSES = ("cat", "dog", "eel: slim", "Löwe")
DATATYPES = {"float32": "FP32", "uint8": "UINT8"}


def tensor_of(x: Any, schema: InputSchema, data: Any = None) -> dict[str, Any]:
    """The tensor as JSON, binary where no `data` is given."""
    told = {"name": schema.name, "shape": list(x.shape), "datatype": DATATYPES[schema.dtype]}
    if data is not None:
        return told | {"data": data}
    return told | {"parameters": {"binary_data_size": x.nbytes}}


def framed(document: Any, *behind: bytes, length: Any = None) -> tuple[bytes, dict[str, str]]:
    """A body with bytes behind its JSON, and its headers; `length` is what the header claims."""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    claimed = len(text) if length is None else length
    return b"".join((text, *behind)), {HEADER: str(claimed)}


def tensors(reply: Reply) -> InferResult:
    """An answer of the codec as the client sees it."""
    headers = dict(reply.headers)
    length = headers.get(HEADER)
    assert (length is not None) == (reply.media == "application/octet-stream")
    return InferResult.from_response_body(reply.body, header_length=length)


def scored(rows: int, seed: int = 0) -> Scored:
    """Some answered rows of four classes and five channels."""
    rng = np.random.default_rng(seed)
    answer = Answer(
        rng.dirichlet(np.ones(len(CLASSES)), rows).astype(np.float32),
        *(rng.random(rows).astype(np.float32) for _ in range(3)),
        rng.integers(-(2**31), 2**31, (rows, 5)).astype(np.int32),
        rng.random(rows).astype(np.float32),
    )
    manifest: Any = SimpleNamespace(
        model="pets", version=3, classes=CLASSES, sets=None, outputs=OUTPUTS
    )
    flags = Flags(*(rng.random(rows) < 0.5 for _ in range(5)))
    predicted = answer.probabilities.argmax(axis=1)
    return Scored("mine", manifest, answer, predicted, flags, None)
