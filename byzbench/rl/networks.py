"""Networks whose parameters are flat vectors, stacked over agents."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from byzbench.errors import InvalidParameter
from byzbench.rl.samplers import Layers, Score, network_score

Activation: TypeAlias = Literal["tanh", "relu"]
Initialization: TypeAlias = Literal["uniform", "orthogonal"]

Parts: TypeAlias = Any
"""The parameters of K agents, in the form that the `outputs` of a network take; views of theta [K, d]."""


class FunctionApproximator(ABC):
    """A function from observations to outputs, with parameters theta [K, d] of K agents.

    Shapes: o is the size of an observation, m the number of outputs, d the number of parameters.
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
    def num_outputs(self) -> int:
        """Return m, the number of outputs."""

    @property
    def last_layer_size(self) -> int:
        """Return the number of parameters at the end of theta that, if zero, make all outputs zero; 0 if unknown."""
        return 0

    @abstractmethod
    def initial(self, rng: np.random.Generator) -> Tensor:
        """Draw initial parameters: float32 [d]."""

    @abstractmethod
    def layers(self, theta: Tensor) -> Parts:
        """Split theta [K, d] into the parts that `outputs` takes, as views."""

    @abstractmethod
    def outputs(self, layers: Parts, observations: Tensor) -> Tensor:
        """Compute the outputs: observations [K, M, o] -> [K, M, m].

        The outputs of an agent do not depend on the other agents, not even by rounding.
        """

    @abstractmethod
    def resized(self, observation_size: int, num_outputs: int) -> FunctionApproximator:
        """Return a network of the same architecture for other sizes, for example a critic.

        Args:
            observation_size: The size o of an observation.
            num_outputs: The number m of outputs.
        """

    def score(self, theta: Tensor) -> Score:
        """Return a function of observations, float32 [K, N, o], that returns the outputs of theta [K, d] as an array.

        Args:
            theta: The parameters, [K, d].
        """
        layers = self.layers(theta)
        return lambda observations: self.outputs(layers, torch.from_numpy(observations)).numpy()


@dataclass(frozen=True)
class FeedForward(FunctionApproximator):
    """A network of dense layers; linear without hidden layers.

    Attributes:
        sizes: The sizes of the layers: (observation, hidden ..., outputs). If observations are indices, the first is
            their number.
        activation: The function after each hidden layer.
        initialization: The law of initial parameters. `uniform`: every tensor uniformly within 1/sqrt(n), as the code
            of arXiv 2401.03489 does, where n is the fan-in of a weight and the length of a bias. `orthogonal`:
            orthogonal weights with gain sqrt(2), and 0.01 in the last layer, and biases of zero, as PPO is usually
            started (Andrychowicz et al. 2021, arXiv 2006.05990).
        indexed: Whether an observation is the index of a state, of which the first layer is an embedding.

    Example:
        >>> FeedForward((4, 16, 2)).dimension
        114
    """

    sizes: tuple[int, ...]
    activation: Activation = "tanh"
    initialization: Initialization = "uniform"
    indexed: bool = False

    @cached_property
    def dimension(self) -> int:
        """Return d, the number of parameters: each layer's weight [in, out], then its bias [out]."""
        return sum((i + 1) * o for i, o in itertools.pairwise(self.sizes))

    @property
    def observation_size(self) -> int:
        """Return the size of an observation."""
        return 1 if self.indexed else self.sizes[0]

    @property
    def num_outputs(self) -> int:
        """Return the size of the last layer."""
        return self.sizes[-1]

    @property
    def last_layer_size(self) -> int:
        """Return the number of weights and biases of the last layer."""
        return (self.sizes[-2] + 1) * self.sizes[-1]

    def initial(self, rng: np.random.Generator) -> Tensor:
        """Draw initial parameters by the law of `initialization`: float32 [d]."""
        tensors, last = [], len(self.sizes) - 2
        for layer, (i, o) in enumerate(itertools.pairwise(self.sizes)):
            if self.initialization == "orthogonal":
                tensors += [orthogonal(i, o, rng) * (0.01 if layer == last else math.sqrt(2)), np.zeros(o)]
            else:
                tensors += [rng.uniform(-1 / math.sqrt(n), 1 / math.sqrt(n), s) for s, n in (((i, o), i), ((o,), o))]
        return torch.from_numpy(np.concatenate([tensor.ravel() for tensor in tensors]).astype(np.float32))

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
        activation = torch.tanh if self.activation == "tanh" else torch.relu
        if self.indexed:
            weight, bias = layers[0]
            x = rows_of(weight, observations) + bias
            if depth == 0:
                return x
            x, layers, depth = activation(x), layers[1:], depth - 1
        for weight, bias in layers[:depth]:
            x = activation(torch.baddbmm(bias, x, weight))
        weight, bias = layers[depth]
        if weight.shape[-1] == 1:  # the rounding of a matrix product would depend on K
            return (x * weight.mT).sum(-1, keepdim=True) + bias
        return torch.baddbmm(bias, x, weight)

    def resized(self, observation_size: int, num_outputs: int) -> FeedForward:
        """Return a network with the same hidden layers: see `FunctionApproximator.resized`."""
        inputs = self.sizes[0] if self.indexed else observation_size
        return replace(self, sizes=(inputs, *self.sizes[1:-1], num_outputs))

    def score(self, theta: Tensor) -> Score:
        """Return the outputs as a function of observations: see `FunctionApproximator.score`."""
        return super().score(theta) if self.indexed else network_score(self.layers(theta), self.activation)


