"""Schedules: virtual clocks, quorums, asynchronous agents, and their checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from byzbench import registry, run
from byzbench.core import Communication
from byzbench.errors import Undefined, UserError
from byzbench.experiments import runner
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import Training, lockstep, one_thread
from byzbench.federation.mailboxes import Mailbox, Message
from byzbench.schedules.asynchronous import Asynchronous
from byzbench.schedules.synchronous import Synchronous
from byzbench.testing import schedules

SMALL: Mapping[str, Any] = {
    "agents": 5,
    "byzantine": 0,
    "trajectories": 60,
    "evaluations": 1,
    "evaluation_episodes": 1,
    "preset": "paper",
}
ONE_AT_A_TIME = {"algorithm": {"N": 2, "lr": 0.01}}


def lines(count: int, **options: Any) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the first lines of trace and of metrics of a run."""
    training, found = Training(Experiment.create(**{**SMALL, **options})), []
    with one_thread():
        for _ in range(count):
            line = lockstep(training.advance())
            found.append((training.trace(line), line))
    return found


def takes_asynchronous(name: str) -> bool:
    """Return whether an algorithm is defined for asynchronous agents."""
    algorithm = registry.make("algorithm", name)
    return algorithm.handles_messages or algorithm.communication != Communication.SERVER


def exchanges(name: str) -> bool:
    """Return whether agents of an algorithm send messages."""
    return registry.make("algorithm", name).communication.sends_messages


ALGORITHMS = sorted(registry.origins("algorithm"))


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if takes_asynchronous(name) and exchanges(name)])
def test_equal_agents_that_wait_for_all_have_the_trace_of_lock_step(name: str) -> None:
    """Equal speeds, no latency, all messages: time included, byte for byte."""
    shared = {"algo": name, "byzantine": 1}
    expected = lines(3, schedule="synchronous(speed=equal)", **shared)
    asynchronous = lines(3, schedule="asynchronous(speed=equal,quorum=all,staleness=0)", **shared)
    assert [trace for trace, _ in asynchronous] == [trace for trace, _ in expected]


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if not takes_asynchronous(name)])
def test_other_algorithms_are_refused_with_the_reason(name: str) -> None:
    with pytest.raises(Undefined, match=r"schedule 'asynchronous': .*give schedule synchronous\(speed="):
        Experiment.create(name, agents=5, byzantine=0, schedule="asynchronous")


@pytest.mark.parametrize("name", ["decbyzpg", "byzpg", "solo"])
def test_a_clock_moves_no_number(name: str) -> None:
    plain, clocked = (lines(2, algo=name, schedule=s) for s in ("synchronous", "synchronous(speed=two_speed)"))
    for (trace, line), (other, timed) in zip(plain, clocked, strict=True):
        assert {**trace, "time": None} == {**other, "time": None}
        assert "seconds" not in line
        assert other["time"] == timed["seconds"] > trace["index"] / 1e9


@pytest.mark.parametrize("check", schedules.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "written",
    [
        "synchronous",
        "synchronous(speed=lognormal,latency=0.1,latency_law=exponential,bandwidth=1000,quorum=n-f)",
        "asynchronous(speed=two_speed,latency=0.1,latency_law=heavy_tailed,crash=0.3)",
        "asynchronous(speed=heavy_tailed,per=batch,quorum=3)",
        "asynchronous(speed=[1,2,0.5],staleness=2)",
    ],
)
def test_schedules_pass_the_kit(written: str, check: schedules.Check) -> None:
    for case in schedules.CASES[:3]:
        check(registry.make("schedule", written), case)


