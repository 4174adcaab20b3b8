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

from byzbench.rl.samplers import Layers, Sampler, categorical, gaussian

LOG_STD = -0.5
"""The initial log standard deviation of a Gaussian policy."""

LOG_STD_RANGE = (-5.0, 2.0)
"""The range to which log standard deviations are clamped, so that densities stay finite."""


class Actor(ABC):
    """An interface that acts for K agents at once.

    Shapes: o is the size of an observation, a the shape of an action, d the number of parameters.
    """

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Return d, the length of one agent's flat parameter vector."""

    @property
    @abstractmethod
    def observation_size(self) -> int:
        """Return o, the size of an observation."""

    @property
    @abstractmethod
    def action_shape(self) -> tuple[int, ...]:
        """Return a, the shape of an action and of its noise."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Return the type of actions."""

    @abstractmethod
    def sample_noise(self, rng: np.random.Generator, out: np.ndarray) -> None:
        """Fill float32 [N, T, *a] with the noise that `sampler` turns into actions."""

    @abstractmethod
    def sampler(self, theta: Tensor, noise: Tensor | None) -> Sampler:
        """Return a function that samples the actions of policies theta [K, d].

        Args:
            theta: The parameters, [K, d].
            noise: The noise of the actions, [K, T, N, *a], as `draw` makes it; None: take the likeliest actions.
        """

    def to_env_actions(self, actions: np.ndarray) -> np.ndarray:
        """Convert actions [K, N, *a] to the actions of the K*N environments."""
        return actions.reshape(-1, *actions.shape[2:])

    def diagnostics(self, theta: Tensor, observations: Tensor) -> dict[str, float]:
        """Return diagnostics of the actions of theta [1, d] on observations [1, M, o] of one agent's episodes."""
        return {}


class Policy(Actor):
    """A trainable family of policies, with differentiable log-probabilities of actions."""

    @property
    @abstractmethod
    def hidden(self) -> tuple[int, ...]:
        """Return the widths of the hidden layers."""

    @abstractmethod
    def initial(self, rng: np.random.Generator) -> Tensor:
        """Draw initial parameters: float32 [d]."""

    @abstractmethod
    def layers(self, theta: Tensor) -> Layers:
        """Split theta [K, d] into the layers that the other methods take, as views."""

    @abstractmethod
    def log_probabilities(self, layers: Layers, observations: Tensor, actions: Tensor) -> Tensor:
        """Return log pi(a | s), or its log density: observations [K, M, o], actions [K, M, *a] -> [K, M]."""

    @abstractmethod
    def entropy(self, layers: Layers, observations: Tensor) -> Tensor:
        """Return the entropy of pi(. | s) in nats: observations [K, M, o] -> [K, M]."""


@dataclass(frozen=True)
class FeedForward:
    """A tanh network whose parameters are a flat vector; linear without hidden layers.

    Attributes:
        sizes: The sizes of the layers: (observation, hidden ..., outputs).

    Example:
        >>> FeedForward((4, 16, 2)).dimension
        114
    """

    sizes: tuple[int, ...]

    @cached_property
    def dimension(self) -> int:
        """Return d, the number of parameters: each layer's weight [in, out], then its bias [out]."""
        return sum((i + 1) * o for i, o in itertools.pairwise(self.sizes))

    @property
    def hidden(self) -> tuple[int, ...]:
        """Return the widths of the hidden layers."""
        return self.sizes[1:-1]

    @property
    def observation_size(self) -> int:
        """Return the size of an observation."""
        return self.sizes[0]

    def initial(self, rng: np.random.Generator) -> Tensor:
        """Draw every tensor uniformly within 1/sqrt(n), as the code of arXiv 2401.03489 does: float32 [d].

        n is the fan-in of a weight, and the length of a bias.
        """
        tensors = []
        for i, o in itertools.pairwise(self.sizes):
            for shape, n in (((i, o), i), ((o,), o)):
                bound = 1 / math.sqrt(n)
                tensors.append(rng.uniform(-bound, bound, shape).ravel())
        return torch.from_numpy(np.concatenate(tensors).astype(np.float32))

    def layers(self, theta: Tensor) -> Layers:
        """Split theta [K, d] into (weight [K, in, out], bias [K, 1, out]) of each layer."""
        layers, at = [], 0
        for i, o in itertools.pairwise(self.sizes):
            weight = theta[:, at : at + i * o].unflatten(1, (i, o))
            bias = theta[:, at + i * o : at + (i + 1) * o].unsqueeze(1)
            layers.append((weight, bias))
            at += (i + 1) * o
        return layers

    def outputs(self, layers: Layers, observations: Tensor) -> Tensor:
        """Compute the network's outputs: observations [K, M, o] -> [K, M, outputs]."""
        x, depth = observations, len(self.sizes) - 2
        for weight, bias in layers[:depth]:
            x = torch.baddbmm(bias, x, weight).tanh()
        weight, bias = layers[depth]
        if weight.shape[-1] == 1:  # the rounding of a matrix product would depend on K
            return (x * weight.mT).sum(-1, keepdim=True) + bias
        return torch.baddbmm(bias, x, weight)


@dataclass(frozen=True)
class Mlp(FeedForward, Policy):
    """A policy whose network has an output for each parameter of the action distribution.

    Attributes:
        squashed: Whether logits, or continuous actions, pass through tanh; see the subclasses.
    """

    squashed: bool = False


