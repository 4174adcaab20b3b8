"""`byzbench bench aggregators`."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from byzbench.cli import app
from byzbench.errors import UserError
from byzbench.experiments.bench import Trial, benchmark_rules

SMALL = Trial(agents=9, byzantine=2, dimension=20, rounds=3)


def test_the_error_of_the_mean_is_that_of_the_formula():
    """Two of nine who send minus what they computed: value - m = (2/9) (b - m), of which the honest part is known."""
    trial = Trial(agents=9, byzantine=2, dimension=2000, rounds=5, signal=3.0)
    (row,) = benchmark_rules(["mean"], ["sign_flip"], trial)
    # b is near minus the mean of length 3, m near that mean: 2/9 of 6 away, give or take the noise of so few.
    assert row.errors["sign_flip"] == pytest.approx(2 / 9 * 6, rel=0.1)


def test_rules_differ_and_results_repeat():
    rows = benchmark_rules(["mean", "median", "nnm+krum"], ["large_noise", "none"], SMALL)
    assert rows[-1].rule == "mean"
    assert 10 * rows[0].worst < rows[-1].worst
    assert [o.errors for o in benchmark_rules(["mean", "median", "nnm+krum"], ["large_noise", "none"], SMALL)] == [
        o.errors for o in rows
    ]
    assert all(o.milliseconds > 0 for o in rows)
    assert {o.rule: o.guarantee for o in rows} == {"mean": False, "median": True, "nnm+krum": True}


def test_an_undefined_trial_has_a_reason():
    (row,) = benchmark_rules(["mda"], ["none"], Trial(agents=4, byzantine=3, dimension=3))
    assert row.errors, "an agent never allows for half of what it hears"
    (row,) = benchmark_rules(["monna:pivot=12"], ["none"], SMALL)
    assert "not defined" in row.why
    assert not row.errors


@pytest.mark.parametrize("wrong", [{"dimension": 0}, {"rounds": 0}, {"signal": -1.0}, {"signal": float("nan")}])
def test_a_trial_is_checked(wrong):
    with pytest.raises(UserError):
        Trial(**wrong)


def test_the_command_prints_a_table_or_json():
    args = ["bench", "aggregators", "--aggregator", "mean,krum", "-x", "sign_flip", "-d", "9", "--rounds", "2"]
    shown = CliRunner().invoke(app, args)
    assert shown.exit_code == 0
    assert "krum" in shown.stdout
    assert "no guarantee" in shown.stdout
    output = json.loads(CliRunner().invoke(app, [*args, "--json"]).stdout)
    assert {row["rule"] for row in output} == {"mean", "krum"}
    assert all(set(row["errors"]) == {"sign_flip"} for row in output)


@pytest.mark.parametrize("wrong", [["--aggregator", "bogus"], ["-x", "bogus"], ["--dimension", "0"], ["--agents", "0"]])
def test_mistakes_are_user_errors(wrong):
    outcome = CliRunner().invoke(app, ["bench", "aggregators", *wrong])
    assert isinstance(outcome.exception, UserError)
