"""Reports and pictures of stores that anybody may have written."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from byzbench import Experiment, cli
from byzbench.canonical import hash_of
from byzbench.experiments.curves import LEARNING
from byzbench.records.store import StoredRun, gather, save_sweep
from byzbench.reports.figures import KINDS, reached
from byzbench.reports.plot_style import FORMATS
from byzbench.reports.result_tables import _ranking, sheets
from byzbench.reports.row_scores import common_seeds
from byzbench.reports.sheets import Table, render_tables
from byzbench.reports.summary import METRICS, Groups, ReportRow, clean, group, run_reference, score_bounds

FORMS = ("table", "md", "csv", "tex", "json")
BUDGET = 400
RANDOM, SOLVED = 22.3, 475.0
"""Returns of a random policy and of the solved task, CartPole."""

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`byzbench ...` within this process, in an empty folder: its exit code and what it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["byzbench", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0), *capsys.readouterr()

    return call


@cache
def described(algo: str, env: str) -> str:
    return json.dumps(Experiment.create(algo, env=env, trajectories=BUDGET).describe())


def experiment(algo: str = "decbyzpg", attack: str = "none", seed: int = 0, env: str = "cartpole", **other: Any) -> Any:
    description = json.loads(described(algo, env))
    name, _, z = attack.partition(":")
    return description | {"attack": {"name": name, "parameters": {"z": float(z)} if z else {}}, "seed": seed} | other


def write(
    store: Path, what: Any, value: float | None, status: str = "finished", bytes: int = 0, recorded: bool = True
) -> Path:
    """Write the folder of a run whose return rises in a straight line to `value`, and which sends `bytes` a round.

    The recorded area under the evaluation curve is `value` as well; where `recorded` is False there is none.
    """
    folder = store / hash_of(what)
    folder.mkdir(parents=True)
    (folder / "experiment.json").write_text(json.dumps({"experiment": what, "code": {"digest": "same"}}))
    if status == "failed":
        (folder / "failure.json").write_text(json.dumps({"error": "it broke"}))
    if status != "finished":
        return folder
    grows = np.linspace(20, 20 if value is None else value, 20)
    lines = [
        {"round": r, "trajectories": 20 * (r + 1), "return": v} | dict.fromkeys(LOGGED, 1) | {"bytes": bytes * (r + 1)}
        for r, v in enumerate(grows.tolist())
    ]
    for line in lines[1::2]:
        line["evaluation"] = line["return"] + 1
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    evaluation = {} if value is None else {"evaluation": value + 1, "evaluation_worst": value - 1}
    if recorded and value is not None:
        evaluation["evaluation_auc"] = value
    result = {
        "run": str(folder),
        "verdict": {"name": "diverged" if value is None else "ok"},
        "return": {"mean": value, "low": None, "high": None, "n": 1},
        "trajectories": BUDGET,
        "steps": 1000,
        "steps_per_second": 10.0,
        "evaluation": evaluation,
        "diagnostics": {},
    }
    (folder / "result.json").write_text(json.dumps(result))
    return folder


LOGGED = ("steps", "return_worst", "disagreement", "messages", "bytes")


def fill(store: Path, levels: dict[tuple[str, str], float], seeds: Iterable[int]) -> Path:
    """A run for each seed of each (algorithm, attack), around a level."""
    draw = random.Random(0)
    for (algo, attack), level in levels.items():
        for seed in seeds:
            write(store, experiment(algo, attack, seed), level + draw.gauss(0, 5))
    return store


LEVELS = {
    ("decbyzpg", "none"): 480.0,
    ("decbyzpg", "ipm"): 400.0,
    ("decbyzpg", "sign_flip"): 440.0,
    ("dec_page_pg", "none"): 481.0,
    ("dec_page_pg", "ipm"): 300.0,
    ("dec_page_pg", "sign_flip"): 30.0,
    ("fed_page_pg", "none"): 250.0,
    ("fed_page_pg", "ipm"): 20.0,
    ("fed_page_pg", "sign_flip"): 28.0,
}


def loaded(text: str) -> dict[str, Any]:
    """Strict JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("form", FORMS)
def test_a_report_is_the_same_bytes_however_and_wherever_folders_lie(
    form: str, command: Command, tmp_path: Path
) -> None:
    store = fill(tmp_path / "a", LEVELS, range(4))
    folders = sorted(shutil.copytree(store, tmp_path / "b" / "deeper").iterdir())
    random.Random(1).shuffle(folders)
    first = command("report", store, "--format", form)
    assert first[0] == 0
    assert first[1].strip()
    assert command("report", *folders, "--format", form) == first
    assert command("report", *folders[:10], store, "--format", form)[1] == first[1]
    assert str(tmp_path) not in first[1]


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / "result.json").write_text('{"steps": ' + "9" * 5000 + "}"),
        lambda folder: (folder / "result.json").write_text('{"return": {"mean": NaN}}'),
        lambda folder: (folder / "result.json").write_text("[" * 100_000),
        lambda folder: (folder / "result.json").write_bytes(b"\xff\xfe"),
        lambda folder: (folder / "experiment.json").write_text("{}"),
        lambda folder: (folder / "metrics.jsonl").write_text('{"round": 0, "traj\n'),
        lambda folder: (folder / "metrics.jsonl").write_text(""),
        lambda folder: (folder / "metrics.jsonl").unlink(),
        lambda folder: (folder / "metrics.jsonl").write_text(
            "".join(
                json.dumps({"round": r, "trajectories": 9 - r, "return": 1} | dict.fromkeys(LOGGED, 1)) + "\n"
                for r in (0, 1)
            )
        ),
        lambda folder: folder.rename(folder.with_name("0" * 16)),
        lambda folder: (folder.rename(folder.parent.parent / "away"), folder.symlink_to(folder.parent.parent / "away")),
    ],
    ids="long nan deep bytes empty cut nothing missing backwards renamed link".split(),  # noqa: SIM905
)
def test_a_hostile_folder_is_named_and_the_rest_is_reported(
    harm: Callable[[Path], object], command: Command, tmp_path: Path
) -> None:
    store = fill(tmp_path / "runs", {("decbyzpg", "none"): 400.0}, range(1, 6))
    folder = write(store, experiment(), 100.0)
    harm(folder)
    hurt = [str(folder), str(folder.with_name("0" * 16))]
    for words in (["report", store, "--metric", "auc", "--format", "json"], ["plot", store, "--out", "picture.svg"]):
        code, out, err = command(*words)
        named = [line for line in err.splitlines() if line.startswith("not trusted: ") and any(p in line for p in hurt)]
        assert code == 0, err
        assert len(named) == 1
        if words[0] == "report":
            assert [row["seeds"] for row in loaded(out)["results"]] == [5]


