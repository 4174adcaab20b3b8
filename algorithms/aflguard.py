"""AFLGuard: asynchronous steps along gradients that are close to the server's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from byzbench.algorithms._recommended import for_unequal_agents
from byzbench.core import FloatRange, Recommendation
from byzbench.core.reactive_server import ReferenceServer


@dataclass(frozen=True)
class AflGuard(ReferenceServer):
    """Steps along single gradients whose distance from the gradient of the server's own episodes is small enough.

        theta_{k+1} = theta_k + eta g    if  ||g - g_s|| <= lam ||g_s||,    else g is rejected

    g_s is the gradient of the server's episodes. An accepted g has at most the length (1 + lam) ||g_s||, and for
    lam < 1 an angle of less than arcsin(lam) to it. Two gradients that are mostly noise of the same length are
    sqrt(2) ||g_s|| apart, and g_s and its opposite 2 ||g_s||.

    Source: Fang, Liu, Gong, Bentley 2022, "AFLGuard: Byzantine-robust asynchronous federated learning", ACSAC, arXiv
    2212.06325.

    Differs from the source in: g_s is of the server's own episodes in place of trusted data, and the same for
    `refresh` messages, as episodes cost the server time (refresh=1 is the source's); its lam was not read. Adam along
    the gradient by default (`optimizer=sgd` is the source's step).

    Example:
        >>> import torch
        >>> reference = torch.tensor([[1.0, 0.0]])
        >>> [AflGuard(N=8, lam=1.5).screen(c * reference, reference) is not None for c in (2.0, 3.0, -0.4, -1.0)]
        [True, False, True, False]
    """

    source: ClassVar[str] = "Fang, Liu, Gong, Bentley 2022, arXiv 2212.06325 (AFLGuard)"
    recommended: ClassVar[Mapping[str, Recommendation]] = for_unequal_agents(N=4, B=16, refresh=20, lr=0.02)

    lam: Annotated[
        float,
        Field(gt=0, description="lambda, the largest distance of a message in lengths of the server's gradient"),
        FloatRange(0.5, 5.0),
    ] = 1.5

    def screen(self, gradient: Tensor, reference: Tensor) -> Tensor | None:
        """Return the message if it is close to the reference; see `ReferenceServer.screen`."""
        distance = (gradient.double() - reference.double()).norm()
        return gradient if distance <= self.lam * reference.double().norm() else None
