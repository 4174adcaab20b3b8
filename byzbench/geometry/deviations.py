"""The standard deviation of the coordinates of vectors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from byzbench.geometry.pairwise_distances import is_small, to_array, to_tensor


def standard_deviations(x: Tensor, ddof: int = 1) -> Tensor:
    """Return the standard deviation of each coordinate of x [n, d]: [d] in the dtype of x.

    It is `x.std(0)`, to the bit. On a few vectors, torch takes most of its time to start each of the d sums.

    Args:
        x: [n, d], float32 or float64.
        ddof: the difference of the divisor from n; n - ddof is positive.

    Example:
        >>> standard_deviations(torch.tensor([[1.0, 2.0], [3.0, 2.0]]), ddof=0)
        tensor([1., 0.])
    """
    # A single coordinate is a sum of its own in torch, in another order.
    if not is_small(x) or len(x) <= ddof or x.shape[1] == 1 or x.dtype not in (torch.float32, torch.float64):
        return x.std(0, correction=ddof)
    rows = to_array(x)
    mean, squares = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    with np.errstate(all="ignore"):  # as torch: what overflows is infinite or NaN
        for count, row in enumerate(rows, 1):  # Welford's sums, in the order of torch
            difference = row - mean
            mean += difference / count
            squares += difference * (row - mean)
        return to_tensor(np.sqrt(squares / (len(rows) - ddof)).astype(rows.dtype, copy=False), x)
