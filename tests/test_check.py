"""`byzbench check` on components of every kind, and the one line on a broken plug-in of `check` and of `run`."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from byzbench import cli, registry
from byzbench.cli.check import report_checks
from byzbench.testing import attacks, rules
from byzbench.testing.interfaces import takes_the_arguments_of_its_kind

CHECKOUT = Path(__file__).resolve().parents[1]

HEAD = '''"""A plug-in."""
from __future__ import annotations
from dataclasses import dataclass
from typing import ClassVar
import networkx as nx
import numpy as np
import torch
from gymnasium.spaces import Discrete
from torch import nn
from byzbench.core import (
    Aggregator, Agreement, AgreementReport, Algorithm, ByzantineMessages, Channel, Coin, MessageAttack,
    ModulePolicyFamily, Placement, Scenario, Schedule, RuleOutput, Task, ThreatModel, Topology,
)
from byzbench.rl.gradients import gpomdp

'''
HALF = '''
@dataclass(frozen=True)
class Half(MessageAttack):
    """Send half of the honest vector."""
    factor: float = 0.5

    @property
    def threat(self):
        return ThreatModel(knowledge=frozenset({"own"}))

    def craft_messages(self, context, memory, rng):
        return ByzantineMessages(self.factor * context.own), memory
'''
NOSY = HALF.replace("self.factor * context.own", "0 * context.own + context.honest[:1]")
CENTRE = '''
@dataclass(frozen=True)
class Centre(Aggregator):
    """Average the vectors."""

    def aggregate(self, x, f, context):
        valid = context.mask_of(x).unsqueeze(-1).to(x.dtype)
        return RuleOutput((x * valid).sum(-2) / valid.sum(-2), None, {})
'''
MIDDLE = '''
@dataclass(frozen=True)
class Middle(Aggregator):
    """Return the median of each coordinate."""

    def aggregate(self, x, f, context):
        rows = x.masked_fill(~context.mask_of(x).unsqueeze(-1), torch.nan)
        return RuleOutput((rows.nanmedian(-2).values - (-rows).nanmedian(-2).values) / 2, None, {})
'''
LATTICE = '''
@dataclass(frozen=True)
class Lattice(Topology):
    """Connect each agent to the next two."""

    def __call__(self, agents, round, rng):
        graph = nx.empty_graph(agents)
        graph.add_edges_from((a, (a + step) % agents) for a in range(agents) for step in (1, 2) if step < agents)
        return graph
'''
WALK = '''
class Walks:
    """Walks on a line, with one row for each episode."""

    def __init__(self, count):
        self.count = count

    def reset(self, generators):
        self.x, self.t = np.concatenate([rng.uniform(-1, 1, self.count) for rng in generators]), 0
        return self.observe()

    def observe(self):
        return np.stack([self.x, np.full_like(self.x, self.t / 20)], 1).astype(np.float32)

    def step(self, actions):
        self.x, self.t = self.x + 0.4 * actions - 0.2, self.t + 1
        ends = np.full(len(self.x), self.t >= 20)
        return self.observe(), -np.abs(self.x), np.abs(self.x) > 2, ends


@dataclass(frozen=True)
class Walk(Task):
    """Stay near the origin of a line."""

    observation_size: ClassVar = 2
    action_space: ClassVar = Discrete(2)
    horizon: ClassVar = 20
    discount: ClassVar = 0.99
    reference: ClassVar = {"random": -20.0, "solved": -4.0}

    def make(self, agents, count):
        return Walks(count)
'''
AVERAGED = '''
@dataclass(frozen=True)
class Averaged(Algorithm):
    """Step along the aggregated gradient, then agree on the parameters."""

    N: int = 4
    lr: float = 0.01
    defaults: ClassVar = {"topology": "complete", "aggregator": "median", "agreement": "none"}

    def start(self, fed):
        return {"theta": fed.theta0}

    async def round(self, fed, state):
        batch = fed.sample(state["theta"], self.N)
        gradient = gpomdp(fed.policy, state["theta"], batch, fed.discount)
        direction, state = fed.aggregate(await fed.exchange("gradient", gradient), state)
        theta, state = await fed.agree(state["theta"] + self.lr * direction, state)
        return {**state, "theta": theta}, {}
'''
ONCE = '''
@dataclass(frozen=True)
class Once(Agreement):
    """Average the vectors of an inbox once."""

    async def agree(self, fed, theta, state):
        inbox = await fed.exchange("parameters", theta)
        width = fed.width(inbox)
        theta = (inbox.base[inbox.senders] * inbox.mask.unsqueeze(-1)).sum(1) / inbox.n.unsqueeze(1)
        return theta.to(inbox.base), AgreementReport(torch.ones(len(theta)).long(), width, width), state
'''
LAST = '''
@dataclass(frozen=True)
class Last(Placement):
    """Select the agents with the highest numbers."""

    def __call__(self, graph, f, rng):
        agents = len(graph) - ("server" in graph.graph)
        return list(range(agents - f, agents))
'''
ROUNDED = '''
@dataclass(frozen=True)
class Rounded(Channel):
    """Round values to eighths."""

    def encode(self, x, memory, rng):
        return (8 * x).round() / 8, memory
'''
CLOCK = '''
@dataclass(frozen=True)
class Clock(Coin):
    """Give all agents the same draw."""

    def __call__(self, draw, agents, rng):
        return torch.full((agents,), draw(rng), dtype=torch.float64)
'''
GATED = '''
@dataclass(frozen=True)
class Gated(ModulePolicyFamily):
    """Networks with a gated hidden layer."""

    width: int = 4

    def module(self, inputs, outputs):
        return nn.Sequential(nn.Linear(inputs, 2 * self.width), nn.GLU(), nn.Linear(self.width, outputs))
'''
MUTED = '''
@dataclass(frozen=True)
class Muted(Scenario):
    """Agents that receive no reward in a share of their steps."""

    share: float = 0.5

    def transform_rewards(self, state, batch):
        _, num_steps, num_episodes = batch.rewards.shape
        shape = (batch.horizon, num_episodes)
        drawn = torch.stack([torch.from_numpy(batch.generator(agent).random(shape)) for agent in batch.agents])
        return batch.rewards * (drawn[:, :num_steps] >= self.share)
'''
PACED = '''
@dataclass(frozen=True)
class Paced(Schedule):
    """Agents whose batches all take the same time."""

    speed: str = "equal"
    seconds: float = 2.0

    def batch_seconds(self, steps, speed, rng):
        return self.seconds / float(speed)
'''
PLUGINS = {
    "algorithm": AVERAGED,
    "attack": HALF,
    "topology": LATTICE,
    "task": WALK,
    "aggregator": MIDDLE,
    "agreement": ONCE,
    "placement": LAST,
    "channel": ROUNDED,
    "coin": CLOCK,
    "policy": GATED,
    "scenario": MUTED,
    "schedule": PACED,
}
FOREIGN = {
    "algorithm": "Averaged",
    "attack": "Half",
    "topology": "Lattice",
    "task": "Walk",
    "aggregator": "Middle",
    "policy": "Gated",
    "scenario": "Muted",
}
"""The components of a distribution, which are checked by name."""

ON_SHARED_BASES = '''
from byzbench.core import LinearRule
from byzbench.core.gossip import Momentum, StepThenGossip
from byzbench.core.gossip_attack import GossipAttack
from byzbench.core.gymnasium_task import GymnasiumTask
from byzbench.geometry.graph_families import draw_connected


@dataclass(frozen=True)
class Drifting(StepThenGossip):
    """Step, and replace the parameters by the neighbours' medoid."""

    defaults: ClassVar = {"topology": "complete", "aggregator": "mean", "agreement": "gossip+medoid"}
    momentum: Momentum = 0.5


