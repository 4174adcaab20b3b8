"""What an agent does with the messages it received."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from byzbench.contracts.component import Component, State
from byzbench.geometry.cloud import BLOCK, Cloud, array, blocks, small, tensor

if TYPE_CHECKING:
    from byzbench.federation.federation import Federation

Judge: TypeAlias = Callable[[Tensor, Tensor, int], Tensor]
"""(policies [..., n, d], which [..., n] bool, episodes) -> float64 [..., n]: each policy's mean return over so many of
the receiver's own episodes, the same ones for all of them; NaN where it was not tried. All are charged to it."""


@dataclass(frozen=True)
class Aggregator(Component):
    """Turns the n vectors of an inbox into one, although up to f of them may be arbitrary.

    A composite may give these as properties, so ask the instance.

    Class attributes:
        requires: the condition of `guarantee`, in words, for messages.
        cost: how its time grows, as in "n^2 d": n vectors of d coordinates.
        linear: the output is a linear combination of the inputs, and the weights are returned.
        stateful: returns a state that must be handed back at the next call.
        random: draws from `rng`.
        self_centred: reads `own`, so that two receivers of the same messages may differ.
        scale_equivariant: inputs s times as long give an output s times as long, s > 0.
        asks: further keywords that it cannot do without: `honest`, which no agent can know, for rules that stand for
            the best that could be done; `judge`, for rules that try policies out.
    """

    kind: ClassVar[str] = "aggregator"
    requires: ClassVar[str] = "n >= 1"
    cost: ClassVar[str] = ""
    linear: ClassVar[bool] = False
    stateful: ClassVar[bool] = False
    random: ClassVar[bool] = False
    self_centred: ClassVar[bool] = False
    scale_equivariant: ClassVar[bool] = True
    asks: ClassVar[frozenset[str]] = frozenset()

    def defined(self, n: int, f: int) -> bool:
        """Whether the formula makes sense for n vectors of which f may be faulty. Vectorised over integer tensors."""
        return n >= 1

    def guarantee(self, n: int, f: int) -> bool:
        """Whether the source's robustness theorem covers (n, f); its words are in `requires`."""
        return self.defined(n, f)

    def kappa(self, n: int, f: int) -> float | None:
        """The least kappa for which the rule is known to be (f, kappa)-robust, or None if none is known.

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
        judge: Judge | None = None,
    ) -> tuple[Tensor, Tensor | None, State]:
        """Aggregate.

        Args:
            x: [..., n, d], finite.
            f: [...] or an integer: how many of the valid vectors may be faulty, by the receiver's own bound.
            mask: [..., n] bool, False where there is no vector. Each row has at least one.
            own: [...] the receiver's own column.
            weights: [..., n] mixing weights of the graph.
            age: [..., n] rounds since the vector was sent.
            state: what the last call returned.
            rng: the stream of a random rule.
            honest: [..., n] bool, who does not lie; only for a rule that `asks` for it.
            judge: tries policies out at the receivers; only for a rule that `asks` for it.

        Returns:
            value [..., d] in the dtype of x; weights [..., n] with value = weights @ x, or None; the new state.
        """


def bounds(f: Tensor | int, x: Tensor) -> Tensor:
    """The bound of each set x [..., n, d]: int64 [...]."""
    if isinstance(f, Tensor) and f.shape == x.shape[:-2] and x.is_cpu:
        return f
    return torch.as_tensor(f, device=x.device).expand(x.shape[:-2])


def weighted_sum(weights: Tensor, x: Tensor) -> Tensor:
    """sum_i weights_i x_i for weights float64 [..., n] and x [..., n, d]: [..., d] in the dtype of x."""
    if small(x):
        rows = array(x)
        value = array(weights)[..., None, :] @ rows.astype(np.float64)
        return tensor(value[..., 0, :].astype(rows.dtype), x)
    if weights.ndim == 1 and x.shape[-1] > BLOCK:
        x, weights = x[weights != 0], weights[weights != 0]
    parts = [(weights.unsqueeze(-2) @ part.double()).squeeze(-2).to(x.dtype) for part in blocks(x)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


@dataclass(frozen=True)
class LinearRule(Aggregator):
    """An aggregator whose output is a linear combination of its inputs, found from their mutual distances alone.

    The caller computes one Gram matrix for a whole set of messages, and each receiver's weights from its part of it:
    the cost that depends on d is paid once, not once a receiver.
    """

    linear: ClassVar[bool] = True

    @abstractmethod
    def weigh(self, cloud: Cloud, f: Tensor, **given: Any) -> tuple[Tensor, State]:
        """The weight of each input: float64 [..., n], zero where `cloud.mask` is False; and the new state.

        Args:
            cloud: the inputs.
            f: [...] int.
            given: the other keywords of `Aggregator.__call__`.
        """

    def __call__(
        self, x: Tensor, f: Tensor | int = 0, *, mask: Tensor | None = None, **given: Any
    ) -> tuple[Tensor, Tensor | None, State]:
        """See `Aggregator.__call__`."""
        combination, new = self.weigh(Cloud.of(x, mask), bounds(f, x), **given)
        return weighted_sum(combination, x), combination, new


@dataclass(frozen=True)
class Agreement(Component):
    """A sub-protocol of several exchanges after which honest agents hold nearly the same vector.

    Class attributes:
        requires: the condition of `guarantee`, in words, for messages.
        measure: what shrinks by `contraction`: the honest agents' diameter, or the longest edge of their bounding box.
    """

    kind: ClassVar[str] = "agreement"
    requires: ClassVar[str] = "n >= 1"
    measure: ClassVar[Literal["diameter", "box"]] = "diameter"

    def defined(self, n: int, f: int) -> bool:
        """Whether one exchange makes sense for an inbox of n with f faulty."""
        return n >= 1

    def guarantee(self, n: int, f: int) -> bool:
        """Whether every exchange contracts the honest diameter, whatever the liars say."""
        return self.defined(n, f)

    def contraction(self, n: int, f: int) -> float | None:
        """To what share of itself one exchange of n agents that all hear each other brings the honest `measure`.

        Whatever f liars say; None where no bound is known. A share of one or more promises nothing.
        """
        return None

    @abstractmethod
    async def __call__(self, fed: Federation, theta: Tensor, state: State) -> tuple[Tensor, Report, State]:
        """Agree on theta [K, d]: the new [K, d], what each agent saw, and the state, a row for each agent."""


@dataclass(frozen=True)
class Report:
    """What each agent saw of one agreement.

    Attributes:
        exchanges: [K] how many exchanges each agent took part in before it was content, or the cap.
        before: [K] width of the agent's first inbox: the diameter of its narrowest n - f messages.
        after: [K] the same of its last.
    """

    exchanges: Tensor
    before: Tensor
    after: Tensor
