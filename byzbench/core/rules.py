"""Base classes of aggregation rules, and what they take and return."""

from __future__ import annotations

import reprlib
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from byzbench.core.communication import Communication
from byzbench.core.component import Component, State
from byzbench.core.formulas import check_count, check_formulas, formula, is_integral
from byzbench.errors import InvalidParameter, Undefined
from byzbench.geometry.pairwise_distances import PairwiseDistances, weighted_sum

if TYPE_CHECKING:
    from byzbench.core.setting import Setting

PolicyEvaluator: TypeAlias = Callable[[Tensor, Tensor, int], Tensor]
"""(policies [..., n, d], which [..., n] bool, episodes) -> float64 [..., n]: the mean return of each policy over that
many episodes of the receiver's own environment, NaN where `which` is False. All policies are evaluated on the same
episodes, which count against the receiver's budget."""

RuleLog: TypeAlias = Callable[[str, Tensor], None]
"""(name, values [...]) -> None: record a metric of this round, with the value of each inbox."""

LARGEST = 1e60
"""The largest float64 that a user may pass to a rule: rules multiply up to four of them."""


@dataclass(frozen=True)
class RuleContext:
    """The inputs of a rule beside the vectors of an inbox and the bound f; all of them are optional.

    Attributes:
        mask: bool [..., n], False where there is no vector; None if there is one in every column. Each row has at least
            one vector.
        own: int64 [...], the column of the receiver's own vector; -1 at a server.
        weights: float64 [..., n], the mixing weights of the graph.
        age: int64 [..., n], the number of rounds since each vector was sent; None if all are of this round.
        state: the state that the last call returned; empty in the first call.
        rng: the generator of a random rule; without one, a rule draws the same numbers in every call.
        honest: bool [..., n], True for honest senders, which no agent can know; only for a rule whose `required_inputs`
            name it.
        evaluator: evaluates policies at the receivers; only for a rule whose `required_inputs` name it.
        batch_size: int64 [...], the number of episodes from which each vector of an inbox was computed; None if it is
            not known.
        deviation: float64 [...], the distance of two honest vectors (root mean square) as the receiver has measured it
            itself; None if it has not.
        log: records a metric of the rule, which is sent to nobody; None: metrics are not recorded.
        distances: the distances of the vectors, if the caller has computed them; rules read `distances_of`.

    Example:
        >>> from byzbench.registry import make
        >>> x = torch.tensor([[0.0], [1.0], [100.0]])
        >>> make("aggregator", "mean")(x, 0, RuleContext(mask=torch.tensor([True, True, False]))).value
        tensor([0.5000])
    """

    mask: Tensor | None = None
    own: Tensor | None = None
    weights: Tensor | None = None
    age: Tensor | None = None
    state: State = field(default_factory=dict)
    rng: np.random.Generator | None = None
    honest: Tensor | None = None
    evaluator: PolicyEvaluator | None = None
    batch_size: Tensor | None = None
    deviation: Tensor | None = None
    log: RuleLog | None = None
    distances: PairwiseDistances | None = None

    def mask_of(self, x: Tensor) -> Tensor:
        """Return `mask`, or True for every vector of x [..., n, d] if it is None: bool [..., n]."""
        return x.new_ones(x.shape[:-1], dtype=torch.bool) if self.mask is None else self.mask

    def distances_of(self, x: Tensor) -> PairwiseDistances:
        """Return `distances`, or those of the valid vectors of x [..., n, d] if it is None."""
        return PairwiseDistances.of(x, self.mask) if self.distances is None else self.distances

    def of_inner_rule(self, mask: Tensor) -> RuleContext:
        """Return the context of a rule that aggregates other vectors, of which those in `mask` are valid."""
        return replace(self, mask=mask, distances=None)


class RuleOutput(NamedTuple):
    """The result of a rule.

    Attributes:
        value: [..., d], the aggregated vectors, in the dtype of the inputs.
        weights: float64 [..., n] with value = weights @ x; None for a rule that is not linear.
        state: the state for the next call; empty for a rule that is not stateful.
    """

    value: Tensor
    weights: Tensor | None
    state: State


