"""Episodes as machine code: the policy and the simulator of one row after the other, each from its start to its end.

NumPy's time goes by the call, and a step of a small batch takes dozens of calls, on rows of which many have ended. Here
a step takes only its own arithmetic. Numba compiles it once and keeps it on disk; a task's functions reach it as
addresses, so that each file's code is kept by itself and none can be stale because of another.

Arithmetic is as written: nothing is reordered or fused, and the one function that is called most is made of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import cfunc, njit, types
from numba.core import cgutils
from numba.core.errors import NumbaError
from numba.extending import intrinsic

from byzbench.errors import BrokenPlugin

F = TypeVar("F", bound=Callable[..., Any])

_alive: list[Any] = []
"""The code behind addresses that were given out."""

LANES = 16
"""Numbers of a row of weights, which are multiplied together."""

_ROW, _SHOWN = types.float64[::1], types.float32[::1]
_STEP = types.Tuple((types.float64, types.boolean))(_ROW, types.int64, _ROW)
_SHOW = types.void(_ROW, _SHOWN)


def _compiled(function: F, signature: Any = None, by: Callable[..., Any] = njit) -> F:
    # Division by zero gives an infinity, as NumPy's does.
    try:
        return cast(F, by(signature, error_model="numpy", cache=True)(function))
    except RuntimeError:  # no folder can be written in which it would be kept
        return cast(F, by(signature, error_model="numpy")(function))


@cache
def address_of_step(step: Callable[..., Any]) -> int:
    """Where the `step` of a `Simulation` lies, compiled, as kernels take it.

    Raises:
        BrokenPlugin: Numba cannot compile it.
    """
    return _address(step, _STEP)


@cache
def address_of_show(show: Callable[..., Any]) -> int:
    """As `address_of_step`, for `show`."""
    return _address(show, _SHOW)


def _address(function: Callable[..., Any], signature: Any) -> int:
    try:
        _alive.append(code := _compiled(function, signature, cfunc))
    except NumbaError as error:
        reason = next((line for line in str(error).splitlines()[1:] if line), str(error))
        raise BrokenPlugin(f"{function.__module__}.{function.__qualname__} cannot be compiled: {reason}") from None
    return cast(Any, code).address


def _at(kind: Any) -> Any:
    """What makes a function of that type of an address: kernels that take functions themselves are slow to call."""

    def function(typing: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, given: Sequence[Any]) -> Any:
            made = cgutils.create_struct_proxy(kind)(context, builder)
            made.c_addr = builder.inttoptr(given[0], context.get_value_type(types.voidptr))
            return made._getvalue()

        return kind(types.intp), code

    return intrinsic(function)


_step_at, _show_at = _at(types.FunctionType(_STEP)), _at(types.FunctionType(_SHOW))


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


@cast(Any, intrinsic)
def _weigh(typing: Any, weights: Any, at: Any, x: Any, inputs: Any, y: Any, to: Any) -> Any:
    """y[to : to + LANES] = weights[at] + x[0] weights[at + 1] + ..., where weights[i] are LANES numbers of each row i.

    Said in LLVM's own vectors, as its compiler makes none of loops as short as a policy's layers are: one of 16 and 16
    takes less than half the time of loops.
    """

    def code(context: Any, builder: Any, signature: Any, given: Sequence[Any]) -> Any:
        _, at, _, inputs, _, to = given
        lanes, start = ir.VectorType(ir.FloatType(), LANES), ir.Constant(ir.IntType(32), 0)

        def numbers(place: int) -> Any:
            return context.make_array(signature.args[place])(context, builder, given[place]).data

        def row(of: Any, number: Any) -> Any:
            first = builder.gep(of, [builder.mul(number, number.type(LANES))])
            return builder.bitcast(first, lanes.as_pointer())

        all_weights, values = numbers(0), numbers(2)
        total = cgutils.alloca_once_value(builder, builder.load(row(all_weights, at), align=4))
        with cgutils.for_range(builder, inputs) as loop:
            value = builder.load(builder.gep(values, [loop.index]))
            first = builder.insert_element(ir.Constant(lanes, ir.Undefined), value, start)
            same = builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(start.type, LANES), [0] * LANES))
            number = builder.add(builder.add(at, loop.index), at.type(1))
            product = builder.fmul(same, builder.load(row(all_weights, number), align=4))
            builder.store(builder.fadd(builder.load(total), product), total)
        builder.store(builder.load(total), row(numbers(4), to), align=4)
        return context.get_dummy_value()

    return types.void(weights, types.intp, x, types.intp, y, types.intp), code


@_compiled
def _pack(theta: np.ndarray, sizes: np.ndarray, weights: np.ndarray) -> None:
    """Weights [rows, LANES] of one agent's network, layer by layer, LANES outputs together: biases, then each input's.

    What stands beyond a layer's outputs stays zero.
    """
    at = row = 0
    for layer in range(len(sizes) - 1):
        inputs, outputs = sizes[layer], sizes[layer + 1]
        bias = at + inputs * outputs
        for j in range(outputs):
            block, lane = j // LANES, j % LANES
            first = row + block * (inputs + 1)
            weights[first, lane] = theta[bias + j]
            for i in range(inputs):
                weights[first + 1 + i, lane] = theta[at + i * outputs + j]
        at = bias + outputs
        row += (outputs + LANES - 1) // LANES * (inputs + 1)


@_compiled
def _outputs(weights: np.ndarray, sizes: np.ndarray, seen: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What `policies.Network` makes of one observation, in x or y, which have room for its widest layer."""
    x[: sizes[0]] = seen
    row, last = 0, len(sizes) - 2
    for layer in range(last + 1):
        inputs, blocks = sizes[layer], (sizes[layer + 1] + LANES - 1) // LANES
        for block in range(blocks):
            _weigh(weights, row, x, inputs, y, block)
            row += inputs + 1
        if layer < last:
            _tanh(y, blocks * LANES)
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
        total += np.float32(1) if j == best else np.float32(math.exp(scores[j] - top))
        scores[j] = total
    threshold, chosen = uniform * total, 0
    for j in range(n - 1):
        if threshold > scores[j]:
            chosen += 1
    return chosen