@dataclass(frozen=True)
class LookupTable(FunctionApproximator):
    """A table with a row of outputs for each of n states: no state shares a parameter with another.

    Attributes:
        states: The number n of states.
        width: The number m of outputs.
        indexed: Whether an observation is the index of a state; otherwise it is a unit vector [n].

    Example:
        >>> table = LookupTable(3, 2)
        >>> layers = table.layers(torch.arange(6.0).unsqueeze(0))
        >>> table.outputs(layers, torch.tensor([[[0.0, 0.0, 1.0]]]))
        tensor([[[4., 5.]]])
    """

    states: int
    width: int
    indexed: bool = False

    @property
    def dimension(self) -> int:
        """Return n m, the number of entries."""
        return self.states * self.width

    @property
    def num_outputs(self) -> int:
        """Return `width`."""
        return self.width

    @property
    def last_layer_size(self) -> int:
        """Return the number of entries."""
        return self.dimension

    @property
    def observation_size(self) -> int:
        """Return the size of an observation."""
        return 1 if self.indexed else self.states

    def initial(self, rng: np.random.Generator) -> Tensor:
        """Return zeros, which make all actions equally likely: float32 [d]."""
        return torch.zeros(self.dimension)

    def layers(self, theta: Tensor) -> Tensor:
        """Return theta as tables [K, n, m]."""
        return theta.unflatten(1, (self.states, self.width))

    def outputs(self, layers: Tensor, observations: Tensor) -> Tensor:
        """Look up the rows of the tables: observations [K, M, o] -> [K, M, m]."""
        return rows_of(layers, observations if self.indexed else observations.argmax(-1, keepdim=True))

    def resized(self, observation_size: int, num_outputs: int) -> LookupTable:
        """Return a table for the same states: see `FunctionApproximator.resized`."""
        return replace(self, width=num_outputs)


