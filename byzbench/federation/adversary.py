"""Drives an attack: builds its views, carries its memory, and puts its words into the liars' mouths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from byzbench.contracts import Aggregator, Attack, Speech, State, Taps, Task
from byzbench.federation.defence import Defence
from byzbench.federation.ledger import Aggregation
from byzbench.federation.membership import Membership
from byzbench.federation.screening import Screened, screen
from byzbench.federation.view import View, shown
from byzbench.randomness import Streams

_SEEN = "seen."


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
        self._threat = attack.threat
        self._shown = shown(self._threat)
        self._exchanges = 0
        self._coin: Tensor | None = None
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
                seats, rows = torch.arange(len(self._liars)), torch.zeros(len(self._liars)).long()
            else:
                seats, rows = (torch.tensor(self._liars).unsqueeze(1) == receivers).nonzero(as_tuple=True)
            heard = value[rows].isfinite().all(1)
            past = self._seen.get(f"history.{topic}", value.new_zeros(len(self._liars), value.shape[1]))
            if heard.any():
                self._seen[f"history.{topic}"] = past.index_copy(0, seats[heard], value[rows[heard]])
        if "defence" in self._shown and self._rules.get(topic) is not None and self._rules[topic].stateful:
            at = torch.zeros(1).long() if receivers is None else (receivers == self._victim).nonzero().squeeze(1)
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
        }

    @cached_property
    def _mixing(self) -> Tensor:
        agents = self._members.agents
        square = torch.zeros(agents, agents, dtype=torch.float64)
        return square.scatter_add_(1, self._members.senders, self._members.mixing)

    @cached_property
    def _victim(self) -> int:
        """Where a clone sits if not at a server: at the honest agent that hears the most liars, of equals the first."""
        return max(self._honest, key=lambda a: sum(b in self._liars for b in self._members.inboxes[a]))

    def speak(self, topic: str, x: Tensor, lies: Tensor) -> Screened | None:
        """What the liars say in place of their rows of x [K, d], or None where they say what they computed.

        One row an edge of `lies` [E, 2], (row among the liars, receiver), if they equivocate; else one a liar.
        """
        self._exchanges += 1
        if not self._liars or not self._attack.speaks(topic):
            return None
        vectors = x.detach().cpu()
        if "colluders" in self._threat.sees:
            speech = self._say(topic, vectors, range(len(self._liars)), lies)
            return screen(speech, len(lies) if self._threat.equivocates else len(self._liars), x.shape[1])
        parts = []
        for row in range(len(self._liars)):
            edges = lies[lies[:, 0] == row]
            speech = self._say(topic, vectors, [row], edges)
            parts.append(screen(speech, len(edges) if self._threat.equivocates else 1, x.shape[1]))
        return Screened(*(torch.cat([getattr(p, f) for p in parts]) for f in ("vectors", "malformed", "silent")))

    def _say(self, topic: str, vectors: Tensor, rows: Sequence[int], lies: Tensor) -> Speech:
        """The speech of the liars in these rows, who speak on the edges `lies`."""
        liars = [self._liars[row] for row in rows]
        edges = torch.stack([lies[:, 0] - rows[0], lies[:, 1]], 1)
        past = self._seen.get(f"history.{topic}")
        secrets: dict[str, Callable[[], Any]] = {
            **self._place(liars),
            "own": lambda: vectors[liars],
            "colluders": lambda: vectors[liars],
            "honest": lambda: vectors[self._honest],
            "edges": edges.numpy,
            "history": lambda: None if past is None else past[list(rows)],
            "defence": lambda: self._defence(topic, vectors, lies),
        }
        rng = self._streams.generator(f"attack/{self._exchanges}", self.round, rows[0])
        speech, self._memory = self._attack.speak(self._view({"topic": topic}, secrets), self._memory, rng)
        return speech

    def _defence(self, topic: str, vectors: Tensor, lies: Tensor) -> Defence | None:
        """A clone of the topic's rule at the server if that is where these lies go, else at the victim."""
        rule, members, name = self._rules.get(topic), self._members, f"defence/{self._exchanges}"
        if rule is None:
            return None
        server = bool((lies[:, 1] == members.agents).any())
        inbox = list(range(members.agents)) if server else members.inboxes[self._victim]
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

    def taps(self, agents: Sequence[int], episodes: int, sample: int) -> LiarsTap | None:
        """The liars' hand in the environments of a rollout, the round's `sample`-th, of these agents; or None."""
        if not self._liars or "environment" not in self._threat.surface:
            return None
        rng = self._streams.generator(f"attack/environment/{sample}", self.round)
        view = self._view({"episodes": episodes}, self._place(self._liars))
        taps, self._memory = self._attack.tap(view, self._memory, rng)
        return LiarsTap(taps, agents, self._liars)


class LiarsTap:
    """Applies taps, written for all f liars, to the rows of a rollout that belong to liars."""

    def __init__(self, taps: Taps, agents: Sequence[int], liars: Sequence[int]) -> None:
        pairs = [(row, liars.index(agent)) for row, agent in enumerate(agents) if agent in liars]
        self._taps, self._liars = taps, len(liars)
        self._rows = torch.tensor([row for row, _ in pairs], dtype=torch.int64)
        self._seats = torch.tensor([seat for _, seat in pairs], dtype=torch.int64)
        self._whole = [seat for _, seat in pairs] == list(range(len(liars)))

    # Both are called at every step of a rollout, nearly always with all liars in the block.

    def _spread(self, x: Tensor) -> Tensor:
        """Rows of a block as rows of all liars: those outside the block are zero."""
        mine = x.index_select(0, self._rows)
        return mine if self._whole else x.new_zeros(self._liars, *x.shape[1:]).index_copy_(0, self._seats, mine)

    def _put(self, x: Tensor, told: Tensor) -> None:
        """Rows of all liars into their rows of a block."""
        x.index_copy_(0, self._rows, told if self._whole else told[self._seats])

    def observe(self, t: int, observations: Tensor) -> None:
        """See `byzbench.learning.rollouts.Tap`."""
        if self._taps.observation and len(self._rows):
            self._put(observations, self._taps.observation(t, self._spread(observations)))

    def act(self, t: int, observations: Tensor, actions: Tensor) -> None:
        """See `byzbench.learning.rollouts.Tap`."""
        if self._taps.action and len(self._rows):
            self._put(actions, self._taps.action(t, self._spread(observations), self._spread(actions)))

    def rewards(self, rewards: Tensor) -> Tensor:
        """Rewards [K, T, N] as the liars' agents are told of them."""
        if self._taps.reward is None or not len(self._rows):
            return rewards
        told = rewards.clone()
        self._put(told, self._taps.reward(self._spread(rewards)))
        return told
