"""One point of the product algorithm x attack x topology x task x rules: frozen, validated, hashed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from byzbench import registry
from byzbench.canonical import hash_of
from byzbench.contracts import (
    Aggregator,
    Agreement,
    Algorithm,
    Attack,
    Channel,
    Coin,
    Component,
    Placement,
    Task,
    Topology,
)
from byzbench.errors import InvalidParameter, Undefined
from byzbench.experiments.evaluation import EPISODES, EVALUATIONS
from byzbench.experiments.filled import RECOMMENDED, Written, check_counts, defaults, suggested, usable
from byzbench.federation.defence import cloneable
from byzbench.federation.exposure import cheap
from byzbench.federation.membership import Membership
from byzbench.randomness import Streams


@dataclass(frozen=True)
class Experiment:
    """Everything that decides the bytes of a run, every default filled in.

    Attributes:
        algorithm, attack, topology, task, aggregator, agreement, placement, channel, coin: the components.
        agents: K.
        byzantine: f, how many of them lie.
        declared: what every agent is told about f.
        relay: whether messages go on over several hops, so that all agents hear all.
        mixing: the weights of gossip: see `byzbench.federation.membership`.
        trajectories: the budget of episodes per agent.
        evaluations: how often policies are evaluated over the budget, at even distances.
        evaluation_episodes: episodes of each agent in an evaluation, stochastic and greedy each.
        seed: the root of all random streams.
        device: where gradients and rules are computed.
    """

    algorithm: Algorithm
    attack: Attack
    topology: Topology
    task: Task
    aggregator: Aggregator
    agreement: Agreement
    placement: Placement
    channel: Channel
    coin: Coin
    agents: int
    byzantine: int
    declared: int
    relay: bool
    mixing: str
    trajectories: int
    evaluations: int
    evaluation_episodes: int
    seed: int
    device: str

    @classmethod
    def create(
        cls,
        algo: Written = "decbyzpg",
        attack: Written = "none",
        topology: Written | None = None,
        env: Written = "cartpole",
        *,
        aggregator: Written | None = None,
        agreement: Written | None = None,
        placement: Written = "random",
        channel: Written = "perfect",
        coin: Written = "shared",
        agents: int | None = None,
        byzantine: int | None = None,
        declared: int | None = None,
        relay: bool = False,
        mixing: str = "metropolis",
        trajectories: int | None = None,
        evaluations: int = EVALUATIONS,
        evaluation_episodes: int = EPISODES,
        seed: int = 0,
        device: str = "cpu",
        preset: str = RECOMMENDED,
        parameters: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Experiment:
        """Resolve names and defaults, and refuse what cannot run.

        What is not given follows from the rest: the algorithm (and its `preset`) names its topology, aggregator and
        agreement, the task its batch sizes, step size and budget; K is 13 (1 for an algorithm of one agent), f the
        largest with K > 4f, and agents are told the truth about f. The default preset, `recommended`, has the
        parameters that the algorithm recommends for the task (`Algorithm.recommended`); without any it is `paper`.

        Components are given as `name`, `name(key=value)`, `name:key=value` or as they are, and `parameters` are further
        ones by kind: {"attack": {"z": 1.5}}. The other options are described at the class.

        Raises:
            UserError: with one line that says what is wrong and what is allowed.
        """
        extra = {registry.kind_of(kind): dict(values) for kind, values in (parameters or {}).items()}

        def build(kind: str, written: Written) -> Any:
            values = extra.pop(kind, {})
            if isinstance(written, Component):
                return registry.build(kind, replace(written, **values))
            return registry.build(kind, registry.with_parameters(written, values))

        task: Task = build("task", env)
        usual = defaults(algo, preset, task)
        budget = task.budget if trajectories is None else trajectories
        extra["algorithm"] = suggested(task, algo, usual) | extra.get("algorithm", {})
        method: Algorithm = build("algorithm", algo)
        count = agents if agents is not None else 1 if method.needs == "solo" else 13
        check_counts(method, count, byzantine, declared, budget, evaluations, evaluation_episodes, seed)
        f = (count - 1) // 4 if byzantine is None else byzantine
        experiment = cls(
            algorithm=method,
            attack=build("attack", attack),
            topology=build("topology", topology or usual["topology"]),
            task=task,
            aggregator=build("aggregator", aggregator or usual["aggregator"]),
            agreement=build("agreement", agreement or usual["agreement"]),
            placement=build("placement", placement),
            channel=build("channel", channel),
            coin=build("coin", coin),
            agents=count,
            byzantine=f,
            declared=f if declared is None else declared,
            relay=relay,
            mixing=mixing,
            trajectories=budget,
            evaluations=evaluations,
            evaluation_episodes=evaluation_episodes,
            seed=seed,
            device=usable(device),
        )
        experiment._check_parts()
        return experiment

    def _check_parts(self) -> None:
        needs, name, graph = self.algorithm.needs, registry.name_of(self.algorithm), registry.name_of(self.topology)
        if self.relay and needs != "peers":
            raise Undefined(f"--relay is for methods that gossip among agents, which {name} is not")
        if needs == "server" and self.members.server is None:
            raise Undefined(f"{name} needs a trusted server, and topology {graph!r} has none: use --topology star")
        if self.algorithm.groups > self.agents:
            raise Undefined(f"{name} has {self.algorithm.groups} groups, and there are only {self.agents} agents")
        self.task.check(self.agents)
        if self.task.shared and (self.algorithm.server_samples or "judge" in _asked(self.agreement)):
            raise Undefined(f"{name} lets somebody play alone here, and in a shared world nobody can")
        if needs == "peers" and self.members.server is not None:
            raise Undefined(
                f"{name} gossips among agents, and topology {graph!r} has a trusted server at its centre: "
                "use --topology complete, or star:hub=agent"
            )
        moving = f"on topology {graph!r}, which varies," if self.topology.varies else ""
        moving = moving or ("where agents are absent" if self.task.absent else "")
        if moving and (self.relay or any(part.longest for part in self.channel.parts)):
            raise Undefined(f"{moving} messages can be neither relayed nor late: they need the same agents and wires")
        if needs == "server" and self.aggregator.self_centred:
            raise Undefined(
                f"aggregator {registry.name_of(self.aggregator)!r} reads the receiver's own vector, and a server has "
                f"none: {name} needs a rule that does not"
            )
        if "judge" in self.aggregator.asks:
            raise Undefined(
                f"aggregator {registry.name_of(self.aggregator)!r} tries policies out, and {name} aggregates "
                f"gradients: use --agreement gossip+{registry.name_of(self.aggregator)}"
            )
        for kind, rule in self.rules:
            for n, f in self.inboxes:
                if not rule.defined(n, f):
                    raise Undefined(
                        f"{kind} {registry.name_of(rule)!r} is not defined for an inbox of n={n} vectors of which "
                        f"f={f} may be faulty; it needs {rule.requires}"
                    )
        if self.byzantine:
            self.attack.check(self.agents, self.byzantine)
            met = {topic: rule for topic, rule in self.defences.items() if self.attack.speaks(topic)}
            if "defence" in self.attack.threat.sees and (why := cloneable(met)):
                raise Undefined(
                    f"attack {registry.name_of(self.attack)!r} needs a clone of the rule that it meets: {why}"
                )

    @cached_property
    def members(self) -> Membership:
        """The graph and the liars' seats."""
        streams = Streams(self.seed)
        return Membership.seat(
            self.topology, self.placement, self.agents, self.byzantine, self.declared, streams, self.relay, self.mixing
        )

    @property
    def rules(self) -> list[tuple[str, Aggregator | Agreement]]:
        """The rules that will be applied to inboxes."""
        if self.algorithm.needs in ("solo", "nobody"):
            return []
        if self.algorithm.needs == "server":
            return [("aggregator", self.aggregator)]
        return [(kind, getattr(self, kind)) for kind in self.algorithm.uses]

    @property
    def defences(self) -> dict[str, Aggregator]:
        """The rule that meets the messages of each topic, as far as there is one."""
        used: dict[str, Any] = dict(self.rules)
        met = {"gradient": used.get("aggregator"), "parameters": getattr(used.get("agreement"), "rule", None)}
        if self.task.normalize:
            met["statistics"] = met["gradient"]
        return {topic: rule for topic, rule in met.items() if rule is not None}

    @property
    def inboxes(self) -> list[tuple[int, int]]:
        """The (n, f) of the inboxes that rules will meet, each once, widest first."""
        if self.algorithm.needs == "server":
            mask = self.members.parted(self.algorithm.groups)[1]
            return sorted({(n, self.members.bound(n)) for n in mask.sum(1).tolist()}, reverse=True)
        pairs = {(len(box), self.members.bound(len(box))) for box in self.members.inboxes}
        return sorted(pairs, reverse=True)

    @property
    def contraction_bound(self) -> float | None:
        """What one exchange of the agreement must leave of the honest spread; None where nothing is known to hold.

        Bounds are about agents that all hear each other, and fewer liars than each allows for.
        """
        complete = all(len(box) == self.agents for box in self.members.inboxes)
        f = self.members.bound(self.agents)
        return self.agreement.contraction(self.agents, f) if complete and self.byzantine <= f else None

    @cached_property
    def diagnostics(self) -> dict[str, float | int | None]:
        """How hard the seats are: what the graph and the placement leave of the guarantees."""
        return dict(cheap(self.members))

    def notes(self) -> list[str]:
        """What a reader of the result should know: one line each, with the numbers."""
        lines = []
        if self.byzantine and (said := self.attack.check(self.agents, self.byzantine)):
            lines.append(said)
        for kind, rule in self.rules:
            short = [(n, f) for n, f in self.inboxes if not rule.guarantee(n, f)]
            if short:
                n, f = short[0]
                lines.append(
                    f"{kind} {registry.name_of(rule)!r} has no guarantee for n={n}, f={f}: it needs {rule.requires}"
                )
        lines += self.without_effect()
        if self.algorithm.server_samples:
            lines.append(
                f"{registry.name_of(self.algorithm)}: the trusted server has an environment of its own, and its "
                "episodes count like an agent's"
            )
        found, honest = self.diagnostics, self.agents - self.byzantine
        share, pieces = found["connected_share"], found["honest_components"]
        if self.algorithm.needs == "peers" and (found["beyond_bound"] or pieces != 1 or (share or 1.0) < 1.0):
            odds = "" if share is None else f"; it stays whole in {share:.1%} of placements"
            lines.append(
                f"on this graph no guarantee covers f={self.byzantine}: {found['beyond_bound']} of {honest} honest "
                f"agents hear more liars than they allow for, and the honest graph is in {pieces} "
                f"piece{'' if pieces == 1 else 's'} here{odds}; try --topology complete"
            )
        return lines

    def without_effect(self) -> list[str]:
        """Return a line for each choice of the user that has no effect on the algorithm.

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
        topics = [topic for kind, topic in (("aggregator", "gradient"), ("agreement", "parameters")) if kind in used]
        lies = self.byzantine and "messages" in self.attack.threat.surface
        if lies and topics and not any(self.attack.speaks(topic) for topic in topics):
            lines.append(
                f"attack {registry.name_of(self.attack)!r} has no lies about {topics[0]}, which is all that agents of "
                f"{name} exchange: try -p attack.on={topics[0]}"
            )
        return lines

    def describe(self) -> dict[str, Any]:
        """The experiment as data; `from_description` is its inverse."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: registry.describe(v) if isinstance(v, Component) else v for k, v in values.items()}

    @classmethod
    def from_description(cls, data: Mapping[str, Any]) -> Experiment:
        """The experiment that `describe` described, checked as if it were new."""
        known = {f.name for f in fields(cls)}
        if not isinstance(data, Mapping) or set(data) != known:
            raise InvalidParameter(f"an experiment has the keys {', '.join(sorted(known))}")
        options: dict[str, Any] = {
            registry.FLAGS.get(k, k): registry.from_description(k, v) if k in registry.KINDS else v
            for k, v in data.items()
        }
        return cls.create(**options)

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits that name the experiment: any change of a field changes them."""
        return hash_of(self.describe())


def _asked(agreement: Agreement) -> frozenset[str]:
    """What the rule inside an agreement asks for, if there is one."""
    return getattr(getattr(agreement, "rule", None), "asks", frozenset())
