"""Stored runs and leaderboard rows outlive every change that moves no number: eight changes of a copied checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from byzbench.canonical import SCHEMA

CHECKOUT = Path(__file__).resolve().parents[1]
RUN = "run --algo decbyzpg --attack large_noise --topology torus --agents 9 --byzantine 2 --trajectories 60".split()  # noqa: SIM905
RUN += ["-p", "algo.lr=0.0005"]  # what is written outright is not moved by a changed suggestion
ROW = Path("tests/rows/smoke-v1/defence/byzpg")

HALF = '''"""Half: Byzantine agents that send half of their honest vectors."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from byzbench.core import MessageAttack, ByzantineMessages, ThreatModel


@dataclass(frozen=True)
class Half(MessageAttack):
    """Send each Byzantine agent's own honest vector, times `scale`."""

    scale: Annotated[float, Field(gt=0, description="what is left of it")] = 0.5

    @property
    def threat(self):
        return ThreatModel(knowledge=frozenset({"own"}))

    def craft_messages(self, context, memory, rng):
        return ByzantineMessages(self.scale * context.own), memory
'''

DEVIATION = '''"""{first}"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from byzbench.core import Deviation


@dataclass(frozen=True)
class {name}(Deviation):
    """{first}"""

    log_std: Annotated[float, Field(description="initial log standard deviation of actions")] = -1.0
'''

END = "    # the end\n"


class Copy:
    """A copy of the checkout that can be edited, with a store of finished runs."""

    def __init__(self, root: Path) -> None:
        ignored = shutil.ignore_patterns(".venv", ".git", "build", "__pycache__", "docs", "runs", "*.egg-info")
        self.root = Path(shutil.copytree(CHECKOUT, root / "checkout", ignore=ignored))
        self.store = root / "store"

    def edit(self, file: str, before: str, after: str) -> None:
        """Replace a text of a file, everywhere in it."""
        path = self.root / file
        text = path.read_text()
        assert before in text, f"{file} has no {before!r}"
        path.write_text(text.replace(before, after))

    def write(self, file: str, text: str) -> None:
        """Write a new file."""
        path = self.root / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def python(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the copy, which is what it imports."""
        environment = {**os.environ, "PYTHONPATH": str(self.root), "PYTHONWARNINGS": "default"}
        return subprocess.run(
            [sys.executable, *words], cwd=self.root, env=environment, capture_output=True, text=True, timeout=900
        )

    def traces(self) -> str:
        """Run the traces command, which must find that nothing moved."""
        done = self.python("-m", "tests.golden")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, *words: str) -> dict[str, Any]:
        """Run an experiment into the store; its result, and whether it was reused."""
        times = {path: path.stat().st_mtime_ns for path in self.store.glob("*/result.json")}
        done = self.python("-m", "byzbench", *words, "--out", str(self.store), "--json")
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        path = Path(result["run"]) / "result.json"
        return result | {"reused": times.get(path) == path.stat().st_mtime_ns}

    def holds(self) -> None:
        """Check that the command answers from the store, that nothing was archived, and that the row is found again.

        It is exact unless it is of another engine or processor, which the verification names.
        """
        assert self.run(*RUN)["reused"]
        assert not list(self.store.glob("*-archived"))
        done = self.python("-m", "byzbench", "leaderboard", "verify", str(ROW), "--cells", "1", "--jobs", "2", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        report = json.loads(done.stdout)
        is_other = any("other-version" in note or "other-environment" in note for note in report["findings"])
        assert report["replay"]["verdict"] in (("exact", "consistent") if is_other else ("exact",)), done.stdout


def comment(copy: Copy) -> None:
    copy.edit(
        "topologies/torus.py", "from __future__ import annotations\n", "from __future__ import annotations\n# a\n"
    )


def docstring(copy: Copy) -> None:
    copy.edit("attacks/zero.py", "        m[k] = 0\n", "        m[k] = 0, a vector of d zeros\n")


def renames(copy: Copy) -> None:
    copy.edit("byzbench/experiments/runner.py", "_conclude(", "_finish(")
    copy.edit("attacks/large_noise.py", "self.relative", "self.proportional")
    copy.edit("attacks/large_noise.py", "    relative: ", "    proportional: ")
    copy.edit("tests/golden/vectors/attacks.py", "large_noise:relative=", "large_noise:proportional=")
    path = copy.root / "byzbench/canonical.py"
    table = path.read_text()
    end = table.index("\n)\n", table.index("CHANGES: tuple[Change, ...] = (\n")) + 1
    path.write_text(table[:end] + END + table[end:])
    _change(copy, 1, 'ParameterRenamed(SCHEMA, "attack", "large_noise", "relative", "proportional")')


def moved_field(copy: Copy) -> None:
    """Move `log_std` of policies to the components `usual` and `chosen` of a new kind, `deviation`."""
    base = '\n\n@dataclass(frozen=True)\nclass Deviation(Component):\n    """The deviation of actions."""\n\n'
    source = copy.root / "byzbench/core/graphs.py"
    source.write_text(f'{source.read_text()}{base}    kind: ClassVar[str] = "deviation"\n')
    copy.edit(
        "byzbench/core/__init__.py",
        "from byzbench.core.graphs import Coin as Coin\n",
        "from byzbench.core.graphs import Coin as Coin\nfrom byzbench.core.graphs import Deviation as Deviation\n",
    )
    usual = DEVIATION.format(first="The usual deviation.", name="Usual").partition("    log_std")[0]
    copy.write("byzbench/deviations/__init__.py", '"""The deviation of actions."""\n')
    copy.write("byzbench/deviations/usual.py", f"{usual}    log_std = -0.5\n")
    copy.write("byzbench/deviations/chosen.py", DEVIATION.format(first="A chosen deviation.", name="Chosen"))

    family = (copy.root / "byzbench/core/policy_family.py").read_text()
    start, end = family.index("    log_std: Annotated["), "field(default=LOG_STD, kw_only=True)\n"
    field = family[start : family.index(end) + len(end)]
    copy.edit("byzbench/core/policy_family.py", field, "    log_std: ClassVar[float] = LOG_STD\n")
    copy.edit(
        "byzbench/experiments/experiment.py",
        "        return self.policy.build(",
        '        object.__setattr__(self.policy, "log_std", self.deviation.log_std)\n        return self.policy.build(',
    )
    copy.edit("tests/golden/cases.py", ",log_std=-1.0", "")
    declared = 'name="deviation", help="Deviation", default="usual", package="deviations"'
    _declare(copy, f'{declared}, base="byzbench.core.Deviation"')
    _change(copy, 2, 'ParameterMoved(SCHEMA, "policy", "log_std", -0.5, "deviation", "usual", "chosen", "log_std")')


def axis(copy: Copy) -> None:
    _declare(copy, 'name="unit", help="Unit", default="episodes"')
    _change(copy, 3, 'AxisAdded(SCHEMA, "unit", "episodes")')


def _declare(copy: Copy, entry: str) -> None:
    """Declare a further axis."""
    seed = '    Axis(name="seed",'
    copy.edit("byzbench/axes.py", seed, f"    Axis({entry}),\n{seed}")


def _change(copy: Copy, number: int, entry: str) -> None:
    """Raise the schema number for the `number`-th time, and add an entry to the table, whose own number it is."""
    schema = SCHEMA + number
    copy.edit("byzbench/canonical.py", f"\nSCHEMA = {schema - 1}\n", f"\nSCHEMA = {schema}\n")
    copy.edit("byzbench/canonical.py", END, f"    {entry.replace('(SCHEMA', f'({schema}')},\n{END}")


def attack(copy: Copy) -> None:
    copy.write("attacks/half.py", HALF)


def column(copy: Copy) -> None:
    copy.edit(
        "byzbench/experiments/metrics.py",
        '"num_silent": counters.num_silent,',
        '"num_silent": counters.num_silent,\n        "one": 1.0,',
    )


def default(copy: Copy) -> None:
    copy.edit("byzbench/tasks/cartpole.py", '"lr": 5e-4}', '"lr": 1e-3}')


CHANGES: tuple[Callable[[Copy], None], ...] = (comment, docstring, renames, moved_field, axis, attack, column, default)


@pytest.mark.slow
def test_eight_changes_move_nothing(tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    assert not copy.run(*RUN)["reused"]
    copy.holds()
    for change in CHANGES:
        change(copy)
        assert "moved:" not in copy.traces()
        copy.holds()
    checked = copy.python("-m", "tests.golden", "--check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    # An edit of one attack is a new run of that attack, and of no other.
    half = [*RUN, "--attack", "half"]
    assert not copy.run(*half)["reused"]
    assert copy.run(*half)["reused"]
    copy.edit("attacks/half.py", "self.scale * context.own", "self.scale * context.own / 2")
    assert not copy.run(*half)["reused"]
    (archived,) = copy.store.glob("*-archived/archived.json")
    assert json.loads(archived.read_text())["reasons"] == ["attack half: its code was edited"]
    assert copy.run(*RUN)["reused"]


@pytest.mark.slow
def test_what_moves_is_named(tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    alie = [*RUN, "--attack", "alie(z=1.5)"]
    assert not copy.run(*RUN)["reused"]
    assert not copy.run(*alie)["reused"]
    copy.edit("attacks/alie.py", "shift = (z", "shift = 1.01 * (z")
    done = copy.python("-m", "tests.golden", "--check", "--report", "report.json")
    report = json.loads((copy.root / "report.json").read_text())
    assert (done.returncode, list(report["responsible"])) == (1, ["attack alie"])
    assert "attack alie moved: raise version" in done.stdout
    copy.edit(
        "attacks/alie.py", "    source: ClassVar[str]", "    version: ClassVar[int] = 2\n    source: ClassVar[str]"
    )
    copy.traces()
    assert copy.run(*RUN)["reused"]
    assert not copy.run(*alie)["reused"]
    (archived,) = copy.store.glob("*-archived/archived.json")
    assert json.loads(archived.read_text())["reasons"] == ["attack alie: version 1 then, 2 now"]
