"""The first thing that happens to a message: is it a vector at all?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from byzbench.contracts import Speech


@dataclass(frozen=True)
class Screened:
    """Messages after screening.

    Attributes:
        vectors: float32 [E, d]; zero where there is no vector to use.
        malformed: bool [E], non-finite, of the wrong shape or of the wrong type: proof that the sender is faulty.
        silent: bool [E], nothing came.
    """

    vectors: Tensor
    malformed: Tensor
    silent: Tensor


def screen(speech: Speech, count: int, dimension: int) -> Screened:
    """Sort `count` messages into vectors of `dimension` finite numbers, rubbish and silence. Never raises."""
    said = speech.vectors
    nobody = torch.from_numpy(np.zeros(count, dtype=bool))
    silent, malformed = nobody, nobody
    if isinstance(speech.silent, Tensor) and speech.silent.shape == (count,):
        silent = speech.silent.detach().cpu().bool()
    if isinstance(said, Tensor) and said.shape == (count, dimension) and said.is_floating_point():
        vectors = said.detach().to("cpu", torch.float32)
    else:
        entries = list(said) if isinstance(said, list | tuple) and len(said) == count else [said] * count
        read = [_read(entry, dimension) for entry in entries]
        silent = silent | torch.tensor([entry is None for entry in entries])
        malformed = torch.tensor([vector is None for vector in read])
        vectors = torch.stack([torch.zeros(dimension) if v is None else v for v in read])
    finite = np.isfinite(vectors.numpy())
    if silent is nobody and malformed is nobody and finite.all():
        return Screened(vectors, nobody, nobody)
    malformed = (malformed | ~torch.from_numpy(finite.all(1))) & ~silent
    return Screened(vectors.masked_fill((malformed | silent).unsqueeze(1), 0.0), malformed, silent)


def _read(entry: Any, dimension: int) -> Tensor | None:
    if isinstance(entry, np.ndarray) and np.issubdtype(entry.dtype, np.floating):
        entry = torch.from_numpy(np.array(entry))
    if isinstance(entry, Tensor) and entry.shape == (dimension,) and entry.is_floating_point():
        return entry.detach().to("cpu", torch.float32)
    return None
