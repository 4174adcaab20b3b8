"""The command line: what it prints where, with which exit code, and what it tells those who mistyped."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
import typer
from sealing import seal
from typer.testing import CliRunner

import byzbench.registry
from byzbench import cli
from byzbench.identity import ENGINE

CHECKOUT = Path(__file__).resolve().parents[1]
TINY = "--agents 5 --byzantine 1 --preset paper --trajectories 30 -p algorithm.N=10 -p algorithm.B=2".split()  # noqa: SIM905


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    def refusal(self) -> str:
        """The one line of an error; nothing else may have been said."""
        assert self.out == ""
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("byzbench: error: ")
        return self.err


Command = Callable[..., Outcome]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`byzbench ...` within this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BYZBENCH_OUT", raising=False)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def call(*words: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["byzbench", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return Outcome(int(end.value.code or 0), *capsys.readouterr())

    return call


def strict(text: str) -> Any:
    """JSON as its standard has it."""

    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(
    "words, message",
    [
        ("--algo decbizpg", "unknown algorithm 'decbizpg'. Did you mean 'decbyzpg'"),
        ("--attack alei", "unknown attack 'alei'. Did you mean 'alie'? Run `byzbench list attacks`"),
        ("--topology rign", "unknown topology 'rign'. Did you mean 'ring'? Run `byzbench list topologies`"),
        ("--env cartpol", "unknown task 'cartpol'. Did you mean 'cartpole'? Run `byzbench list tasks`"),
        ("--aggregator krun", "unknown aggregator 'krun'. Did you mean 'krum'? Run `byzbench list aggregators`"),
        ("--agreement mad", "unknown agreement 'mad'. Did you mean 'mda'? Run `byzbench list agreements`"),
        ("--placement frist", "unknown placement 'frist'. Did you mean 'first'? Run `byzbench list placements`"),
        ("--coin share", "unknown coin 'share'. Did you mean 'shared'? Run `byzbench list coins`"),
        ("--attack alie(z=1", "write name, name(key=value, ...), name:key=value or outer+inner"),
        ("--attack sign_flip:scle=2", "no parameter 'scle'. Did you mean 'scale'? Its parameters: "),
        ("--attack alie:z=0", "z=0: must be greater than 0"),
        ("--attack alie:z=nan", "finite number"),
        ("--algo decbyzpg:optimizer=rmsprop", "must be 'adam', 'sgd', 'normalized' or 'clipped'"),
        ("--byzantine 13 --agents 13", "byzantine must be a whole number from 0 to agents - 1 = 12, got 13"),
        ("--byzantine -1", "byzantine must be a whole number from 0 to agents - 1 = 4, got -1"),
        ("--assumed-byzantine -1", "assumed_byzantine must be a whole number from 0 to agents - 1 = 4, got -1"),
        ("--declared -1", "assumed_byzantine must be a whole number from 0 to agents - 1 = 4, got -1"),
        ("--declared 1 --assumed-byzantine 1", "is another spelling of"),
        ("--agents -1", "agents must be a whole number from 1 to 100000, got -1"),
        ("--seed -1", "seed must be a whole number from 0 to"),
        ("--seeds 0,-1", "seed must be a whole number from 0 to"),
        ("--trajectories -1", "trajectories must be a whole number from 1 to 1000000000000, got -1"),
        ("--trajectories 0", "trajectories must be a whole number from 1 to 1000000000000, got 0"),
        ("--trajectories many", "valid integer"),
        ("--agents 1 --byzantine 0 --topology ring", "ring: needs at least 3 agents, got 1"),
        ("--topology random_regular:degree=9", "needs at least 10 agents, got 5"),
        ("--algo byzpg --topology ring", "use --topology star"),
        ("--algo decbyzpg --topology star", "use --topology complete, or star:hub=agent"),
        ("--algo page_pg --agents 5", "page_pg is a method of one agent; got agents=5"),
        (
            "--aggregator krum --agents 3",
            "not defined for an inbox of n=3 vectors of which f=1 may be faulty; it needs n >=",
        ),
        ("--attack alie", "give one, for example --attack alie:z=1.5"),
        ("--seed 1 --seeds 2", "give --seed N for one run or --seeds for several"),
        ("--seeds x", "--seeds takes a number of seeds (5) or a list of different seeds (0,3,7), got 'x'"),
        ("--seeds 0", "--seeds takes a number of seeds (5) or a list of different seeds (0,3,7), got '0'"),
        ("--seeds 3,3", "--seeds takes a number of seeds (5) or a list of different seeds (0,3,7), got '3,3'"),
        ("-p nonsense", "-p takes kind.key=value, for example attack.z=1.5; got 'nonsense'"),
        ("-p attack.z", "-p takes kind.key=value, for example attack.z=1.5; got 'attack.z'"),
        ("-p attack.zz=1", "attack 'none': no parameter 'zz'. It has none."),
        ("-p algo.NN=1", "no parameter 'NN'. Did you mean 'N'? Its parameters: lr, optimizer, "),
        ("-p atack.z=1", "unknown kind 'atack'. Did you mean 'attack'"),
        ("--device nowhere", "device 'nowhere' cannot be used here"),
        ("--on-existing maybe", "'reuse', 'rerun'"),
        ("--atack alie", "--attack"),
        ("--evaluations none", "Invalid value for '--evaluations': must be a valid integer"),
        ("surplus", "unexpected extra argument"),
    ],
)
def test_a_run_that_cannot_be_is_refused_in_one_line_that_says_what_can(
    command: Command, tmp_path: Path, words: str, message: str
) -> None:
    outcome = command("run", *TINY, *re.findall(r"\S+\(.*|\S+", words))
    assert message in outcome.refusal()
    assert outcome.code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words, message",
    [
        ("fly", "No such command 'fly'"),
        ("--nonsense", "No such option"),
        ("list atacks", "unknown kind 'atacks'. Did you mean 'attacks'"),
        ("show attack", "Missing argument"),
        ("show attack alei", "Did you mean 'alie'?"),
        ("show atack alie", "Kinds: algorithm, attack, "),
        ("replay", "Missing argument"),
        ("replay nowhere", "nowhere is not the folder of a finished run"),
        ("replay no\nwhere", "no where is not the folder of a finished run"),
    ],
)
def test_other_verbs_refuse_in_the_same_way(command: Command, words: str, message: str) -> None:
    outcome = command(*words.split(" "))
    assert message in outcome.refusal()
    assert outcome.code == 2


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run that `byzbench run TINY` would make."""
    parameters = {"algorithm": {"N": 10, "B": 2}}
    options: dict[str, Any] = {"agents": 5, "byzantine": 1, "trajectories": 30, "preset": "paper"}
    options["parameters"] = parameters
    return Path(str(byzbench.run(out=tmp_path_factory.mktemp("finished"), **options).run))


