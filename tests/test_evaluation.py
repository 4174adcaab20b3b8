"""The return that boards use, and the pictures of it: fresh episodes, paired, and paid by nobody."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import byzbench
from byzbench.errors import CorruptRecord, InvalidParameter
from byzbench.experiments.episodes import render_episode
from byzbench.experiments.evaluation import EPISODES, EVALUATIONS, evaluate_policy, evaluation_due
from byzbench.records.run_folder import RunFolder
from byzbench.registry import make
from byzbench.rl.networks import FeedForward
from byzbench.rl.policies import CategoricalPolicy

SMALL: dict[str, Any] = {"agents": 5, "byzantine": 1, "trajectories": 60, "preset": "paper"}
SMALL |= {"parameters": {"algo": {"N": 10, "B": 2}}}
KEYS = {f"evaluation{greedy}{of}" for greedy in ("", "_greedy") for of in ("", "_worst", "_cvar")}


@pytest.mark.parametrize("budget", [1, 7, 20, 60, 2000, 8001])
@pytest.mark.parametrize("stride", [1, 4, 50])
def test_every_twentieth_once_and_always_at_the_end(budget: int, stride: int) -> None:
    at = list(range(0, budget + stride, stride))
    due = [evaluation_due(before, after, budget) for before, after in pairwise(at)]
    done = [number for number in due if number]
    assert done == sorted(set(done))
    assert done[-1] == EVALUATIONS
    assert due[-1] == EVALUATIONS
    if budget >= EVALUATIONS and stride == 1:
        assert done == list(range(1, EVALUATIONS + 1))


def test_evaluations_stand_in_the_metrics_and_charge_nothing(tmp_path: Path) -> None:
    result = byzbench.run(**SMALL, attack="ipm", out=tmp_path)
    lines = RunFolder(Path(str(result.run))).metrics()
    evaluated = [line for line in lines if set(line) & KEYS]
    assert all(set(line) >= KEYS for line in evaluated)
    assert len(evaluated) >= 5
    area = result.evaluation["evaluation_auc"]
    assert result.evaluation == {k: lines[-1][k] for k in KEYS} | {"evaluation_auc": area}
    at, values = [line["trajectories"] for line in evaluated], [line["evaluation"] for line in evaluated]
    assert area == pytest.approx(
        np.trapezoid(np.interp(np.arange(60_001) / 1e3, [0, *at], [22.3, *values]), dx=1e-3) / 60, rel=1e-5
    )
    batches = [10 if line["large_batch"] else 2 for line in lines]
    assert [line["trajectories"] for line in lines] == torch.tensor(batches).cumsum(0).tolist()


def test_dates_and_episodes_of_evaluations_change_nothing_else(tmp_path: Path) -> None:
    usual = byzbench.run(**SMALL, attack="ipm", out=tmp_path)
    fewer = byzbench.run(**SMALL, attack="ipm", out=tmp_path, evaluations=3, evaluation_episodes=2)
    assert usual.run != fewer.run
    assert usual.trace == fewer.trace
    dates = [
        line["trajectories"] for line in RunFolder(Path(str(fewer.run))).metrics() if line.get("evaluation") is not None
    ]
    assert len(dates) == 3
    assert all(at >= 20 * number for number, at in enumerate(dates, 1))
    with pytest.raises(InvalidParameter, match="evaluations must be a whole number from 1"):
        byzbench.run(**SMALL, out=tmp_path, evaluations=0)


def test_the_number_of_episodes_is_that_of_the_experiment() -> None:
    task, policy = make("task", "cartpole"), CategoricalPolicy(FeedForward((4, 2)))
    theta = torch.zeros(1, policy.dimension)
    assert evaluate_policy(task, policy, theta, 0, 1, 1)["evaluation"] == int(
        evaluate_policy(task, policy, theta, 0, 1, 1)["evaluation"]
    )
    assert evaluate_policy(task, policy, theta, 0, 1, 1) != evaluate_policy(task, policy, theta, 0, 1, 2)


def test_evaluation_episodes_are_those_of_the_seed() -> None:
    task, policy = make("task", "cartpole"), CategoricalPolicy(FeedForward((4, 16, 16, 2)))
    theta = torch.randn(3, policy.dimension, generator=torch.Generator().manual_seed(0))
    first = evaluate_policy(task, policy, theta, 0, 1)
    assert first == evaluate_policy(task, policy, theta, 0, 1)
    assert first != evaluate_policy(task, policy, theta, 0, 2)
    assert first != evaluate_policy(task, policy, theta, 1, 1)
    assert (
        first["evaluation_worst"] == first["evaluation_cvar"] < first["evaluation"]
    )  # a fifth of three is one at most


def test_greedy_takes_the_likeliest_action() -> None:
    """A policy that leans either way by a hair plays at random as it is, and always one way when greedy."""
    task, policy = make("task", "cartpole"), CategoricalPolicy(FeedForward((4, 2)))
    theta = torch.zeros(1, policy.dimension)
    theta[0, -1] = 1e-3
    returns = evaluate_policy(task, policy, theta, 0, 1)
    assert 8 <= returns["evaluation_greedy"] <= 10.5  # always to the right: the pole falls in nine or ten steps
    assert returns["evaluation"] > 12
    assert EPISODES == 10


def test_watch_writes_a_moving_picture(tmp_path: Path) -> None:
    run = Path(str(byzbench.run(**SMALL, out=tmp_path).run))
    score, steps = render_episode(run, tmp_path / "episode.gif")
    assert score == steps > 5
    with Image.open(tmp_path / "episode.gif") as picture:
        assert picture.format == "GIF"
        assert 1 < getattr(picture, "n_frames", 1) <= (steps + 1) // 2
    assert render_episode(run, tmp_path / "again.gif") == (score, steps)
    assert (tmp_path / "again.gif").read_bytes() == (tmp_path / "episode.gif").read_bytes()
    with pytest.raises(InvalidParameter, match="from 0 to 4, got 5"):
        render_episode(run, tmp_path / "no.gif", agent=5)
    with pytest.raises(CorruptRecord, match="not the folder of a finished run"):
        render_episode(tmp_path / "nowhere", tmp_path / "no.gif")
    assert not (tmp_path / "no.gif").exists()
