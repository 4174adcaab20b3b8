"""Batches of PettingZoo's parallel games."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class Games:
    """K*N games. One that is over is not stepped: it shows its last observation and is paid nothing."""

    def __init__(self, games: Sequence[Any], count: int, horizon: int) -> None:
        self._games, self._count, self._horizon = games, count, horizon
        self._players = games[0].possible_agents
        size = games[0].observation_space(self._players[0]).shape[0]
        self._shown = np.zeros((len(games), len(self._players), size), np.float32)

    def _show(self, row: int, seen: Mapping[str, Any]) -> None:
        for seat, player in enumerate(self._players):
            self._shown[row, seat] = seen.get(player, 0.0)

    def reset(self, generators: Sequence[np.random.Generator]) -> np.ndarray:
        seeds = np.concatenate([rng.integers(1 << 31, size=self._count) for rng in generators])
        for row, (game, seed) in enumerate(zip(self._games, seeds.tolist(), strict=True)):
            self._show(row, game.reset(seed=seed)[0])
        self._running, self._t = list(range(len(self._games))), 0
        return self._shown.reshape(len(self._games), -1).copy()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        self._t += 1
        rewards, terminated = np.zeros(len(self._games), np.float32), np.zeros(len(self._games), bool)
        truncated = np.full(len(self._games), self._t >= self._horizon)
        for row in self._running:
            game = self._games[row]
            playing = set(game.agents)
            chosen = {p: a for p, a in zip(self._players, actions[row], strict=True) if p in playing}
            seen, paid, ended, cut, _ = game.step(chosen)
            self._show(row, seen)
            rewards[row] = sum(map(float, paid.values())) / len(self._players)
            over = not game.agents
            terminated[row] = over and not any(cut.values()) and any(ended.values())
            truncated[row] |= over and not terminated[row]
        self._running = [row for row in self._running if not (terminated[row] or truncated[row])]
        return self._shown.reshape(len(self._games), -1).copy(), rewards, terminated, truncated