@dataclass(frozen=True)
class RuleTraits:
    """Properties of a rule that decide where it can be used, and what can be shared among receivers.

    Attributes:
        linear: the output is a linear combination of the inputs, and the weights are returned.
        stateful: the rule returns a state that must be passed to the next call.
        random: the rule draws from `RuleContext.rng`.
        self_centered: the rule reads `RuleContext.own`, so that two receivers of the same messages may get different
            outputs.
        scale_equivariant: F(s x) = s F(x) for every s > 0.
    """

    linear: bool = False
    stateful: bool = False
    random: bool = False
    self_centered: bool = False
    scale_equivariant: bool = True


@dataclass(frozen=True)
class Aggregator(Component):
    """A function from the n vectors of an inbox to one vector, up to f of which may be arbitrary.

    A rule implements `aggregate`; a user calls the rule itself, which checks its arguments first. A composite rule may
    define the class attributes as properties, so read them from the instance.

    Class attributes:
        requires: the condition of `guarantee` as text, for messages.
        cost: the growth of the time, as in "n^2 d" for n vectors of d coordinates.
        traits: the properties of the rule.
        required_inputs: the fields of `RuleContext` without which the rule is not defined: `honest`, for a rule that
            serves as an upper bound, or `evaluator`.

    Example:
        >>> from byzbench.registry import make
        >>> median = make("aggregator", "median")
        >>> value, weights, state = median([[0.0], [1.0], [100.0]], f=1)
        >>> value
        tensor([1.], dtype=torch.float64)
        >>> median.guarantee(n=3, f=1), median.guarantee(n=2, f=1)
        (True, False)
    """

    kind: ClassVar[str] = "aggregator"
    requires: ClassVar[str] = "n >= 1"
    cost: ClassVar[str] = ""
    traits: ClassVar[RuleTraits] = RuleTraits()
    required_inputs: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        check_formulas(cls)

    def check(self, setting: Setting) -> None:
        """Check that the rule has its inputs and is defined for its inboxes; see `Component.check`."""
        name, algorithm = setting.name(self.kind), setting.name("algorithm")
        if setting.communication == Communication.SERVER and self.traits.self_centered:
            raise Undefined(
                f"aggregator {name!r} needs the receiver's own vector, and a server has none: {algorithm} needs a rule "
                "without it"
            )
        if "evaluator" in self.required_inputs:
            raise Undefined(
                f"aggregator {name!r} evaluates policies, and {algorithm} aggregates gradients: use --agreement "
                f"gossip+{name}"
            )
        setting.check_inboxes(self.kind, self.defined, self.requires)

    def notes(self, setting: Setting) -> list[str]:
        """Return a remark where the rule has no guarantee."""
        return setting.guarantee_notes(self.kind, self.guarantee, self.requires)

    @formula
    def defined(self, n: int, f: int) -> bool:
        """Return whether the formula is defined for n vectors of which f may be faulty.

        It is vectorised over integer tensors.
        """
        return n >= 1

    @formula
    def guarantee(self, n: int, f: int) -> bool:
        """Return whether the robustness theorem of the source covers (n, f).

        `requires` states the condition as text.
        """
        return self.defined(n, f)

    @formula
    def kappa(self, n: int, f: int) -> float | None:
        """Return the least kappa for which the rule is known to be (f, kappa)-robust; None if none is known.

        For every S of n - f inputs, ||value - mean(S)||^2 <= kappa times the mean of ||x_i - mean(S)||^2 over S
        (Allouah et al. 2023, arXiv 2302.01772, definition 2). No rule has less than f / (n - 2f).
        """
        return None

    @abstractmethod
    def aggregate(self, x: Tensor, f: Tensor, context: RuleContext) -> RuleOutput:
        """Aggregate the vectors of each inbox; the arguments are not checked.

        Args:
            x: [..., n, d], finite; it must not be modified.
            f: int64 [...], the number of valid vectors that may be faulty, by the receiver's own bound. The rule is
                defined for it and the number of valid vectors.
            context: the mask of valid vectors, and what else the rule may read.

        Returns:
            The aggregated vectors, the weights and the new state.
        """

    def __call__(self, x: ArrayLike | Tensor, f: Tensor | int = 0, context: RuleContext | None = None) -> RuleOutput:
        """Aggregate the vectors of each inbox, after a check that the rule is defined for all of them.

        Args:
            x: [..., n, d], finite vectors: a tensor, a NumPy array or nested lists. Integers become float64.
            f: [...] or an integer: the number of valid vectors that may be faulty.
            context: the mask of valid vectors, and what else the rule may read; by default all vectors are valid.

        Returns:
            The aggregated vectors, the weights and the new state.

        Raises:
            InvalidParameter: x, f or a field of the context has the wrong type or shape, or a valid vector is not
                finite, or so large that products overflow.
            Undefined: the rule is not defined for the n and f of some inbox.

        Example:
            >>> from byzbench.registry import make
            >>> make("aggregator", "krum")([[1.0], [2.0], [3.0]], f=1)
            Traceback (most recent call last):
            byzbench.errors.Undefined: Krum is not defined for n=3 and f=1: it needs n >= 2f + 3
        """
        name = type(self).__name__
        vectors = to_vectors(name, x)
        shape = vectors.shape[:-1]
        context = _expand_context(name, RuleContext() if context is None else context, shape)
        check_count(name, "f", _as_tensor(name, "f", f) if isinstance(f, list | tuple) else f, 0)
        bound = _expand(name, "f", f, shape[:-1])
        mask = context.mask_of(vectors)
        refuse_vectors(name, "x", mask & ~vectors.isfinite().all(-1), "is not finite; leave it out, or mask it")
        if vectors.dtype == torch.float64:
            too_large = mask & (vectors.abs().amax(-1) > LARGEST)
            refuse_vectors(name, "x", too_large, f"has numbers beyond {LARGEST:g}, whose products overflow; scale x")
        num_valid = mask.sum(-1)
        for n, num_byzantine in sorted(set(zip(num_valid.flatten().tolist(), bound.flatten().tolist(), strict=True))):
            if n < 1 or not self.defined(n, num_byzantine):
                raise Undefined(f"{name} is not defined for n={n} and f={num_byzantine}: it needs {self.requires}")
        return self.aggregate(vectors, bound, context)


