"""Compiled rollouts: policy and simulator as machine code, one episode after the other.

The time of NumPy grows with the number of calls. A step of a small batch takes dozens of calls, many of them on rows
whose episode has ended. Here a step takes its own arithmetic only. Numba compiles the code once and caches it on disk.
A task's functions are passed as addresses, so that each file has its own cache, which no other file can make stale.

The arithmetic is executed as written, without reordering or fusing. tanh, the function that is called most often, is
written in elementary arithmetic, so that its results are the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import cfunc, types
from numba.core import cgutils
from numba.core.errors import NumbaError
from numba.extending import intrinsic

from byzbench.compilation import compiled as _compiled
from byzbench.errors import BrokenPlugin

_compiled_functions: list[Any] = []
"""The compiled functions whose addresses are in use; references to them keep the code in memory."""

LANES = 16
"""The number of outputs that are computed together, as one vector of the processor."""

_ROW, _OBSERVATION = types.float64[::1], types.float32[::1]
_STEP = types.Tuple((types.float64, types.boolean))(_ROW, types.int64, _ROW)
_SHOW = types.void(_ROW, _OBSERVATION)


@cache
def address_of_step(step: Callable[..., Any]) -> int:
    """Compile the `step` of a `Simulation`, and return its address, as the kernels take it.

    Raises:
        BrokenPlugin: Numba cannot compile the function.
    """
    return _address(step, _STEP)


@cache
def address_of_show(show: Callable[..., Any]) -> int:
    """Compile the `show` of a `Simulation`, and return its address, as the kernels take it.

    Raises:
        BrokenPlugin: Numba cannot compile the function.
    """
    return _address(show, _SHOW)


def _address(function: Callable[..., Any], signature: Any) -> int:
    try:
        _compiled_functions.append(code := _compiled(function, signature, cfunc))
    except NumbaError as error:
        reason = next((line for line in str(error).splitlines()[1:] if line), str(error))
        raise BrokenPlugin(f"{function.__module__}.{function.__qualname__} cannot be compiled: {reason}") from None
    return cast(Any, code).address


def _at(kind: Any) -> Any:
    """Return an intrinsic that turns an address into a function of type `kind`.

    Kernels take addresses, as kernels that take functions are slow to call.
    """

    def function(typing: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
            pointer = cgutils.create_struct_proxy(kind)(context, builder)
            pointer.c_addr = builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))
            return pointer._getvalue()

        return kind(types.intp), code

    return intrinsic(function)


_step_at, _show_at = _at(types.FunctionType(_STEP)), _at(types.FunctionType(_SHOW))


@_compiled
def _tanh(x: np.ndarray, n: int) -> None:
    """Replace the first n numbers of x by their tanh, within 2e-7.

    It takes four terms of Lambert's continued fraction at x / 4, where they are exact to rounding, and then the formula
    of the double argument twice. Unlike the C library's function it is vectorised, and equal on all machines.
    """
    one, two, limit = np.float32(1), np.float32(2), np.float32(2.25)
    for i in range(n):
        z = x[i] * np.float32(0.25)
        z = z if z < limit else limit
        z = z if z > -limit else -limit
        s = z * z
        t = z * (np.float32(105) + np.float32(10) * s) / (np.float32(105) + (np.float32(45) + s) * s)
        t = two * t / (one + t * t)
        x[i] = two * t / (one + t * t)


@cast(Any, intrinsic)
def _weigh(typing: Any, weights: Any, at: Any, x: Any, inputs: Any, y: Any, to: Any) -> Any:
    """Compute LANES outputs of a layer: y[to : to + LANES] = weights[at] + x[0] weights[at + 1] + ...

    A row weights[i] has LANES numbers. The code is written in LLVM vectors, as LLVM does not vectorise loops as short
    as the layers of a policy: a layer of 16 inputs and 16 outputs takes less than half the time of loops.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        _, at, _, inputs, _, to = arguments
        lanes, zero = ir.VectorType(ir.FloatType(), LANES), ir.Constant(ir.IntType(32), 0)

        def data(position: int) -> Any:
            return context.make_array(signature.args[position])(context, builder, arguments[position]).data

        def row(array: Any, index: Any) -> Any:
            first = builder.gep(array, [builder.mul(index, index.type(LANES))])
            return builder.bitcast(first, lanes.as_pointer())

        all_weights, values = data(0), data(2)
        total = cgutils.alloca_once_value(builder, builder.load(row(all_weights, at), align=4))
        with cgutils.for_range(builder, inputs) as loop:
            value = builder.load(builder.gep(values, [loop.index]))
            first = builder.insert_element(ir.Constant(lanes, ir.Undefined), value, zero)
            repeated = builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(zero.type, LANES), [0] * LANES))
            index = builder.add(builder.add(at, loop.index), at.type(1))
            product = builder.fmul(repeated, builder.load(row(all_weights, index), align=4))
            builder.store(builder.fadd(builder.load(total), product), total)
        builder.store(builder.load(total), row(data(4), to), align=4)
        return context.get_dummy_value()

    return types.void(weights, types.intp, x, types.intp, y, types.intp), code


