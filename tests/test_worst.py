"""The worst of an ensemble: which attack is chosen, on which seeds, what is flagged, and that nothing runs twice."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from byzbench import cli, registry
from byzbench.canonical import hash_of
from byzbench.core import Aggregator, RuleContext, RuleOutput
from byzbench.errors import InvalidParameter, UserError
from byzbench.experiments.experiment import Experiment
from byzbench.reports import probes, worst_case
from byzbench.reports.worst_case import WorstCaseResult, WorstCaseSearch, extend_ensemble
from byzbench.sweeps.cells import CellOutcome
from byzbench.sweeps.executors import Executor, SerialExecutor

POINT: dict[str, Any] = {"algo": "decbyzpg", "topology": "complete", "agents": 13}
TINY: dict[str, Any] = {"algo": "decbyzpg", "topology": "complete", "agents": 5, "trajectories": 30}
SMALL = {"algo": {"N": 4}}
CHECKOUT = Path(__file__).resolve().parents[1]
ENSEMBLE = {"blind": ("sign_flip",), "colluding": ("avg_zero", "ipm"), "adaptive": ("optimal_ipm",)}
CLEAN = 300.0


class Imagined(Executor):
    """Runs whose evaluation return is a function of the attack's name and the seed; None is not finite."""

    def __init__(
        self, out: Path, value: Callable[[str, int], float | None], ended: Callable[[str, int], str] | None = None
    ) -> None:
        super().__init__(out)
        self.value, self.ended, self.evaluated = value, ended or (lambda attack, seed: "ok"), []

    def _start(self, experiment: Experiment, wait: bool) -> Future[Any]:
        attack, seed = registry.name_of(experiment.attack), experiment.seed
        self.evaluated.append((attack, seed))
        value, future = self.value(attack, seed), Future()
        folder = self._out / experiment.hash
        folder.mkdir(exist_ok=True)
        (folder / "metrics.jsonl").write_text(f"{value}")
        name = self.ended(attack, seed)
        result = {"evaluation": {"evaluation": value}, "verdict": {"name": name}, "num_malformed": 7}
        future.set_result(CellOutcome("failed", error="lost") if name == "failed" else CellOutcome("finished", result))
        return future


def imagine(
    out: Path,
    value: Callable[[str, int], float | None],
    ended: Callable[[str, int], str] | None = None,
    ensemble: worst_case.Ensemble = ENSEMBLE,
    **point: Any,
) -> tuple[WorstCaseResult, list[tuple[str, int]]]:
    workers = Imagined(out, value, ended)
    return WorstCaseSearch({**POINT, **point}, ensemble=ensemble).run(out, workers), workers.evaluated


def fixed(**returns: float) -> Callable[[str, int], float]:
    """One return an attack, whatever the seed; small differences by attack, so that none is inert by chance."""
    values = {"none": CLEAN, "sign_flip": 299.0, "avg_zero": 298.0, "ipm": 297.0, "optimal_ipm": 296.0, **returns}
    return lambda attack, seed: values[attack]


def test_the_choice_is_made_on_some_seeds_and_reported_on_others(tmp_path: Path) -> None:
    """On fresh seeds avg_zero is the stronger one, and that must not matter any more."""

    def value(attack: str, seed: int) -> float:
        if seed < worst_case.REPORTING:
            return fixed(ipm=200.0 + seed - 1000)(attack, seed)
        return {"none": 310.0, "ipm": 250.0, "avg_zero": 100.0}[attack] + 10.0 * (seed - 2002)

    worst, evaluated = imagine(tmp_path, value)
    assert worst.attack == "ipm"
    assert worst.tried["ipm"].returns == (200.0, 201.0, 202.0)
    assert worst.tried["ipm"].mean == pytest.approx(201)
    assert worst.clean.value == pytest.approx(310)
    assert worst.attacked.value == pytest.approx(250)
    assert worst.attacked.low < 230
    assert worst.attacked.high > 270
    task = Experiment.create(**POINT).task
    half = 0.05 * (task.reference_score("solved") - task.reference_score("random")) * stats.t.ppf(0.975, 4) / 5**0.5
    loss = (worst.loss.low, worst.loss.value, worst.loss.high)
    assert loss == pytest.approx((60 - half, 60, 60 + half))  # paired by seed: the least deviation is left
    selection = {(attack, seed) for attack in worst.tried for seed in (1000, 1001, 1002)}
    reporting = {(attack, seed) for attack in ("none", "ipm") for seed in range(2000, 2005)}
    assert set(evaluated) == selection | reporting
    assert len(evaluated) == len(set(evaluated)) == WorstCaseSearch(POINT, ensemble=ENSEMBLE).size


