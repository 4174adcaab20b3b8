"""Compiled policies: rollouts, log-probabilities and gradients of a whole batch of agents in one call.

A call of torch on arrays as small as these costs more than their arithmetic, and every agent has a call of its own. Here
a kernel takes all agents, one after another, and `LANES` observations side by side, one in each lane of a vector of the
processor: those of several episodes in rollouts, and any steps of an agent elsewhere. Masked steps are left out. The
results of an agent do not depend on the other agents, nor on padding.

A buffer of lanes is a flat float32 array in which unit u of a network has the numbers [u * LANES : (u + 1) * LANES], one
for each observation. Loops as short as the layers of a policy are not vectorised by LLVM; they are written in its
vectors. The arithmetic is executed as written, without reordering or fusing; tanh, exp and log are written in elementary
arithmetic. So results are the same on every machine.

Kernels compile where they are first used, and Numba caches them on disk. A function of another file may not be called
here, as its changes would not make the cache stale: the functions of a simulation are passed as addresses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from byzbench.rl.compiled import compiled, on_first_call, show_at, step_at
from byzbench.rl.forms import Form

LANES = 16
"""The number of observations that are processed side by side."""

GROUPS = 16
"""The largest number of groups of `LANES` steps whose intermediate results are kept for a gradient."""


_FORM = types.NamedTuple(
    (types.int64[::1], *[types.boolean] * 4, types.int64, *[types.boolean] * 2, types.float32[:, ::1]), Form
)
_THETA, _GRADIENTS = types.float32[:, ::1], types.float64[:, ::1]
_STEPS, _MASK, _VECTORS = types.float32[:, :, :], types.boolean[:, :, :], types.float32[:, :, :, :]


_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_WIDE = 4
"""The number of outputs that are computed together, so that their sums do not wait for each other."""


def _splat(builder: Any, value: Any) -> Any:
    """Return a vector with the same number in all lanes."""
    first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _zeros(builder: Any, count: int) -> list[Any]:
    """Return variables of `count` vectors, which are set to zero here."""
    variables = [cgutils.alloca_once(builder, _VECTOR) for _ in range(count)]
    for variable in variables:
        builder.store(ir.Constant(_VECTOR, [0.0] * LANES), variable)
    return variables


def _at(builder: Any, data: Any, index: Any) -> Any:
    """Return a pointer to the vector that begins at an index of an array of numbers."""
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


def _sum(builder: Any, vector: Any) -> Any:
    """Return the sum over lanes: the two halves are added until one number is left."""
    width = LANES
    while width > 1:
        width //= 2
        halves = [
            builder.shuffle_vector(
                vector, vector, ir.Constant(ir.VectorType(ir.IntType(32), width), [*range(first, first + width)])
            )
            for first in (0, width)
        ]
        vector = builder.fadd(*halves)
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))


def _tiles(builder: Any, count: Any, body: Callable[[Any, int], None]) -> None:
    """Call `body(first, width)` for the numbers 0 to count - 1, in tiles of `_WIDE` and, at the end, of one."""
    wide = ir.Constant(count.type, _WIDE)
    full = builder.sdiv(count, wide)
    with cgutils.for_range(builder, full) as tile:
        body(builder.mul(tile.index, wide), _WIDE)
    done = builder.mul(full, wide)
    with cgutils.for_range(builder, builder.sub(count, done)) as tile:
        body(builder.add(done, tile.index), 1)


def _arrays(context: Any, builder: Any, signature: Any, arguments: Sequence[Any], *positions: int) -> list[Any]:
    return [context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in positions]


@cast(Any, intrinsic)
def dense(
    typing: Any,
    weights: Any,
    at: Any,
    by_input: Any,
    by_output: Any,
    x: Any,
    x_at: Any,
    inputs: Any,
    y: Any,
    y_at: Any,
    outputs: Any,
) -> Any:
    """Multiply lanes by a matrix: y_o = sum over i of w_io x_i, in the order of i, with w_io = weights[at + i by_input +
    o by_output].

    A layer whose last input is the constant 1 has its biases in the last row of the matrix.

    Args:
        weights: The numbers of the matrix, float32.
        at: The index of its first number.
        by_input: The distance between the numbers of two inputs.
        by_output: The distance between the numbers of two outputs.
        x: The inputs, a buffer of lanes.
        x_at: The index of the first.
        inputs: Their number.
        y: The outputs, a buffer of lanes that is filled in.
        y_at: The index of the first.
        outputs: Their number.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        _, at, by_input, by_output, _, x_at, inputs, _, y_at, outputs = arguments
        weights, x, y = _arrays(context, builder, signature, arguments, 0, 4, 7)
        lanes = ir.Constant(at.type, LANES)

        def tile(first: Any, width: int) -> None:
            columns = [builder.add(first, ir.Constant(first.type, o)) for o in range(width)]
            offsets = [builder.add(at, builder.mul(column, by_output)) for column in columns]
            totals = _zeros(builder, width)
            with cgutils.for_range(builder, inputs) as loop:
                value = builder.load(_at(builder, x, builder.add(x_at, builder.mul(loop.index, lanes))), align=4)
                row = builder.mul(loop.index, by_input)
                for offset, total in zip(offsets, totals, strict=True):
                    weight = builder.load(builder.gep(weights, [builder.add(offset, row)]))
                    product = builder.fmul(_splat(builder, weight), value)
                    builder.store(builder.fadd(builder.load(total), product), total)
            for column, total in zip(columns, totals, strict=True):
                target = _at(builder, y, builder.add(y_at, builder.mul(column, lanes)))
                builder.store(builder.load(total), target, align=4)

        _tiles(builder, outputs, tile)
        return context.get_dummy_value()

    return types.void(weights, *[types.intp] * 3, x, types.intp, types.intp, y, types.intp, types.intp), code


