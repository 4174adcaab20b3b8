"""The public API: typed keywords for every axis, the errors of the command line, results, and policies in files."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch

import byzbench
from byzbench import Experiment, Result, Results, registry
from byzbench.axes import AXES
from byzbench.errors import CorruptRecord, InvalidParameter, UserError
from byzbench.experiments.keywords import AxisKeywords
from byzbench.reports import progress

ROOT = Path(__file__).resolve().parents[1]
ALONE: dict[str, Any] = {"algo": "solo(N=4, p=1)", "agents": 1, "trajectories": 8, "evaluations": 2}
GRID = {
    "algo": "fed_pg(N=4)",
    "attack": ["none", "sign_flip"],
    "agents": 5,
    "trajectories": 8,
    "evaluations": 1,
    "seeds": 3,
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def result(store: Path) -> Result:
    return byzbench.run(**ALONE, out=store)


@pytest.fixture(scope="module")
def results(store: Path) -> Results:
    return byzbench.sweep(GRID, executor="serial", out=store / "sweep")


def test_the_keywords_are_the_axes() -> None:
    hints = get_type_hints(AxisKeywords)
    assert set(hints) == {axis.name for axis in AXES}
    for axis in AXES:
        types = set(get_args(hints[axis.name])) or {hints[axis.name]}
        base = {registry.base_class(axis.key)} if axis.is_kind else set()
        assert types - {type(None)} == {axis.type, *base}, axis.name
        assert (type(None) in types) == (axis.default is None), axis.name
    parameters = inspect.signature(byzbench.run).parameters
    assert {axis.name: axis.default for axis in AXES} == {axis.name: parameters[axis.name].default for axis in AXES}
    assert {"out", "callback", "progress"} < parameters.keys()


def test_public_names_are_found_where_they_are_used_first() -> None:
    code = "import sys, byzbench; print(sorted({'torch', 'numpy', 'pydantic'} & set(sys.modules)), dir(byzbench))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert printed == f"[] {sorted([*byzbench.__all__, '__version__'])}\n"
    assert all(getattr(byzbench, name).__doc__ for name in byzbench.__all__)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: byzbench.run(trajectory=200), r"run has no keyword 'trajectory'\. Did you mean 'trajectories'"),
        (lambda: byzbench.run(ouput="x"), "Did you mean 'out'"),
        (lambda: byzbench.run(atack="alie"), "Did you mean 'attack'"),
        (lambda: byzbench.run(attack="alei"), "unknown attack 'alei'. Did you mean 'alie'"),
        (lambda: byzbench.run(Experiment.create(), agents=5), "an experiment or its axes, not both: agents"),
        (lambda: byzbench.run(env="cartpole", task="acrobot"), "task is another spelling of env"),
        (lambda: byzbench.sweep({}), "sweep has neither axes nor seeds; give some"),
        (lambda: byzbench.sweep({"atack": "alie"}), "Did you mean 'attack'"),
        (lambda: byzbench.tune(algo="byzpg"), "attacks=.* to tune an algorithm"),
        (lambda: byzbench.tune(algo="byzpg", attack="ipm", attacks=["ipm"]), "in place of attack="),
        (lambda: byzbench.worst_case(attack="alie"), "worst_case has no keyword 'attack'"),
        (lambda: byzbench.breakdown(algo="byzpg", seeds=2), "at least 3 seeds, got 2"),
        (lambda: byzbench.evaluate("byzpg", {"attack": "ipm"}, attacks=["ipm"]), "must not be in the suite"),
        (lambda: byzbench.make("aggregator", "krum", pover=2), "no parameter 'pover'"),
        (lambda: byzbench.make("aggregator", byzbench.make("aggregator", "krum"), power=2), "is built already"),
        (lambda: byzbench.components("atack"), "unknown kind 'atack'. Did you mean 'attack'"),
        (lambda: byzbench.load_results("nowhere"), "nowhere is neither a run folder"),
        (lambda: byzbench.load_results(3), "load_results takes paths, got 3"),  # type: ignore[arg-type]
        (lambda: byzbench.load_policy("nowhere"), "there is no file nowhere"),
        (lambda: byzbench.sweep(3), "a grid is a TOML file, or its content as a dict, got 3"),  # type: ignore[arg-type]
        (lambda: byzbench.tune(algo="byzpg", attacks=3), "attacks must be a list of names, got 3"),  # type: ignore
        (lambda: byzbench.worst_case(also=[3]), r"also must be a list of names, got \[3\]"),  # type: ignore
    ],
)
def test_mistakes_are_one_line_that_names_what_was_meant(call: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_components_are_listed_and_made_by_kind() -> None:
    listed = byzbench.components("aggregators")
    assert listed.keys() == registry.origins("aggregator").keys()
    assert all(listed.values())
    rule = byzbench.make("aggregator", "bucketing(s=2)+krum", s=3)
    assert registry.written_form(rule) == "bucketing(s=3)+krum"


def test_aliases_and_progress_change_nothing(result: Result, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[Any] = []
    keywords = {**ALONE, "algorithm": ALONE["algo"]}
    del keywords["algo"]
    again = byzbench.run(**keywords, out=store / "again", progress=True, callback=lines.append)
    assert again.trace == result.trace
    assert [line["round"] for line in lines] == [0, 1]
    assert "solo · none · complete · seed 0: 8/8 trajectories" in capsys.readouterr().err


def test_a_notebook_shows_one_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shown: list[str] = []
    module, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    module.get_ipython = lambda: types.SimpleNamespace(kernel=None)  # type: ignore[attr-defined]
    display.HTML = str  # type: ignore[attr-defined]
    display.display = lambda text, display_id: types.SimpleNamespace(update=shown.append)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    with progress.Progress(20, "a < b") as bar:
        bar({"trajectories": 10, "return": 1.5})
    assert shown[-1] == '<div>a &lt; b<br><progress value="10" max="20"></progress> 10/20 · return 1.5</div>'
    assert capsys.readouterr().err == ""


def test_a_result_shows_itself_and_its_curve(result: Result) -> None:
    assert re_line(repr(result))
    assert "<th>verdict</th>" in result._repr_html_()
    trajectories, returns = result.curve()
    assert trajectories == [4, 8]
    assert len(returns) == 2
    assert result.curve("evaluation")[1][-1] == result.evaluation["evaluation"]
    with pytest.raises(InvalidParameter, match="Did you mean 'evaluation'"):
        result.curve("evaluaton")


def re_line(text: str) -> bool:
    return text.startswith("Result(") and "\n" not in text and len(text) < 160


def test_a_policy_acts_as_its_module_does_and_is_a_file(result: Result, tmp_path: Path) -> None:
    policy = result.policy()
    assert policy.evaluate() == {name: result.evaluation[name] for name in policy.evaluate()}
    saved = byzbench.load_policy(policy.save(tmp_path / "policy.safetensors"))
    assert saved.evaluate() == policy.evaluate()
    observations = np.random.default_rng(0).uniform(-0.2, 0.2, (20, 4)).astype(np.float32)
    actions = [int(saved(x)) for x in observations]
    assert actions == policy.module(torch.from_numpy(observations)).argmax(-1).tolist()
    drawn = [int(policy(observations[0], np.random.default_rng(seed))) for seed in range(30)]
    assert set(drawn) == {0, 1}
    (tmp_path / "other.safetensors").write_bytes(b"not a policy")
    with pytest.raises(CorruptRecord, match="is not a policy that byzbench wrote"):
        byzbench.load_policy(tmp_path / "other.safetensors")
    with pytest.raises(InvalidParameter, match="agent must be a whole number from 0 to 0"):
        result.policy(3)


def test_policies_of_continuous_actions_normalise_as_in_training(tmp_path: Path) -> None:
    options: dict[str, Any] = {"env": "pendulum", "scenario": "normalized:episodes=2", "evaluations": 1}
    policy = byzbench.run(**{**ALONE, **options}, out=tmp_path).policy()
    observation = np.array([0.9, -0.4, 2.0], np.float32)
    mean = policy.module(torch.from_numpy(observation[None])).detach().numpy()[0]
    assert policy.scales is not None
    np.testing.assert_allclose(policy(observation), 2 * mean.clip(-1, 1), rtol=1e-5)


def test_results_are_filtered_averaged_and_records(results: Results, tmp_path: Path) -> None:
    assert (len(results), results.failed, results.problems) == (6, (), ())
    assert repr(results) == "Results(6 runs; over attack, seed)"
    attacked = results.filter(attack="sign_flip(scale=1.0)", seed=[0, 1])
    assert [run.name("attack") for run in attacked.runs] == ["sign_flip"] * 2
    assert len(results.filter(attack="sign_flip(scale=9)")) == 0
    means = results.mean("return", by="attack")
    values = [r.final["mean"] for r in results.filter(attack="none")]
    assert means["none",].value == pytest.approx(np.mean(values))  # type: ignore[arg-type]
    assert results.cvar("return", by="attack")["none",] == pytest.approx(min(values))  # type: ignore[type-var]
    assert results.retention(by="attack").keys() == {("sign_flip",)}
    with pytest.raises(InvalidParameter, match="give by= with attack"):
        results.filter(attack="none").retention(by="algo")
    records = results.to_records()
    assert {record["algo.N"] for record in records} == {4}
    assert {record["evaluation"] for record in records} == {r.evaluation["evaluation"] for r in results}
    assert byzbench.load_results(*(run.path for run in results.runs)).runs == results.runs
    results.plot_curves(tmp_path / "curves.png", by="attack")
    assert '<h2 id="final-returns">' in results.to_html()
    assert '<th scope="col">attack</th>' in results._repr_html_()
    assert (tmp_path / "curves.png").stat().st_size


def test_a_data_frame_has_a_row_for_each_run(results: Results) -> None:
    pandas = pytest.importorskip("pandas")
    frame = results.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.groupby("attack")["return"].count().to_dict() == {"none": 3, "sign_flip": 3}


def test_without_pandas_the_remedy_is_named(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"pip install 'byzbench\[pandas\]'"):
        results.to_pandas()


@pytest.mark.slow
def test_a_saved_policy_has_the_evaluations_return_in_another_process(result: Result, tmp_path: Path) -> None:
    policy = result.policy()
    path = policy.save(tmp_path / "policy.safetensors")
    observations = np.random.default_rng(0).uniform(-0.2, 0.2, (20, 4)).tolist()
    code = """import byzbench, json, sys
