"""The size of one coordinate of an honest vector: the unit of strengths that should mean the same on every task."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor


def coordinate_size(honest: Tensor) -> float:
    """The median of ||x[i]|| / sqrt(d) over the honest vectors x [h, d]."""
    x = honest.cpu().numpy().astype(np.float64)
    lengths = np.sort(np.sqrt(np.einsum("id,id->i", x, x)))
    h, d = x.shape
    return float(lengths[(h - 1) // 2] + lengths[h // 2]) / 2 / math.sqrt(d)