@cast(Any, intrinsic)
def add_products(
    typing: Any,
    x: Any,
    x_at: Any,
    inputs: Any,
    y: Any,
    y_at: Any,
    outputs: Any,
    stride: Any,
    groups: Any,
    totals: Any,
    at: Any,
) -> Any:
    """Add sums of products over lanes and groups: totals[at + i outputs + o] += sum over groups and lanes of x_i y_o.

    A group is a set of `LANES` observations. The sums over groups are taken in each lane, and then over lanes.

    Args:
        x: Buffers of lanes, one after the other for each group.
        x_at: The index of the first unit in the first group.
        inputs: The number of units of x.
        y: Buffers of lanes, with the same distance between groups.
        y_at: The index of the first unit in the first group.
        outputs: The number of units of y.
        stride: The distance between two groups.
        groups: The number of groups.
        totals: The sums, float64, which are added to.
        at: The index of the first.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        _, x_at, inputs, _, y_at, outputs, stride, groups, _, at = arguments
        x, y, totals = _arrays(context, builder, signature, arguments, 0, 3, 8)
        lanes = ir.Constant(at.type, LANES)
        with cgutils.for_range(builder, inputs) as unit:
            x_first = builder.add(x_at, builder.mul(unit.index, lanes))
            row = builder.add(at, builder.mul(unit.index, outputs))

            def tile(first: Any, width: int, x_first: Any = x_first, row: Any = row) -> None:
                columns = [builder.add(first, ir.Constant(first.type, o)) for o in range(width)]
                firsts = [builder.add(y_at, builder.mul(column, lanes)) for column in columns]
                sums = _zeros(builder, width)
                with cgutils.for_range(builder, groups) as group:
                    offset = builder.mul(group.index, stride)
                    value = builder.load(_at(builder, x, builder.add(x_first, offset)), align=4)
                    for y_first, total in zip(firsts, sums, strict=True):
                        other = builder.load(_at(builder, y, builder.add(y_first, offset)), align=4)
                        builder.store(builder.fadd(builder.load(total), builder.fmul(value, other)), total)
                for column, total in zip(columns, sums, strict=True):
                    target = builder.gep(totals, [builder.add(row, column)])
                    term = builder.fpext(_sum(builder, builder.load(total)), ir.DoubleType())
                    builder.store(builder.fadd(builder.load(target), term), target)

            _tiles(builder, outputs, tile)
        return context.get_dummy_value()

    return types.void(x, types.intp, types.intp, y, *[types.intp] * 4, totals, types.intp), code


@compiled
def tanh_of(x: np.float32) -> np.float32:
    """Return tanh(x), within 2e-7.

    It takes four terms of Lambert's continued fraction at x / 4, where they are exact to rounding, and then the formula
    of the double argument twice.
    """
    one, two, limit = np.float32(1), np.float32(2), np.float32(2.25)
    z = x * np.float32(0.25)
    z = z if z < limit else limit
    z = z if z > -limit else -limit
    s = z * z
    t = z * (np.float32(105) + np.float32(10) * s) / (np.float32(105) + (np.float32(45) + s) * s)
    t = two * t / (one + t * t)
    return two * t / (one + t * t)


@compiled
def tanh(x: np.ndarray, n: int) -> None:
    """Replace the first n numbers of x by their `tanh_of`."""
    for i in range(n):
        x[i] = tanh_of(x[i])


def _bits(source: Any, target: Any) -> Any:
    """Return an intrinsic that reads the bits of a number of 32 bits as another type."""

    def function(typing: Any, number: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
            return builder.bitcast(arguments[0], context.get_value_type(target))

        return target(source), code

    return intrinsic(function)


_bits_of, _with_bits = _bits(types.float32, types.int32), _bits(types.int32, types.float32)


@compiled
def exp(x: np.ndarray, n: int) -> None:
    """Replace the first n numbers of x, at most 88, by their exponentials, within a relative 2e-7; at least -87 is counted.

    x = k log 2 + r gives 2^k exp(r), with the Taylor series of exp(r) to r^7 for |r| <= log(2) / 2.
    """
    # shift = 1.5 * 2^23: a sum with it is rounded to a whole number, which its lowest bits hold.
    one, lowest, shift = np.float32(1), np.float32(-87), np.float32(12582912)
    for i in range(n):
        z = x[i]
        z = z if z > lowest else lowest  # NaN, too, which has no whole number
        shifted = z * np.float32(1.4426950408889634) + shift
        k = shifted - shift
        r = (z - k * np.float32(0.693359375)) - k * np.float32(-2.1219444e-4)
        p = np.float32(1 / 5040)
        p = p * r + np.float32(1 / 720)
        p = p * r + np.float32(1 / 120)
        p = p * r + np.float32(1 / 24)
        p = p * r + np.float32(1 / 6)
        p = p * r + np.float32(0.5)
        power = _with_bits(np.int32((_bits_of(shifted) - np.int32(0x4B400000 - 127)) << np.int32(23)))
        x[i] = ((p * r + one) * r + one) * power


@compiled
def log(x: np.ndarray, n: int) -> None:
    """Replace positive normal numbers the first n numbers of x by their logarithms, within 2e-7 of max(1, |log x|).

    x = 2^k m with m from sqrt(1/2) to sqrt(2) gives k log 2 + 2 artanh(s), s = (m - 1) / (m + 1), by its series to s^11.
    """
    one, two = np.float32(1), np.float32(2)
    for i in range(n):
        bits = _bits_of(x[i])
        k = np.int32(bits - np.int32(0x3F3504F3)) >> np.int32(23)
        m = _with_bits(np.int32(bits - np.int32(k << np.int32(23))))
        s = (m - one) / (m + one)
        q = s * s
        p = np.float32(1 / 11)
        p = p * q + np.float32(1 / 9)
        p = p * q + np.float32(1 / 7)
        p = p * q + np.float32(1 / 5)
        p = p * q + np.float32(1 / 3)
        p = p * q + one
        x[i] = two * s * p + np.float32(k) * np.float32(0.6931471805599453)


@compiled
def _offsets(form: Form) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each layer, the index of its parameters, and of its first unit in a buffer of lanes.

    After the units of a layer there is one that is the constant 1. The last number of both is the total.
    """
    layers = len(form.sizes)
    parameters, units = np.zeros(layers, np.int64), np.zeros(layers + 1, np.int64)
    for layer in range(layers):
        size = 0 if layer == 0 and form.indexed else form.sizes[layer]
        units[layer + 1] = units[layer] + (size + 1) * LANES
        if layer:
            rows = form.sizes[layer - 1] + (1 if form.biased else 0)
            parameters[layer] = parameters[layer - 1] + rows * form.sizes[layer]
    return parameters, units


