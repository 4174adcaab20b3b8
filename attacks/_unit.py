"""The size of one coordinate of an honest vector: the unit of strengths that should mean the same on every task."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def coordinate_size(honest: Tensor) -> float:
    """The median of ||x[i]|| / sqrt(d) over the honest vectors x [h, d]."""
    lengths = torch.linalg.vector_norm(honest, dim=1, dtype=torch.float64).sort().values
    h, d = honest.shape
    return float(lengths[(h - 1) // 2] + lengths[h // 2]) / 2 / math.sqrt(d)