@pytest.fixture
def folder(finished: Path, command: Command, tmp_path: Path) -> Path:
    """A copy of it, where the command will look."""
    return shutil.copytree(finished, tmp_path / "runs" / finished.name)


@pytest.mark.parametrize(
    "broken, content, message",
    [
        ("experiment.json", b'{"schema": 1, "exp', "experiment.json is not a JSON object"),
        ("experiment.json", b"[]", "experiment.json is not a JSON object"),
        ("experiment.json", b"{}", "experiment.json does not describe an experiment"),
        ("result.json", b"\xff\0garbage", "result.json is not a JSON object"),
        ("result.json", b"{}", "result.json is not a result"),
        ("metrics.jsonl", b"garbage\n", "metrics.jsonl has changed since it was written"),
    ],
)
def test_a_corrupt_folder_in_the_way_is_named_and_left_alone(
    command: Command, folder: Path, broken: str, content: bytes, message: str
) -> None:
    (folder / broken).write_bytes(content)
    outcome = command("run", *TINY)
    assert message in outcome.refusal()
    assert outcome.code == 2
    assert (folder / broken).read_bytes() == content
    assert command("run", *TINY, "--on-existing", "rerun", "--json").code == 0


@pytest.mark.parametrize(
    "broken, content, message",
    [
        ("checkpoint.safetensors", b"garbage" * 9, "checkpoint.safetensors is not a checkpoint of byzbench"),
        ("checkpoint.safetensors", b"", "checkpoint.safetensors is not a checkpoint of byzbench"),
        ("metrics.jsonl", b"{}\n", "metrics.jsonl is shorter than its checkpoint says"),
    ],
)
def test_an_unfinished_run_that_cannot_be_resumed_says_what_to_do(
    command: Command, folder: Path, broken: str, content: bytes, message: str
) -> None:
    (folder / "result.json").unlink()
    (folder / broken).write_bytes(content)
    outcome = command("run", *TINY)
    assert message in outcome.refusal()
    assert "--on-existing rerun" in outcome.err
    assert outcome.code == 2
    assert not (folder / "result.json").exists()