def _play(
    step_address: int,
    show_address: int,
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
    step, show = _step_at(step_address), _show_at(show_address)
    agents, horizon, rows = uniforms.shape
    width, packed, longest = 0, 0, 0
    for layer in range(len(sizes)):
        blocks = (sizes[layer] + LANES - 1) // LANES
        width = max(width, blocks * LANES)
        if layer:
            packed += blocks * (sizes[layer - 1] + 1)
    weights = np.zeros((packed, LANES), np.float32)
    x, y, shown = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(sizes[0], np.float32)
    for k in range(agents):
        _pack(theta[k], sizes, weights)
        for n in range(count[k]):
            row = k * rows + n
            t, ended = 0, False
            show(states[row], shown)
            while t < horizon and not ended:
                observations[k, t, n] = shown
                scores = _outputs(weights, sizes, shown, x, y)
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
    step_address: int,
    show_address: int,
    states: np.ndarray,
    constants: np.ndarray,
    actions: np.ndarray,
    shown: np.ndarray,
    rewards: np.ndarray,
    ended: np.ndarray,
) -> None:
    """One step of every row, whose results are filled in: [rows, ...]."""
    step, show = _step_at(step_address), _show_at(show_address)
    for row in range(len(states)):
        rewards[row], ended[row] = step(states[row], actions[row], constants[row])
        show(states[row], shown[row])


def _present(show_address: int, states: np.ndarray, shown: np.ndarray) -> None:
    """What every row shows."""
    show = _show_at(show_address)
    for row in range(len(states)):
        show(states[row], shown[row])


_ADDRESSES = (types.intp, types.intp)
_ROWS = types.float64[:, ::1]

play = _compiled(
    _play,
    types.int64(
        *_ADDRESSES,
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
        *_ADDRESSES,
        *(_ROWS, _ROWS, types.int64[::1]),
        *(types.float32[:, ::1], types.float32[::1], types.boolean[::1]),
    ),
)
present = _compiled(_present, types.void(types.intp, _ROWS, types.float32[:, ::1]))
