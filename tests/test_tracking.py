"""Tracking: what W&B is shown is what the records say, and whatever happens to it does not happen to the run."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
import types
import warnings
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import md5
from pathlib import Path
from typing import Any, TypeVar

import pytest
import wandb
from PIL import Image
from wandb.proto.wandb_internal_pb2 import Record

import byzbench
from byzbench import cli
from byzbench.experiments import runner
from byzbench.integrations import tracking
from byzbench.records.run_folder import RunFolder
from byzbench.reports.plots import learning_curve

T = TypeVar("T")
CHECKOUT = Path(__file__).resolve().parents[1]
TINY = "--agents 5 --byzantine 1 --preset paper --trajectories 60 -p algorithm.N=10 -p algorithm.B=2".split()  # noqa: SIM905
KINDS = ("algorithm", "attack", "topology", "task", "policy", "scenario")
KINDS += ("aggregator", "agreement", "placement", "channel", "coin", "schedule")
TAGS = {"K=5", "f=1", "assumed_byzantine=1", "relay=false", "mixing=metropolis", "trajectories=60", "evaluations=5"}
TAGS |= {"evaluation_episodes=2", "device=cpu"}
NESTED = ["--attack", "sign_flip:scale=3", "--aggregator", "bucketing(s=2)+median", "--topology", "ring"]

# The command line prints this warning; it must not become an exception on its way there.
pytestmark = pytest.mark.filterwarnings("default:W&B tracking stopped")


@dataclass
class Shown:
    """What a `.wandb` file holds."""

    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, Any] = field(default_factory=dict)
    drawn_against: dict[str, str] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def rounds(self) -> list[dict[str, Any]]:
        """The history without the keys of W&B's own, the pictures and the table."""
        others = ("_", "pictures/", "result_table/")
        return [{k: v for k, v in row.items() if not k.startswith(others)} for row in self.history]


def read(file: Path) -> Shown:
    """The file, once W&B's own process has written the end of it."""
    deadline = time.monotonic() + 30
    while (shown := read_so_far(file)).exit_code is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return shown


