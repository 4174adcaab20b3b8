"""PAGE-PG: variance-reduced policy gradients of a single agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from byzbench.core import Communication
from byzbench.core.page import IndependentPage


@dataclass(frozen=True)
class PagePG(IndependentPage):
    """Variance-reduced policy gradients of a single agent, the method that the PAGE family federates.

        v_t = g_N(theta_t) with probability p, else v_{t-1} + g_B(theta_t) - g_B^omega(theta_{t-1})
        theta_{t+1} = theta_t + eta v_t

    Source: Gargiani, Zanelli, Martinelli, Summers, Lygeros, ICML 2022, arXiv 2202.00308.

    Differs from the source in: Adam by default, for comparison with the federated methods.
    """

    source: ClassVar[str] = "Gargiani et al. 2022, arXiv 2202.00308 (PAGE-PG)"
    communication: ClassVar[Communication] = Communication.SINGLE_AGENT