@dataclass(frozen=True)
class CategoricalMlp(Mlp):
    """A categorical policy over discrete actions.

    With `squashed` the logits pass through tanh, which bounds the probability of every action away from 0 and 1.
    """

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Return (), as an action is a number."""
        return ()

    @property
    def dtype(self) -> torch.dtype:
        """Return int64: actions are counted from 0."""
        return torch.int64

    def logits(self, layers: Layers, observations: Tensor) -> Tensor:
        """Compute the logits: observations [K, M, o] -> [K, M, actions]."""
        logits = self.outputs(layers, observations)
        return logits.tanh() if self.squashed else logits

    def log_probabilities(self, layers: Layers, observations: Tensor, actions: Tensor) -> Tensor:
        """Return log pi(a | s): see `Policy`."""
        log_probs = self.logits(layers, observations).log_softmax(-1)
        return log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)

    def entropy(self, layers: Layers, observations: Tensor) -> Tensor:
        """Return the entropy of pi(. | s): see `Policy`."""
        log_probs = self.logits(layers, observations).log_softmax(-1)
        return -(log_probs.exp() * log_probs).sum(-1)

    def sample_noise(self, rng: np.random.Generator, out: np.ndarray) -> None:
        """Fill `out` with uniform numbers in [0, 1)."""
        rng.random(out=out, dtype=np.float32)

    def sampler(self, theta: Tensor, noise: Tensor | None) -> Sampler:
        """Return a function that samples actions: see `Actor`."""
        return categorical(self.layers(theta), self.squashed, noise)


@dataclass(frozen=True)
class GaussianMlp(Mlp):
    """A diagonal Gaussian policy: u ~ N(mu(s), sigma^2) in each coordinate of an action, sigma independent of s.

    Actions are in units of half their range: -1 and 1 are the bounds `low` and `high` where these are finite. Elsewhere
    actions are in the environment's units. An action outside its bounds is clipped; with `squashed`, tanh(u) is
    executed instead. The log density is that of u in either case: the density of tanh(u) differs by a term in u
    alone, which changes no gradient and no importance weight. log sigma follows the network's parameters in theta, and
    is clamped to `LOG_STD_RANGE`.

    Attributes:
        low: The lower bounds of the coordinates, one for each output of the network.
        high: The upper bounds.
    """

    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    @cached_property
    def dimension(self) -> int:
        """Return d, the number of parameters: the network's, then log sigma [outputs]."""
        return FeedForward(self.sizes).dimension + self.sizes[-1]

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Return (outputs,), one coordinate for each output."""
        return (self.sizes[-1],)

    @property
    def dtype(self) -> torch.dtype:
        """Return float32."""
        return torch.float32

    def initial(self, rng: np.random.Generator) -> Tensor:
        """Draw the network's parameters as `FeedForward` does, and append log sigma = `LOG_STD`: float32 [d]."""
        return torch.cat([super().initial(rng), torch.full((self.sizes[-1],), LOG_STD)])

    def layers(self, theta: Tensor) -> Layers:
        """Split theta [K, d] into the network's layers, and append (log sigma [K, 1, outputs], sigma)."""
        log_std = theta[:, -self.sizes[-1] :].unsqueeze(1).clamp(*LOG_STD_RANGE)
        return [*super().layers(theta), (log_std, log_std.exp())]

    def log_probabilities(self, layers: Layers, observations: Tensor, actions: Tensor) -> Tensor:
        """Return the log density of u: see `Policy`."""
        log_std, std = layers[-1]
        scaled = (actions - self.outputs(layers, observations)) / std
        return -(scaled.square() / 2 + log_std).sum(-1) - self.sizes[-1] * math.log(2 * math.pi) / 2

    def entropy(self, layers: Layers, observations: Tensor) -> Tensor:
        """Return the entropy of u, which is the same in every state."""
        entropies = layers[-1][0] + math.log(2 * math.pi * math.e) / 2
        return entropies.sum(-1).expand(observations.shape[:2])

    def sample_noise(self, rng: np.random.Generator, out: np.ndarray) -> None:
        """Fill `out` with standard normal numbers."""
        rng.standard_normal(out=out, dtype=np.float32)

    def sampler(self, theta: Tensor, noise: Tensor | None) -> Sampler:
        """Return a function that samples actions: see `Actor`."""
        *layers, (_, std) = self.layers(theta)
        return gaussian(layers, std, noise)

    @cached_property
    def _range(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return the middle and half the width of each coordinate's range, and which coordinates are bounded.

        They are 0 and 1 for a coordinate without two finite bounds. The last result is None if all are bounded.
        """
        low, high = np.array(self.low), np.array(self.high)
        bounded = np.isfinite(low) & np.isfinite(high)
        with np.errstate(invalid="ignore"):
            middle, half = np.where(bounded, (low + high) / 2, 0), np.where(bounded, (high - low) / 2, 1)
        return middle.astype(np.float32), half.astype(np.float32), None if bounded.all() else bounded

    def to_env_actions(self, actions: np.ndarray) -> np.ndarray:
        """Convert actions [K, N, outputs] to the environment's units and bounds: float32 [K*N, outputs].

        Example:
            >>> steering = GaussianMlp((3, 1), low=(-2.0,), high=(2.0,))
            >>> steering.to_env_actions(np.array([[[0.5], [9.0]]], np.float32))
            array([[1.],
                   [2.]], dtype=float32)
        """
        u = super().to_env_actions(actions)
        middle, half, bounded = self._range
        clipped = np.tanh(u) if self.squashed else u.clip(-1, 1)
        if bounded is None:
            clipped *= half
            clipped += middle
            return clipped
        u = middle + half * np.where(bounded, clipped, u)
        return np.clip(u, self.low, self.high).astype(np.float32)
