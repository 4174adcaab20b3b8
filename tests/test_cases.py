"""Inputs that failed once, each for a kind of fault, as a user types them: every command is a process of its own."""

from __future__ import annotations

import codecs
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).resolve().parents[1]
TINY = "--agents 3 --byzantine 0 --trajectories 4 -p algo.N=2 -p algo.B=1".split()  # noqa: SIM905
SWEEP = ["sweep", "--algo", "decbyzpg", *TINY, "--executor", "serial"]

ENVIRONMENTS = """
import gymnasium as gym, numpy as np
from gymnasium.spaces import Box, Discrete

class Env(gym.Env):
    observation_space, action_space = Box(-1, 1, (3,), np.float32), Discrete(2)
    def look(self): return self.np_random.uniform(-1, 1, 3).astype(np.float32)
    def reset(self, *, seed=None, options=None): super().reset(seed=seed); return self.look(), {}
    def pay(self, a): return 1.0
    def step(self, a):
        assert self.action_space.contains(a), f"{a} is outside {self.action_space}"
        return self.look(), self.pay(a), False, False, {}

def add(name, **kw):
    globals()[name] = type(name, (Env,), kw)
    gym.register(name + "-v0", entry_point="ours:" + name, max_episode_steps=10)

class Tuned(Env):
    def __init__(self, size=3): self.observation_space = Box(-1, 1, (size,), np.float32)
    def look(self): return self.np_random.uniform(-1, 1, self.observation_space.shape).astype(np.float32)
gym.register("Tuned-v0", entry_point="ours:Tuned", max_episode_steps=10)

add("Plain")
add("SeesNan", look=lambda s: np.array([np.nan, 0, 0], np.float32))
add("PaysNan", pay=lambda s, a: float("nan"))
add("PaysNone", pay=lambda s, a: None)
add("OldStep", step=lambda s, a: (s.look(), 1.0, False, {"k": 1}))
add("NeedsMaze", __init__=lambda s, maze: None)
add("Narrow", action_space=Box(np.float32(1.37), np.float32(2.79), (2,), np.float32))
add("ManyKinds", observation_space=Discrete(200_000), look=lambda s: 5)
add("Prints", pay=lambda s, a: print("hello") or 1.0)
"""


