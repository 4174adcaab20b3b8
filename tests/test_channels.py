"""Channels: loss, delay, compression, relays, and their traffic."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch

import byzbench
from byzbench.channels.byte_budget import ByteBudget
from byzbench.channels.delay import Delay
from byzbench.channels.quantise import Quantise
from byzbench.channels.random_k import RandomK
from byzbench.channels.sign import Sign
from byzbench.channels.top_k import TopK
from byzbench.core import Channel, MessageFormat
from byzbench.core.inbox import Inbox
from byzbench.errors import InvalidParameter, Undefined
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import federate, lockstep
from byzbench.geometry.graphs import shortest_disjoint
from byzbench.registry import make, origins
from byzbench.testing import channels

CODECS = [TopK(0.2), RandomK(0.2), Quantise(), Quantise(norm="euclidean"), Sign(), ByteBudget(80)]
ON_ALL = pytest.mark.parametrize("codec", CODECS, ids=str)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def vectors(rows: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(rng(seed).standard_normal((rows, d)).astype(np.float32))


@pytest.mark.parametrize("check", channels.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("channel", [*origins("channel"), *CODECS, "loss(rate=0.2)+delay(mean=0.5)", "top_k+quantise"])
def test_every_channel_passes_every_check(channel: Any, check: channels.Check) -> None:
    for case in channels.CASES:
        check(make("channel", channel), case)  # type: ignore[arg-type]


@ON_ALL
def test_what_a_code_leaves_out_comes_later(codec: Any) -> None:
    """Sums of messages follow sums of vectors: what is missing is what the sender still holds, and is bounded."""
    memory: dict[str, torch.Tensor] = {}
    total, received, x = torch.zeros(3, 40), torch.zeros(3, 40), vectors(3, 40)
    for t in range(60):
        decoded, memory = codec.encode(x, memory, rng(t))
        total, received = total + x, received + decoded
        torch.testing.assert_close(total - received, memory["left"], atol=2e-3, rtol=0)
    assert (total - received).norm() < 0.25 * total.norm()


@pytest.mark.parametrize("codec", [RandomK(0.2, feedback=False), Quantise(3, feedback=False)], ids=str)
def test_codes_without_feedback_are_right_on_average(codec: Any) -> None:
    x = vectors(2, 30)
    mean = torch.stack([codec.encode(x, {}, rng(t))[0] for t in range(4000)]).mean(0)
    torch.testing.assert_close(mean, x, atol=0.15, rtol=0)
    assert codec.encode(x, {}, rng())[1] == {}


def test_codes_by_hand() -> None:
    x = torch.tensor([[3.0, -5.0, 1.0, 0.0], [2.0, 2.0, -2.0, 1.0]])
    assert TopK(0.5).compress(x, rng()).tolist() == [[3, -5, 0, 0], [2, 2, 0, 0]]
    assert Sign().compress(x, rng()).tolist() == [[2.25, -2.25, 2.25, 2.25], [1.75, 1.75, -1.75, 1.75]]
    assert ByteBudget(9).compress(x, rng()).tolist() == [[3, -5, 0, 0], [2, 2, 0, 0]]
    levels = Quantise(2).compress(x, rng())  # one level: 0 or the largest
    assert set(levels[0].abs().tolist()) <= {0.0, 5.0}
    assert levels[0, 1] == -5


@pytest.mark.parametrize(
    ("channel", "size"),
    [
        ("perfect", 4 * 386),
        ("loss", 4 * 386),
        ("top_k(share=0.1)", -(-39 * (32 + 9) // 8)),
        ("random_k(share=0.1)", 39 * 4 + 8),
        ("quantise(bits=4)", 386 // 2 + 4),
        ("sign", -(-386 // 8) + 4),
        ("byte_budget(bytes=256)", -(-49 * 41 // 8)),
        ("byte_budget(bytes=5000)", 4 * 386),
        ("top_k(share=0.1)+quantise(bits=4)", -(-39 * (4 + 9) // 8) + 4),
    ],
)
def test_what_a_message_costs(channel: str, size: int) -> None:
    form, built = MessageFormat(386), make("channel", channel)
    assert isinstance(built, Channel)
    for part in built.parts:
        form = part.pack(form, 386)
    assert form.bytes == size
    assert "budget" not in channel or form.bytes <= max(256, size)


@pytest.mark.parametrize("law", ["geometric", "heavy_tailed"])
def test_delays_have_their_law(law: Any) -> None:
    late = Delay(2.0, law, cap=1000).draw_delays(400, 500, rng())
    if law == "geometric":
        assert late.mean() == pytest.approx(2.0, rel=0.01)
        assert [(late == k).mean() for k in range(4)] == pytest.approx([(2 / 3) ** k / 3 for k in range(4)], abs=0.005)
    else:
        # Without a variance a mean of samples says little, so what is compared is the body; the tail is fat.
        beyond = [(np.where(late < 0, 1001, late) >= k).mean() for k in (1, 4, 16, 64)]
        ratio = [a / b for a, b in itertools.pairwise(beyond)]
        assert ratio[2] == pytest.approx(8, rel=0.3)
        assert beyond[3] > 100 * (2 / 3) ** 64
    assert (Delay(0.0, law).draw_delays(5, 5, rng()) == 0).all()
    assert (Delay(3.0, "constant").draw_delays(5, 5, rng()) == 3).all()
    assert (Delay(30.0, "constant", cap=20).draw_delays(5, 5, rng()) == -1).all()


def test_heavy_tails_have_the_mean_they_are_asked_for() -> None:
    from byzbench.channels.delay import _scale

    for mean in (0.25, 2.0, 10.0):
        k = np.arange(1, 4_000_000)
        c = _scale(mean)
        tail = 2 * c**1.5 * (c + k[-1] + 0.5) ** -0.5  # of the integral beyond
        assert ((1 + k / c) ** -1.5).sum() + tail == pytest.approx(mean, rel=1e-4)


@dataclass(frozen=True)
class Timetable(Channel):
    """By how many rounds messages of each round are late, for all edges alike."""

    by_round: tuple[int, ...] = ()

    def draw_delays(self, receivers: int, senders: int, rng: np.random.Generator) -> np.ndarray:
        return np.full((receivers, senders), self.by_round[COUNTED.pop()])

    @property
    def max_delay(self) -> int:
        return 9


COUNTED: list[int] = []


def rounds(channel: Channel, count: int, restart: int = -1, **options: Any) -> list[Inbox]:
    """Return the inboxes of so many rounds, in the t-th of which all send t; the state is saved and loaded once."""
    todo = Experiment.create(agents=5, byzantine=0, channel=channel, **options)
    federation, _ = federate(todo)
    received = []
    for t in range(count):
        if t == restart:
            saved = {name: part.clone() for name, part in federation.network.state_dict().items()}
            federation, _ = federate(todo)
            federation.network.load_state_dict(saved)
        COUNTED.append(t)
        federation.begin(t, 0.0)
        received.append(lockstep(federation.exchange("gradient", torch.full((5, 8), float(t)))))
    return received


@pytest.mark.parametrize("restart", [-1, 2, 3])
def test_late_messages_arrive_later_with_their_age(restart: int) -> None:
    """Round 0 is two late, 1 one late, so both come in 2, where what was said in 2 itself is lost: the newer counts."""
    received = rounds(Timetable(by_round=(2, 1, -1, 0, 1, 0)), 6, restart)
    others = ~torch.eye(5, dtype=torch.bool)
    received_values = [
        None if not (i.mask & others).any() else i.base[i.senders][others][:, 0].unique().tolist() for i in received
    ]
    assert received_values == [None, None, [1], [3], None, [5]]
    assert [i.age[others].unique().tolist() if i.age is not None else None for i in received][2] == [1]
    for t, inbox in enumerate(received):
        own = inbox.base[inbox.senders[torch.arange(5), inbox.own]]
        assert (own == t).all(), "what an agent says to itself is neither late nor lost"
        assert torch.equal(inbox.mask.diagonal(), torch.ones(5, dtype=torch.bool))
        assert torch.equal(inbox.f, torch.zeros(5).long())


def test_lost_messages_are_counted_and_paid_for() -> None:
    todo = Experiment.create(agents=20, byzantine=0, channel="loss(rate=0.3)")
    federation, _ = federate(todo)
    federation.begin(0, 0.0)
    inbox = lockstep(federation.exchange("gradient", vectors(20, 8)))
    lost = int((~inbox.mask).sum())
    assert lost == federation.counters.num_silent == pytest.approx(0.3 * 380, abs=40)
    assert federation.counters.messages == 380
    assert federation.counters.bytes == 380 * 32
    received = inbox.base[inbox.senders][inbox.mask]
    assert torch.equal(received, vectors(20, 8)[inbox.authors[inbox.mask]]), "who hears a message hears all of it"


def test_reliable_broadcast_loses_nothing() -> None:
    federation, _ = federate(Experiment.create(agents=5, byzantine=0, channel="loss(rate=1)"))
    federation.begin(0, 0.0)
    assert lockstep(federation.exchange("parameters", vectors(5, 8), reliable=True)).mask.all()
    assert lockstep(federation.exchange("parameters", vectors(5, 8))).mask.sum() == 5


def test_a_channel_is_for_its_messages_only() -> None:
    federation, _ = federate(Experiment.create(agents=5, byzantine=0, channel="loss(rate=1, on=gradient)"))
    federation.begin(0, 0.0)
    assert lockstep(federation.exchange("parameters", vectors(5, 8))).mask.all()
    assert lockstep(federation.exchange("gradient", vectors(5, 8))).mask.sum() == 5


def test_malformed_messages_have_no_error_feedback() -> None:
    """A sender whose vector was no vector keeps the memory it had, and others theirs."""
    federation, _ = federate(Experiment.create(agents=5, byzantine=0, channel="top_k(share=0.25)"))
    x = vectors(5, 8)
    for t in range(2):
        federation.begin(t, 0.0)
        lockstep(federation.exchange("gradient", x if t == 0 else torch.cat([x[:4], torch.full((1, 8), torch.nan)])))
        left = federation.network.state_dict()["code/gradient/0/0/left"]
        assert left.isfinite().all()
        if t == 0:
            first = left.clone()
    assert torch.equal(left[4], first[4])
    assert not torch.equal(left[:4], first[:4])


SOME = ["loss(rate=0.2)+delay(mean=0.5)", "top_k+loss", "sign", "delay(mean=2.0, law=heavy_tailed)", "quantise(bits=4)"]


SHORT = {"algorithm": {"N": 6, "B": 2}}
ATTACKS = ["large_noise", "non_finite", "silence", "split_brain(alie(z=1.5))"]
SEVERAL = [
    pytest.param(c, a, marks=[] if i % 5 == j else pytest.mark.slow)
    for i, c in enumerate(SOME)
    for j, a in enumerate(ATTACKS)
]


@pytest.mark.parametrize(("channel", "attack"), SEVERAL)
def test_honest_agents_survive_attackers_on_bad_wires(channel: str, attack: str, tmp_path: Any) -> None:
    result = byzbench.run(
        agents=6,
        byzantine=1,
        channel=channel,
        attack=attack,
        trajectories=20,
        preset="paper",
        parameters=SHORT,
        out=tmp_path,
    )
    assert result.disagreement is not None
    assert result.evaluation["evaluation"] is not None
    assert set(result.traffic) == {"gradient", "parameters"}
    assert result.bytes == sum(sent["bytes"] for sent in result.traffic.values())


def test_a_run_that_stops_on_bad_wires_goes_on_with_the_same_bytes(tmp_path: Any) -> None:
    class Stop(Exception):
        pass

    def stop(line: Any) -> None:
        if line["round"] == 4:
            raise Stop

    options: dict[str, Any] = {
        "agents": 6,
        "byzantine": 1,
        "channel": "delay(mean=1.0)+top_k",
        "attack": "split_brain(alie(z=1.5))",
        "trajectories": 20,
        "preset": "paper",
        "parameters": SHORT,
    }
    import byzbench.experiments.runner as runner

    whole = byzbench.run(out=tmp_path / "whole", **options)
    before, runner.SAVE_EVERY = runner.SAVE_EVERY, 0.0
    try:
        with pytest.raises(Stop):
            byzbench.run(out=tmp_path / "parts", callback=stop, **options)
    finally:
        runner.SAVE_EVERY = before
    parts = byzbench.run(out=tmp_path / "parts", **options)
    log: Callable[[Any], bytes] = lambda r: (tmp_path / r.run / "metrics.jsonl").read_bytes()  # noqa: E731
    assert log(whole) == log(parts)
    assert whole.traffic == parts.traffic


FIVE_CONNECTED = "random_regular(degree=6)"


def test_disjoint_paths_of_least_length() -> None:
    """Against the sum of lengths over all choices of paths, on a small graph."""
    graph = nx.circulant_graph(7, [1, 2])
    paths = list(nx.all_simple_paths(graph, 0, 3))
    best: dict[int, int] = {}

    def extend(chosen: list[list[int]], used: set[int], length: int, start: int) -> None:
        best[len(chosen)] = min(best.get(len(chosen), 99), length)
        for i in range(start, len(paths)):
            inner = set(paths[i][1:-1])
            if not inner & used:
                extend([*chosen, paths[i]], used | inner, length + len(paths[i]) - 1, i + 1)

    extend([], set(), 0, 0)
    assert {n: shortest_disjoint(graph, 0, 3, n) for n in (1, 2, 3, 4)} == {n: best[n] for n in (1, 2, 3, 4)}


def test_relays_make_any_graph_complete_at_a_cost() -> None:
    todo = Experiment.create(topology=FIVE_CONNECTED, agents=13, byzantine=2, relay=True)
    federation, _ = federate(todo)
    federation.begin(0, 0.0)
    inbox = lockstep(federation.exchange("gradient", vectors(13, 8)))
    assert inbox.mask.all()
    assert inbox.mask.shape == (13, 13)
    pairs = [(a, b) for a in range(13) for b in range(13) if a != b]
    graph = todo.members.graph
    assert nx.node_connectivity(graph) >= 5
    costs = [1 if graph.has_edge(a, b) else shortest_disjoint(graph, a, b, 5) for a, b in pairs]
    assert federation.counters.messages == sum(costs) > 13 * 12
    assert todo.notes() == [], "guarantees are those of the complete graph"


def test_without_byzantine_agents_a_relayed_run_is_that_of_the_complete_graph(tmp_path: Any) -> None:
    """Every byte of its metrics but those that count messages; and under attack it learns as there."""
    options: dict[str, Any] = {
        "agents": 13,
        "byzantine": 2,
        "trajectories": 12,
        "out": tmp_path,
        "preset": "paper",
        "parameters": SHORT,
    }
    for attack in ("none", "split_brain(alie(z=1.5))"):
        pair = [
            byzbench.run(topology=FIVE_CONNECTED, relay=True, attack=attack, **options),
            byzbench.run(topology="complete", attack=attack, **options),
        ]
        lines = [(tmp_path / str(r.run) / "metrics.jsonl").read_text().splitlines() for r in pair]
        for one, other in zip(*lines, strict=True):
            a, b = json.loads(one), json.loads(other)
            assert a.pop("messages") > b.pop("messages")
            assert a.pop("bytes") > b.pop("bytes")
            assert a == b


def test_relays_are_refused_where_attackers_could_outvote_them() -> None:
    with pytest.raises(Undefined, match=r"vertex connectivity 2f \+ 1 = 7, and Ring of 13 agents has 2"):
        Experiment.create(topology="ring", relay=True).notes()
    with pytest.raises(Undefined, match="for methods that gossip"):
        Experiment.create("byzpg", relay=True)


@pytest.mark.parametrize("bad", ["loss(rate=2)", "top_k(share=0)", "delay(law=never)", "quantise(bits=1)", "loss+krum"])
def test_bad_channels_are_refused_in_a_line(bad: str) -> None:
    with pytest.raises(byzbench.errors.UserError) as caught:
        Experiment.create(channel=bad)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, InvalidParameter | byzbench.errors.UnknownName)


def test_a_coin_that_is_tossed_in_the_open_costs_messages() -> None:
    for coin, messages, size in (("shared", 0, 0), ("biased", 2 * 5 * 4, 5 * 4 * 56)):
        federation, _ = federate(Experiment.create(agents=5, byzantine=1, coin=coin))
        federation.begin(0, 0.0)
        lockstep(federation.common("coin", lambda r: float(r.random())))
        assert (federation.counters.messages, federation.counters.bytes) == (messages, size)


@pytest.mark.parametrize("agents", [5, 13])
def test_communication_is_that_of_the_closed_forms(agents: int) -> None:
    """2 K d by star, K (K - 1) (1 + kappa) d by gossip with kappa exchanges an agreement; echoes and relays on top."""
    k, pairs = agents, agents * (agents - 1)
    for algo, agreement, once in (
        ("byzpg", "none", 0),
        ("decbyzpg", "none", 0),
        ("decbyzpg", "mda", pairs),
        ("decbyzpg", "gossip+mean", pairs),
        ("decbyzpg", "rb_tm", pairs * (1 + 2 * k)),
    ):
        todo = Experiment.create(algo, agents=k, byzantine=1, agreement=agreement, preset="paper", parameters=SHORT)
        federation, _ = federate(todo)
        federation.begin(0, 0.0)
        lockstep(todo.algorithm.round(federation, todo.algorithm.start(federation)))
        agreed = federation.statistics.agreement
        kappa = int(agreed.report.exchanges.max()) if agreed else 0
        assert (kappa > 0) == (agreement != "none")
        d = federation.theta0.shape[1]
        copies = 2 * k if algo == "byzpg" else pairs + kappa * once
        assert federation.counters.messages == copies, (algo, agreement)
        assert federation.counters.bytes == 4 * d * copies
        assert sum(sent["bytes"] for sent in federation.counters.by_topic().values()) == 4 * d * copies


def test_a_graph_that_varies_is_another_one_in_another_round() -> None:
    todo = Experiment.create(
        "dec_page_pg", "dissensus", "peer_sampling(peers=3)", agents=9, byzantine=1, agreement="gossip+mean"
    )
    federation, _ = federate(todo)
    received = []
    for t in (0, 1, 0):
        federation.begin(t, 0.0)
        inbox = lockstep(federation.exchange("gradient", vectors(9, 8)))
        received.append([set(a[m].tolist()) for a, m in zip(inbox.authors, inbox.mask, strict=True)])
    assert received[0] == received[2] != received[1]
    assert all(agent in box and len(box) > 1 for agent, box in enumerate(received[0]))
    with pytest.raises(Undefined, match="neither relayed nor late"):
        Experiment.create(topology="peer_sampling", channel="delay")


@pytest.mark.parametrize("options", [{"channel": "delay"}, {"relay": True, "topology": "ring_of_cliques"}])
def test_messages_are_neither_late_nor_relayed_where_agents_come_and_go(options: dict[str, Any]) -> None:
    with pytest.raises(Undefined, match="where agents are absent messages can be neither relayed nor late"):
        Experiment.create(
            "dec_page_pg", scenario="churn(absent='3:0-0.5')", byzantine=0, agreement="gossip+mean", **options
        )


@pytest.mark.parametrize("part", ["base", "bad", "senders", "due"])
def test_mail_of_a_checkpoint_must_fit_together(part: str) -> None:
    todo = Experiment.create(agents=5, byzantine=0, channel="delay(mean=5)")
    federation, _ = federate(todo)
    federation.begin(0, 0.0)
    lockstep(federation.exchange("gradient", vectors(5, 8)))
    saved = federation.network.state_dict()
    name = next(path for path in saved if path.endswith("/" + part))
    with pytest.raises(ValueError, match="in flight"):
        federation.network.load_state_dict({**saved, name: saved[name][:-1]})