@dataclass(frozen=True)
class Mirror(GossipAttack):
    """Send each honest agent its own vector with the opposite sign."""

    def craft_vectors(self, context):
        return -context.honest


@dataclass(frozen=True)
class Sparse(Topology):
    """Draw each edge with probability one half."""

    def __call__(self, agents, round, rng):
        return draw_connected(lambda seed: nx.gnp_random_graph(agents, 0.5, seed), rng, "sparse", "give more agents")


@dataclass(frozen=True)
class Pole(GymnasiumTask):
    """Balance a pole."""

    gymnasium_id: ClassVar = "CartPole-v1"
    discount: ClassVar = 0.99
    reference: ClassVar = {"random": 22.0, "solved": 475.0}
    constants: ClassVar = ("gravity", "length")


@dataclass(frozen=True)
class Medoid(LinearRule):
    """Return the vector whose ball around its n - f nearest vectors has the least radius."""

    requires: ClassVar = "n > 2f"

    def defined(self, n, f):
        return n > 2 * f

    def compute_weights(self, cloud, f, context):
        n = cloud.mask.sum(-1)
        radii = cloud.distances.masked_fill(~cloud.mask.unsqueeze(-2), torch.inf).sort(-1).values
        index = (n - f - 1).clamp(min=0)[..., None, None].expand(*radii.shape[:-1], 1)
        selected = radii.gather(-1, index).squeeze(-1).masked_fill(~cloud.mask, torch.inf).argmin(-1)
        return torch.nn.functional.one_hot(selected, cloud.mask.shape[-1]).double(), {}
