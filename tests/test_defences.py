"""Every rule in a run: as aggregator, as agreement, and as the gossip step of dec_page_pg."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import byzbench
from byzbench import registry
from byzbench.experiments.experiment import Experiment

AGENTS, BYZANTINE = 11, 2
"""As many as Bulyan needs."""

AGGREGATORS = [name for name, origin in registry.origins("aggregator").items() if origin.module.startswith("byzbench.")]
EVALUATING = [name for name in AGGREGATORS if registry.make("aggregator", name).required_inputs == {"evaluator"}]
NEIGHBOURLY = [name for name in AGGREGATORS if registry.make("aggregator", name).traits.self_centered]
RULES = [name for name in AGGREGATORS if name not in EVALUATING]
AGREEMENTS = [name for name in registry.origins("agreement") if name != "gossip"]
STEPS = AGREEMENTS + [f"gossip+{name}" for name in NEIGHBOURLY]


def trains(aggregator: str, agreement: str, out: Path, trajectories: int = 300, N: int = 50) -> None:
    result = byzbench.run(
        algo="dec_page_pg",
        attack="alie(z=1.5, on=both)",
        topology="complete",
        aggregator=aggregator,
        agreement=agreement,
        agents=AGENTS,
        byzantine=BYZANTINE,
        trajectories=trajectories,
        preset="paper",
        parameters={"algo": {"N": N}},
        evaluations=2,
        evaluation_episodes=2,
        out=out,
    )
    assert isinstance(result.run, str)
    assert result.trajectories >= trajectories
    assert result.verdict.name != "diverged"
    lines = [json.loads(line) for line in (Path(result.run) / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        assert all(line[key] is not None for key in ("return", "return_worst", "disagreement", "aggregate_error"))
    assert any(line["evaluation"] is not None for line in lines if "evaluation" in line)


PAIRS = [(RULES[i % len(RULES)], STEPS[i % len(STEPS)]) for i in range(max(len(RULES), len(STEPS)))]


@pytest.mark.parametrize("aggregator, agreement", PAIRS)
def test_every_rule_trains(aggregator, agreement, tmp_path):
    trains(aggregator, agreement, tmp_path, trajectories=40, N=10)


@pytest.mark.slow
@pytest.mark.parametrize("agreement", STEPS)
@pytest.mark.parametrize("aggregator", RULES)
def test_every_rule_trains_with_every_agreement(aggregator, agreement, tmp_path):
    trains(aggregator, agreement, tmp_path)


def test_rules_that_try_policies_out_pay_for_it(tmp_path):
    options = {"algo": "dec_page_pg", "agents": 5, "byzantine": 1, "trajectories": 120, "preset": "paper"}
    options["out"] = tmp_path
    for name in EVALUATING:
        evaluating = byzbench.run(agreement=f"gossip+{name}", **options)
        plain = byzbench.run(agreement="gossip+monna", **options)
        rounds = [len((Path(str(r.run)) / "metrics.jsonl").read_text().splitlines()) for r in (evaluating, plain)]
        assert rounds[0] < rounds[1]
    assert EVALUATING


def test_a_gossip_rule_s_memory_survives_an_interruption(tmp_path):
    """A rule that counts its calls, in an agreement: the same bytes whether it was resumed or not."""
    todo = Experiment.create(
        "dec_page_pg",
        "sign_flip(on=parameters)",
        agreement="gossip+balance",
        agents=5,
        byzantine=1,
        trajectories=120,
        preset="paper",
    )

    class Stop(Exception):
        pass

    def interrupt(line):
        if line["round"] == 3:
            raise Stop

    byzbench.run(todo, out=tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("byzbench.experiments.runner.SAVE_EVERY", 0.0)
        with pytest.raises(Stop):
            byzbench.run(todo, out=tmp_path / "parts", callback=interrupt)
    byzbench.run(todo, out=tmp_path / "parts")
    whole, parts = ((tmp_path / name / todo.hash / "metrics.jsonl").read_bytes() for name in ("whole", "parts"))
    assert whole == parts
