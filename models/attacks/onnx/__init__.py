"""The gradient of a served graph: ONNX operators as torch functions."""