policy, observations = byzbench.load_policy(sys.argv[1]), json.load(sys.stdin)
print(json.dumps([[int(policy(x)) for x in observations], policy.evaluate()]))"""
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, input=json.dumps(observations), capture_output=True, text=True, cwd=ROOT, check=True)
    actions, evaluation = json.loads(done.stdout)
    assert actions == [int(policy(x)) for x in observations]
    assert evaluation["evaluation"] == result.evaluation["evaluation"]
    assert evaluation == {name: result.evaluation[name] for name in evaluation}


@pytest.mark.slow
def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    grid = {**GRID, "seeds": 1, "attack": "none"}
    (tmp_path / "script.py").write_text(f"import byzbench\nprint(byzbench.sweep({grid}, jobs=1).problems)\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "script.py"], capture_output=True, text=True, cwd=tmp_path, env=environment, check=True
    )
    assert done.stdout.count("fed_pg") == 1
    assert 'UserError: a script runs cells in processes below `if __name__ == "__main__":`; executor=' in done.stderr


@pytest.mark.slow
def test_searches_do_what_the_commands_do(tmp_path: Path) -> None:
    small: dict[str, Any] = {"agents": 5, "trajectories": 8, "executor": "serial", "out": tmp_path}
    tuned = byzbench.tune(algo="fed_pg(N=4)", attacks=["ipm"], trials=2, **small)
    assert tuned.parameters["algorithm"]
    words = f"tune --algo fed_pg(N=4) --attacks ipm --trials 2 --agents 5 --trajectories 8 --out {tmp_path} --json"
    done = subprocess.run([sys.executable, "-m", "byzbench", *words.split()], capture_output=True, text=True, cwd=ROOT)
    assert json.loads(done.stdout)["parameters"] == tuned.parameters, done.stderr
    suite = {"attack": ["none", "ipm"], "agents": 5, "trajectories": 8, "seeds": 3}
    evaluated = byzbench.evaluate("fed_pg(N=4)", suite, trials=2, executor="serial", out=tmp_path)
    assert len(evaluated) in (6, 12)
    worst = byzbench.worst_case(algo="fed_pg(N=4)", selection=1, reporting=3, also=["replay(delay=2)"], **small)
    assert "replay(delay=2)" in worst.tried
    assert worst.tried[worst.attack].mean == min(
        t.mean for a, t in worst.tried.items() if t.mean is not None and a != "none"
    )
    learning: dict[str, Any] = {**small, "trajectories": 100}
    point = byzbench.breakdown(algo="fed_pg", most=1, seeds=3, **learning)
    assert set(point.tried) == {1}


USES = """
from pathlib import Path
import byzbench
import torch
from byzbench.core import Aggregator, Attack, Task