def test_seeds_of_both_kinds_are_never_the_same() -> None:
    with pytest.raises(InvalidParameter, match=r"disjoint, got \[1002\]"):
        WorstCaseSearch(POINT, range(1000, 1003), range(1002, 1005))


def test_the_cheapest_come_first(tmp_path: Path) -> None:
    _, evaluated = imagine(tmp_path, fixed())
    order = [attack for attack, _ in evaluated]
    assert order[:6] == ["none"] * 3 + ["sign_flip"] * 3
    assert set(order[6:12]) == {"avg_zero", "ipm"}
    assert order[12:15] == ["optimal_ipm"] * 3


def test_of_equal_members_the_first_is_the_worst(tmp_path: Path) -> None:
    worst, _ = imagine(tmp_path, fixed(avg_zero=200, ipm=200))
    assert worst.attack == "avg_zero"


def test_a_return_that_is_not_finite_is_random_play(tmp_path: Path) -> None:
    worst, _ = imagine(tmp_path, lambda attack, seed: None if attack == "ipm" else fixed()(attack, seed))
    random = Experiment.create(**POINT).task.reference["random"]
    assert worst.attack == "ipm"
    assert worst.attacked.value == random


def test_members_that_cannot_run_are_named_and_skipped(tmp_path: Path) -> None:
    ensemble = {"blind": ("sign_flip", "no_such_attack"), "colluding": ("alie(rule=A)", "ipm(size=3)")}
    contest = WorstCaseSearch({**POINT, "byzantine": 1}, ensemble=ensemble)
    assert list(contest.skipped) == ["no_such_attack", "alie(rule=A)", "ipm(size=3)"]
    worst, evaluated = imagine(tmp_path, fixed(), ensemble=ensemble, byzantine=1)
    assert {attack for attack, _ in evaluated} == {"none", "sign_flip"}
    assert "unknown attack 'no_such_attack'" in worst.tried["no_such_attack"].why
    assert "not positive and finite" in worst.tried["alie(rule=A)"].why
    assert "no parameter 'size'" in worst.tried["ipm(size=3)"].why
    assert [attack for attack, t in worst.tried.items() if t.mean is not None] == ["none", "sign_flip"]


def test_members_whose_runs_fail_are_named_and_not_chosen(tmp_path: Path) -> None:
    worst, _ = imagine(tmp_path, fixed(ipm=0.0), lambda attack, seed: "failed" if attack == "ipm" else "ok")
    assert worst.tried["ipm"].why == "a run failed: lost"
    assert worst.attack == "optimal_ipm"
    with pytest.raises(UserError, match="a run failed"):
        imagine(tmp_path, fixed(), lambda attack, seed: "failed" if attack == "none" else "ok")
    with pytest.raises(UserError, match="no attack of the ensemble could run"):
        imagine(tmp_path, fixed(), ensemble={"blind": ("no_such_attack",)})


def test_questions_that_cannot_be_answered() -> None:
    with pytest.raises(InvalidParameter, match="f=0"):
        WorstCaseSearch({**POINT, "byzantine": 0})
    for options in ({"point": {**POINT, "attack": "ipm"}}, {"point": POINT, "parameters": {"attack": {"scale": 2}}}):
        with pytest.raises(InvalidParameter, match="the ensemble fixes the attacks"):
            WorstCaseSearch(**options)


