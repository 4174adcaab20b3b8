"""Samplers of actions in NumPy, which is several times as fast as torch on arrays as small as these."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

Layers: TypeAlias = list[tuple[Tensor, Tensor]]
"""The weight [K, in, out] and the bias [K, 1, out] of each layer of a network."""

Sampler: TypeAlias = Callable[[int, np.ndarray], np.ndarray]
"""A function of (step t, observations [K, N, o]) that returns new actions [K, N, *a]."""

Score: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""A function of observations, float32 [K, N, o], that returns the outputs of a network, [K, N, m], in a new array."""

ONE_THREAD = 1 << 18
"""The largest number of multiplications for which NumPy's BLAS uses one thread; sums may depend on their number."""

AHEAD = 64
"""The number of steps whose noise is prepared together; short episodes never need the rest."""


def network_score(layers: Layers, activation: str) -> Score:
    """Return the outputs of a network of dense layers as a function of observations.

    Args:
        layers: The layers of the network.
        activation: `tanh` or `relu`, the function after each hidden layer.
    """
    *inner, last = _arrays(layers)
    return lambda observations: _affine(_hidden(inner, observations, activation), *last)


def network_categorical(layers: Layers, activation: str, squashed: bool, uniforms: Tensor | None) -> Sampler:
    """Return the sampler `categorical` of a network of dense layers, which is faster.

    Two actions are a special case: u > sigmoid(l0 - l1) is the same as logit(u) > l0 - l1, so a draw is one comparison
    with a threshold that is computed before the step. Scores are of shape [K, actions, N], so that NumPy works along
    the long axis.

    Args:
        layers: The layers of the network, whose outputs are logits.
        activation: The function after each hidden layer.
        squashed: Whether the logits pass through tanh.
        uniforms: The uniform numbers in [0, 1), [K, T, N]; None: take the likeliest actions.
    """
    *layers, (weight, bias) = layers
    binary = uniforms is not None and weight.shape[2] == 2 and not squashed
    if binary:
        weight, bias = weight[..., :1] - weight[..., 1:], bias[..., :1] - bias[..., 1:]
    inner, last = _arrays(layers), _arrays([(weight.transpose(1, 2), bias.transpose(1, 2))])[0]

    def score(observations: np.ndarray) -> np.ndarray:
        return _affine(last[0], _hidden(inner, observations, activation).transpose(0, 2, 1), last[1])

    if not binary or uniforms is None:
        return _inverse_cdf(score, squashed, uniforms)
    thresholds = _PreparedNoise(uniforms, lambda u: u.double().logit().to(u.dtype))
    return lambda t, observations: (thresholds(t) > score(observations)[:, 0]).astype(np.int64)


def categorical(score: Score, squashed: bool, uniforms: Tensor | None) -> Sampler:
    """Return a sampler of a categorical policy, which draws by inverse CDF.

    A draw depends on its own row and random stream only.

    Args:
        score: The logits of observations.
        squashed: Whether the logits pass through tanh.
        uniforms: The uniform numbers in [0, 1), [K, T, N]; None: take the likeliest actions.
    """
    return _inverse_cdf(lambda observations: score(observations).transpose(0, 2, 1), squashed, uniforms)


def _inverse_cdf(score: Score, squashed: bool, uniforms: Tensor | None) -> Sampler:
    """Return the sampler of scores [K, actions, N]."""
    if uniforms is None:
        return lambda t, observations: score(observations).argmax(1)
    thresholds = _PreparedNoise(uniforms, torch.clone)

    def choose(t: int, observations: np.ndarray) -> np.ndarray:
        scores = score(observations)
        if squashed:
            np.tanh(scores, out=scores)
        scores -= scores.max(1, keepdims=True)
        cdf = np.exp(scores, out=scores).cumsum(1)
        threshold = thresholds(t)[:, None] * cdf[:, -1:]
        return (threshold > cdf[:, :-1]).sum(1)

    return choose


def gaussian(score: Score, std: Tensor, normals: Tensor | None) -> Sampler:
    """Return a sampler of a Gaussian policy: the outputs of the network, plus std times normals.

    Args:
        score: The means at observations.
        std: The standard deviations, [K, 1, a].
        normals: The standard normal numbers, [K, T, N, a]; None: take the means.
    """
    deviations = None if normals is None else _PreparedNoise(normals, lambda noise: noise * std.unsqueeze(1))

    def choose(t: int, observations: np.ndarray) -> np.ndarray:
        u = score(observations)
        if deviations is not None:
            u += deviations(t)
        return u

    return choose


def _arrays(layers: Layers) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(weight.contiguous().numpy(), bias.contiguous().numpy()) for weight, bias in layers]


def _affine(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return x weight + bias: x [K, M, i], weight [K, i, j], bias [K, 1, j] or [K, M, 1] -> [K, M, j]."""
    if x.shape[1] * weight[0].size > ONE_THREAD:
        return torch.baddbmm(*(torch.from_numpy(array) for array in (bias, x, weight))).numpy()
    y = np.matmul(x, weight)
    y += bias
    return y


def _hidden(layers: list[tuple[np.ndarray, np.ndarray]], x: np.ndarray, activation: str) -> np.ndarray:
    """Apply the hidden layers: [K, N, o] -> [K, N, width]."""
    for weight, bias in layers:
        x = _affine(x, weight, bias)
        if activation == "tanh":
            np.tanh(x, out=x)
        else:
            np.maximum(x, 0, out=x)
    return x


class _PreparedNoise:
    """Noise [K, T, N, *a], transformed for `AHEAD` steps at a time."""

    def __init__(self, noise: Tensor, prepare: Callable[[Tensor], Tensor]) -> None:
        self._noise, self._prepare = noise, prepare
        self._ready, self._first = np.empty((0, 0)), 0

    def __call__(self, t: int) -> np.ndarray:
        """Return the transformed noise of step t, [K, N, *a]."""
        if not 0 <= t - self._first < self._ready.shape[1]:
            # Contiguous, as noise is drawn by episode, and the numbers of a step are far apart in memory.
            self._ready = self._prepare(self._noise[:, t : t + AHEAD].contiguous()).numpy()
            self._first = t
        return self._ready[:, t - self._first]