@compiled
def _buffer(units: np.ndarray, groups: int) -> np.ndarray:
    """Return a buffer of lanes of some groups, with the constants 1 after the units of each layer."""
    buffer = np.zeros(groups * units[-1], np.float32)
    for group in range(groups):
        for layer in range(1, len(units)):
            end = group * units[-1] + units[layer]
            buffer[end - LANES : end] = np.float32(1)
    return buffer


@compiled
def _show(form: Form, observation: np.ndarray, player: int, buffer: np.ndarray, at: int, lane: int) -> int:
    """Write the observation of a player into a lane, and return the index of its state, where it has one."""
    size = len(observation) // form.players
    first = player * size
    if not form.indexed:
        for i in range(size):
            buffer[at + i * LANES + lane] = observation[first + i]
        return 0
    if form.one_hot:
        return np.argmax(observation[first : first + size])
    return int(observation[first])


@compiled
def _forward(
    form: Form,
    theta: np.ndarray,
    parameters: np.ndarray,
    units: np.ndarray,
    buffer: np.ndarray,
    at: int,
    states: np.ndarray,
) -> None:
    """Compute the units of all layers of one group.

    Args:
        form: The architecture.
        theta: The parameters, [d].
        parameters: The indices of the layers' parameters.
        units: The indices of the layers' units in a buffer.
        buffer: The buffer of lanes, whose first layer is filled in.
        at: The index of the group in the buffer.
        states: The indices of the states, [LANES], where observations are indices.
    """
    last = len(form.sizes) - 2
    for layer in range(last + 1):
        inputs, outputs = form.sizes[layer], form.sizes[layer + 1]
        first, x, y = parameters[layer], at + units[layer], at + units[layer + 1]
        if layer == 0 and form.indexed:
            for output in range(outputs):
                bias = theta[first + inputs * outputs + output] if form.biased else np.float32(0)
                for lane in range(LANES):
                    buffer[y + output * LANES + lane] = theta[first + states[lane] * outputs + output] + bias
        else:
            dense(theta, first, outputs, 1, buffer, x, inputs + 1, buffer, y, outputs)
        if layer < last:
            if form.relu:
                for i in range(y, y + outputs * LANES):
                    buffer[i] = buffer[i] if buffer[i] > np.float32(0) else np.float32(0)
            else:
                tanh(buffer[y : y + outputs * LANES], outputs * LANES)


