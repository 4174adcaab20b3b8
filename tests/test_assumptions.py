"""What a run shows of the assumptions of theorems, against chains whose gradients are known."""

from __future__ import annotations

import math

import pytest
import torch

from byzbench import run
from byzbench.experiments.assumptions import assumptions, moments
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.result import Result
from byzbench.experiments.verdict import Verdict
from byzbench.reports import result_tables
from byzbench.rl.networks import FeedForward
from byzbench.rl.policies import GaussianPolicy
from byzbench.rl.rollouts import Trajectories

POLICY = GaussianPolicy(FeedForward((1, 1)), low=(-math.inf,), high=(math.inf,))


def bandits(targets, rows, seed=0):
    """Agents that act once by N(0, 1) and are paid -(a - target)^2; each sees zero."""
    rng = torch.Generator().manual_seed(seed)
    actions = torch.randn(len(targets), 1, rows, 1, generator=rng)
    paid = -(actions.squeeze(-1) - torch.tensor(targets).view(-1, 1, 1)).square()
    shape = (len(targets), 1, rows)
    return Trajectories(
        observations=torch.zeros(*shape, 1),
        actions=actions,
        rewards=paid,
        mask=torch.ones(shape, dtype=torch.bool),
        terminated=torch.ones(len(targets), rows, dtype=torch.bool),
        count=torch.full((len(targets),), rows),
        final_observations=torch.zeros(len(targets), rows, 1),
    )


def test_variance_and_dissimilarity_are_unbiased():
    """An episode's gradient is -(a, a^2 - 1) (a - target)^2; between the agents lies 4 Var(targets)."""
    targets, theta = [0.0, 0.5, -1.0], torch.zeros(3, POLICY.dimension)
    a = torch.randn(1_000_000, generator=torch.Generator().manual_seed(1)).double()
    variance = sum(float((part * (a - t).square()).var()) for t in targets for part in (a, a.square() - 1)) / 3
    estimates = [moments(POLICY, theta, bandits(targets, 60, seed=s), 1.0) for s in range(300)]
    for key, truth in (
        ("gradient_variance", variance),
        ("gradient_dissimilarity", 4 * float(torch.tensor(targets).var(correction=0))),
    ):
        values = torch.tensor([one[key] for one in estimates]).double()
        assert abs(float(values.mean()) - truth) < 4.5 * float(values.std()) / 300**0.5
        assert float(values.mean()) > 3 * float(values.std()) / 300**0.5


def test_over_rounds():
    lines = [
        {"gradient_norm": float(n), "importance_weight_max": 2.0, "relative_effective_sample_size": 1 / (1 + n)}
        for n in range(101)
    ]
    lines[3] |= {"gradient_variance": 4.0, "gradient_dissimilarity": -1.0, "importance_weight_max": 7.0}
    lines[9] |= {"gradient_variance": 2.0, "gradient_dissimilarity": None}
    assert assumptions(lines) == pytest.approx(
        {
            "gradient_norm_max": 100.0,
            "gradient_norm_p99": 99.0,
            "gradient_variance": 3.0,
            "gradient_dissimilarity": -1.0,
            "importance_weight_max": 7.0,
            "relative_effective_sample_size": 1 / 101,
            "importance_weight_constant": None,
        }
    )
    assert set(assumptions([{}]).values()) == {None}


def test_the_result_table_names_an_estimate_that_may_be_negative():
    constants = {"gradient_norm_max": 44.5, "gradient_variance": 6600.0, "gradient_dissimilarity": -73.9}
    final = {"mean": 1.0, "low": None, "high": None, "n": 1}
    counts = dict.fromkeys(("trajectories", "steps", "messages", "bytes", "num_malformed"), 0)
    verdict, empty = Verdict("ok", None, None, ""), {"evaluation": {}, "versions": {}}
    result = Result("run", verdict, final, **counts, **empty, steps_per_second=1, disagreement=0, assumptions=constants)
    shown = dict(result_tables.rows(Experiment.create("byzpg", agents=5), result))
    assert shown["assumption constants"] == "max ||g|| 44.5; sigma^2 6.6e+03; zeta^2 (unbiased estimate) -73.9"


@pytest.mark.parametrize("algo", ["decbyzpg", "fedpg_br", "gpomdp"])
def test_every_run_records_them(algo, tmp_path):
    todo = Experiment.create(
        algo,
        "large_noise",
        agents=5,
        byzantine=1,
        trajectories=60,
        preset="paper",
        parameters={"algo": {"N": 6, "B": 4} if algo != "gpomdp" else {"N": 6}},
    )
    constants = run(todo, out=tmp_path).assumptions
    assert constants["gradient_norm_max"] >= constants["gradient_norm_p99"] > 0
    assert constants["gradient_variance"] > 0
    assert constants["gradient_dissimilarity"] is not None
    if algo != "gpomdp":
        assert constants["importance_weight_max"] > 0
        assert 0 < constants["relative_effective_sample_size"] <= 1
    assert (constants["importance_weight_constant"] is not None) == (algo == "decbyzpg")