@dataclass(frozen=True)
class ModuleNetwork(FunctionApproximator):
    """A network that is any torch module, called by `torch.func.functional_call`.

    theta holds the module's parameters in the order of `named_parameters`.

    Attributes:
        factory: A function of (observation size, number of outputs) that makes the module. The module maps
            observations [M, o] to outputs [M, m], one row at a time: without batch normalisation, dropout or other
            state.
        inputs: The size o of an observation.
        width: The number m of outputs.

    Raises:
        InvalidParameter: The factory returns no module, or the module has buffers, no parameters, outputs of another
            shape, or outputs that depend on anything but the parameters and the one observation.

    Example:
        >>> network = ModuleNetwork(lambda inputs, outputs: nn.Linear(inputs, outputs), 4, 2)
        >>> network.dimension
        10
        >>> network.outputs(network.layers(torch.ones(3, 10)), torch.ones(3, 5, 4)).shape
        torch.Size([3, 5, 2])
    """

    factory: Callable[[int, int], nn.Module]
    inputs: int
    width: int

    def __post_init__(self) -> None:
        name = type(self._module).__name__
        if not isinstance(self._module, nn.Module):
            raise InvalidParameter(f"a {name} was returned in place of a torch module")
        if buffers := [name for name, _ in self._module.named_buffers()]:
            raise InvalidParameter(
                f"module {name} has buffers ({', '.join(buffers)}), which no agent would train or send; use layers "
                "whose state is all parameters"
            )
        if not self._shapes:
            raise InvalidParameter(f"module {name} has no parameters")
        if wrong := [label for label, p in self._module.named_parameters() if p.dtype != torch.float32]:
            raise InvalidParameter(f"module {name} has parameters that are not float32: {', '.join(wrong)}")
        observations = torch.linspace(-1.0, 1.0, 3 * self.inputs).view(1, 3, self.inputs)
        layers = self.layers(torch.linspace(-1.0, 1.0, self.dimension).unsqueeze(0))
        try:
            with torch.random.fork_rng(devices=[]):
                first, second = (self.outputs(layers, observations.clone()) for _ in range(2))
                alone = self.outputs(layers, observations[:, :1].clone())
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            reason = str(error).strip().split("\n")[0]
            raise InvalidParameter(f"module {name} fails on observations [3, {self.inputs}]: {reason}") from None
        if (shape := list(first.shape)) != [1, 3, self.width]:
            raise InvalidParameter(
                f"module {name} maps observations [3, {self.inputs}] to {shape[1:]}; expected [3, {self.width}]"
            )
        if not torch.equal(first.nan_to_num(), second.nan_to_num()):
            raise InvalidParameter(
                f"module {name} maps equal observations to different outputs; it must have no dropout, no random "
                "numbers and no state but its parameters"
            )
        if not torch.allclose(first[:, :1], alone, rtol=1e-3, atol=1e-3, equal_nan=True):
            raise InvalidParameter(f"module {name} mixes observations: its output for one depends on the others")

    @cached_property
    def _module(self) -> nn.Module:
        # The module's own initial values are not used, so its generator does not matter; but it must not move.
        with torch.random.fork_rng(devices=[]):
            return self.factory(self.inputs, self.width)

    @cached_property
    def _shapes(self) -> dict[str, torch.Size]:
        return {name: parameter.shape for name, parameter in self._module.named_parameters()}

    @cached_property
    def dimension(self) -> int:
        """Return d, the number of parameters."""
        return sum(shape.numel() for shape in self._shapes.values())

    @property
    def observation_size(self) -> int:
        """Return `inputs`."""
        return self.inputs

    @property
    def num_outputs(self) -> int:
        """Return `width`."""
        return self.width

    def initial(self, rng: np.random.Generator) -> Tensor:
        """Draw every tensor uniformly within 1/sqrt(n): float32 [d].

        n is the fan-in of a tensor of two or more dimensions, and else the length. So randomness is that of `rng`, and
        not that of torch's global generator, from which modules draw their own initial values.
        """
        tensors = []
        for shape in self._shapes.values():
            fan_in = shape[1:].numel() if len(shape) > 1 else shape.numel()
            tensors.append(rng.uniform(-1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in), shape.numel()))
        return torch.from_numpy(np.concatenate(tensors).astype(np.float32))

    def layers(self, theta: Tensor) -> list[dict[str, Tensor]]:
        """Split theta [K, d] into the parameters of each agent by name."""
        split = theta.split([shape.numel() for shape in self._shapes.values()], 1)
        return [
            {name: part[k].view(shape) for (name, shape), part in zip(self._shapes.items(), split, strict=True)}
            for k in range(len(theta))
        ]

    def outputs(self, layers: list[dict[str, Tensor]], observations: Tensor) -> Tensor:
        """Call the module for each agent: observations [K, M, o] -> [K, M, m]."""
        # One call an agent, as the rounding of a call for all agents would depend on their number.
        calls = zip(layers, observations, strict=True)
        return torch.stack([functional_call(self._module, parameters, (rows,)) for parameters, rows in calls])

    def resized(self, observation_size: int, num_outputs: int) -> ModuleNetwork:
        """Return the module for other sizes: see `FunctionApproximator.resized`."""
        return replace(self, inputs=observation_size, width=num_outputs)


def rows_of(tables: Tensor, indices: Tensor) -> Tensor:
    """Return the rows of tables [K, n, m] at indices [K, M, 1], which are whole numbers of any type: [K, M, m].

    Example:
        >>> rows_of(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.tensor([[[1.0], [0.0]]]))
        tensor([[[3., 4.],
                 [1., 2.]]])
    """
    return tables.gather(1, indices.long().expand(-1, -1, tables.shape[-1]))


def orthogonal(rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a matrix whose rows or columns, whichever are fewer, are orthonormal: float64 [rows, columns].

    Example:
        >>> matrix = orthogonal(3, 2, np.random.default_rng(0))
        >>> np.allclose(matrix.T @ matrix, np.eye(2))
        True
    """
    tall = max(rows, columns), min(rows, columns)
    q, r = np.linalg.qr(rng.standard_normal(tall))
    q *= np.sign(np.diag(r))  # so that the law is uniform (Mezzadri 2007)
    return q if rows >= columns else q.T
