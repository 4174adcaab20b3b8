"""Scores of a leaderboard: what they are, what moves them and what does not, how often their intervals are right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic_entries import entry

from byzbench import registry
from byzbench.contracts import Attack
from byzbench.leaderboard.boards import Board, boards
from byzbench.leaderboard.documents import Refused
from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.scoring import Runs, Score, damage, pairs_apart, score
from byzbench.leaderboard.suites import Suite, suite, suites
from byzbench.reports.statistics import iqm

SMOKE = suite("smoke-v1")


def table(rng: np.random.Generator, means: list[float], n: int, strata: int = 1, spread: float = 0.1) -> Score:
    """A score of attacks with these mean scores."""
    attacked = {
        str(s): {str(a): np.clip(m + spread * rng.standard_normal(n), 0, 1) for a, m in enumerate(means)}
        for s in range(strata)
    }
    return score(Runs.of({name: np.full(n, 0.9) for name in attacked}, attacked))


def main_board(entries: list[Entry]) -> Board:
    return next(b for b in boards(SMOKE, entries) if b.knowledge == "omniscient")


def test_the_score_is_the_worst_interquartile_mean_averaged_over_strata() -> None:
    rng = np.random.default_rng(0)
    rows = {s: {a: rng.random(8) for a in "xyz"} for s in "pq"}
    clean = {s: rng.random(8) for s in "pq"}
    found = score(Runs.of(clean, rows))
    worst = [min(float(iqm(row)) for row in rows[s].values()) for s in "pq"]
    assert found.worst.value == pytest.approx(np.mean(worst))
    assert found.attack == {s: min(rows[s], key=lambda a: float(iqm(rows[s][a]))) for s in "pq"}
    assert found.gap == pytest.approx(found.clean.value - found.worst.value)
    assert found.worst.low is not None
    assert found.worst.low <= found.worst.value <= found.worst.high


def test_few_seeds_have_no_interval_and_no_crossfit() -> None:
    found = score(Runs.of({"s": np.array([0.5, 0.6])}, {"s": {"x": np.array([0.2, 0.3])}}))
    assert (found.worst.low, found.crossfit, found.bracket) == (None, None, None)


def test_equal_runs_are_never_told_apart_and_sure_ones_are() -> None:
    rng = np.random.default_rng(0)
    one = table(rng, [0.8, 0.9], 10, spread=0.01)
    assert not pairs_apart([one, one])
    assert pairs_apart([one, table(rng, [0.5, 0.9], 10, spread=0.01)]) == {(0, 1)}


def test_damage_is_what_is_lost_on_average() -> None:
    clean, attacked = np.full(10, 0.9), np.linspace(0.2, 0.4, 10)
    found = damage({"s": {"a": clean}}, {"s": {"a": attacked}})
    assert found.value == pytest.approx(0.6)
    assert found.low is not None
    assert found.low < 0.6 < found.high


def test_a_board_ranks_its_rows_and_adding_one_moves_no_score(tmp_path: Path) -> None:
    entries = [entry(tmp_path, SMOKE, f"e{i}", skill=0.9 - 0.2 * i, noise=0.01, seed=i) for i in range(3)]
    entries.append(entry(tmp_path, SMOKE, "twin", skill=0.9, noise=0.01, seed=9))
    board = main_board(entries)
    assert [row.rank for row in board.rows] == [1, 1, 3, 4]
    assert [row.ranks for row in board.rows] == [(1, 2), (1, 2), (3, 3), (4, 4)]
    assert board.rows[1].beats_next == 1.0
    more = main_board([*entries, entry(tmp_path, SMOKE, "new", skill=1.0, noise=0.01, seed=11)])
    before = {row.entry.slug: row.score.worst for row in board.rows}
    assert {slug: b for slug, b in {r.entry.slug: r.score.worst for r in more.rows}.items() if slug != "new"} == before


def test_levels_of_knowledge_take_in_ever_more_attacks(tmp_path: Path) -> None:
    one = entry(tmp_path, SMOKE, "e", noise=0.0)
    found = {b.knowledge: b.rows[0].score.worst.value for b in boards(SMOKE, [one])}
    assert found["local"] > found["coordinated"] > found["omniscient"]


def test_a_missing_cell_is_an_error_and_a_failed_one_scores_nothing(tmp_path: Path) -> None:
    one = entry(tmp_path, SMOKE, "e", noise=0.0)
    with pytest.raises(Refused, match=r"alie.* · seed 2 is missing"):
        main_board(
            [
                Entry(
                    one.submission,
                    tuple(c for c in one.cells if (c.attack, c.seed) != ("alie(z=1.5, on=both)", 2)),
                    "x",
                )
            ]
        )
    failed = tuple(
        c.model_copy(update={"status": "failed"}) if c.attack == "alie(z=1.5, on=both)" else c for c in one.cells
    )
    row = main_board([Entry(one.submission, failed, "x")]).rows[0]
    assert row.score.worst.value == 0.0
    assert row.failed == 4
    assert "failed-cells" in {flag.name for flag in row.flags}


def test_an_adaptive_attack_can_only_lower_what_is_known(tmp_path: Path) -> None:
    one = entry(tmp_path, SMOKE, "target", noise=0.0)
    method = {"algo": "decbyzpg", "attack": "ipm(scale=3)", "against": "target"}
    hits = entry(tmp_path, SMOKE, "hits", track="adaptive", noise=0.0, harm={"ipm(scale=3)": 0.7}, method=method)
    miss = entry(tmp_path, SMOKE, "miss", track="adaptive", noise=0.0, harm={"ipm(scale=3)": 0.0}, method=method)
    row = main_board([one, miss]).rows[0]
    assert row.best_known == row.score.worst.value
    row = main_board([one, hits, miss]).rows[0]
    assert row.best_known == pytest.approx(0.1)
    assert row.score.worst.value == pytest.approx(0.5)


@pytest.mark.parametrize(
    "opening, raised",
    [({"aggregate_error": "0.5"}, True), ({"aggregate_error": "0.6"}, False), ({"return": "1.0"}, False)],
    ids=["reached nothing", "moved the rule", "cannot be told"],
)
def test_an_adaptive_attack_that_reached_nothing_is_named(tmp_path: Path, opening: dict, raised: bool) -> None:
    one = entry(tmp_path, SMOKE, "target")
    method = {"algo": "decbyzpg", "attack": "ipm(scale=3)", "against": "target"}
    aimed = entry(tmp_path, SMOKE, "aimed", track="adaptive", method=method)
    said = {"none": {"aggregate_error": "0.5"}, "ipm(scale=3)": opening}
    cells = tuple(c.model_copy(update={"opening": said[c.attack]}) for c in aimed.cells)
    row = main_board([one, replace(aimed, cells=cells)]).rows[0]
    assert ("objective-did-not-rise" in {flag.name for flag in row.flags}) is raised
    assert "objective-did-not-rise" not in {flag.name for flag in main_board([one]).rows[0].flags}


def test_what_a_bound_costs_without_an_attack_is_flagged_and_no_liars_make_no_attack_inert(tmp_path: Path) -> None:
    liars = SMOKE.strata[0]
    calm = liars.model_copy(update={"name": "calm", "byzantine": 0})
    both = SMOKE.model_copy(update={"strata": (liars, calm)})
    one = entry(tmp_path, both, "e", noise=0.0)
    clean = {c.seed: c for c in one.cells if c.stratum == "calm" and c.attack == "none"}
    cells = tuple(c.model_copy(update={"trace": clean[c.seed].trace}) if c.stratum == "calm" else c for c in one.cells)
    assert not {"bound-costs", "attack-inert"} & flagged(both, replace(one, cells=cells))
    lost = tuple(
        c.model_copy(update={"value": repr(liars.random)}) if (c.stratum, c.attack) == (liars.name, "none") else c
        for c in cells
    )
    assert "bound-costs" in flagged(both, replace(one, cells=lost))


def flagged(board: Suite, one: Entry) -> set[str]:
    return {flag.name for found in boards(board, [one]) for row in found.rows for flag in row.flags}


def test_a_superseded_row_stays_visible_and_unranked(tmp_path: Path) -> None:
    old = entry(tmp_path, SMOKE, "old", skill=0.9)
    new = entry(tmp_path, SMOKE, "new", supersedes=old.digest, seed=5)
    rows = main_board([old, new]).rows
    assert [(r.entry.slug, r.rank, r.superseded, r.resubmissions) for r in rows] == [
        ("new", 1, False, 1),
        ("old", None, True, 0),
    ]


def test_reported_rows_are_listed_and_never_ranked(tmp_path: Path) -> None:
    rows = main_board(
        [entry(tmp_path, SMOKE, "said", skill=1.0, track="reported"), entry(tmp_path, SMOKE, "ran", skill=0.5)]
    ).rows
    assert [(r.entry.slug, r.rank) for r in rows] == [("ran", 1), ("said", None)]


def test_the_track_of_attacks_ranks_damage(tmp_path: Path) -> None:
    entries = [
        entry(tmp_path, SMOKE, "weak", track="attack", harm={"ipm(scale=2)": 0.1}),
        entry(tmp_path, SMOKE, "strong", track="attack", harm={"ipm(scale=2)": 0.6}),
    ]
    board = next(iter(boards(SMOKE, entries)))
    assert [row.entry.slug for row in board.attacks] == ["strong", "weak"]
    assert set(board.attacks[0].by) == {s.name for s in SMOKE.strata}


def test_every_frozen_suite_says_what_its_attacks_see() -> None:
    for name in suites():
        board = suite(name)
        for attack in board.attacks:
            built = registry.build("attack", attack.spec)
            assert isinstance(built, Attack)
            sees = built.threat.sees - {"policy", "experience"}
            level = (
                "local" if sees <= {"own"} else "coordinated" if sees <= {"own", "colluders", "graph"} else "omniscient"
            )
            assert attack.spec == "none" or attack.knows == level, (name, attack.spec, sees)


def test_equal_entries_share_a_rank() -> None:
    """At least 95 % of the pairs of boards of ten equal entries: 5 boards, 225 pairs."""
    rng, apart = np.random.default_rng(0), 0
    for _ in range(5):
        scores = [table(rng, [0.5] * 4, 10) for _ in range(10)]
        apart += len(pairs_apart(sorted(scores, key=lambda s: -s.worst.value)))
    assert apart <= 0.05 * 225


Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return 0.5 + 0.1 * rng.standard_normal(shape)


def half_of_them(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Evenly bimodal: a run solves the task or learns nothing."""
    return np.where(rng.random(shape) < 0.5, 0.9, 0.1) + 0.02 * rng.standard_normal(shape)


