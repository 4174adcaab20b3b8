"""Centred clipping: steps from a start, in which each input counts by at most a radius."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators.monna import own_column
from byzbench.core import Aggregator, FloatRange, RuleContext, RuleOutput, RuleTraits
from byzbench.geometry.pairwise_distances import (
    is_small,
    norms_from,
    to_array,
    to_tensor,
    uniform_weights,
    vector_at,
    weighted_differences,
)


@dataclass(frozen=True)
class CenteredClipping(Aggregator):
    """The mean of the inputs, each clipped to a radius around a centre that is known beforehand.

    Formula: v <- v + (1/n) sum_i (x_i - v) min(1, radius / ||x_i - v||), some steps from v0; value = v. Each input,
    Byzantine or honest, moves a step by at most radius / n.

    Source: Karimireddy, He, Jaggi 2021, "Learning from history", arXiv 2012.10333, where v0 is the previous value, and
    inputs are momenta. Starting from the own vector, for gossip: He, Karimireddy, Jaggi 2022, arXiv 2202.01545.

    Differs from the source in: the radius, there proportional to the honest spread, is a fixed number in the units of
    the inputs. No number suits two scales: if it is far too small the value hardly moves, if it is far too large the
    value is the mean.

    State: `previous` [..., d], the value of each receiver; zero before its first call.

    Attributes:
        radius: the maximum length of an input's difference from the centre.
        steps: the number of steps.
        start: v0: the previous value, which is zero at first; or always zero; or the receiver's own vector.

    Example:
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [1000.0]])
        >>> CenteredClipping(radius=4.0)(x, 1)[0]
        tensor([2.5000])
    """

    radius: Annotated[
        float,
        Field(gt=0, description="maximum length of an input's difference from the centre"),
        FloatRange(0.1, 100, log=True),
    ] = 10.0
    steps: Annotated[int, Field(ge=1, description="number of steps"), FloatRange(1, 5)] = 1
    start: Annotated[Literal["previous", "zero", "own"], Field(description="centre before the first step")] = "previous"

    source: ClassVar[str] = "Karimireddy et al. 2021, arXiv 2012.10333"
    cost: ClassVar[str] = "n d"
    requires: ClassVar[str] = "n >= 10f, a start near the honest vectors, and a radius that fits their spread"

    @property
    def traits(self) -> RuleTraits:  # type: ignore[override]
        """Return the traits, which depend on the start."""
        return RuleTraits(stateful=self.start == "previous", self_centered=self.start == "own", scale_equivariant=False)

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether at most a tenth is Byzantine.

        The user has to ensure that the start and the radius fit.
        """
        return (n >= 1) & (n >= 10 * f)

    def aggregate(self, x: Tensor, f: Tensor, context: RuleContext) -> RuleOutput:
        """Move the centre by clipped steps; see `Aggregator.aggregate`. It does not read f."""
        mask = context.mask_of(x)
        if self.start == "own":
            centre = vector_at(x, own_column(mask, context.own)).double()
        elif self.start == "previous" and context.state:
            centre = context.state["previous"].double().unsqueeze(-2)
        else:
            centre = x.new_zeros(x[..., :1, :].shape, dtype=torch.float64)
        share = self.radius * uniform_weights(mask)
        for _ in range(self.steps):
            centre = self._step(x, centre, share)
        value = centre.squeeze(-2).to(x.dtype)
        return RuleOutput(value, None, {"previous": value} if self.start == "previous" else {})

    def _step(self, x: Tensor, centre: Tensor, share: Tensor) -> Tensor:
        """Return the next centre [..., 1, d].

        Args:
            x: [..., n, d], the inputs.
            centre: [..., 1, d], the centre before the step.
            share: [..., n], the radius divided by the number of inputs; zero at invalid ones.
        """
        if is_small(x):
            differences = to_array(x).astype(np.float64) - to_array(centre)
            scale = to_array(share) / np.maximum(np.sqrt(np.vecdot(differences, differences)), self.radius)
            return to_tensor(to_array(centre) + scale[..., None, :] @ differences, x)
        weights = share / norms_from(x, centre).clamp_min(self.radius)
        return centre + weighted_differences(weights, x, centre)
