"""Drives an attack: builds its views, carries its memory, and puts its words into the liars' mouths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from byzbench.contracts import Aggregator, Attack, State, Taps, Task
from byzbench.errors import BrokenPlugin
from byzbench.federation.defence import Defence
from byzbench.federation.ledger import Aggregation
from byzbench.federation.membership import Membership
from byzbench.federation.screening import Screened, screen
from byzbench.federation.view import View, shown
from byzbench.learning.policies import Policy
from byzbench.learning.rollouts import Trajectories
from byzbench.randomness import Streams

_SEEN = "seen."
Step: TypeAlias = Callable[[int, np.ndarray], np.ndarray]


class Adversary:
    """All liars of one experiment. `round` is set by the federation.

    Args:
        attack: what they do.
        members: who they are.
        task: what everybody learns.
        streams: of the experiment.
        rules: by topic, the rule that meets its messages.
    """

    def __init__(
        self,
        attack: Attack,
        members: Membership,
        task: Task,
        streams: Streams,
        rules: Mapping[str, Aggregator] | None = None,
    ) -> None:
        self.round = 0
        self._attack, self._members, self._task, self._streams = attack, members, task, streams
        self._rules = rules or {}
        self._liars = list(members.liars)
        self._honest = [a for a in range(members.agents) if a not in members.liars]
        self._own_rows, self._honest_rows = torch.tensor(self._liars, dtype=torch.int64), torch.tensor(self._honest)
        self._threat = attack.threat
        self._shown = shown(self._threat)
        self._exchanges = 0
        self._coin: Tensor | None = None
        self._policy: Policy | None = None
        self._theta: Tensor | None = None
        self._lived: dict[int, dict[str, Tensor]] = {}
        self._memory: State = {}
        self._seen: State = {}
        if self._liars:
            self._memory = attack.start(self._view({}, self._place(self._liars)))

    @property
    def memory(self) -> State:
        """What a checkpoint keeps: the attack's flat state; under `seen.`, what it may look back at."""
        return {**self._memory, **{_SEEN + name: part for name, part in self._seen.items()}}

    @memory.setter
    def memory(self, kept: State) -> None:
        self._memory = {name: part for name, part in kept.items() if not name.startswith(_SEEN)}
        self._seen = {name.removeprefix(_SEEN): part for name, part in kept.items() if name.startswith(_SEEN)}

    def begin(self, round: int) -> None:
        """A new round: streams start over under its number."""
        self.round, self._exchanges, self._coin = round, 0, None
        self._theta, self._lived = None, {}

    def meet(self, members: Membership) -> None:
        """Who hears whom from now on; the liars are the same."""
        self._members = members
        for name in ("_mixing", "_victim"):
            self.__dict__.pop(name, None)

    def toss(self, values: Tensor) -> None:
        """A common draw has been made: values [K], as everybody sees it."""
        self._coin = values[self._liars]

    def learn(self, topic: str, done: Aggregation) -> None:
        """What a rule made of an exchange, for an attack that looks back or tries the rule out."""
        if not self._liars or not {"history", "defence"} & self._shown:
            return
        receivers = done.inbox.receivers
        if "history" in self._shown:
            value = done.value.detach().cpu()
            if receivers is None:
                seats, rows = torch.arange(len(self._liars)), torch.tensor(self._liars) % len(value)
            else:
                seats, rows = (torch.tensor(self._liars).unsqueeze(1) == receivers).nonzero(as_tuple=True)
            heard = value[rows].isfinite().all(1)
            past = self._seen.get(f"history.{topic}", value.new_zeros(len(self._liars), value.shape[1]))
            if heard.any():
                self._seen[f"history.{topic}"] = past.index_copy(0, seats[heard], value[rows[heard]])
        if "defence" in self._shown and self._rules.get(topic) is not None and self._rules[topic].stateful:
            worst = torch.tensor([self._worst(len(done.value))])
            at = worst if receivers is None else (receivers == self._victim).nonzero().squeeze(1)
            if len(at):
                kept = {f"state.{topic}.{name}": part[at[0]].cpu().clone() for name, part in done.state.items()}
                self._seen |= kept

    def _view(self, public: dict[str, Any], secrets: dict[str, Callable[[], Any]]) -> View:
        """Secrets come as what makes them: what is not shown is not made."""
        facts = {
            "round": self.round,
            "agents": self._members.agents,
            "byzantine": len(self._liars),
            "task": self._task,
        }
        made = {name: make() for name, make in secrets.items() if name in self._shown}
        return View(self._threat, {**facts, **public}, made)

    def _place(self, liars: Sequence[int]) -> dict[str, Callable[[], Any]]:
        """The secrets that do not depend on an exchange, for these liars."""
        seats = [self._liars.index(a) for a in liars]
        return {
            "graph": self._members.graph.copy,
            "liars": lambda: torch.tensor(liars),
            "peers": lambda: torch.tensor(self._honest),
            "mixing": lambda: self._mixing.clone(),
            "coin": lambda: None if self._coin is None else self._coin[seats],
            "policy": lambda: self._policy,
            "theta": lambda: None if self._theta is None else self._theta[seats],
        }

    def _experience(self, liar: int) -> Trajectories | None:
        lived = self._lived.get(liar)
        return Trajectories(**{name: part.clone() for name, part in lived.items()}) if lived else None

    @cached_property
    def _mixing(self) -> Tensor:
        agents = self._members.agents
        square = torch.zeros(agents, agents, dtype=torch.float64)
        return square.scatter_add_(1, self._members.senders, self._members.mixing)

    @cached_property
    def _victim(self) -> int:
        """Where a clone sits if not at a server: at the honest agent that hears the most liars, of equals the first."""
        return max(self._honest, key=lambda a: sum(b in self._liars for b in self._members.inboxes[a]))

    def _worst(self, groups: int) -> int:
        """Of a server's groups, the one with the most liars, of equals the first."""
        return max(range(groups), key=lambda group: sum(liar % groups == group for liar in self._liars))

    async def speak(self, topic: str, x: Tensor, lies: Tensor, groups: int = 1) -> Screened | None:
        """What the liars say in place of their rows of x [K, d], or None where they say what they computed.

        One row an edge of `lies` [E, 2], (row among the liars, receiver), in order of the first, if they equivocate;
        else one a liar. A server hears them in that many groups.
        """
        self._exchanges += 1
        if not self._liars or not self._attack.speaks(topic):
            return None
        vectors, edges, liars = x.detach().cpu(), lies.numpy(), len(self._liars)
        if "colluders" in self._threat.sees:
            return await self._say(topic, vectors, range(liars), edges, groups)
        starts = np.searchsorted(edges[:, 0], np.arange(liars + 1)).tolist()
        parts = [
            await self._say(topic, vectors, range(row, row + 1), edges[starts[row] : starts[row + 1]], groups)
            for row in range(liars)
        ]
        return Screened(*(torch.cat([getattr(p, f) for p in parts]) for f in ("vectors", "malformed", "silent")))

    async def _say(self, topic: str, vectors: Tensor, rows: range, lies: np.ndarray, groups: int) -> Screened:
        """What the liars in these rows say, on the edges `lies` if they equivocate."""
        liars, mine = self._liars[rows.start : rows.stop], self._own_rows[rows.start : rows.stop]
        past = self._seen.get(f"history.{topic}")
        secrets: dict[str, Callable[[], Any]] = {
            **self._place(liars),
            "own": lambda: vectors.index_select(0, mine),
            "colluders": lambda: vectors.index_select(0, mine),
            "honest": lambda: vectors.index_select(0, self._honest_rows),
            "edges": lambda: lies - [rows.start, 0],
            "history": lambda: None if past is None else past[rows.start : rows.stop].clone(),
            "experience": lambda: [self._experience(row) for row in rows],
            "defence": lambda: self._defence(topic, vectors, lies, groups),
        }
        rng = self._streams.generator(f"attack/{self._exchanges}", self.round, rows.start)
        speech, self._memory = await self._attack.answer(self._view({"topic": topic}, secrets), self._memory, rng)
        return screen(speech, len(lies) if self._threat.equivocates else len(rows), vectors.shape[1])

    def _defence(self, topic: str, vectors: Tensor, lies: np.ndarray, groups: int) -> Defence | None:
        """A clone of the topic's rule: for the server's worst group if these lies go there, else at the victim."""
        rule, members, name = self._rules.get(topic), self._members, f"defence/{self._exchanges}"
        if rule is None:
            return None
        server = bool((lies[:, 1] == members.agents).any())
        worst = self._worst(groups)
        inbox = list(range(worst, members.agents, groups)) if server else members.inboxes[self._victim]
        prefix = f"state.{topic}."
        round = self.round
        return Defence(
            rule=rule,
            receiver=members.agents if server else self._victim,
            calls=self._threat.calls,
            inbox=vectors[inbox],
            seats=torch.tensor([self._liars.index(a) if a in self._liars else -1 for a in inbox]),
            bound=members.bound(len(inbox)),
            own=-1 if server else inbox.index(self._victim),
            weights=None if server else self._mixing[self._victim, inbox],
            state={k.removeprefix(prefix): v for k, v in self._seen.items() if k.startswith(prefix)},
            rng=lambda: self._streams.generator(name, round),
        )

    @property
    def equivocates(self) -> bool:
        """Whether speech is one vector an edge."""
        return self._threat.equivocates

    def taps(self, agents: Sequence[int], episodes: int, sample: int, policy: Policy, theta: Tensor) -> LiarsTap | None:
        """The liars' hand in the environments of a rollout, or None.

        Args:
            agents: who plays.
            episodes: how many at most.
            sample: the rollout's number in this round, from 1.
            policy: the policy family.
            theta: [len(agents), d], what they play by.
        """
        if self._liars and "policy" in self._shown:
            self._policy = policy
            theta = theta.detach().cpu()
            if self._theta is None:
                self._theta = theta.new_zeros(len(self._liars), theta.shape[1])
            rows, seats = _seated(agents, self._liars)
            self._theta[seats] = theta[rows]
        if not self._liars or "environment" not in self._threat.surface:
            return None
        rng = self._streams.generator(f"attack/environment/{sample}", self.round)
        view = self._view({"episodes": episodes}, self._place(self._liars))
        taps, self._memory = self._attack.tap(view, self._memory, rng)
        if unknown := sorted(set(taps.dynamics or ()) - set(self._task.dynamics)):
            raise BrokenPlugin(f"{type(self._attack).__name__} changes {unknown[0]!r}, which this task does not offer")
        return LiarsTap(taps, agents, self._liars)

    def lived(self, agents: Sequence[int], episodes: Trajectories) -> None:
        """What these agents have met in their environments, as they believe it: a row each."""
        if self._liars and "experience" in self._shown:
            for row, seat in zip(*_seated(agents, self._liars), strict=True):
                self._lived[seat] = {name: part[row : row + 1] for name, part in vars(episodes).items()}


