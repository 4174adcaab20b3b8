"""Attacks on time, and attacks that adapt while they run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from byzbench import run
from byzbench.attacks.bandit import Bandit
from byzbench.attacks.markov import Markov
from byzbench.attacks.zero import Zero
from byzbench.core import Attack, AttackContext, Setting, State, ThreatModel, Timing
from byzbench.core.reactive_server import ReactiveServer
from byzbench.core.wrapped_attack import WrappedAttack
from byzbench.errors import BrokenPlugin, InvalidParameter, Undefined
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import Training, lockstep, one_thread
from byzbench.federation.communication_graph import CommunicationGraph
from byzbench.federation.event_network import EventNetwork, Sender
from byzbench.federation.mailboxes import Mailbox
from byzbench.registry import make

K, F = 7, 2
LAW = "speed=two_speed,slow=0.4"
FULL = f"asynchronous({LAW},quorum=all,staleness=0)"
ASYNCHRONOUS = f"asynchronous({LAW},staleness=3)"
SERVER = {"algo": "afedpg(N=1)", "topology": "star", "agreement": "none"}


def experiment(attack: str | Attack = "none", schedule: str = ASYNCHRONOUS, **options: Any) -> Experiment:
    usual: dict[str, Any] = {
        "algo": "decbyzpg(N=1, B=1, p=0.5, lr=0.1)",
        "agreement": "mda(cap=2)",
        "aggregator": "rfa",
        "policy": "linear",
        "agents": K,
        "byzantine": F,
        "trajectories": 100,
    }
    return Experiment.create(attack=attack, schedule=schedule, **usual | options)


def trained(todo: Experiment, lines: int = 3) -> tuple[Training, list[dict[str, Any]]]:
    training = Training(todo)
    with one_thread():
        return training, [lockstep(training.advance()) for _ in range(lines)]


def honest_parameters(training: Training) -> torch.Tensor:
    return training.state["theta"][~training.todo.members.byzantine]


@dataclass(frozen=True)
class Received:
    """Messages in the inbox of one honest agent: of which exchange, from whom, of which rounds, and the vectors."""

    exchange: int
    receiver: int
    senders: list[int]
    rounds: list[int]
    vectors: torch.Tensor


@pytest.fixture
def inboxes(monkeypatch: pytest.MonkeyPatch) -> list[Received]:
    """Return a list that collects the inboxes of asynchronous honest agents."""
    collected, make_inbox = [], Mailbox.inbox

    def collecting(self: Mailbox, members: CommunicationGraph, receivers: Sequence[int], *inputs: Any) -> Any:
        output = inbox, messages, *_ = make_inbox(self, members, receivers, *inputs)
        for row, receiver in enumerate(receivers):
            used = inbox.senders[row][inbox.mask[row]].tolist()
            if not members.byzantine[receiver]:
                senders, rounds = [messages[i].sender for i in used], [messages[i].round for i in used]
                collected.append(Received(id(self), receiver, senders, rounds, inbox.base[used]))
        return output

    monkeypatch.setattr(Mailbox, "inbox", collecting)
    return collected


# rush


@pytest.mark.parametrize("agreement", ["mda(cap=2)", "rb_tm(cap=2)"])
def test_all_messages_of_rushing_agents_are_in_every_honest_inbox(inboxes: list[Received], agreement: str) -> None:
    byzantine = set(experiment().members.byzantine_ids)
    slow = f"asynchronous(speed={[0.05 if k in byzantine else 1.0 for k in range(K)]},staleness=0)"
    trained(experiment("ipm(on=both)", slow, agreement=agreement), 2)
    assert not any(byzantine & set(inbox.senders) for inbox in inboxes)
    inboxes.clear()
    trained(experiment("rush(ipm(on=both))", slow, agreement=agreement), 2)
    assert all(byzantine <= set(inbox.senders) for inbox in inboxes)
    assert min(len(inbox.senders) for inbox in inboxes) == K - F


def test_a_rushing_agent_knows_what_its_receiver_holds(inboxes: list[Received]) -> None:
    todo = experiment("rush(ipm(scale=1, on=both))", FULL)
    trained(todo, 2)
    assert inboxes
    for inbox in inboxes:
        is_byzantine = todo.members.byzantine[inbox.senders]
        assert int(is_byzantine.sum()) == F
        crafted, honest = inbox.vectors[is_byzantine], inbox.vectors[~is_byzantine]
        torch.testing.assert_close(crafted, -honest.mean(0).expand_as(crafted), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("reliable", [False, True])
def test_by_reliable_broadcast_rushing_agents_send_one_message_to_all(inboxes: list[Received], reliable: bool) -> None:
    todo = experiment("rush(large_noise(on=parameters))", agreement="rb_tm(cap=1)" if reliable else "mda(cap=1)")
    trained(todo, 3)
    sent: dict[tuple[int, int, int], set[bytes]] = {}
    for inbox in inboxes:
        for sender, round, vector in zip(inbox.senders, inbox.rounds, inbox.vectors, strict=True):
            sent.setdefault((inbox.exchange, sender, round), set()).add(vector.numpy().tobytes())
    assert all(len(vectors) == 1 for vectors in sent.values()) == reliable


@pytest.mark.parametrize("attack", ["alie(z=1.5, whose=honest, on=both)", "ipm(on=both)"])
def test_with_full_quorums_rush_is_the_attack_in_lock_step(attack: str) -> None:
    """Honest agents compute the same, whatever the speeds: the adversary knows what it knows in lock step."""
    expected, _ = trained(experiment(attack, "synchronous"))
    actual, _ = trained(experiment(f"rush({attack})", FULL))
    rounds = [agent.round for agent in actual.loop._agents]  # type: ignore[union-attr]
    assert set(rounds) == {3}
    torch.testing.assert_close(honest_parameters(actual), honest_parameters(expected), rtol=1e-4, atol=1e-5)
    early, _ = trained(experiment(attack, FULL))
    assert not torch.allclose(honest_parameters(early), honest_parameters(expected), rtol=1e-4, atol=1e-5)


def test_in_lock_step_rush_changes_nothing() -> None:
    results = [trained(experiment(attack, "synchronous"), 2)[0] for attack in ("ipm", "rush(ipm)")]
    torch.testing.assert_close(honest_parameters(results[0]), honest_parameters(results[1]))
    assert (
        "rush changes nothing without schedule asynchronous: the attack is its inner attack" in results[1].todo.notes()
    )


# slowdown


def test_slowdown_removes_the_messages_of_its_victims_and_no_others(inboxes: list[Received]) -> None:
    todo = experiment("slowdown(none)")
    honest = (~todo.members.byzantine).nonzero().squeeze(1).tolist()
    victims, others = honest[:F], honest[F:]
    trained(todo)
    assert inboxes
    for inbox in inboxes:
        assert not set(victims) - {inbox.receiver} & set(inbox.senders)
        if inbox.receiver in others:
            assert set(inbox.senders) == {*others, *todo.members.byzantine_ids}


def test_slowdown_holds_no_message_that_a_quorum_needs(inboxes: list[Received]) -> None:
    todo = experiment("slowdown(none)", FULL)
    assert "slowdown holds no message, as agents wait for all of them" in todo.notes()
    expected, _ = trained(experiment("none", "synchronous"))
    actual, _ = trained(todo)
    assert torch.equal(honest_parameters(actual), honest_parameters(expected))
    assert {len(inbox.senders) for inbox in inboxes} == {K}


def test_held_messages_arrive_after_their_time() -> None:
    plain, slow = (
        trained(experiment(attack, FULL))[1][-1]["seconds"] for attack in ("none", "slowdown(none,seconds=9)")
    )
    assert slow - plain > 9
    before, after = (
        trained(experiment(attack, **SERVER))[0] for attack in ("flood(none, copies=1)", "slowdown(none, seconds=9)")
    )
    honest = (~before.todo.members.byzantine).nonzero().squeeze(1).tolist()
    rounds = [[training.loop._agents[k].round for k in honest[:F]] for training in (before, after)]  # type: ignore[union-attr]
    assert min(rounds[0]) > 0
    assert rounds[1] == [0, 0]


# flood


@pytest.fixture
def handled(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Return a counter of the messages of each agent that a server handles."""
    counts, receive = Counter[int](), ReactiveServer.receive

    async def counting(self: ReactiveServer, fed: Any, server: State, sender: int, vector: torch.Tensor) -> State:
        counts[sender] += 1
        return await receive(self, fed, server, sender, vector)

    monkeypatch.setattr(ReactiveServer, "receive", counting)
    return counts


