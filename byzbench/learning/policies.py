"""Stochastic policies whose parameters are flat vectors, stacked over agents."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from byzbench.learning.samplers import Layers, Sampler, categorical, gaussian

LOG_STD = -0.5
"""The logarithm of a Gaussian policy's first standard deviation."""

LOG_STD_RANGE = (-5.0, 2.0)
"""Where it stays, so that no step of an optimizer can make a density infinite."""


class Actor(ABC):
    """Who acts for K agents at once. Shapes: o of an observation, a of an action, d of the parameters."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """d, the length of one agent's flat parameter vector."""

    @property
    @abstractmethod
    def observation_size(self) -> int:
        """The o above."""

    @property
    @abstractmethod
    def action_shape(self) -> tuple[int, ...]:
        """The shape a of an action, and of the noise behind it."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Of actions."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, out: np.ndarray) -> None:
        """Fill float32 [N, T, *a] with the noise that `sampler` turns into actions."""

    @abstractmethod
    def sampler(self, theta: Tensor, noise: Tensor | None) -> Sampler:
        """How policies theta [K, d] act, with noise [K, T, N, *a]; or with None: by their likeliest actions."""

    def executed(self, actions: np.ndarray) -> np.ndarray:
        """Actions [K, N, *a] as the K*N environments take them."""
        return actions.reshape(-1, *actions.shape[2:])

    def remarks(self, theta: Tensor, observations: Tensor) -> dict[str, float]:
        """What is worth recording about how theta [1, d] acts on observations [1, M, o] of one agent's episodes."""
        return {}


class Policy(Actor):
    """A family of policies that can be trained: with the probabilities of its actions, and their gradients."""

    @property
    @abstractmethod
    def hidden(self) -> tuple[int, ...]:
        """Widths of the hidden layers."""

    @abstractmethod
    def initial(self, rng: np.random.Generator) -> Tensor:
        """Parameters to begin with: float32 [d]."""

    @abstractmethod
    def layers(self, theta: Tensor) -> Layers:
        """Theta [K, d] in the form that the other methods take: views, no copies."""

    @abstractmethod
    def log_probabilities(self, layers: Layers, observations: Tensor, actions: Tensor) -> Tensor:
        """Log pi(a | s), or the logarithm of its density: observations [K, M, o], actions [K, M, *a] -> [K, M]."""

    @abstractmethod
    def entropy(self, layers: Layers, observations: Tensor) -> Tensor:
        """Of pi(. | s), in nats: observations [K, M, o] -> [K, M]."""


@dataclass(frozen=True)
class Network:
    """A tanh network whose parameters are a flat vector; linear without hidden layers.

    Attributes:
        sizes: (observation, hidden ..., outputs).
    """

    sizes: tuple[int, ...]

    @cached_property
    def dimension(self) -> int:
        """d: each layer's weight [in, out], then its bias [out]."""
        return sum((i + 1) * o for i, o in itertools.pairwise(self.sizes))

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths of the hidden layers."""
        return self.sizes[1:-1]

    @property
    def observation_size(self) -> int:
        """The first of the sizes."""
        return self.sizes[0]

    def initial(self, rng: np.random.Generator) -> Tensor:
        """float32 [d]: every tensor uniform within 1/sqrt(its last dimension), as the code of 2401.03489 does.

        The last dimension of a weight is its fan-in there, that of a bias its length.
        """
        parts = []
        for i, o in itertools.pairwise(self.sizes):
            for shape, last in (((i, o), i), ((o,), o)):
                bound = 1 / math.sqrt(last)
                parts.append(rng.uniform(-bound, bound, shape).ravel())
        return torch.from_numpy(np.concatenate(parts).astype(np.float32))

    def layers(self, theta: Tensor) -> Layers:
        """Theta [K, d] as (weight [K, in, out], bias [K, 1, out]) of each layer."""
        layers, at = [], 0
        for i, o in itertools.pairwise(self.sizes):
            weight = theta[:, at : at + i * o].unflatten(1, (i, o))
            bias = theta[:, at + i * o : at + (i + 1) * o].unsqueeze(1)
            layers.append((weight, bias))
            at += (i + 1) * o
        return layers

    def outputs(self, layers: Layers, observations: Tensor) -> Tensor:
        """Observations [K, M, o] -> the network's outputs [K, M, outputs]."""
        x, depth = observations, len(self.sizes) - 2
        for weight, bias in layers[:depth]:
            x = torch.baddbmm(bias, x, weight).tanh()
        weight, bias = layers[depth]
        if weight.shape[-1] == 1:  # as a product of matrices it would round differently with K
            return (x * weight.mT).sum(-1, keepdim=True) + bias
        return torch.baddbmm(bias, x, weight)


@dataclass(frozen=True)
class Mlp(Network, Policy):
    """A policy with an output for each parameter of an action's distribution.

    Attributes:
        squashed: whether actions are kept from extremes by a tanh; see the families.
    """

    squashed: bool = False


