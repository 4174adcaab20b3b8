"""Compiled policies: rollouts, log-probabilities, gradients and updates of a whole batch of agents in one call.

A call of torch on arrays as small as these costs more than their arithmetic, and every agent has a call of its own.
Here a kernel takes all agents, one after another, and `LANES` observations side by side, one in each lane of a vector
of the processor: those of several episodes in rollouts, and any steps of an agent elsewhere. Masked steps are left out.
The results of an agent do not depend on the other agents, nor on padding.

A buffer of lanes is a flat float32 array in which unit u of a network has the numbers [u * LANES : (u + 1) * LANES],
one for each observation. Loops as short as the layers of a policy are not vectorised by LLVM; they are written in its
vectors. The arithmetic is executed as written, without reordering or fusing; tanh, exp and log are written in
elementary arithmetic. So results are the same on every machine.

Kernels compile where they are first used, and Numba caches them on disk. A function of another file may not be called
here, as its changes would not make the cache stale: the code of a simulation is passed as an address.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from byzbench.compilation import compiled, on_first_call
from byzbench.rl.compiled import advance_at
from byzbench.rl.forms import LANES, Form

FEW = 4
"""The number of lanes of a narrow vector, whose divisions take a fraction of the time: small batches fill no more."""

GROUPS = 16
"""The largest number of groups of `LANES` steps whose intermediate results are kept for a gradient."""

kernel = partial(compiled, counted=False)
"""Compile a kernel, whose arrays are all made by its caller: counting references to views takes as long as a step."""

_FORM = types.NamedTuple(
    (
        *(types.int64[::1], types.boolean, types.boolean, types.boolean, types.boolean, types.int64),
        *(types.boolean, types.boolean, types.float32[:, ::1], types.int64[::1], types.int64[::1]),
    ),
    Form,
)
_HALF_LOG_2PI = np.float32(math.log(2 * math.pi) / 2)

_INDICES, _ROW, _ROWS = types.int64[::1], types.float32[::1], types.float32[:, ::1]
_WIDE_ROWS, _MASK, _STEPS = types.float64[:, ::1], types.boolean[:, :, :], types.float32[:, :, :]
_VECTORS = types.float32[:, :, :, :]


class Workspace(NamedTuple):
    """The arrays in which kernels compute.

    Attributes:
        buffer: The units of the network, a buffer of lanes for each group of steps.
        deltas: The derivatives by these units.
        states: The states of the steps of all groups, where observations are states.
        samples: (t, n, player) of steps.
        shares: The exponentials of one group's logits.
        largest: The largest logits in each lane.
        totals: The sums of `shares` in each lane.
        coefficients: A coefficient of each step of all groups.
    """

    buffer: np.ndarray
    deltas: np.ndarray
    states: np.ndarray
    samples: np.ndarray
    shares: np.ndarray
    largest: np.ndarray
    totals: np.ndarray
    coefficients: np.ndarray


_WORKSPACE = types.NamedTuple((_ROW, _ROW, _INDICES, types.int64[:, ::1], _ROW, _ROW, _ROW, _ROW), Workspace)


def workspace(form: Form, groups: int, samples: int) -> Workspace:
    """Make the arrays of a kernel.

    Args:
        form: The form of the policy.
        groups: The number of groups whose units are kept.
        samples: The largest number of steps of an agent, times the number of players.
    """
    units = np.zeros((groups, int(form.units[-1])), np.float32)
    for end in form.units[1:]:
        units[:, end - LANES : end] = 1  # the constant after each layer, which multiplies biases
    return Workspace(
        units.ravel(),
        np.zeros(units.size, np.float32),
        np.zeros(groups * LANES, np.int64),
        np.empty((samples, 3), np.int64),
        np.zeros(int(form.sizes[-1]) * LANES, np.float32),
        np.zeros(LANES, np.float32),
        np.zeros(LANES, np.float32),
        np.zeros(groups * LANES, np.float32),
    )


_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_WIDE = 4
"""The number of outputs that are computed together, so that their sums do not wait for each other."""


def _by_width(builder: Any, few: Any, emit: Callable[[Any], None]) -> None:
    """Write code for vectors of all lanes, and for those of the first `FEW`, which are taken if `few` is true."""
    with builder.if_else(few) as (narrow, wide):
        with narrow:
            emit(ir.VectorType(ir.FloatType(), FEW))
        with wide:
            emit(_VECTOR)


def _splat(builder: Any, value: Any, vector: Any) -> Any:
    """Return a vector with the same number in all lanes."""
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, first, zeros)


def _zeros(builder: Any, count: int, vector: Any) -> list[Any]:
    """Return variables of `count` vectors, which are set to zero here."""
    variables = [cgutils.alloca_once(builder, vector) for _ in range(count)]
    for variable in variables:
        builder.store(ir.Constant(vector, [0.0] * vector.count), variable)
    return variables


def _at(builder: Any, data: Any, index: Any, vector: Any) -> Any:
    """Return a pointer to the vector that begins at an index of an array of numbers."""
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


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
    _: Any,
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
    few: Any,
) -> Any:
    """Multiply lanes by a matrix: y_o = sum over i of w_io x_i, in the order of i.

    w_io is weights[at + i by_input + o by_output]. If the last input is the constant 1, the last row of the matrix has
    the biases.

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
        few: Whether the first `FEW` lanes are enough.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        _, at, by_input, by_output, _, x_at, inputs, _, y_at, outputs, few = arguments
        weights, x, y = _arrays(context, builder, signature, arguments, 0, 4, 7)
        lanes = ir.Constant(at.type, LANES)

        def emit(vector: Any) -> None:
            def tile(first: Any, width: int) -> None:
                columns = [builder.add(first, ir.Constant(first.type, o)) for o in range(width)]
                offsets = [builder.add(at, builder.mul(column, by_output)) for column in columns]
                totals = _zeros(builder, width, vector)
                with cgutils.for_range(builder, inputs) as loop:
                    place = builder.add(x_at, builder.mul(loop.index, lanes))
                    value = builder.load(_at(builder, x, place, vector), align=4)
                    row = builder.mul(loop.index, by_input)
                    for offset, total in zip(offsets, totals, strict=True):
                        weight = builder.load(builder.gep(weights, [builder.add(offset, row)]))
                        product = builder.fmul(_splat(builder, weight, vector), value)
                        builder.store(builder.fadd(builder.load(total), product), total)
                for column, total in zip(columns, totals, strict=True):
                    target = _at(builder, y, builder.add(y_at, builder.mul(column, lanes)), vector)
                    builder.store(builder.load(total), target, align=4)

            _tiles(builder, outputs, tile)

        _by_width(builder, few, emit)
        return context.get_dummy_value()

    numbers = (*[types.intp] * 3, x, types.intp, types.intp, y, types.intp, types.intp)
    return types.void(weights, *numbers, types.boolean), code


