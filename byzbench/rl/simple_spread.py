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
    players = len(state) // 6
    entities, actions = state.reshape(3, players, 2), action.reshape(players, len(action) // players)
    positions, velocities, landmarks = entities[0], entities[1], entities[2]
    forces = np.zeros((players, 2))
    for i in range(players):
        for axis in range(2):
            # The actions are: nothing, left, right, down, up; or a vector of their strengths, in float32.
            back, forth = 1 + 2 * axis, 2 + 2 * axis
            if len(action) == players:
                forces[i, axis] = _SENSITIVITY * ((actions[i, 0] == forth) - (actions[i, 0] == back))
            else:
                strength_back = np.float32(min(max(actions[i, back], 0.0), 1.0))
                strength_forth = np.float32(min(max(actions[i, forth], 0.0), 1.0))
                forces[i, axis] = _SENSITIVITY * (strength_forth - strength_back)
    for i in range(players):
        for j in range(i + 1, players):
            x, y = positions[i, 0] - positions[j, 0], positions[i, 1] - positions[j, 1]
            distance = math.sqrt(x * x + y * y)
            overlap = (_CONTACT_DISTANCE - distance) / _CONTACT_MARGIN
            penetration = (max(overlap, 0.0) + math.log1p(math.exp(-abs(overlap)))) * _CONTACT_MARGIN
            for axis, difference in enumerate((x, y)):
                force = _CONTACT_FORCE * difference / distance * penetration
                forces[i, axis] += force
                forces[j, axis] -= force
    for i in range(players):
        for axis in range(2):
            positions[i, axis] += velocities[i, axis] * _STEP_SECONDS
            velocities[i, axis] = velocities[i, axis] * (1 - _DAMPING) + forces[i, axis] * _STEP_SECONDS
    global_reward = 0.0
    for landmark in landmarks:
        nearest = math.inf
        for position in positions:
            x, y = position[0] - landmark[0], position[1] - landmark[1]
            nearest = min(nearest, math.sqrt(x * x + y * y))
        global_reward -= nearest
    local_ratio, total = constants[0], np.float32(0)
    for i in range(players):
        num_collisions = 0
        for j in range(players):
            x, y = positions[i, 0] - positions[j, 0], positions[i, 1] - positions[j, 1]
            num_collisions += i != j and math.sqrt(x * x + y * y) < _CONTACT_DISTANCE
        total += np.float32(global_reward * (1 - local_ratio) - num_collisions * local_ratio)
    return float(total / np.float32(players)), False


def _show(state: np.ndarray, out: np.ndarray) -> None:
    """Write each player's velocity and position, the places of landmarks and of other players from it, and zeros.

    The zeros are the messages of the other players, who are silent here.
    """
    players = len(state) // 6
    entities, views = state.reshape(3, players, 2), out.reshape(players, 6 * players)
    positions, velocities, landmarks = entities[0], entities[1], entities[2]
    for i in range(players):
        for axis in range(2):
            place = positions[i, axis]
            views[i, axis], views[i, 2 + axis] = velocities[i, axis], place
            for j in range(players):
                views[i, 4 + 2 * j + axis] = landmarks[j, axis] - place
            at = 4 + 2 * players + axis
            for j in range(players):
                if j != i:
                    views[i, at] = positions[j, axis] - place
                    at += 2
        views[i, 2 + 4 * players :] = 0
