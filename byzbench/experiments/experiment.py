"""Experiments: one validated, immutable combination of algorithm, attack, topology, task and rules, with a hash."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property, wraps
from typing import Any, ClassVar, TypeVar, cast

from gymnasium.spaces import Discrete

from byzbench import registry
from byzbench.axes import Axis, axis_named, recorded_axes, without_aliases
from byzbench.canonical import hash_of
from byzbench.core import (
    Aggregator,
    Agreement,
    Algorithm,
    Attack,
    Channel,
    Coin,
    Communication,
    Component,
    Placement,
    PolicyFamily,
    Scenario,
    Schedule,
    Setting,
    Task,
    Topology,
)
from byzbench.errors import InvalidParameter, Undefined
from byzbench.experiments.defaults import (
    RECOMMENDED,
    Written,
    check_counts,
    check_switch,
    defaults,
    usable,
    with_moved_parameters,
    with_suggestions,
)
from byzbench.experiments.evaluation import default_evaluations
from byzbench.experiments.plugin_errors import translate_plugin_errors
from byzbench.federation.communication_graph import CommunicationGraph
from byzbench.federation.graph_diagnostics import fast_diagnostics
from byzbench.federation.rule_oracle import cloneable
from byzbench.federation.scenarios import Scenarios
from byzbench.geometry.mixing import check_weights
from byzbench.literals import plain_number
from byzbench.randomness import Streams
from byzbench.rl.policies import Policy

_Class = TypeVar("_Class", bound=type)
_Function = TypeVar("_Function", bound=Callable[..., Any])


def _with_further_axes(cls: _Class) -> _Class:
    """Add a field to a class for each axis of experiments that it does not annotate."""
    further = tuple(axis for axis in recorded_axes() if axis.key not in cls.__annotations__)
    cls.__annotations__.update({axis.key: Any for axis in further})
    cls.further_axes = further  # type: ignore[attr-defined]
    return cls


def _with_aliases(function: _Function) -> _Function:
    """Let a function take every keyword that names an axis by an alias of the axis, and NumPy's numbers as Python's."""

    @wraps(function)
    def call(*values: Any, **options: Any) -> Any:
        return function(*values, **{name: plain_number(value) for name, value in without_aliases(options).items()})

    return cast(_Function, call)


class _Builder:
    """The components of one experiment, made of what the user wrote and of further parameters by kind.

    Args:
        parameters: The further parameters of the components by kind.
    """

    def __init__(self, parameters: Mapping[str, Mapping[str, Any]] | None) -> None:
        given = {} if parameters is None else parameters
        if not isinstance(given, Mapping) or not all(isinstance(values, Mapping) for values in given.values()):
            raise InvalidParameter(
                f"parameters takes those of each kind, such as {{'attack': {{'z': 1.5}}}}; got {given!r}"
            )
        self.parameters = {registry.kind_of(kind): dict(values) for kind, values in given.items()}

    def suggest(self, kind: str, values: Mapping[str, Any]) -> None:
        """Set parameters of a kind that have none yet."""
        self.parameters[kind] = {**values, **self.parameters.get(kind, {})}

    def __call__(self, kind: str, written: Written) -> Any:
        """Make the component of a kind."""
        values = self.parameters.get(kind, {})
        if isinstance(written, Component):
            return registry.make(kind, replace(written, **values))
        return registry.make(kind, registry.with_parameters(kind, written, values))

    def axes(self, axes: Iterable[Axis], written: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of axes by key: components where the axis is a kind.

        Args:
            axes: The axes.
            written: The values by the names of axes; an axis that is left out has its default.
        """
        values = {axis: written.get(axis.name, axis.default) for axis in axes}
        return {axis.key: self(axis.key, value) if axis.is_kind else value for axis, value in values.items()}