@compiled
def _backward(
    form: Form,
    theta: np.ndarray,
    parameters: np.ndarray,
    units: np.ndarray,
    buffer: np.ndarray,
    deltas: np.ndarray,
    states: np.ndarray,
    groups: int,
    gradient: np.ndarray,
) -> None:
    """Add the gradient of the sum over steps of <delta, outputs> to `gradient`.

    Args:
        form: The architecture.
        theta: The parameters, [d].
        parameters: The indices of the layers' parameters.
        units: The indices of the layers' units in a buffer.
        buffer: The buffer of lanes after `_forward`.
        deltas: A buffer of the same size, whose last layer holds the deltas; the others are filled in.
        states: The indices of the states, [GROUPS * LANES], where observations are indices.
        groups: The number of groups.
        gradient: The sum, float64 [d].
    """
    stride = units[-1]
    for layer in range(len(form.sizes) - 2, -1, -1):
        inputs, outputs = form.sizes[layer], form.sizes[layer + 1]
        first, x, y = parameters[layer], units[layer], units[layer + 1]
        if layer == 0 and form.indexed:
            for step in range(groups * LANES):
                delta, row = step // LANES * stride + y + step % LANES, first + states[step] * outputs
                for output in range(outputs):
                    gradient[row + output] += deltas[delta + output * LANES]
            if form.biased:
                add_products(buffer, x, 1, deltas, y, outputs, stride, groups, gradient, first + inputs * outputs)
        else:
            add_products(buffer, x, inputs + 1, deltas, y, outputs, stride, groups, gradient, first)
        if layer:
            for group in range(groups):
                at = group * stride + x
                dense(theta, first, 1, outputs, deltas, group * stride + y, outputs, deltas, at, inputs)
                unit, delta = buffer[at : at + inputs * LANES], deltas[at : at + inputs * LANES]
                if form.relu:
                    for i in range(len(unit)):
                        delta[i] = delta[i] if unit[i] > np.float32(0) else np.float32(0)
                else:
                    for i in range(len(unit)):
                        delta[i] *= np.float32(1) - unit[i] * unit[i]


