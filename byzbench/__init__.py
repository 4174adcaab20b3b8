"""Benchmark suite for federated and decentralised reinforcement learning with Byzantine agents.

    import byzbench

    result = byzbench.run(algo="decbyzpg", attack="alie", topology="ring")
    results = byzbench.sweep({"algo": ["decbyzpg", "fed_ppo"], "attack": ["none", "ipm"], "seeds": 3})

The functions do what commands do, and write the same files: see docs/python.md. Everything is imported on first use, so
that `import byzbench` is fast.
"""

from pathlib import Path as _Path
from typing import TYPE_CHECKING, Any

# In a checkout the folders of attacks, algorithms and topologies are beside this package, in a wheel inside it.
_checkout = _Path(__file__).resolve().parent.parent
if (_checkout / "pyproject.toml").is_file() and (_checkout / "attacks").is_dir():
    __path__.append(str(_checkout))

if TYPE_CHECKING:
    from byzbench.api.verbs import breakdown as breakdown
    from byzbench.api.verbs import components as components
    from byzbench.api.verbs import evaluate as evaluate
    from byzbench.api.verbs import run as run
    from byzbench.api.verbs import sweep as sweep
    from byzbench.api.verbs import tune as tune
    from byzbench.api.verbs import worst_case as worst_case
    from byzbench.experiments.experiment import Experiment as Experiment
    from byzbench.experiments.result import Result as Result
    from byzbench.experiments.trained_policy import TrainedPolicy as TrainedPolicy
    from byzbench.experiments.trained_policy import load_policy as load_policy
    from byzbench.registry import make as make
    from byzbench.reports.results import Results as Results
    from byzbench.reports.results import load_results as load_results

__version__ = "0.1.0"

_HOMES = {
    "Experiment": "experiments.experiment",
    "Result": "experiments.result",
    "Results": "reports.results",
    "TrainedPolicy": "experiments.trained_policy",
    "breakdown": "api.verbs",
    "components": "api.verbs",
    "evaluate": "api.verbs",
    "load_policy": "experiments.trained_policy",
    "load_results": "reports.results",
    "make": "registry",
    "run": "api.verbs",
    "sweep": "api.verbs",
    "tune": "api.verbs",
    "worst_case": "api.verbs",
}
"""The module below `byzbench` that defines each public name."""

__all__ = [
    "Experiment",
    "Result",
    "Results",
    "TrainedPolicy",
    "breakdown",
    "components",
    "evaluate",
    "load_policy",
    "load_results",
    "make",
    "run",
    "sweep",
    "tune",
    "worst_case",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        from byzbench.platforms import check_platform

        check_platform()
        return getattr(import_module(f"byzbench.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'byzbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
