"""Plug-ins of submissions: the verifier never imports them, sandboxes hold them, their own verdicts are not read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny_suite
from hostile_wheels import AT_IMPORT, IN_A_MESSAGE, NAME, code_of, write_wheel
from tiny_suite import ABOUT, lines_of, rewrite, run

from byzbench import identity, registry
from byzbench.errors import UserError
from byzbench.leaderboard import sandbox, suites
from byzbench.leaderboard.checks import submission_plan_of
from byzbench.leaderboard.entries import read_entry
from byzbench.leaderboard.plan import plan_submission
from byzbench.leaderboard.replay import compare_cell
from byzbench.leaderboard.runners import SandboxRunner
from byzbench.leaderboard.sandbox import NoCell, Sandbox
from byzbench.leaderboard.schema import Method, Plugin
from byzbench.leaderboard.stand_ins import plugins_stood_in
from byzbench.leaderboard.submitting import collect_cells, write_submission
from byzbench.leaderboard.suites import Suite
from byzbench.leaderboard.verification import Verification, sandbox_runner, verify_submission
from byzbench.leaderboard.wheels import FILES, unpack_wheels

tiny = tiny_suite.tiny
ROOT = Path(__file__).resolve().parents[1]
PLUGIN = Plugin(kind="attack", name="spiral", distribution=NAME, version="1.0")


@pytest.fixture(scope="module")
def spiral(tiny: Suite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The submission of the example's attack, made where its distribution is installed."""
    home = tmp_path_factory.mktemp("spiral")
    site = home / "site"
    with zipfile.ZipFile(write_wheel(home / "wheels", code_of("honest"))) as wheel:
        wheel.extractall(site)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        registry.origins.cache_clear()
        identity.forget_code()
        entered = plan_submission(tiny, "attack", Method(attack="spiral"))
        run(entered, home / "runs")
        folder = write_submission(entered, collect_cells(entered, home / "runs"), ABOUT, home / "submissions")
    registry.origins.cache_clear()
    identity.forget_code()
    sys.modules.pop("byzbench_spiral", None)
    assert read_entry(folder).submission.code.plugins == (PLUGIN,)
    return folder


@pytest.fixture
def copy(spiral: Path, tmp_path: Path) -> Path:
    shutil.copytree(spiral.parents[2], tmp_path / "submissions")
    return tmp_path / "submissions" / "tiny-v1" / "attack" / "tiny"


@pytest.fixture(scope="session")
def bubblewrap() -> None:
    if shutil.which("bwrap") is None:
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-qq", "-y", "bubblewrap"], check=True, stdout=subprocess.DEVNULL)


def forged(folder: Path, wheels: Path) -> Path:
    """Lower the curves of a submission, and give it the digest of the code of wheels."""
    site = wheels.parent / "unpacked"
    assert unpack_wheels(wheels, [PLUGIN], site) == []
    entry = read_entry(folder)
    with plugins_stood_in(entry, site):
        code = submission_plan_of(entry, suites.suite("tiny-v1")).code
    shutil.rmtree(site)
    recorded = json.loads((folder / "submission.json").read_text())["code"]
    recorded["components"]["attack spiral"]["digest"] = code.components["attack spiral"].digest
    lowered = [line | {"return": "1.0", "curve": ["1.0"] * len(line["curve"])} for line in lines_of(folder)]
    rewrite(folder, lowered, code=recorded)
    return folder


def verified(folder: Path, wheels: Path, cells: int = 1, seconds: float = 300.0) -> Verification:
    """Verify a submission under the first salt that draws an attacked cell first."""
    entry = read_entry(folder)

    def first_attack(salt: str) -> str:
        digests = [hashlib.sha256(f"{salt}/{entry.digest}/{cell.cell}".encode()).digest() for cell in entry.cells]
        return entry.cells[digests.index(min(digests))].attack

    salt = next(salt for salt in map(str, range(100)) if first_attack(salt) == "spiral")
    open_sandbox = partial(sandbox_runner, jobs=2, seconds=seconds)
    return verify_submission(folder, wheels=wheels, cells=cells, salt=salt, open_sandbox=open_sandbox)


@pytest.mark.slow
def test_a_plugin_is_replayed_exactly_and_never_imported(bubblewrap: None, spiral: Path, tmp_path: Path) -> None:
    wheels = write_wheel(tmp_path / "wheels", code_of("honest")).parent
    done = verified(spiral, wheels, cells=4)
    assert done.replay is not None, done.findings
    assert [cell.verdict for cell in done.replay.cells] == ["exact"] * 4
    assert (done.exit_code, done.findings) == (0, ())
    assert "byzbench_spiral" not in sys.modules


