"""From somebody else's ONNX classifier to the plain graph that score heads are added to.

file ── read ── prepare (functions, opset, names, batch) ──┐
data ── plans (layout x scale, columns) ───────────────────┼── choose ── build ── parity
outputs (logits? softmax? ZipMap?) ── labels (order) ──────┘
"""

from models.wrapping.read import read_model
from models.wrapping.steps import Adapted, Options, adapt

__all__ = ["Adapted", "Options", "adapt", "read_model"]
