"""Dec-PAGE-PG: the decentralised baseline with plain averaging."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from byzbench.algorithms._recommended import AVERAGED
from byzbench.core import Recommendation
from byzbench.core.page import DecentralizedPage


@dataclass(frozen=True)
class DecPagePG(DecentralizedPage):
    """DecByzPG with plain averaging instead of robust aggregation, and without agreement on parameters.

    Source: the baseline of Jordan et al., 2024, arXiv 2401.03489; PAGE-PG is by Gargiani et al., arXiv 2202.00308.
    """

    source: ClassVar[str] = "Jordan et al. 2024, arXiv 2401.03489 (Dec-PAGE-PG)"
    defaults: ClassVar[Mapping[str, str]] = {"topology": "complete", "aggregator": "mean", "agreement": "none"}
    recommended: ClassVar[Mapping[str, Recommendation]] = AVERAGED
