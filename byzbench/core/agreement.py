"""The base class of agreements, and what they report."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from numpy.typing import ArrayLike
from torch import Tensor

from byzbench.core.component import Component, State
from byzbench.core.formulas import check_formulas, formula
from byzbench.core.rules import refuse_vectors, to_vectors
from byzbench.errors import InvalidParameter, Undefined

if TYPE_CHECKING:
    from byzbench.core.federation import Federation
    from byzbench.core.inbox import Inbox
    from byzbench.core.setting import Setting

Measure: TypeAlias = Literal["diameter", "box"]
"""A measure of the spread of vectors: their diameter, or the longest edge of their bounding box."""


@dataclass(frozen=True)
class Agreement(Component):
    """A sub-protocol of several exchanges after which honest agents hold nearly the same vector.

    An agreement implements `agree`; a user calls the agreement itself, which checks its arguments first.

    Class attributes:
        requires: the condition of `guarantee` as text, for messages.
        quorum_multiple: c, if exchanges of n > c f agents contract where each waits for n - f messages of its round;
            None: no such bound is known.
        measure: the quantity that `contraction` bounds: the honest agents' diameter, or the longest edge of their
            bounding box.
    """

    kind: ClassVar[str] = "agreement"
    requires: ClassVar[str] = "n >= 1"
    quorum_multiple: ClassVar[int | None] = None
    measure: ClassVar[Measure] = "diameter"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        check_formulas(cls)

    def check(self, setting: Setting) -> None:
        """Check that an exchange is defined for the inboxes; see `Component.check`."""
        setting.check_inboxes(self.kind, self.defined, self.requires)

    def notes(self, setting: Setting) -> list[str]:
        """Return a remark where the agreement has no guarantee."""
        notes = setting.guarantee_notes(self.kind, self.guarantee, self.requires)
        if notes or not setting.num_spare or self.quorum_multiple is None:
            return notes
        multiple = self.quorum_multiple

        def holds(n: int, f: int) -> bool:
            return n > multiple * f

        requires = f"n > {multiple}f where agents do not wait for all messages"
        return setting.guarantee_notes(self.kind, holds, requires)

    @formula
    def defined(self, n: int, f: int) -> bool:
        """Return whether one exchange is defined for an inbox of n messages, f of them faulty."""
        return n >= 1

    @formula
    def guarantee(self, n: int, f: int) -> bool:
        """Return whether every exchange contracts the honest diameter, whatever the Byzantine agents send."""
        return self.defined(n, f)

    @formula
    def contraction(self, n: int, f: int) -> float | None:
        """Return the contraction factor of one exchange on a complete graph of n agents; None if no bound is known.

        The factor bounds the honest `measure` after the exchange, relative to the one before it, whatever f Byzantine
        agents send. A factor of one or more guarantees nothing.
        """
        return None

    @abstractmethod
    async def agree(self, fed: Federation, theta: Tensor, state: State) -> tuple[Tensor, AgreementReport, State]:
        """Run the agreement on theta [K, d]; the arguments are not checked.

        Args:
            fed: the federation, by which agents exchange messages.
            theta: [K, d], a row for each agent.
            state: the state that the last call returned, a row for each agent; empty in the first call.

        Returns:
            The new vectors [K, d], a report on what each agent observed, and the new state.
        """

    async def __call__(
        self, fed: Federation, theta: ArrayLike | Tensor, state: State | None = None
    ) -> tuple[Tensor, AgreementReport, State]:
        """Run the agreement on theta [K, d], and check that it is defined for every inbox.

        Args:
            fed: the federation, by which agents exchange messages.
            theta: [K, d], a finite row for each agent: a tensor, a NumPy array or nested lists.
            state: the state that the last call returned; None in the first call.

        Returns:
            The new vectors [K, d], a report on what each agent observed, and the new state.

        Raises:
            InvalidParameter: fed is no federation, or theta has the wrong type or shape or is not finite.
            Undefined: the agreement is not defined for the n and f of an inbox.

        Example:
            >>> from byzbench.experiments.experiment import Experiment
            >>> from byzbench.experiments.runner import federate, lockstep
            >>> from byzbench.registry import make
            >>> federation, _ = federate(Experiment.create(agents=3, byzantine=0))
            >>> federation.begin(0, 0.0)
            >>> lockstep(make("agreement", "mean")(federation, [[1.0], [2.0], [6.0]]))[0].flatten()
            tensor([3., 3., 3.])
        """
        name = type(self).__name__
        if not hasattr(fed, "exchange"):
            raise InvalidParameter(
                f"{name}: fed must be a federation, not a {type(fed).__name__}; vectors alone are aggregated by a rule"
            )
        vectors = to_vectors(name, theta, "theta", "[K, d]").to(fed.theta0)
        num_agents = len(fed.agents)
        if vectors.ndim != 2 or len(vectors) != num_agents:
            raise InvalidParameter(f"{name}: theta has the shape {list(vectors.shape)}, not [{num_agents}, d]")
        not_finite = ~vectors.isfinite().all(-1)
        refuse_vectors(name, "theta", not_finite, f"is not finite; give every agent finite numbers of {vectors.dtype}")
        checked: Federation = _CheckedFederation(fed, self)
        return await self.agree(checked, vectors, {} if state is None else state)


class _CheckedFederation:
    """A federation whose exchanges are refused where an agreement is not defined for an inbox."""

    def __init__(self, federation: Federation, agreement: Agreement) -> None:
        self._federation, self._agreement = federation, agreement

    def __getattr__(self, name: str) -> Any:
        return getattr(self._federation, name)

    async def exchange(self, topic: str, x: Tensor, *, reliable: bool = False) -> Inbox:
        """Exchange vectors, and check the inboxes."""
        inbox = await self._federation.exchange(topic, x, reliable=reliable)
        for n, f in sorted(set(zip(inbox.n.tolist(), inbox.f.tolist(), strict=True))):
            if n < 1 or not self._agreement.defined(n, f):
                raise Undefined(
                    f"{type(self._agreement).__name__} is not defined for an inbox of n={n} and f={f}: it needs "
                    f"{self._agreement.requires}"
                )
        return inbox


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
