"""Validation of received messages: which of them are finite vectors of the right shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from byzbench.core import ByzantineMessages


@dataclass(frozen=True)
class ValidatedMessages:
    """Messages after validation.

    Attributes:
        vectors: float32 [E, d]; zero where a message is malformed or missing.
        malformed: bool [E], True for a message that is non-finite or has a wrong shape or type. It proves that the
            sender is faulty.
        silent: bool [E], True for a missing message.
    """

    vectors: Tensor
    malformed: Tensor
    silent: Tensor


def validate_messages(messages: ByzantineMessages, count: int, dimension: int) -> ValidatedMessages:
    """Split messages into valid, malformed and missing ones. Never raises for any content.

    Args:
        messages: the messages of Byzantine agents; their content is not trusted.
        count: the expected number of messages, E.
        dimension: the expected number of coordinates, d.

    Returns:
        The messages as float32 vectors, with flags for malformed and missing ones.

    Example:
        >>> messages = ByzantineMessages([torch.ones(2), torch.tensor([1.0, torch.nan]), None])
        >>> checked = validate_messages(messages, count=3, dimension=2)
        >>> checked.malformed, checked.silent
        (tensor([False,  True, False]), tensor([False, False,  True]))
    """
    content = messages.vectors
    none_flagged = torch.from_numpy(np.zeros(count, dtype=bool))
    silent, malformed = none_flagged, none_flagged
    if isinstance(messages.silent, Tensor) and messages.silent.shape == (count,):
        silent = messages.silent.detach().cpu().bool()
    if isinstance(content, Tensor) and content.shape == (count, dimension) and content.is_floating_point():
        vectors = content.detach().to("cpu", torch.float32)
    else:
        entries = list(content) if isinstance(content, list | tuple) and len(content) == count else [content] * count
        parsed = [_parse_vector(entry, dimension) for entry in entries]
        silent = silent | torch.tensor([entry is None for entry in entries])
        malformed = torch.tensor([vector is None for vector in parsed])
        vectors = torch.stack([torch.zeros(dimension) if v is None else v for v in parsed])
    finite = np.isfinite(vectors.numpy())
    if silent is none_flagged and malformed is none_flagged and finite.all():
        return ValidatedMessages(vectors, none_flagged, none_flagged)
    malformed = (malformed | ~torch.from_numpy(finite.all(1))) & ~silent
    return ValidatedMessages(vectors.masked_fill((malformed | silent).unsqueeze(1), 0.0), malformed, silent)


def _parse_vector(entry: Any, dimension: int) -> Tensor | None:
    """Return one message as a float32 vector, or None if its type or shape is wrong."""
    if isinstance(entry, np.ndarray) and np.issubdtype(entry.dtype, np.floating):
        entry = torch.from_numpy(np.array(entry))
    if isinstance(entry, Tensor) and entry.shape == (dimension,) and entry.is_floating_point():
        return entry.detach().to("cpu", torch.float32)
    return None
