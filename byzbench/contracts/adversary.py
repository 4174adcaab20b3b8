"""What an adversary may know and do, and the form of an attack."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from byzbench.contracts.component import Choice, Component, State
from byzbench.errors import BrokenPlugin

if TYPE_CHECKING:
    from byzbench.federation.view import View

Knowledge = Literal["own", "colluders", "honest", "policy", "experience", "graph", "coin", "history", "defence"]
Surface = Literal["environment", "messages"]
Topic = Literal["gradient", "parameters"]
On = Literal["gradient", "parameters", "both"]


@dataclass(frozen=True)
class Threat:
    """What an adversary may know and do.

    Attributes:
        sees: `own` (each liar its own honest vector), `colluders` (all liars' honest vectors at once), `honest` (the
            honest agents' vectors of this exchange), `policy` (the policies that the liars' agents play by),
            `experience` (the episodes that they have played in this round), `graph` (with everybody's seat and mixing
            weights), `coin` (the round's common draw), `history` (what the rule made of the last exchange), `defence`
            (a clone of the rule, to try lies on; it is given the words of all liars at once, so it takes `colluders`
            too).
        surface: the doors it uses.
        equivocates: may say different things to different neighbours.
        calls: how many lies it may try on the clone in one exchange.
    """

    sees: frozenset[Knowledge] = frozenset()
    surface: frozenset[Surface] = frozenset({"messages"})
    equivocates: bool = False
    calls: int = 0

    def __post_init__(self) -> None:
        if "defence" in self.sees and "colluders" not in self.sees:
            raise BrokenPlugin("a threat that sees `defence` must see `colluders`: a clone hears all liars at once")


@dataclass(frozen=True)
class Speech:
    """What the liars say in one exchange.

    Attributes:
        vectors: [f, d], the same to every neighbour; or [E, d] over `view.edges` where the threat equivocates. A
            sequence of f or E entries may hold anything at all, as real senders can; None is silence.
        silent: [f] or [E] bool, who says nothing.
    """

    vectors: Tensor | Sequence[Any]
    silent: Tensor | None = None


@dataclass(frozen=True)
class Taps:
    """What the liars do to their own environments during a rollout. Every tap is optional.

    The first two are called at every step. What they are handed is theirs: to change in place and return is quickest.

    Attributes:
        action: (t, actions [f, N, *a]) -> actions [f, N, *a], for the step t, of the policy's type.
        observation: (t, observations [f, N, o]) -> observations [f, N, o], float32, as the policy will see them.
        reward: (rewards [f, T, N]) -> rewards [f, T, N], for whole episodes; the true return is still what is reported.
        dynamics: by the name of a physical constant, one of the task's `dynamics`, what it is multiplied by: [f].
    """

    action: Callable[[int, np.ndarray], np.ndarray] | None = None
    observation: Callable[[int, np.ndarray], np.ndarray] | None = None
    reward: Callable[[Tensor], Tensor] | None = None
    dynamics: Mapping[str, np.ndarray] | None = None


@dataclass(frozen=True)
class Attack(Component):
    """An adversary: a declared threat, and a formula. Its agents otherwise run the honest protocol."""

    kind: ClassVar[str] = "attack"

    @property
    def threat(self) -> Threat:
        """What it needs to know and do; may depend on the parameters."""
        return Threat()

    def check(self, agents: int, byzantine: int) -> str | None:
        """Raise `Undefined` where the formula proves nothing for (K, f); else a line worth printing, or None."""
        return None

    def start(self, view: View) -> State:
        """The adversary's memory before the first round."""
        return {}

    def speaks(self, topic: str) -> bool:
        """Whether it lies about this topic; where it does not, its agents say what they computed."""
        return False

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """What the liars say.

        Called once for all f liars if the threat sees `colluders`: an attack that coordinates declares it. Else called
        once a liar, whose `own` is [1, d] and whose speech is [1, d], or one row for each of its own edges.
        """
        raise TypeError(f"{type(self).__name__} says that it speaks, but has no `speak`")

    async def answer(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """What the federation waits for: `speak`, unless somebody from outside sits in the liars' seat."""
        return self.speak(view, memory, rng)

    def tap(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Taps, State]:
        """What the liars do in their environments in the coming rollout of view.episodes each; once for all f liars."""
        return Taps(), memory


@dataclass(frozen=True)
class MessageAttack(Attack):
    """An attack that replaces messages of one topic or both."""

    on: Annotated[On, Field(description="which messages are lies"), Choice("gradient", "parameters", "both")] = field(
        default="gradient", kw_only=True
    )

    def speaks(self, topic: str) -> bool:
        """Whether `on` covers the topic; statistics of observations go the way of gradients."""
        return self.on in ("gradient" if topic == "statistics" else topic, "both")