def sample(draw: Draw, rng: np.random.Generator, n: int, attacks: int, strata: int, lead: float = 0.0) -> Score:
    """A score of equal attacks; those after the first leave `lead` more."""
    rows = draw(rng, (strata, attacks, n)) + lead * (np.arange(attacks) > 0)[:, None]
    names = tuple(map(str, range(strata))), tuple(map(str, range(attacks)))
    return score(Runs(*names, np.full((strata, n), 0.95), rows.clip(0, 1)))


def told_apart(scores: list[Score]) -> int:
    return len(pairs_apart(sorted(scores, key=lambda s: -s.worst.value)))


def test_the_bracket_holds_half_of_the_seeds_learning_and_such_entries_share_a_rank() -> None:
    """Where resamples fail: 5 seeds see nothing but failures under one of six attacks, and 10 seem sure."""
    rng = np.random.default_rng(0)
    brackets = [sample(half_of_them, rng, 5, 6, 1).bracket for _ in range(60)]
    assert sum(b is not None and b[0] <= 0.5 <= b[1] for b in brackets) >= 57
    assert sum(told_apart([sample(half_of_them, rng, 10, 1, 1) for _ in range(2)]) for _ in range(100)) <= 5


def test_what_all_entries_owe_to_a_seed_cancels() -> None:
    rng = np.random.default_rng(0)
    luck, other_luck = 0.1 * rng.standard_normal((2, 1, 1, 10))
    one, same, another = (
        sample(lambda *_, at=at, luck=luck: at + luck, rng, 10, 1, 1)
        for at, luck in ((0.55, luck), (0.5, luck), (0.5, other_luck))
    )
    assert told_apart([one, same])
    assert not told_apart([one, another])