@dataclass(frozen=True)
class CategoricalMlp(Mlp):
    """Logits over discrete actions; squashed, they pass through tanh, so that no action is ever nearly certain."""

    @property
    def action_shape(self) -> tuple[int, ...]:
        """A number."""
        return ()

    @property
    def dtype(self) -> torch.dtype:
        """Whole numbers from 0."""
        return torch.int64

    def logits(self, layers: Layers, observations: Tensor) -> Tensor:
        """Observations [K, M, o] -> logits [K, M, actions]."""
        scores = self.outputs(layers, observations)
        return scores.tanh() if self.squashed else scores

    def log_probabilities(self, layers: Layers, observations: Tensor, actions: Tensor) -> Tensor:
        """See `Policy`."""
        scores = self.logits(layers, observations).log_softmax(-1)
        return scores.gather(-1, actions.unsqueeze(-1)).squeeze(-1)

    def entropy(self, layers: Layers, observations: Tensor) -> Tensor:
        """See `Policy`."""
        scores = self.logits(layers, observations).log_softmax(-1)
        return -(scores.exp() * scores).sum(-1)

    def draw(self, rng: np.random.Generator, out: np.ndarray) -> None:
        """Uniforms in [0, 1)."""
        rng.random(out=out, dtype=np.float32)

    def sampler(self, theta: Tensor, noise: Tensor | None) -> Sampler:
        """See `Policy`."""
        return categorical(self.layers(theta), self.squashed, noise)


@dataclass(frozen=True)
class GaussianMlp(Mlp):
    """Independent normals u ~ N(mu(s), sigma^2), one for each coordinate of an action; sigma does not depend on s.

    An action lives in units of half its range: -1 and 1 are the ends of `low` .. `high`, where these are finite, and
    the environment's own units where they are not. What lies beyond an end is executed as that end; squashed, tanh(u)
    is executed. The log-density is that of u in either case: the two differ by a term in u alone, which no gradient
    and no importance weight can see. log sigma stands after the network's parameters, clamped to `LOG_STD_RANGE`.

    Attributes:
        low, high: the ends of an action's coordinates, as many as the network has outputs.
    """

    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    @cached_property
    def dimension(self) -> int:
        """d: the network, then log sigma [outputs]."""
        return Network(self.sizes).dimension + self.sizes[-1]

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Coordinates."""
        return (self.sizes[-1],)

    @property
    def dtype(self) -> torch.dtype:
        """Real numbers."""
        return torch.float32

    def initial(self, rng: np.random.Generator) -> Tensor:
        """As `Mlp`, with log sigma at `LOG_STD`."""
        return torch.cat([super().initial(rng), torch.full((self.sizes[-1],), LOG_STD)])

    def layers(self, theta: Tensor) -> Layers:
        """As `Mlp`, and at last (log sigma [K, 1, outputs], sigma)."""
        log_std = theta[:, -self.sizes[-1] :].unsqueeze(1).clamp(*LOG_STD_RANGE)
        return [*super().layers(theta), (log_std, log_std.exp())]

    def log_probabilities(self, layers: Layers, observations: Tensor, actions: Tensor) -> Tensor:
        """See `Policy`."""
        log_std, std = layers[-1]
        scaled = (actions - self.outputs(layers, observations)) / std
        return -(scaled.square() / 2 + log_std).sum(-1) - self.sizes[-1] * math.log(2 * math.pi) / 2

    def entropy(self, layers: Layers, observations: Tensor) -> Tensor:
        """Of u: the same in every state."""
        each = layers[-1][0] + math.log(2 * math.pi * math.e) / 2
        return each.sum(-1).expand(observations.shape[:2])

    def draw(self, rng: np.random.Generator, out: np.ndarray) -> None:
        """Standard normals."""
        rng.standard_normal(out=out, dtype=np.float32)

    def sampler(self, theta: Tensor, noise: Tensor | None) -> Sampler:
        """See `Policy`."""
        *layers, spread = self.layers(theta)
        return gaussian(layers, spread[1], noise)

    @cached_property
    def _range(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Middle and half width of each coordinate (0 and 1 where an end is missing), and where both ends exist."""
        low, high = np.array(self.low), np.array(self.high)
        bounded = np.isfinite(low) & np.isfinite(high)
        with np.errstate(invalid="ignore"):
            middle, half = np.where(bounded, (low + high) / 2, 0), np.where(bounded, (high - low) / 2, 1)
        return middle.astype(np.float32), half.astype(np.float32), None if bounded.all() else bounded

    def executed(self, actions: np.ndarray) -> np.ndarray:
        """In the environment's units, within its bounds: float32 [K*N, outputs]."""
        u = super().executed(actions)
        middle, half, bounded = self._range
        inside = np.tanh(u) if self.squashed else u.clip(-1, 1)
        if bounded is None:
            inside *= half
            inside += middle
            return inside
        u = middle + half * np.where(bounded, inside, u)
        return np.clip(u, self.low, self.high).astype(np.float32)