@pytest.mark.slow
def test_an_installed_plugin_is_replayed_without_wheels(
    bubblewrap: None, spiral: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(write_wheel(tmp_path / "wheels", code_of("honest"))) as wheel:
        wheel.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert verify_submission(spiral, cells=1).exit_code == 0
    assert "byzbench_spiral" not in sys.modules


def test_the_wheels_of_a_plugin_decide_what_is_checked(spiral: Path, tmp_path: Path) -> None:
    honest = write_wheel(tmp_path / "honest", code_of("honest")).parent
    assert verified(spiral, honest, cells=0).exit_code == 0
    commented = write_wheel(tmp_path / "commented", code_of("honest") + "# No digest changes.\n").parent
    assert verified(spiral, commented, cells=0).exit_code == 0
    other = verified(spiral, write_wheel(tmp_path / "other", code_of("honest") + "EXTRA = 1\n").parent, cells=0)
    assert ([finding.check for finding in other.findings], other.exit_code) == (["plugin-code"], 1)
    absent = verify_submission(spiral, cells=0)
    (finding,) = absent.findings
    assert finding.what == "attack 'spiral' of byzbench-spiral-attack 1.0 is not here; see --wheels"
    assert absent.exit_code == 1
    assert "byzbench_spiral" not in sys.modules


HOSTILE_WHEELS: dict[str, tuple[dict[str, Any], str]] = {
    "a file that runs at the start": ({"more": {"a.pth": "import os; os._exit(0)"}}, "runs at the start of Python"),
    "a module of byzbench": ({"more": {"byzbench/__init__.py": "print('verified')"}}, "has the name of a module"),
    "a module of Python": ({"more": {"json.py": ""}}, "has the name of a module"),
    "a module that Python imports at its start": ({"more": {"sitecustomize.py": ""}}, "has the name of a module"),
    "a file outside": ({"more": {"../outside.py": ""}}, "outside of its folder"),
    "an absolute path": ({"more": {"/tmp/outside.py": ""}}, "outside of its folder"),
    "a script": ({"more": {"byzbench_spiral_attack-1.0.data/scripts/byzbench": ""}}, "that an installer would move"),
    "too many files": ({"more": {f"x{number}.py": "" for number in range(FILES)}}, "has more than 2000 files"),
    "a bomb": ({"more": {"zeros.py": "0" * 2**27}}, "at most 67108864 are allowed"),
    "a module that nests too deep": ({"more": {"deep.py": "(" * 10_000}}, "cannot be read"),
    "a module that is no text": ({"more": {"zero.py": "\0"}}, "cannot be read"),
    "the name of an installed distribution": (
        {"name": "torch"},
        "holds torch 1.0, and the entry needs byzbench-spiral",
    ),
    "another distribution beside it": (
        {"more": {"x-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: x\nVersion: 1\n"}},
        "holds byzbench-spiral-attack 1.0, x 1, and the entry needs byzbench-spiral-attack 1.0",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE_WHEELS)
def test_a_hostile_wheel_is_refused_before_anything_is_run(kind: str, spiral: Path, tmp_path: Path) -> None:
    options, reason = HOSTILE_WHEELS[kind]
    wheels = write_wheel(tmp_path / "wheels", code_of("honest"), **options).parent
    done = verified(spiral, wheels)
    assert (done.exit_code, done.replay) == (1, None)
    assert reason in str(done.findings[0]), done.findings
    assert not (tmp_path / "outside.py").exists()


def test_a_link_and_what_is_no_wheel_are_refused(spiral: Path, tmp_path: Path) -> None:
    link = zipfile.ZipInfo("secrets")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(write_wheel(tmp_path / "linked", code_of("honest")), "a") as wheel:
        wheel.writestr(link, "/etc/passwd")
    assert "another type: secrets" in str(verified(spiral, tmp_path / "linked").findings[0])
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "a-1-py3-none-any.whl").write_bytes(b"PK\3\4")
    assert "cannot be read" in str(verified(spiral, tmp_path / "cut").findings[0])
    (tmp_path / "cut" / "a-1-py3-none-any.whl").rename(tmp_path / "cut" / "setup.py")
    assert "is not a wheel" in str(verified(spiral, tmp_path / "cut").findings[0])


def test_an_installed_distribution_is_not_replaced(tmp_path: Path) -> None:
    torch = Plugin(kind="attack", name="spiral", distribution="torch", version="1.0")
    write_wheel(tmp_path / "wheels", code_of("honest"), name="torch")
    (finding,) = unpack_wheels(tmp_path / "wheels", [torch], tmp_path / "out")
    assert finding.what == "torch is a distribution of this environment"


@pytest.mark.parametrize("name", ["check", "notes", "_hidden", "class", "__class__"])
def test_a_parameter_cannot_replace_what_the_verifier_calls(name: str, copy: Path, tmp_path: Path) -> None:
    submission = json.loads((copy / "submission.json").read_text())
    for axes in submission["resolved"].values():
        axes["attack"]["parameters"][name] = 1
    rewrite(copy, lines_of(copy), resolved=submission["resolved"])
    done = verified(copy, write_wheel(tmp_path / "wheels", code_of("honest")).parent)
    assert done.exit_code == 1
    assert any(repr(name) in str(finding) for finding in done.findings), done.findings


def test_a_plugin_cannot_take_the_place_of_a_component_of_byzbench(spiral: Path, copy: Path) -> None:
    code = json.loads((copy / "submission.json").read_text())["code"]
    own = {"kind": "attack", "name": "ipm", "distribution": "byzbench", "version": "0.1.0"}
    rewrite(copy, lines_of(copy), code=code | {"plugins": [own]})
    (finding,) = verify_submission(copy).findings
    assert finding.what == "attack 'ipm' is a component of byzbench"


def test_without_a_sandbox_no_plugin_is_run(spiral: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = write_wheel(tmp_path / "wheels", code_of("exit at import")).parent
    folder = forged(shutil.copytree(spiral.parents[2], tmp_path / "s") / "tiny-v1" / "attack" / "tiny", wheels)
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="bubblewrap, which is not installed"):
        verified(folder, wheels)
    refusing = tmp_path / "bin" / "bwrap"
    refusing.parent.mkdir()
    refusing.write_text("#!/bin/sh\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(refusing.parent), prepend=os.pathsep)
    with pytest.raises(UserError, match="which cannot be made here"):
        verified(folder, wheels)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


CONTAINED = {"a handler of the exit", "a fork bomb", "writing the verdict", "reading secrets"}
"""The kinds that change nothing in the sandbox, so that the forged claim is a mismatch; the others are refused."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*AT_IMPORT, *IN_A_MESSAGE])
def test_a_plugin_does_not_pass_its_own_verdict(
    kind: str, bubblewrap: None, copy: Path, tmp_path: Path, listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "1")
    (tmp_path / "secret").write_text("1")
    values = {"verdict": tmp_path / "verdict.json", "folder": tmp_path, "port": listening.getsockname()[1]}
    wheels = write_wheel(tmp_path / "wheels", code_of(kind, **values)).parent
    entry, site = read_entry(forged(copy, wheels)), tmp_path / "site"
    assert unpack_wheels(wheels, [PLUGIN], site) == []
    with plugins_stood_in(entry, site):
        plan = submission_plan_of(entry, suites.suite("tiny-v1"))
        place = next(place for place in plan.cells if place.attack == "spiral")
        experiment = plan.cells[place]
        seconds = 20.0 if kind == "no end" else 300.0
        answer = Sandbox((site,), seconds).run(place.key, experiment.hash, experiment.describe())
    claim = entry.cells_by_key[place.key]
    verdict, evidence = (
        (answer.verdict, answer.reason)
        if isinstance(answer, NoCell)
        else compare_cell(claim, answer, [], SandboxRunner.on_failure)
    )
    assert verdict == ("mismatch" if kind in CONTAINED else "refused"), evidence
    assert not (tmp_path / "verdict.json").exists()
    with pytest.raises(BlockingIOError):
        listening.accept()


SHIM = """#!{python}
import sys
from pathlib import Path
sys.path[:0] = [{root!r}]
from byzbench import cli
from byzbench.leaderboard import suites
suites.files = lambda package: Path({home!r})
cli.main()
"""


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=A. Author", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Workflow:
    """The steps of the workflow, with an index of wheels on this machine and the tiny suite.

    Args:
        folder: An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.checkout, self.wheels = folder, folder / "entry", folder / "index"
        (folder / "home" / "suites").mkdir(parents=True)
        for name in ("tiny-v1.toml", "tiny-v1.json"):
            (folder / "home" / "suites" / name).write_text(suites.folder().joinpath(name).read_text())
        (folder / "bin").mkdir()
        shim = folder / "bin" / "byzbench"
        shim.write_text(SHIM.format(python=sys.executable, root=str(ROOT), home=str(folder / "home")))
        shim.chmod(0o755)
        (self.checkout / "leaderboards" / "submissions").mkdir(parents=True)
        (self.checkout / "README.md").write_text("A board.\n")
        git(self.checkout, "init", "-q", "-b", "main")
        git(self.checkout, "add", ".")
        git(self.checkout, "commit", "-q", "-m", "board: begin")
        self.base = git(self.checkout, "rev-parse", "HEAD")

    def add(self, submission: Path, slug: str) -> str:
        """Commit a submission under another slug on the base, and return the commit."""
        git(self.checkout, "checkout", "-q", "-B", "branch", self.base)
        folder = self.checkout / "leaderboards" / "submissions" / "tiny-v1" / "attack" / slug
        shutil.copytree(submission, folder)
        about = json.loads((folder / "submission.json").read_text())
        about["entry"] |= {"slug": slug, "name": slug}
        (folder / "submission.json").write_text(json.dumps(about))
        git(self.checkout, "add", ".")
        git(self.checkout, "commit", "-q", "-m", f"board: add {slug}")
        return git(self.checkout, "rev-parse", "HEAD")

    def verify(self, *labels: str) -> tuple[int, str]:
        """Run the steps as the workflow runs them, and return the exit code and the output."""
        path = os.pathsep.join([str(self.folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {**os.environ, "PATH": path, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels)}
        command = [str(ROOT / ".ci" / "verify-submissions"), "--cells", "1", str(self.checkout), self.base, *labels]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        return done.returncode, done.stdout + done.stderr

    def publish(self, code: str, **options: Any) -> Path:
        """Put a wheel into the index in place of any other, and return the folder of the index."""
        shutil.rmtree(self.wheels, ignore_errors=True)
        return write_wheel(self.wheels, code, **options).parent


@pytest.fixture
def workflow(tiny: Suite, tmp_path: Path) -> Workflow:
    return Workflow(tmp_path / "workflow")


@pytest.mark.slow
def test_the_workflow_runs_a_plugin_only_with_the_label_of_its_commit(
    bubblewrap: None, workflow: Workflow, spiral: Path
) -> None:
    workflow.publish(code_of("honest"))
    first = workflow.add(spiral, "first")
    status, text = workflow.verify()
    assert status == 1
    assert f"attack/first: its plug-ins have not been run; the label 'replay {first[:12]}' starts" in text
    status, text = workflow.verify("bug", f"replay {first[:12]}")
    assert (status, "attack/first: verified" in text) == (0, True), text
    (workflow.checkout / "README.md").write_text("Another commit.\n")
    git(workflow.checkout, "commit", "-q", "-a", "-m", "board: change")
    assert workflow.verify(f"replay {first[:12]}")[0] == 1
    git(workflow.checkout, "rm", "-q", "-r", "leaderboards")
    git(workflow.checkout, "commit", "-q", "-a", "-m", "board: remove")
    assert workflow.verify() == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        "a file that runs at the start",
        "a module of byzbench",
        "a fork bomb",
        "a file of 10 GB",
        "the network",
        "writing the verdict",
    ],
)
def test_the_workflow_contains_a_hostile_wheel_and_verifies_the_next_submission(
    kind: str, bubblewrap: None, workflow: Workflow, spiral: Path, copy: Path, listening: socket.socket
) -> None:
    values = {
        "verdict": workflow.folder / "verdict.json",
        "folder": workflow.folder,
        "port": listening.getsockname()[1],
    }
    options = HOSTILE_WHEELS[kind][0] if kind in HOSTILE_WHEELS else {}
    forged(copy, workflow.publish(code_of(kind, **values)))
    workflow.publish(code_of(kind, **values), **options)
    commit = workflow.add(copy, "hostile")
    status, text = workflow.verify(f"replay {commit[:12]}")
    assert status == 1
    assert "attack/hostile: not verified; the verifier ended with 1" in text, text
    assert not (workflow.folder / "verdict.json").exists()
    with pytest.raises(BlockingIOError):
        listening.accept()
    workflow.publish(code_of("honest"))
    commit = workflow.add(spiral, "next")
    assert workflow.verify(f"replay {commit[:12]}")[0] == 0