@compiled
def _softmax(
    scores: np.ndarray, outputs: int, squashed: bool, shares: np.ndarray, largest: np.ndarray, totals: np.ndarray
) -> None:
    """Compute probabilities of one group, except for their common denominators.

    Args:
        scores: The logits, [outputs * LANES]; with `squashed` they are replaced by their tanh.
        outputs: Their number.
        squashed: Whether the logits pass through tanh.
        shares: The exponentials of logits less the largest, [outputs * LANES], which are filled in.
        largest: The largest logits, [LANES], which are filled in.
        totals: The sums of `shares`, [LANES], which are filled in.
    """
    if squashed:
        tanh(scores, outputs * LANES)
    for lane in range(LANES):
        most = scores[lane]
        for output in range(1, outputs):
            score = scores[output * LANES + lane]
            most = score if score > most else most
        largest[lane] = most
        for output in range(outputs):
            shares[output * LANES + lane] = scores[output * LANES + lane] - most
    exp(shares, outputs * LANES)
    for lane in range(LANES):
        total = np.float32(0)
        for output in range(outputs):
            total += shares[output * LANES + lane]
        totals[lane] = total


@compiled
def _samples(mask: np.ndarray, players: int, samples: np.ndarray) -> int:
    """Write (t, n, player) of all valid steps of mask [T, N] into `samples`, and return their number."""
    count = 0
    for t in range(mask.shape[0]):
        for n in range(mask.shape[1]):
            if mask[t, n]:
                for player in range(players):
                    samples[count, 0], samples[count, 1], samples[count, 2] = t, n, player
                    count += 1
    return count


@on_first_call(
    types.void(_FORM, _THETA, _THETA, _VECTORS, _VECTORS, _MASK, _STEPS, _GRADIENTS),
)
def score_gradients(
    form: Form,
    theta: np.ndarray,
    std: np.ndarray,
    observations: np.ndarray,
    actions: np.ndarray,
    mask: np.ndarray,
    coefficients: np.ndarray,
    gradients: np.ndarray,
) -> None:
    """Add the sum over steps of c grad log pi(a | s) to the row of each agent.

    Args:
        form: The architecture.
        theta: The network's parameters, float32 [K, d].
        std: The standard deviations of a Gaussian policy, float32 [K, m].
        observations: The observations, float32 [K, T, N, o].
        actions: The actions, [K, T, N, a], those of all players one after another.
        mask: The valid steps, bool [K, T, N].
        coefficients: The coefficients c, float32 [K, T, N].
        gradients: The sums, float64 [K, d], with the derivatives by log std after it for a Gaussian policy.
    """
    parameters, units = _offsets(form)
    stride, outputs, top = units[-1], form.sizes[-1], units[len(form.sizes) - 1]
    buffer, deltas = _buffer(units, GROUPS), np.zeros(GROUPS * stride, np.float32)
    states = np.zeros(GROUPS * LANES, np.int64)
    shares, largest, totals = (
        np.empty(outputs * LANES, np.float32),
        np.empty(LANES, np.float32),
        np.empty(LANES, np.float32),
    )
    agents, horizon, rows = mask.shape
    samples = np.empty((horizon * rows * form.players, 3), np.int64)
    for k in range(agents):
        agent, sigma, gradient = theta[k], std[k], gradients[k]
        total = _samples(mask[k], form.players, samples)
        for begin in range(0, total, GROUPS * LANES):
            count = min(total - begin, GROUPS * LANES)
            groups = (count + LANES - 1) // LANES
            for i in range(count):
                t, n, player = samples[begin + i]
                at = i // LANES * stride
                states[i] = _show(form, observations[k, t, n], player, buffer, at, i % LANES)
            states[count : groups * LANES] = 0
            for group in range(groups):
                at, first = group * stride, group * LANES
                _forward(form, agent, parameters, units, buffer, at, states[first : first + LANES])
                scores = buffer[at + top : at + top + outputs * LANES]
                delta = deltas[at + top : at + top + outputs * LANES]
                delta[:] = np.float32(0)
                if not form.gaussian:
                    _softmax(scores, outputs, form.squashed, shares, largest, totals)
                for lane in range(min(LANES, count - first)):
                    t, n, player = samples[begin + first + lane]
                    c, action = coefficients[k, t, n], actions[k, t, n]
                    for j in range(outputs):
                        at_lane = j * LANES + lane
                        if form.gaussian:
                            deviation = (action[player * outputs + j] - scores[at_lane]) / sigma[j]
                            delta[at_lane] = c * deviation / sigma[j]
                            gradient[theta.shape[1] + j] += c * (deviation * deviation - np.float32(1))
                        else:
                            chosen = np.float32(1) if j == action[player] else np.float32(0)
                            delta[at_lane] = c * (chosen - shares[at_lane] / totals[lane])
                            if form.squashed:
                                delta[at_lane] *= np.float32(1) - scores[at_lane] * scores[at_lane]
            _backward(form, agent, parameters, units, buffer, deltas, states, groups, gradient)


