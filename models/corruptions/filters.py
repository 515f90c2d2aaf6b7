"""Batched filters and warps that corruptions are made of."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from models.corruptions.base import Images

Floats = npt.NDArray[np.floating[Any]]


def convolve(x: Images, kernels: Floats) -> Images:
    """Images `(N, C, H, W)` with one kernel `(k, k)` or one each `(N, k, k)`; edges mirrored.

    k is odd. By FFT, so that the cost hardly depends on k.
    """
    k = kernels.shape[-1]
    assert k % 2 == 1
    pad, (height, width) = k // 2, x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="symmetric")
    # What wraps around falls on the first k - 1 rows and columns, which are cut off.
    size = [fft.next_fast_len(n, real=True) for n in padded.shape[2:]]
    spectrum = fft.rfft2(np.atleast_3d(kernels.T).T.astype(np.float32)[:, None], s=size)
    full = fft.irfft2(fft.rfft2(padded, s=size) * spectrum, s=size)
    cut: Images = full[:, :, k - 1 : k - 1 + height, k - 1 : k - 1 + width]
    return cut


def disc(radius: float) -> Floats:
    """A filled disc with soft edges, sum 1, `(k, k)`; radius in pixels."""
    reach = int(np.ceil(radius + 0.5))
    v, u = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(u, v), 0, 1)
    scaled: Floats = kernel / kernel.sum()
    return scaled


def streaks(length: float, angle: Floats) -> Floats:
    """Line segments of `length` pixels, one per angle `(N,)` in radians; `(N, k, k)`, sums 1."""
    reach = int(np.ceil(length / 2)) + 1
    v, u = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    along, across = u * cos + v * sin, v * cos - u * sin
    beyond = np.maximum(np.abs(along) - length / 2, 0)
    kernels = np.clip(1 - np.hypot(beyond, across), 0, None)
    scaled: Floats = kernels / kernels.sum((1, 2), keepdims=True)
    return scaled


def grid(x: Images) -> tuple[Floats, Floats]:
    """Row and column of every pixel, `(H, W)` each."""
    rows, columns = np.mgrid[: x.shape[2], : x.shape[3]].astype(np.float32)
    return rows, columns


def sample(x: Images, rows: Floats, columns: Floats, *, black: bool = False) -> Images:
    """Images at real positions `(N, H, W)` in pixels, bilinear; mirrored or black outside."""
    n, channels, height, width = x.shape
    if black:
        x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        rows, columns = np.clip(rows + 1, 0, height + 1), np.clip(columns + 1, 0, width + 1)
    else:
        rows, columns = _mirror(rows, height), _mirror(columns, width)
    flat, across = x.reshape(n, channels, -1), x.shape[3]
    top = np.minimum(rows.astype(np.int64), x.shape[2] - 2 if x.shape[2] > 1 else 0)
    left = np.minimum(columns.astype(np.int64), across - 2 if across > 1 else 0)
    down, right = min(1, x.shape[2] - 1) * across, min(1, across - 1)
    v = (rows - top).reshape(n, 1, -1).astype(np.float32)
    u = (columns - left).reshape(n, 1, -1).astype(np.float32)
    at = (top * across + left).reshape(n, 1, -1)

    def take(offset: int) -> Images:
        return np.take_along_axis(flat, at + offset, axis=2)

    above = take(0) * (1 - u) + take(right) * u
    below = take(down) * (1 - u) + take(down + right) * u
    mixed = (above * (1 - v) + below * v).reshape(n, channels, *rows.shape[1:])
    return np.asarray(mixed, dtype=np.float32)


def warp(x: Images, matrices: Floats, shifts: Floats | None = None) -> Images:
    """Pixel p takes the value at c + A (p - c) + shift; black outside.

    Args:
        x: `(N, C, H, W)`.
        matrices: A, `(N, 2, 2)` on (row, column); c is the centre of the image.
        shifts: `(N, 2)` in pixels, or none.
    """
    rows, columns = grid(x)
    centre = (np.array(x.shape[2:], dtype=np.float32) - 1) / 2
    v, u = rows - centre[0], columns - centre[1]
    moved = np.zeros((len(x), 2)) if shifts is None else np.asarray(shifts)
    a = np.asarray(matrices, dtype=np.float32)[:, :, :, None, None]
    at = [a[:, i, 0] * v + a[:, i, 1] * u + centre[i] + moved[:, i, None, None] for i in (0, 1)]
    return sample(x, at[0], at[1], black=True)


def stretching(positions: Floats, size: int) -> Images:
    """The matrix `(P, size)` that reads a line of `size` values at real positions, bilinear."""
    at = np.clip(positions, 0, size - 1)[:, None]
    matrix: Images = np.clip(1 - np.abs(at - np.arange(size)), 0, None).astype(np.float32)
    return matrix


def averaging(size: int, parts: int) -> Images:
    """The matrix `(size, size)` that averages a line in `parts` equal parts and spreads them."""
    cuts = np.arange(parts + 1) * (size / parts)
    low, high = np.arange(size), np.arange(1, size + 1)
    shared = np.minimum(cuts[1:, None], high) - np.maximum(cuts[:-1, None], low)
    down = np.clip(shared, 0, None) * (parts / size)
    nearest = np.minimum(((np.arange(size) + 0.5) * parts / size).astype(int), parts - 1)
    matrix: Images = down[nearest].astype(np.float32)
    return matrix


def resample(x: Images, rows: Images, columns: Images) -> Images:
    """R x C^T on every channel, with R `(P, H)` and C `(Q, W)`."""
    resampled: Images = np.matmul(np.matmul(rows, x), columns.T)
    return resampled


def _mirror(at: Floats, size: int) -> Floats:
    folded = np.mod(at + 0.5, 2 * size)
    inside: Floats = np.clip(np.minimum(folded, 2 * size - folded) - 0.5, 0, size - 1)
    return inside