result: byzbench.Result = byzbench.run(
    algo="decbyzpg", attack=byzbench.make("attack", "alie", z=1.5), topology=None, agents=5, seed=0,
    callback=lambda line: print(line["round"]), progress=True, out=Path("runs"), parameters={"algo": {"N": 4}},
)
mean: float | int | None = result.final["mean"]
policy: byzbench.TrainedPolicy = byzbench.load_policy(result.policy(0).save("policy.safetensors"))
action = policy([0.0, 0.1, 0.0, -0.1])
played: float | None = policy.evaluate(episodes=4)["evaluation"]
logits = policy.module(torch.zeros(1, 4))
observation_space, action_space = policy.spaces
environment = policy.make_environment()
at, values = result.curve("evaluation")
picture: Path = result.render(agent=1)
rule: Aggregator = byzbench.make("aggregator", "krum")
attack: Attack = byzbench.make("attack", "ipm")
task: Task = byzbench.make("env", "cartpole")
names: list[str] = [*byzbench.components("attack")]
results: byzbench.Results = byzbench.sweep({"attack": ["none", "ipm"], "seeds": 3}, executor="serial")
means = {key: interval.value for key, interval in results.filter(attack="ipm").mean(by="attack").items()}
lowest: float = min(byzbench.load_results("runs").cvar().values())
left = [share.value for share in results.retention().values()]
results.plot_curves("curves.png")
report: str = results.to_html("report.html")
lost: list[str] = [run.error for run in results.failed]
frame = results.to_pandas()
tuned = byzbench.tune(algo="byzpg", attacks=["ipm"], trials=2).parameters["algorithm"]
byzbench.evaluate("byzpg", "suite.toml", attacks=["ipm"]).to_records()
worst: str = byzbench.worst_case(algo="byzpg", agents=5).attack
largest: int = byzbench.breakdown(algo="byzpg", seeds=[0, 1, 2]).f
experiment = byzbench.Experiment.create("byzpg", agents=5)
byzbench.run(experiment)
"""
WRONG = "import byzbench\nbyzbench.run(algo=3, trajectoris=1)\nrule: int = byzbench.make('attack', 'ipm')\n"


def test_the_file_for_type_checkers_uses_the_whole_api() -> None:
    used = set(re.findall(r"\w+", USES))
    methods = {name for cls in (Results, byzbench.TrainedPolicy) for name in vars(cls) if not name.startswith("_")}
    inner = {"of_run", "actor", "scales", "problems", "finished", "runs", "undefined"}
    assert {*byzbench.__all__, "curve", "policy", "render"} | methods - inner <= used


@pytest.mark.slow
def test_type_checkers_know_the_keywords_and_the_kinds(tmp_path: Path) -> None:
    (tmp_path / "uses.py").write_text(USES)
    (tmp_path / "wrong.py").write_text(WRONG)
    options = ["--strict", "--follow-imports=silent", "--config-file", str(ROOT / "pyproject.toml")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(tmp_path / "uses.py"), str(tmp_path / "wrong.py")],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert "uses.py" not in done.stdout, done.stdout
    assert 'Unexpected keyword argument "trajectoris"' in done.stdout
    assert 'Argument "algo" to "run" has incompatible type "int"' in done.stdout
    assert "Found 3 errors in 1 file" in done.stdout
