"""Boards: numbers of rows by hand, ranges of ranks, sanity attacks, joining, damage and flags."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_entries import ALIE, NOISE, RETURN_AT_1, SPLIT, SUITE, entry, serve_suites

from byzbench import registry
from byzbench.core import Attack
from byzbench.leaderboard.boards import Board, boards
from byzbench.leaderboard.documents import Refused
from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.rows import Costs, Row, Settings
from byzbench.leaderboard.schema import Search, Tuning
from byzbench.leaderboard.suites import CLEAN, Suite, suite, suites

HARM = {CLEAN: 0.0, NOISE: 0.1, ALIE: 0.2, SPLIT: 0.3}
RANDOM = 22.3
FROZEN = [suite(name) for name in suites()]


@pytest.fixture(scope="module", autouse=True)
def _suites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with serve_suites(tmp_path_factory.mktemp("home")):
        yield


def board_of(entries: list[Entry], its: Suite = SUITE, division: str = "decentralised") -> Board:
    return next(b for b in boards(its, entries) if b.division == division)


def row_of(entries: list[Entry], its: Suite = SUITE) -> Row:
    """The row of the first of some entries."""
    return next(r for b in boards(its, entries) for r in b.rows if r.entry.digest == entries[0].digest)


def scores_by_hand(one: Entry, attack: str) -> np.ndarray:
    """Scores by seed: trapezoids from a random policy's return at 0, over the dates of the cells."""
    scored = []
    for seed in range(SUITE.seeds):
        cell = one.cell(SUITE.strata[0], attack, None, seed)
        x, y = np.array([0, *cell.dates]) / cell.dates[-1], np.array([RANDOM, *map(float, cell.curve)])
        area = float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum())
        scored.append(max(0.0, (area - RANDOM) / (RETURN_AT_1 - RANDOM)))
    return np.array(scored)


def changed(one: Entry, **by_attack: dict[str, Any]) -> Entry:
    """An entry with other fields in the cells of some attacks."""
    named = {"noise": NOISE, "alie": ALIE, "split": SPLIT, "none": CLEAN}
    updates = {named[name]: update for name, update in by_attack.items()}
    return replace(one, cells=tuple(c.model_copy(update=updates.get(c.attack, {})) for c in one.cells))


def flat(value: float) -> dict[str, Any]:
    return {"curve": (repr(value),) * 20, "value": repr(value)}


def test_a_row_has_the_numbers_of_its_cells(tmp_path: Path) -> None:
    one = entry(tmp_path, SUITE, "one", harm=HARM, noise=0.1, seed=3)
    row = row_of([one])
    assert row.score
    means = {attack: scores_by_hand(one, attack).mean() for attack in HARM}
    (stratum,) = row.score.strata
    worst = min((ALIE, SPLIT), key=means.__getitem__)
    assert row.score.worst.value == pytest.approx(means[worst])
    assert row.score.clean.value == pytest.approx(means[CLEAN])
    assert row.score.cvar == pytest.approx(scores_by_hand(one, worst).min())  # a fifth of four seeds is one
    assert set(stratum.means) == {ALIE, SPLIT}
    assert row.matrix[stratum.name].means == pytest.approx({a: means[a] for a in (NOISE, ALIE, SPLIT)})
    assert row.matrix[stratum.name].retention[ALIE].value == pytest.approx(means[ALIE] / means[CLEAN])
    assert row.by_knowledge == pytest.approx({"coordinated": means[ALIE]})
    assert row.final_returns == pytest.approx(
        {"cartpole": np.mean([float(c.value or 0) for c in one.cells if c.attack == CLEAN])}
    )
    assert row.costs == Costs(messages=1000, bytes=2e6, seconds=1.5)
    assert row.score.mean_retention()[1:] == (2, 2)
    assert row.named_attacks == (SPLIT,)
    assert row.ranks == (1, 1)


