"""The plain model behind FastAPI and orjson, as quick as one writes it: no schema is checked."""

import os

import numpy as np
import onnxruntime as ort
import orjson
from fastapi import FastAPI, Request, Response

options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
app = FastAPI()


@app.get("/ready")
async def ready() -> dict[str, bool]:
    return {"ready": True}


LENGTH = "Inference-Header-Content-Length"


@app.post("/v2/models/digits/infer")
async def infer(request: Request) -> Response:
    body = await request.body()
    if LENGTH in request.headers:
        return binary(body, int(request.headers[LENGTH]))
    tensor = orjson.loads(body)["inputs"][0]
    x = np.asarray(tensor["data"], dtype=np.float32).reshape(tensor["shape"])
    (logits,) = session.run(["logits"], {"input": x})
    output = {"name": "logits", "shape": logits.shape, "datatype": "FP32", "data": logits.ravel()}
    answer = {"model_name": "digits", "outputs": [output]}
    body = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, media_type="application/json")


def binary(body: bytes, length: int) -> Response:
    shape = orjson.loads(body[:length])["inputs"][0]["shape"]
    x = np.frombuffer(body, np.float32, offset=length).reshape(shape)
    (logits,) = session.run(["logits"], {"input": x})
    size = {"binary_data_size": logits.nbytes}
    output = {"name": "logits", "shape": logits.shape, "datatype": "FP32", "parameters": size}
    header = orjson.dumps({"model_name": "digits", "outputs": [output]})
    told = {LENGTH: str(len(header))}
    return Response(header + logits.tobytes(), headers=told, media_type="application/octet-stream")
