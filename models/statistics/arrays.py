"""Names of array types: floats and integers of any width, and truths."""

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.integer[Any]]
Bools = npt.NDArray[np.bool_]
