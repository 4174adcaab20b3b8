"""What a uniformly random policy returns on every task, and what one agent learns: byzbench/tasks/references.json.

    python benchmarks/references.py [TASK ...] [--episodes 2000]
    python benchmarks/references.py --solo [TASK ...]

A task that the file has is measured again only if it is named. `solo` is the evaluation return of one honest agent
after so many episodes of proximal policy optimisation (fed_ppo with a single agent, as it comes), the mean over three
seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import numpy as np

import byzbench
from byzbench import registry
from byzbench.core import Task
from byzbench.core.environment_spec import EnvironmentSpec, environment_facts
from byzbench.tasks import _references
from byzbench.tasks._references import random_returns

FILE = Path(_references.__file__).with_name("references.json")
SOLVED = {"pendulum": -250.0, "hopper": 1500.0, "walker2d": 1500.0}
"""Where Gymnasium names no threshold, or one that takes far longer to reach (Hopper: 3,800)."""
SOLO = {
    "cartpole": 600,
    "acrobot": 400,
    "mountaincar": 200,
    "mountaincar_continuous": 200,
    "pendulum": 400,
    "lunarlander": 800,
    "lunarlander_continuous": 800,
    "inverted_pendulum": 800,
    "hopper": 800,
    "walker2d": 800,
    "halfcheetah": 200,
    "ant": 200,
    "pettingzoo:mpe2/simple_spread_v3": 2500,
}
"""Episodes that one agent learns from. Three seeds take from half a minute to ten, on Hopper, of a core."""


def main() -> None:
    """Measure, and keep what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*")
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--solo", action="store_true", help="measure what one agent learns")
    args = parser.parse_args()
    references = json.loads(FILE.read_text()) if FILE.exists() else {}
    if args.solo:
        for name in args.tasks or SOLO:
            references[name] |= learned(name)
            print(name, references[name], flush=True)
            FILE.write_text(json.dumps(dict(sorted(references.items())), indent=2) + "\n")
        return
    # Where a task computes its references, the class has a property.
    stated = [n for n in registry.origins("task") if not isinstance(registry.find("task", n).reference, property)]
    names = args.tasks or [n for n in stated if n not in references]
    for name in names:
        references[name] = references.get(name, {}) | measured(name, args.episodes)
        print(name, references[name])
        FILE.write_text(json.dumps(dict(sorted(references.items())), indent=2) + "\n")


def learned(name: str) -> dict[str, float]:
    """Return the final return of one agent's policy."""
    backend = (
        {"backend": "envpool"} if hasattr(registry.find("task", registry.parse_spec(name).name), "backend") else {}
    )
    options = {"algo": "fed_ppo", "agents": 1, "byzantine": 0, "aggregator": "mean", "trajectories": SOLO[name]}
    returns = []
    for seed in range(3):
        with tempfile.TemporaryDirectory() as out:
            result = byzbench.run(**options, env=name, seed=seed, out=out, parameters={"task": backend})
        returns.append(result.evaluation["evaluation"])
    return {"solo": round(statistics.fmean(returns), 2), "solo_error": round(statistics.stdev(returns) / 3**0.5, 2),
            "solo_trajectories": SOLO[name]}  # fmt: skip


def measured(name: str, episodes: int) -> dict[str, float]:
    """Mean return and standard error of a uniformly random policy over at least so many episodes."""
    task = registry.make("task", name)
    assert isinstance(task, Task)
    scores = random_returns(task, episodes, np.random.default_rng(0))
    error = scores.std(ddof=1) / len(scores) ** 0.5
    reference = {"random": round(float(scores.mean()), 2), "error": round(float(error), 2), "episodes": len(scores)}
    if not task.gymnasium_id:  # a game, which nobody calls solved
        return reference
    solved = SOLVED[name] if name in SOLVED else environment_facts(EnvironmentSpec(task.gymnasium_id)).threshold
    assert solved is not None, f"{name} has no threshold of its own: state one"
    return reference | {"solved": float(solved)}


if __name__ == "__main__":
    main()
