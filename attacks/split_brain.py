"""Split brain: liars who tell one half of the honest agents a lie, and the other half its mirror image."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.attacks.alie import Alie
from byzbench.contracts import Attack, Speech, State, Taps, Threat
from byzbench.contracts.adversary import Knowledge
from byzbench.errors import Undefined

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class SplitBrain(Attack):
    """The inner attack for one half of the honest agents, and its reflection for the rest: `split_brain(alie(z=1.5))`.

        m = v to the first half, 2 c - v to the second,    c = the mean of the honest, or of the liars' clean vectors

    v is what the inner attack says. Honest agents are halved in the order of their numbers; fellow liars, and a server,
    hear v. The two halves are pulled apart by lies that look equally likely from either side.

    Source: ours; equivocation as El-Mhamdi et al. 2021, arXiv 2008.00742, allow it.

    Memory: the inner attack's.
    """

    source: ClassVar[str] = "this project"
    inner: Annotated[Attack, Field(description="the attack that is reflected")] = field(
        default_factory=lambda: Alie(z=1.5)
    )
    about: Annotated[Literal["honest", "colluders"], Field(description="whose mean it is reflected about")] = "honest"

    @property
    def threat(self) -> Threat:
        """The inner attack's, with the centre, the graph, and different words to different neighbours."""
        inner = self.inner.threat
        more: frozenset[Knowledge] = frozenset({self.about, "graph"})
        return replace(inner, sees=inner.sees | more, equivocates=True)

    def check(self, agents: int, byzantine: int) -> str | None:
        """Refuse an inner attack that says nothing; else the inner attack's."""
        if "messages" not in self.inner.threat.surface:
            raise Undefined(f"split_brain reflects messages, and {type(self.inner).__name__} sends none of its own")
        return self.inner.check(agents, byzantine)

    def speaks(self, topic: str) -> bool:
        """Where the inner attack does."""
        return self.inner.speaks(topic)

    def start(self, view: View) -> State:
        """The inner attack's memory."""
        return self.inner.start(view)

    def tap(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Taps, State]:
        """The inner attack's taps."""
        return self.inner.tap(view, memory, rng)

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """The inner attack's words on every edge, half of them reflected."""
        said, memory = self.inner.speak(view, memory, rng)
        speaker, receiver = torch.as_tensor(view.edges).T
        row = torch.arange(len(receiver)) if self.inner.threat.equivocates else speaker
        silent = None if said.silent is None else said.silent[row]
        if not isinstance(said.vectors, Tensor):
            return Speech([said.vectors[k] for k in row], silent), memory  # no vectors, and nothing to reflect
        centre = (view.honest if self.about == "honest" else view.colluders).double().mean(0)
        words = said.vectors[row]
        mirrored = torch.isin(receiver, view.peers[(len(view.peers) + 1) // 2 :]).unsqueeze(1)
        return Speech(torch.where(mirrored, (2 * centre - words).to(words), words), silent), memory
