"""Benchmark suite for federated and decentralised reinforcement learning with Byzantine agents.

The two main functions are `byzbench.run(...)`, which trains and returns a result, and `byzbench.load(kind, name, ...)`,
which builds one component. Both are imported on first use, so that `import byzbench` is fast.
"""

from pathlib import Path as _Path
from typing import TYPE_CHECKING, Any

# In a checkout the folders of attacks, algorithms and topologies are beside this package, in a wheel inside it.
_checkout = _Path(__file__).resolve().parent.parent
if (_checkout / "pyproject.toml").is_file() and (_checkout / "attacks").is_dir():
    __path__.append(str(_checkout))

if TYPE_CHECKING:
    from byzbench.experiments.experiment import Experiment as Experiment
    from byzbench.experiments.runner import run as run
    from byzbench.records.result import Result as Result
    from byzbench.registry import load as load

__all__ = ["Experiment", "Result", "load", "run"]
__version__ = "0.1.0"

_HOMES = {
    "Experiment": "byzbench.experiments.experiment",
    "Result": "byzbench.records.result",
    "load": "byzbench.registry",
    "run": "byzbench.experiments.runner",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        from byzbench.platforms import check_platform

        check_platform()
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'byzbench' has no attribute {name!r}")
