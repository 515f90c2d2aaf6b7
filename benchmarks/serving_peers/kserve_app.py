"""The plain model in KServe's Python server: python kserve_app.py MODEL PORT."""

import logging
import sys

import onnxruntime as ort
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class Plain(Model):
    def __init__(self, path: str) -> None:
        super().__init__("digits")
        self._path = path
        self.load()

    def load(self) -> bool:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(
            self._path, options, providers=["CPUExecutionProvider"]
        )
        self.ready = True
        return True

    async def predict(self, payload: InferRequest, headers=None) -> InferResponse:
        x = payload.inputs[0].as_numpy()
        (logits,) = self._session.run(["logits"], {"input": x})
        output = InferOutput("logits", list(logits.shape), "FP32")
        output.set_data_from_numpy(logits, binary_data=payload.parameters is not None)
        return InferResponse(payload.id or "", "digits", [output])


if __name__ == "__main__":
    server = ModelServer(
        http_port=int(sys.argv[2]), enable_grpc=False, enable_latency_logging=False
    )
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    logging.getLogger("kserve.trace").setLevel(logging.WARNING)
    server.start([Plain(sys.argv[1])])