def test_the_score_is_the_mean_over_strata_of_the_worst_case(tmp_path: Path) -> None:
    second = SUITE.strata[0].model_copy(update={"name": "second", "reference": 200.0})
    first = SUITE.strata[0].model_copy(update={"reference": 400.0})
    both = SUITE.model_copy(update={"strata": (first, second), "references": ()})
    one = entry(tmp_path, both, "one", harm=HARM, noise=0.0)
    cells = [c.model_copy(update=flat(RANDOM) if c.stratum == "second" and c.attack == ALIE else {}) for c in one.cells]
    score = row_of([replace(one, cells=tuple(cells))], both).score
    assert score
    assert [s.worst_attack for s in score.strata] == [SPLIT, ALIE]
    assert score.worst.value == pytest.approx((0.5 + 0.0) / 2)


def test_scores_above_the_reference_are_kept_and_failed_cells_score_0(tmp_path: Path) -> None:
    one = entry(tmp_path, SUITE, "one", skill=1.2, harm=dict.fromkeys(HARM, 0.0), noise=0.0)
    row = row_of([one])
    assert row.score
    assert row.score.worst.value == pytest.approx(1.2)
    assert row.named_attacks == (), "no attack did harm"
    row = row_of([changed(one, alie={"status": "failed"})])
    assert row.score
    assert (row.score.worst.value, row.failed, row.named_attacks) == (0.0, 4, (ALIE,))
    assert "failed-cells" in {flag.name for flag in row.flags}


def test_a_missing_cell_is_an_error(tmp_path: Path) -> None:
    one = entry(tmp_path, SUITE, "one")
    cells = tuple(c for c in one.cells if (c.attack, c.seed) != (ALIE, 2))
    with pytest.raises(Refused, match=r"alie.* · seed 2 is missing"):
        board_of([replace(one, cells=cells)])


def test_sanity_attacks_are_shown_and_change_no_score(tmp_path: Path) -> None:
    one = entry(tmp_path, SUITE, "one", harm=HARM, noise=0.02, seed=1)
    before, after = row_of([one]), row_of([changed(one, noise=flat(RANDOM))])
    assert after.score == before.score
    assert (after.best_known, after.by_knowledge) == (before.best_known, before.by_knowledge)
    assert after.matrix["cartpole-complete-f2"].means[NOISE] == 0.0
    assert "blind-beats-informed" in {flag.name for flag in after.flags} - {flag.name for flag in before.flags}


def test_ranges_of_ranks_depend_on_no_name_and_no_row_moves_a_score(tmp_path: Path) -> None:
    entries = [entry(tmp_path, SUITE, f"e{i}", skill=0.9 - 0.2 * i, noise=0.01, seed=i) for i in range(3)]
    twin = entry(tmp_path, SUITE, "twin", skill=0.9, noise=0.01, seed=9)
    board = board_of([*entries, twin])
    assert [row.ranks for row in board.rows] == [(1, 2), (1, 2), (3, 3), (4, 4)]
    assert board.separation == "5 of 6 pairs are separated."
    renamed = entry(tmp_path / "renamed", SUITE, "a-twin", skill=0.9, noise=0.01, seed=9)
    again = board_of([renamed, *entries[::-1]])
    assert [(r.score, r.ranks) for r in again.rows] == [(r.score, r.ranks) for r in board.rows]
    more = board_of([*entries, twin, entry(tmp_path, SUITE, "new", skill=1.0, noise=0.01, seed=11)])
    scores = {row.entry.slug: row.score for row in more.rows}
    assert all(scores[row.entry.slug] == row.score for row in board.rows)


def test_equal_rows_are_not_separated_and_a_row_alone_has_no_sentence(tmp_path: Path) -> None:
    rows = [entry(tmp_path, SUITE, f"e{i}", noise=0.1, seed=i) for i in range(3)]
    assert board_of(rows).separation == "Nothing is separated: every order of these 3 entries agrees with the data."
    assert board_of(rows[:1]).separation is None


