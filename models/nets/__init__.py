"""Nets, and a net as ONNX."""
