"""From somebody else's ONNX classifier to the plain graph that score heads are added to.

file ── read ── prepare (functions, opset, names, batch) ──┐
data ── plans (layout x scale, columns) ───────────────────┼── choose ── build ── parity
outputs (logits? softmax? ZipMap?) ── labels (order) ──────┘
"""

from models.wrapping.graphs.read import Model, read_model
from models.wrapping.options import Options
from models.wrapping.steps import Adapted, adapt

__all__ = ["Adapted", "Model", "Options", "adapt", "read_model"]
