"""Base class of attacks that shift the honest mean by a bounded distance."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from byzbench.core import AttackContext, ByzantineMessages, Categorical, MessageAttack, Setting, State, ThreatModel


@dataclass(frozen=True)
class ShiftedMeanAttack(MessageAttack):
    """A message attack in which all Byzantine agents send the honest mean, shifted against a direction.

    The length of the shift is bounded by the distances between honest vectors, so that the message is not an outlier.

    A subclass defines `shift_length`.

    Example:
        A shift by the mean distance of the honest vectors from their mean:

        >>> import torch
        >>> @dataclass(frozen=True)
        ... class MeanDistance(ShiftedMeanAttack):
        ...     def shift_length(self, deviations, back):
        ...         return deviations.norm(dim=1).mean()
        >>> MeanDistance().craft_vector(torch.tensor([[1.0], [3.0]]).double(), byzantine=1)
        tensor([1.], dtype=torch.float64)
    """

    direction: Annotated[
        Literal["std", "unit", "sign"],
        Field(description="direction that is subtracted: deviations by coordinate, the mean, or its signs"),
        Categorical("std", "unit", "sign"),
    ] = "std"

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: omniscient and colluding, without knowledge of the rule."""
        return ThreatModel(knowledge=frozenset({"byzantine", "honest"}))

    def check(self, setting: Setting) -> None:
        """Reject a single honest vector, which has no distances."""
        setting.check_honest_spread(type(self).__name__, ", and the message equals the honest vector")
        super().check(setting)

    @abstractmethod
    def shift_length(self, deviations: Tensor, back: Tensor) -> Tensor:
        """Return the length of the shift.

        Args:
            deviations: [h, d], the deviations of the honest vectors from their mean.
            back: [d], the unit vector of the shift.
        """

    def craft_vector(self, honest: Tensor, byzantine: int) -> Tensor:
        """Return the shifted mean, [d].

        Args:
            honest: float64 [h, d].
            byzantine: f.
        """
        mean = honest.mean(0)
        deviations = honest - mean
        if self.direction == "std":
            direction = deviations.square().mean(0).sqrt()
        else:
            direction = mean if self.direction == "unit" else mean.sign()
        back = -normalize(direction, dim=0, eps=1e-150)
        return mean + self.shift_length(deviations, back) * back

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: the shifted mean from every Byzantine agent."""
        crafted = self.craft_vector(context.honest.double(), context.num_byzantine)
        return ByzantineMessages(crafted.to(context.honest.dtype).expand_as(context.byzantine)), memory