def to_vectors(name: str, x: ArrayLike | Tensor, what: str = "x", form: str = "[..., n, d]") -> Tensor:
    """Convert the vectors that a user passes to a rule to a floating-point tensor [..., n, d].

    Args:
        name: the name of the rule, for messages.
        x: the vectors.
        what: the name of the vectors, for messages.
        form: their shape, for messages.

    Raises:
        InvalidParameter: they are not real numbers of a dense array of at least two dimensions.
    """
    if isinstance(x, Tensor):
        vectors = x
    else:
        try:
            # A copy: torch cannot share the memory of arrays that are read-only or have negative strides.
            array = np.array(x, order="C")
            if array.dtype.kind == "f" and not (array.dtype.isnative and array.dtype.char in "efd"):
                array = array.astype(np.float64)
            vectors = torch.from_numpy(array)
        except (TypeError, ValueError):
            raise InvalidParameter(f"{name}: {what} must be numbers of the shape {form}") from None
    if vectors.is_complex() or vectors.layout is not torch.strided:
        raise InvalidParameter(f"{name}: {what} must be real numbers of the shape {form}, and dense")
    if vectors.ndim < 2 or not vectors.numel():
        raise InvalidParameter(f"{name}: {what} has the shape {list(vectors.shape)}, not {form}")
    return vectors if vectors.dtype in (torch.float16, torch.float32, torch.float64) else vectors.double()


def refuse_vectors(name: str, what: str, invalid: Tensor, fault: str) -> None:
    """Refuse vectors of a user if any is invalid, and name the first.

    Args:
        name: the name of the rule, for the message.
        what: the name of the vectors, for the message.
        invalid: bool [..., n], the vectors that are invalid.
        fault: what is wrong with them, as the end of the message.

    Raises:
        InvalidParameter: a vector is invalid.
    """
    if invalid.any():
        index = ", ".join(map(str, invalid.nonzero()[0].tolist()))
        raise InvalidParameter(f"{name}: {what}[{index}] {fault}")