@cast(Any, intrinsic)
def add_products(
    _: Any,
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
                sums = _zeros(builder, width, _VECTOR)
                with cgutils.for_range(builder, groups) as group:
                    offset = builder.mul(group.index, stride)
                    value = builder.load(_at(builder, x, builder.add(x_first, offset), _VECTOR), align=4)
                    for y_first, total in zip(firsts, sums, strict=True):
                        other = builder.load(_at(builder, y, builder.add(y_first, offset), _VECTOR), align=4)
                        builder.store(builder.fadd(builder.load(total), builder.fmul(value, other)), total)
                for column, total in zip(columns, sums, strict=True):
                    target = builder.gep(totals, [builder.add(row, column)])
                    term = builder.fpext(_sum(builder, builder.load(total)), ir.DoubleType())
                    builder.store(builder.fadd(builder.load(target), term), target)

            _tiles(builder, outputs, tile)
        return context.get_dummy_value()

    return types.void(x, types.intp, types.intp, y, *[types.intp] * 4, totals, types.intp), code


@cast(Any, intrinsic)
def tanh(_: Any, x: Any, at: Any, units: Any, few: Any) -> Any:
    """Replace the numbers of some units of a buffer of lanes by their tanh, within 3e-7.

    a / b has four terms of Lambert's continued fraction at x / 4, where they are exact to rounding; the formula of the
    double argument, twice, leads to x. There is one division, as divisions take longest.

    Args:
        x: The buffer.
        at: The index of the first unit.
        units: The number of units.
        few: Whether the first `FEW` lanes are enough.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        (x,) = _arrays(context, builder, signature, arguments, 0)
        _, at, units, few = arguments

        def times(*factors: Any) -> Any:
            return reduce(builder.fmul, factors)

        def emit(vector: Any) -> None:
            def constant(value: float) -> Any:
                return ir.Constant(vector, [value] * vector.count)

            with cgutils.for_range(builder, units) as loop:
                place = _at(builder, x, builder.add(at, builder.mul(loop.index, ir.Constant(at.type, LANES))), vector)
                z = times(builder.load(place, align=4), constant(0.25))
                for compare, limit in (("<", constant(2.25)), (">", constant(-2.25))):
                    z = builder.select(builder.fcmp_ordered(compare, z, limit), z, limit)
                s = times(z, z)
                a = times(z, builder.fadd(constant(105), times(constant(10), s)))
                b = builder.fadd(constant(105), times(builder.fadd(constant(45), s), s))
                for _ in range(2):
                    a, b = times(constant(2), a, b), builder.fadd(times(a, a), times(b, b))
                builder.store(builder.fdiv(a, b), place, align=4)

        _by_width(builder, few, emit)
        return context.get_dummy_value()

    return types.void(x, types.intp, types.intp, types.boolean), code


def _bits(source: Any, target: Any) -> Any:
    """Return an intrinsic that reads the bits of a number of 32 bits as another type."""

    def function(typing: Any, number: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
            return builder.bitcast(arguments[0], context.get_value_type(target))

        return target(source), code

    return intrinsic(function)


_bits_of, _with_bits = _bits(types.float32, types.int32), _bits(types.int32, types.float32)


@kernel
def exp(x: np.ndarray, n: int) -> None:
    """Replace the first n numbers of x by their exponentials, within a relative 2e-7.

    They are at most 88, and those below -87 count as -87. x = k log 2 + r gives 2^k exp(r), with the Taylor series of
    exp(r) to r^7 for |r| <= log(2) / 2.
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


@kernel
def log(x: np.ndarray, n: int) -> None:
    """Replace the first n numbers of x, positive and normal, by their logarithms, within 2e-7 of max(1, |log x|).

    x = 2^k m with m from sqrt(1/2) to sqrt(2) gives k log 2 + 2 artanh(s), s = (m - 1) / (m + 1), by its series to
    s^11.
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


@kernel
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


@kernel
def _show(form: Form, observation: np.ndarray, player: int, buffer: np.ndarray, at: int) -> int:
    """Write a player's part of an observation into a lane, and return its state, if it is one.

    Args:
        form: The form of the policy.
        observation: The observation, float32 [o].
        player: The player.
        buffer: A buffer of lanes.
        at: The index of the lane in the first unit of its group.
    """
    if not form.indexed:
        first = player * form.sizes[0]
        for i in range(form.sizes[0]):
            buffer[at + i * LANES] = observation[first + i]
        return 0
    size = form.sizes[0] if form.one_hot else 1
    first, state = player * size, 0
    if not form.one_hot:
        return int(observation[first])
    for i in range(1, size):
        if observation[first + i] > observation[first + state]:
            state = i
    return state


@kernel
def _clear(form: Form, work: Workspace, first: int, last: int) -> None:
    """Clear the lanes from `first` to `last` - 1 of all groups.

    They are part of the sums over lanes, with coefficient 0, and so must not hold what is infinite or NaN.
    """
    for i in range(first, last):
        at = i // LANES * form.units[-1] + i % LANES
        work.states[i], work.coefficients[i] = 0, np.float32(0)
        for unit in range(0 if form.indexed else form.sizes[0]):
            work.buffer[at + unit * LANES] = np.float32(0)


@kernel
def _forward(form: Form, theta: np.ndarray, work: Workspace, group: int, few: bool) -> int:
    """Compute the units of all layers of a group whose first layer is filled in, and return the index of the outputs.

    Args:
        form: The form of the policy.
        theta: The network's parameters, [d].
        work: The workspace.
        group: The number of the group.
        few: Whether the first `FEW` lanes are enough.
    """
    buffer, at, last = work.buffer, group * form.units[-1], len(form.sizes) - 2
    for layer in range(last + 1):
        inputs, outputs = form.sizes[layer], form.sizes[layer + 1]
        first, x, y = form.parameters[layer], at + form.units[layer], at + form.units[layer + 1]
        if layer == 0 and form.indexed:
            for lane in range(LANES):
                row = first + work.states[group * LANES + lane] * outputs
                for j in range(outputs):
                    bias = theta[first + inputs * outputs + j] if form.biased else np.float32(0)
                    buffer[y + j * LANES + lane] = theta[row + j] + bias
        else:
            dense(theta, first, outputs, 1, buffer, x, inputs + 1, buffer, y, outputs, few)
        if layer < last and form.relu:
            hidden = buffer[y : y + outputs * LANES]
            for i in range(outputs * LANES):
                hidden[i] = hidden[i] if hidden[i] > np.float32(0) else np.float32(0)
        elif layer < last or (form.squashed and not form.gaussian):
            tanh(buffer, y, outputs, few)
    return at + form.units[last + 1]


@kernel
def _backward(form: Form, theta: np.ndarray, work: Workspace, groups: int, gradient: np.ndarray) -> None:
    """Add the gradient of the sum over steps of <delta, outputs> to `gradient`.

    Args:
        form: The form of the policy.
        theta: The network's parameters, [d].
        work: The workspace after `_forward`, with the deltas of all outputs.
        groups: The number of groups.
        gradient: The sum, float64 [d].
    """
    buffer, deltas, stride = work.buffer, work.deltas, form.units[-1]
    for layer in range(len(form.sizes) - 2, -1, -1):
        inputs, outputs = form.sizes[layer], form.sizes[layer + 1]
        first, x, y = form.parameters[layer], form.units[layer], form.units[layer + 1]
        if layer == 0 and form.indexed:
            for step in range(groups * LANES):
                delta, row = step // LANES * stride + y + step % LANES, first + work.states[step] * outputs
                for j in range(outputs):
                    gradient[row + j] += deltas[delta + j * LANES]
            if form.biased:
                add_products(buffer, x, 1, deltas, y, outputs, stride, groups, gradient, first + inputs * outputs)
        else:
            add_products(buffer, x, inputs + 1, deltas, y, outputs, stride, groups, gradient, first)
        if layer:
            for group in range(groups):
                at = group * stride + x
                dense(theta, first, 1, outputs, deltas, group * stride + y, outputs, deltas, at, inputs, False)
                hidden, delta = buffer[at : at + inputs * LANES], deltas[at : at + inputs * LANES]
                if form.relu:
                    for i in range(inputs * LANES):
                        delta[i] = delta[i] if hidden[i] > np.float32(0) else np.float32(0)
                else:
                    for i in range(inputs * LANES):
                        delta[i] *= np.float32(1) - hidden[i] * hidden[i]


@kernel
def _softmax(form: Form, work: Workspace, scores: int) -> None:
    """Compute `shares`, `largest` and `totals` of a group, so that a probability is a share of its total.

    Args:
        form: The form of the policy.
        work: The workspace.
        scores: The index of the logits in its buffer.
    """
    buffer, outputs = work.buffer, form.sizes[-1]
    for lane in range(LANES):
        most = buffer[scores + lane]
        for j in range(1, outputs):
            score = buffer[scores + j * LANES + lane]
            most = score if score > most else most
        work.largest[lane] = most
        for j in range(outputs):
            work.shares[j * LANES + lane] = buffer[scores + j * LANES + lane] - most
    exp(work.shares, outputs * LANES)
    for lane in range(LANES):
        total = np.float32(0)
        for j in range(outputs):
            total += work.shares[j * LANES + lane]
        work.totals[lane] = total


@kernel
def _categorical_score(
    form: Form, work: Workspace, scores: int, group: int, begin: int, count: int, actions: np.ndarray
) -> None:
    """Write the derivatives of c log pi(a | s) by the logits of a group into `deltas`, after `_softmax`.

    Args:
        form: The form of the policy.
        work: The workspace, with the coefficients c of all groups.
        scores: The index of the logits in its buffer.
        group: The number of the group.
        begin: The number of the first sample of the first group.
        count: The number of samples of all groups.
        actions: The agent's actions, [T, N, a].
    """
    outputs, first = form.sizes[-1], group * LANES
    for lane in range(LANES):
        c = work.coefficients[first + lane]
        scale = c / work.totals[lane]
        for j in range(outputs):
            work.deltas[scores + j * LANES + lane] = -scale * work.shares[j * LANES + lane]
        if first + lane < count:
            sample = work.samples[begin + first + lane]
            action = int(actions[sample[0], sample[1], sample[2]])
            work.deltas[scores + action * LANES + lane] += c
    if form.squashed:
        for i in range(scores, scores + outputs * LANES):
            work.deltas[i] *= np.float32(1) - work.buffer[i] * work.buffer[i]


@kernel
def _gaussian_score(
    form: Form,
    work: Workspace,
    std: np.ndarray,
    scores: int,
    group: int,
    begin: int,
    count: int,
    actions: np.ndarray,
    gradient: np.ndarray,
) -> None:
    """Write the derivatives of c log pi(a | s) by the means of a group into `deltas`, and add those by log std.

    Args:
        form: The form of the policy.
        work: The workspace, with the coefficients c of all groups.
        std: The standard deviations, [m].
        scores: The index of the means in its buffer.
        group: The number of the group.
        begin: The number of the first sample of the first group.
        count: The number of samples of all groups.
        actions: The agent's actions, [T, N, a].
        gradient: The sums of derivatives by log std, float64 [m].
    """
    outputs, first = form.sizes[-1], group * LANES
    for i in range(scores, scores + outputs * LANES):
        work.deltas[i] = np.float32(0)
    for lane in range(min(LANES, count - first)):
        c, sample = work.coefficients[first + lane], work.samples[begin + first + lane]
        action = actions[sample[0], sample[1]]
        for j in range(outputs):
            deviation = (action[sample[2] * outputs + j] - work.buffer[scores + j * LANES + lane]) / std[j]
            work.deltas[scores + j * LANES + lane] = c * deviation / std[j]
            gradient[j] += c * (deviation * deviation - np.float32(1))


@kernel
def _log_probability(
    form: Form,
    work: Workspace,
    sigma: np.ndarray,
    log_sigma: np.ndarray,
    scores: int,
    lane: int,
    actions: np.ndarray,
    k: int,
    t: int,
    n: int,
    player: int,
) -> np.float32:
    """Return log pi(a | s) of a lane after `_softmax`, and after `log(totals)`; see `differentiate_scores`."""
    outputs, value = form.sizes[-1], np.float32(0)
    if not form.gaussian:
        score = work.buffer[scores + int(actions[k, t, n, player]) * LANES + lane]
        return score - work.largest[lane] - work.totals[lane]
    for j in range(outputs):
        deviation = (actions[k, t, n, player * outputs + j] - work.buffer[scores + j * LANES + lane]) / sigma[j]
        value -= deviation * deviation * np.float32(0.5) + log_sigma[j] + _HALF_LOG_2PI
    return value


@kernel
def _is_valid(form: Form, state: int, action: np.ndarray, player: int) -> bool:
    """Return whether a step's state and a player's part of its action are indices that the policy has."""
    if form.indexed and not 0 <= state < form.sizes[0]:
        return False
    return form.gaussian or (action[player] >= 0 and action[player] < form.sizes[-1])


@on_first_call(
    types.boolean(
        *(_FORM, _WORKSPACE, _ROWS, _ROWS, _ROWS, _VECTORS, _VECTORS, _MASK, _STEPS, _WIDE_ROWS, _STEPS),
    ),
    counted=False,
)
def differentiate_scores(
    form: Form,
    work: Workspace,
    theta: np.ndarray,
    std: np.ndarray,
    log_std: np.ndarray,
    observations: np.ndarray,
    actions: np.ndarray,
    mask: np.ndarray,
    coefficients: np.ndarray,
    gradients: np.ndarray,
    log_probs: np.ndarray,
) -> bool:
    """Add the sum over steps of c grad log pi(a | s) to the row of each agent, and log pi(a | s) to each step.

    Args:
        form: The form of the policy.
        work: A workspace of `GROUPS` groups and T N players samples.
        theta: The network's parameters, float32 [K, d].
        std: The standard deviations of a Gaussian policy, float32 [K, m].
        log_std: Their logarithms.
        observations: The observations, float32 [K, T, N, o].
        actions: The actions, float32 [K, T, N, a], those of all players one after another.
        mask: The valid steps, bool [K, T, N].
        coefficients: The coefficients c, float32 [K, T, N].
        gradients: The sums, float64 [K, d], with the derivatives by log std after it for a Gaussian policy; [0, d] for
            no gradients.
        log_probs: The logarithms, summed over players, float32 [K, T, N]; [0, T, N] for no logarithms.

    Returns:
        Whether all states and actions are valid. The results are not complete if one is not.
    """
    samples, differentiate, tell = work.samples, len(gradients) > 0, len(log_probs) > 0
    for k in range(len(theta)):
        total = _samples(mask[k], form.players, samples)
        for begin in range(0, total, GROUPS * LANES):
            count = min(total - begin, GROUPS * LANES)
            groups = (count + LANES - 1) // LANES
            for i in range(count):
                t, n, player = samples[begin + i, 0], samples[begin + i, 1], samples[begin + i, 2]
                at = i // LANES * form.units[-1] + i % LANES
                work.states[i] = _show(form, observations[k, t, n], player, work.buffer, at)
                work.coefficients[i] = coefficients[k, t, n] if differentiate else np.float32(0)
                if not _is_valid(form, work.states[i], actions[k, t, n], player):
                    return False
            _clear(form, work, count, groups * LANES)
            for group in range(groups):
                scores = _forward(form, theta[k], work, group, False)
                if not form.gaussian:
                    _softmax(form, work, scores)
                if differentiate and form.gaussian:
                    _gaussian_score(
                        form, work, std[k], scores, group, begin, count, actions[k], gradients[k, theta.shape[1] :]
                    )
                elif differentiate:
                    _categorical_score(form, work, scores, group, begin, count, actions[k])
                if tell and not form.gaussian:
                    log(work.totals, LANES)
                for lane in range(min(LANES, count - group * LANES) if tell else 0):
                    sample = samples[begin + group * LANES + lane]
                    log_probs[k, sample[0], sample[1]] += _log_probability(
                        form, work, std[k], log_std[k], scores, lane, actions, k, sample[0], sample[1], sample[2]
                    )
            if differentiate:
                _backward(form, theta[k], work, groups, gradients[k])
    return True


@on_first_call(types.void(_STEPS, _ROW, types.float64[::1], types.float32[:, :, ::1]), counted=False)
def add_returns_to_go(rewards: np.ndarray, powers: np.ndarray, totals: np.ndarray, results: np.ndarray) -> None:
    """Write the sum over j >= h of gamma^j r_j into `results`: see `gradients.reward_to_go`.

    Args:
        rewards: The rewards, float32 [K, T, N].
        powers: The powers of gamma, float32 [T].
        totals: A buffer, float64 [N].
        results: float32 [K, T, N].
    """
    agents, horizon, rows = rewards.shape
    for k in range(agents):
        for n in range(rows):
            totals[n] = 0.0
        for t in range(horizon - 1, -1, -1):
            for n in range(rows):
                totals[n] += np.float64(rewards[k, t, n] * powers[t])
                results[k, t, n] = totals[n]


@kernel
def _choice(form: Form, work: Workspace, scores: int, lane: int, uniform: np.float32, greedy: bool) -> int:
    """Sample an action of a lane by inverse CDF, or return the likeliest.

    The result is a valid action even if scores are NaN, as comparisons with NaN are false.
    """
    outputs, choice = form.sizes[-1], 0
    if greedy:
        for j in range(1, outputs):
            if work.buffer[scores + j * LANES + lane] > work.buffer[scores + choice * LANES + lane]:
                choice = j
        return choice
    threshold, total = uniform * work.totals[lane], np.float32(0)
    for j in range(outputs - 1):
        total += work.shares[j * LANES + lane]
        if threshold > total:
            choice += 1
    return choice


@kernel
def _execute(
    form: Form, work: Workspace, scores: int, lane: int, actions: np.ndarray, first: int, executed: np.ndarray
) -> None:
    """Write a player's continuous action as it is executed: see `GaussianPolicy`.

    Args:
        form: The form of the policy.
        work: The workspace, whose buffer holds the tanh of the policy's action if it is squashed.
        scores: The index of the outputs in its buffer.
        lane: The lane.
        actions: The policy's actions of all players, [a].
        first: The index of the player's first coordinate.
        executed: The result, [a].
    """
    for j in range(form.sizes[-1]):
        middle, half, low, high = form.bounds[0, j], form.bounds[1, j], form.bounds[2, j], form.bounds[3, j]
        u = actions[first + j]
        if math.isfinite(low) and math.isfinite(high):
            clipped = min(max(u, np.float32(-1)), np.float32(1))
            u = work.buffer[scores + j * LANES + lane] if form.squashed else clipped
        executed[first + j] = min(max(middle + half * u, low), high)


class Lanes(NamedTuple):
    """The episodes of one agent that a rollout runs side by side.

    Attributes:
        t: The number of each episode's step, int64 [LANES].
        n: Its number, int64 [LANES].
        rows: The number of its environment, int64 [LANES].
        seen: Its present observation, float32 [LANES, o].
        executed: Its action as environments take it, float64 [LANES, a].
        rewards: Its reward, float32 [LANES].
        ended: Whether it has terminated, bool [LANES].
    """

    t: np.ndarray
    n: np.ndarray
    rows: np.ndarray
    seen: np.ndarray
    executed: np.ndarray
    rewards: np.ndarray
    ended: np.ndarray


_LANES = types.NamedTuple((_INDICES, _INDICES, _INDICES, _ROWS, _WIDE_ROWS, _ROW, types.boolean[::1]), Lanes)


def lanes(action_size: int, observation_size: int) -> Lanes:
    """Make the arrays of the episodes of a rollout, for actions [a] and observations [o] of all players together."""
    t, n, rows = np.zeros((3, LANES), np.int64)
    numbers = np.zeros((LANES, observation_size), np.float32), np.zeros((LANES, action_size))
    return Lanes(t, n, rows, *numbers, np.zeros(LANES, np.float32), np.zeros(LANES, bool))


@kernel
def _act(
    form: Form,
    work: Workspace,
    lanes: Lanes,
    theta: np.ndarray,
    std: np.ndarray,
    active: int,
    greedy: bool,
    noise: np.ndarray,
    actions: np.ndarray,
) -> None:
    """Choose the actions of one agent's episodes in the first `active` lanes: see `play_episodes`.

    Args:
        form: The form of the policy.
        work: The workspace.
        lanes: The episodes.
        theta: The network's parameters, [d].
        std: The standard deviations of a Gaussian policy, [m].
        active: The number of lanes.
        greedy: Whether the likeliest actions are taken.
        noise: The agent's noise, [T, N, a].
        actions: The result, [T, N, a].
    """
    outputs, executed = form.sizes[-1], lanes.executed
    for player in range(form.players):
        for lane in range(active):
            work.states[lane] = _show(form, lanes.seen[lane], player, work.buffer, lane)
        scores = _forward(form, theta, work, 0, active <= FEW)
        if not (form.gaussian or greedy):
            _softmax(form, work, scores)
        for lane in range(active):
            t, n = lanes.t[lane], lanes.n[lane]
            if not form.gaussian:
                choice = _choice(form, work, scores, lane, noise[t, n, player], greedy)
                actions[t, n, player] = executed[lane, player] = choice
            for j in range(outputs if form.gaussian else 0):
                at, here = player * outputs + j, scores + j * LANES + lane
                if not greedy:
                    work.buffer[here] += std[j] * noise[t, n, at]
                actions[t, n, at] = work.buffer[here]
        if form.gaussian:
            if form.squashed:
                tanh(work.buffer, scores, outputs, active <= FEW)
            for lane in range(active):
                action = actions[lanes.t[lane], lanes.n[lane]]
                _execute(form, work, scores, lane, action, player * outputs, executed[lane])


@kernel
def _start_episode(lanes: Lanes, lane: int, n: int, row: int, first: np.ndarray) -> None:
    """Start an episode in a lane, in the environment of a row."""
    lanes.t[lane], lanes.n[lane], lanes.rows[lane] = 0, n, row
    for i in range(first.shape[1]):
        lanes.seen[lane, i] = first[row, i]


@kernel
def _move_episode(lanes: Lanes, source: int, target: int) -> None:
    """Move an episode to another lane after a step."""
    for numbers in (lanes.t, lanes.n, lanes.rows):
        numbers[target] = numbers[source]
    lanes.rewards[target], lanes.ended[target] = lanes.rewards[source], lanes.ended[source]
    for i in range(lanes.seen.shape[1]):
        lanes.seen[target, i] = lanes.seen[source, i]


@on_first_call(
    types.int64(
        *(_FORM, _WORKSPACE, _LANES, types.intp, _WIDE_ROWS, _WIDE_ROWS, _ROWS, _ROWS, _ROWS, types.boolean),
        *(_VECTORS, _INDICES, types.float32[:, :, :, ::1], types.float32[:, :, :, ::1]),
        *(types.float32[:, :, ::1], types.boolean[:, :, ::1], types.boolean[:, ::1], types.float32[:, :, ::1]),
        types.int64[:, ::1],
    ),
    counted=False,
)
def play_episodes(
    form: Form,
    work: Workspace,
    lanes: Lanes,
    address: int,
    states: np.ndarray,
    constants: np.ndarray,
    first: np.ndarray,
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
    lengths: np.ndarray,
) -> int:
    """Run the episodes of `rollouts.rollout`, `LANES` of an agent side by side; where one ends, its next one begins.

    Args:
        form: The form of the policies.
        work: A workspace of one group.
        lanes: The arrays of the episodes that run.
        address: The address of the function that steps environments, `compiled.SimulationCode.advance`.
        states: The initial states, float64 [K*N, s]; they change in place.
        constants: The physical constants of each agent, float64 [K, c], or of all, [1, c].
        first: The observations of the initial states, float32 [K*N, o].
        theta: The networks' parameters, float32 [K, d].
        std: The standard deviations of Gaussian policies, float32 [K, m].
        greedy: Whether the likeliest actions are taken.
        noise: The noise of the actions, float32 [K, T, N, a]: uniform, or standard normal.
        count: The number of episodes of each agent, int64 [K].
        observations: The result `Trajectories.observations`, which is filled in up to the end of the longest episode,
            as are the following.
        actions: The result `Trajectories.actions`, float32 [K, T, N, a].
        rewards: The result `Trajectories.rewards`.
        mask: The result `Trajectories.mask`.
        terminated: The result `Trajectories.terminated`, zeros.
        final_observations: The result `Trajectories.final_observations`, zeros.
        lengths: The lengths of the episodes, int64 [K, N], zeros.

    Returns:
        The length of the longest episode, at least 1.
    """
    advance, size = advance_at(address), first.shape[1]
    agents, horizon, rows, _ = noise.shape
    longest = 1
    for k in range(agents):
        active, following = 0, 0
        while active < LANES and following < count[k]:
            _start_episode(lanes, active, following, k * rows + following, first)
            active, following = active + 1, following + 1
        while active:
            for lane in range(active):
                for i in range(size):
                    observations[k, lanes.t[lane], lanes.n[lane], i] = lanes.seen[lane, i]
            _act(form, work, lanes, theta[k], std[k], active, greedy, noise[k], actions[k])
            advance(states, constants, lanes.executed, lanes.rows, active, lanes.rewards, lanes.ended, lanes.seen)
            lane = 0
            while lane < active:
                t, n = lanes.t[lane], lanes.n[lane]
                rewards[k, t, n], mask[k, t, n] = lanes.rewards[lane], True
                t += 1
                lanes.t[lane] = t
                ended = lanes.ended[lane]
                if not ended and t < horizon:
                    lane += 1
                    continue
                terminated[k, n], lengths[k, n] = ended, t
                if not ended:
                    for i in range(size):
                        final_observations[k, n, i] = lanes.seen[lane, i]
                longest = max(longest, t)
                if following < count[k]:
                    _start_episode(lanes, lane, following, k * rows + following, first)
                    following += 1
                    lane += 1
                else:  # the last episode takes the lane, and is looked at next
                    active -= 1
                    _move_episode(lanes, active, lane)
    for k in range(agents):
        for n in range(rows):
            for t in range(lengths[k, n], longest):
                rewards[k, t, n], mask[k, t, n] = np.float32(0), False
                for i in range(size):
                    observations[k, t, n, i] = np.float32(0)
                for i in range(actions.shape[3]):
                    actions[k, t, n, i] = np.float32(0)
    return longest


@on_first_call(types.void(_FORM, _WORKSPACE, _ROWS, _VECTORS, _MASK, _STEPS), counted=False)
def values(
    form: Form, work: Workspace, theta: np.ndarray, observations: np.ndarray, mask: np.ndarray, results: np.ndarray
) -> None:
    """Write a network's first output at every valid step into `results`.

    Args:
        form: The form of the network.
        work: A workspace of one group and T N samples.
        theta: The parameters, float32 [K, d].
        observations: The observations, float32 [K, T, N, o].
        mask: The valid steps, bool [K, T, N].
        results: float32 [K, T, N].
    """
    samples = work.samples
    for k in range(len(theta)):
        total = _samples(mask[k], 1, samples)
        for begin in range(0, total, LANES):
            count = min(total - begin, LANES)
            for lane in range(count):
                t, n = samples[begin + lane, 0], samples[begin + lane, 1]
                work.states[lane] = _show(form, observations[k, t, n], 0, work.buffer, lane)
            scores = _forward(form, theta[k], work, 0, False)
            for lane in range(count):
                results[k, samples[begin + lane, 0], samples[begin + lane, 1]] = work.buffer[scores + lane]


@on_first_call(
    types.void(_STEPS, _MASK, types.boolean[:, :], _STEPS, _ROWS, types.float64, types.float64, _STEPS), counted=False
)
def fill_advantages(
    rewards: np.ndarray,
    mask: np.ndarray,
    terminated: np.ndarray,
    values: np.ndarray,
    final_values: np.ndarray,
    discount: float,
    decay: float,
    results: np.ndarray,
) -> None:
    """Write generalised advantage estimates into `results`: see `advantages.advantages`.

    Args:
        rewards: The rewards, float32 [K, T, N].
        mask: The valid steps, bool [K, T, N].
        terminated: The episodes that terminated, bool [K, N].
        values: The critic's values, float32 [K, T, N].
        final_values: Its values of the final observations of truncated episodes, float32 [K, N].
        discount: The discount gamma.
        decay: gamma lambda.
        results: float32 [K, T, N], zeros.
    """
    agents, horizon, rows = mask.shape
    for k in range(agents):
        for n in range(rows):
            following = 0.0 if terminated[k, n] else np.float64(final_values[k, n])
            advantage = 0.0
            for t in range(horizon - 1, -1, -1):
                if mask[k, t, n]:
                    delta = rewards[k, t, n] + discount * following - values[k, t, n]
                    advantage = delta + decay * advantage
                    following = np.float64(values[k, t, n])
                    results[k, t, n] = advantage


_LARGEST_RATIO = np.float32(1e26)
"""The probability ratio from which a step has no gradient; larger ones could overflow."""


class PpoSettings(NamedTuple):
    """The parameters of a local PPO update, as `ppo` takes them.

    Attributes:
        epochs: The number of passes over a batch.
        minibatch_size: The number of environment steps of a minibatch.
        lr: Adam's step size.
        clip: The clip range of the probability ratio.
        vf_coef: The weight of the critic's loss.
        ent_coef: The weight of the entropy bonus.
        max_grad_norm: The norm to which gradients are clipped.
    """

    epochs: int
    minibatch_size: int
    lr: float
    clip: float
    vf_coef: float
    ent_coef: float
    max_grad_norm: float


_PPO = types.NamedTuple((types.int64, types.int64, *[types.float64] * 5), PpoSettings)


class PpoArrays(NamedTuple):
    """The batch of a local PPO update, and the arrays in which it computes.

    Attributes:
        observations: The observations, float32 [K, T, N, o].
        actions: The actions, float32 [K, T, N, a], those of all players one after another.
        mask: The valid steps, bool [K, T, N].
        log_probs: Their log-probabilities under the policy that acted, float32 [K, T, N].
        advantages: Their advantages, float32 [K, T, N].
        targets: The targets of the critic, float32 [K, T, N].
        orders: For each agent and pass, the order of its valid steps, int64 [K, epochs, T N].
        steps: A buffer of (t, n) of an agent's steps, int64 [T N, 3].
        std: A buffer of standard deviations, float32 [m].
        log_std: A buffer of their logarithms, float32 [m].
        gradient: A buffer of the gradient, float64 [d + d_c].
    """

    observations: np.ndarray
    actions: np.ndarray
    mask: np.ndarray
    log_probs: np.ndarray
    advantages: np.ndarray
    targets: np.ndarray
    orders: np.ndarray
    steps: np.ndarray
    std: np.ndarray
    log_std: np.ndarray
    gradient: np.ndarray


_ARRAYS = types.NamedTuple(
    (
        *(types.float32[:, :, :, ::1], types.float32[:, :, :, ::1], types.boolean[:, :, ::1]),
        *(types.float32[:, :, ::1], types.float32[:, :, ::1], types.float32[:, :, ::1]),
        *(types.int64[:, :, ::1], types.int64[:, ::1], _ROW, _ROW, types.float64[::1]),
    ),
    PpoArrays,
)


@kernel
def _power(base: float, exponent: int) -> float:
    """Return base^exponent by repeated squaring, for exponent >= 0; unlike the C library's, it is equal everywhere."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


@kernel
def _adam(
    w: np.ndarray, m: np.ndarray, v: np.ndarray, gradient: np.ndarray, scale: float, lr: float, steps: int
) -> None:
    """Take the ascent step of `optimizers.adam` along `scale` times the gradient, in place."""
    first, second = 1 - _power(0.9, steps), 1 - _power(0.999, steps)
    for i in range(len(w)):
        direction = gradient[i] * scale
        mean, square = m[i] + 0.1 * (direction - m[i]), 0.999 * v[i] + 0.001 * direction * direction
        w[i] += lr * (mean / first) / (math.sqrt(square / second) + 1e-8)
        m[i], v[i] = mean, square


@kernel
def _weigh_steps(
    form: Form,
    work: Workspace,
    settings: PpoSettings,
    batch: PpoArrays,
    theta: np.ndarray,
    order: np.ndarray,
    k: int,
    weight: np.float32,
) -> None:
    """Write the derivative of the clipped objective by log pi(a | s) of a block of steps into `coefficients`.

    It is r A', times the weight of a step, where the minimum is not clipped, and else 0. The arguments are those of
    `_add_policy_gradient`.
    """
    players = form.players
    count = len(order) * players
    groups = (count + LANES - 1) // LANES
    _clear(form, work, 0, groups * LANES)
    for i in range(count):
        step = batch.steps[order[i // players]]
        sample = work.samples[i]
        sample[0], sample[1], sample[2] = step[0], step[1], i % players
        at = i // LANES * form.units[-1] + i % LANES
        work.states[i] = _show(form, batch.observations[k, step[0], step[1]], sample[2], work.buffer, at)
    for group in range(groups):
        scores = _forward(form, theta, work, group, False)
        if not form.gaussian:
            _softmax(form, work, scores)
            log(work.totals, LANES)
        for lane in range(min(LANES, count - group * LANES)):
            sample, i = work.samples[group * LANES + lane], group * LANES + lane
            work.coefficients[i // players * players] += _log_probability(
                form, work, batch.std, batch.log_std, scores, lane, batch.actions, k, sample[0], sample[1], sample[2]
            )
    for i in range(0, count, players):
        sample = work.samples[i]
        log_ratio = work.coefficients[i] - batch.log_probs[k, sample[0], sample[1]]
        work.coefficients[i] = log_ratio if log_ratio < np.float32(60) else np.float32(60)
    exp(work.coefficients, groups * LANES)
    for i in range(0, count, players):
        sample, ratio = work.samples[i], work.coefficients[i]
        advantage = batch.advantages[k, sample[0], sample[1]]
        clipped = min(max(ratio, np.float32(1 - settings.clip)), np.float32(1 + settings.clip))
        c = weight * ratio * advantage if ratio * advantage <= clipped * advantage else np.float32(0)
        c = c if ratio < _LARGEST_RATIO else np.float32(0)
        for player in range(players):
            work.coefficients[i + player] = c
    for i in range(count, groups * LANES):
        work.coefficients[i] = np.float32(0)


@kernel
def _add_policy_gradient(
    form: Form,
    work: Workspace,
    settings: PpoSettings,
    batch: PpoArrays,
    theta: np.ndarray,
    order: np.ndarray,
    k: int,
    weight: np.float32,
) -> None:
    """Add the gradient of the clipped objective and the entropy over a block of steps to `batch.gradient`.

    Args:
        form: The form of the policy.
        work: The workspace.
        settings: The parameters of the update.
        batch: The episodes.
        theta: The policy's parameters, of which the network's come first.
        order: The indices of the steps.
        k: The agent.
        weight: The weight of a step in the mean.
    """
    count, gradient, log_std_at = len(order) * form.players, batch.gradient, form.parameters[-1]
    groups = (count + LANES - 1) // LANES
    _weigh_steps(form, work, settings, batch, theta, order, k, weight)
    bonus = np.float32(weight * settings.ent_coef)
    for group in range(groups):
        scores = group * form.units[-1] + form.units[len(form.sizes) - 1]
        if form.gaussian:
            _gaussian_score(form, work, batch.std, scores, group, 0, count, batch.actions[k], gradient[log_std_at:])
        else:
            _softmax(form, work, scores)
            _categorical_score(form, work, scores, group, 0, count, batch.actions[k])
            if bonus > np.float32(0):
                _add_entropy_score(form, work, scores, min(LANES, count - group * LANES), bonus)
    if form.gaussian:
        for j in range(form.sizes[-1]):
            gradient[log_std_at + j] += bonus * np.float32(count)
    _backward(form, theta, work, groups, gradient)


@kernel
def _add_entropy_score(form: Form, work: Workspace, scores: int, lanes: int, bonus: np.float32) -> None:
    """Add the derivatives of `bonus` times the entropy, by the logits of a group, to `deltas`.

    The derivative by a logit is -p (log p + H).

    Args:
        form: The form of the policy.
        work: The workspace after `_softmax`.
        scores: The index of the logits in its buffer.
        lanes: The number of steps in the group.
        bonus: The weight of the entropy of a step.
    """
    outputs = form.sizes[-1]
    log_totals = work.totals
    log(log_totals, LANES)
    for lane in range(lanes):
        entropy = np.float32(0)
        total = np.float32(0)
        for j in range(outputs):
            total += work.shares[j * LANES + lane]
        for j in range(outputs):
            log_prob = work.buffer[scores + j * LANES + lane] - work.largest[lane] - log_totals[lane]
            entropy -= work.shares[j * LANES + lane] / total * log_prob
        for j in range(outputs):
            at = scores + j * LANES + lane
            log_prob = work.buffer[at] - work.largest[lane] - log_totals[lane]
            delta = -bonus * work.shares[j * LANES + lane] / total * (log_prob + entropy)
            if form.squashed:
                delta *= np.float32(1) - work.buffer[at] * work.buffer[at]
            work.deltas[at] += delta


@kernel
def _add_critic_gradient(
    critic: Form,
    work: Workspace,
    settings: PpoSettings,
    batch: PpoArrays,
    phi: np.ndarray,
    order: np.ndarray,
    k: int,
    weight: np.float32,
) -> None:
    """Add the gradient of minus the critic's loss over a block of steps to the end of `batch.gradient`.

    Args:
        critic: The form of the critic.
        work: Its workspace.
        settings: The parameters of the update.
        batch: The episodes.
        phi: The critic's parameters.
        order: The indices of the steps.
        k: The agent.
        weight: The weight of a step in the mean.
    """
    count = len(order)
    groups, scale = (count + LANES - 1) // LANES, np.float32(weight * settings.vf_coef)
    _clear(critic, work, count, groups * LANES)
    for i in range(count):
        step = batch.steps[order[i]]
        at = i // LANES * critic.units[-1] + i % LANES
        work.states[i] = _show(critic, batch.observations[k, step[0], step[1]], 0, work.buffer, at)
    for group in range(groups):
        scores = _forward(critic, phi, work, group, False)
        for lane in range(LANES):
            i = group * LANES + lane
            work.deltas[scores + lane] = np.float32(0)
            if i < count:
                step = batch.steps[order[i]]
                error = batch.targets[k, step[0], step[1]] - work.buffer[scores + lane]
                work.deltas[scores + lane] = scale * error
    _backward(critic, phi, work, groups, batch.gradient[len(batch.gradient) - len(phi) :])


@on_first_call(
    types.void(
        *(_FORM, _WORKSPACE, _FORM, _WORKSPACE, _PPO, _ARRAYS),
        *(types.float64, types.float64, _ROWS, _ROWS, _ROWS, _ROWS),
    ),
    counted=False,
)
def ppo(
    form: Form,
    work: Workspace,
    critic: Form,
    critic_work: Workspace,
    settings: PpoSettings,
    batch: PpoArrays,
    lowest: float,
    highest: float,
    w: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    t: np.ndarray,
) -> None:
    """Run the local PPO updates of all agents in place: see `ppo.LocalPpo`.

    Args:
        form: The form of the policy.
        work: A workspace of `GROUPS` groups and GROUPS LANES samples.
        critic: The form of the critic.
        critic_work: A workspace for it, of the same size.
        settings: The parameters of the update.
        batch: The episodes of all agents.
        lowest: The bound to which log std are clamped from below.
        highest: The bound from above.
        w: The parameters of policy and critic, float32 [K, d + d_c].
        m: Adam's first moments, as w.
        v: Its second moments.
        t: Its number of steps, float32 [K, 1].
    """
    size, outputs = form.parameters[-1], form.sizes[-1] if form.gaussian else 0
    critic_at, per_block = size + outputs, GROUPS * LANES // form.players
    gradient = batch.gradient
    for k in range(len(w)):
        total = _samples(batch.mask[k], 1, batch.steps)
        for epoch in range(settings.epochs):
            for start in range(0, total, settings.minibatch_size):
                end = min(start + settings.minibatch_size, total)
                for j in range(outputs):
                    raw = w[k, size + j]
                    raw = raw if raw > lowest else lowest
                    batch.log_std[j] = batch.std[j] = raw if raw < highest else highest
                exp(batch.std, outputs)
                for i in range(len(gradient)):
                    gradient[i] = 0.0
                weight = np.float32(1) / np.float32(end - start)
                for begin in range(start, end, per_block):
                    order = batch.orders[k, epoch, begin : min(begin + per_block, end)]
                    _add_policy_gradient(form, work, settings, batch, w[k], order, k, weight)
                    _add_critic_gradient(critic, critic_work, settings, batch, w[k, critic_at:], order, k, weight)
                for j in range(outputs):
                    if not lowest <= w[k, size + j] <= highest:  # a clamped log std has no gradient
                        gradient[size + j] = 0.0
                square = 0.0
                for i in range(len(gradient)):
                    square += gradient[i] * gradient[i]
                scale = settings.max_grad_norm / max(math.sqrt(square), settings.max_grad_norm)
                t[k, 0] += np.float32(1)
                _adam(w[k], m[k], v[k], gradient, scale, settings.lr, int(t[k, 0]))
