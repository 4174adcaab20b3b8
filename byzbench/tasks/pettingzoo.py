"""Games of PettingZoo: every member of the federation trains a team in a copy of its own, or all of them share one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from gymnasium.spaces import Space
from pydantic import Field

from byzbench.contracts import Task
from byzbench.errors import InvalidParameter, Undefined
from byzbench.learning.policies import Policy
from byzbench.learning.teams import Team
from byzbench.tasks._games import Teams, World, opened, refuse_unlike
from byzbench.tasks._references import references


@dataclass(frozen=True)
class PettingZoo(Task):
    """Any parallel game of PettingZoo whose players have the same spaces: `pettingzoo:mpe2/simple_spread_v3`.

    One agent of the federation is a whole team: its P players share its parameters, and each acts on what it sees
    itself. The team is paid the mean of its players' rewards, and its episode ends when its last player has left. A
    player that left early sees zeros, and what it does has no effect.

    In a shared world each agent is one player, and all K are in the same game: agent k of the federation is its k-th
    player and learns from what that one sees and is paid, and what liars do there happens to everybody. It is for games
    of exactly K players. In evaluations, liars are there too, and act by their own parameters.

    Attributes:
        id: family/name, as in `import mpe2.simple_spread_v3` or `pettingzoo.sisl.waterworld_v4`.
        options: arguments of the game, such as "N=5 local_ratio=0.5".
        world: whether each agent has a game of its own, or all of them share one.
        steps: the most steps of an episode, if the game does not say.
        gamma: the discount.
        random, solved: reference scores, where known.
    """

    id: Annotated[str, Field(pattern=r"^\w+/\w+$", description="family/name")]
    options: Annotated[
        str, Field(pattern=r"^(\w+=[^\s=]+( \w+=[^\s=]+)*)?$", description='arguments of the game: "N=5 other=1"')
    ] = field(default="", kw_only=True)
    world: Annotated[
        Literal["own", "shared"], Field(description="a game for each agent, or one in which all of them are players")
    ] = field(default="own", kw_only=True)
    steps: Annotated[int | None, Field(ge=1, le=1_000_000, description="most steps of an episode")] = field(
        default=None, kw_only=True
    )
    gamma: Annotated[float, Field(gt=0, le=1, description="discount")] = field(default=0.95, kw_only=True)
    random: Annotated[float | None, Field(description="a random policy's return")] = field(default=None, kw_only=True)
    solved: Annotated[float | None, Field(description="the return of a solved task")] = field(
        default=None, kw_only=True
    )

    source: ClassVar[str] = "Terry et al. 2021, arXiv 2009.14471 (PettingZoo)"
    suggested: ClassVar[Mapping[str, float]] = {"N": 32, "B": 8, "p": 0.2, "lr": 1e-3}

    def __post_init__(self) -> None:
        super().__post_init__()
        game = self._start()
        refuse_unlike(self.id, game, "observation_space", "observations")
        refuse_unlike(self.id, game, "action_space", "actions")
        limit = getattr(game.unwrapped, "max_cycles", None)
        if self.steps is None and type(limit) is not int:
            raise InvalidParameter(f"game {self.id!r} has no fixed horizon: say steps=, the most of an episode")
        facts = (len(game.possible_agents), self.steps or limit, *self._spaces(game))
        object.__setattr__(self, "_facts", facts)
        game.close()

    def _start(self) -> Any:
        """A game, as a `ParallelEnv`."""
        return opened(self.id, self.options)

    @staticmethod
    def _spaces(game: Any) -> tuple[Space[Any], Space[Any]]:
        first = game.possible_agents[0]
        return game.observation_space(first), game.action_space(first)

    @property
    def shared(self) -> bool:  # type: ignore[override]
        """As `world` says."""
        return self.world == "shared"

    @property
    def seats(self) -> int:
        """P."""
        return int(self._facts[0])  # type: ignore[attr-defined]

    @property
    def players(self) -> int:  # type: ignore[override]
        """P of a team; one, where the others are other agents."""
        return 1 if self.shared else self.seats

    def check(self, agents: int) -> None:
        """See `Task`."""
        super().check(agents)
        if self.shared and self.absent:
            raise Undefined(f"game {self.id!r} has no seat that could stay empty: nobody is absent from a shared world")
        if self.shared and agents != self.seats:
            raise Undefined(
                f"game {self.id!r} has {self.seats} players here, and {agents} agents would share it: they must be as "
                f"many; say agents={self.seats}, or env.options if the game can have more"
            )

    @property
    def horizon(self) -> int:  # type: ignore[override]
        """The game's, unless told otherwise."""
        return int(self._facts[1])  # type: ignore[attr-defined]

    @property
    def observation_size(self) -> int:  # type: ignore[override]
        """All players' of an agent in a row."""
        return self.players * int(self._facts[2].shape[0])  # type: ignore[attr-defined]

    @property
    def action_space(self) -> Space[Any]:  # type: ignore[override]
        """One player's."""
        return self._facts[3]  # type: ignore[attr-defined]

    @property
    def discount(self) -> float:  # type: ignore[override]
        """As given."""
        return self.gamma

    @cached_property
    def reference(self) -> Mapping[str, float]:  # type: ignore[override]
        """What is given, else what is known of the game as it comes."""
        known = references().get(f"pettingzoo:{self.id}", {}) if not self.options else {}
        given = {"random": self.random, "solved": self.solved}
        found = {name: known.get(name) if score is None else score for name, score in given.items()}
        return {name: score for name, score in found.items() if score is not None}

    def policy(self, squashed: bool = False) -> Policy:
        """A team of the policies that one player would have; or that policy."""
        own = self.family(self.observation_size // self.players, squashed)
        return own if self.shared else Team(own, self.players)

    def make(self, agents: int, count: int) -> Teams | World:
        """`count` games for each agent, or for all of them together."""
        self.check(agents)
        if self.shared:
            return World([self._start() for _ in range(count)], self.horizon)
        return Teams([self._start() for _ in range(agents * count)], count, self.horizon)
