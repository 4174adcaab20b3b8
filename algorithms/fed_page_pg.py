"""Fed-PAGE-PG: the server baseline with plain averaging."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from byzbench.algorithms._recommended import AVERAGED
from byzbench.core import Recommendation
from byzbench.core.page import ServerPage


@dataclass(frozen=True)
class FedPagePG(ServerPage):
    """ByzPG with plain averaging at the server instead of robust aggregation.

    Source: the baseline of Jordan et al., 2024, arXiv 2401.03489; PAGE-PG is by Gargiani et al., arXiv 2202.00308.
    """

    source: ClassVar[str] = "Jordan et al. 2024, arXiv 2401.03489 (Fed-PAGE-PG)"
    defaults: ClassVar[Mapping[str, str]] = {"topology": "star", "aggregator": "mean", "agreement": "none"}
    recommended: ClassVar[Mapping[str, Recommendation]] = AVERAGED
