"""What a run would use, and where each value is from."""

from __future__ import annotations

import json
import warnings

import pytest

from byzbench import Experiment, cli
from byzbench.errors import InvalidParameter, RenamedParameter, UserError
from byzbench.experiments.origins import value_origins


def origins(*args: str, **options: str) -> dict[str, tuple[str, str]]:
    return {entry.name: (entry.value, entry.origin) for entry in value_origins(*args, **options)}


def test_every_value_is_that_of_a_run_and_has_its_origin() -> None:
    listed = origins("decbyzpg(B=7)", "acrobot")
    algorithm = Experiment.create("decbyzpg(B=7)", env="acrobot").algorithm
    assert {name.removeprefix("algo."): value for name, (value, _) in listed.items() if name.startswith("algo.")} == {
        name: str(value) for name, value in vars(algorithm).items()
    }
    assert listed["algo.B"] == ("7", "given")
    assert listed["algo.lr"] == ("0.005", "suggested by task acrobot")
    assert listed["algo.optimizer"] == ("adam", "default of decbyzpg")
    assert listed["policy"] == ("mlp(hidden=[16, 16])", "default of task acrobot")
    assert listed["aggregator"] == ("rfa", "default of decbyzpg")
    assert listed["trajectories"] == ("2000", "budget of task acrobot")


def test_studies_presets_and_policies_are_named() -> None:
    assert "docs/recommended.md" in origins("decbyzpg", "cartpole")["algo.lr"][1]
    assert origins("decbyzpg", "cartpole", preset="official")["algo.snapshot"][1] == "preset official of decbyzpg"
    table = origins("gpomdp", "gymnasium:FrozenLake-v1", policy="tabular")
    assert table["algo.lr"] == ("0.4", "suggested by policy tabular")
    assert table["policy"] == ("tabular", "given")


def test_the_command_prints_them(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["byzbench", "show", "algo", "solo", "--env", "acrobot", "--json"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    printed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert printed["algo.N"]["origin"].startswith("suggested by")
    monkeypatch.setattr("sys.argv", ["byzbench", "show", "attack", "alie", "--env", "acrobot"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert capsys.readouterr().err.strip().endswith("are for an algorithm: show algo NAME --env TASK")


def test_the_old_place_of_a_policys_parameters_works_with_a_warning() -> None:
    new = Experiment.create("gpomdp", env="cartpole", policy="mlp(hidden=[3], squash=True)")
    for options in (
        {"env": "cartpole(hidden=[3], squash=True)"},
        {"env": "cartpole(squash=True)", "parameters": {"env": {"hidden": [3]}}},
    ):
        with pytest.warns(RenamedParameter, match="task 'cartpole': hidden is now a parameter of --policy"):
            assert Experiment.create("gpomdp", **options) == new
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Experiment.create("gpomdp", env="acrobot").policy.hidden == (16, 16)
        with pytest.raises(InvalidParameter, match="hidden is a parameter of the policy, which is given too"):
            Experiment.create("gpomdp", env="cartpole:hidden=[3]", policy="linear")


def test_a_table_needs_states() -> None:
    with pytest.raises(UserError, match="policy 'tabular' needs a task with discrete observations; use mlp or linear"):
        Experiment.create("gpomdp", env="cartpole", policy="tabular")
