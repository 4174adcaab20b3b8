"""Freeze: vectors that stop one agent of an agreement, and lead the others away from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch

from byzbench.core import AttackContext, ByzantineMessages, MessageAttack, On, Setting, State, ThreatModel
from byzbench.core.gossip_attack import messages_to_honest
from byzbench.errors import Undefined

_INSIDE = 1 - 1e-3
"""Share of a distance that is used, so that the crafted vectors are nearer to the majority than the victim is."""


@dataclass(frozen=True)
class Freeze(MessageAttack):
    """Gossip attack that shows one agent that all agree, and leads the others away from where that agent stops.

        m[a] = o,    m[i] = o + c (x[a] - o)    as long as the victim a moves
                     m[i] = o - c (x[a] - o)    once it has stopped

    x [h, d] are the honest vectors, o the mean of those of all honest agents i except a, and c = 0.999. The victim is
    the first honest agent with the most Byzantine neighbours. On a complete graph all others receive the same messages,
    so after one exchange they hold the same vector. The victim then receives n - f equal messages. If it stops there,
    it is left behind: the others have moved towards its former place, and are led further away in every exchange. If it
    does not, it follows the others, one exchange behind.

    Source: ours, against agreements in which an agent stops when n - f messages of its inbox are equal.

    Memory, for each topic: `<topic>.victim` [d], the victim's last vector.

    Example:
        The victim is led to the place of the others, and they to the victim's:

        >>> attack, honest = Freeze(), torch.tensor([[8.0], [0.0], [0.0]])
        >>> ids = {"byzantine_ids": torch.tensor([3]), "honest_ids": torch.tensor([0, 1, 2])}
        >>> edges, mixing = np.array([[0, 0], [0, 1], [0, 2]]), torch.full((4, 4), 0.25)
        >>> known = {"honest": honest, "byzantine": torch.zeros(1, 1), "edges": edges, "mixing": mixing, **ids}
        >>> context = AttackContext(attack.threat, {"num_agents": 4, "topic": "parameters"}, known)
        >>> attack.craft_messages(context, {}, np.random.default_rng(0))[0].vectors
        tensor([[0.0000],
                [7.9920],
                [7.9920]])
    """

    source: ClassVar[str] = "this project"
    on: On = field(default="parameters", kw_only=True)

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: omniscient, colluding and equivocating, with knowledge of the graph."""
        return ThreatModel(knowledge=frozenset({"byzantine", "honest", "graph"}), equivocates=True)

    def check(self, setting: Setting) -> None:
        """Reject a single honest agent."""
        if setting.num_agents - setting.num_byzantine < 2:
            raise Undefined("freeze needs two honest agents: one that stops, and one that is led away from it")
        super().check(setting)

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages to the victim and to the others, and remember where the victim is."""
        neighbours = context.mixing[context.honest_ids][:, context.byzantine_ids] > 0
        victim, key = int(neighbours.sum(1).argmax()), f"{context.topic}.victim"
        last, x = memory.get(key), context.honest.double()
        others = (x.sum(0) - x[victim]) / (len(x) - 1)
        stopped = last is not None and torch.equal(last, context.honest[victim])
        towards_victim = _INSIDE * (x[victim] - others)
        vectors = (others - towards_victim if stopped else others + towards_victim).repeat(len(x), 1)
        vectors[victim] = others
        return messages_to_honest(context, vectors), {**memory, key: context.honest[victim].clone()}
