"""The problem of a tuning study: the tuned side, the search space, the opponents, and the value of a trial.

All seeds of tuning are above the seeds of evaluations (`FIRST_SEED`), so that no seed is used for both.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

from byzbench import registry
from byzbench.axes import method_axes
from byzbench.canonical import first_parameter
from byzbench.core import Categorical, FloatRange
from byzbench.errors import InvalidParameter, UserError
from byzbench.experiments.experiment import Experiment
from byzbench.records.tuned import TunedSide

FIRST_SEED = 10**9
"""The first seed of tuning; evaluations accept smaller seeds only."""

OBJECTIVE = "evaluation_auc"
"""The metric that is the value of a run in every study: see `byzbench.experiments.metrics.evaluation_area`."""


Direction: TypeAlias = Literal["maximize", "minimize"]
"""The direction of an objective, in the words of Optuna."""


@dataclass(frozen=True)
class TuningProblem:
    """The problem of a study: everything that determines its trials, except their number.

    Attributes:
        side: The side whose parameters are searched.
        point: The components and counts of every run by flag, as written by the user, without the opponents.
        opponents: The opponents as written by the user: attacks, or for the side `attack`, algorithms.
        seeds: The seeds of the runs.
        space: The search space: a range or choice for each `kind.field`.
        fixed: Further parameters of every run, by kind.
        sampler_seed: The seed of the sampler of trials.
    """

    side: TunedSide
    point: Mapping[str, Any]
    opponents: Sequence[str]
    seeds: Sequence[int]
    space: Mapping[str, FloatRange | Categorical]
    fixed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sampler_seed: int = 0

    @property
    def hash(self) -> str:
        """Return the 16 hexadecimal digits that identify the study."""
        spaces = {self.keys[k]: list(v) if isinstance(v, Categorical) else asdict(v) for k, v in self.space.items()}
        data = {**{k: getattr(self, k) for k in ("side", "seeds", "sampler_seed")}, "space": spaces}
        data["fixed"] = self._fixed_by_first_name()
        data["rivals"] = self.opponents  # the name under which studies were first hashed
        rest = {"point": dict(self.point), "objective": OBJECTIVE}
        text = json.dumps({**data, **rest}, sort_keys=True, default=list)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def keys(self) -> Mapping[str, str]:
        """Return the name in storages of each searched `kind.field`: that under which it was first hashed."""
        return first_names(self.space, self.experiment({}, *self.pairs[0]))

    def _fixed_by_first_name(self) -> dict[str, dict[str, Any]]:
        cell = self.experiment({}, *self.pairs[0])
        return {
            kind: {first_parameter(kind, registry.name_of(getattr(cell, kind)), k): v for k, v in values.items()}
            for kind, values in self.fixed.items()
        }

    @property
    def name(self) -> str:
        """Return the study's name in its storage."""
        return f"{registry.parse_spec(self.point[registry.FLAGS[self.side]]).name}-{self.hash}"

    @property
    def direction(self) -> Direction:
        """Return `maximize` for the side `algorithm`, and `minimize` for an attack."""
        return "maximize" if self.side == "algorithm" else "minimize"

    @property
    def pairs(self) -> list[tuple[str, int]]:
        """Return the runs of a trial as pairs (opponent, seed); seeds are the outer loop, so opponents come first."""
        return [(rival, seed) for seed in self.seeds for rival in self.opponents]

    def experiment(self, parameters: Mapping[str, Any], rival: str, seed: int) -> Experiment:
        """Create the experiment of one pair.

        Args:
            parameters: The trial's parameters by `kind.field`.
            rival: The opponent.
            seed: The seed.
        """
        by_kind = {kind: dict(values) for kind, values in self.fixed.items()}
        for key, value in parameters.items():
            kind, _, name = key.partition(".")
            by_kind.setdefault(kind, {})[name] = value
        flag = "attack" if self.side == "algorithm" else "algo"
        return Experiment.create(**{**self.point, flag: rival}, seed=seed, parameters=by_kind)

    def value(self, areas: Mapping[tuple[str, int], float]) -> float:
        """Return a trial's value from the area of every pair.

        For an algorithm it is the minimum over opponents of the mean over seeds, for an attack the mean over both.
        """
        means = [statistics.fmean(areas[rival, seed] for seed in self.seeds) for rival in self.opponents]
        return min(means) if self.side == "algorithm" else statistics.fmean(means)

    def defaults(self) -> dict[str, Any]:
        """Return the default values of the searched parameters."""
        cell = self.experiment({}, *self.pairs[0])
        return {key: getattr(getattr(cell, key.partition(".")[0]), key.partition(".")[2]) for key in self.space}

    def starts(self) -> list[dict[str, Any]]:
        """Return the parameters of the first trial: the defaults."""
        return [self.defaults()]

    def is_active(self, key: str, parameters: Mapping[str, Any]) -> bool:
        """Return True: a trial has a value of every searched parameter."""
        return True


