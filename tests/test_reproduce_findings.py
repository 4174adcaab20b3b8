"""The findings: studies of the setting of the small board, on made-up results whose answers are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from byzbench.errors import UserError
from byzbench.experiments.experiment import Experiment
from byzbench.identity import ENGINE
from byzbench.records.run_folder import RunFolder
from byzbench.reproduce.batch_sizes import BATCH_SIZES
from byzbench.reproduce.joining import JOINING
from byzbench.reproduce.pages import study_page
from byzbench.reproduce.rules import RULES
from byzbench.reproduce.running import reproduce_study
from byzbench.reproduce.small_batches import area_score, bootstrap_interval, retained
from byzbench.reproduce.step_sizes import STEP_SIZES
from byzbench.reproduce.study import MeasuredRow, Study, StudyResult
from byzbench.reproduce.wrong_f import WRONG_F

SEEDS = range(5)
NOISE = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])
FINDINGS = (STEP_SIZES, BATCH_SIZES, RULES, WRONG_F, JOINING)


def made_up(study: Study, level: Callable[[str], float], choice: int = 0) -> StudyResult:
    """Return a result in which every row has the same noise around its level, and one candidate is chosen."""
    rows = {
        name: MeasuredRow(several[choice % len(several)], SEEDS, (level(name) + NOISE).tolist(), len(several))
        for name, several in study.rows().items()
    }
    return StudyResult(study.name, ENGINE, rows)


@pytest.mark.parametrize("study", FINDINGS, ids=lambda study: study.name)
def test_every_row_can_run_and_is_on_the_page(study: Study) -> None:
    for several in study.rows().values():
        try:
            Experiment.create(**several[0], seed=0)
        except UserError as error:
            pytest.fail(str(error))
    result = made_up(study, lambda name: 0.5)
    page = study_page(study, result, f"byzbench reproduce {study.name}", "figure.png")
    assert page.count("\n\n## Findings\n\n") == 1
    assert len(study.findings(result)) == 2
    assert study.figure(result).axes


def test_the_score_of_a_run_is_its_area_between_random_and_solved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A random policy of CartPole returns 22.3, and 475 is a solved task."""
    areas = iter([22.3, 475.0, 248.65])
    monkeypatch.setattr(RunFolder, "result", lambda _: {"evaluation": {"evaluation_auc": next(areas)}})
    assert [area_score(tmp_path) for _ in range(3)] == pytest.approx([0.0, 1.0, 0.5], abs=2e-3)


def test_retention_is_the_ratio_of_sums_over_pairs_of_seeds() -> None:
    clean, attacked = (MeasuredRow({}, range(3), runs) for runs in ([0.2, 0.4, 0.6], [0.1, 0.1, 0.4]))
    share = retained(attacked, clean)
    assert share is not None
    assert share.value == pytest.approx(0.5)
    assert retained(attacked, MeasuredRow({}, range(3), [0.0, 0.0, 0.0])) is None


def test_the_bootstrap_draws_common_seeds() -> None:
    """The difference of two rows with the same noise has no spread, however the seeds are drawn."""
    runs = np.stack([NOISE, NOISE + 0.3])
    interval = bootstrap_interval(runs, lambda drawn: float(drawn[1].mean() - drawn[0].mean()))
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.3, 0.3, 0.3))


def test_the_variance_is_shared_among_steps_and_methods() -> None:
    """Scores are additive: steps at distances 0.1 and methods at 0.02; tuned runs are in the opposite order."""
    methods = list(dict.fromkeys(name.partition(": ")[0] for name in STEP_SIZES.rows()))

    def level(name: str) -> float:
        method, _, setting = name.partition(": ")
        step = setting.partition("lr=")[2]
        order = methods.index(method) * 0.02
        return 0.1 * [0.001, 0.003, 0.01, 0.03, 0.1].index(float(step)) + order if step else 0.9 - order

    steps, methods_share = 0.1**2 * 2.0, 0.02**2 * (8**2 - 1) / 12
    result = made_up(STEP_SIZES, level, choice=2)
    first, second = STEP_SIZES.findings(result)
    assert f"explains {steps / (steps + methods_share):.2f} (" in first
    assert f"the method {methods_share / (steps + methods_share):.2f} (" in first
    assert "Kendall's tau -1.00 (-1.00 to -1.00)" in second
    assert [cells[-1] for cells in STEP_SIZES.tables(result)[1].cells] == ["0.01"] * 8


