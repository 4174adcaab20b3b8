"""Base classes of the rules that process received messages: aggregators and agreements."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from byzbench.core.component import Component, State
from byzbench.core.learning import Communication
from byzbench.errors import Undefined
from byzbench.geometry.pairwise_distances import (
    BLOCK,
    PairwiseDistances,
    coordinate_blocks,
    is_small,
    to_array,
    to_tensor,
)

if TYPE_CHECKING:
    from byzbench.core.federation import Federation
    from byzbench.core.setting import Setting

PolicyEvaluator: TypeAlias = Callable[[Tensor, Tensor, int], Tensor]
"""(policies [..., n, d], which [..., n] bool, episodes) -> float64 [..., n]: the mean return of each policy over that
many episodes of the receiver's own environment, NaN where `which` is False. All policies are evaluated on the same
episodes, which count against the receiver's budget."""


Measure: TypeAlias = Literal["diameter", "box"]
"""A measure of the spread of vectors: their diameter, or the longest edge of their bounding box."""


@dataclass(frozen=True)
class Aggregator(Component):
    """A function from the n vectors of an inbox to one vector, up to f of which may be arbitrary.

    A composite rule may define the class attributes as properties, so read them from the instance.

    Class attributes:
        requires: the condition of `guarantee` as text, for messages.
        cost: the growth of the time, as in "n^2 d" for n vectors of d coordinates.
        linear: the output is a linear combination of the inputs, and the weights are returned.
        stateful: the rule returns a state that must be passed to the next call.
        random: the rule draws from `rng`.
        self_centered: the rule reads `own`, so that two receivers of the same messages may get different outputs.
        scale_equivariant: F(s x) = s F(x) for every s > 0.
        required_inputs: further keywords that the rule requires. `honest` is the honest agents' mask, which no agent
            can know; it is for rules that serve as an upper bound. `judge` evaluates policies.

    Example:
        >>> from byzbench.registry import make
        >>> median = make("aggregator", "median")
        >>> value, weights, state = median(torch.tensor([[0.0], [1.0], [100.0]]), f=1)
        >>> value
        tensor([1.])
        >>> median.guarantee(n=3, f=1), median.guarantee(n=2, f=1)
        (True, False)
    """

    kind: ClassVar[str] = "aggregator"
    requires: ClassVar[str] = "n >= 1"
    cost: ClassVar[str] = ""
    linear: ClassVar[bool] = False
    stateful: ClassVar[bool] = False
    random: ClassVar[bool] = False
    self_centered: ClassVar[bool] = False
    scale_equivariant: ClassVar[bool] = True
    required_inputs: ClassVar[frozenset[str]] = frozenset()

    def check(self, setting: Setting) -> None:
        """Check that the rule has its inputs and is defined for its inboxes; see `Component.check`."""
        name, algorithm = setting.name(self.kind), setting.name("algorithm")
        if setting.communication == Communication.SERVER and self.self_centered:
            raise Undefined(
                f"aggregator {name!r} needs the receiver's own vector, and a server has none: {algorithm} needs a rule "
                "without it"
            )
        if "judge" in self.required_inputs:
            raise Undefined(
                f"aggregator {name!r} evaluates policies, and {algorithm} aggregates gradients: use --agreement "
                f"gossip+{name}"
            )
        _check_inboxes(self, setting)

    def notes(self, setting: Setting) -> list[str]:
        """Return a remark where the rule has no guarantee."""
        return _guarantee_notes(self, setting)

    def defined(self, n: int, f: int) -> bool:
        """Return whether the formula is defined for n vectors of which f may be faulty.

        It is vectorised over integer tensors.
        """
        return n >= 1

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether the robustness theorem of the source covers (n, f).

        `requires` states the condition as text.
        """
        return self.defined(n, f)

    def kappa(self, n: int, f: int) -> float | None:
        """Return the least kappa for which the rule is known to be (f, kappa)-robust; None if none is known.

        For every S of n - f inputs, ||value - mean(S)||^2 <= kappa times the mean of ||x_i - mean(S)||^2 over S
        (Allouah et al. 2023, arXiv 2302.01772, definition 2). No rule has less than f / (n - 2f).
        """
        return None

    @abstractmethod
    def __call__(
        self,
        x: Tensor,
        f: Tensor | int = 0,
        *,
        mask: Tensor | None = None,
        own: Tensor | None = None,
        weights: Tensor | None = None,
        age: Tensor | None = None,
        state: State | None = None,
        rng: np.random.Generator | None = None,
        honest: Tensor | None = None,
        judge: PolicyEvaluator | None = None,
    ) -> tuple[Tensor, Tensor | None, State]:
        """Aggregate the vectors of each inbox.

        Args:
            x: [..., n, d], finite.
            f: [...] or an integer: the number of valid vectors that may be faulty, by the receiver's own bound.
            mask: [..., n] bool, False where there is no vector. Each row has at least one vector.
            own: [...] the column of the receiver's own vector.
            weights: [..., n] mixing weights of the graph.
            age: [..., n] the number of rounds since the vector was sent.
            state: the state that the last call returned.
            rng: the random stream of a random rule.
            honest: [..., n] bool, True for honest senders; only for a rule whose `asks` names it.
            judge: evaluates policies at the receivers; only for a rule whose `asks` names it.

        Returns:
            value [..., d] in the dtype of x; weights [..., n] with value = weights @ x, or None; the new state.
        """


def bounds(f: Tensor | int, x: Tensor) -> Tensor:
    """Return the bound of each set x [..., n, d] as int64 [...].

    Args:
        f: [...] or an integer.
        x: the sets.

    Example:
        >>> bounds(2, torch.zeros(3, 5, 4))
        tensor([2, 2, 2])
    """
    if isinstance(f, Tensor) and f.shape == x.shape[:-2] and x.is_cpu:
        return f
    return torch.as_tensor(f, device=x.device).expand(x.shape[:-2])


def weighted_sum(weights: Tensor, x: Tensor) -> Tensor:
    """Return sum_i weights_i x_i for each set, [..., d] in the dtype of x.

    The sum is computed in float64.

    Args:
        weights: float64 [..., n].
        x: [..., n, d].

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]])
        >>> weighted_sum(torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64), x)
        tensor([1.0000, 1.5000])
    """
    if is_small(x):
        rows = to_array(x)
        value = to_array(weights)[..., None, :] @ rows.astype(np.float64)
        return to_tensor(value[..., 0, :].astype(rows.dtype), x)
    if weights.ndim == 1 and x.shape[-1] > BLOCK:
        x, weights = x[weights != 0], weights[weights != 0]
    parts = [(weights.unsqueeze(-2) @ part.double()).squeeze(-2).to(x.dtype) for part in coordinate_blocks(x)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


@dataclass(frozen=True)
class LinearRule(Aggregator):
    """An aggregator whose output is a linear combination of its inputs, with weights from their pairwise distances.

    The caller computes one Gram matrix for a whole set of messages, and the weights of each receiver from its part of
    the matrix. The cost that depends on d is paid once, not once for each receiver.
    """

    linear: ClassVar[bool] = True

    @abstractmethod
    def compute_weights(self, cloud: PairwiseDistances, f: Tensor, **given: Any) -> tuple[Tensor, State]:
        """Return the weight of each input, float64 [..., n], zero where `cloud.mask` is False; and the new state.

        Args:
            cloud: the inputs.
            f: [...] int.
            given: the other keywords of `Aggregator.__call__`.
        """

    def __call__(
        self, x: Tensor, f: Tensor | int = 0, *, mask: Tensor | None = None, **given: Any
    ) -> tuple[Tensor, Tensor | None, State]:
        """Aggregate the vectors of each inbox; see `Aggregator.__call__`."""
        weights, new_state = self.compute_weights(PairwiseDistances.of(x, mask), bounds(f, x), **given)
        return weighted_sum(weights, x), weights, new_state


@dataclass(frozen=True)
class Agreement(Component):
    """A sub-protocol of several exchanges after which honest agents hold nearly the same vector.

    Class attributes:
        requires: the condition of `guarantee` as text, for messages.
        measure: the quantity that `contraction` bounds: the honest agents' diameter, or the longest edge of their
            bounding box.
    """

    kind: ClassVar[str] = "agreement"
    requires: ClassVar[str] = "n >= 1"
    measure: ClassVar[Measure] = "diameter"

    def check(self, setting: Setting) -> None:
        """Check that an exchange is defined for the inboxes; see `Component.check`."""
        _check_inboxes(self, setting)

    def notes(self, setting: Setting) -> list[str]:
        """Return a remark where the agreement has no guarantee."""
        return _guarantee_notes(self, setting)

    def defined(self, n: int, f: int) -> bool:
        """Return whether one exchange is defined for an inbox of n messages, f of them faulty."""
        return n >= 1

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether every exchange contracts the honest diameter, whatever the Byzantine agents send."""
        return self.defined(n, f)

    def contraction(self, n: int, f: int) -> float | None:
        """Return the contraction factor of one exchange on a complete graph of n agents; None if no bound is known.

        The factor bounds the honest `measure` after the exchange, relative to the one before it, whatever f Byzantine
        agents send. A factor of one or more guarantees nothing.
        """
        return None

    @abstractmethod
    async def __call__(self, fed: Federation, theta: Tensor, state: State) -> tuple[Tensor, AgreementReport, State]:
        """Run the agreement on theta [K, d].

        Args:
            fed: the federation, by which agents exchange messages.
            theta: [K, d], a row for each agent.
            state: the state that the last call returned, a row for each agent.

        Returns:
            The new vectors [K, d], a report on what each agent observed, and the new state.
        """


def _check_inboxes(rule: Aggregator | Agreement, setting: Setting) -> None:
    for n, f in setting.inboxes.get(rule.kind, ()):
        if not rule.defined(n, f):
            raise Undefined(
                f"{rule.kind} {setting.name(rule.kind)!r} is not defined for an inbox of n={n} vectors of which f={f} "
                f"may be faulty; it needs {rule.requires}"
            )


def _guarantee_notes(rule: Aggregator | Agreement, setting: Setting) -> list[str]:
    """Return a remark on the first inbox for which the rule has no guarantee, if there is one."""
    for n, f in setting.inboxes.get(rule.kind, ()):
        if not rule.guarantee(n, f):
            name = setting.name(rule.kind)
            return [f"{rule.kind} {name!r} has no guarantee for n={n}, f={f}: it needs {rule.requires}"]
    return []


@dataclass(frozen=True)
class AgreementReport:
    """The observations of each agent in one agreement.

    Attributes:
        exchanges: [K] the number of exchanges in which each agent took part before it stopped; at most the limit.
        before: [K] the width of the agent's first inbox: the diameter of its minimum-diameter subset of n - f messages.
        after: [K] the width of its last inbox.
    """

    exchanges: Tensor
    before: Tensor
    after: Tensor
