"""What a study asks: whose parameters are searched, where, against whom, and how a set of them is judged.

Seeds of tuning lie above every seed that an evaluation takes (`FIRST_SEED`), so the two never meet.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

from byzbench import registry
from byzbench.canonical import first_parameter
from byzbench.contracts import Choice, Range
from byzbench.errors import InvalidParameter, UserError
from byzbench.experiments.experiment import Experiment

FIRST_SEED = 10**9
"""Tuning seeds are this one and those above it; evaluations refuse them."""

OBJECTIVE = "evaluation_auc"
"""The value of a run in every study: see `byzbench.experiments.metrics.evaluation_area`."""


@dataclass(frozen=True)
class Question:
    """What a study asks: everything that decides its trials, but for how many there are.

    Attributes:
        side: whose parameters are searched.
        point: components and counts of every run by flag, as written; not the rivals'.
        rivals: attacks as written, or for the side `attack`, algorithms.
        seeds: of the runs.
        space: `kind.field` to where the search looks.
        fixed: further parameters of every run, by kind.
        sampler_seed: of the search itself.
    """

    side: Literal["algorithm", "attack"]
    point: Mapping[str, Any]
    rivals: Sequence[str]
    seeds: Sequence[int]
    space: Mapping[str, Range | Choice]
    fixed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sampler_seed: int = 0

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that name the study."""
        spaces = {self.keys[k]: list(v) if isinstance(v, Choice) else asdict(v) for k, v in self.space.items()}
        data = {**{k: getattr(self, k) for k in ("side", "rivals", "seeds", "fixed", "sampler_seed")}, "space": spaces}
        about = {"point": dict(self.point), "objective": OBJECTIVE}
        text = json.dumps({**data, **about}, sort_keys=True, default=list)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def keys(self) -> Mapping[str, str]:
        """Return, by searched `kind.field`, the name under which it was first hashed, which storages use."""
        return first_names(self.space, self.experiment({}, *self.pairs[0]))

    @property
    def name(self) -> str:
        """The study's name in its storage."""
        return f"{registry.parse(self.point[registry.FLAGS[self.side]]).name}-{self.hash}"

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """An attack wants returns low."""
        return "maximize" if self.side == "algorithm" else "minimize"

    @property
    def pairs(self) -> list[tuple[str, int]]:
        """(rival, seed), seeds outermost: every six pairs or so have seen every rival."""
        return [(rival, seed) for seed in self.seeds for rival in self.rivals]

    def experiment(self, parameters: Mapping[str, Any], rival: str, seed: int) -> Experiment:
        """The run of one pair under a trial's parameters, which are named `kind.field`."""
        filled = {kind: dict(values) for kind, values in self.fixed.items()}
        for key, value in parameters.items():
            kind, _, name = key.partition(".")
            filled.setdefault(kind, {})[name] = value
        flag = "attack" if self.side == "algorithm" else "algo"
        return Experiment.create(**{**self.point, flag: rival}, seed=seed, parameters=filled)

    def value(self, areas: Mapping[tuple[str, int], float]) -> float:
        """Return a trial's value from the area of every pair."""
        means = [statistics.fmean(areas[rival, seed] for seed in self.seeds) for rival in self.rivals]
        return min(means) if self.side == "algorithm" else statistics.fmean(means)

    def standing(self) -> dict[str, Any]:
        """The values that the searched parameters have without a search."""
        cell = self.experiment({}, *self.pairs[0])
        return {key: getattr(getattr(cell, key.partition(".")[0]), key.partition(".")[2]) for key in self.space}


def first_names(keys: Iterable[str], cell: Experiment) -> dict[str, str]:
    """Return the name under which each searched parameter was first hashed, which storages use.

    Args:
        keys: `kind.field`.
        cell: An experiment with the components whose fields they are.

    Example:
        >>> first_names(["algorithm.lr"], Experiment.create())
        {'algorithm.lr': 'algorithm.lr'}
    """
    found = {}
    for key in keys:
        kind, _, name = key.partition(".")
        found[key] = f"{kind}.{first_parameter(kind, registry.name_of(getattr(cell, kind)), name)}"
    return found


def question(
    side: Literal["algorithm", "attack"],
    point: Mapping[str, Any],
    rivals: Sequence[str],
    *,
    seeds: int = 3,
    search: Mapping[str, Range | Choice] | None = None,
    fixed: Mapping[str, Mapping[str, Any]] | None = None,
    sampler_seed: int = 0,
) -> Question:
    """A question, checked: every pair is run under the parameters that stand without a search, on paper.

    Args:
        side: whose parameters are searched.
        point: components and counts by flag; what is left out follows as in `Experiment.create`.
        rivals: what the searched side meets.
        seeds: how many.
        search: `kind.field` to where the search looks; default: what the fields of the component say, and for an
            algorithm those of its aggregator and agreement. A field that `fixed` sets is not searched.
        fixed: further parameters by kind.
        sampler_seed: of the search.

    Raises:
        UserError: one line that says what cannot be.
    """
    fixed = {registry.kind_of(kind): dict(values) for kind, values in (fixed or {}).items()}
    if seeds < 3:
        raise InvalidParameter(f"tuning needs at least 3 seeds, got {seeds}")
    if not rivals or len(set(rivals)) != len(rivals):
        raise InvalidParameter("tuning needs at least one rival, and none of them twice")
    bare = Question(side, dict(point), list(rivals), range(FIRST_SEED, FIRST_SEED + seeds), {}, fixed, sampler_seed)
    cells = [bare.experiment({}, rival, FIRST_SEED) for rival in rivals]
    kinds = ("attack",) if side == "attack" else ("algorithm", "aggregator", "agreement")
    space = dict(search or {})
    for kind in () if search else kinds:
        part = getattr(cells[0], kind)
        if kind != "algorithm" and side == "algorithm" and cells[0].algorithm.needs in ("solo", "nobody"):
            continue
        space |= {f"{kind}.{k}": v for k, v in part.searched().items() if k not in fixed.get(kind, {})}
    for key in space:
        kind, _, name = key.partition(".")
        if kind not in kinds or not hasattr(getattr(cells[0], kind), name):
            raise InvalidParameter(f"a search of {key!r}: {', '.join(kinds)} of this study have no such parameter")
    if not space:
        shown = registry.name_of(getattr(cells[0], side))
        raise UserError(f"{side} {shown!r} has no parameter with a range to search; give one with --search")
    return Question(side, bare.point, bare.rivals, list(bare.seeds), space, fixed, sampler_seed)
