"""From somebody else's ONNX classifier to the plain graph that score heads are added to.

file ── read ── prepare (functions, opset, names, batch) ──┐
data ── plans (layout x scale, columns) ───────────────────┼── choose ── build ── parity
outputs (logits? softmax? ZipMap?) ── labels (order) ──────┘
"""

from models.adapt.read import read_model
from models.adapt.steps import Adapted, Options, adapt

__all__ = ["Adapted", "Options", "adapt", "read_model"]
