"""Statistics of images: mean, gradient, Laplacian, grain, as NumPy maths and as nodes of the graph.

In the graph one convolution, whose answers are cut to [0, 8], and a global mean give all of them:
|v| is max(v, 0) + max(-v, 0), and min(|v|, c) is the same of v 8 / c, times c / 8. (As a difference
of two means the grain would lose four digits in float32.) The filters that the perturbation head
learns stand in the same convolution (`monitoring.scoring.perturbation`).
"""

import numpy as np
import numpy.typing as npt

from models.statistics.arrays import FloatArray
from monitoring.scoring.graph import GraphBuilder

GRAIN_LIMIT = 4 / 255  # about the smallest noise that an eye sees on a screen
PER_CHANNEL = 8  # filters that the statistics take
CAP = 8.0  # answers of filters are cut here; no gradient or Laplacian of [0, 1] reaches it


def input_statistics(x_unit: FloatArray) -> npt.NDArray[np.float64]:
    """Mean, mean |gradient|, mean |Laplacian| and mean of min(|Laplacian|, 4/255); `(N, 4)`.

    Gradients are central differences of inner pixels in both directions, the Laplacian is the
    four-neighbour stencil. `x_unit` is `(N, channels, height, width)` in [0, 1].
    """
    x = np.asarray(x_unit, dtype=np.float64)
    right = (x[..., 1:-1, 2:] - x[..., 1:-1, :-2]) / 2
    down = (x[..., 2:, 1:-1] - x[..., :-2, 1:-1]) / 2
    rough = np.abs(laplacian(x))
    axes = (1, 2, 3)
    return np.stack(
        [
            x.mean(axes),
            np.abs(right).mean(axes) + np.abs(down).mean(axes),
            rough.mean(axes),
            np.minimum(rough, GRAIN_LIMIT).mean(axes),
        ],
        axis=1,
    )


def laplacian(x: FloatArray) -> FloatArray:
    """The four-neighbour stencil at the inner pixels, `(..., height - 2, width - 2)`."""
    around = x[..., 1:-1, 2:] + x[..., 1:-1, :-2] + x[..., 2:, 1:-1] + x[..., :-2, 1:-1]
    rough: FloatArray = around - 4 * x[..., 1:-1, 1:-1]
    return rough


def stencils(channels: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The filters of the statistics, `(8 C, C, 3, 3)`, and their bias `(8 C,)`.

    Of every channel: both gradients and the Laplacian, each with both signs, and the Laplacian
    with both signs once more, so large that 4/255 reaches the cap.
    """
    one = np.zeros((3, 3, 3), dtype=np.float32)
    one[0, 1, 0], one[0, 1, 2] = -0.5, 0.5
    one[1, 0, 1], one[1, 2, 1] = -0.5, 0.5
    one[2, 0, 1] = one[2, 1, 0] = one[2, 1, 2] = one[2, 2, 1] = 1.0
    one[2, 1, 1] = -4.0
    right, down, rough = one
    fine = rough * np.float32(CAP / GRAIN_LIMIT)
    filters = np.stack([right, -right, down, -down, rough, -rough, fine, -fine])
    kernels = np.zeros((channels, PER_CHANNEL, channels, 3, 3), dtype=np.float32)
    for channel in range(channels):
        kernels[channel, :, channel] = filters
    bias = np.zeros(channels * PER_CHANNEL, dtype=np.float32)
    return kernels.reshape(-1, channels, 3, 3), bias


def merge_matrix(channels: int, filters: int) -> npt.NDArray[np.float32]:
    """`(filters, 3)`: what of the means of all filters are gradient, Laplacian and grain."""
    fine = [[0, 0, GRAIN_LIMIT / CAP]] * 2
    own = np.array([[1, 0, 0]] * 4 + [[0, 1, 0]] * 2 + fine, dtype=np.float32)
    merged = np.zeros((filters, 3), dtype=np.float32)
    merged[: channels * PER_CHANNEL] = np.tile(own, (channels, 1)) / channels
    return merged


def emit_input_statistics(graph: GraphBuilder, x_unit: str, means: str, merge: str) -> str:
    """`input_statistics` as nodes, `(N, 4)`: of the image, and of the means `(N, F)` of filters."""
    mean = graph.op("ReduceMean", x_unit, graph.const([1, 2, 3]), keepdims=1)
    return graph.op("Concat", graph.op("Flatten", mean), graph.op("MatMul", means, merge), axis=1)
