"""Who is in the federation: the graph, the liars' seats, each agent's inbox and what it may assume about it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, permutations

import networkx as nx
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from byzbench.contracts import Placement, Topology
from byzbench.errors import Undefined
from byzbench.geometry.graphs import heard, shortest_disjoint
from byzbench.geometry.mixing import mixing
from byzbench.geometry.robustness import vertex_connectivity
from byzbench.randomness import Streams


@dataclass(frozen=True)
class Membership:
    """The seats of one experiment. An inbox is a closed neighbourhood: an agent hears itself.

    Attributes:
        graph: agents 0 .. K-1, and the trusted server K where there is one.
        agents: K.
        liars: the Byzantine agents, sorted.
        declared: what every agent is told about f.
        relayed: whether messages go on over several hops, to all agents.
        weights: of gossip, one of `byzbench.geometry.mixing.WEIGHTS`.
        away: agents who are not there, so that nobody hears them, nor they anybody.
    """

    graph: nx.Graph
    agents: int
    liars: tuple[int, ...]
    declared: int
    relayed: bool = False
    weights: str = "metropolis"
    away: frozenset[int] = frozenset()

    @classmethod
    def seat(
        cls,
        topology: Topology,
        placement: Placement,
        agents: int,
        byzantine: int,
        declared: int,
        streams: Streams,
        relayed: bool = False,
        weights: str = "metropolis",
    ) -> Membership:
        """Draw the graph of the first round and the liars' seats from their own streams.

        Raises:
            Undefined: the placement seats others than f agents, or the graph cannot carry what should be relayed.
        """
        graph = cls.draw(topology, placement, agents, byzantine, 0, streams)
        chosen = sorted(int(a) for a in placement(graph, byzantine, streams.generator("placement")))
        if len(set(chosen)) != byzantine or not set(chosen) <= set(range(agents)):
            raise Undefined(f"{type(placement).__name__} must seat {byzantine} of {agents} agents, but chose {chosen}")
        if relayed and (found := vertex_connectivity(graph)) < 2 * declared + 1:
            raise Undefined(
                f"relaying past {declared} liars needs a graph of vertex connectivity 2f + 1 = {2 * declared + 1}, and "
                f"{type(topology).__name__} of {agents} agents has {found}"
            )
        return cls(graph, agents, tuple(chosen), declared, relayed, weights)

    def at(self, topology: Topology, placement: Placement, round: int, streams: Streams) -> Membership:
        """The same agents on the graph of this round."""
        graph = self.draw(topology, placement, self.agents, len(self.liars), round, streams)
        return replace(self, graph=graph)

    @staticmethod
    def draw(
        topology: Topology, placement: Placement, agents: int, byzantine: int, round: int, streams: Streams
    ) -> nx.Graph:
        """The graph of all agents at this round, those included who join it."""
        if not placement.joins:
            return topology(agents, round, streams.generator("graph"))
        graph = topology(agents - byzantine, round, streams.generator("graph"))
        if "server" in graph.graph:
            raise Undefined(f"{type(placement).__name__} adds agents to a graph without a server; this one has one")
        return placement.join(graph, byzantine, streams.generator("placement"))

    @property
    def server(self) -> int | None:
        """The node of the trusted server, if there is one."""
        return self.graph.graph.get("server")

    @cached_property
    def byzantine(self) -> Tensor:
        """[K] bool."""
        flags = torch.zeros(self.agents, dtype=torch.bool)
        flags[list(self.liars)] = True
        return flags

    @cached_property
    def wires(self) -> nx.Graph:
        """Who hears whom: the graph, or all of them where messages are relayed; nobody who is away."""
        if self.away:
            there = self.graph.copy()
            there.remove_edges_from([edge for edge in self.graph.edges if self.away & set(edge)])
            return there
        return nx.complete_graph(self.agents) if self.relayed else self.graph

    @cached_property
    def hops(self) -> Tensor | None:
        """int64 [K, n], the messages that one word costs on its way, by receiver and column; None if 1 everywhere.

        A word goes to a neighbour directly, and to others along 2f + 1 paths that share no agent between their ends, so
        that f liars on them cannot outvote it (Dolev 1982): the fewest edges that such paths have together.
        """
        if not self.relayed:
            return None
        wanted, costs = 2 * self.declared + 1, torch.ones(self.agents, self.agents).long()
        pairs = permutations if self.graph.is_directed() else combinations
        for author, receiver in pairs(range(self.agents), 2):
            if not self.graph.has_edge(author, receiver):
                costs[receiver, author] = shortest_disjoint(self.graph, author, receiver, wanted)
                if pairs is combinations:
                    costs[author, receiver] = costs[receiver, author]
        return costs.gather(1, self.senders)

    @cached_property
    def broadcasts(self) -> npt.NDArray[np.int64]:
        """[K] the messages of one reliable broadcast by everybody: n - 1 to begin with, then 2 n (n - 1) echoes.

        Where messages are relayed, each is as many as it takes on average.
        """
        sizes = np.array([len(box) for box in self.inboxes])
        copies = (sizes - 1) * (1 + 2 * sizes)
        if self.hops is not None:
            copies = copies // (sizes - 1) * ((self.hops * self.others).sum(1).numpy())
        return copies

    @cached_property
    def inboxes(self) -> list[list[int]]:
        """Whom each agent hears, itself included, sorted; never the server. Of a directed graph its predecessors."""
        whom = heard(self.wires)
        return [sorted({a, *whom[a]} - {self.server}) for a in range(self.agents)]

    @cached_property
    def senders(self) -> Tensor:
        """[K, n] the inboxes, padded with the agent itself."""
        width = max(map(len, self.inboxes))
        return torch.tensor([box + [a] * (width - len(box)) for a, box in enumerate(self.inboxes)])

    @cached_property
    def mask(self) -> Tensor:
        """[K, n] bool, False where `senders` is padding."""
        sizes = torch.tensor([len(box) for box in self.inboxes])
        return torch.arange(self.senders.shape[1]) < sizes.unsqueeze(1)

    @cached_property
    def own(self) -> Tensor:
        """[K] each agent's own column."""
        return torch.tensor([box.index(a) for a, box in enumerate(self.inboxes)])

    def parted(self, groups: int) -> tuple[Tensor, Tensor]:
        """The agents as a server hears them in G groups, agent a in group a mod G: senders [G, n], and their mask."""
        senders = torch.arange(groups * -(-self.agents // groups)).view(-1, groups).T
        mask = (senders < self.agents) & ~torch.isin(senders, torch.tensor(sorted(self.away), dtype=torch.int64))
        return torch.where(mask, senders, senders[:, :1]), mask

    def bound(self, n: int) -> int:
        """How many liars an agent that hears n vectors allows for: what it was told, but never half of them."""
        return min(self.declared, (n - 1) // 2)

    @cached_property
    def bounds(self) -> Tensor:
        """[K] the local bounds f_i. The only place where they are set; no rule changes them."""
        return torch.tensor([self.bound(len(box)) for box in self.inboxes])

    @cached_property
    def mixing(self) -> Tensor:
        """float64 [K, n], what each agent's gossip gives to whom it hears; 0 at padding. A server has no part in it."""
        return mixing(self.weights, self.senders, self.others, self.own)

    @cached_property
    def lies(self) -> Tensor:
        """int64 [E, 3] (row among the liars, receiver, the liar's column there): every edge on which a liar speaks."""
        edges = [
            (row, to, self.inboxes[to].index(a))
            for row, a in enumerate(self.liars)
            for to in sorted({*self.wires[a]} - {a, self.server})
        ]
        return torch.tensor(edges, dtype=torch.int64).reshape(-1, 3)

    @cached_property
    def first_lies(self) -> Tensor:
        """int64 [E] the first edge of the same liar: what all hear of it under reliable broadcast."""
        rows = self.lies[:, 0].contiguous()
        return torch.searchsorted(rows, rows)

    @cached_property
    def others(self) -> Tensor:
        """[K, n] bool, the messages of one exchange in which everybody speaks: what an agent says to itself is none."""
        return self.mask & (torch.arange(self.senders.shape[1]) != self.own.unsqueeze(1))
