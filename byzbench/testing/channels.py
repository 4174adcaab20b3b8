"""Conformance tests of channels: one function for each property.

    for check in CHECKS:
        check(channel, ChannelCase(seed=0))

A check raises `AssertionError` with one line that describes the failure. Every part of a composite channel is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from byzbench.core import Channel, MessageFormat, State
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import federate, lockstep


@dataclass(frozen=True)
class ChannelCase:
    """Input of a check: vectors of several agents for some rounds.

    Attributes:
        seed: The seed of the vectors.
        d: The dimension of the vectors.
        scale: The standard deviation of their coordinates.
        agents: The number of senders.
        rounds: The number of rounds.
    """

    seed: int = 0
    d: int = 40
    scale: float = 1.0
    agents: int = 5
    rounds: int = 4

    def rng(self, round: int = 0) -> np.random.Generator:
        """Return a new generator for a round."""
        return np.random.default_rng([self.seed, round])

    def x(self, round: int = 0) -> Tensor:
        """Draw the vectors of a round, float32 [M, d]; the last one is zero."""
        rng = np.random.default_rng([self.seed, round, 1])
        x = self.scale * rng.standard_normal((self.agents, self.d))
        x[-1] = 0
        return torch.from_numpy(x.astype(np.float32))


Check: TypeAlias = Callable[[Channel, ChannelCase], None]
CASES = (ChannelCase(0), ChannelCase(1, d=1, scale=1e-3), ChannelCase(2, d=386, scale=1e3))


def encode_rounds(part: Channel, case: ChannelCase) -> list[tuple[Tensor, State]]:
    """Return the decoded vectors and the memory of each round."""
    results: list[tuple[Tensor, State]] = []
    memory: State = {}
    for round in range(case.rounds):
        x = case.x(round)
        before = {name: value.clone() for name, value in memory.items()}
        output = part.encode(x, memory, case.rng(round))
        assert isinstance(output, tuple), f"encode returned a {type(output).__name__}, expected (vectors, memory)"
        assert len(output) == 2, f"encode returned {len(output)} values, expected (vectors, memory)"
        assert torch.equal(x, case.x(round)), "encode modified the vectors that it received"
        unchanged = all(torch.equal(value, memory[name]) for name, value in before.items())
        assert unchanged, "encode modified the memory that it received"
        results.append(output)
        memory = output[1]
        assert isinstance(memory, dict), f"encode returned a {type(memory).__name__} as its memory, not a dict"
        for name, value in memory.items():
            assert isinstance(name, str), f"the memory has the key {name!r}"
            assert isinstance(value, Tensor), f"the memory's {name!r} is a {type(value).__name__}, not a tensor"
    return results


def decoded_vectors_keep_their_form(channel: Channel, case: ChannelCase) -> None:
    """Check that decoded vectors are finite, with the shape and dtype of those that were sent; nothing is modified."""
    for part in channel.parts:
        for decoded, _ in encode_rounds(part, case):
            assert isinstance(decoded, Tensor), f"encode returned a {type(decoded).__name__}, not a tensor"
            form = f"{decoded.dtype} of shape {list(decoded.shape)}"
            expected = f"float32 [{case.agents}, {case.d}]"
            assert decoded.shape == (case.agents, case.d), f"encode returned {form}, expected {expected}"
            assert decoded.dtype == torch.float32, f"encode returned {form}, expected {expected}"
            assert decoded.isfinite().all(), "a decoded vector is not finite"


def channel_memory_has_a_row_for_each_sender(channel: Channel, case: ChannelCase) -> None:
    """Check that the memory is a flat dict of tensors with a row for each sender."""
    for part in channel.parts:
        for _, memory in encode_rounds(part, case):
            for name, value in memory.items():
                rows = value.shape[:1] == (case.agents,)
                assert rows, f"the memory's {name!r} has shape {list(value.shape)}, not a row for each sender"


def same_generator_gives_same_messages(channel: Channel, case: ChannelCase) -> None:
    """Check that equal generators and memories give the same vectors, memories and delays."""
    for part in channel.parts:
        for (first, memory), (second, other) in zip(encode_rounds(part, case), encode_rounds(part, case), strict=True):
            same = torch.equal(first, second) and memory.keys() == other.keys()
            same = same and all(torch.equal(memory[name], other[name]) for name in memory)
            assert same, "two equal calls of encode differ: it draws from another generator, or has hidden state"
        delays = [part.draw_delays(6, 7, case.rng()) for _ in range(2)]
        first_delays, second_delays = delays
        if first_delays is None or second_delays is None:
            same = first_delays is second_delays
        else:
            same = np.array_equal(first_delays, second_delays)
        assert same, "two equal calls draw other delays"


def messages_have_a_size(channel: Channel, case: ChannelCase) -> None:
    """Check that the format of every message has a size of at least one byte."""
    for d in (1, 7, case.d, 4096):
        message_format = MessageFormat(d)
        for part in channel.parts:
            message_format = part.pack(message_format, d)
            kind = type(message_format).__name__
            assert isinstance(message_format, MessageFormat), f"pack returned a {kind}, not a MessageFormat"
        size = message_format.bytes
        assert isinstance(size, int), f"a message of {d} values has {size!r} bytes, not an integer"
        assert size >= 1, f"a message of {d} values has {size} bytes"


def delays_are_within_their_limit(channel: Channel, case: ChannelCase) -> None:
    """Check that delays are int64 [receivers, senders], from -1 (lost) to the largest delay that it declares."""
    for part in channel.parts:
        delays = part.draw_delays(6, 7, case.rng())
        if delays is None:
            continue
        assert isinstance(delays, np.ndarray), f"the delays are a {type(delays).__name__}, not an array"
        form = f"{delays.dtype} of shape {list(delays.shape)}"
        assert delays.shape == (6, 7), f"the delays are {form}, expected int64 [6, 7]"
        assert delays.dtype == np.int64, f"the delays are {form}, expected int64 [6, 7]"
        limit = part.max_delay
        assert delays.min() >= -1, f"a delay is {delays.min()}; the smallest is 0, and -1 for a lost message"
        assert delays.max() <= limit, f"a message is {delays.max()} rounds late, and the declared limit is {limit}"


def a_federation_exchanges_messages_through_it(channel: Channel, case: ChannelCase) -> None:
    """Check that agents receive finite vectors through it for some rounds, their own one always, and pay for them."""
    federation, _ = federate(Experiment.create(agents=case.agents, byzantine=0, channel=channel, seed=case.seed))
    for round in range(case.rounds):
        federation.begin(round, 0.0)
        for topic in ("gradient", "parameters"):
            inbox = lockstep(federation.exchange(topic, case.x(round)))
            received = inbox.base[inbox.senders]
            assert received.isfinite().all(), "a received vector is not finite"
            assert inbox.mask.gather(1, inbox.own.unsqueeze(1)).all(), "an agent lacks its own vector"
    assert federation.counters.bytes > 0, "messages have no cost"


CHECKS: tuple[Check, ...] = (
    decoded_vectors_keep_their_form,
    channel_memory_has_a_row_for_each_sender,
    same_generator_gives_same_messages,
    messages_have_a_size,
    delays_are_within_their_limit,
    a_federation_exchanges_messages_through_it,
)
FORM: tuple[Check, ...] = (decoded_vectors_keep_their_form,)
"""The checks of shapes and types, without which the others cannot run."""
