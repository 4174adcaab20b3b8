"""The federation as a game of PettingZoo, whose players are its liars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.spaces import Box
from pettingzoo import ParallelEnv
from torch import Tensor

from byzbench.contracts import MessageAttack, Speech, State, Threat
from byzbench.envs.session import Question, Session
from byzbench.errors import InvalidParameter, Undefined
from byzbench.experiments.experiment import Experiment
from byzbench.federation.view import View

Vector = npt.NDArray[np.float32]
_SEEDS = 2**31


@dataclass(frozen=True)
class _Puppets(MessageAttack):
    """Liars whose words come from outside: [f, d], and who is silent."""

    @property
    def threat(self) -> Threat:
        return Threat(sees=frozenset({"colluders"}))

    async def answer(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        vectors, silent = await Question(view.colluders)
        return Speech(vectors, silent), memory


class FederationEnv(ParallelEnv[str, Vector, Vector]):
    """Each liar is a player of its own: it sees what it has honestly computed, and its action is what it says.

        env = FederationEnv(algo="decbyzpg", agents=7, byzantine=2, trajectories=300)

    A step is an exchange that liars lie in: one a round, or two with `on="both"`. An episode is one training, truncated
    with its budget; `reset(seed=s)` is the experiment with the seed s, and without a seed a fresh one is drawn.

        observation  float32 [d], the player's own vector of this exchange
        action       float32 [d], what it tells everybody; anything that is no such vector exposes it, None is silence
        reward       the same for all: minus the honest agents' mean training return in the batch that follows, and
                     after the last step their evaluation return, as a share of the way from random play to solved,
                     in [-1, 1]

    For one mastermind with few numbers to choose, see `AttackerSeat`.
    """

    metadata = {"name": "byzbench_federation_v0", "render_modes": [], "is_parallelizable": True}  # noqa: RUF012

    def __init__(self, on: str = "gradient", render_mode: None = None, **options: Any) -> None:
        """The options of `Experiment.create` but the attack; its seed is not used.

        Raises:
            UserError: one line that says what is wrong with the request.
        """
        if "attack" in options:
            raise InvalidParameter("the players are the attack: give none")
        self._todo = Experiment.create(**options, attack=_Puppets(on=on))  # type: ignore[arg-type]
        if not self._todo.byzantine or not self._todo.rules:
            raise Undefined("nobody hears a liar in this experiment, so there are no players")
        if self._todo.task.normalize:
            raise Undefined("statistics of observations are no vectors of the players' length: leave out normalize")
        self.render_mode = render_mode
        self.possible_agents = [f"liar_{k}" for k in range(self._todo.byzantine)]
        self.agents: list[str] = []
        self._session: Session | None = None
        self._space = Box(-np.inf, np.inf, (self._todo.task.policy().dimension,), np.float32)
        self.observation_spaces = dict.fromkeys(self.possible_agents, self._space)
        self.action_spaces = dict.fromkeys(self.possible_agents, self._space)
        self._rng = np.random.default_rng(0)

    def observation_space(self, agent: str) -> Box:
        """The same for all."""
        return self._space

    def action_space(self, agent: str) -> Box:
        """The same for all."""
        return self._space

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Vector], dict[str, dict[str, Any]]]:
        """A training from its beginning to the first exchange; `options` are ignored."""
        self.close()
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        chosen = int(self._rng.integers(_SEEDS)) if seed is None else seed
        self._session = Session(replace(self._todo, seed=chosen))
        self.agents = list(self.possible_agents)
        asked = self._session.advance()
        if asked is None:
            raise Undefined("no liar spoke in the whole training")
        self._seen = self._rows(asked)
        return self._seen, {agent: {"seed": chosen} for agent in self.agents}

    def step(
        self, actions: Mapping[str, Any]
    ) -> tuple[dict[str, Vector], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """What the players say, and on to the next exchange. At the end the last observations are repeated."""
        if self._session is None:
            raise InvalidParameter("an episode starts with reset()")
        said = [actions.get(agent) for agent in self.possible_agents]
        silent = torch.tensor([word is None for word in said])
        asked = self._session.advance((said, silent))
        info, players = dict(self._session.line), self.agents
        if asked is None:
            info |= self._session.evaluate()
            reward = self._session.harm(info["evaluation"])
            self._session, self.agents = None, []
        else:
            self._seen = self._rows(asked)
            reward = self._session.harm(self._session.training.returned)
        over = dict.fromkeys(players, asked is None)
        never = dict.fromkeys(players, False)
        return self._seen, dict.fromkeys(players, reward), never, over, {agent: dict(info) for agent in players}

    def _rows(self, vectors: Tensor) -> dict[str, Vector]:
        return {agent: row.copy() for agent, row in zip(self.possible_agents, vectors.float().numpy(), strict=True)}

    def render(self) -> None:
        """Nothing is shown."""

    def close(self) -> None:
        """Leave the training where it is."""
        if self._session is not None:
            self._session.close()
            self._session = None
