"""Scores in the graph, evidence over the stream, triggers and the lifecycle."""

import models as models  # before any dependency: it keeps onnxruntime from reporting
