"""Returns at equal virtual seconds, bytes or trajectories, in the place of those at the end of each run.

Imports nothing heavy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeAlias

from byzbench.errors import CorruptRecord, InvalidParameter
from byzbench.records.store import StoredRun

AbscissaName: TypeAlias = Literal["trajectories", "seconds", "bytes"]

ABSCISSAE: Mapping[str, str] = {
    "trajectories": "trajectories per agent",
    "seconds": "virtual seconds",
    "bytes": "bytes sent by all agents",
}
"""The abscissae of learning curves and reports, with their labels."""


@dataclass(frozen=True)
class Abscissa:
    """Point of the learning curves at which runs are compared.

    Attributes:
        name: A key of `ABSCISSAE`.
        at: The number of trajectories, seconds or bytes.

    Example:
        >>> print(Abscissa("bytes", 2e6))
        2,000,000 bytes sent by all agents
    """

    name: str
    at: float

    def __str__(self) -> str:
        return f"{self.at:,.10g} {ABSCISSAE[self.name]}"

    def value(self, run: StoredRun, metric: str) -> float | None:
        """Return a metric of a finished run at this point; of a run that ends before, the value at its end.

        The training return is the mean over the last twentieth of the range up to the point, as in plots.

        Args:
            run: The run.
            metric: The training return or an evaluation return.

        Returns:
            The value; None if there was no evaluation by then, or it is not finite.

        Raises:
            CorruptRecord: The log cannot be trusted, or has no such metric or abscissa.
        """
        import numpy as np

        from byzbench.reports.plots import curve, trace

        at, values = trace(run.path, metric, self.name)
        if metric == "return":
            end = min(self.at, float(at[-1]))
            value = curve(run.path, metric, np.array([end]), self.name)[0] if end > 0 else run.value
        else:
            reached = values[at[1:] <= self.at]
            value = reached[-1] if len(reached) else None
        return float(value) if value is not None and math.isfinite(value) else None


def require_return(metric: str) -> None:
    """Raise InvalidParameter for a metric that has no value at a point of a learning curve."""
    if metric.endswith("auc"):
        raise InvalidParameter(f"at equal {', '.join(ABSCISSAE)}, returns are compared, and not {metric!r}")


def common_abscissa(runs: Iterable[StoredRun], name: str, metric: str) -> Abscissa:
    """Return the largest point, rounded down to four digits, that every finished run has reached.

    Runs that send no bytes do not count.

    Args:
        runs: The runs.
        name: A key of `ABSCISSAE`.
        metric: The metric that is compared; an evaluation counts at the round in which it was made.
    """
    ends = [end for run in runs if run.result and (end := _end(run, name, metric))]
    smallest = min(ends, default=0.0)
    unit = 10.0 ** (math.floor(math.log10(smallest)) - 3) if smallest else 1.0
    return Abscissa(name, float(f"{math.floor(smallest / unit) * unit:.4g}"))


def num_shorter(runs: Iterable[StoredRun], point: Abscissa, metric: str) -> int:
    """Return how many finished runs end before a point; those that send no bytes do not count."""
    return sum(0 < _end(run, point.name, metric) < point.at for run in runs if run.result)


def _end(run: StoredRun, name: str, metric: str) -> float:
    """Return the end of a run; 0 where it counts nothing, or its log cannot be read, which is reported elsewhere."""
    from byzbench.reports.plots import trace

    with suppress(CorruptRecord):
        return float(trace(run.path, metric, name)[0][-1])
    return 0.0
