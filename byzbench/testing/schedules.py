"""Conformance tests of schedules: one function for each property.

    for check in CHECKS:
        check(schedule, ScheduleCase(seed=0))

A check raises `AssertionError` with one line that describes the failure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from byzbench.core import Schedule


@dataclass(frozen=True)
class ScheduleCase:
    """Input of a check: agents, batches and messages of several sizes.

    Attributes:
        seed: The seed of the draws.
        steps: The environment steps of batches.
        sizes: The bytes of messages.
        inboxes: The (n, f) of inboxes.
    """

    seed: int = 0
    steps: tuple[int, ...] = (0, 1, 20, 5000)
    sizes: tuple[int, ...] = (0, 16, 100_000)
    inboxes: tuple[tuple[int, int], ...] = ((1, 0), (4, 1), (13, 3), (26, 6))

    def agents(self, schedule: Schedule) -> tuple[int, ...]:
        """Return the numbers of agents; one number for a schedule that lists the speed of each agent."""
        return (len(schedule.speed),) if isinstance(schedule.speed, list) else (1, 2, 13)

    def rng(self) -> np.random.Generator:
        """Return a new generator with the seed of the case."""
        return np.random.default_rng(self.seed)


Check: TypeAlias = Callable[[Schedule, ScheduleCase], None]
CASES = tuple(ScheduleCase(seed) for seed in range(8))


def every_agent_has_a_positive_speed(schedule: Schedule, case: ScheduleCase) -> None:
    """Check that speeds are finite and positive, float64 [K]."""
    for agents in case.agents(schedule):
        speeds = schedule.draw_speeds(agents, case.rng())
        assert isinstance(speeds, np.ndarray), f"draw_speeds returned a {type(speeds).__name__}, not an array"
        text = f"draw_speeds returned {speeds.dtype} of shape {list(speeds.shape)}, expected float64 [{agents}]"
        assert (speeds.shape, speeds.dtype) == ((agents,), np.float64), text
        assert np.isfinite(speeds).all(), "a speed is not finite"
        assert (speeds > 0).all(), "a speed is not positive"


def same_generator_gives_same_times(schedule: Schedule, case: ScheduleCase) -> None:
    """Check that draws with equal generators are equal: speeds, times of batches and times of messages."""
    agents = case.agents(schedule)[-1]
    for draw in (
        lambda: schedule.draw_speeds(agents, case.rng()).tolist(),
        lambda: [schedule.batch_seconds(steps, 0.5, case.rng()) for steps in case.steps],
        lambda: [schedule.link_seconds(size, 5, case.rng()).tolist() for size in case.sizes],
    ):
        assert draw() == draw(), "two equal draws differ: it draws from another generator than `rng`"


def batches_take_finite_time(schedule: Schedule, case: ScheduleCase) -> None:
    """Check that a batch takes a finite time of at least 0, and no longer at twice the speed."""
    for steps in case.steps:
        slow, fast = (schedule.batch_seconds(steps, speed, case.rng()) for speed in (0.5, 1.0))
        assert isinstance(slow, float), f"batch_seconds returned a {type(slow).__name__}, not a float"
        assert np.isfinite(slow), f"a batch of {steps} steps takes {slow} seconds"
        assert 0 <= fast <= slow, f"a batch of {steps} steps takes {fast} s at speed 1 and {slow} s at speed 0.5"


def messages_take_finite_time(schedule: Schedule, case: ScheduleCase) -> None:
    """Check that messages take finite times of at least 0, float64 [messages], and no longer if they are smaller."""
    before = np.zeros(5)
    for size in case.sizes:
        seconds = schedule.link_seconds(size, 5, case.rng())
        text = f"link_seconds returned the shape {list(np.shape(seconds))}, expected [5]"
        assert isinstance(seconds, np.ndarray) and seconds.shape == (5,), text  # noqa: PT018 (the second needs the first)
        assert np.isfinite(seconds).all(), f"a message of {size} bytes takes no finite time"
        assert (seconds >= before).all(), f"a message of {size} bytes takes less time than a smaller one"
        before = seconds


def quorums_can_be_met(schedule: Schedule, case: ScheduleCase) -> None:
    """Check that a quorum is between 1 and n."""
    for n, f in case.inboxes:
        for at_server in (False, True):
            quorum = schedule.quorum_of(n, f, at_server)
            assert isinstance(quorum, int), f"quorum_of returned a {type(quorum).__name__}, not an int"
            assert 1 <= quorum <= n, f"quorum_of({n}, {f}) is {quorum}"


CHECKS: tuple[Check, ...] = (
    every_agent_has_a_positive_speed,
    same_generator_gives_same_times,
    batches_take_finite_time,
    messages_take_finite_time,
    quorums_can_be_met,
)
FORM: tuple[Check, ...] = (every_agent_has_a_positive_speed, messages_take_finite_time)
"""The checks of shapes and types."""
