"""Axes of an experiment, each declared once: kinds of components, counts, switches, seed and device.

Everything that lists axes derives from `AXES`: kinds and their packages (`byzbench.registry`), the fields of an
experiment, command-line options, sweep files, filters and columns of stores, W&B configuration and tags.

A new kind of component is a package `byzbench.PACKAGE`, a base class, and one entry of `AXES`. The hashes of stored
experiments also need an entry `AxisAdded` in `byzbench.canonical.CHANGES`, with the value that changes nothing.

This module imports no heavy library, so that `byzbench --help` is fast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from byzbench.errors import InvalidParameter, suggest


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Axis of an experiment.

    Attributes:
        name: The keyword of `Experiment.create`, the key in sweep files, and the name in filters and tables.
        help: The noun phrase that help texts show.
        type: The type of a value; a component is written as text.
        default: The default value; None if it depends on the other axes.
        default_text: The words for a default that is None.
        key: The field of `Experiment` and the key in records, by default the name.
        aliases: Other spellings that users may type in place of the name.
        letter: The letter of the short option, if it has one.
        symbol: The short name in W&B tags, if it has one.
        package: The package below `byzbench` that has the components; empty if the axis is not a kind.
        base: The base class of the components, with its module.
        is_recorded: Whether experiments and records have the axis; a preset only sets the defaults of others.
        is_method: Whether it is part of a method: what an entry of a leaderboard sets, and what is tuned with it.

    Example:
        >>> axis_named("env").package, axis_named("agents").flag
        ('tasks', '--agents')
    """

    name: str
    help: str
    type: type[str] | type[int] | type[bool] = str
    default: str | int | bool | None = None
    default_text: str = ""
    key: str = ""
    aliases: tuple[str, ...] = ()
    letter: str = ""
    symbol: str = ""
    package: str = ""
    base: str = ""
    is_recorded: bool = True
    is_method: bool = False

    def __post_init__(self) -> None:
        if not self.key:
            object.__setattr__(self, "key", self.name)
        if not self.default_text:
            object.__setattr__(self, "default_text", str(self.default))

    @property
    def is_kind(self) -> bool:
        """Return whether the values are components."""
        return bool(self.package)

    @property
    def flag(self) -> str:
        """Return the command-line option."""
        return option(self.name)


def option(name: str) -> str:
    """Return the command-line option of a name.

    Example:
        >>> option("evaluation_episodes")
        '--evaluation-episodes'
    """
    return f"--{name.replace('_', '-')}"


