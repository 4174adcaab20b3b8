"""Axes: what `byzbench.axes` declares is what every command, file, filter and tracker has."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import tiny_suite
import typer
import wandb
from test_tracking import only, read
from tiny_suite import main

from byzbench import Experiment, cli, registry
from byzbench.axes import AXES, Axis, axis_named, option, recorded_axes, without_aliases
from byzbench.errors import InvalidParameter
from byzbench.records import store
from byzbench.sweeps.grid import SweepGrid, plan_sweep

tiny = tiny_suite.tiny
ROOT = Path(__file__).resolve().parents[1]
SMALL = "--agents 5 --byzantine 1 --preset paper --trajectories 12 -p algo.N=4 -p algo.B=2 --topology complete".split()  # noqa: SIM905
NAMES = {axis.name for axis in AXES}
METHOD = {"algo", "aggregator", "agreement", "preset", "attack"}

VERBS: dict[str, set[str]] = {
    "run": NAMES,
    "sweep": NAMES - {"seed"},
    "tune": NAMES - {"seed"},
    "breakdown": NAMES - {"seed", "byzantine"},
    "worst": NAMES - {"seed", "attack"},
    "runs": NAMES - {"preset"},
    "report": NAMES - {"preset"},
    "plot": NAMES - {"preset"},
    "leaderboard run": METHOD,
}
"""The axes that each command has as options; it sets the others itself."""


def test_an_experiment_has_the_recorded_axes_and_their_defaults() -> None:
    assert [f.name for f in fields(Experiment)] == [axis.key for axis in recorded_axes()]
    assert Experiment.further_axes == ()
    parameters = inspect.signature(Experiment.create).parameters
    assert parameters.keys() - {"parameters", "further"} == NAMES
    assert {name: parameters[name].default for name in NAMES} == {axis.name: axis.default for axis in AXES}


def test_kinds_stores_and_sweep_files_have_them() -> None:
    kinds = [axis for axis in AXES if axis.is_kind]
    assert list(registry.KINDS) == [axis.key for axis in kinds]
    assert [registry.base_class(axis.key).kind for axis in kinds] == [axis.key for axis in kinds]
    assert {axis.name: axis.key for axis in recorded_axes()} == store.AXES
    assert NAMES - {"seed"} < SweepGrid.model_fields.keys()


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_has_every_axis_under_its_name(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    assert main(monkeypatch, *verb.split(), "--help") == 0
    text = capsys.readouterr().out
    for axis in AXES:
        has = re.search(rf"^\W*{axis.flag}\s(.*)", text, re.MULTILINE)
        if axis.name in VERBS[verb]:
            assert has, axis.name
            assert not axis.letter or f"-{axis.letter}" in has[1].split()
        else:
            assert not has or axis.name == "seed", axis.name  # the seed of a search is another one
        assert not [alias for alias in axis.aliases if f"{option(alias)} " in text]


def test_no_other_command_takes_an_experiment() -> None:
    """Each command whose options name an algorithm and a task is in `VERBS`, except one that reads a file of axes."""
    group = typer.main.get_command(cli.app)
    commands = dict(group.commands)  # type: ignore[attr-defined]
    commands |= {f"leaderboard {name}": command for name, command in commands.pop("leaderboard").commands.items()}
    takes = {name for name, command in commands.items() if "--algo" in {o for p in command.params for o in p.opts}}
    assert takes == {*VERBS, "evaluate"}


def test_aliases_are_taken_in_every_place(tmp_path: Path) -> None:
    named = Experiment.create("byzpg", env="acrobot", assumed_byzantine=1)
    options: dict[str, Any] = {"algorithm": "byzpg", "task": "acrobot", "declared": 1}
    assert Experiment.create(**options).hash == named.hash
    assert [cell.hash for cell in plan_sweep(SweepGrid.of(options)).cells.values()] == [named.hash]
    assert [axis_named(word).name for word in options] == ["algo", "env", "assumed_byzantine"]
    with pytest.raises(InvalidParameter, match="task is another spelling of env, which is given too"):
        without_aliases({"env": "acrobot", "task": "cartpole"})
    with pytest.raises(InvalidParameter, match=r"no axis 'agens'\. Did you mean 'agents'"):
        Experiment.create(agens=5)


@pytest.fixture
def untracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder, and an environment that says nothing about W&B."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BYZBENCH_OUT", raising=False)
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(sys, "exit", sys.exit)  # W&B replaces it
    yield
    monkeypatch.undo()
    wandb.finish()


def check_tracked(folder: Path, group: str) -> None:
    """Check that the W&B file of a run has every axis in its configuration and tags, and the digest of the trace."""
    shown = read(only(folder.rglob("*.wandb")))
    described = json.loads((folder / "experiment.json").read_text())["experiment"]
    assert shown.exit_code == 0
    assert shown.run.run_group == group
    assert set(shown.run.tags) == {tag_of(axis, described[axis.key]) for axis in recorded_axes()}
    for axis in recorded_axes():
        assert shown.config[axis.key] == (described[axis.key]["name"] if axis.is_kind else described[axis.key])
    assert shown.summary["result/trace"] == hashlib.sha256((folder / "trace.jsonl").read_bytes()).hexdigest()


def tag_of(axis: Axis, value: Any) -> str:
    text = value["name"] if axis.is_kind else json.dumps(value).strip('"')
    return text if axis.is_kind else f"{axis.symbol or axis.name}={text}"


def test_a_sweep_is_tracked_with_every_axis(
    untracked: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    axes = ["--attack", "sign_flip", "--channel", "loss", "--assumed-byzantine", "1,0", "--coin", "shared"]
    axes += ["--device", "cpu", "--mixing", "metropolis", "--no-relay"]
    assert main(monkeypatch, "sweep", *axes, *SMALL, "--executor", "serial", "--wandb", "offline") == 0
    assert "assumed_byzantine=1" in capsys.readouterr().err
    folders = [path.parent for path in tmp_path.glob("runs/*/result.json")]
    assert len(folders) == 2
    for folder in folders:
        check_tracked(folder, only(tmp_path.glob("runs/sweep-*.json")).stem)


@pytest.mark.slow
def test_the_cells_of_an_entry_are_tracked_with_every_axis(
    tiny: object, untracked: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ["--suite", "tiny-v1", "--algo", "decbyzpg(N=4, B=2)", "--executor", "serial", "--wandb", "offline"]
    assert main(monkeypatch, "leaderboard", "run", *words) == 0
    folders = [path.parent for path in tmp_path.glob("runs/*/result.json")]
    assert len(folders) == 4
    for folder in folders:
        check_tracked(folder, only(tmp_path.glob("runs/leaderboard-*.json")).stem)


BASE = '''
from dataclasses import dataclass
from typing import ClassVar
from byzbench.core import Component

@dataclass(frozen=True)
class Weather(Component):
    """Weather."""

    kind: ClassVar[str] = "weather"
'''
COMPONENT = '''"""{name}."""
from dataclasses import dataclass
from weather import Weather

@dataclass(frozen=True)
class {name}(Weather):
    """{name}."""

    speed: float = 1.0
'''
DRIVER = """
import io, json, sys
from contextlib import redirect_stdout
sys.path.insert(0, "plugin")
import byzbench
from byzbench import axes
byzbench.__path__.append("plugin")
entry = axes.Axis(name="weather", help="Weather", default="calm", package="weathers", base="weather.Weather")
axes.AXES += (entry,)
from byzbench import cli
outputs = []
for words in json.load(sys.stdin):
    sys.argv = ["byzbench", *words]
    with redirect_stdout(io.StringIO()) as out:
        try:
            cli.main()
        except SystemExit as end:
            assert not end.code, words
    outputs.append(out.getvalue())
