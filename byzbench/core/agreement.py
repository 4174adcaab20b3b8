"""The base class of agreements, and what they report."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from torch import Tensor

from byzbench.core.component import Component, State

if TYPE_CHECKING:
    from byzbench.core.federation import Federation
    from byzbench.core.setting import Setting

Measure: TypeAlias = Literal["diameter", "box"]
"""A measure of the spread of vectors: their diameter, or the longest edge of their bounding box."""


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
        setting.check_inboxes(self.kind, self.defined, self.requires)

    def notes(self, setting: Setting) -> list[str]:
        """Return a remark where the agreement has no guarantee."""
        return setting.guarantee_notes(self.kind, self.guarantee, self.requires)

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
