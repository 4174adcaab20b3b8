"""V-BSA: gradients biased towards one action in undecided states."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.core import Attack, AttackContext, ByzantineMessages, FloatRange, State, ThreatModel
from byzbench.errors import Undefined
from byzbench.rl.policies import CategoricalPolicy

FORGETS = 0.1
"""The weight of the latest gradient in the running mean and variance."""


@dataclass(frozen=True)
class VBsa(Attack):
    """Message attack that pushes each gradient towards one action in the states in which the policy is undecided.

        G = {s among the round's own states: H(pi(. | s)) > gate log A},    p = mean_{s in G} grad log pi(action | s)
        v = ||g|| unit(g + scale p),    m[j] = v[j] clipped to mu[j] -+ width sigma[j]

    g [d] the Byzantine agent's honest gradient, m [d] the message in its place (g where G is empty), A actions; mu and
    sigma [d] the running mean and deviation of its honest gradients, with weight 0.1 for the latest. The message is no
    longer than the honest gradient and within the usual range of each coordinate. It turns states on a decision
    boundary to one side.

    Source: Zheng, Chen 2026, "V-BSA", against ensembles that vote, as summarised.

    Differs from the source in: there the Byzantine agents are in groups, each of which trains a member of the ensemble,
    and push towards the action that has the number of their group; here all push towards `action`. The variance is that
    of the running mean.

    Cost: one gradient over the round's own states: less than 2 ms, some 4 % of a round on CartPole at K=13, f=3.

    Memory: `mean` and `variance` [f, d].
    """

    source: ClassVar[str] = "Zheng, Chen 2026"
    action: Annotated[int, Field(ge=0, description="index of the action whose probability is increased")] = 0
    gate: Annotated[
        float, Field(ge=0, lt=1, description="share of the largest entropy above which a state is undecided")
    ] = 0.9
    scale: Annotated[float, Field(gt=0, description="weight of the push"), FloatRange(0.1, 100, log=True)] = 1.0
    width: Annotated[
        float, Field(gt=0, description="half-width of the usual range, in deviations"), FloatRange(0.1, 10, log=True)
    ] = 0.85

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: own vectors, policies and episodes, of all Byzantine agents together.

        They are read together so that one state holds them all. Each message depends on its own agent alone.
        """
        return ThreatModel(knowledge=frozenset({"byzantine", "policy", "rollouts"}))

    def start(self, context: AttackContext) -> State:
        """Reject tasks without discrete actions, and an action that the task does not have."""
        if not isinstance(context.policy, CategoricalPolicy):
            raise Undefined("v_bsa needs a task with discrete actions, whose agents choose one each step")
        actions = context.task.action_count
        if self.action >= actions:
            raise Undefined(f"v_bsa: action={self.action} is no action of this task; give 0 to {actions - 1}")
        return {}

    def targets(self, topic: str) -> bool:
        """Return whether the topic is the gradient."""
        return topic == "gradient"

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: the pushed gradients, clipped to the usual range."""
        own = context.byzantine.double()
        deviation = own - memory.get("mean", own)
        mean = own - (1 - FORGETS) * deviation
        variance = (1 - FORGETS) * (memory.get("variance", torch.zeros_like(own)) + FORGETS * deviation.square())
        pushes = self._pushes(context)
        pushed = own + self.scale * pushes
        pushed *= own.norm(dim=1, keepdim=True) / pushed.norm(dim=1, keepdim=True).clamp(min=1e-150)
        radius = self.width * variance.sqrt()
        crafted = torch.where(pushes.any(1, keepdim=True), pushed.clamp(mean - radius, mean + radius), own)
        return ByzantineMessages(crafted.to(context.byzantine.dtype)), {"mean": mean, "variance": variance}

    def _pushes(self, context: AttackContext) -> Tensor:
        """Return the p of each agent, float64 [f, d]; zero where no state is undecided."""
        policy, pushes = context.policy, torch.zeros_like(context.byzantine, dtype=torch.float64)
        sampled = [k for k, episodes in enumerate(context.rollouts) if episodes is not None]
        if context.theta is None or not sampled:
            return pushes
        assert isinstance(policy, CategoricalPolicy)
        states = [episodes.observations[episodes.mask] for episodes in context.rollouts if episodes is not None]
        padded = torch.nn.utils.rnn.pad_sequence(states, batch_first=True)
        is_state = torch.arange(padded.shape[1]) < torch.tensor([[len(rows)] for rows in states])
        theta = context.theta[sampled].requires_grad_()
        scores = policy.logits(policy.layers(theta), padded).log_softmax(-1)
        entropy = -(scores.detach().exp() * scores.detach()).sum(-1)
        undecided = (is_state & (entropy > self.gate * math.log(scores.shape[-1]))).to(scores)
        means = (scores[..., self.action] * undecided).sum(1) / undecided.sum(1).clamp(min=1)
        # The mean of each agent depends on its own parameters alone.
        pushes[sampled] = torch.autograd.grad(means.sum(), theta)[0].double()
        return pushes