@_compiled
def _pack(theta: np.ndarray, sizes: np.ndarray, weights: np.ndarray) -> None:
    """Write one agent's parameters theta [d] into weights [rows, LANES], as `_weigh` reads them.

    For every layer and every LANES of its outputs there is one row of biases, then one row of weights for each input.
    Numbers final_observations the outputs of a layer stay zero.
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
def _outputs(
    weights: np.ndarray, sizes: np.ndarray, observation: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Compute the outputs of `networks.FeedForward` for one observation.

    Args:
        weights: The parameters, as `_pack` writes them, [rows, LANES].
        sizes: The sizes of the network's layers.
        observation: The observation, [o].
        x: A buffer with room for the widest layer.
        y: A second buffer of this size.

    Returns:
        x or y, whichever holds the outputs.
    """
    x[: sizes[0]] = observation
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
    """Sample an action by inverse CDF from the first n scores, or return the likeliest.

    The scores are overwritten. The result is a valid action even if scores are NaN, as comparisons with NaN are false.
    """
    largest, best = scores[0], 0
    for j in range(1, n):
        if scores[j] > largest:
            largest, best = scores[j], j
    if greedy:
        return best
    total = np.float32(0)
    for j in range(n):
        total += np.float32(1) if j == best else np.float32(math.exp(scores[j] - largest))
        scores[j] = total
    threshold, action = uniform * total, 0
    for j in range(n - 1):
        if threshold > scores[j]:
            action += 1
    return action


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
    final_observations: np.ndarray,
) -> int:
    """Run the episodes of `rollouts.rollout` under categorical policies, one after the other.

    Args:
        step_address: The address of the simulation's `step`.
        show_address: The address of the simulation's `show`.
        states: The initial states, [K*N, s]; they change in place.
        constants: The physical constants of every row, [K*N, c].
        theta: The policies' parameters, [K, d].
        sizes: The sizes of the network's layers.
        squashed: Whether logits pass through tanh.
        greedy: Whether the likeliest actions are taken.
        uniforms: The random numbers of the actions, [K, T, N].
        count: The number of episodes of each agent, [K].
        observations: The result `Trajectories.observations`, zeros that are filled in, as are the following.
        actions: The result `Trajectories.actions`.
        rewards: The result `Trajectories.rewards`.
        mask: The result `Trajectories.mask`.
        terminated: The result `Trajectories.terminated`.
        final_observations: The result `Trajectories.final_observations`.

    Returns:
        The length of the longest episode.
    """
    step, show = _step_at(step_address), _show_at(show_address)
    agents, horizon, rows = uniforms.shape
    width, num_packed_rows, longest = 0, 0, 0
    for layer in range(len(sizes)):
        blocks = (sizes[layer] + LANES - 1) // LANES
        width = max(width, blocks * LANES)
        if layer:
            num_packed_rows += blocks * (sizes[layer - 1] + 1)
    weights = np.zeros((num_packed_rows, LANES), np.float32)
    x, y, observation = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(sizes[0], np.float32)
    for k in range(agents):
        _pack(theta[k], sizes, weights)
        for n in range(count[k]):
            row = k * rows + n
            t, ended = 0, False
            show(states[row], observation)
            while t < horizon and not ended:
                observations[k, t, n] = observation
                scores = _outputs(weights, sizes, observation, x, y)
                if squashed:
                    _tanh(scores, sizes[-1])
                action = _choice(scores, sizes[-1], uniforms[k, t, n], greedy)
                actions[k, t, n] = action
                rewards[k, t, n], ended = step(states[row], action, constants[row])
                mask[k, t, n] = True
                show(states[row], observation)
                t += 1
            terminated[k, n] = ended
            if not ended:
                final_observations[k, n] = observation
            longest = max(longest, t)
    return longest


def _advance(
    step_address: int,
    show_address: int,
    states: np.ndarray,
    constants: np.ndarray,
    actions: np.ndarray,
    observations: np.ndarray,
    rewards: np.ndarray,
    terminated: np.ndarray,
) -> None:
    """Advance every row by one step.

    Args:
        step_address: The address of the simulation's `step`.
        show_address: The address of the simulation's `show`.
        states: The states, [rows, s]; they change in place.
        constants: The physical constants, [rows, c].
        actions: The actions, [rows].
        observations: The result, [rows, o], which is filled in, as are the following.
        rewards: The result, [rows].
        terminated: The result, [rows].
    """
    step, show = _step_at(step_address), _show_at(show_address)
    for row in range(len(states)):
        rewards[row], terminated[row] = step(states[row], actions[row], constants[row])
        show(states[row], observations[row])


def _present(show_address: int, states: np.ndarray, observations: np.ndarray) -> None:
    """Write the observations of all states into `observations` [rows, o]."""
    show = _show_at(show_address)
    for row in range(len(states)):
        show(states[row], observations[row])


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
