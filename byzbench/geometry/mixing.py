"""Mixing weights of gossip: the weights that each agent gives to the agents that it receives from.

A row of W sums to one, and no weight is negative. With d_i the number of agents that agent i receives from, on an edge
and for all i != j

    metropolis   W_ij = 1 / (1 + max(d_i, d_j))
    max_degree   W_ij = 1 / (1 + max over all k of d_k)
    uniform      W_ij = 1 / (1 + d_i)
    laplacian    W = I - L / lambda, with the graph's Laplacian L and its largest eigenvalue lambda

and W_ii is the remainder of one. In undirected graphs all but `uniform` are symmetric, and so doubly stochastic: gossip
preserves the mean of all agents. `uniform` preserves a mean with weights 1 + d_i; it is doubly stochastic where all
agents have the same degree. A directed graph has no Laplacian, and gossip need not preserve a mean.

Source: Xiao, Boyd 2004, Fast linear iterations for distributed averaging; Metropolis weights for gossip: Xiao, Boyd,
Lall 2005; the step 1 / lambda: Gaucher, Dieuleveut, Hendrikx 2025, arXiv 2410.10418.
"""

from __future__ import annotations

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from byzbench.errors import InvalidParameter, Undefined, suggest

WEIGHTS = ("metropolis", "max_degree", "uniform", "laplacian")
_DENSE = 500


def check_weights(weights: str) -> None:
    """Check the name of mixing weights.

    Raises:
        InvalidParameter: It is not one of `WEIGHTS`.
    """
    if weights not in WEIGHTS:
        raise InvalidParameter(
            f"no mixing weights {weights!r}. {suggest(str(weights), WEIGHTS)}There are {', '.join(WEIGHTS)}"
        )


def mixing(weights: str, senders: Tensor, others: Tensor, own: Tensor) -> Tensor:
    """Return the mixing weights of the inboxes of K agents, float64 [K, n]; zero at padding.

    Args:
        weights: one of `WEIGHTS`.
        senders: int64 [K, n], the agents that each agent receives from.
        others: bool [K, n], False at the agent itself, and at padding.
        own: int64 [K], the column of the agent itself.

    Raises:
        InvalidParameter: `weights` is not one of `WEIGHTS`.
        Undefined: `laplacian` for a directed graph.
    """
    check_weights(weights)
    degrees = others.sum(1)
    own_degree = degrees.unsqueeze(1)
    if weights == "metropolis":
        inverse = 1 + torch.maximum(own_degree, degrees[senders]).double()
    elif weights == "max_degree":
        inverse = 1 + degrees.max().double()
    elif weights == "uniform":
        inverse = 1 + own_degree.double()
    else:
        inverse = torch.tensor(_largest_eigenvalue(senders, others), dtype=torch.float64)
    shares = (1 / inverse) * others
    return shares.scatter(1, own.unsqueeze(1), 1 - shares.sum(1, keepdim=True))


def matrix(graph: nx.Graph, weights: str = "metropolis") -> Tensor:
    """Return W, float64 [n, n], of all nodes of a graph in the graph's order.

    Example:
        >>> matrix(nx.path_graph(3), "uniform")
        tensor([[0.5000, 0.5000, 0.0000],
                [0.3333, 0.3333, 0.3333],
                [0.0000, 0.5000, 0.5000]], dtype=torch.float64)
    """
    nodes = torch.arange(len(graph))
    is_sender = torch.from_numpy(nx.to_numpy_array(graph, dtype=bool, weight=None).T.copy())
    return mixing(weights, nodes.expand(len(graph), -1), is_sender.fill_diagonal_(False), nodes)


def spectral_gap(w: Tensor) -> float:
    """Return 1 - the second largest modulus of an eigenvalue of a stochastic matrix [n, n]; 1 for a single node.

    Without Byzantine agents each round of gossip reduces the distance to agreement at least by the factor 1 - gap if W
    is symmetric, and in the long run if it is not.

    Example:
        >>> round(spectral_gap(matrix(nx.complete_graph(4), "uniform")), 6)
        1.0
    """
    array = w.numpy()
    symmetric = np.array_equal(array, array.T)
    moduli = np.sort(np.abs(np.linalg.eigvalsh(array) if symmetric else np.linalg.eigvals(array)))
    return max(0.0, 1 - float(moduli[-2])) if len(moduli) > 1 else 1.0


def _largest_eigenvalue(senders: Tensor, others: Tensor) -> float:
    """Return the largest eigenvalue of the Laplacian; 1 where there are no edges, so that W = I."""
    from scipy.sparse import csr_array, diags_array
    from scipy.sparse.linalg import eigsh

    count = len(senders)
    rows, columns = others.nonzero()[:, 0].numpy(), senders[others].numpy()
    links = csr_array((np.ones(len(rows)), (rows, columns)), shape=(count, count))
    if (links != links.T).nnz:
        raise Undefined("laplacian weights need an undirected graph")
    if not len(rows):
        return 1.0
    laplacian = diags_array(links.sum(1)) - links
    if count <= _DENSE:
        return float(np.linalg.eigvalsh(laplacian.toarray())[-1])
    # A fixed start vector that is not an eigenvector makes the result deterministic.
    start_vector = np.cos(np.arange(count))
    return float(eigsh(laplacian, k=1, which="LA", v0=start_vector, return_eigenvectors=False)[0])