def test_a_hostile_folder_that_is_named_itself_does_not_hide_the_others(command: Command, tmp_path: Path) -> None:
    store = fill(tmp_path / "runs", {("decbyzpg", "none"): 400.0}, range(4))
    folders = sorted(store.iterdir())
    (folders[0] / "result.json").write_text("{")
    (folders[1] / "experiment.json").write_text("{")
    shutil.copytree(folders[2], store / "copy")
    code, out, err = command("report", *folders, store / "copy", "--format", "json")
    assert code == 0
    assert [row["seeds"] for row in loaded(out)["results"]] == [2]
    assert [line.startswith("not trusted: ") for line in err.splitlines()] == [True] * 3
    assert all(str(path) in err for path in (folders[0], folders[1], store / "copy"))


def test_numbers_that_would_overflow_count_as_not_finite(command: Command, tmp_path: Path) -> None:
    store = fill(tmp_path / "runs", {("decbyzpg", "none"): 400.0}, range(1, 5))
    folder = write(store, experiment(), 1.0)
    result = json.loads((folder / "result.json").read_text())
    result["return"]["mean"] = 1e308
    result["evaluation"] = {"evaluation": "many", "evaluation_worst": True, "evaluation_auc": 1e308}
    (folder / "result.json").write_text(json.dumps(result))
    for metric in ("evaluation_auc", "return"):
        (row,) = loaded(command("report", store, "--metric", metric, "--format", "json")[1])["results"]
        assert (row["seeds"], row["lost"], row["low"]) == (4, 1, None)
        assert "1 of 5 not finite" in row["remarks"]


@pytest.mark.parametrize("count", [1, 2, 3, 6, 9, 10])
def test_few_seeds_have_no_interval_or_a_flag(count: int, command: Command, tmp_path: Path) -> None:
    store = fill(tmp_path / "runs", {("decbyzpg", "none"): 400.0}, range(count))
    (row,) = loaded(command("report", store, "--format", "json")[1])["results"]
    assert row["seeds"] == count
    assert (row["low"] is None) == (row["high"] is None) == (count < 3)
    assert ("few seeds" in row["remarks"]) == (count < 10)
    shown = command("report", store, "--format", "md")[1]
    assert (" to " in shown) == (count >= 3)
    assert ("no interval" in shown) == (count < 3)
    assert "95 % interval" in shown
    assert " %)" not in shown  # every interval in that column has the level that its head states


def test_failed_and_diverged_runs_count_as_the_random_policy(command: Command, tmp_path: Path) -> None:
    store = fill(tmp_path / "runs", {("decbyzpg", "ipm"): 400.0, ("decbyzpg", "zero"): 420.0}, range(10))
    write(store, experiment(attack="ipm", seed=11), None)
    write(store, experiment(attack="ipm", seed=12), None, "failed")
    write(store, experiment(attack="ipm", seed=13), None, "unfinished")
    data = loaded(command("report", store, "--format", "json")[1])
    ipm, zero = data["results"]
    plain = loaded(command("report", store, "--format", "json", "--metric", "return")[1])["results"][0]
    alone = fill(tmp_path / "ten", {("decbyzpg", "ipm"): 400.0}, range(10))
    ten = loaded(command("report", alone, "--format", "json")[1])["results"][0]["value"]
    assert (ipm["seeds"], ipm["lost"], ipm["unfinished"]) == (12, 2, 1)
    assert ipm["value"] == plain["value"] == pytest.approx((10 * ten + 2 * RANDOM) / 12)
    assert ipm["low"] < ipm["value"] < ipm["high"]
    assert ipm["remarks"] == ("1 of 13 failed, 1 of 13 not finite, 1 of 13 unfinished, 2 at the random policy's return")
    assert ipm["verdicts"] == {"ok": 10, "diverged": 1}
    assert zero["low"] < zero["value"] < zero["high"]
    (worst,) = data["worst"]
    assert (worst["seeds"], worst["attack"]) == (10, None)
    assert "ipm: 1 of 13 failed" in worst["remarks"]
    assert "no runs without an attack" in worst["remarks"]
    assert command("plot", store, "--kind", "profile", "--out", "picture.svg")[0] == 0


def entry_of(what: Any) -> StoredRun:
    return StoredRun(Path(), what, "", "", "unfinished", {}, "")


def test_where_the_random_policy_is_not_known_lost_runs_take_the_interval_away(
    command: Command, tmp_path: Path
) -> None:
    own = experiment() | {"task": {"name": "somewhere", "parameters": {}}}
    for seed in range(10):
        write(tmp_path / "runs", own | {"seed": seed}, 400.0 + seed)
        write(tmp_path / "runs", own | {"seed": seed, "attack": {"name": "ipm", "parameters": {}}}, 100.0)
    write(tmp_path / "runs", own | {"seed": 10}, None, "failed")
    code, out, _ = command("report", tmp_path / "runs", "--format", "json")
    data = loaded(out)
    clean, attacked = data["results"]
    assert code == 0
    assert (clean["seeds"], clean["value"], clean["low"], clean["lost"]) == (10, 404.5, None, 1)
    assert clean["remarks"] == "1 of 11 failed, no interval"
    assert attacked["low"] == attacked["high"] == 100.0  # Student's
    assert attacked["retention"] is None
    assert (data["worst"][0]["attack"], data["worst"][0]["value"]) == (None, None)
    assert "no returns of a random policy" in data["worst"][0]["remarks"]


