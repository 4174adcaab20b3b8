"""The interface of attacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from byzbench.core.component import Categorical, Component, State
from byzbench.core.threat_model import On, ThreatModel
from byzbench.core.timing import Timing
from byzbench.errors import Undefined

if TYPE_CHECKING:
    from byzbench.core.context import AttackContext
    from byzbench.core.setting import Setting


@dataclass(frozen=True)
class ByzantineMessages:
    """The messages that the Byzantine agents send in one exchange.

    Attributes:
        vectors: [f, d], a row for each Byzantine agent, sent to all its neighbours; or [E, d], a row for each edge of
            `context.edges`, where the threat model equivocates. A sequence of f or E entries may hold values of any
            type, since a real sender can send anything; None means that no message is sent.
        silent: [f] or [E] bool, True where no message is sent.
    """

    vectors: Tensor | Sequence[Any]
    silent: Tensor | None = None


@dataclass(frozen=True)
class EnvHooks:
    """Hooks into the Byzantine agents' own environments during a rollout; each is optional.

    `action` and `observation` are called at every step. A hook owns its arguments: to change an array in place and
    return it is fastest.

    Attributes:
        action: (t, actions [f, N, *a]) -> actions [f, N, *a], of step t, in the policy's dtype.
        observation: (t, observations [f, N, o]) -> observations [f, N, o], float32, as the policy receives them.
        reward: (rewards [f, T, N]) -> rewards [f, T, N], of whole episodes. The returns in reports are those of the
            true rewards.
        dynamics: by the name of a physical constant, one of the task's `dynamics`, the factors [f] by which it is
            multiplied.
    """

    action: Callable[[int, np.ndarray], np.ndarray] | None = None
    observation: Callable[[int, np.ndarray], np.ndarray] | None = None
    reward: Callable[[Tensor], Tensor] | None = None
    dynamics: Mapping[str, np.ndarray] | None = None


@dataclass(frozen=True)
class Attack(Component):
    """An adversary: a threat model and a rule that crafts messages or changes environments.

    Apart from that, its agents follow the honest protocol.
    """

    kind: ClassVar[str] = "attack"

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model; it may depend on the parameters."""
        return ThreatModel()

    @property
    def timing(self) -> Timing:
        """Return when messages arrive; other times than those of the schedule need the surface `network`."""
        return Timing()

    def check(self, setting: Setting) -> None:
        """Check that every rule of which the attack needs a clone can be cloned; see `Component.check`.

        It is not called for an experiment without Byzantine agents.
        """
        if "rule" in self.threat.knowledge:
            for topic, reason in setting.uncloneable.items():
                if self.targets(topic):
                    raise Undefined(
                        f"attack {setting.name('attack')!r} needs a clone of the rule that it attacks: {reason}"
                    )

    def start(self, context: AttackContext) -> State:
        """Return the adversary's state before the first round."""
        return {}

    def targets(self, topic: str) -> bool:
        """Return whether the attack crafts the messages of a topic.

        If it does not, its agents send their honest vectors.
        """
        return False

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages of one exchange.

        If the threat model sees `byzantine`, the call covers all f Byzantine agents, so an attack that coordinates must
        declare it. Otherwise there is one call for each Byzantine agent: `context.own` is [1, d], and `vectors` has one
        row, or one row for each of that agent's edges.

        Args:
            context: the declared knowledge about this exchange.
            memory: the state that the last call returned.
            rng: the random stream of this exchange.

        Returns:
            The messages, and the new state.
        """
        raise TypeError(f"{type(self).__name__} acts on messages (`targets`) but does not define `craft_messages`")

    async def craft_messages_async(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Return the messages of one exchange, when they are available.

        The federation awaits this method. It calls `craft_messages`, unless an external learner controls the Byzantine
        agents.
        """
        return self.craft_messages(context, memory, rng)

    def hook_environment(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[EnvHooks, State]:
        """Return the environment hooks for the coming rollout, for all f Byzantine agents at once.

        Args:
            context: the declared knowledge about this rollout, of `context.num_episodes` episodes for each agent.
            memory: the state that the last call returned.
            rng: the random stream of this rollout.

        Returns:
            The hooks, and the new state.
        """
        return EnvHooks(), memory


@dataclass(frozen=True)
class MessageAttack(Attack):
    """An attack that replaces the messages of one topic or both.

    Example:
        >>> import torch
        >>> from byzbench.core.context import AttackContext
        >>> @dataclass(frozen=True)
        ... class Scaled(MessageAttack):
        ...     factor: float = 2.0
        ...
        ...     @property
        ...     def threat(self) -> ThreatModel:
        ...         return ThreatModel(knowledge=frozenset({"own"}))
        ...
        ...     def craft_messages(self, context, memory, rng):
        ...         return ByzantineMessages(self.factor * context.own), memory
        >>> attack = Scaled(factor=3.0)
        >>> context = AttackContext(attack.threat, {"topic": "gradient"}, {"own": torch.tensor([[1.0, -1.0]])})
        >>> messages, _ = attack.craft_messages(context, {}, np.random.default_rng(0))
        >>> messages.vectors
        tensor([[ 3., -3.]])
    """

    on: Annotated[
        On, Field(description="topics whose messages are crafted"), Categorical("gradient", "parameters", "both")
    ] = field(default="gradient", kw_only=True)

    def targets(self, topic: str) -> bool:
        """Return whether `on` covers the topic.

        Statistics of observations count as gradients.
        """
        return self.on in ("gradient" if topic == "statistics" else topic, "both")
