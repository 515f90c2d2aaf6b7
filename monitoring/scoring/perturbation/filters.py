"""Learned filters on the image: the part of the perturbation head's evidence that sees pixels.

A change that fools a net leaves traces which no logit shows: weak structure on flat ground, steps
between neighbours that pictures do not have. A few small filters find them.
"""

from dataclasses import dataclass

import numpy as np

from models.statistics.arrays import FloatArray
from monitoring.scoring.graph import GraphBuilder


@dataclass(frozen=True)
class Filters:
    """K filters of k x k, rectified; per filter the mean and the largest answer of the image.

    r_f = max(w_f * x + b_f, 0); the evidence is (mean r_1 .. mean r_K, max r_1 .. max r_K).

    Args:
        kernels: `(K, channels, k, k)`, k odd; edges are padded with black.
        bias: `(K,)`.
        stride: in pixels.
    """

    kernels: FloatArray
    bias: FloatArray
    stride: int

    def pool(self, x_unit: FloatArray) -> FloatArray:
        """`(N, 2 K)` of images `(N, channels, height, width)` in [0, 1]."""
        k = self.kernels.shape[-1]
        around = ((0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2))
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(x_unit, around), (k, k), (2, 3))
        windows = windows[:, :, :: self.stride, :: self.stride]
        answers = np.einsum("nchwij,fcij->nfhw", windows, self.kernels, optimize=True)
        answers = np.maximum(answers + self.bias[:, None, None], 0)
        return np.concatenate([answers.mean((2, 3)), answers.max((2, 3))], axis=1)

    def emit(self, graph: GraphBuilder, x_unit: str) -> str:
        """Nodes for `pooled`, `(N, 2 K)`."""
        pad, stride = self.kernels.shape[-1] // 2, self.stride
        kernels, bias = graph.const(self.kernels), graph.const(self.bias)
        answers = graph.op("Conv", x_unit, kernels, bias, pads=[pad] * 4, strides=[stride] * 2)
        answers = graph.op("Relu", answers)
        axes = graph.const([2, 3])
        pooled = (graph.op(f"Reduce{how}", answers, axes, keepdims=0) for how in ("Mean", "Max"))
        return graph.op("Concat", *pooled, axis=1)