def test_reference_returns_are_those_that_a_description_states_or_that_were_measured() -> None:
    def bounds(name: str, **parameters: Any) -> tuple[float, float] | None:
        return score_bounds(entry_of(experiment() | {"task": {"name": name, "parameters": parameters}}))

    assert bounds("cartpole") == (RANDOM, SOLVED)
    assert bounds("gymnasium", id="X-v0", random=0.0, solved=200.0) == (0.0, 200.0)
    assert bounds("gymnasium", id="X-v0", random=0.0) is None
    assert bounds("gymnasium", id="X-v0", random=5.0, solved=5.0) is None
    game = entry_of(experiment() | {"task": {"name": "pettingzoo", "parameters": {"id": "mpe2/simple_spread_v3"}}})
    assert run_reference(game).keys() == {"random"}
    assert bounds("somewhere") is None


def test_the_worst_attack_is_named_where_it_did_harm(command: Command, tmp_path: Path) -> None:
    store = fill(tmp_path / "runs", LEVELS | {("fed_page_pg", "none"): 130.0}, range(10))
    by_name = {row["algo"]: row for row in loaded(command("report", store, "--format", "json")[1])["worst"]}
    assert {algo: row["attack"] for algo, row in by_name.items()} == {
        "decbyzpg": "ipm",
        "dec_page_pg": "sign_flip",
        "fed_page_pg": "ipm",
    }
    for row in by_name.values():
        assert (row["attacks"], row["seeds"], row["lowest"]) == (2, 10, row["attack"])
        assert row["low"] <= row["value"] <= row["high"]
        assert row["cvar"] <= row["value"] <= row["crossfit"] + 0.02
    assert by_name["decbyzpg"]["value"] == pytest.approx((400 - RANDOM) / (SOLVED - RANDOM), abs=0.02)
    assert by_name["decbyzpg"]["clean"] == pytest.approx((480 - RANDOM) / (SOLVED - RANDOM), abs=0.02)
    assert by_name["decbyzpg"]["retention"] == pytest.approx((400 - RANDOM) / (480 - RANDOM), abs=0.03)
    assert by_name["fed_page_pg"]["retention_defined"] is False
    line = next(line for line in command("report", store, "--part", "worst")[1].splitlines() if "fed_page_pg" in line)
    assert re.search(r"fed_page_pg +0\.\d\d +ipm +0\.0\d +0\.00 to 0\.\d\d +\S+ +\S+ +– +2 +10", line)


@pytest.mark.parametrize(
    "levels, seeds, message",
    [
        ({"none": 400.0, "ipm": 400.0, "zero": 402.0}, range(10), "no attack did certain harm"),
        ({"none": 400.0, "ipm": 30.0, "zero": 402.0}, range(2), "no attack did certain harm"),
        ({"ipm": 30.0, "zero": 402.0}, range(10), "no runs without an attack to compare with"),
    ],
)
def test_else_no_attack_is_named(
    levels: dict[str, float], seeds: range, message: str, command: Command, tmp_path: Path
) -> None:
    store = fill(tmp_path / "runs", {("decbyzpg", attack): level for attack, level in levels.items()}, seeds)
    (worst,) = loaded(command("report", store, "--format", "json")[1])["worst"]
    assert worst["attack"] is None
    assert worst["lowest"] in levels
    assert message in worst["remarks"]
    assert command("plot", store, "--kind", "heatmap", "--out", "picture.svg")[0] == 0


def test_retention_is_of_the_seeds_that_both_rows_have(command: Command, tmp_path: Path) -> None:
    for seed, value in enumerate([322.3, 422.3, 372.3, 500.0, 500.0, 500.0, 500.0, 500.0, 500.0, 500.0]):
        write(tmp_path, experiment(seed=seed), value)
    for seed, value in enumerate([172.3, 222.3, 97.3]):
        write(tmp_path, experiment(attack="ipm", seed=seed), value)
    for seed in range(10):
        write(tmp_path, experiment("solo", "none", seed), 60.0)
        write(tmp_path, experiment("solo", "ipm", seed), 60.0)
    by_name = {(r["algo"], r["attack"]): r for r in loaded(command("report", tmp_path, "-f", "json")[1])["results"]}
    retained = by_name["decbyzpg", "ipm"]
    assert retained["retention"] == pytest.approx((150 + 200 + 75) / (300 + 400 + 350))
    assert retained["retention_low"] < retained["retention"] < retained["retention_high"]
    assert by_name["decbyzpg", "none"]["retention"] is None
    assert by_name["solo", "ipm"]["retention"] == pytest.approx(1)
    assert by_name["solo", "ipm"]["retention_defined"] is False  # nothing was learned that could be retained
    lines = [line for line in command("report", tmp_path, "--part", "results")[1].splitlines() if "solo" in line]
    assert len(lines) == 2
    assert all(" – " in line for line in lines)


