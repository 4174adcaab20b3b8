"""Base classes of policy families: the architectures of the policies that agents train."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from gymnasium.spaces import Box, Discrete
from pydantic import Field
from torch import nn

from byzbench.core.component import Component
from byzbench.core.learning import Task
from byzbench.rl.networks import FunctionApproximator, ModuleNetwork
from byzbench.rl.policies import LOG_STD, LOG_STD_RANGE, CategoricalPolicy, GaussianPolicy, Policy
from byzbench.rl.teams import Team


@dataclass(frozen=True)
class PolicyFamily(Component):
    """A family of policies: it makes the policy of a task, whose parameters agents train and exchange.

    A family defines the network from observations to the parameters of the action distribution: the logits of discrete
    actions, or the means of continuous ones. The distribution follows from the action space of the task. The players of
    a team share one network.

    Class attributes:
        suggested: values for parameters that an algorithm leaves to the task; they precede those of the task.

    Attributes:
        squash: whether continuous actions pass through tanh; otherwise they are clipped to their range.
        log_std: the initial logarithm of the standard deviation of continuous actions, in units of half their range.

    Example:
        >>> from byzbench.registry import make
        >>> policy = make("policy", "mlp(hidden=[16])").build(make("task", "cartpole"))
        >>> policy.dimension
        114
    """

    kind: ClassVar[str] = "policy"
    suggested: ClassVar[Mapping[str, float | str]] = {}

    squash: Annotated[bool, Field(description="pass continuous actions through tanh instead of clipping them")] = field(
        default=False, kw_only=True
    )
    log_std: Annotated[
        float,
        Field(
            ge=LOG_STD_RANGE[0],
            le=LOG_STD_RANGE[1],
            description="initial log standard deviation of continuous actions, in units of half their range",
        ),
    ] = field(default=LOG_STD, kw_only=True)

    @abstractmethod
    def network(self, inputs: int, outputs: int, states: int | None) -> FunctionApproximator:
        """Return the network of one player.

        Args:
            inputs: the size of the player's observation.
            outputs: the number of parameters of the action distribution.
            states: the number of states of a task whose observation is a state; None if observations are vectors. A
                state is a unit vector [states] if `inputs` is `states`, and an index if `inputs` is 1.

        Raises:
            InvalidParameter: the family does not support these observations.
        """

    def build(self, task: Task, squash_logits: bool = False) -> Policy:
        """Return the policy for a task.

        Args:
            task: the task.
            squash_logits: whether the logits of discrete actions pass through tanh.

        Raises:
            InvalidParameter: the family does not support the observations of the task.
        """
        space = task.action_space
        inputs = task.observation_size // task.players
        player: Policy
        if isinstance(space, Discrete):
            player = CategoricalPolicy(self.network(inputs, int(space.n), task.num_states), squash_logits)
        else:
            assert isinstance(space, Box)
            low, high = (tuple(map(float, end)) for end in (space.low, space.high))
            player = self.gaussian(inputs, low, high, task.num_states)
        is_team = len(task.action_shape) > len(space.shape or ())
        return Team(player, task.players) if is_team else player

    def gaussian(
        self, inputs: int, low: tuple[float, ...], high: tuple[float, ...], states: int | None
    ) -> GaussianPolicy:
        """Return the policy of one player for continuous actions.

        Args:
            inputs: the size of the player's observation.
            low: the lower bounds of an action.
            high: the upper bounds.
            states: see `network`.
        """
        return GaussianPolicy(self.network(inputs, len(low), states), self.squash, low, high, self.log_std)


@dataclass(frozen=True)
class ModulePolicyFamily(PolicyFamily):
    """A policy family whose network is a torch module.

    The parameter vector of an agent holds the parameters of the module in the order of `named_parameters`; they are
    initialised by the experiment's own random stream (see `byzbench.rl.networks.ModuleNetwork`). The module must have
    no other state: no buffers, and no dropout.

    Example:
        >>> @dataclass(frozen=True)
        ... class Normalised(ModulePolicyFamily):
        ...     def module(self, inputs: int, outputs: int) -> nn.Module:
        ...         return nn.Sequential(nn.Linear(inputs, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, outputs))
        >>> from byzbench.registry import make
        >>> Normalised().build(make("task", "cartpole")).dimension
        74
    """

    @abstractmethod
    def module(self, inputs: int, outputs: int) -> nn.Module:
        """Return a module that maps observations [M, inputs] to [M, outputs].

        Args:
            inputs: the size of an observation.
            outputs: the number of parameters of the action distribution, or 1 for a critic.
        """

    def network(self, inputs: int, outputs: int, states: int | None) -> FunctionApproximator:
        """Return the network of the module."""
        return ModuleNetwork(self.module, inputs, outputs)