@pytest.mark.parametrize("copies", [1, 5])
def test_flood_raises_the_share_of_byzantine_messages(copies: int, handled: Counter[int]) -> None:
    training, _ = trained(experiment(f"flood(copies={copies})", **SERVER))
    byzantine = training.todo.members.byzantine_ids
    fastest = max(handled[k] for k in range(K) if k not in byzantine)
    for k in byzantine:
        assert fastest - 1 <= handled[k] / copies <= fastest + 1
    sent = training.federation.counters.traffic["gradient"][:, 0]
    assert sent[list(byzantine)].tolist() == [handled[k] for k in byzantine]


def test_flooders_keep_the_pace_of_the_fastest_honest_agent() -> None:
    training, _ = trained(experiment("flood(none)", **SERVER))
    agents = training.loop._agents  # type: ignore[union-attr]
    is_byzantine = training.todo.members.byzantine
    lead = max(agent.round for agent, byzantine in zip(agents, is_byzantine, strict=True) if not byzantine)
    assert {agent.round for agent, byzantine in zip(agents, is_byzantine, strict=True) if byzantine} <= {lead, lead + 1}


@pytest.mark.parametrize("attack", ["flood(none)", "slowdown(none)"])
def test_times_alone_change_no_byte_where_everything_is_waited_for(attack: str) -> None:
    expected, _ = trained(experiment("none", FULL))
    actual, _ = trained(experiment(attack, FULL))
    assert torch.equal(honest_parameters(actual), honest_parameters(expected))