def test_a_board_pairs_all_entries(tmp_path: Path) -> None:
    """Seeds follow from the suite. The same noise is luck that entries share, or chance."""

    def ranks(*noise: int) -> list[int | None]:
        root = tmp_path / "-".join(map(str, noise))
        found = [entry(root, SMOKE, f"e{i}", skill=0.8 - 0.05 * i, seed=seed) for i, seed in enumerate(noise)]
        return [row.rank for row in main_board(found).rows]

    assert ranks(0, 0) == [1, 2]
    assert ranks(0, 1) == [1, 1]


def test_an_entry_that_is_older_than_engines_is_listed_and_not_ranked(tmp_path: Path) -> None:
    one, old = entry(tmp_path, SMOKE, "new", skill=0.5), entry(tmp_path, SMOKE, "old", skill=0.9)
    code = old.submission.code.model_copy(update={"engine": None})
    old = replace(old, submission=old.submission.model_copy(update={"code": code}))
    assert [(r.entry.slug, r.rank) for r in main_board([one, old]).rows] == [("new", 1), ("old", None)]


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 10])
def test_where_half_of_the_seeds_learn(n: int) -> None:
    """Of equal entries alone on a board 95 % share a rank, and of brackets 95 % cover the truth."""
    rng, trials = np.random.default_rng(0), 200
    for attacks, strata in ((1, 1), (6, 1), (6, 4)):
        covered = apart = 0
        for _ in range(trials):
            pair = [sample(half_of_them, rng, n, attacks, strata) for _ in range(2)]
            apart += told_apart(pair)
            covered += sum(s.bracket is not None and s.bracket[0] <= 0.5 <= s.bracket[1] for s in pair)
        assert apart <= 0.05 * trials
        assert covered >= 0.95 * 2 * trials