class Shell:
    """A folder with environments, in which commands run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "ours.py").write_text(ENVIRONMENTS)

    def __call__(self, *words: object, **options: Any) -> Any:
        """Run byzbench, see `python`."""
        return self.python("-m", "byzbench", *words, **options)

    def python(self, *words: object, site: str = "", prefix: Sequence[str] = (), **variables: str) -> Any:
        """Run Python with code for `sitecustomize` and variables; it must not end in a traceback, or wait for ever."""
        hook = self.folder / f"site{abs(hash(site))}"
        hook.mkdir(exist_ok=True)
        (hook / "sitecustomize.py").write_text(site)
        inherited = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "MUJOCO_GL")}
        path = os.pathsep.join([str(hook), str(self.folder), str(CHECKOUT), os.environ.get("PYTHONPATH", "")])
        environment = inherited | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path} | variables
        done = subprocess.run(
            [*prefix, sys.executable, *map(str, words)],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            timeout=600,
            check=False,
        )
        done.stdout, done.stderr = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def runs(self, store: str) -> list[Path]:
        return sorted(path for path in (self.folder / store).iterdir() if re.fullmatch("[0-9a-f]{16}", path.name))


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def refused(done: Any, *words: str) -> None:
    """Check that a command ended with one line and exit code 2."""
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("byzbench: error: ")]
    assert done.stderr.splitlines()[-1] == line
    assert all(word in line for word in words), line


def test_c1_environments_by_id(shell: Shell) -> None:
    for env in ("gymnasium:ours:Plain-v0", "gymnasium(id='ours:Tuned-v0', options={'size': 5})"):
        done = shell("run", *TINY, "--env", env, "--json")
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("hidden", [256, 512])
def test_c2_threads_of_blas(hidden: int, shell: Shell) -> None:
    options = ["--agents", 3, "--byzantine", 0, "--trajectories", 16, "--env", "pendulum"]
    options += ["-p", "algo.N=8", "--policy", f"mlp(hidden=[{hidden},{hidden}])"]
    logs, codes = [], []
    for threads in ("1", "2"):
        done = shell("run", *options, "--out", f"t{threads}", OMP_NUM_THREADS=threads)
        assert done.returncode == 0, done.stderr
        (folder,) = shell.runs(f"t{threads}")
        logs.append((folder / "metrics.jsonl").read_bytes())
        codes.append(json.loads((folder / "experiment.json").read_text())["code"])
    assert logs[0] == logs[1]
    assert codes[0] == codes[1]
    assert codes[0]["threads"] == 1
    assert "openblas" in codes[0]["blas"]
    for threads in ("1", "2"):
        assert shell("replay", folder, OMP_NUM_THREADS=threads).stdout.startswith("identical")


def test_c3_file_systems_without_flock(shell: Shell) -> None:
    site = "import fcntl, errno, os\ndef no(f, op): raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))\n"
    site += "fcntl.flock = no\n"
    assert shell("run", *TINY, "--out", "l", site=site).returncode == 0
    done = shell(*SWEEP, "--seeds", 2, "--out", "l", site=site)
    assert done.stdout.startswith("2 finished (1 reused)")


@pytest.mark.parametrize(
    "name, words",
    [
        ("SeesNan", "an observation that is not finite"),
        ("PaysNan", "rewards that are not finite"),
        ("PaysNone", "a reward of type NoneType"),
        ("OldStep", "returned 4 values"),
    ],
)
def test_c4_c5_c6_data_of_environments(name: str, words: str, shell: Shell) -> None:
    refused(shell("run", *TINY, "--env", f"gymnasium:ours:{name}-v0"), words, name)
    assert not (shell.folder / "runs").exists()


def test_c7_actions_are_inside_their_space(shell: Shell) -> None:
    done = shell("run", *TINY, "--env", "gymnasium:ours:Narrow-v0", "--json")
    assert json.loads(done.stdout)["trajectories"] >= 4, done.stderr


def test_c8_a_task_that_cannot_be_made_is_an_undefined_cell(shell: Shell) -> None:
    done = shell(*SWEEP, "--env", "cartpole,gymnasium:ours:NeedsMaze-v0")
    assert done.stdout.startswith("1 finished (0 reused), 0 failed, 1 undefined"), done.stderr
    assert "maze" in done.stderr


def test_c9_remote_stores_get_whatever_they_lack(shell: Shell) -> None:
    options = [*SWEEP, "--seeds", 2, "--out", f"file://{shell.folder}/remote"]
    cells = json.loads(shell(*SWEEP, "--out", "h", "--json").stdout)["cells"]
    (cell,) = [entry["hash"] for entry in cells.values()]
    (shell.folder / "remote").mkdir()
    (shell.folder / "remote" / cell).touch()  # a file where the folder of the run would be
    cache = str(shell.folder / "cache")
    first = shell(*options, XDG_CACHE_HOME=cache)
    assert first.returncode == 1
    assert "1 run not uploaded" in first.stderr
    (shell.folder / "remote" / cell).unlink()
    assert shell(*options, XDG_CACHE_HOME=cache).stdout.startswith("2 finished (2 reused)")
    assert len(shell.runs("remote")) == 2


def test_c10_a_damaged_folder_is_one_archived_cell(shell: Shell) -> None:
    shell(*SWEEP, "--seeds", 2, "--out", "z")
    first = shell.runs("z")[0]
    (first / "experiment.json").write_bytes(b"")
    done = shell(*SWEEP, "--seeds", 3, "--out", "z")
    assert done.stdout.startswith("3 finished (1 reused)"), done.stderr
    assert "archived" in done.stderr
    assert (shell.folder / "z" / f"{first.name}-archived").is_dir()


def test_c11_an_unfinished_run_goes_on_with_another_processor(shell: Shell) -> None:
    options = ["run", "--agents", 3, "--byzantine", 0, "--trajectories", 400, "-p", "algo.N=4", "--out", "c"]
    cut = "import byzbench, sys\nfrom byzbench.experiments import runner\nrunner.SAVE_EVERY = -1.0\n"
    cut += "def stop(line):\n    if line['round'] == 9: raise SystemExit\n"
    cut += (
        "byzbench.run(agents=3, byzantine=0, trajectories=400, parameters={'algo': {'N': 4}}, out='c', callback=stop)"
    )
    assert shell.python("-c", cut).returncode == 0
    (folder,) = shell.runs("c")
    begun = (folder / "metrics.jsonl").read_bytes()
    done = shell(*options, ATEN_CPU_CAPABILITY="default")
    assert done.returncode == 0, done.stderr
    assert (folder / "metrics.jsonl").read_bytes().startswith(begun)
    assert [path.name for path in shell.runs("c")] == [folder.name]
    recorded = json.loads((folder / "experiment.json").read_text())["code"]["cpu"]
    if recorded != "DEFAULT":
        assert f"cpu: {recorded} then, DEFAULT now" in done.stderr
        assert any("resumed with others" in note for note in json.loads((folder / "result.json").read_text())["notes"])


def test_c12_a_study_survives_a_killed_lock_holder(shell: Shell) -> None:
    options = ["tune", "--algo", "decbyzpg", "--attacks", "ipm,sign_flip", "--agents", 5, "--trajectories", 4]
    options += ["-p", "algo.N=4", "--executor", "serial", "--out", "st"]
    assert shell(*options, "--trials", 1).returncode == 0
    (journal,) = (shell.folder / "st" / "studies").glob("*.journal")
    journal.with_name(f"{journal.name}.lock").symlink_to(journal.name)
    done = shell(*options, "--trials", 2)
    assert done.returncode == 0, done.stderr


def test_c13_a_damaged_cache_of_kernels_is_made_anew(shell: Shell) -> None:
    cache = shell.folder / "nc"
    assert shell("run", *TINY, "--out", "n1", NUMBA_CACHE_DIR=str(cache)).returncode == 0
    indices = list(cache.rglob("*.nbi"))
    assert indices
    for path in indices:
        path.write_bytes(b"")
    done = shell("run", *TINY, "--out", "n2", NUMBA_CACHE_DIR=str(cache))
    assert done.returncode == 0, done.stderr
    assert all(path.stat().st_size for path in indices)


LINUX_ONLY = ("sched_getaffinity", "sched_setaffinity", "fdatasync", "posix_fadvise", "memfd_create", "getrandom")


def test_c14_macos_runs_and_windows_is_named(shell: Shell) -> None:
    site = f"import os\nfor name in {LINUX_ONLY}:\n    if hasattr(os, name): delattr(os, name)\n"
    done = shell("sweep", "--algo", "decbyzpg", *TINY, "--out", "m", "-j", 1, site=site)
    assert done.stdout.startswith("1 finished"), done.stderr
    assert shell("sweep", "--algo", "decbyzpg", *TINY, "--out", "m", site=site).stdout.startswith(
        "1 finished (1 reused)"
    )
    windows = "import sys, byzbench.cli\nsys.platform, sys.argv = 'win32', ['byzbench', 'list']\nbyzbench.cli.main()"
    refused(shell.python("-c", windows), "Linux and macOS", "Windows")


PYTHON = (
    "import byzbench, numpy as np, sys\ntry:\n    {}\nexcept byzbench.errors.ByzbenchError as error:\n    print(error)"
)


def test_c15_switches_are_checked_by_type(shell: Shell) -> None:
    done = shell.python("-c", PYTHON.format("byzbench.run(relay='yes', trajectories=4)"))
    assert done.stdout == "relay must be True or False, got 'yes'\n"
    assert not (shell.folder / "runs").exists()


def test_c16_integers_of_numpy_are_integers(shell: Shell) -> None:
    options = "agents=np.int64(3), byzantine=0, trajectories=np.int32(4), parameters={'algo': {'N': np.int64(2)}}"
    done = shell.python("-c", PYTHON.format(f"byzbench.run(seed=np.arange(5)[3], {options})"))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    (folder,) = shell.runs("runs")
    assert json.loads((folder / "experiment.json").read_text())["experiment"]["seed"] == 3
    assert shell("runs").stdout.endswith("1 of 1 runs\n")


def test_c17_a_list_of_links_with_a_byte_order_mark(shell: Shell) -> None:
    text = b"0 3\n3 1\n1 2\n2 4\n"
    for name, content in (("g", text), ("gb", codecs.BOM_UTF8 + text)):
        (shell.folder / f"{name}.txt").write_bytes(content)
        words = [f"from_file:path={name}.txt", "--agents", 5, "--byzantine", 1, "--json"]
        shown = json.loads(shell("show", "topology", *words).stdout)
        assert sorted(map(sorted, shown["links"])) == [[0, 3], [1, 2], [1, 3], [2, 4]]


def test_c18_suites_with_a_byte_order_mark_and_behind_a_link(shell: Shell) -> None:
    (shell.folder / "s.toml").write_bytes(codecs.BOM_UTF8 + b'algo = "decbyzpg"\n')
    (shell.folder / "sl.toml").symlink_to("s.toml")
    for name in ("s.toml", "sl.toml"):
        done = shell("sweep", name, "--dry-run")
        assert done.returncode == 0
        assert "1 cells: 1 to run" in done.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"LANG": "C"},
    ],
    ids=str,
)
def test_c19_terminals_of_ascii(variables: dict[str, str], shell: Shell) -> None:
    done = shell("run", *TINY, "--out", "l8", **variables)
    assert done.returncode == 0, done.stderr
    assert "saved: l8" in done.stdout
    for words in (["report", "l8"], ["show", "topology", "erdos_renyi"], ["run", "--help"], ["sweep", *SWEEP[1:]]):
        assert shell(*words, **variables).returncode == 0


def test_c20_no_display(shell: Shell) -> None:
    pytest.importorskip("mujoco")
    shell("run", *TINY, "--env", "hopper", "--out", "hp")
    (folder,) = shell.runs("hp")
    done = shell("render", folder)
    if done.returncode:
        refused(done, "hopper cannot be rendered here")
    else:
        assert (folder / "episode.gif").stat().st_size
    refused(shell("render", folder, MUJOCO_GL="osmesa", PYOPENGL_PLATFORM="none"), "cannot be rendered")


@pytest.mark.parametrize("words", [["run"], ["run", "--compare"], ["sweep", "--algo", "decbyzpg", "-j", "2"]], ids=str)
def test_c21_environments_that_print(words: list[str], shell: Shell) -> None:
    done = shell(*words, *TINY, "--env", "gymnasium:ours:Prints-v0", "--json")
    assert done.returncode == 0, done.stderr
    assert isinstance(json.loads(done.stdout), dict)
    assert "hello" in done.stderr


def test_c22_rules_outside_their_domain(shell: Shell) -> None:
    call = "byzbench.make('aggregator', '{}')(np.random.default_rng(0).standard_normal((5, 8)), {})"
    for name, f, words in (("krum", 3, "n >= 2f + 3"), ("trimmed_mean", 5, "it needs"), ("krum", -1, "at least 0")):
        done = shell.python("-c", PYTHON.format(call.format(name, f)))
        assert words in done.stdout
        assert len(done.stdout.splitlines()) == 1


def test_c23_many_kinds_of_observations(shell: Shell) -> None:
    done = shell.python(
        "-c",
        "import resource, sys\nresource.setrlimit(resource.RLIMIT_AS, (12 * 10**9,) * 2)\nimport byzbench.cli\n"
        f"sys.argv = ['byzbench', 'run', *{TINY}, '--env', 'gymnasium:ours:ManyKinds-v0']\nbyzbench.cli.main()",
    )
    if done.returncode:
        refused(done)


def test_c24_a_finished_run_in_a_store_that_is_read_only(shell: Shell) -> None:
    without_override = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root writes where nobody may")
    assert shell("run", *TINY, "--out", "ro").returncode == 0
    store = shell.folder / "ro"
    for path in [*store.rglob("*"), store]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        done = shell("run", *TINY, "--out", "ro", prefix=without_override if os.geteuid() == 0 else ())
    finally:
        for path in [store, *store.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert done.returncode == 0, done.stderr
    assert "saved: ro/" in done.stdout


@pytest.mark.parametrize("limit", ["-n 5", "-v 700000", "-v 2000000"])
def test_limits_of_a_process_are_one_line_or_enough(limit: str, shell: Shell) -> None:
    shell("run", *TINY, "--out", "warm")  # compiles
    command = f"ulimit {limit}; exec {sys.executable} -m byzbench run {' '.join(TINY)}"
    path = os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(["bash", "-c", command], cwd=shell.folder, env=environment, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    if done.returncode:
        refused(done, "ulimit")
    else:
        assert limit == "-v 2000000"


def test_compilation_that_is_switched_off_is_refused(shell: Shell) -> None:
    refused(shell("run", *TINY, NUMBA_DISABLE_JIT="1"), "NUMBA_DISABLE_JIT")