@on_first_call(types.void(_FORM, _THETA, _THETA, _THETA, _VECTORS, _VECTORS, _MASK, _STEPS))
def log_probabilities(
    form: Form,
    theta: np.ndarray,
    std: np.ndarray,
    log_std: np.ndarray,
    observations: np.ndarray,
    actions: np.ndarray,
    mask: np.ndarray,
    results: np.ndarray,
) -> None:
    """Add log pi(a | s) of every valid step to `results`, the sum over players; constants of a density are left out.

    Args:
        form: The architecture.
        theta: The network's parameters, float32 [K, d].
        std: The standard deviations of a Gaussian policy, float32 [K, m].
        log_std: Their logarithms.
        observations: The observations, float32 [K, T, N, o].
        actions: The actions, [K, T, N, a], those of all players one after another.
        mask: The valid steps, bool [K, T, N].
        results: float32 [K, T, N].
    """
    parameters, units = _offsets(form)
    outputs, top = form.sizes[-1], units[len(form.sizes) - 1]
    buffer, states = _buffer(units, 1), np.zeros(LANES, np.int64)
    shares, largest, totals = (
        np.empty(outputs * LANES, np.float32),
        np.empty(LANES, np.float32),
        np.empty(LANES, np.float32),
    )
    agents, horizon, rows = mask.shape
    samples = np.empty((horizon * rows * form.players, 3), np.int64)
    for k in range(agents):
        sigma, log_sigma = std[k], log_std[k]
        total = _samples(mask[k], form.players, samples)
        for begin in range(0, total, LANES):
            count = min(total - begin, LANES)
            states[count:] = 0
            for lane in range(count):
                t, n, player = samples[begin + lane]
                states[lane] = _show(form, observations[k, t, n], player, buffer, 0, lane)
            _forward(form, theta[k], parameters, units, buffer, 0, states)
            scores = buffer[top : top + outputs * LANES]
            if not form.gaussian:
                _softmax(scores, outputs, form.squashed, shares, largest, totals)
                log(totals, LANES)
            for lane in range(count):
                t, n, player = samples[begin + lane]
                action = actions[k, t, n]
                value = np.float32(0)
                if form.gaussian:
                    for j in range(outputs):
                        deviation = (action[player * outputs + j] - scores[j * LANES + lane]) / sigma[j]
                        value -= deviation * deviation * np.float32(0.5) + log_sigma[j]
                else:
                    value = scores[int(action[player]) * LANES + lane] - largest[lane] - totals[lane]
                results[k, t, n] += value


@compiled
def _likeliest(scores: np.ndarray, outputs: int, lane: int) -> int:
    """Return the index of the largest score of a lane, the first of equals."""
    best = 0
    for j in range(1, outputs):
        if scores[j * LANES + lane] > scores[best * LANES + lane]:
            best = j
    return best


@compiled
def _choice(shares: np.ndarray, outputs: int, lane: int, threshold: np.float32) -> int:
    """Return the number of cumulative shares of a lane below a threshold, which is a valid action even for NaN."""
    total, choice = np.float32(0), 0
    for j in range(outputs - 1):
        total += shares[j * LANES + lane]
        if threshold > total:
            choice += 1
    return choice


@compiled
def _bounded(u: float, squashed: bool, bounds: np.ndarray) -> float:
    """Return the action of the environment: see `GaussianPolicy`.

    Args:
        u: The policy's action.
        squashed: Whether it passes through tanh, rather than being clipped.
        bounds: The middle and half the width of its range, and its bounds, [4].
    """
    middle, half, low, high = bounds
    if math.isfinite(low) and math.isfinite(high):
        u = tanh_of(u) if squashed else min(max(u, np.float32(-1)), np.float32(1))
    return min(max(middle + half * u, low), high)


