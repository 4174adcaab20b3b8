"""Stochastic policies whose parameters are flat vectors, stacked over agents."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from byzbench.rl.networks import FeedForward, FunctionApproximator, Parts
from byzbench.rl.samplers import Sampler, categorical, gaussian, network_categorical

LOG_STD = -0.5
"""The initial log standard deviation of a Gaussian policy."""

LOG_STD_RANGE = (-5.0, 2.0)
"""The range to which log standard deviations are clamped, so that densities stay finite."""

STATE_LOG_STD_RANGE = (-20.0, -2.0)
"""The range to which log standard deviations that depend on the state are clamped."""


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
            noise: The noise of the actions, [K, T, N, *a], by `sample_noise`; None: take the likeliest actions.
        """

    def to_env_actions(self, actions: np.ndarray) -> np.ndarray:
        """Convert actions [K, N, *a] to the actions of the K*N environments."""
        return actions.reshape(-1, *actions.shape[2:])

    def diagnostics(self, theta: Tensor, observations: Tensor) -> dict[str, float]:
        """Return diagnostics of the actions of theta [1, d] on observations [1, M, o] of one agent's episodes."""
        return {}


class Policy(Actor):
    """A policy that can be trained: log-probabilities of actions are differentiable in its parameters."""

    @abstractmethod
    def critic(self) -> FunctionApproximator:
        """Return a network of the policy's architecture that estimates the value of an observation [o]."""

    @abstractmethod
    def initial(self, rng: np.random.Generator) -> Tensor:
        """Draw initial parameters: float32 [d]."""

    @abstractmethod
    def layers(self, theta: Tensor) -> Parts:
        """Split theta [K, d] into the parts that the other methods take, as views."""

    @abstractmethod
    def log_probabilities(self, layers: Parts, observations: Tensor, actions: Tensor) -> Tensor:
        """Return log pi(a | s), or its log density: observations [K, M, o], actions [K, M, *a] -> [K, M]."""

    @abstractmethod
    def entropy(self, layers: Parts, observations: Tensor) -> Tensor:
        """Return the entropy of pi(. | s) in nats: observations [K, M, o] -> [K, M]."""


@dataclass(frozen=True)
class NetworkPolicy(Policy):
    """A policy whose network has an output for each parameter of the action distribution.

    Attributes:
        network: The network.
        squashed: Whether logits, or continuous actions, pass through tanh; see the subclasses.
    """

    network: FunctionApproximator
    squashed: bool = False

    @property
    def dimension(self) -> int:
        """Return d, the number of parameters of the network."""
        return self.network.dimension

    @property
    def observation_size(self) -> int:
        """Return o, the size of an observation."""
        return self.network.observation_size

    def critic(self) -> FunctionApproximator:
        """Return a network of the policy's architecture with one output: see `Policy`."""
        return self.network.resized(self.network.observation_size, 1)

    def initial(self, rng: np.random.Generator) -> Tensor:
        """Draw the network's initial parameters: float32 [d]."""
        return self.network.initial(rng)

    def layers(self, theta: Tensor) -> Parts:
        """Split theta [K, d] into the parts that the network takes."""
        return self.network.layers(theta)


@dataclass(frozen=True)
class CategoricalPolicy(NetworkPolicy):
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

    def logits(self, layers: Parts, observations: Tensor) -> Tensor:
        """Compute the logits: observations [K, M, o] -> [K, M, actions]."""
        logits = self.network.outputs(layers, observations)
        return logits.tanh() if self.squashed else logits

    def log_probabilities(self, layers: Parts, observations: Tensor, actions: Tensor) -> Tensor:
        """Return log pi(a | s): see `Policy`."""
        log_probs = self.logits(layers, observations).log_softmax(-1)
        return log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)

    def entropy(self, layers: Parts, observations: Tensor) -> Tensor:
        """Return the entropy of pi(. | s): see `Policy`."""
        log_probs = self.logits(layers, observations).log_softmax(-1)
        return -(log_probs.exp() * log_probs).sum(-1)

    def sample_noise(self, rng: np.random.Generator, out: np.ndarray) -> None:
        """Fill `out` with uniform numbers in [0, 1)."""
        rng.random(out=out, dtype=np.float32)

    def sampler(self, theta: Tensor, noise: Tensor | None) -> Sampler:
        """Return a function that samples actions: see `Actor`."""
        if type(self.network) is FeedForward and not self.network.indexed:
            return network_categorical(self.network.layers(theta), self.network.activation, self.squashed, noise)
        return categorical(self.network.score(theta), self.squashed, noise)