def test_an_attack_that_changes_nothing_is_inert(tmp_path: Path) -> None:
    worst, _ = imagine(tmp_path, fixed(avg_zero=CLEAN))
    assert worst.flags["attack inert"] == worst_case.SearchFlag(True, "avg_zero")
    one_seed = imagine(tmp_path, lambda a, s: CLEAN if (a, s) == ("avg_zero", 1001) else fixed()(a, s))[0]
    assert not one_seed.flags["attack inert"].raised


@pytest.mark.parametrize(
    "blind, adaptive, raised",
    [(150.0, 280.0, True), (280.0, 150.0, False), (200.0, 210.0, False), (299.0, 296.0, False)],
)
def test_a_blind_attack_that_beats_the_adaptive_ones(
    blind: float, adaptive: float, raised: bool, tmp_path: Path
) -> None:
    """By more than a tenth of what is learned: (300 - random) / 10 is some 28."""
    worst, _ = imagine(tmp_path, fixed(sign_flip=blind, optimal_ipm=adaptive))
    assert worst.flags["blind beats adaptive"].raised == raised
    assert worst.attack == ("sign_flip" if blind < adaptive else "optimal_ipm")


def test_one_lucky_seed_does_not_make_the_search_unreliable(tmp_path: Path) -> None:
    lucky = {1000: 0.0, 1001: 281.0, 1002: 0.0}
    worst, _ = imagine(tmp_path, lambda a, s: lucky.get(s, 0.0) if a == "sign_flip" else fixed(optimal_ipm=280.0)(a, s))
    assert worst.attack == "sign_flip"
    assert not worst.flags["blind beats adaptive"].raised


@pytest.mark.parametrize(
    "ended, raised, message",
    [
        ({}, True, "21 malformed messages were rejected"),
        ({"non_finite": "diverged"}, False, "ended diverged, and ok without it"),
        ({"non_finite": "diverged", "none": "diverged"}, False, "ended diverged, and diverged"),
        ({"non_finite": "not_learning", "none": "not_learning"}, True, "21 malformed messages"),
        ({"non_finite": "not_learning"}, False, "ended not_learning, and ok without it"),
        ({"non_finite": "failed"}, False, "failed: lost"),
    ],
)
def test_whether_messages_that_are_no_numbers_are_survived(
    ended: dict[str, str], raised: bool, message: str, tmp_path: Path
) -> None:
    ensemble = {"blind": ("sign_flip", "non_finite(on=both)")}
    worst, _ = imagine(tmp_path, fixed(non_finite=295.0), lambda a, s: ended.get(a, "ok"), ensemble)
    flag = worst.flags["non-finite survived"]
    assert flag.raised == raised
    assert message in flag.why


@pytest.mark.parametrize(
    "aggregator, agreement, raised",
    [
        ("krum", "mda", set()),
        ("bucketing(s=2)+krum", "mda", {"random defence"}),
        ("centered_clipping", "mda", {"hidden state", "scale dependence"}),
        ("rfa(relative=False)", "mda", {"scale dependence"}),
        ("krum", "gossip+self_centered_clipping(radius=fixed)", {"scale dependence"}),
        ("krum", "none", set()),
    ],
)
def test_declared_traits_raise_flags(aggregator: str, agreement: str, raised: set[str], tmp_path: Path) -> None:
    worst, _ = imagine(tmp_path, fixed(), aggregator=aggregator, agreement=agreement, agents=13)
    flags = ("random defence", "hidden state", "scale dependence")
    assert {name for name in flags if worst.flags[name].raised} == raised
    assert all("declares" in worst.flags[name].why for name in raised)


def test_nothing_learned_and_nothing_lost_are_noted(tmp_path: Path) -> None:
    little, _ = imagine(tmp_path, lambda attack, seed: fixed()(attack, seed) - 270.0)
    assert "the method did not learn" in little.notes[0]
    nothing, _ = imagine(
        tmp_path, lambda a, s: 300.0 + (-1.0) ** s if a == "ipm" and s >= 2000 else fixed(ipm=9.0)(a, s)
    )
    assert "includes 0" in nothing.notes[0]
    assert not any("includes 0" in note for note in imagine(tmp_path, fixed(ipm=9.0))[0].notes)