AXES: tuple[Axis, ...] = (
    Axis(
        name="algo",
        help="Algorithm",
        default="decbyzpg",
        key="algorithm",
        aliases=("algorithm",),
        letter="a",
        package="algorithms",
        base="byzbench.core.Algorithm",
        is_method=True,
    ),
    Axis(
        name="attack",
        help="Attack of the Byzantine agents",
        default="none",
        letter="x",
        package="attacks",
        base="byzbench.core.Attack",
    ),
    Axis(
        name="topology",
        help="Communication graph",
        default_text="the algorithm's",
        letter="t",
        package="topologies",
        base="byzbench.core.Topology",
    ),
    Axis(
        name="env",
        help="Task",
        default="cartpole",
        key="task",
        aliases=("task",),
        letter="e",
        package="tasks",
        base="byzbench.core.Task",
    ),
    Axis(
        name="policy",
        help="Policy family: the network that agents train",
        default_text="the task's",
        package="policies",
        base="byzbench.core.PolicyFamily",
    ),
    Axis(
        name="scenario",
        help="Scenario: what differs from the task, for example heterogeneous",
        default="none",
        package="scenarios",
        base="byzbench.core.Scenario",
    ),
    Axis(
        name="aggregator",
        help="Aggregator of gradients",
        default_text="the algorithm's",
        package="aggregators",
        base="byzbench.core.Aggregator",
        is_method=True,
    ),
    Axis(
        name="agreement",
        help="Agreement protocol for parameters",
        default_text="the algorithm's",
        package="agreements",
        base="byzbench.core.Agreement",
        is_method=True,
    ),
    Axis(
        name="placement",
        help="Placement of the Byzantine agents in the graph",
        default="random",
        package="placements",
        base="byzbench.core.Placement",
    ),
    Axis(
        name="channel",
        help="Channel of messages, for example loss or top_k",
        default="perfect",
        package="channels",
        base="byzbench.core.Channel",
    ),
    Axis(
        name="coin",
        help="Source of common randomness",
        default="shared",
        package="coins",
        base="byzbench.core.Coin",
    ),
    Axis(
        name="schedule",
        help="Schedule: how the time of agents and messages passes, for example asynchronous",
        default="synchronous",
        package="schedules",
        base="byzbench.core.Schedule",
    ),
    Axis(
        name="preset",
        help="Default parameters: recommended, paper or official (the authors' code)",
        default="recommended",
        is_recorded=False,
    ),
    Axis(
        name="agents",
        help="K, the number of agents",
        type=int,
        default_text="13, or 1 for an algorithm of one agent",
        symbol="K",
    ),
    Axis(
        name="byzantine",
        help="f, the number of Byzantine agents",
        type=int,
        default_text="the largest with K > 4f",
        symbol="f",
    ),
    Axis(
        name="assumed_byzantine",
        help="The f that honest agents assume",
        type=int,
        default_text="the true f",
        aliases=("declared",),
    ),
    Axis(
        name="relay",
        help="Forward messages, so that all agents receive all messages",
        type=bool,
        default=False,
        default_text="no",
    ),
    Axis(
        name="mixing",
        help="Mixing weights of gossip: metropolis, max_degree, uniform or laplacian",
        default="metropolis",
    ),
    Axis(
        name="trajectories",
        help="Budget in trajectories per agent",
        type=int,
        default_text="the task's",
    ),
    Axis(
        name="evaluations",
        help="Number of evaluations during training",
        type=int,
        default_text="5 to 20, by the budget",
    ),
    Axis(
        name="evaluation_episodes",
        help="Episodes of each agent in an evaluation",
        type=int,
        default_text="2 to 10, by the budget",
    ),
    Axis(name="seed", help="Seed of all random streams", type=int, default=0),
    Axis(name="device", help="Device of gradients and aggregation", default="cpu"),
)
"""The axes, in the order of records and of the labels of cells."""


def recorded_axes() -> tuple[Axis, ...]:
    """Return the axes that experiments and their records have."""
    return tuple(axis for axis in AXES if axis.is_recorded)


def method_axes() -> tuple[Axis, ...]:
    """Return the axes that make up a method.

    Example:
        >>> [axis.name for axis in method_axes()]
        ['algo', 'aggregator', 'agreement']
    """
    return tuple(axis for axis in AXES if axis.is_method)


def axis_named(word: str, among: Sequence[Axis] | None = None) -> Axis:
    """Return the axis of a name or an alias.

    Args:
        word: The name or the alias.
        among: The axes; None for all.

    Raises:
        InvalidParameter: There is no such axis.

    Example:
        >>> axis_named("algorithm").name
        'algo'
    """
    axes = AXES if among is None else among
    for axis in axes:
        if word == axis.name or word in axis.aliases:
            return axis
    names = [axis.name for axis in axes]
    raise InvalidParameter(f"no axis {word!r}. {suggest(word, names)}Axes: {', '.join(names)}.")


def without_aliases(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by key, where a key that is an alias of an axis is replaced by the axis' name.

    Raises:
        InvalidParameter: A value is given under two spellings of one axis.

    Example:
        >>> without_aliases({"task": "acrobot", "seeds": 5})
        {'env': 'acrobot', 'seeds': 5}
    """
    names = {alias: axis.name for axis in AXES for alias in axis.aliases}
    renamed: dict[str, Any] = {}
    for key, value in values.items():
        name = names.get(key, key)
        if name in renamed:
            raise InvalidParameter(f"{key} is another spelling of {name}, which is given too")
        renamed[name] = value
    return renamed
