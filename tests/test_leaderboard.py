"""From runs to a verified row, and every way to tamper with one that we know of."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_suite
from synthetic_entries import write_entry
from tiny_suite import (
    ABOUT,
    METHOD,
    TINY,
    checked,
    edited,
    forget_suites,
    inflate,
    lines_of,
    main,
    replayed,
    rewrite,
    run,
)

from byzbench.errors import InvalidParameter, Undefined, UserError
from byzbench.identity import ENGINE
from byzbench.leaderboard import suites
from byzbench.leaderboard.checks import _compare_with_others
from byzbench.leaderboard.entries import read_entry
from byzbench.leaderboard.exchangeability import LEVELS
from byzbench.leaderboard.frozen import freeze_suite
from byzbench.leaderboard.guard import guard
from byzbench.leaderboard.plan import canonical_spec, check_component, plan_submission
from byzbench.leaderboard.replay import draw_cells
from byzbench.leaderboard.schema import Method, Search, Tuning
from byzbench.leaderboard.submitting import collect_cells, supersede, write_submission
from byzbench.leaderboard.suites import Suite, suite
from byzbench.leaderboard.summaries import verdict_lines

tiny, home, copy = tiny_suite.tiny, tiny_suite.home, tiny_suite.copy

ROOT = Path(__file__).resolve().parents[1]


def test_what_was_run_and_submitted_is_verified_as_exact(home: Path, tmp_path: Path) -> None:
    folder = home / "submissions" / "tiny-v1" / "defence" / "tiny"
    assert checked(folder).findings == []
    assert sorted(path.name for path in folder.iterdir()) == ["NOTES.md", "cells.jsonl", "submission.json"]
    lines: list[str] = []
    verification = replayed(folder, tmp_path, callback=lambda line, planned: lines.append(f"{line} of {planned}"))
    assert lines[0].startswith("run 1: ")
    assert all(": finished of " in line for line in lines)
    assert next(verdict_lines(folder, [], False, verification)) == f"tiny: exact at engine {ENGINE}"
    assert [(c.place, c.verdict) for c in verification.cells] == [("cartpole-complete · ipm · seed 1", "exact")]
    assert (verification.verdict, verification.exit_code, str(verification)) == (
        "exact",
        0,
        f"exact at engine {ENGINE}",
    )
    assert [(c.test, c.runs) for c in verification.comparisons] == [("fresh seeds", 1), ("relabelled agents", 1)]
    assert all(f"{c.test}: p = {c.p:.3g} at level {LEVELS[c.test]:g}" in str(c) for c in verification.comparisons)


Tampering = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
TAMPERED: dict[str, tuple[Tampering, str]] = {
    "a changed return": (lambda cells: [cells[0] | {"return": "29.5"}, *cells[1:]], "plausibility"),
    "an impossible return": (lambda cells: [inflate(cells[0], 100.0), *cells[1:]], "plausibility"),
    "a deleted cell": (lambda cells: cells[1:], "missing-cell"),
    "a repeated cell": (lambda cells: [*cells, cells[0]], "repeated-cell"),
    "swapped seeds": (
        lambda cells: [cells[0] | {"seed": 1}, cells[1] | {"seed": 0}, *cells[2:]],
        "wrong-cell",
    ),
    "a copied trace": (lambda cells: [cells[0] | {"trace": cells[1]["trace"]}, *cells[1:]], "copied-trace"),
    "a cell of no suite": (lambda cells: [*cells, cells[0] | {"attack": "zero"}], "strange-cell"),
    "an aggregate": (lambda cells: [cells[0] | {"score": 1.0}, *cells[1:]], "schema"),
    "half of the budget": (lambda cells: [cells[0] | {"trajectories": 4}, *cells[1:]], "plausibility"),
    "a failure without a reason": (
        lambda cells: [{k: v for k, v in cells[0].items() if k != "return"} | {"status": "failed"}, *cells[1:]],
        "plausibility",
    ),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_tampering_with_cells_is_caught(how: str, copy: Path) -> None:
    change, expected = TAMPERED[how]
    rewrite(copy, change(lines_of(copy)))
    findings = checked(copy).findings
    assert expected in {finding.check for finding in findings if finding.fatal}, findings
    assert all(finding.where.startswith("cells.jsonl") for finding in findings)


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"suite_sha256": "0" * 64}, "suite"),
        ({"suite": "core-v9"}, "suite"),
        ({"score": 1.0}, "schema"),
        ({"supersedes": "0" * 64}, "supersedes"),
        ({"track": "adaptive"}, "method"),
        ({"method": {"algo": "page_pg"}}, "method"),
        ({"method": {"algo": "no_such_algorithm"}}, "method"),
    ],
    ids=str,
)
def test_tampering_with_the_metadata_of_the_entry_is_caught(changes: Any, expected: str, copy: Path) -> None:
    rewrite(copy, lines_of(copy), **changes)
    assert expected in {finding.check for finding in checked(copy).findings if finding.fatal}


def test_an_edit_of_the_cells_alone_does_not_fit_its_digest(copy: Path) -> None:
    (copy / "cells.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines_of(copy)[::-1]))
    (finding,) = checked(copy).findings
    assert finding.where == "submission.json $.cells_sha256"


def test_other_source_libraries_and_cpu_are_named_and_refuse_nothing(copy: Path, tmp_path: Path) -> None:
    environment = json.loads((copy / "submission.json").read_text())["environment"]
    environment["versions"] |= {"torch": "1.0"}
    code = edited(copy, source="a" * 64, commit="b" * 40, byzbench="0.0.9")
    rewrite(copy, lines_of(copy), code=code, environment=environment | {"cpu": "NEON"})
    findings = checked(copy).findings
    assert [(f.check, f.fatal) for f in findings] == [
        ("other-environment", False),
        ("other-environment", False),
        ("other-source", False),
    ]
    assert findings[0].what.startswith("torch: 1.0 then, ")
    assert findings[1].what.startswith("cpu: NEON then, ")
    assert f"byzbench 0.0.9 at commit {'b' * 40} ran it" in findings[2].what
    assert replayed(copy, tmp_path / "scratch").verdict == "exact", "the same bits all the same"


def test_an_edited_component_of_byzbench_enters_under_a_name_of_its_own(copy: Path) -> None:
    components = edited(copy)["components"]
    components["attack ipm"] |= {"digest": "0" * 16}
    rewrite(copy, lines_of(copy), code=edited(copy, components=components))
    (finding,) = checked(copy).findings
    assert (finding.check, finding.fatal) == ("edited-code", True)
    assert finding.where == "submission.json $.code.components.attack ipm"


@pytest.mark.slow
def test_a_cluster_replays_to_the_byte(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    folder = home / "submissions" / "tiny-v1" / "defence" / "tiny"
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    verify = ["leaderboard", "verify", str(folder), "--cells", "2", "--salt", "5", "--json", "--executor"]
    outputs = []
    for executor in ("serial", "ray"):
        assert main(monkeypatch, *verify, executor) == 0
        outputs.append(json.loads(capsys.readouterr().out))
    assert outputs[0] == outputs[1]
    assert [cell["verdict"] for cell in outputs[1]["replay"]["cells"]] == ["exact"] * 2


def test_graphs_share_traces_where_nobody_listens(tiny: Suite, home: Path, tmp_path: Path) -> None:
    for algo, shared in (
        ("solo(N=4, B=2)", []),
        ("decbyzpg(N=4, B=2, lr_schedule=constant, baseline=none)", ["copied-trace"] * 2),
    ):
        entered = plan_submission(suite("graphs-v1"), "defence", Method(algo=algo))
        run(entered, home / "runs")
        slug = algo.partition("(")[0]
        about = ABOUT.model_copy(update={"slug": slug, "name": slug})
        folder = write_submission(entered, collect_cells(entered, home / "runs"), about, tmp_path)
        assert not checked(folder).findings
        traces = {(c["stratum"], c["attack"], c["seed"]): c["trace"] for c in lines_of(folder)}
        assert len(set(traces.values())) == (8 if shared else 2)
        cells = [c | {"trace": traces["cartpole-ring", "none", c["seed"]]} for c in lines_of(folder)]
        rewrite(folder, cells)
        assert [finding.check for finding in checked(folder).findings] == shared


def test_traces_of_another_entry_are_caught(tiny: Suite, copy: Path) -> None:
    thief = write_entry(copy.parents[2], tiny, "thief")
    pairs = zip(lines_of(thief), lines_of(copy), strict=True)
    rewrite(thief, [one | {"trace": other["trace"]} for one, other in pairs])
    findings = [f for f in checked(thief).findings if f.check == "copied-trace"]
    assert [f.what for f in findings] == ["4 traces are those of tiny-v1/defence/tiny"]


def test_a_search_that_finds_the_method_as_written_has_its_traces(tiny: Suite, copy: Path) -> None:
    folder = write_entry(copy.parents[2], tiny, "tuned")
    rewrite(
        folder, [line | {"trace": other["trace"]} for line, other in zip(lines_of(folder), lines_of(copy), strict=True)]
    )
    for method, findings in ((METHOD, 0), (Method(algo="nna"), 1)):
        search = Search(method=method, ranges={"algorithm.lr": (0.1, 1.0, True)}, episodes=1, steps=1, best=("1.0",),
                        again="1.0", default="1.0")  # fmt: skip
        tuning = Tuning(study="0" * 16, trials_sha256="0" * 16, trials=1, seeds=(1,), attacks=(), search=search)
        entry = read_entry(folder)
        entry = replace(entry, submission=entry.submission.model_copy(update={"tuning": tuning}))
        assert len(list(_compare_with_others(entry, copy.parents[2]))) == findings


def test_the_draw_cannot_be_foreseen_and_can_be_repeated(home: Path, tiny: Suite) -> None:
    entry = read_entry(home / "submissions" / "tiny-v1" / "defence" / "tiny")
    places = list(tiny.places("defence", METHOD, "decentralised"))
    drawn = {salt: tuple(p.key for p in draw_cells(entry, places, 2, salt)) for salt in map(str, range(40))}
    assert drawn["7"] == tuple(p.key for p in draw_cells(entry, places[::-1], 2, "7"))
    assert len({key for keys in drawn.values() for key in keys}) == len(places)


def test_seeds_follow_from_the_suite_alone(tiny: Suite) -> None:
    cells = plan_submission(tiny, "defence", METHOD).cells
    seeds = {(place.attack, place.seed): cell.seed for place, cell in cells.items()}
    assert len(set(seeds.values())) == 2
    assert all(seeds["none", k] == seeds["ipm", k] == tiny.seed_values[k] for k in range(2))
    other = plan_submission(tiny, "defence", Method(algo="decbyzpg(N=4, B=2, lr=0.001)")).cells
    assert {cell.seed for cell in other.values()} == set(seeds.values())
    assert not set(seeds.values()) & set(suite("graphs-v1").seed_values)


def test_nobody_tunes_on_seeds_of_the_suite(tiny: Suite, copy: Path) -> None:
    tuning = {"study": "a" * 16, "trials_sha256": "b" * 16, "trials": 3, "seeds": [1, 2], "attacks": ["alie"]}
    rewrite(copy, lines_of(copy), tuning=tuning)
    assert checked(copy).findings == []
    rewrite(copy, lines_of(copy), tuning=tuning | {"seeds": [1, tiny.seed_values[1]]})
    assert [finding.check for finding in checked(copy).findings] == ["tuned-on-seeds"]


def test_submissions_are_never_edited(home: Path, tiny: Suite, tmp_path: Path) -> None:
    entered = plan_submission(tiny, "defence", METHOD)
    cells = collect_cells(entered, home / "runs")
    with pytest.raises(UserError, match="never edited"):
        write_submission(entered, cells, ABOUT, home / "submissions")
    with pytest.raises(UserError, match="4 of 4 cells have not been run"):
        collect_cells(entered, tmp_path)
    out = tmp_path / "submissions"
    shutil.copytree(home / "submissions", out)
    old = supersede(out, "tiny-v1", "defence", "tiny")
    about = ABOUT.model_copy(update={"slug": "tiny-2"})
    again = write_submission(entered, cells, about, out, supersedes=old)
    assert {f.check for f in checked(again).findings} == {"copied-trace"}  # the same runs, and its own name
    third = write_submission(entered, cells, about.model_copy(update={"slug": "tiny-3"}), out)
    assert {f.check for f in checked(third).findings} == {"copied-trace", "twin"}


def test_what_is_only_reported_may_have_gaps_and_unknown_methods(tiny: Suite, tmp_path: Path) -> None:
    method = {"algo": "closed_source"}
    folder = write_entry(tmp_path, tiny, "said", track="reported", method=method)
    rewrite(folder, lines_of(folder)[1:])
    report = checked(folder)
    assert (report.findings, report.submission_plan) == ([], None)
    rewrite(folder, [inflate(lines_of(folder)[0], 1000.0)])
    assert checked(folder).refused


def git(folder: Path, *words: str) -> None:
    options = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *options, *words], cwd=folder, check=True, capture_output=True)


def test_the_diff_guard_lets_submissions_be_added_and_nothing_else(home: Path, tiny: Suite, tmp_path: Path) -> None:
    board = tmp_path / "leaderboards"
    shutil.copytree(home / "submissions", board / "submissions")
    (board / "suites").mkdir()
    (board / "suites" / "tiny-v1.toml").write_text(TINY)
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    git(tmp_path, "checkout", "-qb", "entry")
    write_entry(board / "submissions", tiny, "new")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "two")
    assert list(guard(board / "submissions", "main")) == []
    old = board / "submissions" / "tiny-v1" / "defence" / "tiny"
    (old / "submission.json").write_text("{}")
    (old / "cells.jsonl").unlink()
    (board / "suites" / "tiny-v1.toml").write_text(TINY.replace("seeds = 2", "seeds = 3"))
    assert {(f.check, f.where.rpartition("/")[2]) for f in guard(board / "submissions", "main")} == {
        ("overwritten", "submission.json"),
        ("overwritten", "cells.jsonl"),
        ("frozen", "tiny-v1.toml"),
    }
    for base in ("nowhere", "--output=x"):
        with pytest.raises(InvalidParameter):
            list(guard(board / "submissions", base))


@pytest.mark.parametrize(
    "kind, text, why",
    [
        ("attack", "learned(policy=weights)", "reads a file"),
        ("attack", "sleeper(learned(policy=weights), start=0.5)", "reads a file"),
        ("algorithm", "os", "unknown algorithm"),
        ("aggregator", "__import__", "unknown aggregator"),
    ],
)
def test_a_submission_names_no_file_and_no_module(kind: str, text: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        check_component(kind, text)


def test_components_are_written_in_one_way() -> None:
    assert canonical_spec("alie:z=1.5") == canonical_spec("alie(z=1.5)") == "alie(z=1.5)"
    assert canonical_spec("nnm+bucketing(s=2)+krum") == "nnm(bucketing(krum, s=2))"


def test_a_refused_entry_has_a_reason(tiny: Suite) -> None:
    with pytest.raises(Undefined, match="one agent"):
        plan_submission(tiny, "defence", Method(algo="page_pg"))
    with pytest.raises(InvalidParameter, match="no server division"):
        plan_submission(tiny, "defence", Method(algo="byzpg"))
    with pytest.raises(InvalidParameter, match="names attack"):
        plan_submission(tiny, "attack", METHOD)


def test_the_track_of_attacks_runs_the_suites_algorithms(tiny: Suite) -> None:
    entered = plan_submission(tiny, "attack", Method(attack="sign_flip"))
    assert {place.attack for place in entered.cells} == {"none", "sign_flip"}
    assert {place.algo for place in entered.cells} == {"decbyzpg(N=4, B=2, lr_schedule=constant, baseline=none)"}
    assert len(entered.cells) == 4


def test_two_algorithms_of_a_suite_may_have_the_same_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an attack sends all the same, a server computes what agents of a complete graph do."""
    method = METHOD.algo or ""
    text = TINY.replace("tiny-v1", "both-v1").replace("seeds = 2", "seeds = 1").replace(method, f"{method[:-1]}, p=1)")
    server = text[text.index("[[algorithm]]") :]
    changes = {"decbyzpg": "byzpg", "decentralised": "server", "-complete": "-star", '"complete"': '"star"'}
    for before, after in changes.items():
        server = server.replace(before, after)
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites/both-v1.toml").write_text(text + server)
    with monkeypatch.context() as patch:
        patch.setattr(suites, "files", lambda package: tmp_path)
        forget_suites()
        freeze_suite(suite("both-v1"))
        entered = plan_submission(suite("both-v1"), "attack", Method(attack="ipm"))
        run(entered, tmp_path / "runs")
        cells = collect_cells(entered, tmp_path / "runs")
        assert (len(cells), len({cell.trace for cell in cells.values()})) == (4, 2)
        folder = write_submission(entered, cells, ABOUT, tmp_path / "submissions")
        assert not checked(folder).refused
    forget_suites()