@dataclass(frozen=True)
class Average(Aggregator):
    """The mean, and declares nothing; what it does besides is up to its habit."""

    habit: str = ""
    inputs: list[float] = field(default_factory=list, compare=False)

    def aggregate(self, x: torch.Tensor, f: torch.Tensor, context: RuleContext) -> RuleOutput:
        """The mean with a habit."""
        value = x.mean(-2)
        if self.habit == "draws":
            assert context.rng is not None
            value = value * context.rng.random()
        if self.habit == "remembers":
            self.inputs.append(float(x.sum()))
            value = value + sum(self.inputs)
        if self.habit == "clips":
            value = value.clamp(-100, 100)
        return RuleOutput(value, None, {})


PROBES = {"draws": probes.draws, "remembers": probes.remembers, "clips": probes.depends_on_scale}


@pytest.mark.parametrize("habit", ["", *PROBES])
def test_undeclared_traits_are_detected(habit: str) -> None:
    rule = Average(habit)
    flagged = {name for name, probe in PROBES.items() if probe(rule, 13, 3)}
    # A memory makes the second generator's value another one, and the scaled one's too.
    assert flagged == (set(PROBES) if habit == "remembers" else {habit} - {""})
    if habit != "remembers":
        assert not rule.inputs


@pytest.mark.parametrize("name", registry.origins("aggregator"))
def test_every_rule_can_be_probed_and_has_no_secrets(name: str) -> None:
    rule = registry.make("aggregator", name)
    assert isinstance(rule, Aggregator)
    for probe, declared in (
        (probes.draws, rule.traits.random),
        (probes.remembers, rule.traits.stateful),
        (probes.depends_on_scale, not rule.traits.scale_equivariant),
    ):
        assert (probe(rule, 13, 2) is not None) == declared


def test_the_standard_ensemble_is_a_version() -> None:
    """Whoever changes a member or a default makes another ensemble: give it another name, and this its digest."""
    members = [[needs, *attacks] for needs, attacks in worst_case.STANDARD_V1.items()]
    described = [registry.describe(registry.make("attack", a)) for _, *attacks in members for a in attacks]
    assert (worst_case.STANDARD, hash_of({"members": members, "described": described})) == (
        "standard-v1",
        "c498f6d83762b991",
    )


def test_members_have_the_knowledge_of_their_heading() -> None:
    for needs, attacks in worst_case.STANDARD_V1.items():
        for threat in (registry.make("attack", attack).threat for attack in attacks):  # type: ignore[attr-defined]
            if needs in ("blind", "local"):
                assert threat.knowledge <= {"own"}
            assert ("rule" in threat.knowledge) == (needs == "adaptive")
            assert ("history" in threat.knowledge) == (needs == "time-coupled")
            if needs == "equivocating":
                assert threat.equivocates


class Cut(SerialExecutor):
    """Is interrupted before one of its cells."""

    def __init__(self, out: Path, after: int) -> None:
        super().__init__(out)
        self.left = after

    def _start(self, experiment: Experiment, wait: bool) -> Future[Any]:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return super()._start(experiment, wait)


@pytest.mark.slow
def test_what_was_interrupted_goes_on_where_it_stopped(tmp_path: Path) -> None:
    ensemble = {"blind": ("non_finite(on=both)",), "equivocating": ("dissensus",)}
    contest = WorstCaseSearch(TINY, [1000, 1001], [2000], parameters=SMALL, ensemble=ensemble)
    whole = contest.run(tmp_path / "whole", SerialExecutor(tmp_path / "whole"))
    again: list[bool] = []
    for after in (3, 2):
        with pytest.raises(KeyboardInterrupt):
            contest.run(tmp_path / "cut", Cut(tmp_path / "cut", after))
    worst = contest.run(
        tmp_path / "cut", SerialExecutor(tmp_path / "cut"), lambda label, outcome: again.append(outcome.reused)
    )
    assert worst == whole
    assert (len(again), sum(again)) == (contest.size, 5)
    assert worst.flags["attack inert"].why == "dissensus"  # agents who agree have nothing to be kept from
    assert worst.flags["non-finite survived"].raised
    assert "the method did not learn" in worst.notes[0]


