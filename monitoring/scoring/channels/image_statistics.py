"""Statistics of images: mean, gradient and Laplacian, as NumPy maths and as nodes of the graph."""

import numpy as np
import numpy.typing as npt

from models.statistics.arrays import FloatArray
from monitoring.scoring.graph import GraphBuilder


def input_statistics(x_unit: FloatArray) -> npt.NDArray[np.float64]:
    """Mean, mean |gradient|, mean |Laplacian|, and root mean squares of both; `(N, 5)`.

    Gradients are central differences of inner pixels in both directions, the Laplacian is the
    four-neighbour stencil. `x_unit` is `(N, channels, height, width)` in [0, 1].
    """
    x = np.asarray(x_unit, dtype=np.float64)
    right = (x[..., 1:-1, 2:] - x[..., 1:-1, :-2]) / 2
    down = (x[..., 2:, 1:-1] - x[..., :-2, 1:-1]) / 2
    rough = laplacian(x)
    axes = (1, 2, 3)
    gradient = np.abs(right).mean(axes) + np.abs(down).mean(axes)
    squares = (right**2).mean(axes) + (down**2).mean(axes)
    return np.stack(
        [
            x.mean(axes),
            gradient,
            np.abs(rough).mean(axes),
            np.sqrt(squares),
            np.sqrt((rough**2).mean(axes)),
        ],
        axis=1,
    )


def laplacian(x: FloatArray) -> FloatArray:
    """The four-neighbour stencil at the inner pixels, `(..., height - 2, width - 2)`."""
    around = x[..., 1:-1, 2:] + x[..., 1:-1, :-2] + x[..., 2:, 1:-1] + x[..., :-2, 1:-1]
    rough: FloatArray = around - 4 * x[..., 1:-1, 1:-1]
    return rough


def emit_edges(graph: GraphBuilder, x_unit: str, channels: int) -> str:
    """Both gradients and the Laplacian of every channel, `(N, 3 * channels, ...)`: one convolution.

    `[:, 2::3]` is the Laplacian.
    """
    stencils = np.zeros((3, 3, 3), dtype=np.float32)
    stencils[0, 1, 0], stencils[0, 1, 2] = -0.5, 0.5
    stencils[1, 0, 1], stencils[1, 2, 1] = -0.5, 0.5
    stencils[2, 0, 1] = stencils[2, 1, 0] = stencils[2, 1, 2] = stencils[2, 2, 1] = 1.0
    stencils[2, 1, 1] = -4.0
    kernels = np.tile(stencils[:, None], (channels, 1, 1, 1))
    return graph.op("Conv", x_unit, graph.const(kernels), group=channels)


def emit_input_statistics(graph: GraphBuilder, x_unit: str, edges: str, channels: int) -> str:
    """`input_statistics` as nodes: reductions of the image and of its `emit_edges`."""
    axes = graph.const([2, 3])
    absolute = graph.op("ReduceMean", graph.op("Abs", edges), axes, keepdims=0)
    square = graph.op("ReduceMean", graph.op("Mul", edges, edges), axes, keepdims=0)
    merge = np.tile(np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32), (channels, 1)) / channels
    columns = graph.const(merge)
    mean = graph.op("ReduceMean", x_unit, graph.const([1, 2, 3]), keepdims=1)
    return graph.op(
        "Concat",
        graph.op("Flatten", mean),
        graph.op("MatMul", absolute, columns),
        graph.op("Sqrt", graph.op("MatMul", square, columns)),
        axis=1,
    )
