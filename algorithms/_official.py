"""Differences between the released code of DecByzPG (Jordan et al., arXiv 2401.03489) and its pseudo-code.

For every difference a parameter of the PAGE family chooses between the two. The preset `official` chooses the code for
all of them; this module holds its values. Two differences need no parameter:

- The server of the code is the last agent. All others copy its parameters, and discard their own aggregates (Q10). All
  agents then start from the same point, so this equals a trusted server that receives what the last agent receives.
- Byzantine agents of the code run the honest protocol and change only the messages that they send (Q11), as here.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

OFFICIAL = {"reference": "local", "snapshot": "after_step", "weights": "product", "logits": "tanh"}
OFFICIAL_RFA = "rfa(nu=0.1, relative=False, steps=8, start=zero)"
OFFICIAL_MDA = "mda(stop=observer, cap=100000)"


def official_initial(sizes: tuple[int, ...]) -> Tensor:
    """Return the initial policy parameters of the released code, in the order of this package: float32 [d].

    The code seeds torch with 0 and builds the layers, whose default initial values consume numbers of the generator.
    It then draws every tensor again, uniformly within 1/sqrt(its last dimension). Its weights are [out, in], those of
    this package [in, out].
    """
    rng = torch.Generator().manual_seed(0)
    shapes = [shape for i, o in pairwise(sizes) for shape in ((o, i), (o,))]
    for shape in shapes:
        torch.empty(shape).uniform_(generator=rng)
    tensors = [torch.empty(shape).uniform_(-(shape[-1] ** -0.5), shape[-1] ** -0.5, generator=rng) for shape in shapes]
    return torch.cat([(t.T if t.dim() == 2 else t).flatten() for t in tensors])


def official_uniform(round: int) -> float:
    """Return the uniform number of the released code's coin in a round after the first: NumPy's legacy stream, seed 0.

    Example:
        >>> official_uniform(1)
        0.5488135039273248
    """
    legacy = np.random.RandomState(0)
    return float(legacy.random_sample(max(round, 1))[-1])
