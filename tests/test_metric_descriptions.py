"""The metrics dictionary: runs write the keys that it lists, and no others."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from byzbench import Experiment
from byzbench.aggregators.median import Median
from byzbench.core import RuleContext, RuleOutput
from byzbench.experiments import runner
from byzbench.experiments.metric_descriptions import METRICS, TIMING, TRACE, result_descriptions

ROOT = Path(__file__).resolve().parent.parent
LOGS = r'\.log\(\s*"(\w+)"|[{ ]"(\w+)": float\('
"""A name in a call of `log`, or in the dict of numbers that a round returns."""

TINY: dict[str, Any] = {"agents": 5, "byzantine": 1, "trajectories": 8, "attack": "sign_flip"}
RUNS: dict[str, dict[str, Any]] = {
    "decentralised": {"algo": "decbyzpg(N=4,B=2,p=0.5)", "topology": "complete", "agreement": "gossip+median"},
    "a rule without a majority": {"algo": "fed_page_pg(N=4,B=2,p=0.5)", "aggregator": "fedpg_filter"},
    "a server with its own steps": {"algo": "svrpg(N=4,B=2)"},
    "an ensemble with discrete actions": {"algo": "ensemble_frl(N=2,groups=3)"},
    "an ensemble with continuous actions": {"algo": "ensemble_frl(N=2,groups=3)", "env": "pendulum"},
    "exact returns": {"algo": "fed_pg(N=4)", "env": "chain", "scenario": "reward_scale"},
    "agents on their own": {"algo": "dec_pg(N=4)", "topology": "complete", "schedule": "asynchronous"},
    "a clock": {
        "algo": "dec_pg(N=4)",
        "agreement": "gossip",
        "topology": "ring",
        "schedule": "synchronous(speed=equal)",
    },
}


@dataclass(frozen=True)
class NotFinite(Median):
    """A rule that returns NaN."""

    def aggregate(self, x: torch.Tensor, f: torch.Tensor, context: RuleContext) -> RuleOutput:
        value, weights, state = super().aggregate(x, f, context)
        return RuleOutput(value * torch.nan, weights, state)


def experiments() -> Iterator[Experiment]:
    for options in RUNS.values():
        yield Experiment.create(**{**TINY, **options})
    broken = Experiment.create(**{**TINY, **RUNS["decentralised"]})
    yield replace(broken, aggregator=NotFinite())
    yield replace(broken, agreement=replace(broken.agreement, rule=NotFinite()))  # type: ignore[call-arg]


def inner_keys(data: dict[str, Any]) -> Iterator[str]:
    """The keys of a result, with those of its objects; topics and names of libraries and files are not keys."""
    for key, value in data.items():
        yield key
        if key == "traffic":
            yield from (f"traffic.TOPIC.{name}" for sent in value.values() for name in sent)
        elif isinstance(value, dict) and key not in ("versions", "digests"):
            yield from (f"{key}.{name}" for name in value)


def test_runs_write_what_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = itertools.count()
    monkeypatch.setattr(runner, "_seconds_compiled", lambda: float(next(compiled)))
    written: dict[str, set[str]] = {"metrics.jsonl": set(), "trace.jsonl": set(), "timing.jsonl": set()}
    results: set[str] = set()
    for todo in experiments():
        folder = Path(str(runner.run_experiment(todo, out=tmp_path).run))
        for log, keys in written.items():
            keys |= {key for line in (folder / log).read_text().splitlines() for key in json.loads(line)}
        results |= set(inner_keys(json.loads((folder / "result.json").read_text())))
    described = {"metrics.jsonl": METRICS, "trace.jsonl": TRACE, "timing.jsonl": TIMING}
    for log, keys in written.items():
        assert keys == {key.name for key in described[log]}
    assert results == {key.name for key in result_descriptions()}


def test_what_code_logs_is_described() -> None:
    """The names that methods and rules log or return, also those of which the runs above use no example."""
    files = [*ROOT.glob("algorithms/*.py"), *ROOT.glob("byzbench/core/*.py"), *ROOT.glob("byzbench/aggregators/*.py")]
    texts = [path.read_text(encoding="utf-8") for path in files]
    logged = {name for text in texts for pair in re.findall(LOGS, text) for name in pair if name}
    assert {"no_majority", "large_batch"} <= logged <= {key.name for key in METRICS}


def test_descriptions_are_complete_and_name_each_key_once() -> None:
    for keys in (METRICS, TRACE, TIMING, result_descriptions()):
        assert len({key.name for key in keys}) == len(keys)
        assert all(key.meaning and not key.meaning.endswith(".") for key in keys)
