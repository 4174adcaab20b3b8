"""Validation of messages: data of any kind becomes finite vectors, or is malformed.

Only exact types on a list are read, by methods of torch and NumPy that no data can replace. So nothing that a Byzantine
agent sends runs code of its own here, raises an error or takes long.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from byzbench.core.adversary import ByzantineMessages
from byzbench.core.component import State

FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
"""The types of numbers that a message may have."""

STORABLE = FLOATS | {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
"""The types of numbers that a state may have."""

_FLAGS = frozenset({torch.bool})

_ARRAY_FLOATS = "efd"
"""The same for NumPy arrays: the characters of float16, float32 and float64."""


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


def validate_messages(messages: object, count: int, dimension: int) -> ValidatedMessages:
    """Split messages into valid, malformed and missing ones. Never raises for any content.

    A valid message is a tensor or a NumPy array of floats, or a list of numbers, with d coordinates that are finite in
    float32. The type must be exact: an instance of a subclass is malformed.

    Args:
        messages: a `ByzantineMessages`, whose content is not trusted; all messages of anything else are malformed.
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
    vectors, flags = torch.zeros(count, dimension), torch.zeros(2, count, dtype=torch.bool)
    malformed, silent = flags
    content: object = ()
    if type(messages) is ByzantineMessages:
        content = getattr(messages, "vectors", ())
        _fill(silent, plain_tensor(messages.silent, _FLAGS))
    if not _fill(vectors, _read(content, vectors)):
        entries: list[object] | tuple[object, ...] = [content] * count  # one vector for all
        if type(content) is list or type(content) is tuple:
            entries = content if len(content) == count else [()] * count
        for row, entry in enumerate(entries):
            if entry is None:
                silent[row] = True
            elif not _fill(vectors[row], _read(entry, vectors[row])):
                malformed[row] = True
    finite = np.isfinite(vectors.numpy())
    if not finite.all() or flags.any():
        malformed |= torch.from_numpy(~finite.all(1))
        vectors.masked_fill_((malformed | silent).unsqueeze(1), 0.0)
        malformed &= ~silent
    return ValidatedMessages(vectors, malformed, silent)


def plain_tensor(value: object, dtypes: frozenset[torch.dtype]) -> Tensor | None:
    """Return a value without its graph if it is an ordinary tensor that can be read, or None.

    Args:
        value: the value, which is not trusted.
        dtypes: the allowed types of numbers.

    Returns:
        The tensor, which may share the memory; None for subclasses, for sparse, nested or quantised tensors, for those
        without data, and for other types of numbers.

    Example:
        >>> plain_tensor(torch.ones(2, requires_grad=True), FLOATS)
        tensor([1., 1.])
        >>> plain_tensor(torch.ones(2).to_sparse(), FLOATS) is None
        True
    """
    if not (type(value) is Tensor or type(value) is torch.nn.Parameter):
        return None
    try:
        tensor = Tensor.detach(value)  # methods of an instance can be replaced, those of the result cannot
        if tensor.layout is not torch.strided or tensor.is_nested or tensor.dtype not in dtypes:
            return None
        if tensor.device.type not in ("cpu", "cuda") or tensor._is_zerotensor():
            return None
        # The storage of a tensor can be smaller than its shape says, and reading beyond it ends the process.
        last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
        needed = (tensor.storage_offset() + last + 1) * tensor.itemsize
        if tensor.numel() and tensor.untyped_storage().nbytes() < needed:
            return None
        return tensor.resolve_neg()
    except (RuntimeError, ValueError):  # a wrapper of a transform of torch.func that has ended, and the like
        return None


def plain_state(state: object) -> State:
    """Return a state, or the memory of an attack, as ordinary tensors that a checkpoint can hold.

    Args:
        state: the state that a component returned, which is not trusted.

    Raises:
        TypeError: it is no dict of such tensors by name; the message is the end of a sentence.

    Example:
        >>> plain_state({"mean": 0.5})
        Traceback (most recent call last):
        TypeError: must be a dict of tensors by name, got float for 'mean'
    """
    plain: State = {}
    wrong = "" if type(state) is dict else type(state).__name__
    for name, part in state.items() if type(state) is dict else ():
        if type(name) is not str or not name.isprintable():
            wrong = f"the key {name!r}" if type(name) is str else f"a key of type {type(name).__name__}"
        elif (tensor := plain_tensor(part, STORABLE)) is None:
            what = f"{part.layout} {part.dtype}" if type(part) is Tensor else type(part).__name__
            wrong = f"{what} for {name!r}"
        else:
            plain[name] = tensor
    if wrong:
        raise TypeError(f"must be a dict of tensors by name, got {wrong}")
    return plain


def _read(source: object, target: Tensor) -> Tensor | None:
    """Read a message as a tensor; return None if it is no array of floats.

    Args:
        source: the message, which is not trusted.
        target: [d] or [E, d], what the message is for. Arrays and lists are read at this size only, and lists for [d].
    """
    if type(source) is np.ndarray:
        valid = source.dtype.char in _ARRAY_FLOATS and source.dtype.isnative and source.shape == target.shape
        return torch.from_numpy(source.copy()) if valid else None  # a copy, as torch reads no negative strides
    if type(source) is list or type(source) is tuple:
        valid = target.ndim == 1 and len(source) == len(target)
        if not (valid and all(type(number) is float or type(number) is int for number in source)):
            return None
        try:
            return torch.tensor(source, dtype=torch.float64)
        except (OverflowError, RuntimeError):  # an integer beyond float64
            return None
    return plain_tensor(source, FLOATS)


def _fill(target: Tensor, tensor: Tensor | None) -> bool:
    """Copy a tensor into another one of the same shape; return False, and copy nothing, if it has another one."""
    if tensor is None or tensor.shape != target.shape:
        return False
    try:
        target.copy_(tensor)
    except RuntimeError:  # a wrapper of a transform of torch.func that has ended
        return False
    return True
