"""Zeno++: asynchronous steps along gradients that score well against the server's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from byzbench.algorithms._recommended import for_unequal_agents
from byzbench.core import FloatRange, Recommendation
from byzbench.core.reactive_server import ReferenceServer


@dataclass(frozen=True)
class ZenoPlusPlus(ReferenceServer):
    """Steps along single gradients whose score against the gradient of the server's own episodes is high enough.

    With u the message and v the server's gradient, which is up to `refresh` messages old:

        form=paper:  theta + eta u    if  <v, u> - rho ||u||^2 + epsilon >= 0,    else rejected
        form=code:   u' = u min(1, ||v|| / ||u||),    theta + eta alpha u'                 if cos(u, v) >= threshold
                                                      theta + eta alpha cos(u, v) u'       else

    The first score estimates how much a step along u raises the return. In the second form a message is never
    rejected: one that points away from v is reversed, and weighted by its cosine.

    Source: Xie, Koyejo, Gupta 2020, "Zeno++: Robust fully asynchronous SGD", ICML, arXiv 1903.07020; form=code is the
    validator in the authors' later repository for Zeno parameter servers, with the threshold of its trainer.

    Differs from the source in: v is of the server's own episodes in place of its validation data, and renewed after a
    number of messages, not of steps, so that a bad v cannot block the server; the score is divided by the source's
    gamma, so that rho here is its rho / gamma; in the code v is the server's own local update, and each tensor of a
    model is tested by itself. Adam along the gradient by default (`optimizer=sgd` is the source's step), whose steps,
    as normalized ones, do not depend on the length of alpha u'.

    Example:
        A message that points away from the reference is rejected, or reversed:

        >>> import torch
        >>> reference, message = torch.tensor([[1.0, 0.0]]), torch.tensor([[-4.0, 3.0]])
        >>> print(ZenoPlusPlus(N=8).screen(message, reference))
        None
        >>> ZenoPlusPlus(N=8, form="code", alpha=1.0).screen(message, reference)
        tensor([[ 0.6400, -0.4800]])
    """

    source: ClassVar[str] = "Xie, Koyejo, Gupta 2020, arXiv 1903.07020 (Zeno++)"
    recommended: ClassVar[Mapping[str, Recommendation]] = for_unequal_agents(N=4, B=8, lr=0.02)

    form: Annotated[
        Literal["paper", "code"], Field(description="the score: paper, or that of the authors' later code")
    ] = "paper"
    rho: Annotated[
        float, Field(ge=0, description="penalty of the squared length (form=paper)"), FloatRange(1e-4, 1, log=True)
    ] = 0.01
    epsilon: Annotated[float, Field(ge=0, description="tolerance of the score (form=paper)")] = 0.0
    threshold: Annotated[
        float, Field(ge=-1, le=1, description="smallest cosine of a message that keeps its length (form=code)")
    ] = -0.02
    alpha: Annotated[float, Field(gt=0, description="factor of messages (form=code)"), FloatRange(0.1, 1.0)] = 0.8

    def screen(self, gradient: Tensor, reference: Tensor) -> Tensor | None:
        """Return the message as far as its score allows; see `ReferenceServer.screen`."""
        u, v = gradient.double(), reference.double()
        product, length, reference_length = (u * v).sum(), u.norm(), v.norm()
        if self.form == "paper":
            return gradient if product - self.rho * length.square() + self.epsilon >= 0 else None
        if not length or not reference_length:
            return None
        cosine = product / (length * reference_length)
        factor = self.alpha * (reference_length / length).clamp(max=1) * (1 if cosine >= self.threshold else cosine)
        return (factor * u).to(gradient)
