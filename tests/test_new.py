"""`byzbench new`: components of every kind, in a file or a distribution, that work as they are written."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from byzbench import cli, registry

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
    "words, message",
    [
        ("atack mine", "unknown kind 'atack'. Did you mean 'attack'"),
        ("attack alie", "there is attack 'alie' in byzbench"),
        ("attack 2half", "a name is one word of lower-case letters, digits and _, for example my_attack; got '2half'"),
        ("attack my-attack", "got 'my-attack'"),
        ("attack Mine", "got 'Mine'"),
        ("attack lambda", "got 'lambda'"),
        ("attack ../mine", "got '../mine'"),
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
