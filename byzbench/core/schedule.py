"""Base class of schedules: how long agents compute, how long messages travel, and for which messages agents wait."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeAlias

import numpy as np
from pydantic import Field

from byzbench.core.component import Categorical, Component, FloatRange
from byzbench.errors import Undefined

if TYPE_CHECKING:
    from byzbench.core.setting import Setting

Speed: TypeAlias = (
    Literal["equal", "two_speed", "lognormal", "heavy_tailed"] | list[Annotated[float, Field(gt=0, le=1e6)]]
)
"""A law of speeds, or the speed of each agent."""

Quorum: TypeAlias = Literal["all", "n-f"] | Annotated[int, Field(ge=1)]
"""The number of messages that an agent waits for."""

SPEED = Field(
    description="speeds of agents: equal: all 1; two_speed: 1, and `1 / ratio` for a share `slow` of the agents; "
    "lognormal: exp(sigma Z), Z standard normal; heavy_tailed: U^(1/tail), U uniform, so that times have a Pareto law; "
    "or a list with the speed of each agent"
)


@dataclass(frozen=True)
class Schedule(Component):
    """A law of the time of agents and messages; without a speed there is no clock, and time is the number of the round.

    A batch of episodes takes as long as its environment steps:

        seconds = steps / (rate * speed)

    With `per=agent` each agent has one speed for the whole run; with `per=batch` a new one is drawn for each batch. An
    agent that crashes during a batch (with probability `crash`) has lost it: after an exponential time of mean
    `downtime` it starts again from its last round, and samples the same episodes.

    A message takes the latency of its link, and the time for its bytes if `bandwidth` is given. An agent waits until
    messages of `quorum` of its neighbours have arrived, its own included, or until `timeout` seconds have passed. All
    messages that have arrived by then count; of later ones it takes no notice.

    Every number of seconds depends on the seed, the round and the agent, not on the machine that computes it.

    Class attributes:
        asynchronous: whether every agent runs on its own, as a coroutine of its own; otherwise all agents run each
            round together.

    Attributes:
        speed: the law of speeds, see `SPEED`.
        ratio: how many times faster fast agents are (two_speed).
        slow: the share of slow agents, rounded down; which ones is drawn (two_speed).
        sigma: the standard deviation of the logarithm of speeds (lognormal).
        tail: the tail index of times: P(time > x) = x^-tail for x >= 1 (heavy_tailed).
        per: whether an agent has one speed, or a new one in each batch.
        rate: environment steps per second at speed 1.
        crash: the probability that an agent crashes during a batch.
        downtime: the mean time from a crash to the restart, in seconds.
        latency: the mean time that a message takes, in seconds.
        latency_law: the distribution of latencies, drawn for each message: constant, exponential, or Pareto with the
            tail index 1.5 (heavy_tailed).
        bandwidth: bytes per second of each link; None: bytes take no time.
        quorum: the number of messages that an agent waits for: all of them, all but the f that may be Byzantine
            (`n-f`), or a number; None: `n-f`, and 1 at a server that handles messages by itself.
        timeout: the longest time that an agent waits for a quorum, in seconds; None: without limit.

    Example:
        >>> from byzbench.registry import make
        >>> make("schedule", "synchronous").has_clock, make("schedule", "asynchronous").has_clock
        (False, True)
    """

    kind: ClassVar[str] = "schedule"
    asynchronous: ClassVar[bool] = False

    speed: Annotated[Speed | None, SPEED, Categorical("equal", "two_speed", "lognormal", "heavy_tailed")] = "equal"
    ratio: Annotated[
        float, Field(ge=1, le=1e6, description="how many times faster fast agents are"), FloatRange(1.0, 10.0)
    ] = 4.0
    slow: Annotated[float, Field(ge=0, le=1, description="share of slow agents"), FloatRange(0.0, 1.0)] = 0.5
    sigma: Annotated[float, Field(ge=0, le=10, description="standard deviation of log speeds"), FloatRange(0, 2)] = 0.5
    tail: Annotated[float, Field(gt=1, le=100, description="tail index of times"), FloatRange(1.1, 3.0)] = 1.5
    per: Annotated[
        Literal["agent", "batch"],
        Field(description="what a speed is drawn for: agent or batch"),
        Categorical("agent", "batch"),
    ] = "agent"
    rate: Annotated[float, Field(gt=0, le=1e12, description="environment steps per second at speed 1")] = 1000.0
    crash: Annotated[
        float, Field(ge=0, lt=1, description="probability of a crash during a batch"), FloatRange(0.0, 0.2)
    ] = 0.0
    downtime: Annotated[float, Field(ge=0, le=1e9, description="mean seconds from a crash to the restart")] = 1.0
    latency: Annotated[
        float, Field(ge=0, le=1e9, description="mean seconds that a message takes"), FloatRange(0.0, 1.0)
    ] = 0.0
    latency_law: Annotated[
        Literal["constant", "exponential", "heavy_tailed"],
        Field(description="distribution of latencies"),
        Categorical("constant", "exponential", "heavy_tailed"),
    ] = "constant"
    bandwidth: Annotated[
        float | None, Field(gt=0, le=1e15, description="bytes per second of a link; None: without limit")
    ] = None
    quorum: Annotated[Quorum | None, Field(description="messages that an agent waits for: all, n-f, or a number")] = (
        "all"
    )
    timeout: Annotated[
        float | None, Field(gt=0, le=1e12, description="longest wait in seconds; None: without limit")
    ] = None

    @property
    def has_clock(self) -> bool:
        """Return whether a speed is given."""
        return self.speed is not None

    def check(self, setting: Setting) -> None:
        """Check that every agent has a speed and that quorums can be met; see `Component.check`."""
        if not self.has_clock:
            return
        name, size = setting.name("schedule"), setting.num_agents
        if isinstance(self.speed, list) and len(self.speed) != size:
            raise Undefined(f"schedule {name!r}: speed lists {len(self.speed)} agents, and there are {size}")
        if isinstance(self.quorum, int):
            for n in sorted({n for inboxes in setting.inboxes.values() for n, _ in inboxes}):
                if self.quorum > n:
                    raise Undefined(
                        f"schedule {name!r}: quorum={self.quorum} can never be met by an agent with {n} messages, its "
                        f"own included"
                    )
        for unsuitable, what in (
            (setting.graph_varies, f"topology {setting.name('topology')!r} varies"),
            (setting.relay, "messages are relayed"),
            (setting.has_absences, "agents are absent or crash by the scenario"),
        ):
            if unsuitable:
                raise Undefined(f"schedule {name!r} with a clock needs a fixed graph of direct links, and {what}")
        if setting.max_delay:
            channel = setting.name("channel")
            raise Undefined(f"schedule {name!r}: channel {channel!r} counts delays in rounds; give a latency instead")

    def oldest(self, round: int) -> int:
        """Return the first round of messages that an agent of a round uses."""
        return round

    def quorum_of(self, n: int, f: int, at_server: bool = False) -> int:
        """Return the number of messages that an agent or a server waits for.

        Args:
            n: the size of its inbox, its own vector included.
            f: the number of Byzantine messages that it assumes among them.
            at_server: whether it is a server that handles messages by itself.

        Example:
            >>> from byzbench.registry import make
            >>> make("schedule", "asynchronous(quorum=n-f)").quorum_of(13, 3)
            10
        """
        if self.quorum is None:
            return 1 if at_server else n - f
        if isinstance(self.quorum, int):
            return min(self.quorum, n)
        return n if self.quorum == "all" else n - f

    def draw_speeds(self, agents: int, rng: np.random.Generator) -> np.ndarray:
        """Return the speed of each agent, float64 [agents]; all 1 where speeds are drawn for each batch.

        Args:
            agents: K, the number of agents.
            rng: the random stream of speeds.
        """
        if isinstance(self.speed, list):
            return np.array(self.speed, np.float64)
        if self.speed == "two_speed":
            speeds = np.ones(agents)
            speeds[rng.permutation(agents)[: math.floor(self.slow * agents)]] = 1 / self.ratio
            return speeds
        return np.ones(agents) if self.per == "batch" else self._random_speeds(agents, rng)

    def batch_seconds(self, steps: int, speed: float, rng: np.random.Generator) -> float:
        """Return the time that an agent computes for a batch.

        Args:
            steps: the environment steps of the batch.
            speed: the agent's speed from `draw_speeds`.
            rng: the random stream of the batch.
        """
        factor = float(self._random_speeds(1, rng)[0]) if self.per == "batch" else 1.0
        seconds = steps / (self.rate * speed * factor)
        if self.crash and rng.random() < self.crash:
            seconds += seconds * rng.random() + self.downtime * rng.exponential()
        return float(seconds)

    def link_seconds(self, size: int, messages: int, rng: np.random.Generator) -> np.ndarray:
        """Return the time that each message takes, float64 [messages].

        Args:
            size: the bytes of a message.
            messages: the number of messages.
            rng: the random stream of their links.
        """
        if self.latency_law == "exponential":
            drawn = rng.exponential(size=messages)
        elif self.latency_law == "heavy_tailed":
            drawn = (1 - rng.random(messages)) ** (-1 / 1.5) / 3  # a Pareto law of tail index 1.5 and mean 1
        else:
            drawn = np.ones(messages)
        return self.latency * drawn + (0.0 if self.bandwidth is None else size / self.bandwidth)

    def _random_speeds(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw speeds of the law: float64 [count]."""
        if self.speed == "lognormal":
            return np.exp(self.sigma * rng.standard_normal(count))
        if self.speed == "heavy_tailed":
            return (1 - rng.random(count)) ** (1 / self.tail)
        return np.ones(count)