def _as_tensor(name: str, what: str, value: Any) -> Tensor:
    """Convert an argument to a tensor."""
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise InvalidParameter(f"{name}: {what} must be a number or a tensor, not {reprlib.repr(value)}") from None


def _expand(name: str, what: str, value: Any, shape: torch.Size) -> Tensor:
    """Expand an argument to the shape of the inboxes."""
    value = _as_tensor(name, what, value)
    try:
        return value.expand(shape)
    except RuntimeError:
        raise InvalidParameter(f"{name}: {what} has the shape {list(value.shape)}, not {list(shape)}") from None


def _expand_context(name: str, context: RuleContext, shape: torch.Size) -> RuleContext:
    """Check the fields of a context, and expand its tensors to the shape [..., n] of the inboxes."""
    if not isinstance(context, RuleContext):
        raise InvalidParameter(f"{name}: context must be a RuleContext, not a {type(context).__name__}")
    if not isinstance(context.rng, np.random.Generator | None):
        raise InvalidParameter(f"{name}: rng must be a numpy.random.Generator, not a {type(context.rng).__name__}")
    shapes = {
        "mask": shape,
        "own": shape[:-1],
        "weights": shape,
        "age": shape,
        "honest": shape,
        "batch_size": shape[:-1],
        "deviation": shape[:-1],
    }
    values = {key: getattr(context, key) for key in shapes}
    expanded: dict[str, Any] = {
        k: _expand(name, k, value, shapes[k]) for k, value in values.items() if value is not None
    }
    for key, value in expanded.items():
        is_valid, condition = _CONDITIONS[key]
        if not is_valid(value, shape[-1]):
            raise InvalidParameter(f"{name}: {key} must be {condition.format(n=shape[-1])}")
    return replace(context, **expanded, distances=None)  # a user's are not known to be those of x


def _are_columns(own: Tensor, n: int) -> bool:
    return is_integral(own) and bool(((own >= -1) & (own < n)).all())


def _are_mixing_weights(weights: Tensor, n: int) -> bool:
    is_real = weights.is_floating_point() or is_integral(weights)
    return is_real and bool(((weights >= 0).all(-1) & (weights.sum(-1) <= 1 + 1e-6)).all())


_CONDITIONS: dict[str, tuple[Callable[[Tensor, int], bool], str]] = {
    "mask": (lambda mask, n: mask.dtype == torch.bool, "of booleans"),
    "honest": (lambda honest, n: honest.dtype == torch.bool, "of booleans"),
    "own": (_are_columns, "a column from 0 to n - 1, or -1 for none, for n={n}"),
    "weights": (_are_mixing_weights, "numbers of at least 0 whose sum is at most 1"),
    "age": (lambda age, n: is_integral(age) and bool((age >= 0).all()), "integers of at least 0"),
    "batch_size": (lambda size, n: is_integral(size) and bool((size >= 1).all()), "integers of at least 1"),
    "deviation": (lambda size, n: size.is_floating_point() and bool((size >= 0).all()), "numbers of at least 0"),
}
"""The condition on each tensor of a context that a user passes, for inboxes of n columns."""


@dataclass(frozen=True)
class LinearRule(Aggregator):
    """An aggregator whose output is a linear combination of its inputs, with weights from their pairwise distances.

    The caller computes one Gram matrix for a whole set of messages, and the weights of each receiver from its part of
    the matrix. The cost that depends on d is paid once, not once for each receiver.
    """

    traits: ClassVar[RuleTraits] = RuleTraits(linear=True)

    @abstractmethod
    def compute_weights(self, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, State]:
        """Return the weight of each input, float64 [..., n], zero where `pairs.mask` is False; and the new state.

        Args:
            pairs: the distances and inner products of the inputs, and the mask of valid ones.
            f: int64 [...], as in `aggregate`.
            context: as in `aggregate`; its mask is not read, as `pairs` has one.
        """

    def aggregate(self, x: Tensor, f: Tensor, context: RuleContext) -> RuleOutput:
        """Return the sum of the inputs with the computed weights; see `Aggregator.aggregate`."""
        weights, state = self.compute_weights(context.distances_of(x), f, context)
        return RuleOutput(weighted_sum(weights, x), weights, state)
