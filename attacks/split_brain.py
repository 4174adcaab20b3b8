"""Split brain: opposite vectors for the two halves of the honest agents."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from byzbench.attacks.alie import Alie
from byzbench.core import Attack, AttackContext, ByzantineMessages, Setting, State, ThreatModel
from byzbench.core.messages import validate_messages
from byzbench.core.threat_model import Knowledge
from byzbench.core.wrapped_attack import WrappedAttack
from byzbench.errors import Undefined


@dataclass(frozen=True)
class SplitBrain(WrappedAttack):
    """Wrapper that sends the inner attack's vector to one half of the honest agents and its reflection to the others.

        m = v to the first half, 2 c - v to the second

    For example `split_brain(alie(z=1.5))`. v is the inner attack's vector, c the mean of the honest agents' vectors, or
    of the Byzantine agents' own vectors (`about`). Honest agents are divided in the order of their numbers; Byzantine
    agents and a server receive v. The two halves are driven apart by vectors that are equally plausible to both.

    Source: ours; equivocation as El-Mhamdi et al. 2021, arXiv 2008.00742, allow it.

    Memory: the inner attack's.
    """

    source: ClassVar[str] = "this project"
    inner: Annotated[Attack, Field(description="the attack that is reflected")] = field(
        default_factory=lambda: Alie(z=1.5)
    )
    about: Annotated[
        Literal["honest", "colluders"], Field(description="agents about whose mean the vectors are reflected")
    ] = "honest"

    @property
    def threat(self) -> ThreatModel:
        """Return the inner threat model, with the vectors of the centre, the graph, and equivocation."""
        inner = self.inner.threat
        extra: frozenset[Knowledge] = frozenset({"honest" if self.about == "honest" else "byzantine", "graph"})
        return replace(inner, knowledge=inner.knowledge | extra, equivocates=True)

    def check(self, setting: Setting) -> None:
        """Reject an inner attack that crafts no messages; otherwise check the inner attack."""
        if "messages" not in self.inner.threat.surface:
            raise Undefined(f"split_brain reflects messages, and {type(self.inner).__name__} sends none of its own")
        super().check(setting)

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: the inner attack's vectors on every edge, reflected for the second half."""
        messages, memory = self.inner.craft_messages(context, memory, rng)
        sender, receiver = context.edges.T
        honest = context.honest if self.about == "honest" else context.byzantine
        centre = honest.double().mean(0)
        threat = self.inner.threat
        colluding = "byzantine" in threat.knowledge or self.about == "colluders"
        rows = context.num_byzantine if colluding else 1
        inner = validate_messages(messages, len(sender) if threat.equivocates else rows, len(centre))
        row = np.arange(len(receiver)) if threat.equivocates else sender
        vectors = inner.vectors.to(honest.dtype)
        if inner.malformed.any():
            vectors = vectors.masked_fill(inner.malformed.unsqueeze(1), torch.nan)
        is_mirrored = np.zeros(context.num_agents + 1, np.bool_)  # a server has the number K
        is_mirrored[context.honest_ids[(len(context.honest_ids) + 1) // 2 :].numpy()] = True
        both = torch.cat([vectors, (2 * centre - vectors).to(vectors)])
        selected = torch.from_numpy(row + is_mirrored[receiver] * len(vectors))
        return ByzantineMessages(both[selected], inner.silent[torch.from_numpy(row)]), memory