@dataclass(frozen=True)
class GaussianPolicy(NetworkPolicy):
    """A diagonal Gaussian policy: u ~ N(mu(s), sigma^2) in each coordinate of an action, sigma independent of s.

    Actions are in units of half their range: -1 and 1 are the bounds `low` and `high` where these are finite. Elsewhere
    actions are in the environment's units. An action outside its bounds is clipped; with `squashed`, tanh(u) is
    executed instead. The log density is that of u in either case: the density of tanh(u) differs by a term in u
    alone, which changes no gradient and no importance weight. log sigma follows the network's parameters in theta, and
    is clamped to `LOG_STD_RANGE`.

    Attributes:
        low: The lower bounds of the coordinates, one for each output of the network.
        high: The upper bounds.
        log_std: The initial log sigma.
    """

    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    log_std: float = LOG_STD

    @property
    def dimension(self) -> int:
        """Return d, the number of parameters: the network's, then log sigma [outputs]."""
        return self.network.dimension + self.network.num_outputs

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Return (outputs,), one coordinate for each output."""
        return (self.network.num_outputs,)

    @property
    def dtype(self) -> torch.dtype:
        """Return float32."""
        return torch.float32

    def initial(self, rng: np.random.Generator) -> Tensor:
        """Draw the network's initial parameters, and append log sigma: float32 [d]."""
        return torch.cat([self.network.initial(rng), torch.full((self.network.num_outputs,), self.log_std)])

    def layers(self, theta: Tensor) -> Parts:
        """Split theta [K, d] into the parts that the network takes, log sigma [K, 1, outputs], and sigma."""
        outputs = self.network.num_outputs
        log_std = theta[:, -outputs:].unsqueeze(1).clamp(*LOG_STD_RANGE)
        return self.network.layers(theta[:, :-outputs]), log_std, log_std.exp()

    def log_probabilities(self, layers: Parts, observations: Tensor, actions: Tensor) -> Tensor:
        """Return the log density of u: see `Policy`."""
        inner, log_std, std = layers
        scaled = (actions - self.network.outputs(inner, observations)) / std
        return -(scaled.square() / 2 + log_std).sum(-1) - self.network.num_outputs * math.log(2 * math.pi) / 2

    def entropy(self, layers: Parts, observations: Tensor) -> Tensor:
        """Return the entropy of u, which is the same in every state."""
        _, log_std, _ = layers
        entropies = log_std + math.log(2 * math.pi * math.e) / 2
        return entropies.sum(-1).expand(observations.shape[:2])

    def sample_noise(self, rng: np.random.Generator, out: np.ndarray) -> None:
        """Fill `out` with standard normal numbers."""
        rng.standard_normal(out=out, dtype=np.float32)

    def sampler(self, theta: Tensor, noise: Tensor | None) -> Sampler:
        """Return a function that samples actions: see `Actor`."""
        _, _, std = self.layers(theta)
        return gaussian(self.network.score(theta[:, : self.network.dimension]), std, noise)

    @cached_property
    def bounds(self) -> np.ndarray:
        """Return the middle and half the width of each coordinate's range, and its bounds: float32 [4, outputs].

        The middle is 0 and half the width 1 for a coordinate without two finite bounds.
        """
        low, high = np.array(self.low), np.array(self.high)
        bounded = np.isfinite(low) & np.isfinite(high)
        with np.errstate(invalid="ignore"):
            middle, half = np.where(bounded, (low + high) / 2, 0), np.where(bounded, (high - low) / 2, 1)
        return np.stack([middle, half, low, high]).astype(np.float32)

    def to_env_actions(self, actions: np.ndarray) -> np.ndarray:
        """Convert actions [K, N, outputs] to the environment's units and bounds: float32 [K*N, outputs].

        Example:
            >>> steering = GaussianPolicy(FeedForward((3, 1)), low=(-2.0,), high=(2.0,))
            >>> steering.to_env_actions(np.array([[[0.5], [9.0]]], np.float32))
            array([[1.],
                   [2.]], dtype=float32)
        """
        u = super().to_env_actions(actions)
        middle, half, low, high = self.bounds
        bounded = np.isfinite(low) & np.isfinite(high)
        inside = np.tanh(u) if self.squashed else u.clip(-1, 1)
        return np.clip(middle + half * np.where(bounded, inside, u), low, high)


@dataclass(frozen=True)
class StateGaussianPolicy(GaussianPolicy):
    """A diagonal Gaussian policy u ~ N(mu(s), sigma(s)^2), whose network has two outputs for each coordinate.

        mu = tanh(a),    sigma = tanh(exp(clamp(b, -20, -2))),    (a, b) the network's outputs

    Actions are in units of half their range, and clipped to it, as in `GaussianPolicy`. sigma is at most 0.13. A
    density of almost no width is cut off below: a coordinate's log density is at least -1e5.

    Source: the code of Fan et al. 2021, arXiv 2110.14074.

    Differs from the source in: the last layer has biases.

    Example:
        >>> policy = StateGaussianPolicy(FeedForward((3, 4)), low=(-1.0, -1.0), high=(1.0, 1.0))
        >>> policy.action_shape, policy.dimension
        ((2,), 16)
    """

    @property
    def dimension(self) -> int:
        """Return d, the number of parameters of the network."""
        return self.network.dimension

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Return (coordinates,)."""
        return (len(self.low),)

    def initial(self, rng: np.random.Generator) -> Tensor:
        """Draw the network's initial parameters: float32 [d]."""
        return self.network.initial(rng)

    def layers(self, theta: Tensor) -> Parts:
        """Split theta [K, d] into the parts that the network takes."""
        return self.network.layers(theta)

    def moments(self, layers: Parts, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and sigma: observations [K, M, o] -> [K, M, coordinates] each."""
        mean, log_std = self.network.outputs(layers, observations).chunk(2, -1)
        return mean.tanh(), log_std.clamp(*STATE_LOG_STD_RANGE).exp().tanh()

    def log_probabilities(self, layers: Parts, observations: Tensor, actions: Tensor) -> Tensor:
        """Return the log density of u: see `Policy`."""
        mean, std = self.moments(layers, observations)
        densities = -((actions - mean) / std).square() / 2 - std.log() - math.log(2 * math.pi) / 2
        return densities.clamp(min=-1e5).sum(-1)

    def entropy(self, layers: Parts, observations: Tensor) -> Tensor:
        """Return the entropy of u: see `Policy`."""
        _, std = self.moments(layers, observations)
        return (std.log() + math.log(2 * math.pi * math.e) / 2).sum(-1)

    def sampler(self, theta: Tensor, noise: Tensor | None) -> Sampler:
        """Return a function that samples actions: see `Actor`."""
        layers = self.layers(theta)

        def choose(t: int, observations: np.ndarray) -> np.ndarray:
            mean, std = self.moments(layers, torch.from_numpy(observations))
            return (mean if noise is None else mean + std * noise[:, t]).numpy()

        return choose
