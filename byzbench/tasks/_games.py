"""Batches of PettingZoo's parallel games, a row for each team or for each player."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from byzbench.errors import InvalidParameter, UserError
from byzbench.registry import literal
from byzbench.tasks._gymnasium import explained


class _Games:
    """Games side by side. One that is over is not stepped: it shows its last observation and pays nothing."""

    def __init__(self, games: Sequence[Any], horizon: int) -> None:
        self._games, self._horizon = games, horizon
        self._players = games[0].possible_agents
        size = games[0].observation_space(self._players[0]).shape[0]
        self._shown = np.zeros((len(games), len(self._players), size), np.float32)

    def _show(self, game: int, seen: Mapping[str, Any]) -> None:
        for seat, player in enumerate(self._players):
            self._shown[game, seat] = seen.get(player, 0.0)

    def _begin(self, seeds: np.ndarray) -> None:
        """Start every game from its seed."""
        for number, (game, seed) in enumerate(zip(self._games, seeds.tolist(), strict=True)):
            self._show(number, game.reset(seed=seed)[0])
        self._running, self._t = list(range(len(self._games))), 0

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Actions [games, P, *a] -> rewards, terminated, truncated [games, P], and over [games]."""
        self._t += 1
        form = self._shown.shape[:2]
        rewards, ended, cut = np.zeros(form, np.float32), np.zeros(form, bool), np.zeros(form, bool)
        over = np.full(form[0], self._t >= self._horizon)
        for number in self._running:
            game = self._games[number]
            playing = set(game.agents)
            chosen = {p: a for p, a in zip(self._players, actions[number], strict=True) if p in playing}
            seen, *told, _ = game.step(chosen)
            self._show(number, seen)
            for out, said in zip((rewards, ended, cut), told, strict=True):
                out[number] = [said.get(player, 0) for player in self._players]
            over[number] |= not game.agents
        self._running = [number for number in self._running if not over[number]]
        return rewards, ended, cut, over


class Teams(_Games):
    """K*N games, a row each: all players act for one agent, who is paid their mean."""

    def __init__(self, games: Sequence[Any], count: int, horizon: int) -> None:
        super().__init__(games, horizon)
        self._count = count

    def _seen(self) -> np.ndarray:
        return self._shown.reshape(len(self._shown), -1).copy()

    def reset(self, generators: Sequence[np.random.Generator]) -> np.ndarray:
        self._begin(np.concatenate([rng.integers(1 << 31, size=self._count) for rng in generators]))
        return self._seen()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        rewards, ended, cut, over = self._advance(actions)
        terminated = over & ended.any(1) & ~cut.any(1)
        return self._seen(), rewards.mean(1), terminated, over & ~terminated


class World(_Games):
    """N games that K agents share, a row for each agent in each: agent k is the k-th player of all of them.

    What an agent meets depends on what the others do. The initial states come from the first agent's generator.
    """

    def _seen(self) -> np.ndarray:
        return self._by_agent(self._shown).copy()

    @staticmethod
    def _by_agent(x: np.ndarray) -> np.ndarray:
        """[N, K, ...] as rows [K*N, ...], agent by agent."""
        return x.swapaxes(0, 1).reshape(-1, *x.shape[2:])

    def reset(self, generators: Sequence[np.random.Generator]) -> np.ndarray:
        self._begin(generators[0].integers(1 << 31, size=len(self._games)))
        return self._seen()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        played = actions.reshape(len(self._players), len(self._games), *actions.shape[1:]).swapaxes(0, 1)
        rewards, ended, cut, over = self._advance(played)
        cut |= over[:, None] & ~ended
        return self._seen(), self._by_agent(rewards), self._by_agent(ended), self._by_agent(cut)


def opened(id: str, options: str) -> Any:
    """The game family/name with arguments such as "N=5 other=1", as a `ParallelEnv`.

    Raises:
        UserError: there is none here, or it takes other arguments.
    """
    family, _, name = id.partition("/")
    pairs = (item.partition("=") for item in options.split())
    arguments = {key: literal(value) for key, _, value in pairs}
    with explained(id):
        for package in (family, f"pettingzoo.{family}"):
            try:
                module = import_module(f"{package}.{name}")
            except ModuleNotFoundError as error:
                if not f"{package}.{name}".startswith(str(error.name)):
                    raise
                continue
            if not hasattr(module, "parallel_env"):
                break
            try:
                return module.parallel_env(**arguments)
            except TypeError as error:
                raise InvalidParameter(f"game {id!r}: {error}") from None
    raise UserError(
        f"PettingZoo has no parallel game {id!r} here: try mpe2/simple_spread_v3, or install the package of its family"
    )


def refuse_unlike(id: str, game: Any, method: str, what: str) -> None:
    """Refuse spaces (of `method`) that a team with one policy cannot play in."""
    found = [getattr(game, method)(player) for player in game.possible_agents]
    first = found[0]
    if any(type(s) is not type(first) or s.shape != first.shape for s in found) or (
        isinstance(first, Discrete) and any(s.n != first.n for s in found)
    ):
        raise UserError(f"the players of {id!r} have unequal {what}: a team shares one policy, so they must not")
    vector = isinstance(first, Box) and len(first.shape) == 1
    if not (vector or (method == "action_space" and isinstance(first, Discrete) and first.start == 0)):
        raise UserError(
            f"game {id!r} has {what} of type {type(first).__name__}; supported are vectors (Box with one "
            "dimension), and Discrete actions"
        )
