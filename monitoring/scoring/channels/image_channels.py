"""Channels of images that look at the pixels alone: fine grain, and the layout of light and dark.

They see what the net is trained not to see, so they move long before its answers do.
"""

from dataclasses import dataclass

import numpy as np

from models.statistics.arrays import FloatArray
from monitoring.scoring.channels.image_statistics import input_statistics
from monitoring.scoring.graph import GraphBuilder
from monitoring.scoring.inputs import PlainAnswers, Tensors

GRID = 8  # cells of the coarse image along a side, at most
SHRINKAGE = 0.01  # of the covariance, towards the mean variance


@dataclass(frozen=True)
class Grain:
    """How rough the smooth parts are: mean of min(|Laplacian|, 4/255) over the inner pixels.

    Sensor noise, resampling, blur and compression move it; edges hardly count, for they are cut
    off. The Laplacian is the four-neighbour stencil, each channel for itself.
    """

    name: str = "grain"

    def scores(self, rows: PlainAnswers) -> FloatArray:
        """`(N,)`, in [0, 4/255]."""
        return input_statistics(rows.x_unit)[:, 3]

    def emit(self, graph: GraphBuilder, tensors: Tensors) -> str:
        """`(N, 1)`."""
        return graph.op("Slice", tensors.statistics, *(graph.const([n]) for n in (3, 4, 1)))


@dataclass(frozen=True)
class PixelDistance:
    """Mahalanobis distance of the coarse image, |(pool(x) - mean) W| / sqrt(D) (Lee et al. 2018).

    The image is averaged over blocks to at most 8 x 8 cells a channel. Where the light falls is
    known from training rows: what is moved, turned, inverted, brighter or foreign lies far off.

    Args:
        block: height and width of a block; what is left over at the right and below is not seen.
        mean: `(D,)` of the coarse training images.
        whitening: `(D, D)`, divided by sqrt(D).
    """

    block: tuple[int, int]
    mean: FloatArray
    whitening: FloatArray
    name: str = "pixel_distance"

    @classmethod
    def fit(cls, x_unit: FloatArray) -> "PixelDistance":
        """From training images `(R, C, H, W)`."""
        height, width = x_unit.shape[2:]
        block = (-(-height // GRID), -(-width // GRID))
        coarse = _pool_blocks(x_unit, block)
        size, mean = coarse.shape[1], coarse.mean(axis=0)
        covariance = (coarse - mean).T @ (coarse - mean) / len(coarse)
        covariance += (SHRINKAGE * np.trace(covariance) / size + 1e-6) * np.eye(size)
        whitening = np.linalg.cholesky(np.linalg.inv(covariance)) / np.sqrt(size)
        return cls(block, mean.astype(np.float32), whitening.astype(np.float32))

    def scores(self, rows: PlainAnswers) -> FloatArray:
        """`(N,)`, about 1 for rows like the training rows."""
        white = (_pool_blocks(rows.x_unit, self.block) - self.mean) @ self.whitening
        length: FloatArray = np.linalg.norm(white, axis=1)
        return length

    def emit(self, graph: GraphBuilder, tensors: Tensors) -> str:
        """`(N, 1)`."""
        coarse = tensors.x_unit
        if self.block != (1, 1):
            block = list(self.block)
            coarse = graph.op("AveragePool", coarse, kernel_shape=block, strides=block)
        moved = graph.const(-self.mean.astype(np.float64) @ self.whitening)
        white = graph.op("Gemm", graph.op("Flatten", coarse), graph.const(self.whitening), moved)
        return graph.op("ReduceL2", white, graph.const([1]), keepdims=1)


def _pool_blocks(x_unit: FloatArray, block: tuple[int, int]) -> FloatArray:
    """Means over whole blocks of `(N, C, H, W)`, as `(N, D)` float64."""
    x = np.asarray(x_unit, dtype=np.float64)
    (tall, wide), (height, width) = block, x.shape[2:]
    x = x[:, :, : height // tall * tall, : width // wide * wide]
    blocks = x.reshape(*x.shape[:2], height // tall, tall, width // wide, wide)
    coarse: FloatArray = blocks.mean(axis=(3, 5)).reshape(len(x), -1)
    return coarse