def test_settings_that_learn_nothing_have_no_retention() -> None:
    """At N = 32 runs do not learn; elsewhere the attack leaves N / 20 of 0.8."""

    def level(name: str) -> float:
        n = int(name.split(",")[0].removeprefix("N="))
        return 0.1 if n == 32 else 0.8 * (1 if name.endswith("none") else n / 20)

    result = made_up(BATCH_SIZES, level)
    first, second = BATCH_SIZES.findings(result)
    assert first.startswith("Of the 20 of 24 settings that learn without an attack, rop leaves least, 0.05 (")
    assert "at N = 1 " in first
    assert second.startswith("It leaves most, 0.80 (")
    assert BATCH_SIZES.tables(result)[0].cells[-1][-1].startswith("[1.00")


def test_rules_are_in_the_order_of_their_worst_score() -> None:
    """`rfa` is best under its worst attack, ipm; four rules are as good, and mean costs nothing without an attack."""
    near = {"krum", "median", "geometric_median", "mda"}

    def level(name: str) -> float:
        rule, _, attack = name.partition(": ")
        if attack == "none":
            return 0.7 if rule == "mean" else 0.6
        return {"honest_mean": 0.9, "rfa": 0.5 - 0.1 * (attack == "ipm")}.get(rule, 0.39 if rule in near else 0.1)

    result = made_up(RULES, level)
    table = RULES.tables(result)[0]
    assert [cells[0] for cells in table.cells[:2]] == ["honest_mean", "rfa"]
    first, second = RULES.findings(result)
    others = len(table.cells) - 2
    assert "under ipm, is that of rfa" in first
    assert f"{others - len(near)} of the {others} other rules" in first
    # Of others + 1 known rules all but mean score 0.1 less than it.
    assert f"score {0.1 * others / (others + 1):.2f} (" in second


def test_a_wrong_assumed_number_is_compared_with_the_right_one() -> None:
    def level(name: str) -> float:
        rule, true, assumed = name.split(", ")
        f, told = int(true.removeprefix("f=")), int(assumed.removeprefix("assumed="))
        return (0.8 if rule == "rfa" else 0.7) - 0.1 * max(0, f - told) - 0.02 * told

    first, second = WRONG_F.findings(made_up(WRONG_F, level))
    assert first.startswith("With 3 assumed, the best rule under rop, rfa, scores 0.74 (")
    assert "and 0.54 (" in first
    assert "loses 0.16 (" in second  # 0.8 - 0.06 against 0.8 - 0.2 - 0.02
    assert "and 0.04 (" in second
    assert "nobody is Byzantine it loses 0.08 (" in second


def test_the_gain_of_joining_is_that_under_the_worst_attack() -> None:
    def level(name: str) -> float:
        method, _, attack = name.partition(": ")
        if method == "solo":
            return 0.4
        return 0.8 if attack != "avg_zero" else 0.1 if method == "decbyzpg, mean" else 0.5

    result = made_up(JOINING, level, choice=5)
    first, second = JOINING.findings(result)
    assert "scores +0.10 (" in first
    assert "5 of them gain" in first
    assert second.startswith("decbyzpg, mean gains least, -0.30 (")
    assert "1 lose" in second
    assert [cells[1] for cells in JOINING.tables(result)[0].cells] == ["8/0.003"] * 7


def test_a_row_takes_the_choice_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows of joining: the federation without an attack runs with the step that is best under rop."""
    rows = {name: several[:2] for name, several in JOINING.rows().items() if name.startswith("nna: ")}
    monkeypatch.setattr(type(JOINING), "rows", lambda _: {n: rows[n] for n in ("nna: none", "nna: rop")})
    searched: list[str] = []

    def measure(_: Study, folder: Path) -> float:
        return 0.9 if folder.name in second else 0.1

    def plan(sweep: object) -> int:
        searched.extend(sweep.cells)  # type: ignore[attr-defined]
        return 0

    monkeypatch.setattr(type(JOINING), "measure", measure)
    second = {Experiment.create(**rows["nna: rop"][1], seed=seed).hash for seed in JOINING.search_seeds}
    result = reproduce_study(JOINING, tmp_path, seeds=1, run_plan=plan)
    assert [row.options["parameters"]["algorithm"]["lr"] for row in result.rows.values()] == [0.003, 0.003]
    assert len(searched) == 2 * 3 + 2  # two candidates on three seeds, then two rows