@dataclass(frozen=True)
@_with_further_axes
class Experiment:
    """The complete description of a run, with all defaults resolved; it determines the bytes of the records.

    Attributes:
        algorithm: The algorithm.
        attack: The attack of the Byzantine agents.
        topology: The communication graph.
        task: The task.
        policy: The policy family that agents train.
        scenario: What differs from the task.
        aggregator: The rule that aggregates gradients.
        agreement: The agreement on parameters.
        placement: The placement of the Byzantine agents on the graph.
        channel: The channel of all messages.
        coin: The common coin.
        schedule: How the time of agents and messages passes.
        agents: The number K of agents.
        byzantine: The number f of Byzantine agents.
        assumed_byzantine: The number of Byzantine agents that every agent assumes.
        relay: Whether messages are relayed over several hops, so that all agents receive all messages.
        mixing: The law of the mixing weights, see `byzbench.federation.communication_graph`.
        trajectories: The budget of episodes per agent.
        evaluations: The number of evaluations over the budget, at even distances.
        evaluation_episodes: The episodes of each agent in an evaluation, stochastic and greedy each.
        seed: The seed of all random streams.
        device: The torch device of gradients and rules.
        further_axes: The axes of `byzbench.axes` that are not listed here; each is a field, too.

    Example:
        >>> experiment = Experiment.create("decbyzpg", "sign_flip", agents=9)
        >>> experiment.byzantine, experiment.trajectories
        (2, 500)
    """

    algorithm: Algorithm
    attack: Attack
    topology: Topology
    task: Task
    policy: PolicyFamily
    scenario: Scenario
    aggregator: Aggregator
    agreement: Agreement
    placement: Placement
    channel: Channel
    coin: Coin
    schedule: Schedule
    agents: int
    byzantine: int
    assumed_byzantine: int
    relay: bool
    mixing: str
    trajectories: int
    evaluations: int
    evaluation_episodes: int
    seed: int
    device: str

    further_axes: ClassVar[tuple[Axis, ...]]

    @classmethod
    @_with_aliases
    def create(
        cls,
        algo: Written = "decbyzpg",
        attack: Written = "none",
        topology: Written | None = None,
        env: Written = "cartpole",
        *,
        policy: Written | None = None,
        scenario: Written = "none",
        aggregator: Written | None = None,
        agreement: Written | None = None,
        placement: Written = "random",
        channel: Written = "perfect",
        coin: Written = "shared",
        schedule: Written = "synchronous",
        agents: int | None = None,
        byzantine: int | None = None,
        assumed_byzantine: int | None = None,
        relay: bool = False,
        mixing: str = "metropolis",
        trajectories: int | None = None,
        evaluations: int | None = None,
        evaluation_episodes: int | None = None,
        seed: int = 0,
        device: str = "cpu",
        preset: str = RECOMMENDED,
        parameters: Mapping[str, Mapping[str, Any]] | None = None,
        **further: Any,
    ) -> Experiment:
        """Resolve names and defaults, and check that the experiment can run.

        Defaults depend on the other options: the algorithm and its preset define the topology, the aggregator and the
        agreement; the task defines batch sizes, step size and budget. The default of K is 13 (1 for an algorithm of one
        agent), that of f the largest with K > 4f, and that of `assumed_byzantine` is f.

        Components are written as `name`, `name(key=value)` or `name:key=value`, or are instances.

        Args:
            algo: The algorithm.
            attack: The attack.
            topology: The communication graph.
            env: The task.
            policy: The policy family; by default that of the preset or the task.
            scenario: What differs from the task.
            aggregator: The rule that aggregates gradients.
            agreement: The agreement on parameters.
            placement: The placement of the Byzantine agents.
            channel: The channel of all messages.
            coin: The common coin.
            schedule: How the time of agents and messages passes.
            agents: The number of agents.
            byzantine: The number of Byzantine agents.
            assumed_byzantine: The number of Byzantine agents that every agent assumes.
            relay: Whether messages are relayed over several hops.
            mixing: The law of the mixing weights.
            trajectories: The budget of episodes per agent.
            evaluations: The number of evaluations; None: see `default_evaluations`.
            evaluation_episodes: The episodes of each agent in an evaluation; None: see `default_evaluations`.
            seed: The seed of all random streams.
            device: The torch device.
            preset: The preset of the algorithm. `recommended` has the parameters that the algorithm recommends for the
                task (`Algorithm.recommended`); without a recommendation it equals `paper`.
            parameters: Further parameters of the components by kind: {"attack": {"z": 1.5}}.
            **further: The values of `further_axes`.

        Raises:
            UserError: An option is invalid; the message is one line that says what is allowed.
        """
        for name in further:
            axis_named(name)  # an error for a keyword that is no axis
        check_switch("relay", relay)
        check_weights(mixing)
        build = _Builder(parameters)
        env, policy, scenario = with_moved_parameters(env, policy, scenario, build.parameters)
        task: Task = build("task", env)
        usual = defaults(algo, preset, task)
        family: PolicyFamily = build("policy", usual.get("policy", task.default_policy) if policy is None else policy)
        build.parameters["algorithm"] = with_suggestions(
            task, family, algo, usual, build.parameters.get("algorithm", {})
        )
        method: Algorithm = build("algorithm", algo)
        budget = task.budget if trajectories is None else trajectories
        count = agents if agents is not None else 1 if method.communication == Communication.SINGLE_AGENT else 13
        usual_dates, usual_episodes = default_evaluations(budget if type(budget) is int else 0)
        dates = usual_dates if evaluations is None else evaluations
        episodes = usual_episodes if evaluation_episodes is None else evaluation_episodes
        check_counts(method, count, byzantine, assumed_byzantine, budget, dates, episodes, seed)
        f = (count - 1) // 4 if byzantine is None else byzantine
        experiment = cls(
            algorithm=method,
            attack=build("attack", attack),
            topology=build("topology", topology or usual["topology"]),
            task=task,
            policy=family,
            scenario=build("scenario", scenario),
            aggregator=build("aggregator", aggregator or usual["aggregator"]),
            agreement=build("agreement", agreement or usual["agreement"]),
            placement=build("placement", placement),
            channel=build("channel", channel),
            coin=build("coin", coin),
            schedule=build("schedule", schedule),
            agents=count,
            byzantine=f,
            assumed_byzantine=f if assumed_byzantine is None else assumed_byzantine,
            relay=relay,
            mixing=mixing,
            trajectories=budget,
            evaluations=dates,
            evaluation_episodes=episodes,
            seed=seed,
            device=usable(device),
            **build.axes(cls.further_axes, further),
        )
        experiment.check()
        return experiment

    def check(self) -> None:
        """Check that the components fit together.

        Raises:
            Undefined: A component is not defined in this experiment; the message is one line.
            BrokenPlugin: A check of a plug-in fails.
        """
        if self.relay and self.algorithm.communication != Communication.DECENTRALIZED:
            name = registry.name_of(self.algorithm)
            raise Undefined(f"--relay is for methods that gossip among agents, which {name} is not")
        if self._num_means and "honest" in self.aggregator.required_inputs:
            name, rule = registry.name_of(self.algorithm), registry.name_of(self.aggregator)
            raise Undefined(f"{name} aggregates means of several messages, and {rule!r} needs single ones")
        components = [component for component in self.components if component is not self.attack]
        if self.byzantine:
            components.append(self.attack)  # last: the reader first learns what is wrong without an attack
        with translate_plugin_errors(self.components):
            for component in components:
                component.check(self.setting)
            _ = self.trained_policy
            self._check_absences()

    def _check_absences(self) -> None:
        """Check that an honest agent takes part at all times, and all agents at the start if they normalise.

        Raises:
            Undefined: No honest agent takes part at some point, or an agent is absent at the start.
        """
        if not self.setting.has_absences:
            return
        streams = Streams(self.seed, self.algorithm.fixed_streams)
        byzantine = self.members.byzantine_ids
        scenarios = Scenarios(self.scenario, self.task, streams, self.agents, byzantine)
        honest = set(range(self.agents)) - set(byzantine)
        changes = {at for _, *ends in scenarios.absences for at in ends} | set(scenarios.crashes.values())
        if any(honest <= scenarios.stopped_agents(at) for at in changes):
            raise Undefined("scenario: no honest agent is present at some point of the budget")
        if scenarios.normalization_episodes and (absent := scenarios.inactive_agents(0.0)):
            raise Undefined(f"scenario: normalized needs all agents at the start, and agent {min(absent)} is absent")

    @cached_property
    def trained_policy(self) -> Policy:
        """Return the policy that agents train, of the policy family for the task.

        Raises:
            InvalidParameter: The family does not support the task.
        """
        return self.policy.build(self.task, self.algorithm.squashed)

    @cached_property
    def setting(self) -> Setting:
        """Return the facts of the experiment against which its components check themselves."""
        sends_messages = self.algorithm.communication.sends_messages
        reasons = {topic: cloneable({topic: rule}) for topic, rule in self.defences.items()}
        if self._num_means:
            reasons["gradient"] = f"{registry.name_of(self.algorithm)} applies it to means of several messages"
        return Setting(
            num_agents=self.agents,
            num_byzantine=self.byzantine,
            communication=self.algorithm.communication,
            has_server=sends_messages and self.members.server is not None,
            graph_varies=self.topology.varies,
            has_absences=any(part.has_absences for part in self.scenario.parts),
            has_own_starts=any(part.has_own_starts for part in self.scenario.parts),
            relay=self.relay,
            shared_environment=self.task.shared,
            max_delay=max(part.max_delay for part in self.channel.parts),
            is_asynchronous=self.schedule.asynchronous,
            num_spare=max((n - self.schedule.quorum_of(n, f) for n, f in self.inboxes), default=0),
            handles_messages=self.algorithm.handles_messages,
            normalizes=self.scenario.normalizes,
            samples_single_agents=self.algorithm.server_samples or "evaluator" in _required_inputs(self.agreement),
            inboxes={kind: self.inboxes for kind, _ in self.rules},
            uncloneable={topic: reason for topic, reason in reasons.items() if reason},
            names={component.kind: registry.name_of(component) for component in self.components},
            dynamics=tuple(self.task.dynamics),
        )

    @property
    def components(self) -> list[Component]:
        """Return the component of every kind."""
        values = [getattr(self, f.name) for f in fields(self)]
        return [value for value in values if isinstance(value, Component)]

    @cached_property
    def members(self) -> CommunicationGraph:
        """Return the communication graph with the placed Byzantine agents."""
        streams = Streams(self.seed)
        return CommunicationGraph.place(
            self.topology,
            self.placement,
            self.agents,
            self.byzantine,
            self.assumed_byzantine,
            streams,
            self.relay,
            self.mixing,
        )

    @property
    def rules(self) -> list[tuple[str, Aggregator | Agreement]]:
        """Return the rules that the algorithm applies to inboxes, each with its kind."""
        if not self.algorithm.communication.sends_messages:
            return []
        if self.algorithm.communication == Communication.SERVER:
            return [] if "aggregator" not in self.algorithm.uses else [("aggregator", self.aggregator)]
        return [(kind, getattr(self, kind)) for kind in self.algorithm.uses]

    @property
    def defences(self) -> dict[str, Aggregator]:
        """Return the rule of each topic of messages that has one."""
        used: dict[str, Any] = dict(self.rules)
        rules = {"gradient": used.get("aggregator"), "parameters": getattr(used.get("agreement"), "rule", None)}
        if self.scenario.normalizes:
            rules["statistics"] = rules["gradient"]
        return {topic: rule for topic, rule in rules.items() if rule is not None}

    @property
    def inboxes(self) -> list[tuple[int, int]]:
        """Return the distinct (n, f) of the inboxes of rules, largest n first."""
        if self._num_means:
            return [(self._num_means, self.assumed_byzantine)]
        if self.algorithm.communication == Communication.SERVER:
            mask = self.members.partition(self.algorithm.groups)[1]
            return sorted({(n, self.members.bound(n)) for n in mask.sum(1).tolist()}, reverse=True)
        pairs = {(len(box), self.members.bound(len(box))) for box in self.members.inboxes}
        return sorted(pairs, reverse=True)

    @property
    def _num_means(self) -> int:
        """Return the number of means in buffers that the server aggregates; 0 if it has no buffers."""
        return self.algorithm.num_means(self.assumed_byzantine)

    @property
    def contraction_bound(self) -> float | None:
        """Return the bound of the agreement on the honest spread after an exchange, relative to the spread before.

        It is None where no bound is known. Bounds need a complete graph, and no more Byzantine agents than an agent
        assumes.
        """
        complete = all(len(box) == self.agents for box in self.members.inboxes)
        f = self.members.bound(self.agents)
        return self.agreement.contraction(self.agents, f) if complete and self.byzantine <= f else None

    @cached_property
    def diagnostics(self) -> dict[str, float | int | None]:
        """Return the graph diagnostics: how the graph and the placement affect the rules' guarantees."""
        return dict(fast_diagnostics(self.members))

    def notes(self) -> list[str]:
        """Return remarks on the experiment for the reader of its result, one line each."""
        lines = [
            *(self.attack.notes(self.setting) if self.byzantine else []),
            *self.aggregator.notes(self.setting),
            *self.agreement.notes(self.setting),
            *self.without_effect(),
            *self.algorithm.notes(self.setting),
        ]
        gaps, share = self.graph_gaps(), self.diagnostics["connected_share"]
        if self.algorithm.communication == Communication.DECENTRALIZED and share is not None and 0 < share < 1:
            gaps.append(f"only {share:.1%} of placements leave the honest agents connected")
        if gaps:
            lines.append(
                f"no guarantee covers f={self.byzantine} on topology {registry.name_of(self.topology)}: "
                f"{'; '.join(gaps)}; try --topology complete"
            )
        return lines

    def graph_gaps(self) -> list[str]:
        """Return why the graph and the placement leave the honest agents without a guarantee, whatever the rules are.

        Example:
            >>> Experiment.create("decbyzpg", "ipm", "ring", placement="max_separation").graph_gaps()
            ['the honest agents are in 3 components']
        """
        if self.algorithm.communication != Communication.DECENTRALIZED:
            return []
        beyond, components = self.diagnostics["beyond_bound"], self.diagnostics["honest_components"]
        honest = self.agents - self.byzantine
        neighbours = f"{beyond} of {honest} honest agents have more Byzantine neighbours than they tolerate"
        return [
            *([neighbours] if beyond else []),
            *([f"the honest agents are in {components} components"] if components != 1 else []),
        ]

    def without_effect(self) -> list[str]:
        """Return the choices of the user that have no effect on the algorithm, one line each.

        Example:
            >>> Experiment.create("byzpg", agreement="mda").without_effect()
            ["byzpg has no use for an agreement: 'mda' changes nothing"]
        """
        name, used = registry.name_of(self.algorithm), dict(self.rules)
        lines = [
            f"{name} has no use for an {kind}: {registry.name_of(getattr(self, kind))!r} changes nothing"
            for kind in ("aggregator", "agreement")
            if kind not in used and registry.name_of(getattr(self, kind)) != self.algorithm.defaults.get(kind)
        ]
        if self.policy.squash and isinstance(self.task.action_space, Discrete):
            lines.append(f"task {registry.name_of(self.task)!r} has discrete actions: policy.squash changes nothing")
        topics = [topic for kind, topic in (("aggregator", "gradient"), ("agreement", "parameters")) if kind in used]
        attacks_messages = self.byzantine and "messages" in self.attack.threat.surface
        if attacks_messages and topics and not any(self.attack.targets(topic) for topic in topics):
            lines.append(
                f"attack {registry.name_of(self.attack)!r} crafts no messages about {topics[0]}, which is all that "
                f"agents of {name} exchange: try -p attack.on={topics[0]}"
            )
        return lines

    def describe(self) -> dict[str, Any]:
        """Return the experiment as plain data; `from_description` is the inverse."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: registry.describe(v) if isinstance(v, Component) else v for k, v in values.items()}

    @classmethod
    def from_description(cls, data: Mapping[str, Any]) -> Experiment:
        """Create the experiment of a description, with the checks of `create`.

        Args:
            data: The description, as `describe` returns it.

        Raises:
            UserError: The description is invalid.
        """
        keys = {f.name for f in fields(cls)}
        if not isinstance(data, Mapping) or set(data) != keys:
            raise InvalidParameter(f"an experiment has the keys {', '.join(sorted(keys))}")
        return cls.create(**experiment_options(data))

    @cached_property
    def hash(self) -> str:
        """Return the 16 hexadecimal digits that identify the experiment; they depend on every field."""
        return hash_of(self.describe())


def experiment_options(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `Experiment.create` that a description sets, or a part of one.

    Args:
        described: Components and values by key, as from `Experiment.describe`.

    Example:
        >>> experiment_options({"task": {"name": "cartpole", "parameters": {}}, "seed": 3})["env"].kind
        'task'
    """
    names = {axis.key: axis.name for axis in recorded_axes()}
    return {
        names.get(key, key): registry.from_description(key, value) if key in registry.KINDS else value
        for key, value in described.items()
    }


def _required_inputs(agreement: Agreement) -> frozenset[str]:
    """Return the extra inputs of the rule inside an agreement, if there is one."""
    return getattr(getattr(agreement, "rule", None), "required_inputs", frozenset())
