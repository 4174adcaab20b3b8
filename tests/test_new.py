"""`byzbench new`: components of every kind, in a file or a distribution, that work as they are written."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny_suite

from byzbench import cli, registry

tiny = tiny_suite.tiny

CHECKOUT = Path(__file__).resolve().parents[1]
TEMPLATES = CHECKOUT / "byzbench" / "cli" / "templates"

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`byzbench new ...` within this process, in an empty folder: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["byzbench", "new", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0), *capsys.readouterr()

    return call


def tree() -> dict[Path, str]:
    return {path: path.read_text() for path in Path().rglob("*") if path.is_file()}


def test_every_kind_has_a_template() -> None:
    assert {path.stem for path in TEMPLATES.glob("*.py")} - {"__init__"} == set(registry.KINDS)


@pytest.mark.parametrize("kind", registry.KINDS)
def test_a_template_uses_public_modules_only_and_says_what_to_change(kind: str) -> None:
    lines = (TEMPLATES / f"{kind}.py").read_text().splitlines()
    imported = {line.split()[1] for line in lines if line.strip().startswith(("from byzbench", "import byzbench"))}
    assert {name.split(".")[1] for name in imported} <= {"core", "rl", "geometry", "errors"}
    assert not [name for name in imported if "._" in name]
    assert any(line.strip().startswith("# Change: ") for line in lines)


@pytest.mark.parametrize("kind", registry.KINDS)
def test_a_component_and_its_test_are_written(new: Command, kind: str) -> None:
    code, out, err = new(registry.FLAGS[kind], "my_own_2")
    assert (code, err) == (0, "")
    assert {str(path) for path in tree()} == {"my_own_2.py", "test_my_own_2.py"}
    assert f'[project.entry-points."byzbench.{registry.KINDS[kind]}"]\nmy_own_2 = "your_package.my_own_2:MyOwn2"' in out
    assert "NewComponent" not in Path("my_own_2.py").read_text()
    assert "NAME" not in Path("my_own_2.py").read_text()
    spec = importlib.util.spec_from_file_location("my_own_2", "my_own_2.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["my_own_2"] = module
    try:
        spec.loader.exec_module(module)
        assert isinstance(module.MyOwn2(), registry.base_class(kind))
        compile(Path("test_my_own_2.py").read_text(), "test_my_own_2.py", "exec")
    finally:
        del sys.modules["my_own_2"]


def test_a_distribution_grows(new: Command) -> None:
    for words in ("attack half --package", "attack third --into byzbench-half", "coin flip --into byzbench-half"):
        assert new(*words.split())[0] == 0
    project = tomllib.loads(Path("byzbench-half/pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["packages"] == ["byzbench_half"]
    assert project["project"]["entry-points"] == {
        "byzbench.attacks": {"half": "byzbench_half.half:Half", "third": "byzbench_half.third:Third"},
        "byzbench.coins": {"flip": "byzbench_half.flip:Flip"},
    }
    assert "from byzbench_half.third import Third" in Path("byzbench-half/tests/test_third.py").read_text()
    assert len(tree()) == 8


@pytest.mark.parametrize(
    "text, message",
    [
        ("[project]\n[project.entry-points.'byzbench.attacks']\na = 'q:A'", "write it yourself"),
        ('[project]\ndynamic = ["entry-points"]', "write it yourself"),
        ('# [project.entry-points."byzbench.attacks"]\n[project]\nname = "q"', "write it yourself"),
        ('[project]\n[project.entry-points."byzbench.attacks"]\nmine = "q:A"', "write it yourself"),
        ('[project]\n[tool.setuptools]\npackages = ["../q"]', "there is no such folder"),
    ],
)
def test_a_pyproject_that_would_break_is_left_alone(new: Command, text: str, message: str) -> None:
    Path("q/q").mkdir(parents=True)
    project = Path("q/pyproject.toml")
    project.write_text(text if "packages" in text else f'{text}\n[tool.setuptools]\npackages = ["q"]\n')
    before = project.read_text()
    code, out, err = new("attack", "mine", "--into", "q")
    assert (code, out) == (2, "")
    assert message in err
    assert project.read_text() == before
    assert not any(path.is_file() for path in Path("q/q").iterdir())


@pytest.mark.parametrize(
    "words, message",
    [
        ("atack mine", "unknown kind 'atack'. Did you mean 'attack'"),
        ("attack alie", "there is attack 'alie' in byzbench"),
        ("attack 2half", "letters, digits and _, for example my_attack; got '2half'"),
        ("attack my-attack", "got 'my-attack'"),
        ("attack Mine", "got 'Mine'"),
        ("attack lambda", "got 'lambda'"),
        ("attack ../mine", "got '../mine'"),
        ("attack " + "a" * 250, "a name is one word of at most 60"),
        ("attack conftest --package", "pytest would take conftest.py for its own; choose another name"),
        ("coin test_mine", "pytest would take test_mine.py for its own"),
        ("attack setup", "pip would take setup.py for its own"),
        ("attack numpy", "numpy.py would hide the module numpy"),
        ("attack state", "the name of the class, State, is taken"),
        ("attack taken", "taken.py exists"),
        ("attack tested", "test_tested.py exists"),
        ("attack folder --package", "byzbench-folder exists; choose another name, or add to it with --into"),
        ("attack mine --into nowhere", "cannot read nowhere/pyproject.toml: No such file"),
        ("attack mine --into other", "other/pyproject.toml has no list `packages`"),
        ("attack mine --into other --package", "give --package for a new distribution or --into for one that exists"),
        ("attack", "Missing argument"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(new: Command, words: str, message: str) -> None:
    for path in ("taken.py", "test_tested.py", "byzbench-folder/file", "other/pyproject.toml"):
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text("[project]\n")
    before = tree()
    code, out, err = new(*words.split())
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert tree() == before


def test_a_disk_that_refuses_leaves_nothing(new: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_text

    def refuse(path: Path, text: str, **options: str) -> int:
        if path.name == "test_mine.py":
            raise OSError(28, "No space left on device")
        return write(path, text, **options)

    monkeypatch.setattr(Path, "write_text", refuse)
    code, _, err = new("attack", "mine", "--package")
    assert (code, "No space left on device" in err) == (1, True)
    assert list(Path().iterdir()) == []


@pytest.fixture
def distribution(new: Command, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A distribution with a component `own_KIND` of every kind, written by `byzbench new` and installed by pip."""
    first, *others = registry.KINDS
    assert new(first, f"own_{first}", "--package")[0] == 0
    for kind in others:
        assert new(kind, f"own_{kind}", "--into", f"byzbench-own-{first}")[0] == 0
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    options = ["--no-deps", "--no-build-isolation", "--target", "site", f"./byzbench-own-{first}"]
    subprocess.run([*pip, *options], check=True)
    monkeypatch.syspath_prepend(str(Path("site").resolve()))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path("site").resolve()), str(CHECKOUT)]))
    registry.origins.cache_clear()
    yield
    registry.origins.cache_clear()
    for name in [name for name in sys.modules if name.startswith("byzbench_own")]:
        del sys.modules[name]


