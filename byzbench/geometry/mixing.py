"""Mixing weights: what each agent's gossip gives to whom it hears.

A row of W sums to one, and no weight is negative. With d_i the number of those whom agent i hears, over a link and for
all i != j

    metropolis   W_ij = 1 / (1 + max(d_i, d_j))
    max_degree   W_ij = 1 / (1 + max over all k of d_k)
    uniform      W_ij = 1 / (1 + d_i)
    laplacian    W = I - L / lambda, with the graph's Laplacian L and its largest eigenvalue lambda

and W_ii is what is left. Where links have no direction, all but `uniform` are symmetric, and so doubly stochastic:
gossip keeps the mean of all agents. `uniform` keeps a mean in which agents weigh 1 + d_i; it is doubly stochastic where
all have equally many links. Where links have a direction there is no Laplacian, and no mean needs to be kept.

Source: Xiao, Boyd 2004, Fast linear iterations for distributed averaging; Metropolis' for gossip: Xiao, Boyd, Lall
2005; the step 1 / lambda: Gaucher, Dieuleveut, Hendrikx 2025, arXiv 2410.10418.
"""

from __future__ import annotations

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from byzbench.errors import InvalidParameter, Undefined, suggest

WEIGHTS = ("metropolis", "max_degree", "uniform", "laplacian")
_DENSE = 500


def mixing(weights: str, senders: Tensor, others: Tensor, own: Tensor) -> Tensor:
    """The weights along the inboxes of K agents, float64 [K, n]; 0 at padding.

    Args:
        weights: one of `WEIGHTS`.
        senders: int64 [K, n], whom each agent hears.
        others: bool [K, n], False at the agent itself, and at padding.
        own: int64 [K], the column of the agent itself.

    Raises:
        InvalidParameter: no such weights.
        Undefined: `laplacian` where links have a direction.
    """
    degrees = others.sum(1)
    mine = degrees.unsqueeze(1)
    if weights == "metropolis":
        inverse = 1 + torch.maximum(mine, degrees[senders]).double()
    elif weights == "max_degree":
        inverse = 1 + degrees.max().double()
    elif weights == "uniform":
        inverse = 1 + mine.double()
    elif weights == "laplacian":
        inverse = torch.tensor(_largest_eigenvalue(senders, others), dtype=torch.float64)
    else:
        raise InvalidParameter(
            f"no mixing weights {weights!r}. {suggest(weights, WEIGHTS)}There are {', '.join(WEIGHTS)}"
        )
    shares = (1 / inverse) * others
    return shares.scatter(1, own.unsqueeze(1), 1 - shares.sum(1, keepdim=True))


def matrix(graph: nx.Graph, weights: str = "metropolis") -> Tensor:
    """W, float64 [n, n], of all nodes of a graph in the order in which it has them."""
    nodes = torch.arange(len(graph))
    heard = torch.from_numpy(nx.to_numpy_array(graph, dtype=bool, weight=None).T.copy())
    return mixing(weights, nodes.expand(len(graph), -1), heard.fill_diagonal_(False), nodes)


def spectral_gap(w: Tensor) -> float:
    """1 - the second largest modulus of an eigenvalue of a stochastic matrix [n, n]; 1 for a single node.

    Without liars, gossip brings the distance to what is agreed upon to at most 1 minus this, each time, if W is
    symmetric, and in the long run if it is not.
    """
    square = w.numpy()
    symmetric = np.array_equal(square, square.T)
    found = np.sort(np.abs(np.linalg.eigvalsh(square) if symmetric else np.linalg.eigvals(square)))
    return max(0.0, 1 - float(found[-2])) if len(found) > 1 else 1.0


def _largest_eigenvalue(senders: Tensor, others: Tensor) -> float:
    """Of the Laplacian; 1 where there are no links, so that W = I."""
    from scipy.sparse import csr_array, diags_array
    from scipy.sparse.linalg import eigsh

    count = len(senders)
    rows, columns = others.nonzero()[:, 0].numpy(), senders[others].numpy()
    links = csr_array((np.ones(len(rows)), (rows, columns)), shape=(count, count))
    if (links != links.T).nnz:
        raise Undefined("laplacian weights need links without a direction")
    if not len(rows):
        return 1.0
    laplacian = diags_array(links.sum(1)) - links
    if count <= _DENSE:
        return float(np.linalg.eigvalsh(laplacian.toarray())[-1])
    # A start that is no eigenvector, and always the same.
    start = np.cos(np.arange(count))
    return float(eigsh(laplacian, k=1, which="LA", v0=start, return_eigenvectors=False)[0])