def test_luck_that_rows_share_by_seed_cancels(tmp_path: Path) -> None:
    """The same noise is that of the seeds; other noise is chance."""

    def ranges(*noise: int) -> list[tuple[int, int] | None]:
        root = tmp_path / "-".join(map(str, noise))
        entries = [entry(root, SUITE, f"e{i}", skill=0.8 - 0.15 * i, seed=s, noise=0.2) for i, s in enumerate(noise)]
        return [row.ranks for row in board_of(entries).rows]

    assert ranges(0, 0) == [(1, 1), (2, 2)]
    assert ranges(0, 1) == [(1, 2), (1, 2)]


def test_a_row_without_a_reference_at_its_engine_is_listed_and_not_ranked(tmp_path: Path) -> None:
    one, other = (entry(tmp_path, SUITE, slug) for slug in ("one", "other"))
    code = other.submission.code.model_copy(update={"engine": 7})
    later = replace(other, submission=other.submission.model_copy(update={"code": code}))
    first, last = board_of([later, one]).rows
    assert (first.entry.slug, first.ranks, first.unranked) == ("one", (1, 1), ())
    assert (last.score, last.ranks, last.unranked) == (None, None, ("no reference at engine 7",))
    assert last.final_returns
    assert last.costs.messages == 1000


def test_an_entry_that_is_older_than_engines_is_listed_and_not_ranked(tmp_path: Path) -> None:
    smoke = suite("smoke-v1")
    one, old = entry(tmp_path, smoke, "new", skill=0.5), entry(tmp_path, smoke, "old", skill=0.9)
    code = old.submission.code.model_copy(update={"engine": None})
    old = replace(old, submission=old.submission.model_copy(update={"code": code}))
    rows = board_of([one, old], smoke).rows
    assert [(r.entry.slug, r.ranks, r.unranked) for r in rows] == [
        ("new", (1, 1), ()),
        ("old", None, ("cannot be replayed",)),
    ]
    assert rows[1].score, "its suite names the return that is scored 1"


def test_superseded_and_reported_rows_stay_visible_and_unranked(tmp_path: Path) -> None:
    old = entry(tmp_path, SUITE, "old", skill=0.9)
    new = entry(tmp_path, SUITE, "new", supersedes=old.digest, seed=5)
    reported = entry(tmp_path, SUITE, "told", skill=1.0, track="reported")
    assert [(r.entry.slug, r.ranks, r.unranked, r.resubmissions) for r in board_of([old, new, reported]).rows] == [
        ("new", (1, 1), (), 1),
        ("told", None, ("reported, not replayed",), 0),
        ("old", None, ("superseded",), 0),
    ]


def test_an_adaptive_attack_can_only_lower_what_is_known(tmp_path: Path) -> None:
    one = entry(tmp_path, SUITE, "target", harm=HARM, noise=0.0)
    method = {"algo": "decbyzpg", "attack": "ipm(scale=3)", "against": "target"}
    hits = entry(tmp_path, SUITE, "hits", track="adaptive", noise=0.0, harm={"ipm(scale=3)": 0.7}, method=method)
    miss = entry(tmp_path, SUITE, "miss", track="adaptive", noise=0.0, harm={"ipm(scale=3)": 0.0}, method=method)
    assert row_of([one, miss]).best_known == pytest.approx(0.5)
    row = row_of([one, hits, miss])
    assert row.score
    assert (row.best_known, row.score.worst.value) == pytest.approx((0.1, 0.5))


def solo(root: Path, slug: str, **options: Any) -> Entry:
    return entry(root, SUITE, slug, method={"algo": "solo"}, harm=dict.fromkeys(HARM, 0.0), **options)


