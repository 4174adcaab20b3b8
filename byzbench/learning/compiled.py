"""Episodes as machine code: the policy and the simulator of one row after the other, each from its start to its end.

NumPy's time goes by the call, and a step of a small batch takes some seventy calls, on rows of which many have ended.
Here a step takes only its own arithmetic. Numba compiles it once and keeps it on disk; a task's functions reach it as
pointers, so that each file's code is kept by itself and none can be stale because of another.

Arithmetic is as written: nothing is reordered or fused, and the one function that is called most is made of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit, types

F = TypeVar("F", bound=Callable[..., Any])

_ROW, _SHOWN = types.float64[::1], types.float32[::1]
_STEP = types.Tuple((types.float64, types.boolean))(_ROW, types.int64, _ROW)
_SHOW = types.void(_ROW, _SHOWN)


def _compiled(function: F, signature: Any = None) -> F:
    # Division by zero gives an infinity, as NumPy's does.
    try:
        return cast(F, njit(signature, error_model="numpy", cache=True)(function))
    except RuntimeError:  # no folder can be written in which it would be kept
        return cast(F, njit(signature, error_model="numpy")(function))


@cache
def compiled_step(step: F) -> F:
    """The `step` of a `Simulation`, compiled."""
    return _compiled(step, _STEP)


@cache
def compiled_show(show: F) -> F:
    """The `show` of a `Simulation`, compiled."""
    return _compiled(show, _SHOW)


@_compiled
def _tanh(x: np.ndarray, n: int) -> None:
    """The first n of x, in place, within 2e-7.

    Four terms of Lambert's continued fraction at a quarter of x, where they are exact to rounding, and the formula of
    the double argument twice. Unlike the C library's it runs on several numbers at once, and on all machines alike.
    """
    one, two, most = np.float32(1), np.float32(2), np.float32(2.25)
    for i in range(n):
        z = x[i] * np.float32(0.25)
        z = z if z < most else most
        z = z if z > -most else -most
        s = z * z
        t = z * (np.float32(105) + np.float32(10) * s) / (np.float32(105) + (np.float32(45) + s) * s)
        t = two * t / (one + t * t)
        x[i] = two * t / (one + t * t)


@_compiled
def _outputs(theta: np.ndarray, sizes: np.ndarray, seen: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What `policies.Network` makes of one observation, in x or y, which have room for its widest layer."""
    x[: sizes[0]] = seen
    at, last = 0, len(sizes) - 2
    for layer in range(last + 1):
        inputs, outputs = sizes[layer], sizes[layer + 1]
        bias = at + inputs * outputs
        y[:outputs] = theta[bias : bias + outputs]
        for i in range(inputs):
            value, weights = x[i], theta[at + i * outputs : at + (i + 1) * outputs]
            for j in range(outputs):
                y[j] += value * weights[j]
        at = bias + outputs
        if layer < last:
            _tanh(y, outputs)
        x, y = y, x
    return x


@_compiled
def _choice(scores: np.ndarray, n: int, uniform: np.float32, greedy: bool) -> int:
    """An action by inverse CDF from the first n scores, which it spoils; or the likeliest.

    It is an action whatever they are: comparisons with what is no number are false.
    """
    top, best = scores[0], 0
    for j in range(1, n):
        if scores[j] > top:
            top, best = scores[j], j
    if greedy:
        return best
    total = np.float32(0)
    for j in range(n):
        total += np.float32(math.exp(scores[j] - top))
        scores[j] = total
    threshold, chosen = uniform * total, 0
    for j in range(n - 1):
        if threshold > scores[j]:
            chosen += 1
    return chosen


def _play(
    step: Any,
    show: Any,
    states: np.ndarray,
    constants: np.ndarray,
    theta: np.ndarray,
    sizes: np.ndarray,
    squashed: bool,
    greedy: bool,
    uniforms: np.ndarray,
    count: np.ndarray,
    observations: np.ndarray,
    actions: np.ndarray,
    rewards: np.ndarray,
    mask: np.ndarray,
    terminated: np.ndarray,
    beyond: np.ndarray,
) -> int:
    """The episodes of `rollouts.rollout` under categorical policies, from states [K*N, s], which change.

    Its results, zeros at first, are filled in. Returns the length of the longest.
    """
    agents, horizon, rows = uniforms.shape
    width, longest = 0, 0
    for size in sizes:
        width = max(width, size)
    x, y, shown = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(sizes[0], np.float32)
    for k in range(agents):
        for n in range(count[k]):
            row = k * rows + n
            t, ended = 0, False
            show(states[row], shown)
            while t < horizon and not ended:
                observations[k, t, n] = shown
                scores = _outputs(theta[k], sizes, shown, x, y)
                if squashed:
                    _tanh(scores, sizes[-1])
                action = _choice(scores, sizes[-1], uniforms[k, t, n], greedy)
                actions[k, t, n] = action
                rewards[k, t, n], ended = step(states[row], action, constants[row])
                mask[k, t, n] = True
                show(states[row], shown)
                t += 1
            terminated[k, n] = ended
            if not ended:
                beyond[k, n] = shown
            longest = max(longest, t)
    return longest


def _advance(
    step: Any,
    show: Any,
    states: np.ndarray,
    constants: np.ndarray,
    actions: np.ndarray,
    shown: np.ndarray,
    rewards: np.ndarray,
    ended: np.ndarray,
) -> None:
    """One step of every row, whose results are filled in: [rows, ...]."""
    for row in range(len(states)):
        rewards[row], ended[row] = step(states[row], actions[row], constants[row])
        show(states[row], shown[row])


def _present(show: Any, states: np.ndarray, shown: np.ndarray) -> None:
    """What every row shows."""
    for row in range(len(states)):
        show(states[row], shown[row])


_RULES = (types.FunctionType(_STEP), types.FunctionType(_SHOW))
_ROWS = types.float64[:, ::1]

play = _compiled(
    _play,
    types.int64(
        *_RULES,
        *(_ROWS, _ROWS),
        *(types.float32[:, ::1], types.int64[::1], types.boolean, types.boolean),
        *(types.float32[:, :, :], types.int64[::1]),
        *(types.float32[:, :, :, ::1], types.int64[:, :, ::1], types.float32[:, :, ::1], types.boolean[:, :, ::1]),
        *(types.boolean[:, ::1], types.float32[:, :, ::1]),
    ),
)
advance = _compiled(
    _advance,
    types.void(
        *_RULES,
        *(_ROWS, _ROWS, types.int64[::1]),
        *(types.float32[:, ::1], types.float32[::1], types.boolean[::1]),
    ),
)
present = _compiled(_present, types.void(_RULES[1], _ROWS, types.float32[:, ::1]))
