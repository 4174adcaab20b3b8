"""Graphs that are read from a file."""

from __future__ import annotations

import pathlib
import re
from dataclasses import dataclass
from typing import Annotated, ClassVar

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.core import Topology
from byzbench.errors import Undefined, UserError
from byzbench.geometry.graph_families import is_connected, sort_graph

_LARGEST = 64_000_000
"""The largest file that is read, in bytes. The edges of a sparse graph of 100,000 agents fit."""


_FLOAT = re.compile(r"\d+\.\d*(e[+-]\d\d)?", re.ASCII)


@dataclass(frozen=True)
class FromFile(Topology):
    """Connected graph that is read from a GraphML file (name ends in .graphml) or an edge list.

    An edge list has two node names in each line. Further tokens in a line, empty lines and text after a # are ignored.
    A name such as 1.0 or 1.000e+00, as `numpy.savetxt` writes it, is the number.
    The file must have as many nodes as the experiment has agents. If all names are numbers, agents are numbered in
    numerical order, else in the order in which the file first mentions them. Edge weights are ignored. Self-loops and
    repeated edges are dropped.

    With `directed`, a line `a b` or a GraphML edge from a to b means that b receives the messages of a, but a does not
    receive those of b. A GraphML file that declares its edges directed is refused without it.

    Attributes:
        path: the file. Its content is part of the identity of a run.
        directed: read edges as directed.
    """

    version: ClassVar[int] = 2

    path: Annotated[str, Field(min_length=1, description="file to read: GraphML (.graphml) or an edge list")]
    directed: Annotated[bool, Field(description="read edges as directed")] = False

    @property
    def data(self) -> tuple[pathlib.Path, ...]:
        """Return the path of the file, whose content is hashed into the identity of a run."""
        return (pathlib.Path(self.path),)

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Return the graph of the file, which is the same in every round.

        Raises:
            Undefined: the graph is not connected or has another number of nodes than there are agents.
            UserError: the file cannot be read or has another format.
        """
        text = self._read_text()
        named = self._parse_graphml(text) if self.path.lower().endswith(".graphml") else self._parse_edge_list(text)
        names = list(named)
        if all(name.isascii() and name.isdigit() and len(name) < 19 for name in names):
            names.sort(key=int)
        if len(names) != agents:
            raise Undefined(f"from_file: {self.path} has {len(names)} nodes, and there are {agents} agents")
        graph = sort_graph(nx.relabel_nodes(named, {name: number for number, name in enumerate(names)}))
        if not is_connected(graph):
            raise Undefined(f"from_file: the graph in {self.path} is not connected")
        return graph

    def _read_text(self) -> str:
        try:
            with open(self.path, "rb") as file:
                content = file.read(_LARGEST + 1)
            if len(content) > _LARGEST:
                raise UserError(f"from_file: {self.path} is larger than {_LARGEST // 10**6} MB")
            return content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise UserError(f"from_file: {self.path} is not UTF-8 text") from None
        except (OSError, ValueError) as error:
            raise UserError(f"from_file: cannot read {self.path!r}: {getattr(error, 'strerror', error)}") from None

    def _empty_graph(self) -> nx.Graph:
        return nx.DiGraph() if self.directed else nx.Graph()

    def _parse_edge_list(self, text: str) -> nx.Graph:
        graph = self._empty_graph()
        for number, line in enumerate(text.splitlines(), 1):
            tokens = [_node_name(token) for token in line.partition("#")[0].split()[:2]]
            if len(tokens) == 1:
                raise UserError(f"from_file: line {number} of {self.path} names one node; an edge needs two")
            if tokens:
                graph.add_nodes_from(tokens)
                if tokens[0] != tokens[1]:
                    graph.add_edge(*tokens)
        return graph

    def _parse_graphml(self, text: str) -> nx.Graph:
        # XML entities can expand without bound and can name other files. GraphML needs no document type.
        if "<!DOCTYPE" in text:
            raise UserError(f"from_file: {self.path} declares a document type; remove the <!DOCTYPE ...>")
        try:
            parsed = nx.parse_graphml(text, node_type=str)
        except Exception as error:  # NetworkX and the XML parser raise many types
            reason = f"{type(error).__name__}: {error}"
            raise UserError(f"from_file: {self.path} is no GraphML that networkx reads: {reason}") from None
        if parsed.is_directed() and not self.directed:
            raise UserError(f"from_file: the edges of {self.path} are directed; say directed=True to read them so")
        graph = self._empty_graph()
        graph.add_nodes_from(parsed.nodes)
        graph.add_edges_from((a, b) for a, b in parsed.to_directed().edges() if a != b)
        return graph


def _node_name(text: str) -> str:
    """Return the name of a node in an edge list; of a whole number that is written as a float, the number."""
    if _FLOAT.fullmatch(text) and float(text).is_integer():
        return str(int(float(text)))
    return text