def test_joining_is_the_worst_case_minus_the_method_alone(tmp_path: Path) -> None:
    one = entry(tmp_path, SUITE, "one", harm=HARM, noise=0.0)
    central = entry(tmp_path, SUITE, "central", harm=HARM, noise=0.0, division="server", method={"algo": "byzpg"})
    alone = solo(tmp_path, "alone", skill=0.6, noise=0.0)
    assert row_of([one]).joining is None
    for of in (one, central):  # a run alone does not depend on the graph
        joined = row_of([of, alone]).joining
        assert joined
        assert joined.overall.value == pytest.approx(0.5 - 0.6)
    assert row_of([alone, one]).joining is None
    search = Search(method=alone.submission.method, ranges={"algorithm.lr": (0.1, 1.0, True)}, episodes=700, steps=1,
                    best=("1.0",), again="1.0", default="1.0")  # fmt: skip
    tuning = Tuning(study="0" * 16, trials_sha256="0" * 16, trials=1, seeds=(1,), attacks=(), search=search)
    tuned = solo(tmp_path, "tuned", skill=0.3, noise=0.0)
    tuned = replace(tuned, submission=tuned.submission.model_copy(update={"tuning": tuning}))
    joined = row_of([one, alone, tuned]).joining
    assert joined
    assert joined.overall.value == pytest.approx(0.5 - 0.3), "the tuned one comes first"
    assert Settings.of(tuned).search_episodes == 700


def test_joining_needs_the_same_task_and_budget(tmp_path: Path) -> None:
    central = entry(tmp_path, SUITE, "central", division="server", method={"algo": "byzpg"})
    complete, star = SUITE.strata
    other = SUITE.model_copy(update={"strata": (complete.model_copy(update={"trajectories": 1000}), star)})
    assert row_of([central, solo(tmp_path, "alone")], other).joining is None


def test_settings_come_from_what_the_method_resolved_to(tmp_path: Path) -> None:
    written = entry(tmp_path, SUITE, "written", method={"algo": "decbyzpg(p=1, N=8, lr=0.01)"})
    assert Settings.of(written) == Settings("set by hand", (0.01,), (8,), True, None)
    assert Settings.of(entry(tmp_path, SUITE, "plain")).origin == "default"


def test_the_track_of_attacks_orders_damage(tmp_path: Path) -> None:
    entries = [
        entry(tmp_path, SUITE, "weak", track="attack", harm={CLEAN: 0.0, "ipm(scale=2)": 0.1}, noise=0.0),
        entry(tmp_path, SUITE, "strong", track="attack", harm={CLEAN: 0.0, "ipm(scale=2)": 0.6}, noise=0.0),
    ]
    code = entries[1].submission.code.model_copy(update={"engine": 7})
    later = replace(entries[1], submission=entries[1].submission.model_copy(update={"code": code}))
    board = next(iter(boards(SUITE, entries)))
    assert [row.entry.slug for row in board.attacks] == ["strong", "weak"]
    strong = board.attacks[0]
    assert strong.damage
    assert strong.damage.value == pytest.approx(0.6)
    assert strong.damage.low is not None
    assert strong.damage.low < 0.6
    assert strong.by == {
        "cartpole-complete-f2": {"decbyzpg": pytest.approx(0.6)},
        "cartpole-star-f2": {"byzpg": pytest.approx(0.6)},
    }
    last = next(iter(boards(SUITE, [entries[0], later]))).attacks[-1]
    assert (last.damage, last.unranked) == (None, ("no reference at engine 7",))


def flagged(one: Entry, its: Suite = SUITE, *others: Entry) -> set[str]:
    return {flag.name for flag in row_of([one, *others], its).flags}


def test_a_flag_of_every_row_is_shown_once_by_the_board(tmp_path: Path) -> None:
    rows = [entry(tmp_path, SUITE, slug) for slug in ("one", "other")]
    assert board_of(rows).common_flags == ("few-seeds",)
    apart = changed(rows[0], split={"verdict": "no_consensus"})
    assert "no-consensus" in flagged(apart)
    assert board_of([apart, rows[1]]).common_flags == ("few-seeds",)
    both = [apart, changed(rows[1], alie={"verdict": "no_consensus"})]
    assert board_of(both).common_flags == ("few-seeds", "no-consensus")