def test_ranks_are_ranges(command: Command, tmp_path: Path) -> None:
    store = fill(tmp_path / "runs", {k: v for k, v in LEVELS.items() if k[1] == "none"}, range(10))
    data = loaded(command("report", store, "--format", "json")[1])
    assert [(row["rank_best"], row["rank_worst"]) for row in data["ranking"]] == [(1, 2), (1, 2), (3, 3)]
    assert data["ranking"][-1]["algo"] == "fed_page_pg"
    assert "2 of 3 pairs are separated" in data["ranking_notes"][0]
    shown = command("report", store, "--part", "ranking", "--format", "md")[1]
    assert re.findall(r"pg \| (\d(?: to \d)?) \|", shown) == ["1 to 2", "1 to 2", "3"]
    equal = fill(tmp_path / "equal", {("decbyzpg", "none"): 400.0, ("dec_page_pg", "none"): 401.0}, range(10))
    for form in FORMS:
        if form != "csv":
            out = command("report", equal, "--part", "ranking", "--format", form)[1]
            assert "Nothing is separated: every order of these 2 entries agrees with the data." in " ".join(out.split())


def test_rows_of_other_seeds_are_not_compared(command: Command, tmp_path: Path) -> None:
    store = fill(tmp_path / "runs", {("decbyzpg", "none"): 400.0, ("dec_page_pg", "none"): 100.0}, range(6))
    fill(store, {("fed_page_pg", "none"): 300.0}, range(20, 26))
    ranking = {row["algo"]: row for row in loaded(command("report", store, "--format", "json")[1])["ranking"]}
    assert [ranking[a]["rank_best"] for a in ("decbyzpg", "dec_page_pg", "fed_page_pg")] == [1, 2, None]
    assert ranking["fed_page_pg"]["remarks"] == "other seeds, not compared"
    assert ranking["decbyzpg"]["seeds"] == 6
    fill(store, {("decbyzpg", "none"): 400.0}, range(6, 9))  # further seeds of one row are not used
    again = {row["algo"]: row for row in loaded(command("report", store, "--format", "json")[1])["ranking"]}
    assert (again["decbyzpg"]["seeds"], again["decbyzpg"]["value"]) == (6, ranking["decbyzpg"]["value"])


def made_row(key: dict[str, Any], values: dict[int, float]) -> ReportRow:
    """Return a row of these values by seed, on a task with the bounds 0 and 1."""
    row = ReportRow(key, (), tuple(values), np.array([*values.values()]), 0, 0, 0)
    row.__dict__["bounds"] = (0.0, 1.0)
    return row


def made_groups(*rows: ReportRow) -> Groups:
    return Groups("evaluation_auc", ("attack", "algo"), {}, rows, (), ())


TABLES = st.lists(
    st.lists(st.integers(0, 10).map(lambda tenths: tenths / 10), min_size=5, max_size=5), min_size=2, max_size=5
)