def test_by_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    members = {"blind": ("sign_flip", "no_such_attack"), "colluding": ("avg_zero",)}
    monkeypatch.setattr(worst_case, "STANDARD_V1", members)
    words = "worst --topology complete --agents 5 --trajectories 30 --selection 1 --executor serial -p algo.N=4"
    monkeypatch.chdir(tmp_path)

    def call(*more: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["byzbench", *words.split(), *more])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
        captured = capsys.readouterr()
        return captured.out, captured.err

    out, err = call()
    assert "skipped: no_such_attack: unknown attack" in err
    assert "1/13  none · seed 1000: " in err
    assert all(f"  {name}: " in out for name in worst_case.FLAGS)
    assert "no certain harm; the lowest mean: " in out
    out, err = call("--json", "--also", "sign_flip,ipm")
    output = json.loads(out)
    assert not err
    assert output["attack"] in ("sign_flip", "avg_zero", "ipm")
    assert (output["also"], output["tried"]["ipm"]["needs"]) == (["ipm"], "also")
    assert output["ensemble"] == "standard-v1"
    assert set(output["flags"]) == set(worst_case.FLAGS)
    assert output["seeds"] == {"selection": [1000], "reporting": [2000, 2001, 2002, 2003, 2004]}
    assert output["tried"]["no_such_attack"]["mean"] is None
    assert np.isfinite([output[name]["value"] for name in ("clean", "attacked", "loss")]).all()


@pytest.mark.parametrize(
    "attack, message",
    [("ipn", "unknown attack 'ipn'. Did you mean 'ipm'"), ("ipm(size=0)", "size"), ("none", "remove 'none'")],
)
def test_a_further_attack_must_exist(attack: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        extend_ensemble(ENSEMBLE, [attack])


@pytest.fixture(scope="module")
def attacks_page() -> Any:
    spec = spec_from_file_location("attacks_page", CHECKOUT / "benchmarks" / "attacks_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["attacks_page"] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_attacks_is_up_to_date(attacks_page: Any) -> None:
    """Else: python benchmarks/attacks_page.py."""
    assert (CHECKOUT / "docs" / "attacks.md").read_text(encoding="utf-8") == attacks_page.page()
    pictures = {path.stem: path.stat().st_size for path in (CHECKOUT / "docs" / "attacks").glob("*.png")}
    assert set(pictures) == {name for name in attacks_page.ours() if attacks_page.drawn(name)}
    assert max(pictures.values()) < 15_000


def test_the_page_explains_every_flag(attacks_page: Any) -> None:
    assert set(attacks_page.FLAG_PAGES) == set(worst_case.FLAGS)


def test_the_pictures_show_the_messages(attacks_page: Any, tmp_path: Path) -> None:
    opposed = attacks_page.scene(*attacks_page.drawn("avg_zero"))
    torch.testing.assert_close(opposed.honest.sum(0) + opposed.messages[0].sum(0), torch.zeros(2), atol=1e-5, rtol=0)
    assert opposed.arrived.all()
    torch.testing.assert_close(attacks_page.scene(*attacks_page.drawn("sign_flip")).messages[3], -opposed.own)
    mute = attacks_page.scene(*attacks_page.drawn("silence"))
    assert (mute.arrived.any(), mute.num_malformed) == (False, 0)
    assert attacks_page.scene(*attacks_page.drawn("non_finite")).num_malformed > 0
    assert attacks_page.drawn("random_action") is None
    split = attacks_page.scene(*attacks_page.drawn("split_brain"))
    assert len(split.messages[:, 0].unique(dim=0)) == 2
    for name in ("one.png", "other.png"):
        attacks_page.draw(split, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
