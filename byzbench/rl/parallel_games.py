"""Batches of PettingZoo's parallel games, with one row for each team or for each player."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from byzbench.errors import BrokenEnvironment, Undefined
from byzbench.rl.checked_environments import as_numbers, fit_actions, require_observations, require_results


class _Games:
    """A batch of games. A game that is over is not stepped: it repeats its last observation, with reward 0."""

    def __init__(self, games: Sequence[Any], horizon: int) -> None:
        self._games, self._horizon = games, horizon
        self._players = games[0].possible_agents
        self._space = games[0].observation_space(self._players[0])
        self._actions = games[0].action_space(self._players[0])
        self._observations = np.zeros((len(games), len(self._players), *self._space.shape), np.float32)

    def _store(self, number: int, observations: Mapping[str, Any]) -> None:
        """Store the observations of a game: zeros of players who left, unless it still returns theirs."""
        by_player = _by_player(observations, "observation", self._games[number].agents)
        require_observations(self._space, list(by_player.values()))
        for index, player in enumerate(self._players):
            self._observations[number, index] = by_player.get(player, 0.0)

    def _begin(self, seeds: np.ndarray) -> None:
        """Start every game from its seed."""
        for number, (game, seed) in enumerate(zip(self._games, seeds.tolist(), strict=True)):
            self._store(number, require_results(game.reset(seed=seed), "observations", "infos")[0])
        self._running, self._t = list(range(len(self._games))), 0

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Step every game: actions [games, P, *a] -> rewards, terminated, truncated [games, P], and over [games]."""
        self._t += 1
        shape = self._observations.shape[:2]
        rewards, terminated, truncated = np.zeros(shape, np.float32), np.zeros(shape, bool), np.zeros(shape, bool)
        over = np.full(shape[0], self._t >= self._horizon)
        if isinstance(self._actions, Box):
            actions = fit_actions(actions, self._actions)
        for number in self._running:
            game = self._games[number]
            active = set(game.agents)
            player_actions = {p: a for p, a in zip(self._players, actions[number], strict=True) if p in active}
            names = ("observations", "rewards", "terminations", "truncations", "infos")
            observations, *results, _ = require_results(game.step(player_actions), *names)
            self._store(number, observations)
            arrays = {"reward": rewards, "termination": terminated, "truncation": truncated}
            for (name, out), result in zip(arrays.items(), results, strict=True):
                by_player = _by_player(result, name, active)
                out[number] = as_numbers([by_player.get(player, 0) for player in self._players], f"a {name}")
            over[number] |= not game.agents
        self._running = [number for number in self._running if not over[number]]
        return rewards, terminated, truncated, over


def _by_player(values: Any, name: str, players: Collection[str]) -> Mapping[str, Any]:
    """Return the values that a game returned by player.

    Args:
        values: The values.
        name: The word for such a value in the message.
        players: The players who must have one.

    Raises:
        BrokenEnvironment: It is no mapping, or a player has none.
    """
    if not isinstance(values, Mapping):
        raise BrokenEnvironment(f"returned {name}s of type {type(values).__name__}, expected a dict by player")
    if missing := [player for player in players if player not in values]:
        raise BrokenEnvironment(f"returned no {name} of player {missing[0]!r}")
    return values