@pytest.mark.slow
def test_better_entries_are_ranked_apart() -> None:
    """On ten seeds: by a standard deviation of a run in four strata, or by two of them in one."""
    rng, trials = np.random.default_rng(0), 100

    def better(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return normal(rng, shape) + (0.1 if shape[0] == 4 else 0.2)

    for strata in (4, 1):
        found = [[sample(draw, rng, 10, 6, strata) for draw in (better, normal)] for _ in range(trials)]
        assert sum(map(told_apart, found)) >= 0.95 * trials


@pytest.mark.slow
@pytest.mark.parametrize("means", [[0.5] * 6, [0.5] + [0.55] * 5, [0.5] + [0.7] * 5], ids=["equal", "near", "far"])
@pytest.mark.parametrize("n,strata", [(5, 1), (10, 1), (10, 2)])
def test_the_bracket_covers_the_truth(n: int, means: list[float], strata: int) -> None:
    """In at least 90 % of samples; and two equal entries are told apart in at most 5 %, give or take their error."""
    rng, trials = np.random.default_rng(0), 200
    covered = apart = 0
    for _ in range(trials):
        one, other = table(rng, means, n, strata), table(rng, means, n, strata)
        assert one.bracket is not None
        covered += one.bracket[0] <= min(means) <= one.bracket[1]
        apart += len(pairs_apart(sorted([one, other], key=lambda s: -s.worst.value)))
    assert covered >= 0.9 * trials
    assert apart <= 0.08 * trials  # 5 % and two standard errors of 200 trials
