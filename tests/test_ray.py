"""A Ray cluster of two nodes: the same bytes, and what happens when a node dies in the middle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from byzbench.errors import UserError
from byzbench.sweeps.executors import make_executor
from byzbench.sweeps.grid import SweepGrid, SweepPlan, plan_sweep
from byzbench.sweeps.sweep import run_sweep

ROOT = Path(__file__).resolve().parent.parent
GRID: dict[str, Any] = {
    "attack": ["sign_flip", "avg_zero"],
    "topology": ["complete", "ring"],
    "agents": 5,
    "trajectories": 800,
    "seeds": 5,
}
CLUSTER = """
import json, os, sys
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
from pathlib import Path
from ray.cluster_utils import Cluster
sys.path.insert(0, {tests!r})
from test_ray import listening, planned, running
from byzbench.sweeps.executors import make_executor
from byzbench.sweeps.sweep import run_sweep
if __name__ == "__main__":
    here = {{"num_cpus": 1, "node_ip_address": "127.0.0.1"}}
    cluster = Cluster(initialize_head=True, head_node_args={{**here, "include_dashboard": False}})
    second = cluster.add_node(**here)
    out, todo, done, killed = Path("runs"), planned(), [], []

    def on_cell(label, outcome):
        done.append(label)
        if not killed and running(second.all_processes["raylet"][0].process.pid):
            cluster.remove_node(second, allow_graceful=False)
            killed.append(label)

    with make_executor("ray", out, ray_address=cluster.address) as workers:
        width = workers.width
        heard = listening()
        summary = run_sweep(todo, out, workers, callback=on_cell)
    cluster.shutdown()
    lost, failed = summary.worker_failures, list(summary.failed)
    print(json.dumps({{"width": width, "listening": heard, "failed": failed, "lost": lost,
                      "retries": [o.retries for o in summary.outcomes.values()], "done": len(done), "killed": killed}}))
"""


def planned() -> SweepPlan:
    return plan_sweep(SweepGrid.of(GRID))


def running(raylet: int) -> bool:
    """Return True if a worker of this node runs a cell: Ray names the process after what it runs."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title, status = (process / "cmdline").read_bytes(), (process / "status").read_text()
        except OSError:
            continue
        if title.startswith(b"ray::run_elsewhere") and f"PPid:\t{raylet}\n" in status:
            return True
    return False


def listening() -> list[str]:
    """Return the addresses on which the processes that this one started listen, by the kernel's own tables.

    Other tests run Ray clusters of their own at the same time, so a process counts by its parents, not by its name.
    """
    sockets = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":
                sockets[f"socket:[{words[9]}]"] = words[1].split(":")[0]
    addresses = set()
    for process in descendants(os.getpid()):
        try:
            open_files = [os.readlink(file) for file in Path(f"/proc/{process}/fd").iterdir()]
        except OSError:
            continue
        addresses |= {sockets[file] for file in open_files if file in sockets}
    return sorted(addresses)


def descendants(process: int) -> set[int]:
    """Return the ids of the processes that this one started, and of those that they started."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "status").read_text()
        except OSError:
            continue
        parents[int(folder.name)] = int(status.split("PPid:")[1].split()[0])
    below: set[int] = set()
    while fresh := {child for child, parent in parents.items() if parent in {process, *below}} - below:
        below |= fresh
    return below


@pytest.mark.slow
def test_a_node_dies_in_the_middle_and_the_sweep_completes(tmp_path: Path) -> None:
    (tmp_path / "cluster.py").write_text(CLUSTER.format(tests=str(ROOT / "tests")))
    # The second switch makes Ray take the loopback address for this machine's; without it, it looks for another.
    switches = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **switches}
    done = subprocess.run(
        [sys.executable, "cluster.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    output = json.loads(done.stdout.splitlines()[-1])
    assert output["width"] == 3
    assert output["listening"]
    assert not {"00000000", "0" * 32} & set(output["listening"]), "Ray listens to more than this machine"
    assert output["done"] == 20
    assert output["killed"]
    assert output["failed"] == []
    assert output["lost"], "the node had nothing to do when it died"
    assert all("was lost, and it was started again" in line for line in output["lost"])
    assert sum(output["retries"]) == len(output["lost"])
    with make_executor("process", tmp_path / "here", jobs=2) as workers:
        run_sweep(planned(), tmp_path / "here", workers)
    runs = {path.parent.name: path.read_bytes() for path in tmp_path.glob("runs/*/metrics.jsonl")}
    assert runs == {path.parent.name: path.read_bytes() for path in tmp_path.glob("here/*/metrics.jsonl")}
    assert len(runs) == 20


@pytest.mark.slow
def test_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    there = pytest.raises(UserError, match=r"no Ray cluster at 127\.0\.0\.1:1: .*refused")
    with there, make_executor("ray", tmp_path, ray_address="127.0.0.1:1"):
        pass


def test_without_ray_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'byzbench\[ray\]'"), make_executor("ray", tmp_path):
        pass


TUNED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_tuning import problem_of
from byzbench.sweeps.executors import make_executor
from byzbench.tuning.search import best, finished, open_study, run_study
if __name__ == "__main__":
    todo = problem_of()
    study = open_study(todo, "study.journal")
    with make_executor("ray", Path("runs")) as workers:
        run_study(todo, study, workers, 6)
    print(finished(study), best(todo, study).objective["trials"])
"""


@pytest.mark.slow
def test_trials_run_on_a_cluster_too(tmp_path: Path) -> None:
    (tmp_path / "tuned.py").write_text(TUNED.format(tests=str(ROOT / "tests")))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [sys.executable, "tuned.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.stdout.split()[-2:] == ["6", "6"], done.stderr[-3000:]
