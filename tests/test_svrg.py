"""SVRPG and FedPG-BR: the batch of their filter, their fallback and their presets; and Res-NHARPG's return."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from byzbench import run
from byzbench.aggregators.fedpg_filter import FedpgFilter
from byzbench.core import RuleContext, State
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import Training, lockstep
from byzbench.geometry.pairwise_distances import PairwiseDistances
from byzbench.registry import make
from byzbench.rl.gradients import gpomdp, whitened
from byzbench.rl.rollouts import Trajectories

SMALL: dict[str, Any] = {"agents": 4, "byzantine": 0, "trajectories": 12, "seed": 1}


@pytest.mark.parametrize("attack", ["none", "agr_tailored:calls=120"])
def test_the_filter_and_its_clone_have_the_batch_that_the_round_has_drawn(
    attack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[set[int]] = []
    compute = FedpgFilter.compute_weights

    def recorded(self: FedpgFilter, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, State]:
        assert context.batch_size is not None
        batches[-1] |= set(context.batch_size.flatten().tolist())
        return compute(self, pairs, f, context)

    monkeypatch.setattr(FedpgFilter, "compute_weights", recorded)
    parameters = {"algorithm": {"N": 5, "B": 2, "spread": 3}}
    training = Training(Experiment.create("fedpg_br", attack, agents=5, trajectories=40, seed=1, parameters=parameters))
    drawn, before = [], 0
    while len(drawn) < 4:
        batches.append(set())
        lockstep(training.advance())
        after = int(training.federation.counters.trajectories[0])
        drawn.append({after - before})
        before = after
    assert batches == drawn
    assert len(set(map(str, drawn))) > 1


@pytest.mark.parametrize("estimator", ["gpomdp", "whitened"])
def test_the_server_measures_in_the_first_round_how_far_apart_gradients_are(
    estimator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, compute = list[float](), FedpgFilter.compute_weights

    def recorded(self: FedpgFilter, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, State]:
        known.append(float(context.deviation))  # type: ignore[arg-type]
        return compute(self, pairs, f, context)

    monkeypatch.setattr(FedpgFilter, "compute_weights", recorded)
    parameters = {"algorithm": {"N": 5, "B": 2, "estimator": estimator, "baseline": "others"}}
    training = Training(Experiment.create("fedpg_br", parameters=parameters, **SMALL))
    federation, sampled = training.federation, list[Trajectories]()
    sample = federation.sample_at_server

    async def kept(theta: Tensor, count: int) -> Trajectories:
        sampled.append(await sample(theta, count))
        return sampled[-1]

    monkeypatch.setattr(federation, "sample_at_server", kept)
    theta = training.state["theta"][:1]
    for _ in range(3):
        lockstep(training.advance())
    estimate = {"gpomdp": gpomdp, "whitened": whitened}[estimator]
    single = [sampled[0].part(slice(i, i + 1)) for i in range(5)]
    g = torch.cat([estimate(federation.policy, theta, one, federation.discount) for one in single]).double()
    distance = float(((g - g.mean(0)).square().sum() / 4 * 2 / 5).sqrt())
    assert known == pytest.approx([distance, 0.9 * distance, 0.81 * distance], rel=1e-5)


@pytest.mark.parametrize("fallback", ["stay", "own"])
def test_the_server_steps_along_its_own_gradients_where_the_filter_has_no_majority(
    fallback: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = {"algorithm": {"N": 3, "B": 2, "lr": 0.1, "optimizer": "sgd", "least": 1, "fallback": fallback}}
    parameters["algorithm"]["scale"] = "none"
    rule = "fedpg_filter(sigma=1e-9, fallback=none)"
    training = Training(Experiment.create("fedpg_br", aggregator=rule, parameters=parameters, **SMALL))
    federation, sampled = training.federation, list[tuple[Tensor, Trajectories]]()
    sample = federation.sample_at_server

    async def recorded(theta: Tensor, count: int) -> Trajectories:
        episodes = await sample(theta, count)
        sampled.append((theta, episodes))
        return episodes

    monkeypatch.setattr(federation, "sample_at_server", recorded)
    expected = training.state["theta"][:1]
    line = lockstep(training.advance())
    assert line["no_majority"] == 1
    assert line["inner_steps_taken"] == len(sampled) > 0
    for theta, episodes in sampled if fallback == "own" else []:
        torch.testing.assert_close(theta, expected)
        expected = expected + 0.1 * whitened(federation.policy, theta, episodes, federation.discount, pool="steps")
    torch.testing.assert_close(training.state["theta"], expected.expand(4, -1))


def test_a_run_without_majorities_says_so(tmp_path: Path) -> None:
    remark = "is too small: in 100 % of rounds no vector was within 2 sigma of most others"
    parameters = {"algorithm": {"N": 3, "B": 2}}
    notes = {}
    for rule in ("fedpg_filter(sigma=1e-9)", "fedpg_filter"):
        experiment = Experiment.create("fedpg_br", aggregator=rule, parameters=parameters, **SMALL)
        notes[rule] = [note for note in run(experiment, out=tmp_path).notes if "sigma" in note]
    assert notes == {"fedpg_filter(sigma=1e-9)": [f"sigma of fedpg_filter(sigma=1e-09) {remark}"], "fedpg_filter": []}


@pytest.mark.parametrize(
    "env, sigma, policy, numbers",
    [
        ("cartpole", 0.06, "mlp(hidden=[16, 16], activation=relu)", (16, 4, 1e-3, 4, None)),
        ("lunarlander", 0.07, "mlp", (32, 8, 1e-3, 6, 0.99)),
        ("halfcheetah", 0.9, "mlp(std=state)", (48, 16, 8e-5, 2, 0.995)),
        ("acrobot", None, "mlp(hidden=[16, 16])", (16, 4, 5e-3, 4, None)),
    ],
)
def test_the_preset_official_has_the_codes_values_on_each_task(
    env: str, sigma: float | None, policy: str, numbers: tuple[Any, ...]
) -> None:
    pytest.importorskip({"lunarlander": "Box2D", "halfcheetah": "mujoco"}.get(env, "torch"))
    official = Experiment.create("fedpg_br", env=env, preset="official")
    method: Any = official.algorithm
    assert official.aggregator == FedpgFilter(sigma=sigma, fallback="none")
    assert official.policy == make("policy", policy)
    assert (method.N, method.B, method.lr, method.spread, method.discount) == numbers
    assert (method.least, method.weights, method.drift, method.logits) == (1, "step", 0.005, "tanh")
    assert (method.fallback, method.pool, method.scale) == ("own", "steps", "none")
    paper = Experiment.create("fedpg_br", env=env, preset="paper")
    assert paper.aggregator == FedpgFilter()
    assert (paper.algorithm.spread, paper.algorithm.discount) == numbers[3:]  # type: ignore[attr-defined]
    svrpg = Experiment.create("svrpg", env=env, preset="official", policy="linear")
    assert (svrpg.policy, svrpg.aggregator) == (make("policy", "linear"), make("aggregator", "mean"))
    assert (svrpg.algorithm.drift, svrpg.algorithm.weights) == (0.005, "step")  # type: ignore[attr-defined]


def test_a_baseline_of_whitened_returns_is_remarked_upon() -> None:
    def remarks(**parameters: str) -> list[str]:
        notes = Experiment.create("svrpg", parameters={"algorithm": parameters}, **SMALL).notes()
        return [note for note in notes if "baseline" in note]

    text = "svrpg: whitened returns have no baseline: baseline=others changes nothing; estimator=gpomdp has one"
    assert remarks(baseline="others") == [text]
    assert remarks() == remarks(baseline="others", estimator="gpomdp") == []


def test_res_nharpg_reports_the_return_of_its_present_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training(Experiment.create("res_nharpg", parameters={"algorithm": {"N": 4, "lr": 1.0}}, **SMALL))
    federation, sampled = training.federation, list[tuple[Tensor, Trajectories]]()
    sample = federation.sample

    def recorded(theta: Tensor, count: Tensor | int) -> Trajectories:
        sampled.append((theta, sample(theta, count)))
        return sampled[-1][1]

    monkeypatch.setattr(federation, "sample", recorded)
    lockstep(training.advance())
    sampled.clear()
    theta, line = training.state["theta"], lockstep(training.advance())
    returns = {torch.equal(at, theta): float(episodes.returns.mean()) for at, episodes in sampled}
    assert returns.keys() == {False, True}
    assert line["return"] == returns[True] != returns[False]
