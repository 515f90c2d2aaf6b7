"""The minimal app that Holdfast is compared with: what one writes in ten minutes.

python -m benchmarks.plain_app MODEL PORT WORKERS THREADS
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication

if TYPE_CHECKING:
    from flask import Flask

LENGTH = "Inference-Header-Content-Length"


class Plain(BaseApplication):  # type: ignore[misc]
    def __init__(self, model: str, port: str, workers: str, threads: str) -> None:
        self._model = Path(model)
        self._options: dict[str, Any] = {
            "bind": f"127.0.0.1:{port}",
            "workers": int(workers),
            "worker_class": "gthread",
            "threads": int(threads),
            "keepalive": 75,
            "control_socket_disable": True,
            "loglevel": "warning",
        }
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> "Flask":
        return create_app(self._model.read_bytes())


def create_app(model: bytes) -> "Flask":
    import numpy as np
    from flask import Flask, Response, jsonify, request

    from models.versions.runner import session

    app, runner = Flask("plain"), session(model)

    @app.get("/ready")
    def ready() -> Response:
        return jsonify(ready=True)

    @app.post("/v2/models/digits/infer")
    def infer() -> Response:
        if LENGTH in request.headers:
            return binary(request.get_data(), int(request.headers[LENGTH]))
        tensor = request.get_json(force=True)["inputs"][0]
        x = np.asarray(tensor["data"], dtype=np.float32).reshape(tensor["shape"])
        (logits,) = runner.run(["logits"], {"input": x})
        output = {"name": "logits", "shape": list(logits.shape), "datatype": "FP32"}
        data = logits.ravel().tolist()
        return jsonify({"model_name": "digits", "outputs": [{**output, "data": data}]})

    def binary(body: bytes, length: int) -> Response:
        shape = json.loads(body[:length])["inputs"][0]["shape"]
        x = np.frombuffer(body, np.float32, offset=length).reshape(shape)
        (logits,) = runner.run(["logits"], {"input": x})
        output = {"name": "logits", "shape": list(logits.shape), "datatype": "FP32"}
        size = {"parameters": {"binary_data_size": logits.nbytes}}
        header = json.dumps({"model_name": "digits", "outputs": [{**output, **size}]}).encode()
        told = {LENGTH: str(len(header))}
        return Response(
            header + logits.tobytes(), headers=told, mimetype="application/octet-stream"
        )

    return app


if __name__ == "__main__":
    Plain(*sys.argv[1:]).run()