class TeamGames(_Games):
    """K*N games, one in each row, whose players all act for one agent; the reward is the mean over players.

    Args:
        games: The K*N games, `ParallelEnv` objects whose players have the same spaces.
        count: The number N of games of each agent.
        horizon: The maximal number of steps of an episode.

    Example:
        Two agents with one game of three players each:

        >>> from mpe2 import simple_spread_v3
        >>> games = TeamGames([simple_spread_v3.parallel_env() for _ in range(2)], count=1, horizon=25)
        >>> games.reset([np.random.default_rng(agent) for agent in range(2)]).shape
        (2, 54)
    """

    def __init__(self, games: Sequence[Any], count: int, horizon: int) -> None:
        super().__init__(games, horizon)
        self._count = count

    def _joint_observations(self) -> np.ndarray:
        return self._observations.reshape(len(self._observations), -1).copy()

    def reset(self, generators: Sequence[np.random.Generator]) -> np.ndarray:
        """Start a game in every row: see `EnvironmentBatch`."""
        self._begin(np.concatenate([rng.integers(1 << 31, size=self._count) for rng in generators]))
        return self._joint_observations()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Step every game with joint actions [K*N, P, *a]: see `EnvironmentBatch`."""
        rewards, player_terminated, player_truncated, over = self._advance(actions)
        terminated = over & player_terminated.any(1) & ~player_truncated.any(1)
        return self._joint_observations(), rewards.mean(1), terminated, over & ~terminated


class SharedGames(_Games):
    """N games that K agents share, with one row for each agent in each game: agent k is the k-th player of all games.

    The observations and rewards of an agent depend on the actions of the others. The initial states come from the first
    agent's generator.

    Args:
        games: The N games, `ParallelEnv` objects of K players with the same spaces.
        horizon: The maximal number of steps of an episode.

    Example:
        Three agents that are the players of two games:

        >>> from mpe2 import simple_spread_v3
        >>> games = SharedGames([simple_spread_v3.parallel_env() for _ in range(2)], horizon=25)
        >>> games.reset([np.random.default_rng(agent) for agent in range(3)]).shape
        (6, 18)
    """

    def _player_observations(self) -> np.ndarray:
        return self._by_agent(self._observations).copy()

    @staticmethod
    def _by_agent(x: np.ndarray) -> np.ndarray:
        """Reorder [N, K, ...] to rows [K*N, ...], agent by agent."""
        return x.swapaxes(0, 1).reshape(-1, *x.shape[2:])

    def reset(self, generators: Sequence[np.random.Generator]) -> np.ndarray:
        """Start every game: see `EnvironmentBatch`."""
        self._begin(generators[0].integers(1 << 31, size=len(self._games)))
        return self._player_observations()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Step every game with the actions [K*N, *a] of its players: see `EnvironmentBatch`."""
        by_game = actions.reshape(len(self._players), len(self._games), *actions.shape[1:]).swapaxes(0, 1)
        rewards, terminated, truncated, over = self._advance(by_game)
        truncated |= over[:, None] & ~terminated
        return (
            self._player_observations(),
            self._by_agent(rewards),
            self._by_agent(terminated),
            self._by_agent(truncated),
        )


def require_equal_spaces(id: str, game: Any, method: str, what: str) -> None:
    """Check that one policy can act in the spaces of all players.

    Args:
        id: The game as family/name, for the message.
        game: The game, a `ParallelEnv`.
        method: The method that returns a player's space: `observation_space` or `action_space`.
        what: The word for the spaces in the message.

    Raises:
        Undefined: The spaces of the players differ, or are of an unsupported type.

    Example:
        >>> from mpe2 import simple_spread_v3
        >>> game = simple_spread_v3.parallel_env()
        >>> require_equal_spaces("mpe2/simple_spread_v3", game, "action_space", "actions")
    """
    spaces = [getattr(game, method)(player) for player in game.possible_agents]
    first = spaces[0]
    # Policies read observations of any size, but act within the bounds of actions.
    kinds = spaces if method == "action_space" else [(type(space), space.shape) for space in spaces]
    if any(kind != kinds[0] for kind in kinds):
        raise Undefined(f"the players of {id!r} have unequal {what}: players that share a policy need equal {what}")
    vector = isinstance(first, Box) and len(first.shape) == 1
    if not (vector or (method == "action_space" and isinstance(first, Discrete) and first.start == 0)):
        raise Undefined(
            f"game {id!r} has {what} of type {type(first).__name__}; supported are vectors (Box with one "
            "dimension), and Discrete actions"
        )
