"""Solo: agents that train without communication."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from byzbench.algorithms._recommended import ALONE
from byzbench.core import Recommendation
from byzbench.core.page import IndependentPage


@dataclass(frozen=True)
class Solo(IndependentPage):
    """PAGE-PG of every agent alone, with the budget of a federation: the baseline without collaboration.

        theta_{t+1}^k = theta_t^k + eta v~_t^k,    v~_t^k the agent's own PAGE estimate

    No message is sent, so Byzantine agents have no influence. The coin is common, so that batches are those of the
    federated methods.

    Source: PAGE-PG, Gargiani et al., ICML 2022, arXiv 2202.00308, K times.
    """

    source: ClassVar[str] = "Gargiani et al. 2022, arXiv 2202.00308 (PAGE-PG), K times"
    recommended: ClassVar[Mapping[str, Recommendation]] = ALONE
