"""Arguments of the functions of Python: NumPy's numbers are numbers, and other types are refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import byzbench
from byzbench.errors import UserError

COUNTS = ("agents", "byzantine", "assumed_byzantine", "trajectories", "evaluations", "evaluation_episodes", "seed")
create = byzbench.Experiment.create


@pytest.mark.parametrize("name", COUNTS)
def test_whole_numbers_of_numpy_and_torch_are_whole_numbers(name: str) -> None:
    expected = create(**{"agents": 9, name: 3})
    for number in (np.int64(3), np.uint8(3), np.array(3), torch.tensor(3)):
        experiment = create(**{"agents": 9, name: number})
        assert experiment == expected
        assert type(getattr(experiment, name)) is int
    for number in (3.0, np.float64(3), True, np.True_, "3", [3]):
        with pytest.raises(UserError, match=f"{name} must be a whole number"):
            create(**{"agents": 9, name: number})


def test_switches_and_devices_have_the_types_of_python() -> None:
    assert create(relay=np.True_) == create(relay=True)
    assert create(device=torch.device("cpu")) == create()


@pytest.mark.parametrize(
    "options, line",
    [
        ({"relay": "yes"}, "relay must be True or False, got 'yes'"),
        ({"relay": 1}, "relay must be True or False, got 1"),
        ({"mixing": "metropolitan"}, "no mixing weights 'metropolitan'. Did you mean 'metropolis'?"),
        ({"mixing": 5}, "no mixing weights 5"),
        ({"algo": 5}, "algorithm takes the name of a component or a component, got 5"),
        ({"env": ["cartpole"]}, "task takes the name of a component or a component, got"),
        ({"parameters": [1]}, "parameters takes those of each kind"),
        ({"parameters": {"algo": 5}}, "parameters takes those of each kind"),
        ({"parameters": {"algo": {5: 4}}}, "algorithm 'decbyzpg': no parameter 5"),
        ({"parameters": {5: {"N": 4}}}, "unknown kind 5"),
        ({"out": None}, "out must be the path of a folder, got None"),
        ({"on_existing": "again"}, "on_existing must be one of reuse, rerun; got 'again'"),
        ({"callback": 5}, "callback must be a function of one argument, got 5"),
        ({"experiment": 5}, "experiment must be an Experiment, got 5"),
        ({"experiment": create(), "seed": 3}, "give an experiment or its axes, not both: seed"),
    ],
    ids=str,
)
def test_other_types_are_refused_before_anything_runs(
    options: dict[str, Any], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refusal:
        byzbench.run(**{"out": tmp_path / "runs", **options})
    assert line in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_a_kind_and_a_component_are_named_by_text() -> None:
    with pytest.raises(UserError, match="unknown kind 5"):
        byzbench.make(5, "krum")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="aggregator takes the name of a component or a component, got 5"):
        byzbench.make("aggregator", 5)  # type: ignore[arg-type]
