"""Simulated environments: functions of one state, compiled to machine code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from byzbench.rl.forms import Form, split_parameters

if TYPE_CHECKING:
    from byzbench.rl.compiled import SimulationCode


@dataclass(frozen=True)
class Simulation:
    """An environment whose state is a vector of s numbers, for one player or for a team.

    `step` and `show` are module-level functions in the part of Python and NumPy that Numba compiles. They must not call
    Python functions of other files, as machine code is kept until the file of the simulation changes.

    Attributes:
        start: A function of (generator, N) that draws N initial states, float64 [N, s]. The first states do not depend
            on N.
        step: A function of (state, action, constants) that returns (reward, terminated) and changes the state in place.
            The action is float64 [a]: the environment's actions of all players, one after another.
        show: A function of (state, out) that writes the observation of the state into `out`, float32 [o]: those of all
            players, one after another.
        size: The size o of an observation.
        constants: The physical constants by name, in the order in which `step` takes them: float64 [c].
        action_size: The size a of an action: 1 for each player whose actions are discrete.
    """

    start: Callable[[np.random.Generator, int], np.ndarray]
    step: Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[float, bool]]
    show: Callable[[np.ndarray, np.ndarray], None]
    size: int
    constants: Mapping[str, float] = field(default_factory=dict)
    action_size: int = 1


def draw_uniform_states(low: ArrayLike, high: ArrayLike, rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw the states that environments of Gymnasium and PettingZoo start from, each seeded from `rng`.

    Args:
        low: The lower bounds [s], which an environment passes to `Generator.uniform` after its reset.
        high: The upper bounds.
        rng: The generator of an agent.
        count: The number N of its environments.

    Returns:
        The states, float64 [N, s].

    Example:
        >>> states = draw_uniform_states([0.0, -1.0], [0.0, 1.0], np.random.default_rng(5), count=3)
        >>> seed = np.random.default_rng(5).integers(1 << 31)
        >>> bool((states[0] == np.random.default_rng(seed).uniform([0.0, -1.0], [0.0, 1.0])).all())
        True
    """
    from byzbench.rl import seeded_numbers  # a local import, as in `_code`

    bounds = np.array((low, high))
    numbers = np.empty((count, bounds.shape[1]))
    seeded_numbers.fill_uniforms(rng.integers(1 << 31, size=count), numbers)
    return bounds[0] + (bounds[1] - bounds[0]) * numbers


class Simulated:
    """K*N rows of a simulation: an `EnvironmentBatch` that can also run whole episodes in one call.

    Attributes:
        states: The states of all rows, float64 [K*N, s].
    """

    def __init__(self, simulation: Simulation, agents: int, count: int, horizon: int) -> None:
        self._simulation, self._count, self._horizon = simulation, count, horizon
        self._code = _code(simulation)
        self._agents = agents
        self.set_constants(np.array([list(simulation.constants.values())], float))

    def set_constants(self, constants: np.ndarray) -> None:
        """Set the physical constants of each agent, float64 [K, c], or of all, [1, c]."""
        self._constants = np.ascontiguousarray(constants, np.float64)

    def scale_dynamics(self, factors: Mapping[str, np.ndarray]) -> None:
        """Multiply the original physical constants by factors [K] of each agent: see `Task.scale_dynamics`."""
        constants = np.tile(np.array(list(self._simulation.constants.values()), float), (self._agents, 1))
        for name, factor in factors.items():
            constants[:, list(self._simulation.constants).index(name)] *= factor
        self.set_constants(constants)

    def reset(self, generators: Sequence[np.random.Generator]) -> np.ndarray:
        """Start an episode in every row: see `EnvironmentBatch`."""
        starts = [self._simulation.start(rng, self._count) for rng in generators]
        self.states, self._t = np.ascontiguousarray(np.concatenate(starts), np.float64), 0
        observations = np.empty((len(self.states), self._simulation.size), np.float32)
        self._code.present(self.states, observations)
        return observations

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Advance every row by one step: see `EnvironmentBatch`."""
        self._t += 1
        rows = len(self.states)
        observations = np.empty((rows, self._simulation.size), np.float32)
        rewards, terminated = np.empty(rows, np.float32), np.empty(rows, bool)
        actions = np.ascontiguousarray(actions, np.float64).reshape(rows, self._simulation.action_size)
        arrays = (self.states, self._constants, actions, np.arange(rows), rows, rewards, terminated, observations)
        self._code.advance(*arrays)
        return observations, rewards, terminated, np.full(rows, self._t >= self._horizon)

    def play(
        self,
        form: Form,
        theta: Tensor,
        noise: Tensor,
        count: Tensor,
        results: Mapping[str, np.ndarray],
        first: np.ndarray,
        greedy: bool,
    ) -> int:
        """Run the episodes of `rollout` after a reset, one in each row.

        Args:
            form: The form of the policy that acts.
            theta: The parameters, [K, d].
            noise: The noise of the actions, float32 [K, T, N, *a].
            count: The number of episodes of each agent, int64 [K].
            results: The fields of `Trajectories` in full length, by name, which are filled in up to the end of the
                longest episode; `terminated` and `final_observations` are zeros.
            first: The first observations, [K*N, o].
            greedy: Whether the likeliest actions are taken.

        Returns:
            The length of the longest episode, at least 1.
        """
        from byzbench.rl import kernels

        network, log_std = split_parameters(form, theta)
        flat = noise.unsqueeze(3) if noise.dim() == 3 else noise.flatten(3)
        actions = results["actions"]
        chosen = np.empty(flat.shape, np.float32)
        length = kernels.play_episodes(
            form,
            kernels.workspace(form, 1, 0),
            kernels.lanes(flat.shape[3], self._simulation.size),
            self._code.address,
            self.states,
            self._constants,
            first,
            network,
            np.exp(log_std),
            greedy,
            flat.numpy(),
            np.ascontiguousarray(count.numpy()),
            results["observations"],
            chosen,
            results["rewards"],
            results["mask"],
            results["terminated"],
            results["final_observations"],
            np.zeros(results["terminated"].shape, np.int64),
        )
        actions[:, :length] = chosen[:, :length].reshape(actions[:, :length].shape)
        return int(length)


def _code(simulation: Simulation) -> SimulationCode:
    # A local import, as loading Numba takes time, which listing tasks should not cost.
    from byzbench.rl.compiled import code_of

    return code_of(simulation.step, simulation.show)