def test_every_cell_is_drawn_equally_often(home: Path, tiny: Suite) -> None:
    """So that of 280 cells, 14 of them inflated, 30 find one in four of five draws: see docs/leaderboards.md."""
    entry = read_entry(home / "submissions" / "tiny-v1" / "defence" / "tiny")
    places = list(tiny.places("defence", METHOD, "decentralised"))
    first = Counter(draw_cells(entry, places, 1, str(salt))[0].key for salt in range(600))
    assert len(first) == 4
    assert all(abs(n - 150) < 4 * (600 * 3 / 16) ** 0.5 for n in first.values())


def test_the_four_commands(tiny: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """As they stand in the docs, on a suite of seconds; and what is mistyped ends in one line."""
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[1] / "docs" / "leaderboards.md").read_text(encoding="utf-8")
    run, submit, verify, build = re.findall("^byzbench (leaderboard .*)$", page, re.MULTILINE)[:4]
    slug = "decbyzpg-longer-steps"
    serial = ["--executor", "serial"]
    for _ in range(2):
        assert main(monkeypatch, *typed(run, "(lr=0.001)", "(lr=0.001,N=4,B=2)"), *serial) == 0
    assert "\nreused: 4 of 4 cells from runs\n" in capsys.readouterr().err
    assert main(monkeypatch, *typed(submit)) == 0
    printed = capsys.readouterr().out
    folder = tmp_path / "leaderboards/submissions/tiny-v1/defence" / slug
    assert "| score | cross-fitted |" in printed
    assert "submitted" in json.loads((folder / "submission.json").read_bytes())["entry"]
    assert f"byzbench leaderboard verify leaderboards/submissions/tiny-v1/defence/{slug}" in printed
    assert main(monkeypatch, *typed(submit, "longer steps", "again")) == 2
    assert "and was not written" in capsys.readouterr().err
    assert [path.name for path in folder.parent.iterdir()] == [slug]
    assert main(monkeypatch, *typed(verify, "--cells 2", "--cells 1 --json"), *serial) == 0
    assert json.loads(capsys.readouterr().out)["replay"]["verdict"] == "exact"
    assert main(monkeypatch, *typed(build)) == 0
    assert "DecByzPG, longer steps" in (tmp_path / "docs/leaderboard/index.html").read_text(encoding="utf-8")
    command = ["leaderboard", "run", "--suite", "tiny-v1", *serial]
    verify = ["leaderboard", "verify", str(folder), *serial, "--cells"]
    (folder / "NOTES.md").write_text("\u202egnp.exe")
    capsys.readouterr()
    assert main(monkeypatch, *verify, "0") == 1
    refused = capsys.readouterr().out
    assert refused.startswith(f"{slug}: refused\n")
    assert "U+202E" in refused
    assert main(monkeypatch, *command) == 2
    assert main(monkeypatch, *command, "--algo", "decbyzpg", "--attack", "ipm") == 2
    assert "--against" in capsys.readouterr().err


def typed(command: str, old: str = "", new: str = "") -> list[str]:
    """A command of the docs as arguments, for the tiny suite."""
    assert old in command
    return shlex.split(command.replace("SUITE", "tiny-v1").replace(old or "\n", new))


def test_the_workflow_has_no_secrets_and_can_write_nothing() -> None:
    page = (Path(__file__).parents[1] / ".github" / "workflows" / "leaderboard.yml").read_text(encoding="utf-8")
    assert "permissions:\n  contents: read\n" in page
    assert not re.search(r"pull_request_target|secrets\.|: write|persist-credentials: true", page)
    assert "base/.ci/verify-submissions entry" in page
    assert page.count("persist-credentials: false") == page.count("actions/checkout@")
