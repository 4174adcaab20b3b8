"""Methods whose server handles every message by itself, and FedSVRPG-M."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from byzbench import run
from byzbench.core import State
from byzbench.core.reactive_server import ReactiveServer
from byzbench.errors import Undefined
from byzbench.experiments import runner
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import Training, federate, lockstep
from byzbench.federation.federation import server_state
from byzbench.rl.gradients import importance_weights

METHODS = (
    "afedpg(N=2, a=0.5, decay=0.5, lr_schedule=linear)",
    "basgd(N=2, lr_schedule=linear)",
    "kardam(N=2)",
    "zenopp(N=2, B=2, refresh=2)",
    "zenopp(N=2, B=2, form=code, refresh=3, lr_schedule=linear)",
    "aflguard(N=2, B=3, refresh=1)",
    "kardam(N=2, rate_limit=1)",
)


def training(algo: str, schedule: str, **options: Any) -> Training:
    options = {
        "agents": 5,
        "byzantine": 0,
        "trajectories": 20,
        "evaluations": 1,
        "seed": 3,
        "preset": "paper",
        **options,
    }
    return Training(Experiment.create(algo, schedule=schedule, **options))


def traces(algo: str, schedule: str, lines: int, **options: Any) -> list[dict[str, Any]]:
    agents = training(algo, schedule, **options)
    return [agents.trace(lockstep(agents.advance())) for _ in range(lines)]


@pytest.mark.parametrize(
    "algo, options",
    [
        *((algo, {}) for algo in METHODS),
        ("afedpg(N=2)", {"byzantine": 1, "attack": "sign_flip"}),
        ("basgd(N=2, buffers=4)", {"byzantine": 1, "attack": "sign_flip", "aggregator": "bucketing+median"}),
        ("basgd(N=2)", {"assumed_byzantine": 1, "aggregator": "centered_clipping"}),
        ("kardam(N=2)", {"byzantine": 1, "attack": "sign_flip"}),
        ("zenopp(N=2, B=2)", {"byzantine": 1, "attack": "non_finite"}),
        ("aflguard(N=2, B=2)", {"byzantine": 1, "attack": "sign_flip", "channel": "top_k"}),
    ],
)
def test_with_equal_speeds_and_all_messages_the_trace_is_synchronous(algo: str, options: dict[str, Any]) -> None:
    assert traces(algo, "asynchronous(quorum=all)", 3, **options) == traces(
        algo, "synchronous(speed=equal)", 3, **options
    )


@pytest.mark.parametrize("algo", METHODS)
def test_a_server_that_waits_for_no_quorum_steps_while_slow_agents_compute(algo: str) -> None:
    agents = training(algo, "asynchronous(speed=[1, 1, 1, 1, 0.01])")
    before = agents.state["server.theta"]
    lockstep(agents.advance())
    assert not torch.equal(agents.state["server.theta"], before)
    assert int(agents.federation.counters.trajectories[4]) == 2  # the slow agent is still in its first round


@pytest.mark.parametrize(
    "algo", ["basgd(N=2)", "kardam(N=2, rate_limit=2)", "zenopp(N=2, B=2, refresh=3, lr_schedule=linear)"]
)
def test_a_killed_run_is_resumed_with_the_same_trace(
    algo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"algo": algo, "schedule": "asynchronous(speed=two_speed, latency=0.01)", "attack": "sign_flip"}
    options |= {"agents": 5, "byzantine": 1, "trajectories": 16, "evaluations": 1, "evaluation_episodes": 1}
    whole = run(**options, out=tmp_path / "whole")
    monkeypatch.setattr(runner, "SAVE_EVERY", 0.0)

    def stop(line: Mapping[str, Any]) -> None:
        if line["round"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(**options, out=tmp_path / "cut", callback=stop)
    assert run(**options, out=tmp_path / "cut").trace == whole.trace


SPEEDS = [1.0, 1.0, 0.5, 0.25, 0.2]
"""The speeds of five agents that sample as many steps in each round."""


def test_seconds_of_a_step_are_the_harmonic_mean_and_of_a_synchronous_round_the_slowest_agent() -> None:
    options = {"env": "riverswim", "policy": "tabular", "trajectories": 2000}
    agents = training("afedpg(N=4)", f"asynchronous(speed={SPEEDS})", **options)
    seconds = 4 * agents.todo.task.horizon / agents.todo.schedule.rate / np.array(SPEEDS)
    for _ in range(20):
        line = lockstep(agents.advance())
    assert line["seconds"] / int(agents.state["server.step"]) == pytest.approx(1 / (1 / seconds).sum(), rel=0.1)
    assert line["idle_share"] == pytest.approx(0, abs=0.1)  # of the last batches, which have not ended

    agents = training("afedpg(N=4)", f"synchronous(speed={SPEEDS})", **options)
    for _ in range(3):
        line = lockstep(agents.advance())
    assert line["seconds"] / 3 == pytest.approx(seconds.max())
    assert line["idle_share"] == pytest.approx(1 - seconds.mean() / seconds.max())


class Server:
    """A server to which a test sends messages."""

    def __init__(self, algo: str, **options: Any) -> None:
        options = {"agents": 5, "byzantine": 0, "trajectories": 20, "preset": "paper", **options}
        todo = Experiment.create(algo, **options)
        assert isinstance(todo.algorithm, ReactiveServer)
        self.method, (self.fed, _) = todo.algorithm, federate(todo)
        self.state: State = server_state(self.method.start(self.fed))
        self.dimension = self.fed.theta0.shape[1]

    def send(self, sender: int, vector: torch.Tensor) -> bool:
        """Send a vector; return whether the server has taken a step."""
        before = int(self.state["step"])
        self.state = lockstep(self.method.receive(self.fed, self.state, sender, vector))
        return int(self.state["step"]) > before

    def answer(self, receivers: Sequence[int]) -> torch.Tensor:
        answer, self.state = self.method.reply(self.state, receivers)
        return answer

    def vector(self, *values: float) -> torch.Tensor:
        return torch.tensor([*values, *[0.0] * (self.dimension - len(values))])


def test_afedpg_looks_ahead_by_the_weight_that_the_next_gradient_of_the_answer_has() -> None:
    server = Server("afedpg(N=2, a=0.5, decay=1.0, lr=0.1, optimizer=sgd)")
    start = server.state["theta"]
    server.send(0, server.vector(4))
    torch.testing.assert_close(server.state["theta"], start + server.vector(0.1 * 0.5 * 4))
    answer = server.answer([0])
    torch.testing.assert_close(answer, start + server.vector(0.2) + (1 - 0.25) / 0.25 * server.vector(0.2))
    server.send(1, server.vector(4))  # of theta_0: it has the weight 0.5, though the server has taken a step
    torch.testing.assert_close(server.state["momentum"][0], server.vector(0.5 * 2 + 0.5 * 4))
    server.send(0, server.vector(7))  # of the answer
    torch.testing.assert_close(server.state["momentum"][0], server.vector(0.75 * 3 + 0.25 * 7))


def test_basgd_steps_along_the_median_of_the_means_in_its_buffers_once_none_is_empty() -> None:
    server = Server("basgd(N=2, lr=1, optimizer=sgd)", assumed_byzantine=1)
    start = server.state["theta"]
    assert not server.send(0, server.vector(1))
    assert not server.send(3, server.vector(3))  # the same buffer of three
    assert not server.send(4, server.vector(1e9))
    assert server.send(2, server.vector(-1))
    torch.testing.assert_close(server.state["theta"] - start, server.vector(2).unsqueeze(0))  # of 2, 1e9, -1
    assert not server.send(1, server.vector(5))
    assert server.state["counts"].tolist() == [[0, 1, 0]]


def test_basgd_steps_along_the_filled_buffers_alone_once_there_are_enough() -> None:
    server = Server("basgd(N=2, lr=1, optimizer=sgd, buffers=5, filled=3)", assumed_byzantine=1)
    start = server.state["theta"]
    assert not server.send(4, server.vector(1e9))
    assert not server.send(4, server.vector(1e9))  # one agent fills one buffer, however often it sends
    assert not server.send(1, server.vector(2))
    assert server.send(3, server.vector(-1))
    torch.testing.assert_close(server.state["theta"] - start, server.vector(2).unsqueeze(0))  # the median of three
    assert server.state["counts"].tolist() == [[0] * 5]


def test_a_mean_that_overflows_is_of_a_faulty_buffer() -> None:
    server = Server("basgd(N=2, lr=1, optimizer=sgd)", assumed_byzantine=1)
    start, largest = server.state["theta"], torch.finfo(torch.float32).max
    for sender, value in ((0, largest), (3, -largest), (1, 1.0), (2, 3.0)):
        server.send(sender, server.vector(value))
    torch.testing.assert_close(server.state["theta"] - start, server.vector(2).unsqueeze(0))


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"algo": "basgd(buffers=2)", "byzantine": 1}, "needs more than 2 buffers, and aggregates 2"),
        ({"algo": "basgd(buffers=5, filled=2)", "byzantine": 1}, "needs more than 2 buffers, and aggregates 2"),
        ({"algo": "basgd(filled=4)", "assumed_byzantine": 1}, "steps at 4 filled buffers, and has only 3"),
        ({"algo": "basgd(buffers=6)"}, "has 6 buffers, and there are only 5 agents"),
        ({"algo": "basgd", "byzantine": 1, "attack": "agr_tailored"}, "means of several messages"),
        ({"algo": "basgd", "aggregator": "honest_mean"}, "'honest_mean' needs single ones"),
        ({"algo": "basgd(buffers=3)", "byzantine": 1, "aggregator": "krum"}, "inbox of n=3 vectors of which f=1"),
    ],
)
def test_buffers_that_a_rule_cannot_aggregate_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(Undefined, match=reason):
        Experiment.create(**{"agents": 5, "byzantine": 0, "trajectories": 20, **options})


def test_kardam_rejects_agents_with_too_large_coefficients() -> None:
    server = Server("kardam(N=2, lr=0.1, dampening=none, optimizer=sgd)", agents=4, assumed_byzantine=1)
    for change in (1.0, 2.0):
        for agent in (0, 1, 2):
            assert server.send(agent, server.vector(change))
        server.send(3, server.vector(1.0 if change == 1 else 100.0))
        server.answer(range(4))
    coefficients = server.state["coefficients"][0]
    assert (coefficients[:3] < coefficients[3]).all()
    assert server.send(0, server.vector(2.1))
    assert not server.send(3, server.vector(-100.0))


def test_kardam_accepts_no_agent_twice_of_2f_plus_1_gradients() -> None:
    server = Server("kardam(N=2)", agents=7, assumed_byzantine=2)
    sent = [0, 0, 1, 2, 3, 0, 4, 0, 0]
    accepted = [server.send(agent, server.vector(1)) for agent in sent]
    assert accepted == [True, False, True, True, True, False, True, True, False]


def test_kardam_dampens_old_gradients() -> None:
    server = Server("kardam(N=2, lr=1, optimizer=sgd)", agents=5, assumed_byzantine=0)
    start = server.state["theta"]
    for agent in (0, 1, 2):
        server.send(agent, server.vector(6))
    torch.testing.assert_close(server.state["theta"] - start, server.vector(6 + 3 + 2).unsqueeze(0))


@pytest.mark.parametrize("algo", ["zenopp(N=2, B=3, refresh=4)", "aflguard(N=2, B=3, refresh=4)"])
def test_a_reference_is_renewed_after_a_number_of_messages_accepted_or_not(algo: str) -> None:
    server = Server(algo)
    counted = []
    for number in range(9):
        server.send(number % 5, server.vector(-1e9))
        counted.append(int(server.fed.counters.server_samples[0]))
    assert counted == [3] * 4 + [6] * 4 + [9]
    assert server.state["step"] == 0 or algo.startswith("zenopp")
    reference = server.state["reference"][0]
    assert server.send(0, reference)
    assert not server.send(0, -10 * reference)


def test_a_flood_is_limited_to_a_multiple_of_the_median() -> None:
    server = Server("afedpg(N=2, rate_limit=2)")
    assert [server.send(4, server.vector(1)) for _ in range(4)] == [True, True, False, False]
    for agent in (0, 1, 2):
        assert server.send(agent, server.vector(1))
    assert [server.send(4, server.vector(1)) for _ in range(4)] == [True, True, False, False]
    assert server.state["handled"].tolist() == [[1, 1, 1, 0, 4]]


def test_without_a_limit_a_flood_is_handled() -> None:
    server = Server("afedpg(N=2)")
    assert all(server.send(4, server.vector(1)) for _ in range(20))
    assert "handled" not in server.state


def test_fedsvrpg_m_with_one_local_step_and_fresh_gradients_is_fed_pg() -> None:
    common = {"N": 3, "lr": 0.05, "baseline": "others", "lr_schedule": "constant"}
    states = [
        traces(algo, "synchronous", 3, parameters={"algorithm": {**common, **more}}, aggregator="median")
        for algo, more in (("fed_pg", {}), ("fedsvrpg_m", {"local_steps": 1, "beta": 1.0}))
    ]
    keys = ("trajectories", "steps", "return")
    assert [[line[key] for key in keys] for line in states[0]] == [[line[key] for key in keys] for line in states[1]]


def test_fedsvrpg_m_corrects_the_direction_of_the_last_round_at_each_local_step() -> None:
    todo = Experiment.create(
        "fedsvrpg_m(N=2, local_steps=3, local_lr=0.001, beta=0.3, lr=0.01, optimizer=sgd)",
        agents=3,
        byzantine=0,
        trajectories=40,
        preset="paper",
    )
    method, (federation, _) = todo.algorithm, federate(todo)
    sample, batches = federation.sample, []

    def recorded(theta: torch.Tensor, *arguments: Any) -> Any:
        batches.append((theta, sample(theta, *arguments)))
        return batches[-1][1]

    federation.sample = recorded  # type: ignore[method-assign]
    state = method.start(federation)
    for round in range(3):
        federation.begin(round, 0.0)
        old, batches[:] = state, []
        state, _ = lockstep(method.round(federation, state))
        local, previous, total = old["theta"], old["previous"], 0
        for theta, batch in batches:
            torch.testing.assert_close(theta, local)
            estimate = method.gradient(federation, theta, batch)
            if round:
                omega = importance_weights(federation.policy, previous, theta, batch)
                change = estimate - method.gradient(federation, previous, batch, omega)
                estimate = 0.3 * estimate + 0.7 * (old["direction"] + change)
            local, total = local + 0.001 * estimate, total + estimate
        torch.testing.assert_close(state["direction"], (total / 3).mean(0).expand(3, -1), rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(state["theta"], old["theta"] + 0.01 * state["direction"])
        assert torch.equal(state["previous"], old["theta"])
