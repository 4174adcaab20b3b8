"""V-BSA: liars who lean on a policy where it has no opinion yet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.contracts import Attack, Range, Speech, State, Threat
from byzbench.errors import Undefined
from byzbench.learning.policies import CategoricalMlp

if TYPE_CHECKING:
    from byzbench.federation.view import View

FORGETS = 0.1
"""The weight of the latest gradient in the running mean and variance."""


@dataclass(frozen=True)
class VBsa(Attack):
    """Each liar pushes its gradient towards one action in the states in which its policy is undecided.

        G = {s among the round's own states: H(pi(. | s)) > gate log A},    p = mean_{s in G} grad log pi(action | s)
        v = ||g|| unit(g + scale p),    m[j] = v[j] clipped to mu[j] -+ width sigma[j]

    g [d] the liar's honest gradient, m [d] what it sends in its place (g where G is empty), A actions; mu and sigma [d]
    the running mean and deviation of its honest gradients, with weight 0.1 for the latest. No longer than it should be
    and within what is usual in each coordinate, the lie turns states on a boundary to one side.

    Source: Zheng, Chen 2026, "V-BSA", against ensembles that vote, as summarised.

    Differs from the source in: there liars sit in groups, each of which trains a member of the ensemble, and aim at the
    action that has the number of their group; here all aim at `action`. The variance is that of the running mean.

    Cost: one gradient over the round's own states: less than 2 ms, some 4 % of a round on CartPole at K=13, f=3.

    Memory: `mean` and `variance` [f, d].
    """

    source: ClassVar[str] = "Zheng, Chen 2026"
    action: Annotated[int, Field(ge=0, description="the action that is pushed")] = 0
    gate: Annotated[
        float, Field(ge=0, lt=1, description="share of the largest entropy above which a state is undecided")
    ] = 0.9
    scale: Annotated[float, Field(gt=0, description="size of the push"), Range(0.1, 100, log=True)] = 1.0
    width: Annotated[float, Field(gt=0, description="of the usual, in deviations"), Range(0.1, 10, log=True)] = 0.85

    @property
    def threat(self) -> Threat:
        """Local, in effect: all liars are looked at together, so as to be remembered together, but each apart."""
        return Threat(sees=frozenset({"colluders", "policy", "experience"}))

    def start(self, view: View) -> State:
        """Refuse policies without an entropy over actions, and an action that there is not."""
        if not isinstance(view.task.policy(), CategoricalMlp):
            raise Undefined("v_bsa pushes one of several actions: it needs a task whose agents choose one each step")
        actions = view.task.action_count
        if self.action >= actions:
            raise Undefined(f"v_bsa: action={self.action} is no action of this task; give 0 to {actions - 1}")
        return {}

    def speaks(self, topic: str) -> bool:
        """About gradients, which is what a push is."""
        return topic == "gradient"

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """The pushed vectors, each within what its liar has been sending."""
        own = view.colluders.double()
        gap = own - memory.get("mean", own)
        mean = own - (1 - FORGETS) * gap
        variance = (1 - FORGETS) * (memory.get("variance", torch.zeros_like(own)) + FORGETS * gap.square())
        pushes = self._pushes(view)
        pushed = own + self.scale * pushes
        pushed *= own.norm(dim=1, keepdim=True) / pushed.norm(dim=1, keepdim=True).clamp(min=1e-150)
        reach = self.width * variance.sqrt()
        lies = torch.where(pushes.any(1, keepdim=True), pushed.clamp(mean - reach, mean + reach), own)
        return Speech(lies.to(view.colluders.dtype)), {"mean": mean, "variance": variance}

    def _pushes(self, view: View) -> Tensor:
        """The p above, float64 [f, d]; zero where nothing is undecided."""
        policy, pushes = view.policy, torch.zeros_like(view.colluders, dtype=torch.float64)
        played = [k for k, lived in enumerate(view.experience) if lived is not None]
        if view.theta is None or not played:
            return pushes
        assert isinstance(policy, CategoricalMlp)
        states = [lived.observations[lived.mask] for lived in view.experience if lived is not None]
        met = torch.nn.utils.rnn.pad_sequence(states, batch_first=True)
        real = torch.arange(met.shape[1]) < torch.tensor([[len(some)] for some in states])
        theta = view.theta[played].requires_grad_()
        scores = policy.logits(policy.layers(theta), met).log_softmax(-1)
        entropy = -(scores.detach().exp() * scores.detach()).sum(-1)
        undecided = (real & (entropy > self.gate * math.log(scores.shape[-1]))).to(scores)
        means = (scores[..., self.action] * undecided).sum(1) / undecided.sum(1).clamp(min=1)
        # Each liar's mean depends on its own parameters alone.
        pushes[played] = torch.autograd.grad(means.sum(), theta)[0].double()
        return pushes