@on_first_call(
    types.int64(
        *(_FORM, types.intp, types.intp, _GRADIENTS, _GRADIENTS, _THETA, _THETA, types.boolean),
        *(
            _VECTORS,
            types.int64[::1],
            _VECTORS,
            _VECTORS,
            _STEPS,
            _MASK,
            types.boolean[:, ::1],
            types.float32[:, :, ::1],
        ),
    )
)
def play(
    form: Form,
    step_address: int,
    show_address: int,
    states: np.ndarray,
    constants: np.ndarray,
    theta: np.ndarray,
    std: np.ndarray,
    greedy: bool,
    noise: np.ndarray,
    count: np.ndarray,
    observations: np.ndarray,
    actions: np.ndarray,
    rewards: np.ndarray,
    mask: np.ndarray,
    terminated: np.ndarray,
    final_observations: np.ndarray,
) -> int:
    """Run the episodes of `rollouts.rollout`, `LANES` of an agent side by side; where one ends, its next one begins.

    Args:
        form: The architecture of the policies.
        step_address: The address of the simulation's `step`.
        show_address: The address of the simulation's `show`.
        states: The initial states, float64 [K*N, s]; they change in place.
        constants: The physical constants of every row, float64 [K*N, c].
        theta: The networks' parameters, float32 [K, d].
        std: The standard deviations of Gaussian policies, float32 [K, m].
        greedy: Whether the likeliest actions are taken.
        noise: The noise of the actions, float32 [K, T, N, a]: uniform, or standard normal.
        count: The number of episodes of each agent, int64 [K].
        observations: The result `Trajectories.observations`, zeros that are filled in, as are the following.
        actions: The result `Trajectories.actions`, [K, T, N, a].
        rewards: The result `Trajectories.rewards`.
        mask: The result `Trajectories.mask`.
        terminated: The result `Trajectories.terminated`.
        final_observations: The result `Trajectories.final_observations`.

    Returns:
        The length of the longest episode.
    """
    step, show = step_at(step_address), show_at(show_address)
    parameters, units = _offsets(form)
    outputs, top = form.sizes[-1], units[len(form.sizes) - 1]
    agents, horizon, rows, size = noise.shape
    buffer, indices = _buffer(units, 1), np.zeros(LANES, np.int64)
    shares, largest, totals = (
        np.empty(outputs * LANES, np.float32),
        np.empty(LANES, np.float32),
        np.empty(LANES, np.float32),
    )
    observed = np.zeros((LANES, observations.shape[3]), np.float32)
    env_actions = np.zeros((LANES, size), np.float64)
    row_of, time_of = np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
    longest = 0
    for k in range(agents):
        active, following = 0, 0
        while active < LANES and following < count[k]:
            row_of[active], time_of[active] = following, 0
            show(states[k * rows + following], observed[active])
            active, following = active + 1, following + 1
        while active:
            for lane in range(active):
                t, n = time_of[lane], row_of[lane]
                observations[k, t, n] = observed[lane]
            for player in range(form.players):
                for lane in range(active):
                    indices[lane] = _show(form, observed[lane], player, buffer, 0, lane)
                _forward(form, theta[k], parameters, units, buffer, 0, indices)
                scores = buffer[top : top + outputs * LANES]
                if not (form.gaussian or greedy):
                    _softmax(scores, outputs, form.squashed, shares, largest, totals)
                for lane in range(active):
                    t, n = time_of[lane], row_of[lane]
                    if form.gaussian:
                        for j in range(outputs):
                            u = scores[j * LANES + lane]
                            if not greedy:
                                u += std[k, j] * noise[k, t, n, player * outputs + j]
                            actions[k, t, n, player * outputs + j] = u
                            env_actions[lane, player * outputs + j] = _bounded(u, form.squashed, form.bounds[:, j])
                    else:
                        if greedy:
                            choice = _likeliest(scores, outputs, lane)
                        else:
                            choice = _choice(shares, outputs, lane, noise[k, t, n, player] * totals[lane])
                        actions[k, t, n, player] = choice
                        env_actions[lane, player] = choice
            lane = 0
            while lane < active:
                t, n = time_of[lane], row_of[lane]
                row = k * rows + n
                rewards[k, t, n], ended = step(states[row], env_actions[lane], constants[row])
                mask[k, t, n] = True
                t += 1
                time_of[lane] = t
                show(states[row], observed[lane])
                if not ended and t < horizon:
                    lane += 1
                    continue
                terminated[k, n] = ended
                if not ended:
                    final_observations[k, n] = observed[lane]
                longest = max(longest, t)
                if following < count[k]:
                    row_of[lane], time_of[lane] = following, 0
                    show(states[k * rows + following], observed[lane])
                    following += 1
                    lane += 1
                else:  # the last episode takes its lane, and is stepped next
                    active -= 1
                    row_of[lane], time_of[lane] = row_of[active], time_of[active]
                    observed[lane], env_actions[lane] = observed[active], env_actions[active]
    return longest
