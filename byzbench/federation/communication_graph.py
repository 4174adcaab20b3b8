"""Communication graph: neighbourhoods, Byzantine agents, local bounds f_i and mixing weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, permutations

import networkx as nx
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from byzbench.core import Placement, Topology
from byzbench.errors import Undefined
from byzbench.geometry.graphs import in_neighbors, shortest_disjoint
from byzbench.geometry.mixing import mixing
from byzbench.geometry.robustness import vertex_connectivity
from byzbench.randomness import Streams
from byzbench.threads import one_thread


@dataclass(frozen=True)
class CommunicationGraph:
    """Communication graph of K agents with the placement of the Byzantine agents.

    The inbox of an agent is its closed neighbourhood: it contains the agent's own vector.

    Attributes:
        graph: the nodes are agents 0 .. K-1, and K for a trusted server if there is one.
        num_agents: K, the number of agents.
        byzantine_ids: the Byzantine agents in ascending order.
        assumed_byzantine: the assumed number of Byzantine agents, which every agent knows.
        relayed: whether messages are relayed over several hops, so that every agent receives from all others.
        weights: the mixing weights of gossip, one of `byzbench.geometry.mixing.WEIGHTS`.
        inactive: the inactive agents, which neither send nor receive.
        crashed: the agents that send nothing, although the others expect their messages.

    Example:
        >>> members = CommunicationGraph(nx.cycle_graph(4), num_agents=4, byzantine_ids=(2,), assumed_byzantine=1)
        >>> members.inboxes
        [[0, 1, 3], [0, 1, 2], [1, 2, 3], [0, 2, 3]]
        >>> members.bounds
        tensor([1, 1, 1, 1])
        >>> members.byzantine_edges.tolist()
        [[0, 1, 2], [0, 3, 1]]
    """

    graph: nx.Graph
    num_agents: int
    byzantine_ids: tuple[int, ...]
    assumed_byzantine: int
    relayed: bool = False
    weights: str = "metropolis"
    inactive: frozenset[int] = frozenset()
    crashed: frozenset[int] = frozenset()

    @classmethod
    @one_thread()
    def place(
        cls,
        topology: Topology,
        placement: Placement,
        agents: int,
        byzantine: int,
        assumed_byzantine: int,
        streams: Streams,
        relayed: bool = False,
        weights: str = "metropolis",
    ) -> CommunicationGraph:
        """Draw the graph of the first round and the Byzantine agents, each from a stream of its own.

        Args:
            topology: the family of graphs.
            placement: the rule that selects the Byzantine agents.
            agents: K, the number of agents.
            byzantine: f, the number of Byzantine agents.
            assumed_byzantine: the number of Byzantine agents that agents assume.
            streams: the random streams of the experiment.
            relayed: whether messages are relayed to all agents.
            weights: the mixing weights of gossip.

        Returns:
            The communication graph of round 0.

        Raises:
            Undefined: the placement does not select f distinct agents, or the vertex connectivity of the graph is too
                small for relaying.
        """
        graph = cls.draw(topology, placement, agents, byzantine, 0, streams)
        selected = sorted(int(a) for a in placement(graph, byzantine, streams.generator("placement")))
        if len(set(selected)) != byzantine or not set(selected) <= set(range(agents)):
            raise Undefined(f"{type(placement).__name__} must select {byzantine} of {agents} agents, got {selected}")
        if relayed and (connectivity := vertex_connectivity(graph)) < 2 * assumed_byzantine + 1:
            raise Undefined(
                f"relaying with {assumed_byzantine} Byzantine agents needs a graph of vertex connectivity 2f + 1 = "
                f"{2 * assumed_byzantine + 1}, and {type(topology).__name__} of {agents} agents has {connectivity}"
            )
        return cls(graph, agents, tuple(selected), assumed_byzantine, relayed, weights)

    def at_round(self, topology: Topology, placement: Placement, round: int, streams: Streams) -> CommunicationGraph:
        """Return the same agents with the graph of another round.

        Args:
            topology: the family of graphs.
            placement: the placement that selected the Byzantine agents; it adds them to the graph if it joins agents.
            round: the round, from 0.
            streams: the random streams of the experiment.
        """
        graph = self.draw(topology, placement, self.num_agents, len(self.byzantine_ids), round, streams)
        return replace(self, graph=graph)

    @staticmethod
    def draw(
        topology: Topology, placement: Placement, agents: int, byzantine: int, round: int, streams: Streams
    ) -> nx.Graph:
        """Draw the graph of a round, with the Byzantine agents of a placement that joins agents.

        Args:
            topology: the family of graphs.
            placement: the placement of the Byzantine agents.
            agents: K, the number of agents.
            byzantine: f, the number of Byzantine agents.
            round: the round, from 0.
            streams: the random streams of the experiment.

        Raises:
            Undefined: the placement joins agents and the graph has a server.
        """
        if not placement.joins:
            return topology(agents, round, streams.generator("graph"))
        graph = topology(agents - byzantine, round, streams.generator("graph"))
        if "server" in graph.graph:
            raise Undefined(f"{type(placement).__name__} adds agents to a graph and needs one without a server")
        return placement.join(graph, byzantine, streams.generator("placement"))

    @property
    def server(self) -> int | None:
        """Return the node of the trusted server, or None if there is none."""
        return self.graph.graph.get("server")

    @cached_property
    def agent_ids(self) -> Tensor:
        """Return the numbers of all agents, int64 [K]."""
        return torch.arange(self.num_agents)

    @cached_property
    def byzantine(self) -> Tensor:
        """Return the mask of Byzantine agents: bool [K]."""
        flags = torch.zeros(self.num_agents, dtype=torch.bool)
        flags[list(self.byzantine_ids)] = True
        return flags

    @cached_property
    def effective_graph(self) -> nx.Graph:
        """Return the effective graph: complete if messages are relayed, and without the edges of inactive agents."""
        if self.inactive:
            active = self.graph.copy()
            active.remove_edges_from([edge for edge in self.graph.edges if self.inactive & set(edge)])
            return active
        return nx.complete_graph(self.num_agents) if self.relayed else self.graph

    @cached_property
    def hops(self) -> Tensor | None:
        """Return the number of transmissions per message, int64 [K, n] by receiver and column; None if all are 1.

        A message to a neighbour is sent directly. A message to another agent is sent along 2f + 1 internally disjoint
        paths, so that f Byzantine agents on them cannot outvote it (Dolev 1982). Its cost is the smallest total number
        of edges of such paths.
        """
        if not self.relayed:
            return None
        num_paths, costs = 2 * self.assumed_byzantine + 1, torch.ones(self.num_agents, self.num_agents).long()
        pairs = permutations if self.graph.is_directed() else combinations
        for author, receiver in pairs(range(self.num_agents), 2):
            if not self.graph.has_edge(author, receiver):
                costs[receiver, author] = shortest_disjoint(self.graph, author, receiver, num_paths)
                if pairs is combinations:
                    costs[author, receiver] = costs[receiver, author]
        return costs.gather(1, self.senders)

    @cached_property
    def broadcasts(self) -> npt.NDArray[np.int64]:
        """Return the messages of one reliable broadcast by every agent: n - 1 messages and 2 n (n - 1) echoes.

        If messages are relayed, each is multiplied by the mean number of transmissions.

        Returns:
            int64 [K], the messages of the broadcast of each agent.
        """
        sizes = np.array([len(inbox) for inbox in self.inboxes])
        copies = (sizes - 1) * (1 + 2 * sizes)
        if self.hops is not None:
            copies = copies // (sizes - 1) * ((self.hops * self.from_others).sum(1).numpy())
        copies[list(self.crashed)] = 0
        return copies

    @cached_property
    def inboxes(self) -> list[list[int]]:
        """Return the senders of each agent in ascending order: itself and its neighbours, without the server.

        In a directed graph the senders are the predecessors.
        """
        neighbours = in_neighbors(self.effective_graph)
        return [sorted({a, *neighbours[a]} - {self.server}) for a in range(self.num_agents)]

    @cached_property
    def senders(self) -> Tensor:
        """Return the inboxes as an int64 tensor [K, n], padded with the agent itself."""
        width = max(map(len, self.inboxes))
        return torch.tensor([inbox + [a] * (width - len(inbox)) for a, inbox in enumerate(self.inboxes)])

    @cached_property
    def mask(self) -> Tensor:
        """Return the mask of `senders`, bool [K, n]: False at padding."""
        sizes = torch.tensor([len(inbox) for inbox in self.inboxes])
        return torch.arange(self.senders.shape[1]) < sizes.unsqueeze(1)

    @cached_property
    def own_columns(self) -> Tensor:
        """Return the column of each agent's own vector: int64 [K]."""
        return torch.tensor([inbox.index(a) for a, inbox in enumerate(self.inboxes)])

    def partition(self, groups: int) -> tuple[Tensor, Tensor]:
        """Partition the agents into the groups of a server; agent a is in group a mod G.

        Args:
            groups: G, the number of groups.

        Returns:
            senders: int64 [G, n], the agents of each group, padded with its first agent.
            mask: bool [G, n], False at padding and at inactive agents.

        Example:
            >>> CommunicationGraph(nx.empty_graph(3), num_agents=3, byzantine_ids=(), assumed_byzantine=0).partition(2)
            (tensor([[0, 2],
                    [1, 1]]), tensor([[ True,  True],
                    [ True, False]]))
        """
        senders = torch.arange(groups * -(-self.num_agents // groups)).view(-1, groups).T
        mask = (senders < self.num_agents) & ~torch.isin(
            senders, torch.tensor(sorted(self.inactive), dtype=torch.int64)
        )
        return torch.where(mask, senders, senders[:, :1]), mask

    def bound(self, n: int) -> int:
        """Return the bound f_i of an agent whose inbox has n vectors: min(assumed_byzantine, floor((n - 1) / 2))."""
        return min(self.assumed_byzantine, (n - 1) // 2)

    @cached_property
    def bounds(self) -> Tensor:
        """Return the local bounds f_i: int64 [K]. They are computed here only, and no rule changes them."""
        return torch.tensor([self.bound(len(inbox)) for inbox in self.inboxes])

    @cached_property
    def mixing(self) -> Tensor:
        """Return the mixing weights of each agent's inbox: float64 [K, n], 0 at padding. A server has none."""
        return mixing(self.weights, self.senders, self.from_others, self.own_columns)

    @cached_property
    def byzantine_edges(self) -> Tensor:
        """Return the edges on which Byzantine agents send.

        Returns:
            int64 [E, 3], rows (index of the sender in `byzantine_ids`, receiver, column of the sender in the receiver's
            inbox), sorted by sender and receiver. The server is not a receiver here.
        """
        edges = [
            (row, receiver, self.inboxes[receiver].index(sender))
            for row, sender in enumerate(self.byzantine_ids)
            for receiver in sorted({*self.effective_graph[sender]} - {sender, self.server})
        ]
        return torch.tensor(edges, dtype=torch.int64).reshape(-1, 3)

    @cached_property
    def first_byzantine_edges(self) -> Tensor:
        """Return the first edge of the same sender for each edge of `byzantine_edges`: int64 [E].

        Under reliable broadcast all receivers get the message of this edge.
        """
        rows = self.byzantine_edges[:, 0].contiguous()
        return torch.searchsorted(rows, rows)

    @cached_property
    def edge_rows(self) -> Tensor:
        """Return `senders` with row K + e in place of the sender of the Byzantine edge e: int64 [K, n]."""
        return self._rows_of_edges(torch.arange(len(self.byzantine_edges)))

    @cached_property
    def reliable_edge_rows(self) -> Tensor:
        """Return the same where all receivers of a sender get the message of its first edge: int64 [K, n]."""
        return self._rows_of_edges(self.first_byzantine_edges)

    def _rows_of_edges(self, edge: Tensor) -> Tensor:
        senders, (_, receiver, column) = self.senders.clone(), self.byzantine_edges.T
        senders[receiver, column] = self.num_agents + edge
        return senders

    @cached_property
    def num_messages(self) -> npt.NDArray[np.int64]:
        """Return the transmissions of each agent if all send to all neighbours: int64 [K]."""
        return self.count_messages(self.from_others)

    def count_messages(self, sent: Tensor) -> npt.NDArray[np.int64]:
        """Count the transmissions of each agent.

        Args:
            sent: bool [K, n], True where a message is sent.

        Returns:
            int64 [K], the number of transmissions of each agent.
        """
        weights = None if self.hops is None else self.hops[sent].numpy()
        return np.bincount(self.senders[sent].numpy(), weights, minlength=self.num_agents).astype(np.int64)

    @cached_property
    def from_others(self) -> Tensor:
        """Return the mask of messages from other agents: bool [K, n], False at padding and at an agent's own column."""
        return self.mask & (torch.arange(self.senders.shape[1]) != self.own_columns.unsqueeze(1))
