"""The architectures of policies for which there are compiled kernels."""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from torch import Tensor

from byzbench.rl.networks import FeedForward, FunctionApproximator, LookupTable
from byzbench.rl.policies import LOG_STD_RANGE, Actor, CategoricalPolicy, GaussianPolicy
from byzbench.rl.teams import Team

LANES = 16
"""The number of observations that a kernel processes side by side."""


class Form(NamedTuple):
    """The architecture of a policy or a network, as the kernels of `byzbench.rl.kernels` take it.

    Parameters are, for each layer, weights [in, out] and biases [out]; a lookup table has no biases.

    Attributes:
        sizes: The sizes of the network's layers, int64.
        relu: Whether hidden layers have ReLU instead of tanh.
        indexed: Whether an observation is a state, which selects a row of the first layer's weights.
        one_hot: Whether a state is observed as a unit vector, and not as its index.
        biased: Whether layers have biases.
        players: The number of players, each with its own part of an observation and of an action.
        gaussian: Whether actions are continuous.
        squashed: Whether logits, or continuous actions, pass through tanh.
        bounds: For each coordinate of a player's continuous action, float32 [4, m]: the middle and half the width of
            its range, or 0 and 1 where it is unbounded, and its bounds.
        parameters: The index of each layer's first parameter; the last one is d, int64.
        units: The index of each layer's first unit in a buffer of lanes, and the length of the buffer, int64. After the
            units of a layer there is one that is the constant 1.
    """

    sizes: np.ndarray
    relu: bool
    indexed: bool
    one_hot: bool
    biased: bool
    players: int
    gaussian: bool
    squashed: bool
    bounds: np.ndarray
    parameters: np.ndarray
    units: np.ndarray


@lru_cache(maxsize=64)
def form_of(policy: Actor) -> Form | None:
    """Return the architecture of a policy, or None if there is no kernel for it.

    There are kernels for networks of dense layers and for lookup tables, with categorical and Gaussian actions, and for
    teams of such players. Subclasses have none, as they may act differently.

    Example:
        >>> form_of(CategoricalPolicy(FeedForward((4, 16, 2)))).sizes
        array([ 4, 16,  2])
    """
    players, player = (policy.players, policy.player) if type(policy) is Team else (1, policy)
    if type(player) not in (CategoricalPolicy, GaussianPolicy):
        return None
    assert isinstance(player, CategoricalPolicy | GaussianPolicy)
    form = network_form(player.network)
    if form is None:
        return None
    form = form._replace(players=players, squashed=player.squashed)
    return form._replace(gaussian=True, bounds=player.bounds) if isinstance(player, GaussianPolicy) else form


def network_form(network: FunctionApproximator) -> Form | None:
    """Return the architecture of a network, as that of a categorical policy, or None if there is no kernel for it."""
    relu = indexed = one_hot = False
    biased = True
    if type(network) is FeedForward:
        sizes, relu, indexed = network.sizes, network.activation == "relu", network.indexed
    elif type(network) is LookupTable:
        sizes, indexed, one_hot, biased = (network.states, network.width), True, not network.indexed, False
    else:
        return None
    layers = list(itertools.pairwise(sizes))
    parameters = np.cumsum([0, *((i + biased) * o for i, o in layers)])
    units = np.cumsum([0, *((size + 1) * LANES for size in (0 if indexed else sizes[0], *sizes[1:]))])
    bounds = np.zeros((4, 0), np.float32)
    return Form(np.array(sizes), relu, indexed, one_hot, biased, 1, False, False, bounds, parameters, units)


def split_parameters(form: Form, theta: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Split theta [K, d] into parameters of networks [K, d'], and the clamped log std of Gaussian policies [K, m].

    Categorical policies have no log std: [K, 0].
    """
    rows = theta.detach().numpy()
    size = rows.shape[1] - (int(form.sizes[-1]) if form.gaussian else 0)
    return np.ascontiguousarray(rows[:, :size]), rows[:, size:].clip(*LOG_STD_RANGE)