@pytest.mark.parametrize(
    "broken, content, message",
    [
        ("experiment.json", b'{"schema": 1, "exp', "is not a JSON object"),
        ("experiment.json", b"{}", "does not describe an experiment"),
        ("experiment.json", b'{"experiment": {"agents": 5}}', "experiment.json has changed since it was written"),
        ("result.json", b"garbage", "is not a JSON object"),
        ("metrics.jsonl", b"garbage\n", "not a line of this log"),
    ],
)
def test_a_corrupt_folder_is_not_replayed(
    command: Command, folder: Path, broken: str, content: bytes, message: str
) -> None:
    (folder / broken).write_bytes(content)
    outcome = command("replay", str(folder))
    assert message in outcome.refusal()
    assert outcome.code == 2


@pytest.mark.parametrize("value", [None, "x", -1, [], {}, {"name": "alie"}, {"name": 3, "parameters": {}}])
@pytest.mark.parametrize("key", ["agents", "attack", "assumed_byzantine", "seed"])
def test_an_experiment_that_nobody_described_is_not_replayed(
    command: Command, folder: Path, key: str, value: object
) -> None:
    document = json.loads((folder / "experiment.json").read_text())
    document["experiment"][key] = value
    (folder / "experiment.json").write_text(json.dumps(document))
    seal(folder)
    outcome = command("replay", str(folder))
    outcome.refusal()
    assert outcome.code == 2


