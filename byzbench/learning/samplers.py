"""How policies act, step by step, in NumPy: on arrays as small as these it is several times as fast as torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

Layers: TypeAlias = list[tuple[Tensor, Tensor]]
"""Weight [K, in, out] and bias [K, 1, out] of each layer of a network."""

Sampler: TypeAlias = Callable[[int, np.ndarray], np.ndarray]
"""(step t, observations [K, N, o]) -> actions [K, N, *a], new ones."""

ONE_THREAD = 1 << 18
"""The most multiplications for which NumPy's BLAS starts no threads, on whose number sums may depend."""

AHEAD = 64
"""Steps whose noise is made ready together; short episodes never need the rest."""


def categorical(layers: Layers, squashed: bool, uniforms: Tensor | None) -> Sampler:
    """Draws by inverse CDF from uniforms [K, T, N], so that a draw depends on its own row and stream alone.

    Two actions take a short way: u > sigmoid(l0 - l1) is the same as logit(u) > l0 - l1, which turns the whole draw
    into one comparison with thresholds that are ready before the step. Scores are [K, actions, N], so that NumPy works
    along the long axis.

    Args:
        layers: of the network; its outputs are logits.
        squashed: whether these go through tanh.
        uniforms: in [0, 1); or None: take the likeliest actions.
    """
    *layers, (weight, bias) = layers
    binary = uniforms is not None and weight.shape[2] == 2 and not squashed
    if binary:
        weight, bias = weight[..., :1] - weight[..., 1:], bias[..., :1] - bias[..., 1:]
    inner, last = _arrays(layers), _arrays([(weight.transpose(1, 2), bias.transpose(1, 2))])[0]

    def score(observations: np.ndarray) -> np.ndarray:
        return _affine(last[0], _hidden(inner, observations).transpose(0, 2, 1), last[1])

    if uniforms is None:
        return lambda t, observations: score(observations).argmax(1)

    thresholds = _Ahead(uniforms, (lambda part: part.double().logit().to(part.dtype)) if binary else torch.clone)

    def choose(t: int, observations: np.ndarray) -> np.ndarray:
        scores = score(observations)
        if binary:
            return (thresholds(t) > scores[:, 0]).astype(np.int64)
        if squashed:
            np.tanh(scores, out=scores)
        scores -= scores.max(1, keepdims=True)
        cdf = np.exp(scores, out=scores).cumsum(1)
        threshold = thresholds(t)[:, None] * cdf[:, -1:]
        return (threshold > cdf[:, :-1]).sum(1)

    return choose


def gaussian(layers: Layers, std: Tensor, normals: Tensor | None) -> Sampler:
    """Mean of the network, plus std [K, 1, a] times normals [K, T, N, a], if there are any."""
    *inner, last = _arrays(layers)
    spread = None if normals is None else _Ahead(normals, lambda part: part * std.unsqueeze(1))

    def choose(t: int, observations: np.ndarray) -> np.ndarray:
        u = _affine(_hidden(inner, observations), *last)
        if spread is not None:
            u += spread(t)
        return u

    return choose


def _arrays(layers: Layers) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(weight.contiguous().numpy(), bias.contiguous().numpy()) for weight, bias in layers]


def _affine(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """X [K, M, i], weight [K, i, j], bias [K, 1, j] or [K, M, 1] -> [K, M, j]."""
    if x.shape[1] * weight[0].size > ONE_THREAD:
        return torch.baddbmm(*(torch.from_numpy(part) for part in (bias, x, weight))).numpy()
    y = np.matmul(x, weight)
    y += bias
    return y


def _hidden(layers: list[tuple[np.ndarray, np.ndarray]], x: np.ndarray) -> np.ndarray:
    """What comes out of hidden layers: [K, N, o] -> [K, N, width]."""
    for weight, bias in layers:
        x = _affine(x, weight, bias)
        np.tanh(x, out=x)
    return x


class _Ahead:
    """Noise [K, T, N, *a], made ready for some steps together."""

    def __init__(self, noise: Tensor, prepare: Callable[[Tensor], Tensor]) -> None:
        self._noise, self._prepare = noise, prepare
        self._ready, self._first = np.empty((0, 0)), 0

    def __call__(self, t: int) -> np.ndarray:
        """That of step t, [K, N, *a]."""
        if not 0 <= t - self._first < self._ready.shape[1]:
            # Contiguous, as noise is drawn episode by episode, and a step's numbers lie far apart in it.
            self._ready = self._prepare(self._noise[:, t : t + AHEAD].contiguous()).numpy()
            self._first = t
        return self._ready[:, t - self._first]