'''
"""Components of a distribution that derive from bases which components of byzbench share."""
DISTRIBUTIONS = {
    "bases of kinds": (AVERAGED + HALF + LATTICE + WALK + MIDDLE + GATED + MUTED, FOREIGN),
    "shared bases": (
        ON_SHARED_BASES,
        {"algorithm": "Drifting", "attack": "Mirror", "topology": "Sparse", "task": "Pole", "aggregator": "Medoid"},
    ),
}

BUILT_IN = [
    ("algorithm", "ensemble_frl"),
    ("algorithm", "page_pg"),
    ("attack", "sign_flip"),
    ("attack", "alie:z=1.5"),
    ("topology", "ring(directed=True)"),
    ("topology", "star"),
    ("task", "cartpole"),
    ("task", "gymnasium:FrozenLake-v1,steps=20,gamma=0.9,random=0.0,solved=0.7"),
    ("aggregator", "median"),
    ("aggregator", "krum"),
    ("agreement", "none"),
    ("agreement", "rb_tm"),
    ("placement", "degree"),
    ("placement", "attach"),
    ("channel", "loss(rate=0.2)+delay"),
    ("channel", "top_k"),
    ("coin", "biased"),
    ("coin", "split"),
    ("schedule", "synchronous"),
    ("schedule", "asynchronous(speed=two_speed,latency=0.1)"),
    ("policy", "mlp:activation=relu"),
    ("policy", "tabular"),
    ("scenario", "heterogeneous(of=rewards)+reward_noise(law=student)"),
    ("scenario", "churn(join=0.5, leave=0.5)"),
    ("scenario", "nonstationary(at=0.4, physics='m=2', rewards=0.5, drift=0.2)"),
]


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def rows(self) -> dict[str, tuple[str, str]]:
        """The table by check: result and reason."""
        rows = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in self.out.splitlines() if line.startswith("| ")]
        assert rows[0] == ["check", "result", "reason"]
        return {name: (result, reason) for name, result, reason in rows[1:]}

    @property
    def failures(self) -> dict[str, str]:
        """The reasons of the checks that failed."""
        return {name: reason for name, (result, reason) in self.rows.items() if result == "failed"}


Command = Callable[..., Outcome]
Write = Callable[[str], str]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """A command within this process: `check` too, which otherwise starts one."""
    monkeypatch.setattr("byzbench.cli.check._in_child", report_checks)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # the command replaces it

    def run(*words: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["byzbench", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return Outcome(int(end.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def check(command: Command) -> Command:
    return lambda *words: command("check", *words)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(source: str) -> str:
        path = tmp_path / "mine.py"
        path.write_text(HEAD + source)
        return str(path)

    return write


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Put a distribution `foreign` with one module and entry points on the path, as pip leaves it."""

    def forget() -> None:
        registry.origins.cache_clear()
        registry._import.cache_clear()
        sys.modules.pop("foreign", None)

    def install(source: str, **names: str) -> None:
        """Install components: the class of each kind, whose name is that of the class in lower case."""
        (tmp_path / "foreign.py").write_text(HEAD + source)
        info = tmp_path / "foreign-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign\nVersion: 1.0\n")
        groups = [f"[byzbench.{registry.KINDS[k]}]\n{cls.lower()} = foreign:{cls}\n" for k, cls in names.items()]
        (info / "entry_points.txt").write_text("\n".join(groups))
        monkeypatch.syspath_prepend(tmp_path)
        forget()

    yield install
    monkeypatch.undo()
    forget()


def test_a_passing_attack_is_reported_check_by_check(check: Command, write: Write) -> None:
    path = write(HALF)
    done = check(path)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"# attack Half\n\n`{path}`: all checks passed.\n\n| check | result | reason |\n|---|")
    assert [*done.rows] == [takes_the_arguments_of_its_kind.__name__, *(c.__name__ for c in attacks.CHECKS)]
    assert {result for result, _ in done.rows.values()} == {"passed"}
    assert all(reason.endswith((".", ":")) for _, reason in done.rows.values())


def test_a_failing_attack_is_reported_check_by_check(check: Command, write: Write) -> None:
    done = check(write(NOSY))
    assert done.code == 1
    result, reason = done.rows[attacks.it_reads_only_what_it_declares.__name__]
    assert result == "failed"
    assert re.match(r"an attack read \w+\.honest; its threat.* declares own \(GameCase\(seed=0", reason)
    assert "checks failed" in done.out
    result, reason = done.rows[attacks.the_same_game_is_played_the_same.__name__]
    assert reason.startswith("UndeclaredKnowledge: ")
    assert done.rows[attacks.without_byzantine_agents_it_is_inert.__name__][0] == "passed"


def test_an_exempt_check_is_not_counted(check: Command) -> None:
    finite = attacks.messages_are_finite.__name__
    done = check("non_finite", "--exempt", finite)
    assert done.code == 0
    assert done.rows[finite][0] == "exempt"
    assert done.rows[finite][1].startswith("a vector is not finite (")


def test_aggregators_have_their_own_checks(check: Command, write: Write) -> None:
    done = check(write(CENTRE))
    assert done.code == 1
    assert "# aggregator Centre" in done.out
    assert [*done.rows][1:] == [c.__name__ for c in rules.CHECKS]
    assert set(done.failures) == {
        rules.outliers_move_it_by_no_more_than_the_honest_spread.__name__,
        rules.far_outliers_do_less_to_it_than_to_the_mean.__name__,
        rules.huge_outliers_cost_no_precision.__name__,
    }
    assert done.rows[rules.huge_outliers_cost_no_precision.__name__][1].startswith(
        "Check that Byzantine vectors at 1e30"
    )


def test_every_kind_is_tried() -> None:
    assert {kind for kind, _ in BUILT_IN} == set(PLUGINS) == set(registry.KINDS)


@pytest.mark.parametrize("kind, name", BUILT_IN)
def test_built_in_components_of_every_kind_pass(check: Command, kind: str, name: str) -> None:
    done = check(name, "--kind", kind)
    assert done.code == 0, done.out
    assert done.out.startswith(f"# {kind} ")
    assert f"`{name}`" in done.out


@pytest.mark.parametrize("kind", registry.KINDS)
def test_the_template_of_every_kind_passes(check: Command, kind: str) -> None:
    done = check(str(CHECKOUT / "byzbench" / "cli" / "templates" / f"{kind}.py"))
    assert (done.code, done.err) == (0, ""), done.out
    assert done.out.startswith(f"# {kind} ")


def test_the_example_passes(check: Command) -> None:
    assert check(str(CHECKOUT / "examples" / "byzbench-spiral-attack" / "byzbench_spiral.py")).code == 0


SIGNATURE = "aggregate must take (x, f, context); too many positional arguments"
BROKEN = [
    (MIDDLE.replace("x, f, context", "x, f"), SIGNATURE),
    (MIDDLE.replace("(-2)", "(-1)"), "a value of shape [13], expected [4]"),
    (
        MIDDLE.replace("RuleOutput(", "(").replace(", None, {})", ")"),
        "aggregate returned a Tensor, expected RuleOutput(value, weights, state)",
    ),
    (
        MIDDLE.replace("/ 2", "/ (1 // 0)"),
        "ZeroDivisionError: integer division or modulo by zero (mine.py, line N, in aggregate)",
    ),
    (
        HALF.replace("* context.own)", "* context.own[:, :2])"),
        "craft_messages returned vectors of shape [1, 2], expected [1, 386] (a row for each Byzantine agent)",
    ),
    (HALF.replace("context, memory, rng", "context, rng"), "craft_messages must take (context, memory, rng); too many"),
    (HALF.replace(", memory\n", "\n"), "craft_messages returned a ByzantineMessages, expected (messages, memory)"),
    (LATTICE.replace("agents, round, rng", "agents"), "__call__ must take (agents, round, rng); too many positional"),
    (LATTICE.replace("return graph", "return nx.relabel_nodes(graph, lambda a: a + 1)"), "1 agents the nodes are [1]"),
    (
        LATTICE.replace("nx.empty_graph(agents)", "nx.empty_graph(agents + 1)"),
        "for 1 agents it has the further nodes [1]",
    ),
    (WALK.replace(", ends\n", "\n"), "step must return (observations, rewards, terminated, truncated)"),
    (WALK.replace(".astype(np.float32)", ""), "reset returned observations float64 [6, 2], expected float32 [6, 2]"),
    (WALK.replace("    discount: ClassVar = 0.99\n", ""), "discount is None, not a number in (0, 1]"),
    (ONCE.replace("async def", "def").replace("await ", ""), "agree must be declared with `async def`"),
    (
        ONCE.replace("return theta.to", "return theta[:2].to"),
        "float32 of shape [2, 20], expected torch.float32 of shape [13, 20]",
    ),
    (LAST.replace("agents - f", "agents - f - 1"), "f=0: it selected [8], not 0 distinct agents"),
    (LAST.replace("graph, f, rng", "graph, f"), "__call__ must take (graph, f, rng); too many positional arguments"),
    (
        ROUNDED.replace("/ 8,", "/ 8.0 + x.double(),"),
        "encode returned torch.float64 of shape [5, 40], expected float32",
    ),
    (ROUNDED.replace(", memory\n", "\n"), "encode returned a Tensor, expected (vectors, memory)"),
    (CLOCK.replace("torch.full((agents,), draw(rng), dtype=torch.float64)", "draw(rng)"), "a float, not a tensor"),
    (CLOCK.replace(", dtype=torch.float64", ""), "torch.float32 of shape [1], expected float64 [1]"),
    (
        AVERAGED.replace('"theta": theta}', '"weights": theta}').replace("**state, ", ""),
        "round returned a state without theta",
    ),
    (AVERAGED.replace("}, {}\n", "}\n"), "round returned a dict, expected (state, metrics)"),
    (
        GATED.replace("nn.GLU()", "nn.GLU(), nn.BatchNorm1d(self.width)"),
        "it supports none of the tasks: module Sequential has buffers (2.running_mean, 2.running_var, ",
    ),
    (GATED.replace("self.width, outputs", "self.width, 7"), "maps observations [3, 12] to [3, 7]; expected [3, 5]"),
    (GATED.replace("inputs, outputs):", "inputs):"), "module must take (inputs, outputs); too many positional"),
    (AVERAGED.replace("async def", "def").replace("await ", ""), "round must be declared with `async def`"),
]


@pytest.mark.parametrize("source, reason", BROKEN, ids=[f"{reason[:40]}" for _, reason in BROKEN])
def test_a_broken_plug_in_has_one_clear_reason(check: Command, write: Write, source: str, reason: str) -> None:
    done = check(write(source))
    assert done.code == 1
    (line,) = done.failures.values()
    assert reason in re.sub(r"[^ (]+mine.py, line \d+", "mine.py, line N", line), line
    assert "skipped" in done.out


@pytest.mark.parametrize(
    "words, message",
    [
        ("nowhere.py", "there is no file nowhere.py"),
        ("no/where", "there is no file no/where"),
        ("alei", "'alei' is not a file, and not a component of any kind. Did you mean 'alie'"),
        ("krum --kind attack", "'krum' is not a file, and not a component of kind attack."),
        ("mean", "'mean' is the name of several components: add --kind aggregator or --kind agreement"),
        ("alie:z=0", "z=0: "),
        ("alie --kind topology", "not a component of kind topology"),
        ("attacks/alie.py --kind aggregator", "attacks/alie.py: a file must define one component of kind aggregator; "),
        ("alie --kind topologie", "unknown kind 'topologie'. Did you mean "),
        ("", "Missing argument"),
    ],
)
def test_a_mistake_is_one_line(check: Command, words: str, message: str) -> None:
    done = check(*words.split())
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.startswith("byzbench: error: ")
    assert done.err.count("\n") == 1


def test_an_unknown_check_is_one_line(check: Command) -> None:
    name = attacks.messages_are_finite.__name__
    done = check("alie", "--exempt", name[:-1])
    assert (done.code, done.out) == (2, "")
    assert f"no check {name[:-1]!r}. Did you mean {name!r}? Checks of kind attack: " in done.err


@pytest.mark.parametrize(
    "source, message",
    [
        ("x = 1", "a file must define one component; this one defines none"),
        (HALF + CENTRE, "this one defines Half (attack), Centre (aggregator)"),
        ("class _Hidden(MessageAttack): pass", "this one defines none"),
        ("class Plain(MessageAttack): pass", "Plain is not a dataclass: write @dataclass(frozen=True) above it"),
        ("@dataclass(frozen=True)\nclass Empty(Aggregator): pass", "Empty does not define aggregate"),
        (HALF.replace("float = 0.5", "float"), "Half cannot be built with its defaults: "),
        ("raise ValueError('no\\nluck')", "cannot be imported: ValueError: no luck"),
        ("raise SystemExit('bye')", "cannot be imported: SystemExit: bye"),
        ("def (", "cannot be imported: SyntaxError: "),
    ],
)
def test_a_file_without_one_component_is_one_line(check: Command, write: Write, source: str, message: str) -> None:
    done = check(write(source))
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1


def test_the_kind_chooses_among_the_components_of_a_file(check: Command, write: Write) -> None:
    done = check(write(MIDDLE + HALF), "--kind", "attack")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("# attack Half\n")


ENDING = ["import os\nos._exit(0)", HALF.replace("return ByzantineMessages", "import os; os._exit(0); Byzantine")]


@pytest.mark.slow
@pytest.mark.parametrize("source", [*ENDING, HALF], ids=["on import", "in a method", "never"])
def test_a_component_that_ends_its_process_does_not_pass(write: Write, source: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "byzbench", "check", write(source)], cwd=CHECKOUT, capture_output=True, text=True
    )
    if source == HALF:
        assert (done.returncode, done.stderr) == (0, "")
        assert ": all checks passed.\n" in done.stdout
    else:
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert "mine.py ended the process in which it was checked, before the report was complete" in done.stderr


SMALL = ["--agents", "5", "--byzantine", "1", "--trajectories", "8", "--evaluations", "1", "--json", "--out"]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_components_of_a_foreign_distribution_pass_and_run(
    install: Callable[..., None], command: Command, tmp_path: Path, distribution: str
) -> None:
    source, names = DISTRIBUTIONS[distribution]
    assert not re.search(r"\b_[a-z]", HEAD + source), "it uses public names only"
    install(source, **names)
    for kind, name in names.items():
        done = command("check", name.lower(), "--kind", kind)
        assert (done.code, done.err) == (0, ""), done.out
    options = [w for k, name in names.items() for w in (f"--{registry.FLAGS[k]}", name.lower())]
    done = command("run", *options, *SMALL, str(tmp_path / "runs"))
    assert (done.code, done.err) == (0, "")
    assert '"verdict"' in done.out


FAULTS = {
    "signature": ("aggregator", "Middle", BROKEN[0][0], f"aggregator middle: {SIGNATURE}"),
    "tuple": ("aggregator", "Middle", BROKEN[2][0], f"aggregator middle: {BROKEN[2][1]}"),
    "mistake": ("aggregator", "Middle", BROKEN[3][0], "aggregator middle: ZeroDivisionError: "),
    "attack": ("attack", "Half", BROKEN[5][0], f"attack half: {BROKEN[5][1]}"),
    "attack's tuple": ("attack", "Half", BROKEN[6][0], f"attack half: {BROKEN[6][1]}"),
    "topology": ("topology", "Lattice", BROKEN[7][0], f"topology lattice: {BROKEN[7][1]}"),
    "task": ("task", "Walk", WALK.replace(", ends\n", "\n"), "env walk: step 1 of an episode returned 3 values, "),
    "task's attribute": ("task", "Walk", WALK.replace("    discount: ClassVar = 0.99\n", ""), "task walk: discount is"),
    "agreement": (
        "agreement",
        "Once",
        ONCE.replace("fed, theta, state", "fed, theta"),
        "agreement once: agree must ",
    ),
    "placement": (
        "placement",
        "Last",
        LAST.replace("graph, f, rng", "graph, f"),
        "placement last: __call__ must take ",
    ),
    "channel": ("channel", "Rounded", ROUNDED.replace(", memory\n", "\n"), "channel rounded: encode returned a Tensor"),
    "coin": (
        "coin",
        "Clock",
        CLOCK.replace("draw, agents, rng", "draw, rng"),
        "coin clock: __call__ must take (draw, ",
    ),
    "algorithm": (
        "algorithm",
        "Averaged",
        AVERAGED.replace("}, {}\n", "}\n"),
        "algorithm averaged: round returned a dict",
    ),
}


SELDOM = {"tuple", "attack's tuple", "task's attribute", "placement", "agreement"}
"""Faults that differ little from the others, and are tried with the slow tests."""


@pytest.mark.parametrize(
    "fault", [pytest.param(fault, marks=pytest.mark.slow if fault in SELDOM else ()) for fault in FAULTS]
)
def test_a_run_with_a_broken_plug_in_ends_in_one_line(
    install: Callable[..., None], command: Command, tmp_path: Path, fault: str
) -> None:
    kind, name, source, message = FAULTS[fault]
    install(source, **{kind: name})
    done = command("run", f"--{registry.FLAGS[kind]}", name.lower(), *SMALL, str(tmp_path / "runs"))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"byzbench: error: {message}"), done.err
    assert done.err.count("\n") == 1
    assert fault != "mistake" or re.search(r"foreign\.py, line \d+, in aggregate\)$", done.err.strip())