@given(TABLES, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_a_row_that_is_no_worse_on_any_seed_has_no_worse_range_and_names_do_not_matter(
    table: list[list[float]], random: random.Random
) -> None:
    def ranges(names: list[str]) -> list[tuple[int, int]]:
        rows = [
            made_row({"attack": "ipm", "algo": name}, dict(enumerate(row)))
            for name, row in sorted(zip(names, table, strict=True))
        ]
        expected = {r["algo"]: (r["rank_best"], r["rank_worst"]) for r in _ranking(made_groups(*rows)).records}
        return [expected[name] for name in names]

    assume(max(map(sum, table)) >= 5 * LEARNING)
    names = [f"m{i}" for i in range(len(table))]
    expected = ranges(names)
    assert ranges(random.sample(names, len(names))) == expected
    for (low, high), row in zip(expected, table, strict=True):
        assert 1 <= low <= high <= len(table)
        for (other_low, other_high), other in zip(expected, table, strict=True):
            if all(a >= b for a, b in zip(row, other, strict=True)):
                assert low <= other_low
                assert high <= other_high


@given(st.lists(st.sets(st.integers(0, 6)), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_common_seeds_do_not_depend_on_the_order_of_rows(sets: list[set[int]], random: random.Random) -> None:
    rows = [made_row({}, dict.fromkeys(seeds, 0.0)) for seeds in sets]
    chosen, seeds = common_seeds(rows)
    order = random.sample(range(len(rows)), len(rows))
    again, same = common_seeds([rows[i] for i in order])
    assert sorted(order[i] for i in again) == chosen
    assert same == seeds
    assert all(set(seeds) <= sets[i] for i in chosen)
    if len(set.intersection(*sets)) >= 3:
        assert chosen == [*range(len(rows))]


def test_of_rows_that_met_other_attacks_there_is_no_common_worst_case() -> None:
    level = {"a": 0.9, "b": 0.5, "c": 0.1}
    rows = [
        made_row({"attack": attack, "algo": algo}, dict.fromkeys(range(8), value))
        for algo, value in level.items()
        for attack in ("ipm", "zero")
        if (algo, attack) != ("c", "zero")
    ]
    rows_of_worst = [r for r in _ranking(made_groups(*rows)).records if r["attack"] == "worst of 2"]
    assert [(r["algo"], r["rank_best"], r["remarks"]) for r in rows_of_worst] == [
        ("a", 1, ""),
        ("b", 2, ""),
        ("c", None, "1 of 2 attacks were not run"),
    ]


def test_the_default_metric_is_that_of_boards_where_runs_have_it(command: Command, tmp_path: Path) -> None:
    store = fill(tmp_path / "runs", {("decbyzpg", "none"): 400.0}, range(3))
    assert loaded(command("report", store, "-f", "json")[1])["metric"] == "evaluation_auc"
    folder = write(store, experiment(seed=9), 100.0)
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(result | {"evaluation": {}}))
    _, out, err = command("report", store, "-f", "json")
    assert loaded(out)["metric"] == "return"
    assert "note: 1 of 4 finished runs have no evaluations" in err
    assert loaded(command("report", store, "-f", "json", "--x", "trajectories")[1])["metric"] == "return"


def test_unlike_runs_are_never_averaged(command: Command, tmp_path: Path) -> None:
    store = tmp_path / "runs"
    for seed in range(3):
        write(store, experiment(attack="alie:0.5", seed=seed), 400.0 + seed)
        write(store, experiment(attack="alie:1.5", seed=seed), 100.0 + seed)
        write(store, experiment(attack="ipm", seed=seed, agents=9), 300.0)
        write(store, experiment(attack="ipm", seed=seed), 200.0)
    code, out, err = command("report", store, "--format", "json", "--by", "algo")
    rows = {(row["attack"], row["agents"]): row for row in loaded(out)["results"]}
    assert code == 0
    assert set(rows) == {("alie(z=0.5)", 13), ("alie(z=1.5)", 13), ("ipm", 9), ("ipm", 13)}
    assert all(row["seeds"] == 3 for row in rows.values())
    assert (
        "averaged: attack ipm and 2 others, agents 13 and 1 other; to choose, for example: --attack alie --agents 13"
        in err
    )


def test_labels_leave_out_defaults_and_name_environments(command: Command, tmp_path: Path) -> None:
    store = tmp_path / "runs"
    for z in (None, 1.5):
        write(store, experiment() | {"attack": {"name": "alie", "parameters": {"z": z, "rule": "A"}}}, 100.0)
    assert {row["attack"] for row in loaded(command("report", store, "-f", "json")[1])["results"]} == {
        "alie",
        "alie(z=1.5)",
    }
    write(store, experiment() | {"attack": {"name": "alie", "parameters": {"z": 1.5 + 1e-9, "rule": "A"}}}, 100.0)
    labels = {row["attack"] for row in loaded(command("report", store, "-f", "json")[1])["results"]}
    assert labels == {"alie", "alie(z=1.5)", "alie(z=1.500000001)"}
    for id in ("Acrobot-v1", "CartPole-v1"):
        task = {"name": "gymnasium", "parameters": {"id": id, "steps": None, "random": 0.0, "solved": 100.0}}
        write(tmp_path / "other", experiment() | {"task": task}, 100.0)
    rows = loaded(command("report", tmp_path / "other", "--by", "env", "-f", "json")[1])["results"]
    assert {row["env"] for row in rows} == {"gymnasium:Acrobot-v1", "gymnasium:CartPole-v1"}


def test_presets_are_named(tmp_path: Path) -> None:
    for options in ({}, {"preset": "official"}, {"preset": "official", "parameters": {"algo": {"lr": 0.5}}}):
        write(tmp_path, Experiment.create(trajectories=BUDGET, **options).describe(), 100.0)
    (row, *others) = group(gather([tmp_path])[0], ["algo"]).rows
    assert row.key["algo"] == "decbyzpg"
    assert [r.key["algo"] for r in others] == ["decbyzpg(preset=official)", "decbyzpg(preset=official, lr=0.5)"]


def test_tables_show_where_a_row_differs_from_the_setting_of_most_runs(command: Command, tmp_path: Path) -> None:
    for seed in range(3):
        write(tmp_path, experiment(seed=seed), 400.0)
    write(tmp_path, experiment(byzantine=1, assumed_byzantine=1), 300.0)
    write(tmp_path, experiment(byzantine=1, assumed_byzantine=0), 200.0)
    out = command("report", tmp_path, "-f", "md", "--part", "results")[1]
    settings = [line.split(" | ")[2] for line in out.splitlines() if line.startswith("| none")]
    assert settings == ["byzantine=1, assumed_byzantine=0", "byzantine=1", ""]
    rows = loaded(command("report", tmp_path, "-f", "json")[1])["results"]
    assert [row["byzantine"] for row in rows] == [1, 1, 3]


def test_the_last_sweep_of_a_store_is_reported(command: Command, tmp_path: Path) -> None:
    store = tmp_path / "runs"
    cells = [write(store, experiment(attack=attack), 100.0).name for attack in ("none", "ipm", "zero")]
    for number, (name, started) in enumerate([("a" * 16, cells[:1]), ("b" * 16, [*cells[:2], "0" * 16])]):
        os.utime(save_sweep(store, "small", name, started), (number, number))

    def attacks(*words: str) -> set[str]:
        return {row["attack"] for row in loaded(command("report", store, "-f", "json", *words)[1])["results"]}

    assert attacks() == {"none", "ipm"}
    assert attacks("--all") == {"none", "ipm", "zero"}
    assert attacks("--all", "--attack", "zero,ipm") == {"ipm", "zero"}
    err = command("report", store)[2]
    assert f"note: the runs of the last sweep in {store}, sweep-{'b' * 16}.json; --all compares all of them" in err
    assert "has 3 cells, of which 1 have not been started" in err
    assert command("report", store, "--env", "pendulum")[::2] == (
        2,
        f"{err.splitlines()[0]}\n{err.splitlines()[1]}\nbyzbench: error: none of 2 runs there matches --env pendulum\n",
    )
    save_sweep(store, "small", "a" * 16, cells[:1])  # started again
    assert attacks() == {"none"}


def test_no_order_is_printed_where_nothing_learned(command: Command, tmp_path: Path) -> None:
    levels = {("decbyzpg", "none"): 30.0, ("dec_page_pg", "none"): 35.0, ("decbyzpg", "ipm"): 400.0}
    store = fill(tmp_path, levels | {("dec_page_pg", "ipm"): 300.0}, range(4))
    ranking = loaded(command("report", store, "-f", "json")[1])["ranking"]
    assert [(row["algo"], row["rank_best"], row["remarks"]) for row in ranking if row["attack"] == "none"] == [
        ("dec_page_pg", None, "nothing learned"),
        ("decbyzpg", None, "nothing learned"),
    ]
    assert [row["rank_best"] for row in ranking if row["attack"] == "ipm"] == [1, 2]
    shown = " ".join(command("report", store, "--part", "ranking")[1].split())
    assert "none: No order: no method made a tenth of the way to solved." in shown


@pytest.mark.parametrize(
    "kind, cells, message",
    [
        ("curves", [(0, m) for m in range(15)], "1 panels with 15 lines are too many for one figure"),
        (
            "heatmap",
            [(a, 0) for a in range(30)],
            "1 heatmaps of 30 attacks and 1 methods, with 30 cells of 30, are larger",
        ),
        ("heatmap", [(m, m) for m in range(6)], "1 heatmaps of 6 attacks and 6 methods, with 6 cells of 36, are no"),
    ],
)
def test_figures_that_cannot_be_read_are_refused(
    kind: str, cells: list[tuple[int, int]], message: str, command: Command, tmp_path: Path
) -> None:
    for attack, method in cells:
        algorithm = {"name": f"m{method}", "parameters": {}}
        write(tmp_path, experiment(attack=f"a{attack}") | {"algorithm": algorithm}, 100.0)
    code, _, err = command("plot", tmp_path, "--kind", kind)
    assert code == 2
    assert message in err
    assert f"; to choose, for example: --{'algo m0' if kind == 'curves' else 'attack a0'}" in err


def test_parameters_that_tasks_suggest_do_not_make_two_algorithms_of_one(tmp_path: Path) -> None:
    for env in ("cartpole", "lunarlander"):
        for seed in range(3):
            write(tmp_path, experiment(env=env, seed=seed), 100.0)
    groups = group(gather([tmp_path])[0], ["algo"])
    assert [dict(row.key) for row in groups.rows] == [
        {"algo": "decbyzpg", "env": "cartpole"},
        {"algo": "decbyzpg", "env": "lunarlander"},
    ]


HOSTILE = [
    "=cmd()|'!A1'",
    "+1",
    "-1",
    "@x",
    "<script>|`*",
    "\\input{x}%$#_&~^",
    "[red]\x1b[31m\nx",
    "_$\\frac",
    "a" * 999,
]


def test_no_format_lets_a_name_do_anything(command: Command, tmp_path: Path) -> None:
    for name in HOSTILE:
        what = experiment()
        what["algorithm"]["name"] = name
        write(tmp_path / "runs", what, 1.0)
    outputs = {form: command("report", tmp_path / "runs", "-f", form, "--part", "results") for form in FORMS}
    assert all(code == 0 and "\x1b" not in out for code, out, _ in outputs.values())
    table = list(csv.DictReader(outputs["csv"][1].splitlines()))
    assert len(table) == len(HOSTILE)
    assert not [row for row in table if row["algo"][0] in "=+-@"]
    assert {"'=cmd()|'!A1'", "'+1", "'-1", "'@x"} <= {row["algo"] for row in table}
    assert float(table[0]["value"]) == 1.0
    lines = outputs["tex"][1].split("\\midrule\n")[1].split("\\bottomrule")[0].splitlines()
    assert len(lines) == len(HOSTILE)
    assert r"\textbackslash{}input\{x\}\%\$\#\_\&\textasciitilde{}\textasciicircum{}" in "".join(lines)
    assert len({len(re.findall(r"(?<!\\)&", line)) for line in lines}) == 1
    rows = outputs["md"][1].splitlines()[2:]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) == 1
    assert "<script" not in outputs["md"][1]
    assert len(loaded(outputs["json"][1])["results"]) == len(HOSTILE)
    assert command("plot", tmp_path / "runs", "--out", "picture.svg")[0] == 0


class Elements(HTMLParser):
    """The start tags of a page with their attributes, and its texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def every(self, name: str) -> list[str]:
        return [str(attributes[name]) for _, attributes in self.tags if name in attributes]


def test_a_page_holds_the_report_and_lets_no_name_do_anything(command: Command, tmp_path: Path) -> None:
    for name in HOSTILE:
        what = experiment()
        what["algorithm"]["name"] = name
        write(tmp_path / "runs", what, 123.4)
    write(tmp_path / "runs", experiment(attack="ipm"), None, "failed")
    code, out, err = command("report", "runs", "--html", "a<b>.html", "-f", "json")
    assert (code, len(loaded(out)["results"])) == (0, len(HOSTILE) + 1)
    assert "page: a<b>.html" in err
    page = Elements(Path("a<b>.html").read_text(encoding="utf-8"))
    assert {clean(name) for name in HOSTILE} <= set(page.texts)
    assert {"123.4", "it broke", "byzbench report runs --html 'a<b>.html' -f json", "mlp"} <= set(page.texts)
    assert not {"script", "iframe", "object", "svg", "form", "base"} & {tag for tag, _ in page.tags}
    assert [tag for tag, _ in page.tags].count("img") == 2
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.every("src"))
    assert all(page.every("alt"))
    assert {link.removeprefix("#") for link in page.every("href")} <= set(page.every("id"))
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on") or key == "style"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a<b>.html", "runs"]


def test_numbers_stay_numbers_and_texts_are_quoted() -> None:
    sheet = Table("x", "x", [{"a": -1.5, "b": "-1.5", "c": None, "d": {"=x": 2}}], ["a"], [["-1.5"]])
    assert render_tables([sheet], "csv", {}) == "a,b,c,d\n-1.5,'-1.5,,'=x 2\n"
    assert clean("a\x1b[0m\n\u202eb") == "a [0m b"


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A store for each kind of picture."""
    store, grown = fill(tmp_path_factory.mktemp("store"), LEVELS, range(4)), tmp_path_factory.mktemp("grown")
    for agents, f in ((4, 0), (5, 1), (26, 6)):
        for seed in range(3):
            what = experiment(seed=seed, agents=agents, byzantine=f, assumed_byzantine=f)
            write(grown, what, 480.0 if agents > 4 else 390.0)
    return {"curves": store, "heatmap": store, "profile": store, "speedup": grown}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_draws_something(kind: str, command: Command, pictured: dict[str, Path]) -> None:
    code, out, err = command("plot", pictured[kind], "--kind", kind)
    assert code == 0, err
    assert out.startswith(f"{kind}.png: ")
    picture = matplotlib.image.imread(f"{kind}.png")[..., :3]
    assert min(picture.shape[:2]) > 300
    assert len(np.unique((picture * 15).astype(int) @ (256, 16, 1))) > 20
    assert 0.3 < (picture > 0.99).all(-1).mean() < 0.99 or kind == "heatmap"


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_runs_give_the_same_picture(form: str, command: Command, pictured: dict[str, Path]) -> None:
    folders = sorted(pictured["speedup"].iterdir())
    for name, order in (("a", folders), ("b", folders[::-1])):
        assert command("plot", *order, "--kind", "speedup", "--out", f"{name}{form}")[0] == 0
    assert Path(f"a{form}").read_bytes() == Path(f"b{form}").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_descriptions_that_cannot_be_are_drawn_all_the_same(kind: str, command: Command, tmp_path: Path) -> None:
    for seed in range(3):
        write(tmp_path / "runs", experiment(seed=seed, trajectories=0, agents=0, byzantine=10**19), -1e99)
        write(tmp_path / "runs", experiment(attack="ipm", seed=seed, trajectories=10**19, env="lunarlander"), 1e99)
    words = ["--by", "algo,attack,env,agents,byzantine,trajectories", "--target", "0"]
    assert command("plot", tmp_path / "runs", "--kind", kind, "--out", "picture.svg", *words)[0] == 0


def test_speed_is_counted_until_the_target_and_runs_that_never_arrive_stay(tmp_path: Path) -> None:
    slow, fast = write(tmp_path, experiment(), 100.0), write(tmp_path, experiment(seed=1), 480.0)
    assert reached(slow, 400.0).tolist() == [BUDGET, 0.0]
    when, arrived = reached(fast, 250.0)
    assert arrived == 1.0
    assert 0.4 * BUDGET < when < 0.6 * BUDGET


@pytest.mark.parametrize(
    "words, message",
    [
        ("report empty", "no readable runs there"),
        ("report nowhere", "nowhere is neither a run folder"),
        ("report runs --by atack", "no axis 'atack'. Did you mean 'attack'?"),
        ("report runs --metric evalution", "no metric 'evalution'. Did you mean 'evaluation'"),
        ("report runs --format xls", "'xls' is not one of"),
        ("report runs --html runs", "cannot write runs: Is a directory"),
        ("report nowhere --html no/page.html", "cannot write no/page.html: No such file or directory"),
        ("report runs --part ranking", "there is no table 'ranking': it needs several methods or rules"),
        ("plot empty", "no readable runs there"),
        ("plot runs --out picture.gif", "figures are written as .png, .pdf, .svg; got 'picture.gif'"),
        ("plot runs --panel topolgy", "no axis 'topolgy'. Did you mean 'topology'"),
        ("plot runs --kind speedup --by algo", "--by must hold agents"),
        ("plot runs --kind heatmap --by algo", "--by must hold attack"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(words: str, message: str, command: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "runs", experiment(), 100.0)
    code, out, err = command(*words.split())
    assert code == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_of_two_copies_the_same_one_counts_in_any_order(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "a", experiment(), 100.0)
    write(tmp_path / "b", experiment(), 200.0)
    assert command("report", "a", "b", "-f", "json") == command("report", "b", "a", "-f", "json")
    assert "100.0" in command("report", "b", "a")[1]


def _words(text: str) -> set[str]:
    return set(re.findall(r"[\w.%-]+", text))


@pytest.mark.parametrize("width", [50, 80, 100, 140])
def test_a_narrow_terminal_shows_less_and_says_so(width: int, tmp_path: Path) -> None:
    tables = sheets(group(gather([fill(tmp_path, LEVELS, range(3))])[0], ["attack", "algo"]))
    lines = render_tables(tables, "table", {}, width).splitlines()
    assert max(map(len, lines)) <= width
    assert ("a wider terminal also shows: evaluation" in " ".join(lines)) == (50 < width < 130)
    assert any(line.startswith("attack: none; algo: dec_page_pg; seeds: 3;") for line in lines) == (width == 50)
    whole = render_tables(tables, "table", {}) + "a wider terminal also shows"
    assert not _words("\n".join(lines)) - _words(whole), "a word is broken"


def test_csv_holds_one_table_and_a_file_can_be_written(command: Command, tmp_path: Path) -> None:
    store = fill(tmp_path / "runs", LEVELS, range(2))
    code, out, err = command("report", store, "--format", "csv", "--out", "table.csv")
    assert (code, out) == (0, "")
    assert "CSV holds one table; for the others give --part worst or ranking" in err
    assert Path("table.csv").read_text().startswith("attack,algo,")
    assert command("report", store, "--format", "csv", "--part", "worst")[1].startswith("algo,clean,attack,")


def test_a_report_imports_no_torch(tmp_path: Path) -> None:
    store = fill(tmp_path / "runs", LEVELS, range(3))
    code = (
        "import sys; from pathlib import Path; from byzbench.cli import report; "
        f"report.report(runs=[{str(store)!r}]); assert not {{'torch', 'matplotlib'}} & set(sys.modules)"
    )
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "sign_flip" in done.stdout


def test_metrics_stand_for_what_they_say(tmp_path: Path) -> None:
    for seed in range(3):
        write(tmp_path, experiment(seed=seed), 420.0, recorded=False)
    entries, _ = gather([tmp_path])
    rise = 400 / 19  # from 20 to 420 in 20 rounds of 20 trajectories; every second one is evaluated, at one more
    first, last = 21 + rise, 421
    expected = {
        "return": 420.0,
        "evaluation": 421.0,
        "auc": (20 * (RANDOM + 20) / 2 + 380 * (20 + 420) / 2) / BUDGET,
        "evaluation_auc": (40 * (RANDOM + first) / 2 + 360 * (first + last) / 2) / BUDGET,
    }
    assert expected.keys() <= METRICS.keys()
    values = {m: group(entries, ["algo"], m).rows[0].values[0] for m in expected}
    assert values == pytest.approx(expected)
    assert group(entries, ["algo"]).metric == "evaluation_auc"
    assert [sheet.name for sheet in sheets(group(entries, ["algo"]))] == ["results"]


def test_what_was_reached_by_the_time_that_so_many_bytes_were_sent(command: Command, tmp_path: Path) -> None:
    """Learning from 20 to 400 in 20 rounds, by 20 a round; every second one is evaluated, at one more."""
    for algo, sent in {"decbyzpg": 1000, "dec_page_pg": 100, "solo": 0}.items():
        for seed in range(3):
            write(tmp_path, experiment(algo, seed=seed), 400.0, bytes=sent)
    report = ["report", tmp_path, "--by", "algo", "-f", "json", "--metric", "evaluation"]
    reached = {
        at: {row["algo"]: row["value"] for row in loaded(command(*report, "--x", "bytes", "--at", at)[1])["results"]}
        for at in (0, 1999, 2000, 7500, 10**6)
    }
    assert reached[2000] == {"decbyzpg": 41.0, "dec_page_pg": 401.0, "solo": 401.0}
    assert reached[7500] == {"decbyzpg": 121.0, "dec_page_pg": 401.0, "solo": 401.0}
    assert set(reached[10**6].values()) == {401.0}
    assert reached[1999]["decbyzpg"] is None  # nothing was evaluated by then
    assert reached[0] == {"decbyzpg": None, "dec_page_pg": None, "solo": 401.0}
    err = command(*report, "--x", "bytes", "--at", 10**4)[2]
    assert "3 of 9 runs end before 10,000 bytes sent by all agents, and count as at their end" in err
    code, _, err = command("report", tmp_path, "--metric", "auc", "--x", "bytes")
    assert (code, err.count("\n")) == (2, 1)
    assert "returns are compared, and not 'auc'" in err
    code, _, err = command("report", tmp_path, "--at", 5)
    assert (code, err.count("\n")) == (2, 1)


def test_runs_are_compared_where_all_of_them_have_been(command: Command, tmp_path: Path) -> None:
    """A round takes 0.1 s of a clock, and four times as long at the slow ones; they learn alike in a round."""
    for slow in (False, True):
        what = experiment(agents=13 + slow)
        folder = write(tmp_path / "runs", what, 400.0, bytes=10)
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        lines = [line | {"seconds": (0.4 if slow else 0.1) * (line["round"] + 1)} for line in lines]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write(tmp_path / "runs", experiment(agents=5), 300.0)  # a schedule without a clock
    report = ["report", "runs", "--by", "agents", "-f", "json", "--x"]

    def values(*words: object) -> dict[int, list[float]]:
        compared = loaded(command(*report, *words)[1])
        return {row["agents"]: [row["value"], row["evaluation_worst"]] for row in compared["results"]}

    everything = loaded(command(*report, "seconds")[1])
    assert (everything["metric"], everything["x"], everything["at"]) == ("evaluation", "seconds", 2.0)
    assert values("seconds") == {13: [401.0, None], 14: [81.0, None]}, "evaluated after 20 rounds, and after 4 of 5"
    out, err = command("report", "runs", "--by", "agents", "--x", "seconds")[1:]
    assert "evaluation return at 2 virtual seconds" in " ".join(out.split())
    assert "has no seconds; only runs whose schedule has a clock have seconds" in " ".join(err.split())
    assert {at[0] for at in values("trajectories").values()} == {401.0, 301.0}
    training = values("seconds", "--metric", "return")
    assert [training[agents][0] for agents in (13, 14)] == pytest.approx([400.0, 100.0])
    assert command("report", "runs", "--by", "agents", "--x", "seconds", "--html", "page.html")[0] == 0
    assert "over seconds" in Path("page.html").read_text()


def test_whether_it_pays_to_take_part(command: Command, tmp_path: Path) -> None:
    """Against the same agents alone, seed by seed, as a share of the way from random to solved."""
    for seed in range(3):
        for algo, attack, value in (
            ("decbyzpg", "none", 400.0 + seed),
            ("decbyzpg", "ipm", 100.0 + 5 * seed),
            ("solo", "none", 300.0 + seed),
            ("solo", "ipm", 250.0),
        ):
            write(tmp_path, experiment(algo, attack, seed), value)
        write(tmp_path, experiment("decbyzpg", "none", seed, agents=9), 450.0)  # has nobody to be compared with
    random, solved = (Experiment.create().task.reference_score(name) for name in ("random", "solved"))
    code, out, _ = command("report", tmp_path, "--by", "algo,attack", "-f", "json")
    benefit = {(row["attack"], row["agents"]): row for row in loaded(out)["benefit"]}
    assert code == 0
    assert {key: row["value"] for key, row in benefit.items()} == {
        ("none", 13): pytest.approx(100 / (solved - random)),
        ("ipm", 13): pytest.approx(-145 / (solved - random)),
    }
    for row in benefit.values():
        assert row["seeds"] == 3
        assert row["low"] < row["value"] < row["high"]
    least = 0.05 * stats.t.ppf(0.975, 2) / 3**0.5  # what seeds have in common cancels: the least deviation is left
    assert benefit["none", 13]["high"] == pytest.approx(100 / (solved - random) + least)
    assert command("report", tmp_path, "--by", "algo,attack", "-f", "csv", "--part", "benefit")[0] == 0
    code, _, err = command("report", fill(tmp_path / "others", LEVELS, [0]), "--part", "benefit")
    assert (code, "it needs runs of solo" in err) == (2, True)
