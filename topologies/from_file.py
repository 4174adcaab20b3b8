"""A graph of one's own, from a file."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass
from typing import Annotated

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.contracts import Topology
from byzbench.errors import Undefined, UserError
from byzbench.topologies._drawn import tidy, whole

_LARGEST = 64_000_000
"""Bytes of a file that is read; links of 100,000 agents fit in well."""


@dataclass(frozen=True)
class FromFile(Topology):
    """The connected graph that a file describes: GraphML if its name ends in .graphml, else a list of links.

    A list of links has two names a line; what follows them, lines without any, and what stands after a # are ignored.
    The file must have as many nodes as the experiment has agents. If all names are numbers, agents are numbered in
    their order, else in the order in which the file first mentions them. Weights are ignored, links to oneself and
    repeated links dropped.

    directed: a line `a b`, or a GraphML edge, lets b hear a, but not a hear b. A GraphML file that calls its edges
    directed is refused without it.

    Attributes:
        path: the file. Its content counts as part of the code that a run depends on.
    """

    path: Annotated[str, Field(min_length=1, description="the file: .graphml, or a list of links")]
    directed: Annotated[bool, Field(description="whether links have a direction")] = False

    @property
    def data(self) -> tuple[pathlib.Path, ...]:
        """The file."""
        return (pathlib.Path(self.path),)

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """The same at every round, as long as the file is."""
        text = self._text()
        links = self._graphml(text) if self.path.lower().endswith(".graphml") else self._list(text)
        names = list(links)
        if all(name.isascii() and name.isdigit() and len(name) < 19 for name in names):
            names.sort(key=int)
        if len(names) != agents:
            raise Undefined(f"from_file: {self.path} has {len(names)} nodes, and there are {agents} agents")
        graph = tidy(nx.relabel_nodes(links, {name: number for number, name in enumerate(names)}))
        if not whole(graph):
            raise Undefined(f"from_file: the graph in {self.path} is not connected")
        return graph

    def _text(self) -> str:
        try:
            with open(self.path, "rb") as file:
                content = file.read(_LARGEST + 1)
            if len(content) > _LARGEST:
                raise UserError(f"from_file: {self.path} is larger than {_LARGEST // 10**6} MB")
            return content.decode("utf-8")
        except UnicodeDecodeError:
            raise UserError(f"from_file: {self.path} is no UTF-8 text") from None
        except (OSError, ValueError) as error:
            raise UserError(f"from_file: cannot read {self.path!r}: {getattr(error, 'strerror', error)}") from None

    def _empty(self) -> nx.Graph:
        return nx.DiGraph() if self.directed else nx.Graph()

    def _list(self, text: str) -> nx.Graph:
        graph = self._empty()
        for number, line in enumerate(text.splitlines(), 1):
            words = line.partition("#")[0].split()
            if len(words) == 1:
                raise UserError(f"from_file: line {number} of {self.path} names one node, and a link has two")
            if words:
                graph.add_nodes_from(words[:2])
                if words[0] != words[1]:
                    graph.add_edge(*words[:2])
        return graph

    def _graphml(self, text: str) -> nx.Graph:
        # Entities can grow beyond all bounds, and name other files; a graph needs none.
        if "<!DOCTYPE" in text:
            raise UserError(f"from_file: {self.path} declares a document type, which a graph does not need")
        try:
            read = nx.parse_graphml(text, node_type=str)
        except Exception as error:  # whatever networkx and the XML parser raise on texts that are no GraphML
            said = f"{type(error).__name__}: {error}"
            raise UserError(f"from_file: {self.path} is no GraphML that networkx reads: {said}") from None
        if read.is_directed() and not self.directed:
            raise UserError(f"from_file: the links of {self.path} are directed; say directed=True to keep them so")
        graph = self._empty()
        graph.add_nodes_from(read.nodes)
        graph.add_edges_from((a, b) for a, b in read.to_directed().edges() if a != b)
        return graph