# What all have in common.


def test_a_wrapper_passes_timing_on() -> None:
    timing = make("attack", "sleeper(slowdown(rush(flood(ipm, copies=3)), seconds=2, victims=1), after=1)").timing  # type: ignore[attr-defined]
    assert timing == Timing(is_last=True, is_instant=True, copies=3, num_held=1, seconds=2.0)


@pytest.mark.parametrize("attack", ["slowdown(none)", "flood(none)"])
def test_an_attack_on_times_alone_needs_times(attack: str) -> None:
    with pytest.raises(Undefined, match=r"^\w+ changes only times, which needs schedule asynchronous$"):
        experiment(attack, "synchronous")


@pytest.mark.parametrize(
    ("attack", "options", "message"),
    [
        ("rush(none)", {}, "rush sends crafted messages last, and NoAttack crafts none"),
        ("slowdown(ipm, victims=3)", {}, "slowdown: victims=3 must be at most the number of Byzantine agents, 2"),
        ("slowdown(ipm)", SERVER, "slowdown: a server that handles messages by itself has no quorum; give seconds"),
    ],
)
def test_what_has_no_meaning_is_refused(attack: str, options: Any, message: str) -> None:
    with pytest.raises(Undefined) as error:
        experiment(attack, **options)
    assert str(error.value) == message


@dataclass(frozen=True)
class Sneaks(WrappedAttack):
    @property
    def threat(self) -> ThreatModel:
        return self.inner.threat

    @property
    def timing(self) -> Timing:
        return Timing(is_instant=True)


def test_times_are_a_part_of_the_threat_model() -> None:
    with pytest.raises(BrokenPlugin, match="changes times, but its surface has no network"):
        Training(experiment(Sneaks(inner=Zero())))


# staged_crash and replay


def test_staged_crash_counts_its_missing_messages() -> None:
    todo = experiment("staged_crash(first=1, every=1)", "synchronous", algo="gpomdp(N=1)", topology="star")
    training = Training(todo)
    counts = []
    for _ in range(4):
        lockstep(training.advance())
        counts.append(training.federation.counters.num_silent)
    assert counts == [0, 1, 3, 5]


def test_crashed_agents_reach_an_asynchronous_server_no_more(handled: Counter[int]) -> None:
    training, _ = trained(experiment("staged_crash(first=1, every=2)", **SERVER), 8)
    first, second = training.todo.members.byzantine_ids
    assert (handled[first], handled[second]) == (1, 3)