def _seated(agents: Sequence[int], liars: Sequence[int]) -> tuple[list[int], list[int]]:
    """The liars among some agents, in their own order: their rows there, and which of the f liars they are."""
    place = {agent: row for row, agent in enumerate(agents)}
    seats = [seat for seat, liar in enumerate(liars) if liar in place]
    return [place[liars[seat]] for seat in seats], seats


class LiarsTap:
    """Applies taps, written for all f liars, to the rows of a rollout that belong to liars."""

    def __init__(self, taps: Taps, agents: Sequence[int], liars: Sequence[int]) -> None:
        rows, seats = _seated(agents, liars)
        self._taps, self._agents, self._liars = taps, len(agents), len(liars)
        self._rows, self._seats = np.array(rows, np.intp), np.array(seats, np.intp)
        self._whole = len(seats) == len(liars)
        # See `byzbench.learning.rollouts.Tap`.
        self.observe = self._hand(taps.observation) if rows and taps.observation else None
        self.act = self._hand(taps.action) if rows and taps.action else None

    def _hand(self, tap: Step) -> Callable[[int, np.ndarray], None]:
        """What changes the liars' rows of x [K, ...] at step t as the tap does."""
        whole, rows, cells = self._whole, self._rows, np.empty(0, np.intp)

        def change(t: int, x: np.ndarray) -> None:
            # At every step of a rollout. `take` and `put` cost a fifth of what indexing with rows does.
            nonlocal cells
            told = tap(t, x.take(rows, 0) if whole else self._spread(x))
            if not cells.size:
                if told.shape[1:] != x.shape[1:]:
                    raise BrokenPlugin(f"a tap made {list(told.shape)} of {[self._liars, *x.shape[1:]]}")
                cells = np.arange(x.size).reshape(len(x), -1)[rows]
            x.put(cells, told if whole else told[self._seats])

        return change

    def _spread(self, x: np.ndarray) -> np.ndarray:
        """Rows of a block as rows of all liars: those outside the block are zero."""
        mine = x[self._rows]
        if self._whole:
            return mine
        every = np.zeros((self._liars, *x.shape[1:]), x.dtype)
        every[self._seats] = mine
        return every

    def rewards(self, rewards: Tensor) -> Tensor:
        """Rewards [K, T, N] as the liars' agents are told of them."""
        if self._taps.reward is None or not len(self._rows):
            return rewards
        told = rewards.clone()
        told[self._rows] = self._taps.reward(torch.from_numpy(self._spread(rewards.numpy())))[self._seats]
        return told

    def dynamics(self) -> dict[str, np.ndarray]:
        """What the block's physical constants are multiplied by: [K] for each that is changed."""
        factors = {}
        for name, theirs in (self._taps.dynamics or {}).items():
            factors[name] = np.ones(self._agents)
            factors[name][self._rows] = theirs[self._seats]
        return factors