@pytest.mark.slow
@pytest.mark.usefixtures("distribution", "tiny")
def test_a_distribution_with_every_kind_works_from_list_to_submission(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def byzbench(*arguments: str) -> str:
        assert tiny_suite.main(monkeypatch, *arguments) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    listed = {entry["name"]: entry for entry in json.loads(byzbench("list", "--json"))}
    for kind in registry.KINDS:
        assert listed[f"own_{kind}"]["distribution"] == "byzbench-own-algorithm 0.1.0"
        assert "all checks passed" in byzbench("check", f"own_{kind}")
    tests = [sys.executable, "-m", "pytest", "-q", "byzbench-own-algorithm"]
    done = subprocess.run(tests, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    small = ["--agents", "5", "--byzantine", "1", "--trajectories", "20", "--evaluations", "1"]
    components = {registry.FLAGS[kind]: f"own_{kind}" for kind in registry.KINDS if kind not in ("task", "scenario")}
    options = words(components)
    assert '"verdict"' in byzbench("run", *options, "--env", "own_task", *small, "--json")
    assert '"verdict"' in byzbench("run", *options, "--scenario", "own_scenario", *small, "--json")
    lists = {"env": "cartpole,own_task", "scenario": "none,own_scenario", "attack": "none,own_attack"}
    serial = ["--executor", "serial"]
    byzbench("sweep", *words({**components, **lists}), "--seeds", "2", *small, *serial, "--out", "swept")
    report = byzbench("report", "swept", "--by", ",".join(lists), "--format", "csv")
    rows = {tuple(line.split(",")[:3]) for line in report.splitlines()[1:]}
    assert rows == {
        (env, scenario, attack)
        for env, scenario in (("cartpole", "none"), ("cartpole", "own_scenario"), ("own_task", "none"))
        for attack in ("none", "own_attack")
    }
    del components["attack"], components["algo"]
    trials = ["--trials", "2", *serial, *small, "--env", "own_task", *words(components)]
    assert "best of 2 trials" in byzbench("tune", "--algo", "own_algorithm", "--attacks", "own_attack", *trials)
    assert "best of 2 trials" in byzbench("tune", "--attack", "own_attack", "--against", "own_algorithm", *trials)
    method = ["--algo", "own_algorithm(N=4)", "--aggregator", "own_aggregator", "--agreement", "own_agreement"]
    for entry, track, name in ((method, "defence", "Own"), (["--attack", "own_attack"], "attack", "Own attack")):
        byzbench("leaderboard", "run", "--suite", "tiny-v1", *entry, *serial, "--out", f"entered-{track}")
        about = ["--name", name, "--author", "A. Author", "--out", "submissions"]
        byzbench("leaderboard", "submit", f"entered-{track}", *about)
        folder = Path("submissions/tiny-v1", track, name.lower().replace(" ", "-"))
        assert folder.joinpath("cells.jsonl").read_text().count("\n") == 4
        assert "own_" in folder.joinpath("submission.json").read_text()


def words(components: dict[str, str]) -> list[str]:
    """The options of some components by flag."""
    return [word for flag, name in components.items() for word in (f"--{flag}", name)]