class TestLaws:
    """The laws of times against their closed forms."""

    def test_two_speed(self) -> None:
        speeds = Asynchronous(speed="two_speed", ratio=4.0, slow=0.4).draw_speeds(10, np.random.default_rng(0))
        assert sorted(speeds) == [0.25] * 4 + [1.0] * 6

    def test_heavy_tailed_times_have_the_tail_index(self) -> None:
        speeds = Asynchronous(speed="heavy_tailed", tail=1.5).draw_speeds(100_000, np.random.default_rng(0))
        for x in (2.0, 5.0):
            assert np.mean(1 / speeds > x) == pytest.approx(x**-1.5, rel=0.03)

    def test_lognormal(self) -> None:
        logs = np.log(Asynchronous(speed="lognormal", sigma=0.7).draw_speeds(100_000, np.random.default_rng(0)))
        assert (logs.mean(), logs.std()) == pytest.approx((0, 0.7), abs=0.01)

    @pytest.mark.parametrize("law", ["constant", "exponential", "heavy_tailed"])
    def test_latencies_have_their_mean_and_bytes_take_time(self, law: str) -> None:
        schedule = Asynchronous(latency=0.2, latency_law=law, bandwidth=1000.0)
        seconds = schedule.link_seconds(500, 1_000_000, np.random.default_rng(0))
        assert seconds.mean() == pytest.approx(0.2 + 0.5, rel=0.02 if law == "heavy_tailed" else 0.005)

    def test_batches(self) -> None:
        rng = np.random.default_rng(0)
        assert Asynchronous(rate=100.0).batch_seconds(50, 0.25, rng) == 2.0
        crashing = Asynchronous(rate=100.0, crash=0.5, downtime=3.0)
        seconds = [crashing.batch_seconds(50, 0.25, rng) for _ in range(20_000)]
        assert np.mean(np.array(seconds) > 2.0) == pytest.approx(0.5, abs=0.02)
        assert np.mean(seconds) == pytest.approx(2 + 0.5 * (1 + 3), rel=0.02)  # half a batch is lost on average


class TestClock:
    """Clocks of lock step and of asynchronous agents on a task whose episodes have one length."""

    FIXED: Mapping[str, Any] = {"env": "pendulum", "parameters": ONE_AT_A_TIME, "algo": "dec_pg", "agreement": "none"}
    """400 steps a batch: two episodes of 200."""

    def seconds(self, schedule: str, count: int = 2, **options: Any) -> list[float]:
        """Return the times of the first lines."""
        return [line["seconds"] for _, line in lines(count, schedule=schedule, **{**self.FIXED, **options})]

    def test_a_round_lasts_as_long_as_the_slowest_agent(self) -> None:
        assert self.seconds("synchronous(speed=[1,2,4,1,0.5],rate=100)") == pytest.approx([8, 16])

    def test_a_quorum_does_not_wait_for_the_slowest(self) -> None:
        schedule = "(speed=[1,2,4,1,0.5],rate=100,quorum=4,staleness=0)"
        # Each agent's own vector counts for it: the slowest is late itself, and its clock is the last.
        assert self.seconds("synchronous" + schedule.replace(",staleness=0", "")) == pytest.approx([8, 16])
        # A line of asynchronous agents is due when they have finished as many rounds as there are agents.
        assert self.seconds("asynchronous" + schedule)[0] == pytest.approx(8)

    def test_latency_and_bytes_add_to_each_exchange(self) -> None:
        d = Training(Experiment.create(**{**SMALL, **self.FIXED})).federation.theta0.shape[1]
        expected = 4 + 0.5 + 4 * d / 1000
        for kind, bound in (("synchronous", ""), ("asynchronous", ",staleness=0")):
            times = self.seconds(f"{kind}(speed=equal,rate=100,latency=0.5,bandwidth=1000,quorum=all{bound})")
            assert times == pytest.approx([expected, 2 * expected])

    def test_a_timeout_ends_the_wait(self) -> None:
        options = {"attack": "silence", "byzantine": 1}
        for kind, bound in (("synchronous", ""), ("asynchronous", ",staleness=0")):
            with pytest.raises(Undefined, match="quorum=5 is never met, as an agent gets 4 messages"):
                self.seconds(f"{kind}(speed=equal,quorum=all{bound})", **options)
            times = self.seconds(f"{kind}(speed=equal,rate=100,quorum=all,timeout=3{bound})", **options)
            assert times == pytest.approx([7, 14])

    def test_a_server_does_not_wait_for_agents_beyond_its_quorum(self) -> None:
        options = {"algo": "gpomdp", "topology": "star", "agreement": None}
        times = self.seconds("synchronous(speed=[1,1,1,1,0.1],rate=100,quorum=4)", 3, **options)
        assert times == pytest.approx([4, 8, 12])
        slow = lines(12, schedule="synchronous(speed=[1,1,1,1,0.1],rate=100,quorum=4)", **{**self.FIXED, **options})
        missing = np.diff([0] + [line["num_silent"] for _, line in slow])
        assert missing.tolist() == [1] * 12  # always late: it begins a batch at 0, 40, ... and takes 40 seconds

    @pytest.mark.parametrize("name", [name for name in ALGORITHMS if not exchanges(name)])
    def test_equal_agents_that_never_wait_have_the_trace_of_lock_step(self, name: str) -> None:
        single = registry.make("algorithm", name).communication == Communication.SINGLE_AGENT
        shared = {**self.FIXED, "algo": name, "agreement": None, "agents": 1 if single else 5}
        expected = lines(2, schedule="synchronous(speed=equal)", **shared)
        asynchronous = lines(2, schedule="asynchronous(speed=equal)", **shared)
        assert [trace for trace, _ in asynchronous] == [trace for trace, _ in expected]

    def test_agents_that_never_wait_run_at_their_own_speed(self) -> None:
        large = {"parameters": {"algorithm": {"N": 2, "lr": 0.01, "p": 1.0}}}
        options = {**SMALL, **self.FIXED, **large, "algo": "solo", "agreement": None}
        together = Training(Experiment.create(**options, schedule="synchronous(speed=[2,2,2,2,1],rate=100)"))
        alone = Training(Experiment.create(**options, schedule="asynchronous(speed=[2,2,2,2,1],rate=100)"))
        with one_thread():
            states = [(lockstep(together.advance())["seconds"], together.state["theta"]) for _ in range(3)]
            times = [lockstep(alone.advance())["seconds"] for _ in range(2)]
        assert [seconds for seconds, _ in states] == pytest.approx([4, 8, 12])
        # Fast agents end rounds at 2, 4, 6, ..., the slow one at 4, 8, ...; the tenth of these ends is at 6.
        assert times == pytest.approx([4, 6])
        for agent, rounds in enumerate((3, 2, 2, 2, 1)):
            assert torch.equal(alone.state["theta"][agent], states[rounds - 1][1][agent])

    def test_idle_share(self) -> None:
        line = lines(3, schedule="synchronous(speed=[1,1,1,1,0.5],rate=100)", **self.FIXED)[-1][1]
        assert line["idle_share"] == pytest.approx(0.4)  # four of five agents wait half of the time


