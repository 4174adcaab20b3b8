"""Games of PettingZoo: every agent trains a team in its own copy of a game, or all agents share one game."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Annotated, Any, ClassVar, Literal

from gymnasium.spaces import Space
from pydantic import Field

from byzbench.core import Setting, Task, literal
from byzbench.core.environment_spec import translate_environment_errors
from byzbench.errors import Undefined
from byzbench.rl.parallel_games import SharedGames, TeamGames, require_equal_spaces
from byzbench.rl.rollouts import EnvironmentBatch
from byzbench.rl.simple_spread import SIMPLE_SPREAD_OPTIONS, simple_spread
from byzbench.rl.simulations import Simulated, Simulation
from byzbench.tasks._references import task_references


@dataclass(frozen=True)
class PettingZoo(Task):
    """Any parallel game of PettingZoo whose players have the same spaces: `pettingzoo:mpe2/simple_spread_v3`.

    By default an agent of the federation is a whole team: its P players share its parameters, and each acts on its own
    observation. The reward of the team is the mean over its players, and its episode ends when its last player has
    left. A player that left earlier observes zeros, and its actions have no effect.

    In a shared game (`world=shared`) all K agents are players of the same game, which must have exactly K players.
    Agent k is the k-th player, and learns from this player's observations and rewards. The actions of Byzantine agents
    affect all agents there. In evaluations Byzantine agents are players too, and act by their own parameters.

    Attributes:
        id: The game as family/name, as in `import mpe2.simple_spread_v3` or `pettingzoo.sisl.waterworld_v4`.
        options: The arguments of the game, such as "N=5 local_ratio=0.5".
        world: `own` for a game of each agent, `shared` for one game of all agents.
        steps: The maximal number of steps of an episode, if the game has no limit.
        gamma: The discount.
        random: The mean return of a random policy, where known.
        solved: The return of a solved task, where known.
    """

    id: Annotated[str, Field(pattern=r"^\w+/\w+$", description="game as family/name")]
    options: Annotated[
        str, Field(pattern=r"^(\w+=[^\s=]+( \w+=[^\s=]+)*)?$", description='arguments of the game: "N=5 other=1"')
    ] = field(default="", kw_only=True)
    world: Annotated[
        Literal["own", "shared"], Field(description="own: one game for each agent; shared: one game of all agents")
    ] = field(default="own", kw_only=True)
    steps: Annotated[int | None, Field(ge=1, le=1_000_000, description="maximal number of steps of an episode")] = (
        field(default=None, kw_only=True)
    )
    gamma: Annotated[float, Field(gt=0, le=1, description="discount")] = field(default=0.95, kw_only=True)
    random: Annotated[float | None, Field(description="mean return of a random policy")] = field(
        default=None, kw_only=True
    )
    solved: Annotated[float | None, Field(description="return of a solved task")] = field(default=None, kw_only=True)

    source: ClassVar[str] = "Terry et al. 2021, arXiv 2009.14471 (PettingZoo)"
    suggested: ClassVar[Mapping[str, float]] = {"N": 32, "B": 8, "p": 0.2, "lr": 1e-3}

    def __post_init__(self) -> None:
        super().__post_init__()
        game = self._start()
        with translate_environment_errors(self.id):
            require_equal_spaces(self.id, game, "observation_space", "observations")
            require_equal_spaces(self.id, game, "action_space", "actions")
            limit = getattr(game.unwrapped, "max_cycles", None)
            if self.steps is None and type(limit) is not int:
                raise Undefined(f"game {self.id!r} has no fixed horizon: set steps=, the maximum of an episode")
            facts = (len(game.possible_agents), self.steps or limit, *self._spaces(game), self._simulation(game))
            object.__setattr__(self, "_facts", facts)
            game.close()

    def _start(self) -> Any:
        """Make the game, a `ParallelEnv`."""
        return _open_game(self.id, self.options)

    @staticmethod
    def _spaces(game: Any) -> tuple[Space[Any], Space[Any]]:
        first = game.possible_agents[0]
        return game.observation_space(first), game.action_space(first)

    def _simulation(self, game: Any) -> Simulation | None:
        """Return the compiled version of a team's game, if there is one of the game with its options."""
        options = {item.partition("=")[0] for item in self.options.split()}
        if self.shared or self.id != "mpe2/simple_spread_v3" or not options <= SIMPLE_SPREAD_OPTIONS:
            return None
        raw = game.unwrapped
        if self.steps and self.steps > raw.max_cycles:  # the game ends before the horizon
            return None
        return simple_spread(len(game.possible_agents), float(raw.local_ratio), bool(raw.continuous_actions))

    @property
    def shared(self) -> bool:  # type: ignore[override]
        """Return whether all agents share one game (`world=shared`)."""
        return self.world == "shared"

    @property
    def seats(self) -> int:
        """Return P, the number of players of the game."""
        return int(self._facts[0])  # type: ignore[attr-defined]

    @property
    def players(self) -> int:  # type: ignore[override]
        """Return the number of players of one agent: P of a team, and 1 in a shared game."""
        return 1 if self.shared else self.seats

    def check(self, setting: Setting) -> None:
        """Check that the agents of a shared game are as many as its players, never absent, and start together."""
        super().check(setting)
        agents = setting.num_agents
        if self.shared and setting.has_absences:
            raise Undefined(f"game {self.id!r} needs all its players: no agent can be absent from a shared game")
        if self.shared and setting.has_own_starts:
            raise Undefined(f"game {self.id!r} starts for all its players at once: no agent can have starts of its own")
        if self.shared and agents != self.seats:
            raise Undefined(
                f"game {self.id!r} has {self.seats} players here, and {agents} agents would share it: the numbers must "
                f"be equal; set agents={self.seats}, or env.options if the game can have more"
            )

    @property
    def horizon(self) -> int:  # type: ignore[override]
        """Return `steps`, or else the game's horizon."""
        return int(self._facts[1])  # type: ignore[attr-defined]

    @property
    def observation_size(self) -> int:  # type: ignore[override]
        """Return the size of an agent's observation, concatenated over its players."""
        return self.players * int(self._facts[2].shape[0])  # type: ignore[attr-defined]

    @property
    def action_space(self) -> Space[Any]:  # type: ignore[override]
        """Return the action space of one player."""
        return self._facts[3]  # type: ignore[attr-defined]

    @property
    def discount(self) -> float:  # type: ignore[override]
        """Return `gamma`."""
        return self.gamma

    @cached_property
    def reference(self) -> Mapping[str, float]:  # type: ignore[override]
        """Return the scores of the parameters, or else the measured ones of the game with its default options."""
        measured = task_references().get(f"pettingzoo:{self.id}", {}) if not self.options else {}
        parameters = {"random": self.random, "solved": self.solved}
        scores = {name: measured.get(name) if score is None else score for name, score in parameters.items()}
        return {name: score for name, score in scores.items() if score is not None}

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Return the shape of a player's action in a shared game, and else that of a team."""
        shape = self.action_space.shape or ()
        return shape if self.shared else (self.players, *shape)

    def make(self, agents: int, count: int) -> EnvironmentBatch:
        """Make `count` games for each agent, or for all agents together in a shared game."""
        self.check(Setting(agents))
        if self.shared:
            return SharedGames([self._start() for _ in range(count)], self.horizon)
        if simulation := self._facts[4]:  # type: ignore[attr-defined]
            return Simulated(simulation, agents, count, self.horizon)
        return TeamGames([self._start() for _ in range(agents * count)], count, self.horizon)


def _open_game(id: str, options: str) -> Any:
    """Make a game of PettingZoo, as a `ParallelEnv`.

    Args:
        id: The game as family/name.
        options: The arguments of the game, such as "N=5 other=1".

    Raises:
        Undefined: The game is not installed, or it does not take these arguments.
    """
    family, _, name = id.partition("/")
    pairs = (item.partition("=") for item in options.split())
    arguments = {key: literal(value) for key, _, value in pairs}
    with translate_environment_errors(id):
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
                raise Undefined(f"game {id!r}: {error}") from None
    raise Undefined(
        f"PettingZoo has no parallel game {id!r} here: try mpe2/simple_spread_v3, or install the package of its family"
    )