@pytest.mark.parametrize("wrapper", ["{}", "rush({})"])
def test_an_asynchronous_agent_replays_its_own_vectors(wrapper: str, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: dict[tuple[int, int], torch.Tensor] = {}
    sent: dict[tuple[int, int], torch.Tensor] = {}
    contents = EventNetwork._contents

    def recording(self: EventNetwork, sender: Sender, topic: str, x: torch.Tensor, *inputs: Any) -> Any:
        output = contents(self, sender, topic, x, *inputs)
        if topic == "gradient" and sender.number in self.row_of:
            key = sender.number, sender.round
            computed[key], sent[key] = x.clone(), output[-1][0].vector  # type: ignore[union-attr]
        return output

    monkeypatch.setattr(EventNetwork, "_contents", recording)
    trained(experiment(wrapper.format("replay(delay=2)")), 6)
    assert len({round for _, round in sent}) > 3
    for (number, round), vector in sent.items():
        assert torch.equal(vector, computed[number, max(round - 2, 0)])


# bandit


ARMS = "bandit(silence, zero, replay, window=2, epsilon=0.1)"


def measure(bandit: Bandit, harm: Callable[[int], float], rounds: int) -> State:
    """Return the memory after some rounds, in which the return falls towards 1 - harm(arm)."""
    memory, level, rng = bandit.start(SimpleNamespace()), 1.0, np.random.default_rng(0)  # type: ignore[arg-type]
    for number in range(rounds):
        batch = SimpleNamespace(rewards=torch.full((1, 4, 2), level / 4))
        secrets = {"own": torch.ones(2, 3), "byzantine": torch.ones(2, 3), "rollouts": [batch, None]}
        context = AttackContext(bandit.threat, {"round": number, "topic": "gradient", "num_parameters": 3}, secrets)
        for _ in range(2):  # several exchanges in a round count once
            _, memory = bandit.craft_messages(context, memory, rng)
        level = 0.5 * level + 0.5 * (1 - harm(int(memory["arm"])))
    return memory


@pytest.mark.parametrize("harmful", [0, 1, 2])
def test_the_bandit_prefers_the_harmful_arm(harmful: int) -> None:
    bandit = make("attack", ARMS)
    assert isinstance(bandit, Bandit)
    memory = measure(bandit, lambda arm: 0.9 if arm == harmful else 0.0, 200)
    plays = memory["plays"].tolist()
    assert sum(plays) == 99
    assert plays[harmful] > 1.5 * max(count for arm, count in enumerate(plays) if arm != harmful)


def test_the_reward_of_an_arm_is_the_fall_of_the_return() -> None:
    bandit = replace(make("attack", ARMS), epsilon=0.0)
    memory = measure(bandit, lambda arm: 0.8 if arm == 0 else 0.0, 3)  # type: ignore[arg-type]
    # Returns: 1 before the first message, 0.6 and 0.4 after those of the window.
    torch.testing.assert_close(memory["value"], torch.tensor([0.5, 0.0, 0.0], dtype=torch.float64), rtol=0, atol=1e-6)
    assert memory["plays"].tolist() == [1, 0, 0]
    assert int(memory["arm"]) == 1


@pytest.mark.parametrize("schedule", ["synchronous", ASYNCHRONOUS])
@pytest.mark.parametrize("options", [{}, SERVER], ids=["peers", "server"])
def test_the_bandit_runs_everywhere(schedule: str, options: Any) -> None:
    training, _ = trained(experiment("bandit(ipm, split_brain(ipm), zero, window=1)", schedule, **options), 6)
    memory = training.adversary.state_dict()
    assert int(memory["plays"].sum()) >= 3
    assert bool((memory["plays"] > 0).all())


RESUMED = {
    "bandit(replay, fixed_bias, window=2, epsilon=0.5)": "synchronous",
    "slowdown(rush(bandit(replay, fixed_bias, window=2, epsilon=0.5)))": ASYNCHRONOUS,
}


@pytest.mark.parametrize("attack", RESUMED)
def test_a_bandit_that_is_killed_and_resumed_plays_the_same(attack: str, tmp_path: Path) -> None:
    todo = experiment(attack, RESUMED[attack], trajectories=12)
    whole = run(todo, out=tmp_path / "whole")

    def kill(line: Any) -> None:
        if line["round"] == 4:
            raise RuntimeError("killed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("byzbench.experiments.runner.SAVE_EVERY", -1.0)
        with pytest.raises(RuntimeError, match="killed"):
            run(todo, out=tmp_path / "resumed", callback=kill)
    assert run(todo, out=tmp_path / "resumed").trace == whole.trace


def test_arms_of_a_bandit() -> None:
    assert [type(arm).__name__ for arm in Bandit().arms] == ["Alie", "Ipm", "AvgZero", "SignFlip"]
    assert Bandit(arm2=Zero(), arm5=Zero()).arms == [Zero(), Zero()]
    with pytest.raises(InvalidParameter, match="at least two arms"):
        make("attack", "bandit(ipm)")
    with pytest.raises(InvalidParameter, match="no arm may change environments"):
        make("attack", "bandit(ipm, reward_flip)")
    with pytest.raises(InvalidParameter, match="different times"):
        make("attack", "bandit(ipm, flood(ipm))")


def test_a_chain_makes_one_step_in_each_round_of_the_fastest_agent() -> None:
    chain, memory = Markov(Zero(), on=1.0, off=1.0), {"strikes": torch.tensor(0), "round": torch.tensor(-1)}
    states = []
    for number in (0, 0, 1, 0, 1, 2):
        context = AttackContext(chain.threat, {"round": number}, {})
        active, memory = chain.is_active(context, memory, np.random.default_rng(0))
        states.append(active)
    assert states == [True, True, False, False, False, True]


def test_setting_has_the_facts_of_the_schedule() -> None:
    assert experiment().setting.is_asynchronous
    assert experiment().setting.num_spare == F
    assert experiment(schedule=FULL).setting.num_spare == 0
    assert not Setting(K).is_asynchronous