class TestAsynchronous:
    """What asynchronous agents use, and what happens to those who stop."""

    def test_fast_agents_do_not_wait_and_slow_ones_are_stale(self) -> None:
        options = {**TestClock.FIXED, "trajectories": 400}
        speeds = "speed=[4,4,4,1,1],rate=100"
        waiting = lines(6, schedule=f"synchronous({speeds})", **options)[-1][1]
        free = lines(6, schedule=f"asynchronous({speeds},quorum=3)", **options)[-1][1]
        assert waiting["seconds"] == pytest.approx(6 * 4)
        assert free["seconds"] == pytest.approx(6 * 5 / (3 * 1 + 2 * 0.25), rel=0.1)  # 3 rounds a second and 2 quarters
        assert 0 < free["staleness"] < free["staleness_max"]
        assert free["idle_share"] < 0.1 < waiting["idle_share"]

    def test_staleness_bounds_the_age(self) -> None:
        schedule = "asynchronous(speed=[8,8,8,1,1],quorum=all,staleness={})"
        for bound in (1, 3):
            found = lines(8, schedule=schedule.format(bound), **{**TestClock.FIXED, "trajectories": 400})
            assert max(line["staleness_max"] for _, line in found) == bound

    def test_a_mailbox_keeps_the_newest_message(self) -> None:
        members = Experiment.create(**SMALL).members
        box, everyone, columns = Mailbox(members), np.arange(5), np.full(5, 2)
        old, new = (Message(2, round, torch.full((3,), float(round))) for round in (4, 6))
        box.put(new, everyone, columns)
        box.put(old, everyone, columns)
        assert box.messages[0, 2] is new
        assert box.rounds[:, 2].tolist() == [6] * 5

    def test_an_agent_that_stops_an_agreement_early_is_not_waited_for(self) -> None:
        """Under equivocation some agents see that all agree and stop, and others go on."""
        options = {"attack": "freeze", "byzantine": 1, "algo": "decbyzpg", "agents": 6, "agreement": "mda(cap=4)"}
        found = lines(3, schedule="asynchronous(speed=equal,quorum=n-f,staleness=0)", **options)
        assert [trace["index"] for trace, _ in found] == [0, 1, 2]

    @pytest.mark.parametrize(
        "options",
        [
            {
                "attack": "ipm",
                "channel": "top_k+loss(rate=0.1)",
                "schedule": "asynchronous(speed=two_speed,latency=0.1)",
            },
            {"attack": "split_brain(alie(z=1.5,on=both))", "schedule": "asynchronous(speed=heavy_tailed,per=batch)"},
            {"attack": "reward_flip", "schedule": "asynchronous(latency=0.1,latency_law=exponential,quorum=3)"},
            {"attack": "sign_flip", "algo": "afedpg", "schedule": "asynchronous(speed=two_speed,latency=0.05)"},
            {"attack": "reward_flip", "algo": "solo", "schedule": "asynchronous(speed=heavy_tailed,per=batch)"},
            {"attack": "ipm", "algo": "byzpg", "schedule": "synchronous(speed=lognormal,latency=0.1,quorum=n-f)"},
        ],
        ids=lambda options: options["attack"].partition("(")[0],
    )
    def test_a_killed_run_is_resumed_with_the_same_trace(
        self, options: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shared = {"byzantine": 1, "trajectories": 16, "parameters": {"algorithm": {"N": 3, "B": 2}}}
        settings = {**SMALL, **shared, "algo": "decbyzpg", "agreement": "mda(cap=3)", **options}
        settings["parameters"] = {"algorithm": {"N": 3}} if options.get("algo") == "afedpg" else shared["parameters"]
        whole = run(**settings, out=tmp_path / "whole")
        monkeypatch.setattr(runner, "SAVE_EVERY", 0.0)

        def stop(line: Mapping[str, Any]) -> None:
            if line["round"] == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(**settings, out=tmp_path / "cut", callback=stop)
        resumed = run(**settings, out=tmp_path / "cut")
        assert resumed.trace == whole.trace
        assert resumed.digests["metrics.jsonl"] == whole.digests["metrics.jsonl"]

    def test_records_are_made_in_the_same_run_folder(self, tmp_path: Path) -> None:
        result = run(**SMALL, schedule="asynchronous(speed=two_speed)", out=tmp_path)
        assert run(**SMALL, schedule="asynchronous(speed=two_speed)", out=tmp_path) == result


BAD: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "quorum beyond an inbox": (
        {"schedule": "asynchronous(quorum=9)"},
        "schedule 'asynchronous': quorum=9 can never be met by an agent with 5 messages, its own included",
    ),
    "speed of zero": ({"schedule": "asynchronous(speed=[1,1,0,1,1])"}, "speed=[1, 1, 0, 1, 1]: must be greater than 0"),
    "too few speeds": ({"schedule": "asynchronous(speed=[1,2])"}, "speed lists 2 agents, and there are 5"),
    "no clock": ({"schedule": "synchronous(latency=1)"}, "'synchronous' without speed has no clock; give a speed"),
    "no speed": ({"schedule": "asynchronous(speed=None)"}, "needs a speed, for example speed=equal"),
    "varying graph": (
        {"schedule": "asynchronous", "topology": "time_varying"},
        "with a clock needs a fixed graph of direct links, and topology 'time_varying' varies",
    ),
    "delays in rounds": (
        {"schedule": "synchronous(speed=equal)", "channel": "delay"},
        "channel 'delay' counts delays in rounds; give a latency instead",
    ),
    "churn": (
        {"schedule": "asynchronous", "scenario": "churn(crash=0.5)"},
        "agents are absent or crash by the scenario",
    ),
    "normalisation": ({"schedule": "asynchronous", "scenario": "normalized"}, "needs all agents at once"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_line(case: str) -> None:
    options, message = BAD[case]
    with pytest.raises(UserError) as raised:
        Experiment.create(**{**SMALL, **options})
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_agreements_say_where_a_quorum_leaves_them_without_a_guarantee() -> None:
    """Minimum-diameter averaging needs n > 6f, trimmed means by reliable broadcast n > 3f."""

    def remarks(agreement: str, schedule: str, agents: int = 13) -> list[str]:
        options = {"agents": agents, "byzantine": 3, "agreement": agreement, "schedule": schedule}
        notes = Experiment.create("decbyzpg", "ipm", **{**SMALL, **options}).notes()
        return [note for note in notes if "do not wait for all" in note]

    assert remarks("mda", "asynchronous(quorum=n-f)") == [
        "agreement 'mda' has no guarantee for n=13, f=3: it needs n > 6f where agents do not wait for all messages"
    ]
    assert remarks("mda", "synchronous(speed=equal, quorum=10)")
    assert not remarks("mda", "synchronous(speed=equal)")
    assert not remarks("mda", "asynchronous(quorum=n-f)", agents=19)
    assert not remarks("rb_tm", "asynchronous(quorum=n-f)")


def test_a_synchronous_schedule_without_clock_is_that_of_older_records() -> None:
    """Runs of schema 7 have no schedule, and the same hash."""
    from byzbench.canonical import UNCLOCKED

    assert registry.describe(Synchronous())["parameters"] == UNCLOCKED
