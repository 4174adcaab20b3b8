"""Size of one coordinate of the honest vectors: the unit of attack strengths that are comparable between tasks."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor


def coordinate_size(honest: Tensor) -> float:
    """Return the median of ||x[i]|| / sqrt(d) over the honest vectors x [h, d].

    Example:
        >>> import torch
        >>> coordinate_size(torch.tensor([[1.0], [-2.0], [9.0]]))
        2.0
    """
    x = honest.cpu().numpy().astype(np.float64)
    lengths = np.sort(np.sqrt(np.einsum("id,id->i", x, x)))
    h, d = x.shape
    return float(lengths[(h - 1) // 2] + lengths[h // 2]) / 2 / math.sqrt(d)