def test_a_disk_that_refuses_is_not_the_users_mistake(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    outcome = command("run", *TINY, "--out", "file")
    assert "cannot write file/" in outcome.refusal()
    assert outcome.code == 1


def test_a_keyboard_interrupt_is_one_line(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("byzbench.experiments.runner.run_experiment", interrupted)
    outcome = command("run", *TINY)
    assert outcome.refusal() == "byzbench: error: stopped; the same command resumes\n"
    assert outcome.code == 130


KEYS = {"run", "verdict", "return", "trajectories", "steps", "steps_per_second", "disagreement", "messages", "bytes"}
KEYS |= {"versions"}


def test_json_is_one_object_and_nothing_else(command: Command, tmp_path: Path) -> None:
    outcome = command("run", *TINY, "--attack", "sign_flip", "--json")
    assert (outcome.code, outcome.err, outcome.out.count("\n")) == (0, "", 1)
    output = strict(outcome.out)
    assert set(output) >= KEYS
    assert output["verdict"]["name"] in {"ok", "diverged", "no_consensus", "not_learning"}
    assert output["return"].keys() == {"mean", "low", "high", "n"}
    assert (output["return"]["low"], output["return"]["high"], output["return"]["n"]) == (None, None, 1)
    assert output["trajectories"] >= 30
    assert output == strict((tmp_path / output["run"] / "result.json").read_text())


def test_several_seeds_are_one_object_with_an_interval(command: Command, tmp_path: Path) -> None:
    output = strict(command("run", *TINY, "--seeds", "3", "--json").out)
    assert set(output) >= KEYS
    assert len({(tmp_path / run).resolve() for run in output["run"]}) == 3
    singles = [strict((tmp_path / run / "result.json").read_text()) for run in output["run"]]
    assert output["steps"] == sum(single["steps"] for single in singles)
    assert output["return"]["mean"] == pytest.approx(sum(single["return"]["mean"] for single in singles) / 3)
    assert output["return"]["low"] < output["return"]["mean"] < output["return"]["high"]
    assert output["return"]["n"] == 3
    assert strict(command("run", *TINY, "--seeds", "2,1,0", "--json").out)["run"] == output["run"][::-1]


def test_a_run_that_diverges_is_still_json(command: Command) -> None:
    """Numbers that are not finite have no word in JSON; they are null."""
    outcome = command("run", *TINY, "--algo", "decbyzpg(lr=1e300, optimizer=sgd)", "--json")
    assert outcome.code == 0
    output = strict(outcome.out)
    assert output["verdict"]["name"] == "diverged"
    assert output["disagreement"] is None


def test_a_plain_run_prints_a_table_and_where_things_are(command: Command, tmp_path: Path) -> None:
    outcome = command("run", *TINY)
    assert outcome.code == 0
    for words in ("decbyzpg · none · complete · cartpole   K=5, f=1", "verdict", "messages sent", "saved: runs/"):
        assert words in outcome.out
    (picture,) = re.findall(r"^learning curve: (.*)$", outcome.out, re.MULTILINE)
    assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    (replay,) = re.findall(r"byzbench (replay \S+)$", outcome.out, re.MULTILINE)
    again = command(*replay.split())
    assert (again.code, again.out.startswith("identical: ")) == (0, True)
    assert "30/30 trajectories" in outcome.err


def table(text: str) -> dict[str, str]:
    """The rows of a result table, with the lines of a value joined."""
    rows: dict[str, str] = {}
    for name, value in re.findall("^│ (.*?) *│ (.*?) *│$", text, re.MULTILINE):
        label = name or list(rows)[-1]
        rows[label] = f"{rows.get(label, '')} {value}".strip()
    return rows


def test_around_a_server_the_table_shows_the_inbox_of_the_server(command: Command) -> None:
    rows = table(command("run", *TINY, "--algo", "byzpg", "--attack", "ipm").out)
    assert rows["largest local Byzantine share"] == "0.200"
    assert rows["server inboxes beyond tolerance"] == "0 of 1"
    words = [*TINY[:-2], "--algo", "ensemble_frl:groups=2", "--assumed-byzantine", "0"]
    groups = table(command("run", *words).out)
    assert groups["largest local Byzantine share"] in ("0.333", "0.500")
    assert groups["server inboxes beyond tolerance"] == "1 of 2"


def test_agents_that_send_nothing_seek_no_consensus(command: Command) -> None:
    rows = table(command("run", *TINY, "--algo", "solo:lr=0.2").out)
    assert rows["verdict"] == "no_consensus  (none is sought: the agents exchange no messages)"


def test_a_hopeless_graph_is_one_sentence_for_all_seeds(command: Command) -> None:
    words = [*TINY, "--agents", "8", "--byzantine", "2", "--topology", "ring", "--attack", "ipm"]
    outcome = command("run", *words, "--seeds", "3")
    (line,) = [line for line in outcome.out.splitlines() if "no guarantee covers" in line]
    assert line == (
        "note: no guarantee covers f=2 on topology ring: the honest agents are in 2 components; only 28.6% of "
        "placements leave the honest agents connected; try --topology complete"
    )


def test_a_finished_run_is_reused_unless_it_is_to_be_rerun(command: Command, folder: Path) -> None:
    true = json.loads((folder / "result.json").read_text())["messages"]
    marked = {**json.loads((folder / "result.json").read_text()), "messages": 123}
    (folder / "result.json").write_text(json.dumps(marked))
    seal(folder)
    metrics = (folder / "metrics.jsonl").read_bytes()
    assert strict(command("run", *TINY, "--json").out)["messages"] == 123
    assert strict(command("run", *TINY, "--json", "--on-existing", "rerun").out)["messages"] == true
    assert (folder / "metrics.jsonl").read_bytes() == metrics


def test_replay_finds_the_round_that_was_edited(command: Command, folder: Path) -> None:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    edited = {**json.loads(lines[2]), "return": 500.0}
    (folder / "metrics.jsonl").write_text("\n".join([*lines[:2], json.dumps(edited), *lines[3:], ""]))
    assert "metrics.jsonl has changed" in command("replay", str(folder)).refusal()
    seal(folder)
    outcome = command("replay", str(folder))
    assert (outcome.code, outcome.out) == (
        1,
        "different from round 2 on; behaviour and libraries are the same\n",
    )


@pytest.mark.parametrize(
    "engine, code, message",
    [
        (99, None, f"engine: 99 then, {ENGINE} now"),
        (ENGINE, [], "behaviour and libraries are the same"),
        (ENGINE, {"cpu": "AVX1024"}, "cpu: AVX1024 then, .* now"),
    ],
)
def test_replay_says_what_else_ran(command: Command, folder: Path, engine: int, code: object, message: str) -> None:
    document = json.loads((folder / "experiment.json").read_text())
    record = {**document, "identity": {**document["identity"], "engine": engine}, "code": code}
    (folder / "experiment.json").write_text(json.dumps(record))
    for log in ("metrics.jsonl", "trace.jsonl"):
        (folder / log).write_text("")
    seal(folder)
    outcome = command("replay", str(folder))
    assert outcome.code == 1
    assert re.fullmatch(rf"different from round 0 on; {message}\n", outcome.out)


@pytest.mark.parametrize(
    "words, completions",
    [
        ("run --attack sign", {"sign_flip"}),
        ("run --env cartp", {"cartpole"}),
        ("run -t rin", {"ring", "ring_of_cliques"}),
        ("sweep grid.toml --aggregator nnm,trimmed_me", {"nnm,trimmed_mean"}),
        ("show agreem", {"agreement"}),
        ("show attack agr_t", {"agr_tailored"}),
        ("check krum", {"krum"}),
        ("list attacks --where str", {"strength="}),
        ("list algo --where communication=s", {"communication=server", "communication=single_agent"}),
        ("list atacks --where str", set()),
        ("leaderboard run --suite smoke-v", {"smoke-v1", "smoke-v2"}),
        ("leaderboard findings smoke-v2", {"smoke-v2"}),
        ("re", {"render", "replay", "report", "reproduce"}),
    ],
)
def test_a_shell_completes_names(
    command: Command, monkeypatch: pytest.MonkeyPatch, words: str, completions: set[str]
) -> None:
    monkeypatch.setenv("_BYZBENCH_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"byzbench {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
    outcome = command()
    assert (outcome.code, outcome.err) == (0, "")
    assert set(outcome.out.split()) == completions


def test_the_script_of_completion_is_printed(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_BYZBENCH_COMPLETE", "")  # so that it is removed at the end
    monkeypatch.delenv("_BYZBENCH_COMPLETE")
    outcome = command("completion", "bash")
    assert (outcome.code, outcome.err) == (0, "")
    assert "_BYZBENCH_COMPLETE=complete_bash" in outcome.out
    monkeypatch.delenv("_BYZBENCH_COMPLETE")
    assert "'bash', 'zsh'" in command("completion", "tcsh").refusal()


def test_the_doctor_reports_extras_kernels_and_plug_ins(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = command("doctor", "--json")
    facts = {fact["name"]: fact for fact in strict(outcome.out)}
    assert outcome.code == 0
    assert facts.keys() >= {"byzbench", "libraries", "kernels", "threads", "wandb"}
    assert facts["kernels"]["text"].startswith("compiled by Numba")
    broken = byzbench.registry.Origin("coin", "bent", "nowhere_to_be_found", "Bent", "foreign 1.0")
    monkeypatch.setattr(byzbench.registry, "origins", lambda kind: {"bent": broken} if kind == "coin" else {})
    outcome = command("doctor")
    assert outcome.code == 1
    (line,) = re.findall(r"^FAIL .*(?:\n {6}.*)*", outcome.out, re.MULTILINE)
    assert "coin bent" in line
    assert "cannot be imported" in line


def test_list_prints_every_kind_and_parses(command: Command) -> None:
    listed = strict(command("list", "--json").out)
    assert {entry["kind"] for entry in listed} == set(byzbench.registry.KINDS)
    assert all(entry.keys() == {"kind", "name", "summary", "distribution"} for entry in listed)
    text = command("list").out
    assert all(re.search(rf"^  {entry['name']} .*\S", text, re.MULTILINE) for entry in listed)
    only = strict(command("list", "attacks", "--json").out)
    assert only == [entry for entry in listed if entry["kind"] == "attack"]


def test_list_groups_and_filters_by_traits(command: Command) -> None:
    text = command("list", "attacks").out
    labels = re.findall(r"^(\w+): ", text, re.MULTILINE)
    assert labels == ["blind", "local", "colluding", "omniscient", "adaptive"]
    names = [entry["name"] for entry in strict(command("list", "attacks", "--json").out)]
    assert sorted(re.findall(r"^  (\w+)  ", text, re.MULTILINE)) == names
    selected = command("list", "attacks", "--json", "--where", "strength=adaptive", "--where", "equivocates=no").out
    assert {entry["name"] for entry in strict(selected)} >= {"optimal_ipm", "agr_tailored"}
    assert command("list", "algo", "--where", "communication=single_agent").out.split()[2] == "page_pg"
    assert (
        command("list", "attacks", "--where", "acts on=messages").out
        == command("list", "attacks", "--where", "acts_on=messages").out
    )


@pytest.mark.parametrize(
    "words, message",
    [
        ("--where strength=blind", 'byzbench list attacks --where "strength=blind". Traits of attacks: acts_on, '),
        ("--where communication=server", 'byzbench list algorithms --where "communication=server". Traits of algor'),
        ("--where colour=red", 'needs a kind, for example: byzbench list attacks --where "strength=omniscient". '),
        ("attacks --where strenth=blind", "got 'strenth=blind'. Did you mean 'strength'? Traits: acts_on, "),
        ("attacks --where strength", "--where takes TRAIT=VALUE, got 'strength'. Traits: "),
        ("attacks --where strength=blind --where strength=adaptive", "no component has strength=blind and strength="),
        ("attacks --where strength=omnicient", "no strength is 'omnicient'. Did you mean 'omniscient'? Values: "),
    ],
)
def test_list_refuses_a_trait_that_no_component_has(command: Command, words: str, message: str) -> None:
    outcome = command("list", *words.split())
    assert message in outcome.refusal()
    assert outcome.code == 2


@pytest.mark.parametrize("kind", list(byzbench.registry.KINDS))
def test_show_prints_every_component_and_parses(command: Command, kind: str) -> None:
    names = list(byzbench.registry.origins(kind))
    for name in names:
        shown = strict(command("show", kind, name, "--json").out)
        assert (shown["kind"], shown["name"]) == (kind, name)
        assert shown["description"]
        if name in (names[0], names[-1]):  # the text is made of the same data
            text = command("show", kind, name).out
            assert text.startswith(f"{kind} {name}  (")
            assert all(f"  {p['name']} = {p['default']}  (" in text for p in shown["parameters"])


def test_show_tells_bounds_sources_and_threats(command: Command) -> None:
    text = command("show", "attack", "alie").out
    for words in (
        "source: Baruch",
        "knows: byzantine",
        "equivocates: no",
        "z = None  (float | none, > 0)",
        "rule = A  (A | B)",
    ):
        assert words in text
    assert "requires: n >= 2f + 3" in command("show", "aggregator", "krum").out
    assert "communication: server" in command("show", "algorithm", "byzpg").out


def process(cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-m", "byzbench", *words]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


def test_as_a_process_it_refuses_in_one_line(tmp_path: Path) -> None:
    done = process(tmp_path, "run", *TINY, "--attack", "alie")
    Outcome(done.returncode, done.stdout, done.stderr).refusal()
    assert "z=1.5" in done.stderr
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_as_a_process_it_prints_json_and_nothing_else(tmp_path: Path) -> None:
    done = process(tmp_path, "run", *TINY, "--json", "--out", "elsewhere")
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(strict(done.stdout)["run"]).parent == Path("elsewhere")


def test_output_that_nobody_reads_ends_a_command_quietly(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "byzbench", "bench", "aggregators", "--aggregator", "mean", "--rounds", "1"]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_as_a_process_it_helps(tmp_path: Path) -> None:
    assert process(tmp_path, "--version").stdout == f"byzbench {byzbench.__version__}\n"
    helped = process(tmp_path, "--help")
    assert helped.returncode == 0
    assert all(verb in helped.stdout for verb in ("run", "list", "show", "replay"))


def help_texts(command: Any, *path: str) -> Iterator[tuple[str, str]]:
    """Yield the words of a command and of all commands below it, with their help texts."""
    yield " ".join(path), command.help
    for name, inner in getattr(command, "commands", {}).items():
        yield from help_texts(inner, *path, name)


@pytest.mark.parametrize("verb, text", [*help_texts(typer.main.get_command(cli.app))])
def test_every_help_has_two_examples_and_fits_80_columns(verb: str, text: str) -> None:
    examples = [line.strip() for line in text.partition("Examples:")[2].splitlines() if line.strip()]
    assert len(examples) >= 2
    assert all(line.startswith(f"byzbench {verb}".strip()) for line in examples)
    printed = CliRunner().invoke(cli.app, [*verb.split(), "--help"], env={"COLUMNS": "80"}).stdout.splitlines()
    assert max(map(len, printed)) <= 80
    assert set(examples) <= {line.strip() for line in printed}, "an example is broken into lines"


def test_an_unknown_command_brings_near_ones(command: Command) -> None:
    assert command("rendr").err == "byzbench: error: No such command 'rendr'. Did you mean 'render'?\n"
    assert command("watch", "runs/0123456789abcdef").err == "byzbench: error: No such command 'watch'.\n"


def on_terminal(cwd: Path, *words: str) -> list[str]:
    """The lines that `byzbench ...` writes to a terminal of 80 columns, also those that it overwrites."""
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    env = {"TERM": "xterm", **{k: v for k, v in os.environ.items() if k not in ("COLUMNS", "TERM", "BYZBENCH_OUT")}}
    run = [sys.executable, "-m", "byzbench", *words]
    with subprocess.Popen(run, cwd=cwd, env=env, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        text = b""
        with contextlib.suppress(OSError):  # the end of the process
            while part := os.read(main, 65536):
                text += part
    os.close(main)
    assert process.returncode == 0
    without_colours = re.sub(r"\x1b\[[0-9;]*m", "", text.decode())
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "\n", without_colours).split("\n")


@pytest.mark.slow
def test_a_terminal_of_80_columns_shows_the_times_of_a_run_and_that_a_run_is_reused(tmp_path: Path) -> None:
    lines = on_terminal(tmp_path, "run", *TINY)
    assert "decbyzpg · none · complete · seed 0" in lines
    assert any(re.fullmatch(r"━+ *30/30 · return [0-9.]+ 0:00:\d\d 0:00:00", line) for line in lines)
    assert max(map(len, lines)) <= 80
    again = on_terminal(tmp_path, "run", *TINY)
    assert any(line.startswith("reused: runs/") for line in again)
    assert not [line for line in again if "30/30" in line]


def test_a_terminal_breaks_no_word_of_a_list(command: Command, tmp_path: Path) -> None:
    lines = on_terminal(tmp_path, "list", "attacks")
    assert max(map(len, lines)) <= 80
    assert " ".join(" ".join(lines).split()) == " ".join(command("list", "attacks").out.split())


SWEEP = "--agents 5 --byzantine 1 --trajectories 12 -p algo.N=4 --topology complete --executor serial".split()  # noqa: SIM905


def test_a_sweep_prints_its_plan_and_what_came_of_it(command: Command, tmp_path: Path) -> None:
    words = ["--algo", "decbyzpg,byzpg", "--attack", "sign_flip,none", "--seeds", "2", *SWEEP]
    planned = command("sweep", *words, "--dry-run")
    assert planned.code == 0
    assert "4 cells: 4 to run" in planned.err
    assert "undefined: byzpg · sign_flip: byzpg needs a trusted server" in planned.err
    assert "time unknown" in planned.err
    assert not list(tmp_path.glob("runs/*"))
    done = command("sweep", *words)
    assert done.code == 0
    assert "4 finished (0 reused), 0 failed, 2 undefined" in done.out
    assert "decbyzpg · sign_flip · seed 0" in done.err
    again = command("sweep", *words, "--json")
    data = strict(again.out)
    assert again.err == ""
    assert {cell["status"] for cell in data["cells"].values()} == {"finished"}
    assert all(cell["reused"] for cell in data["cells"].values())
    assert "4 cells: 4 reused" in command("sweep", *words, "--dry-run").err
    more = command("sweep", *words, "--attack", "zero", "--dry-run").err
    assert "6 cells: 4 reused, 2 to run" in more
    assert "estimated from similar earlier runs" in more
    listed = command("runs", "--attack", "none")
    assert listed.out.count("finished") == 2


def test_flags_replace_what_a_suite_says(command: Command, tmp_path: Path) -> None:
    (tmp_path / "suite.toml").write_text(
        'attack = ["sign_flip", "none"]\nseeds = 2\nagents = 5\n[parameters.algo]\nN = 4\nB = 2\n'
    )
    planned = command("sweep", "suite.toml", *SWEEP, "--seeds", "3", "-p", "algo.N=5", "--json", "--dry-run")
    assert planned.code == 0
    done = command("sweep", "suite.toml", *SWEEP, "--attack", "none", "--seeds", "1", "-p", "algo.N=5", "--json")
    (cell,) = strict(done.out)["cells"].values()
    record = strict((tmp_path / "runs" / cell["hash"] / "experiment.json").read_text())
    assert (
        record["experiment"]["algorithm"]["parameters"] | {"N": 5, "B": 2}
        == (record["experiment"]["algorithm"]["parameters"])
    )


@pytest.mark.parametrize(
    "words, message",
    [
        ("", "give a suite (a TOML file) or axes"),
        ("nowhere.toml", "there is no suite nowhere.toml"),
        ("--algo decbizpg --attack alei", "unknown attack 'alei'. Did you mean 'alie'"),
        ("--algo decbyzpg --agents few", "--agents takes whole numbers, got 'few'"),
        ("--algo decbyzpg --seeds x", "--seeds takes a number of seeds (5) or a list of different seeds"),
        ("--algo decbyzpg --trajectories 0", "trajectories must be a whole number from 1"),
        ("--algo decbyzpg --tuned nowhere.json", "there is no file nowhere.json"),
        ("--algo decbyzpg --out nonsense://x", "cannot open the store nonsense://x"),
        ("--algo decbyzpg --jobs 0", "--jobs"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_in_one_line(
    command: Command, tmp_path: Path, words: str, message: str
) -> None:
    outcome = command("sweep", *words.split())
    assert message in outcome.refusal()
    assert outcome.code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_first_interrupt_finishes_and_the_second_stops(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "BYZBENCH_OUT": "runs"}
    axes = ["--attack", "sign_flip,none,zero", "--seeds", "40", *SWEEP[:-2], "--jobs", "2", "--trajectories", "60"]

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "byzbench", "sweep", *axes]
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        while "seed" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        return process

    first = start()
    _, err = first.communicate(timeout=60)
    assert first.returncode == 130
    assert "finishing the cells that run, starting no others; press Ctrl-C again to stop now" in err
    folders = [path.parent for path in tmp_path.glob("runs/*/experiment.json")]
    assert len(folders) < 120
    assert all((folder / "result.json").exists() for folder in folders)

    second = start()
    second.send_signal(signal.SIGINT)
    _, err = second.communicate(timeout=60)
    assert second.returncode == 130
    assert "Traceback" not in err


def test_version_prints_what_decides_about_numbers(command: Command) -> None:
    from byzbench.canonical import SCHEMA
    from byzbench.identity import ENGINE

    document = strict(command("version", "--json").out)
    assert (document["engine"], document["schema"]) == (ENGINE, SCHEMA)
    assert {"torch", "numpy", "numba", "python"} <= document["libraries"].keys()
    text = command("version").out
    assert re.search(rf"^engine +{ENGINE}$", text, re.MULTILINE)
    assert f"torch {document['libraries']['torch']}" in text


def test_a_reused_run_says_so(command: Command, folder: Path) -> None:
    assert f"reused: {folder.parent.name}/{folder.name}\n" in command("run", *TINY).err


LIMITED = {
    "run": "",
    "sweep": "--algo decbyzpg",
    "tune": "--algo decbyzpg --attacks ipm",
    "worst": "",
    "evaluate": "--algo decbyzpg --suite suite.toml",
    "reproduce": "speedup",
    "leaderboard reference": "smoke-v2",
}
LIMITED_SLOW = {
    "breakdown": "",
    "pilot": f"{CHECKOUT}/leaderboards/pilots/smoke-v2.toml",
    "leaderboard run": "--suite smoke-v2 --algo decbyzpg",
    "leaderboard attack": f"{CHECKOUT}/leaderboards/submissions/smoke-v2/defence/nna-2",
    "leaderboard audit": f"--from {CHECKOUT}/leaderboards",
}


@pytest.mark.parametrize("verb", [*LIMITED, *(pytest.param(verb, marks=pytest.mark.slow) for verb in LIMITED_SLOW)])
def test_every_verb_that_runs_cells_takes_a_time_limit(verb: str, command: Command, tmp_path: Path) -> None:
    (tmp_path / "suite.toml").write_text('attack = ["sign_flip"]\n')
    words = (LIMITED | LIMITED_SLOW)[verb].split()
    outcome = command(*verb.split(), *words, "--cell-timeout", "0")
    assert outcome.code == 2
    assert "byzbench: error: a cell timeout must be above 0 seconds, and needs the executor process\n" in outcome.err
