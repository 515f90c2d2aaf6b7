"""The plain model in Triton's Python backend; Triton calls the file `model.py` of a version."""

from pathlib import Path

import onnxruntime as ort
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        file = Path(args["model_repository"]) / args["model_version"] / "plain.onnx"
        self._session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def execute(self, requests: list) -> list:
        return [self._answer(request) for request in requests]

    def _answer(self, request: object) -> object:
        x = pb_utils.get_input_tensor_by_name(request, "input").as_numpy()
        (logits,) = self._session.run(["logits"], {"input": x})
        return pb_utils.InferenceResponse([pb_utils.Tensor("logits", logits)])