def first_names(keys: Iterable[str], cell: Experiment) -> dict[str, str]:
    """Return the name in storages of each searched parameter: that under which it was first hashed.

    Args:
        keys: The parameters, as `kind.field`.
        cell: An experiment with the components of these fields.

    Example:
        >>> first_names(["algorithm.lr"], Experiment.create())
        {'algorithm.lr': 'algorithm.lr'}
    """
    names = {}
    for key in keys:
        kind, _, name = key.partition(".")
        names[key] = f"{kind}.{first_parameter(kind, registry.name_of(getattr(cell, kind)), name)}"
    return names


def _current_key(key: str, cell: Experiment) -> str:
    """Return a searched `kind.field` with the name that the field has today."""
    kind, _, name = key.partition(".")
    if kind not in registry.KINDS:
        return key
    (current,) = registry.current_names(kind, registry.name_of(getattr(cell, kind)), {name: None})
    return f"{kind}.{current}"


def tuning_problem(
    side: TunedSide,
    point: Mapping[str, Any],
    rivals: Sequence[str],
    *,
    seeds: int = 3,
    search: Mapping[str, FloatRange | Categorical] | None = None,
    fixed: Mapping[str, Mapping[str, Any]] | None = None,
    sampler_seed: int = 0,
) -> TuningProblem:
    """Create the problem of a study, and check that its experiments are valid with default parameters.

    Args:
        side: The side whose parameters are searched.
        point: The components and counts by flag, with the defaults of `Experiment.create`.
        rivals: The opponents of the searched side.
        seeds: The number of seeds.
        search: A range or choice for each `kind.field`. The default has the ranges that the fields of the component
            declare, and for an algorithm those of its aggregator and agreement, without fields that `fixed` sets.
        fixed: Further parameters by kind.
        sampler_seed: The seed of the sampler of trials.

    Returns:
        The problem.

    Raises:
        UserError: The problem is invalid; the message is one line.
    """
    fixed = {registry.kind_of(kind): dict(values) for kind, values in (fixed or {}).items()}
    if seeds < 3:
        raise InvalidParameter(f"tuning needs at least 3 seeds, got {seeds}")
    if not rivals or len(set(rivals)) != len(rivals):
        raise InvalidParameter("tuning needs at least one rival, and none of them twice")
    without_space = TuningProblem(
        side, dict(point), list(rivals), range(FIRST_SEED, FIRST_SEED + seeds), {}, fixed, sampler_seed
    )
    cells = [without_space.experiment({}, rival, FIRST_SEED) for rival in rivals]
    kinds = ("attack",) if side == "attack" else tuple(axis.key for axis in method_axes())
    space = {_current_key(key, cells[0]): where for key, where in (search or {}).items()}
    for kind in () if search else kinds:
        component = getattr(cells[0], kind)
        if kind != "algorithm" and side == "algorithm" and not cells[0].algorithm.communication.sends_messages:
            continue
        space |= {f"{kind}.{k}": v for k, v in component.search_space().items() if k not in fixed.get(kind, {})}
    for key in space:
        kind, _, name = key.partition(".")
        if kind not in kinds or not hasattr(getattr(cells[0], kind), name):
            raise InvalidParameter(f"a search of {key!r}: {', '.join(kinds)} of this study have no such parameter")
    if not space:
        component_name = registry.name_of(getattr(cells[0], side))
        raise UserError(f"{side} {component_name!r} has no parameter with a range to search; give one with --search")
    return TuningProblem(
        side, without_space.point, without_space.opponents, list(without_space.seeds), space, fixed, sampler_seed
    )
