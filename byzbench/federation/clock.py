"""Virtual clocks of agents and a server that run each round together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from byzbench.core import Schedule, State
from byzbench.core.inbox import Inbox
from byzbench.errors import Undefined
from byzbench.randomness import Streams


def batch_seconds(
    schedule: Schedule, speeds: np.ndarray, streams: Streams, round: int, agent: int, sample: int, steps: int
) -> float:
    """Return the time that an agent computes for a batch; the same whichever schedule runs the agent.

    Args:
        schedule: The law of the time.
        speeds: The speeds of all agents, float64 [K].
        streams: The random streams of the experiment.
        round: The round of the agent.
        agent: The agent.
        sample: The number of the batch in the round, from 0.
        steps: The environment steps of the batch.
    """
    return schedule.batch_seconds(
        steps, float(speeds[agent]), streams.generator(f"schedule/batch/{sample}", round, agent)
    )


class LockstepClock:
    """Clock of each agent and of the server, where all agents run each round together.

    Args:
        schedule: The law of the time.
        streams: The random streams of the experiment.
        num_agents: K, the number of agents.

    Attributes:
        ready: float64 [K], the time at which each agent has finished its last step.
        busy: float64 [K], the time that each agent has computed.
        server: float64 [2], the time at which the server has finished its last step, and whether there is one.
    """

    def __init__(self, schedule: Schedule, streams: Streams, num_agents: int) -> None:
        self.ready, self.busy, self.server = np.zeros(num_agents), np.zeros(num_agents), np.zeros(2)
        self._received = np.zeros(num_agents)
        self._before, self._last_busy = self.ready, self.busy
        self._schedule, self._streams, self._round = schedule, streams, 0
        self._speeds = schedule.draw_speeds(num_agents, streams.generator("schedule/speed"))
        self._uses, self._batches = Counter[str](), Counter[int]()

    def begin(self, round: int) -> None:
        """Start a round."""
        self._round, self._uses, self._batches = round, Counter[str](), Counter[int]()
        self._before, self._last_busy = self.ready.copy(), self.busy.copy()

    def now(self, honest: np.ndarray) -> float:
        """Return the time at which the server, or else the last honest agent, has finished its last step.

        Args:
            honest: bool [K], the honest agents.
        """
        return float(self.server[0] if self.server[1] else self.ready[honest].max())

    def idle_share(self, honest: np.ndarray) -> float:
        """Return the mean share of the time in which honest agents have not computed; NaN at the start."""
        elapsed = np.maximum(self.ready, self._received)[honest]
        return float(1 - (self.busy[honest] / elapsed).mean()) if elapsed.all() else float("nan")

    def compute(self, agents: Sequence[int], steps: Sequence[int]) -> None:
        """Let agents compute a batch, as soon as they have what the server has sent.

        Args:
            agents: The P agents.
            steps: [P], the environment steps of each agent.
        """
        for agent, count in zip(agents, steps, strict=True):
            sample = self._batches[agent]
            self._batches[agent] += 1
            seconds = batch_seconds(self._schedule, self._speeds, self._streams, self._round, agent, sample, count)
            self.ready[agent] = max(self.ready[agent], self._received[agent]) + seconds
            self.busy[agent] += seconds

    def compute_at_server(self, steps: int) -> None:
        """Let the server compute a batch; its speed is 1."""
        self.server += [steps / self._schedule.rate, 0.0]

    def deliver(self, topic: str, inbox: Inbox, silent: np.ndarray, size: int, hops: int) -> np.ndarray:
        """Deliver the messages of an exchange, and let receivers wait for their quorums.

        Args:
            topic: The topic of the exchange.
            inbox: The messages of all receivers.
            silent: bool [R, n], the messages that are not sent or lost.
            size: The bytes of a message.
            hops: The number of successive messages by which each is sent: 3 for reliable broadcast.

        Returns:
            bool [R, n], True for messages that arrive too late.

        Raises:
            Undefined: A quorum can never be met, and there is no timeout.
        """
        name = f"{topic}/{self._uses[topic]}"
        self._uses[topic] += 1
        authors, sent = inbox.authors.numpy(), inbox.mask.numpy() & ~silent
        arrival = np.where(sent, self.ready[authors], np.inf)
        own = np.arange(arrival.shape[1]) == inbox.own.numpy()[:, None]
        for agent in np.unique(authors):
            links = (authors == agent) & ~own & inbox.mask.numpy()
            arrival[links] += self._link_seconds(name, int(agent), size, int(links.sum()), hops)
        sizes, bounds = inbox.mask.sum(1).tolist(), inbox.f.tolist()
        quorums = np.array([self._schedule.quorum_of(n, f) for n, f in zip(sizes, bounds, strict=True)])
        is_server = inbox.receivers is None
        entered = np.full(len(arrival), self.server[0]) if is_server else self.ready
        release = np.maximum(np.sort(arrival, 1)[np.arange(len(arrival)), quorums - 1], entered)
        if self._schedule.timeout is not None:
            release = np.minimum(release, entered + self._schedule.timeout)
        if not np.isfinite(release).all():
            row = int(np.flatnonzero(~np.isfinite(release))[0])
            raise never_met(int(quorums[row]), int(sent[row].sum()))
        late = sent & (arrival > release[:, None])
        if is_server:
            self.server[:] = release.max(), 1.0
            # An agent that was busy until after the end of the round has not begun a batch in it.
            started = np.maximum(self._before, self._received)
            skipped = started > self.server[0]
            self.ready[skipped], self.busy[skipped] = self._before[skipped], self._last_busy[skipped]
        else:
            self.ready = release
        return late

    def broadcast(self, topic: str, size: int) -> None:
        """Send a message of the server to all agents."""
        num_agents = len(self.ready)
        self._received = self.server[0] + self._link_seconds(f"{topic}/broadcast", num_agents, size, num_agents, 1)

    def _link_seconds(self, name: str, agent: int, size: int, messages: int, hops: int) -> np.ndarray:
        """Return the time of the messages of one sender in one exchange, float64 [messages]."""
        return link_seconds(self._schedule, self._streams, name, self._round, agent, size, messages, hops)

    def state_dict(self) -> State:
        """Return the clocks for a checkpoint."""
        parts = {"ready": self.ready, "busy": self.busy, "server": self.server, "received": self._received}
        return {name: torch.from_numpy(part.copy()) for name, part in parts.items()}

    def load_state_dict(self, saved: State) -> None:
        """Load what `state_dict` returned."""
        self.ready, self.busy, self.server, self._received = (
            saved[name].numpy().copy() for name in ("ready", "busy", "server", "received")
        )


def link_seconds(
    schedule: Schedule,
    streams: Streams,
    name: str,
    round: int,
    agent: int,
    size: int,
    messages: int,
    hops: int,
) -> np.ndarray:
    """Return the time of the messages of one sender in one exchange, the same whichever schedule runs the agent.

    Args:
        schedule: The law of the time.
        streams: The random streams of the experiment.
        name: The name of the exchange in the round.
        round: The round of the sender.
        agent: The sender.
        size: The bytes of a message.
        messages: The number of messages.
        hops: The number of successive messages by which each is sent: 3 for reliable broadcast.

    Returns:
        float64 [messages].
    """
    if schedule.latency == 0:
        return np.full(messages, hops * (0.0 if schedule.bandwidth is None else size / schedule.bandwidth))
    rng = streams.generator(f"schedule/link/{name}", round, agent)
    return sum((schedule.link_seconds(size, messages, rng) for _ in range(hops)), np.zeros(messages))


def never_met(quorum: int, arrived: int) -> Undefined:
    """Return the error of an agent that waits for messages that nobody sends.

    Args:
        quorum: The number of messages that it waits for.
        arrived: The number of messages that it gets.
    """
    return Undefined(
        f"schedule: quorum={quorum} is never met, as an agent gets {arrived} messages; give a smaller quorum, for "
        f"example quorum=n-f, or a timeout"
    )