def test_a_method_without_an_agreement_stage_has_no_flag_for_disagreement(tmp_path: Path) -> None:
    assert "no-consensus" not in flagged(changed(solo(tmp_path, "alone"), none={"verdict": "no_consensus"}))


def test_tuning_against_attacks_of_the_score_is_flagged(tmp_path: Path) -> None:
    one = entry(tmp_path, SUITE, "one")
    for attacks, raised in ((("alie",), True), (("min_max",), False), ((), False)):
        tuning = Tuning(study="0" * 16, trials_sha256="0" * 16, trials=1, seeds=(1,), attacks=attacks)
        tuned = replace(one, submission=one.submission.model_copy(update={"tuning": tuning}))
        assert ("tuned-on-suite" in flagged(tuned)) is raised
        assert Settings.of(tuned).origin == "tuned"


@pytest.mark.parametrize(
    "opening, raised",
    [({"aggregate_error": "0.5"}, True), ({"aggregate_error": "0.6"}, False), ({"return": "1.0"}, False)],
    ids=["reached nothing", "moved the rule", "cannot be told"],
)
def test_an_adaptive_attack_that_reached_nothing_is_named(tmp_path: Path, opening: dict, raised: bool) -> None:
    one = entry(tmp_path, SUITE, "target")
    method = {"algo": "decbyzpg", "attack": "ipm(scale=3)", "against": "target"}
    aimed = entry(tmp_path, SUITE, "aimed", track="adaptive", method=method)
    openings = {CLEAN: {"aggregate_error": "0.5"}, "ipm(scale=3)": opening}
    cells = tuple(c.model_copy(update={"opening": openings[c.attack]}) for c in aimed.cells)
    assert ("objective-did-not-rise" in flagged(one, SUITE, replace(aimed, cells=cells))) is raised
    assert "objective-did-not-rise" not in flagged(one)


def test_inert_attacks_and_the_cost_of_a_bound_are_flagged(tmp_path: Path) -> None:
    first = SUITE.strata[0].model_copy(update={"reference": 400.0})
    calm = first.model_copy(update={"name": "calm", "byzantine": 0})
    both = SUITE.model_copy(update={"strata": (first, calm), "references": ()})
    one = entry(tmp_path, both, "one", noise=0.0)
    clean = {(c.stratum, c.seed): c.trace for c in one.cells if c.attack == CLEAN}

    def inert_in(stratum: str) -> Entry:
        own = [
            c.model_copy(update={"trace": clean[stratum, c.seed]} if c.stratum == stratum else {}) for c in one.cells
        ]
        return replace(one, cells=tuple(own))

    assert "attack-inert" not in flagged(inert_in("calm"), both), "without Byzantine agents every attack is inert"
    assert "attack-inert" in flagged(inert_in(first.name), both)
    lost = [
        c.model_copy(update=flat(RANDOM) if (c.stratum, c.attack) == (first.name, CLEAN) else {}) for c in one.cells
    ]
    assert "bound-costs" not in flagged(one, both)
    assert {"bound-costs", "clean-below-reference"} <= flagged(replace(one, cells=tuple(lost)), both)


@pytest.mark.parametrize("its", FROZEN, ids=lambda its: its.name)
def test_every_frozen_suite_names_what_its_attacks_see(its: Suite) -> None:
    for attack in its.attacks:
        built = registry.make("attack", attack.spec)
        assert isinstance(built, Attack)
        sees = built.threat.knowledge - {"policy", "rollouts"}
        level = "local" if sees <= {"own"} else "coordinated" if sees <= {"own", "byzantine", "graph"} else "omniscient"
        assert attack.spec == CLEAN or attack.knows == level, (attack.spec, sees)
