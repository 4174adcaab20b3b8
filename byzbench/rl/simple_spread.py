"""The game simple_spread of PettingZoo (mpe2) as a simulation of a whole team."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from byzbench.rl.simulations import Simulation, draw_uniform_states

SIMPLE_SPREAD_OPTIONS = frozenset({"N", "local_ratio", "max_cycles", "continuous_actions"})
"""The options of the game that the simulation has; with others PettingZoo's game may differ."""

_STEP_SECONDS, _DAMPING = 0.1, 0.25
_SENSITIVITY = 5.0
_CONTACT_DISTANCE, _CONTACT_FORCE, _CONTACT_MARGIN = 0.3, 100.0, 0.001


def simple_spread(players: int, local_ratio: float, continuous_actions: bool) -> Simulation:
    """Return the game of a team of players, with as many landmarks.

    The state is the positions and the velocities of the players, then the positions of the landmarks.

    Args:
        players: The number N of players.
        local_ratio: The weight of the collisions in a player's reward.
        continuous_actions: Whether actions are vectors of five numbers.

    Example:
        >>> game = simple_spread(3, 0.5, continuous_actions=False)
        >>> game.start(np.random.default_rng(0), 2).shape, game.size, game.action_size
        ((2, 18), 54, 3)
    """
    action_size = 5 * players if continuous_actions else players
    start = partial(_start, players)
    return Simulation(start, _step, _show, 6 * players**2, {"local_ratio": local_ratio}, action_size)


def _start(players: int, rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw initial states, equal to those of the game from the same seeds."""
    places = draw_uniform_states([-1.0] * 4 * players, [1.0] * 4 * players, rng, count)
    return np.insert(places, [2 * players] * 2 * players, 0.0, axis=1)


def _step(state: np.ndarray, action: np.ndarray, constants: np.ndarray) -> tuple[float, bool]:
    """Advance the game by one step of its equations, and return the mean reward of the players."""
    size = len(state) // 3
    players, positions, velocities, landmarks = size // 2, state[:size], state[size : 2 * size], state[2 * size :]
    forces = np.zeros(size)
    for i in range(players):
        # The actions are: nothing, left, right, down, up; or a vector of their strengths, in float32.
        for axis in range(2):
            back, forth = 1 + 2 * axis, 2 + 2 * axis
            if len(action) == players:
                forces[2 * i + axis] = _SENSITIVITY * ((action[i] == forth) - (action[i] == back))
            else:
                strength_back = np.float32(min(max(action[5 * i + back], 0.0), 1.0))
                strength_forth = np.float32(min(max(action[5 * i + forth], 0.0), 1.0))
                forces[2 * i + axis] = _SENSITIVITY * (strength_forth - strength_back)
    for i in range(0, size, 2):
        for j in range(i + 2, size, 2):
            x, y = positions[i] - positions[j], positions[i + 1] - positions[j + 1]
            distance = math.sqrt(x * x + y * y)
            overlap = (_CONTACT_DISTANCE - distance) / _CONTACT_MARGIN
            penetration = (max(overlap, 0.0) + math.log1p(math.exp(-abs(overlap)))) * _CONTACT_MARGIN
            force_x = _CONTACT_FORCE * x / distance * penetration
            force_y = _CONTACT_FORCE * y / distance * penetration
            forces[i] += force_x
            forces[i + 1] += force_y
            forces[j] -= force_x
            forces[j + 1] -= force_y
    for i in range(size):
        positions[i] += velocities[i] * _STEP_SECONDS
        velocities[i] = velocities[i] * (1 - _DAMPING) + forces[i] * _STEP_SECONDS
    global_reward = 0.0
    for j in range(0, size, 2):
        nearest = math.inf
        for i in range(0, size, 2):
            x, y = positions[i] - landmarks[j], positions[i + 1] - landmarks[j + 1]
            nearest = min(nearest, x * x + y * y)
        global_reward -= math.sqrt(nearest)
    # Rewards are float32 before their mean is taken.
    local_ratio, total = constants[0], np.float32(0)
    for i in range(0, size, 2):
        num_collisions = 0
        for j in range(0, size, 2):
            x, y = positions[i] - positions[j], positions[i + 1] - positions[j + 1]
            num_collisions += i != j and math.sqrt(x * x + y * y) < _CONTACT_DISTANCE
        total += np.float32(global_reward * (1 - local_ratio) - num_collisions * local_ratio)
    return float(total / np.float32(players)), False


def _show(state: np.ndarray, out: np.ndarray) -> None:
    """Write each player's velocity and position, the places of landmarks and of other players from it, and zeros.

    The zeros are the messages of the other players, who are silent here.
    """
    size, at = len(state) // 3, 0
    for i in range(0, size, 2):
        x, y = state[i], state[i + 1]
        out[at], out[at + 1], out[at + 2], out[at + 3] = state[size + i], state[size + i + 1], x, y
        at += 4
        for j in range(2 * size, 3 * size, 2):
            out[at], out[at + 1] = state[j] - x, state[j + 1] - y
            at += 2
        for j in range(0, size, 2):
            if j != i:
                out[at], out[at + 1] = state[j] - x, state[j + 1] - y
                at += 2
        for _ in range(size - 2):
            out[at] = 0
            at += 1
