"""Verdicts on runs, and means of numbers that runs may lack."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """The verdict on a run.

    Attributes:
        name: The verdict: `ok`, `not_learning`, `no_consensus`, `not_finite` or `diverged`.
        number: The number that decided, if any.
        threshold: The threshold with which it was compared, if any.
        meaning: The explanation in one sentence.
    """

    name: str
    number: float | None
    threshold: float | None
    meaning: str


SEVERITY = ("ok", "not_learning", "no_consensus", "not_finite", "diverged")
"""The verdicts from the best to the worst."""


def mean_of(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None; None without any.

    Example:
        >>> mean_of([1.0, None, 3.0])
        2.0
    """
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None