experiment = byzbench.Experiment.create(weather="storm")
assert experiment.weather.speed == 1 and byzbench.Experiment.from_description(experiment.describe()) == experiment
print(json.dumps([*outputs, experiment.hash]))
"""


@pytest.mark.slow
def test_a_kind_is_one_entry_a_base_class_and_a_package(tmp_path: Path) -> None:
    """Add a kind, and see it as option, keyword, key of sweep files, filter, and W&B tag."""
    (tmp_path / "plugin/weathers").mkdir(parents=True)
    (tmp_path / "plugin/weather.py").write_text(BASE)
    (tmp_path / "plugin/weathers/__init__.py").touch()
    for name in ("Calm", "Storm"):
        (tmp_path / f"plugin/weathers/{name.lower()}.py").write_text(COMPONENT.format(name=name))
    (tmp_path / "grid.toml").write_text('weather = ["calm", "storm:speed=3"]\nagents = 5\ntrajectories = 12\n')
    commands = [
        ["run", "--help"],
        ["list", "weathers"],
        ["run", *SMALL, "--weather", "storm:speed=3", "--wandb", "offline", "--json"],
        ["run", *SMALL, "--json"],
        ["runs", "--weather", "storm", "--json"],
        ["sweep", "grid.toml", *SMALL, "--executor", "serial", "--json"],
        ["report", "runs", "--by", "weather", "--format", "json"],
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "BYZBENCH_"))}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stderr
    shown, listed, _, _, runs, swept, report, digest = json.loads(done.stdout)
    assert re.search(r"--weather .* Weather; default: calm\.", shown)
    assert "storm" in listed
    (filtered,) = json.loads(runs)
    assert filtered["weather"] == "storm"
    cells = json.loads(swept)["cells"]
    assert sorted(label.split(" · ")[2] for label in cells) == ["calm", "storm:speed=3"]
    assert all(cell["reused"] for cell in cells.values())
    assert {"calm", "storm"} <= set(re.findall("calm|storm", report))
    assert re.fullmatch("[0-9a-f]{16}", digest)
    tracked = read(only((tmp_path / "runs" / filtered["hash"]).rglob("*.wandb")))
    assert "storm" in tracked.run.tags
    assert (tracked.config["weather"], tracked.config["weather/speed"]) == ("storm", 3)