def read_so_far(file: Path) -> Shown:
    shown = Shown()
    for data in payloads(file.read_bytes()):
        record = Record.FromString(data)
        if record.HasField("run"):
            shown.run = record.run
            shown.config = {u.key: json.loads(u.value_json) for u in record.run.config.update}
        elif record.HasField("history"):
            row = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
            assert row["_step"] == row["round"] == record.history.step.num
            shown.history.append(row)
        elif record.HasField("summary"):
            for item in record.summary.update:
                shown.summary[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
        elif record.HasField("metric"):
            shown.drawn_against[record.metric.glob_name] = record.metric.step_metric
        elif record.HasField("artifact"):
            shown.artifacts[record.artifact.name] = record.artifact
        elif record.HasField("exit"):
            shown.exit_code = record.exit.exit_code
    return shown


def payloads(content: bytes) -> Iterator[bytes]:
    """The records of a LevelDB log: blocks of 32 KiB, and chunks (crc, length, type) that are whole or parts."""
    at, parts = 7, b""
    while at + 7 <= len(content):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        if at + 7 + length > len(content):  # W&B's process is in the middle of writing it
            return
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""


def lines(folder: Path) -> list[dict[str, Any]]:
    logs = [(folder / name).read_text().splitlines() for name in ("metrics.jsonl", "timing.jsonl")]
    return [json.loads(a) | json.loads(b) for a, b in zip(*logs, strict=True)]


def attempts(folder: Path) -> list[str]:
    entries: list[str] = json.loads((folder / "tracking.json").read_text())["attempts"]
    return entries


def only(things: Iterable[T]) -> T:
    (thing,) = things
    return thing


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """`byzbench run` of something tiny within this process, in an empty folder: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BYZBENCH_OUT", raising=False)
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(sys, "exit", sys.exit)  # W&B hooks into it

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["byzbench", "run", *TINY, *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0), *capfd.readouterr()

    yield call
    monkeypatch.undo()
    wandb.finish()  # what a test broke off in the middle


@pytest.mark.parametrize(
    "look_every, options",
    [(0.0, []), (1e9, ["--algo", "decbyzpg(lr=1e300, optimizer=sgd)"])],
    ids=["every_round", "at_the_end_diverged"],
)
def test_w_and_b_is_shown_everything_that_the_records_say(
    look_every: float, options: list[str], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "LOOK_EVERY", look_every)
    monkeypatch.setattr(runner, "SAVE_EVERY", 0.0)
    code, out, _ = command(*NESTED, *options, "--seed", "7", "--wandb", "offline")
    assert code == 0
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]
    folder = only(tmp_path.glob("runs/*"))
    file = only(folder.rglob("*.wandb"))
    assert f"tracked: wandb sync {file.parent}\n" in out
    shown = read(file)
    assert shown.exit_code == 0

    assert shown.rounds == lines(folder)
    assert (shown.rounds[-1]["disagreement"] is None) == bool(options), "what is not finite is null"
    assert [row["round"] for row in shown.rounds] == list(range(len(shown.rounds)))
    assert shown.history[-1]["pictures/curve_png/_type"] == "image-file"
    assert only(folder.rglob("media/images/**/*.png")).read_bytes() == (folder / "curve.png").read_bytes()

    about = json.loads((folder / "experiment.json").read_text())
    expected: dict[str, Any] = {"hash": folder.name, **flat(about["code"], "code/")}
    for key, value in about["experiment"].items():
        expected |= component(value, key) if isinstance(value, dict) else {key: value}
    config = {k: v for k, v in shown.config.items() if k != "_wandb"}
    assert config == expected
    assert (config["attack"], config["attack/scale"], config["seed"]) == ("sign_flip", 3, 7)
    assert (config["aggregator"], config["aggregator/s"]) == ("bucketing", 2)
    assert "median" in config.values(), "the inner rule is lost"
    assert set(shown.run.tags) == {*(config[kind] for kind in KINDS), *TAGS, "seed=7"}
    assert shown.run.run_id == f"{folder.name}-{about['code']['digest'][:8]}-1"

    result = json.loads((folder / "result.json").read_text())
    summary = {k: v for k, v in shown.summary.items() if k.startswith("result/")}
    assert summary == flat(result, "result/")
    assert {"result/return/mean", "result/verdict/name", "result/verdict/threshold"} < summary.keys()


def flat(data: dict[str, Any], prefix: str) -> dict[str, Any]:
    entries = {prefix + k: v for k, v in data.items() if not isinstance(v, dict)}
    for key, value in data.items():
        if isinstance(value, dict):
            entries |= flat(value, f"{prefix}{key}/")
    return entries


def component(data: dict[str, Any], key: str) -> dict[str, Any]:
    entries = {key: data["name"]}
    for name, value in data["parameters"].items():
        path = f"{key}/{name}"
        entries |= component(value, path) if isinstance(value, dict) else {path: value}
    return entries


def failing(method: Callable[..., Any], after: int, error: BaseException) -> Callable[..., Any]:
    calls = iter(range(after))

    def fail(*args: Any, **kwargs: Any) -> Any:
        if next(calls, None) is None:
            raise error
        return method(*args, **kwargs)

    return fail


GONE = RuntimeError("the network\nis gone")


@pytest.mark.slow
@pytest.mark.parametrize(
    "owner, method, after, error",
    [
        (wandb, "setup", 0, GONE),
        (wandb, "init", 0, GONE),
        (wandb, "init", 0, SystemExit(3)),
        (wandb.Run, "log", 0, GONE),
        (wandb.Run, "log", 3, GONE),
        (wandb, "Image", 0, GONE),
        (wandb.Run, "log_artifact", 0, GONE),
        (wandb.Run, "finish", 0, GONE),
    ],
    ids=["setup", "init", "exit", "first_log", "fourth_log", "picture", "files", "finish"],
)
def test_a_tracker_that_fails_is_one_warning_and_no_other_byte(
    owner: Any,
    method: str,
    after: int,
    error: BaseException,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tracking, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(runner, "SAVE_EVERY", 0.0)
    assert command("--out", "plain", "--seeds", "2")[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(owner, method, failing(getattr(owner, method), after, error))
        code, out, err = command("--out", "tracked", "--seeds", "2", "--wandb", "offline")
    assert (code, "tracked: " in out) == (0, False)
    message = f"({type(error).__name__}: {' '.join(str(error).split())})"
    (line,) = [line for line in err.splitlines() if "trajectories, return" not in line]
    assert line.startswith(f"byzbench: warning: W&B tracking stopped {message}; ")
    plain, tracked = (
        {f.parent.name: f.read_bytes() for f in tmp_path.glob(f"{out}/*/metrics.jsonl")} for out in ("plain", "tracked")
    )
    assert len(plain) == 2
    assert tracked == plain


def test_every_attempt_has_its_own_id_and_all_rounds(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(runner, "SAVE_EVERY", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append", failing(RunFolder.append, 13, KeyboardInterrupt()))
        code, _, err = command("--wandb", "offline", "--json")
    assert (code, err) == (130, "byzbench: error: stopped; the same command resumes\n")
    for options in ([], [], ["--on-existing", "rerun"]):  # resumed, reused, done again
        assert command("--wandb", "offline", "--json", *options)[0] == 0
    folder = only(tmp_path.glob("runs/*"))
    ids = attempts(folder)
    assert [i.rpartition("-")[2] for i in ids] == ["1", "2", "3", "4"]
    runs = [read(only(folder.rglob(f"run-{i}.wandb"))) for i in ids]
    assert [shown.run.run_id for shown in runs] == ids
    stopped, *complete = runs

    def untimed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in rows]

    whole = untimed(lines(folder))
    assert [untimed(shown.rounds) for shown in complete] == [whole] * 3
    assert untimed(stopped.rounds) == whole[:4]
    assert (stopped.exit_code, [shown.exit_code for shown in complete]) == (1, [0, 0, 0])
    assert not [key for key in stopped.summary if key.startswith("result")]


@dataclass
class Cell:
    """A finished cell of a sweep that was shown, and what was read back."""

    folder: Path
    shown: Shown
    tracker: tracking.Tracker


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    store = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        patch.setattr(sys, "exit", sys.exit)
        small = {"agents": 5, "byzantine": 1, "trajectories": 60, "preset": "paper"}
        small |= {"parameters": {"algorithm": {"N": 10, "B": 2}}}
        folder = Path(str(byzbench.run(out=store, attack="alie:z=1.5", topology="ring", seed=3, **small).run))
        learning_curve([folder], folder / "curve.png")
        Image.new("P", (4, 4)).save(folder / "episode.gif", save_all=True, append_images=[Image.new("P", (4, 4), 1)])
        (store / "elsewhere.png").write_bytes((folder / "curve.png").read_bytes())
        (folder / "link.png").symlink_to(store / "elsewhere.png")
        (folder / "notes.txt").write_text("not of the run")
        tracker = tracking.Tracker("offline", group="sweep-0123456789abcdef")
        tracker.show(folder)
        yield Cell(folder, read(only(folder.rglob("*.wandb"))), tracker)


def test_a_cell_of_a_sweep_is_shown_whole(cell: Cell) -> None:
    folder, shown = cell.folder, cell.shown
    config = {k: v for k, v in shown.config.items() if k != "_wandb"}
    about = json.loads((folder / "experiment.json").read_text())
    assert shown.exit_code == 0
    assert shown.run.run_group == "sweep-0123456789abcdef"
    assert set(shown.run.tags) == {*(config[kind] for kind in KINDS), *TAGS, "seed=3"}
    assert about["experiment"].keys() | {"hash"} <= config.keys()
    assert config["attack/z"] == 1.5
    assert {k: v for k, v in config.items() if k.startswith("code/")} == flat(about["code"], "code/")
    assert shown.rounds == lines(folder)
    assert shown.drawn_against == {"*": "trajectories"}
    assert cell.tracker.places == [f"wandb sync {only(folder.rglob('*.wandb')).parent}"]


def test_the_result_is_a_table(cell: Cell) -> None:
    assert cell.shown.history[-1]["result_table/_type"] == "table-file"
    table = json.loads(only(cell.folder.rglob("media/table/*.json")).read_text())
    assert table["columns"] == ["what", "value"]
    result = flat(json.loads((cell.folder / "result.json").read_text()), "")
    assert dict(table["data"]) == {k: json.dumps(v) if isinstance(v, list) else v for k, v in result.items()}
    assert {"return/mean", "verdict/name"} < result.keys()


def test_pictures_and_files_of_the_run_and_nothing_else_are_kept(cell: Cell) -> None:
    media = {"pictures/curve_png": ("image-file", "curve.png"), "pictures/episode_gif": ("video-file", "episode.gif")}
    row = cell.shown.history[-1]
    entries = {
        k.removesuffix("/_type"): v for k, v in row.items() if k.startswith("pictures/") and k.endswith("/_type")
    }
    assert entries == {key: kind for key, (kind, _) in media.items()}
    for key, (_, name) in media.items():
        copy = only(cell.folder.glob(f"wandb/offline-*/files/{row[f'{key}/path']}"))
        assert copy.read_bytes() == (cell.folder / name).read_bytes()

    artifact = cell.shown.artifacts[f"run-{cell.folder.name}"]
    assert artifact.type == "run"
    recorded = (
        "experiment.json",
        "trace.jsonl",
        "metrics.jsonl",
        "timing.jsonl",
        "result.json",
        "checkpoint.safetensors",
    )
    contents = {entry.path: entry for entry in artifact.manifest.contents}
    assert contents.keys() == {*recorded, "curve.png", "episode.gif"}
    for name, entry in contents.items():
        content = (cell.folder / name).read_bytes()
        assert (entry.digest, entry.size) == (b64encode(md5(content).digest()).decode(), len(content))
        assert Path(entry.local_path) == (cell.folder / name).resolve(), "a copy fills the user's home"


def test_the_ledger_says_what_is_there_and_it_is_shown_once(cell: Cell) -> None:
    statistics = (cell.folder / "tracking.json").read_bytes()
    (place, entry) = only(json.loads(statistics)["uploaded"].items())
    assert (place, entry["id"], len(entry["digest"])) == ("offline/byzbench", attempts(cell.folder)[0], 64)
    cell.tracker.show(cell.folder)
    assert len(list(cell.folder.rglob("*.wandb"))) == len(cell.tracker.places) == 1
    assert (cell.folder / "tracking.json").read_bytes() == statistics


def test_a_folder_that_somebody_holds_is_one_warning_and_the_next_is_shown(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "PATIENCE", 0.1)
    with RunFolder(cell.folder).locked(), pytest.warns(UserWarning, match="^not uploaded to W&B: .* another process"):
        cell.tracker.show(cell.folder)
    with pytest.warns(UserWarning, match="^W&B tracking stopped .CorruptRecord: "):
        cell.tracker.show(cell.folder.parent / "nothing")


def test_off_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # an import would fail
    tracking.Tracker("off", group="sweep").show(tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


def test_seeds_are_runs_of_one_group(command: Command, tmp_path: Path) -> None:
    assert command("--seeds", "2", "--wandb", "offline")[0] == 0
    runs = [read(file).run for file in tmp_path.rglob("*.wandb")]
    assert len({run.run_id for run in runs}) == 2
    assert len({run.run_group for run in runs}) == 1
    assert command("--wandb", "offline", "--attack", "sign_flip")[0] == 0
    assert len({read(file).run.run_group for file in tmp_path.rglob("*.wandb")}) == 2


@pytest.mark.parametrize("module", [None, types.ModuleType("wandb")], ids=["nothing", "a folder of that name"])
def test_without_the_library_nothing_runs(
    module: Any, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", module)
    code, out, err = command("--wandb", "offline")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("byzbench: error: --wandb needs Weights & Biases: pip install wandb (")
    assert list(tmp_path.iterdir()) == []


PROCESS = """
import sys
from byzbench import cli
try:
    cli.main()
finally:
    print("wandb" in sys.modules, file=sys.stderr)
"""


@pytest.mark.slow
def test_as_a_process_only_the_option_decides_and_json_is_all_there_is(tmp_path: Path) -> None:
    def process(mode: str, *words: str) -> subprocess.CompletedProcess[str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
        env |= {"PYTHONPATH": str(CHECKOUT), "WANDB_MODE": mode}
        call = [sys.executable, "-c", PROCESS, "run", *TINY, "--json", *words]
        return subprocess.run(call, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    off = process("offline", "--out", "off")
    assert (off.returncode, off.stderr) == (0, "False\n")
    assert not list(tmp_path.glob("off/*/*wandb*"))
    tracked = process("disabled", "--out", "on", "--wandb", "offline")
    assert (tracked.returncode, tracked.stderr, tracked.stdout.count("\n")) == (0, "True\n", 1)
    json.loads(tracked.stdout)
    folder = only(tmp_path.glob("on/*"))
    assert read(only(folder.rglob("*.wandb"))).rounds == lines(folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["off", "on"]
