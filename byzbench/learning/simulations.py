"""Environments that are a few equations: written for one row, and compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType

import numpy as np
from torch import Tensor

from byzbench.learning.policies import CategoricalMlp


@dataclass(frozen=True)
class Simulation:
    """An environment whose state is s numbers, with discrete actions.

    `step` and `show` are functions of a module, in the part of Python and NumPy that Numba compiles, and call no others
    of ours.

    Attributes:
        start: (a generator, N) -> float64 [N, s], N first states, of which the first do not depend on N.
        step: (state, action, constants) -> (reward, whether the episode ends by itself); the state changes in place.
        show: (state, out) writes what is seen of it into float32 [o].
        size: the o above.
        constants: physical ones by name, in the order in which `step` has them: float64 [c].
    """

    start: Callable[[np.random.Generator, int], np.ndarray]
    step: Callable[[np.ndarray, int, np.ndarray], tuple[float, bool]]
    show: Callable[[np.ndarray, np.ndarray], None]
    size: int
    constants: Mapping[str, float] = field(default_factory=dict)


class Simulated:
    """K*N rows of a simulation: an `EnvironmentBatch`, of which a policy can also play whole episodes at once.

    Attributes:
        states: float64 [K*N, s].
    """

    def __init__(self, simulation: Simulation, agents: int, count: int, horizon: int) -> None:
        self._simulation, self._count, self._horizon = simulation, count, horizon
        code = _code()
        self._addresses = code.address_of_step(simulation.step), code.address_of_show(simulation.show)
        self._made = np.tile(np.array(list(simulation.constants.values()), float), (agents * count, 1))
        self._constants = self._made

    def alter(self, factors: Mapping[str, np.ndarray]) -> None:
        """See `Task`."""
        self._constants = self._made.copy()
        for name, factor in factors.items():
            self._constants[:, list(self._simulation.constants).index(name)] *= np.repeat(factor, self._count)

    def reset(self, generators: Sequence[np.random.Generator]) -> np.ndarray:
        """See `EnvironmentBatch`."""
        starts = [self._simulation.start(rng, self._count) for rng in generators]
        self.states, self._t = np.ascontiguousarray(np.concatenate(starts), np.float64), 0
        shown = np.empty((len(self.states), self._simulation.size), np.float32)
        _code().present(self._addresses[1], self.states, shown)
        return shown

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """See `EnvironmentBatch`."""
        self._t += 1
        rows = len(self.states)
        shown = np.empty((rows, self._simulation.size), np.float32)
        rewards, ended = np.empty(rows, np.float32), np.empty(rows, bool)
        chosen = np.ascontiguousarray(actions, np.int64)
        _code().advance(*self._addresses, self.states, self._constants, chosen, shown, rewards, ended)
        return shown, rewards, ended, np.full(rows, self._t >= self._horizon)

    def play(
        self,
        policy: CategoricalMlp,
        theta: Tensor,
        uniforms: Tensor,
        count: Tensor,
        results: Mapping[str, np.ndarray],
        greedy: bool,
    ) -> int:
        """After a reset, what `rollout` does: K*N episodes, one a row from its start to its end.

        Args:
            policy: who acts.
            theta: [K, d].
            uniforms: float32 [K, T, N] for the actions.
            count: int64 [K], each agent's number of episodes.
            results: `Trajectories` in full length, by name: zeros, which are filled in.
            greedy: take the likeliest actions.

        Returns:
            The length of the longest episode.
        """
        names = ("observations", "actions", "rewards", "mask", "terminated", "beyond")
        return _code().play(
            *self._addresses,
            *(self.states, self._constants),
            *(theta.contiguous().numpy(), np.array(policy.sizes), policy.squashed, greedy),
            *(uniforms.numpy(), count.numpy()),
            *(results[name] for name in names),
        )


def _code() -> ModuleType:
    # Numba is loaded by whoever simulates, not by whoever lists tasks.
    from byzbench.learning import compiled

    return compiled
