"""`byzbench check`: a report on one component, and what it says where there is none."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from byzbench import cli
from byzbench.testing import attacks, rules

CHECKOUT = Path(__file__).resolve().parents[1]

HEAD = '''"""A plug-in."""
from __future__ import annotations
from dataclasses import dataclass
from byzbench.contracts import Aggregator, MessageAttack, Speech, Threat

'''
HALF = (
    HEAD
    + '''
@dataclass(frozen=True)
class Half(MessageAttack):
    """Liars who send half of it."""
    factor: float = 0.5

    @property
    def threat(self):
        return Threat(sees=frozenset({"own"}))

    def speak(self, view, memory, rng):
        return Speech(self.factor * view.own), memory
'''
)
NOSY = HALF.replace("self.factor * view.own", "0 * view.own + view.honest[:1]")
CENTRE = (
    HEAD
    + '''
@dataclass(frozen=True)
class Centre(Aggregator):
    """The mean, and no defence."""

    def __call__(self, x, f=0, *, mask=None, **unused):
        shown = 1.0 if mask is None else mask.unsqueeze(-1).to(x.dtype)
        return (x * shown).sum(-2) / (x[..., :1] * 0 + shown).sum(-2), None, {}
'''
)


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def rows(self) -> dict[str, tuple[str, str]]:
        """Check -> result and reason, of the table."""
        found = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in self.out.splitlines() if line.startswith("| ")]
        assert found[0] == ["check", "result", "reason"]
        return {name: (result, reason) for name, result, reason in found[1:]}


Command = Callable[..., Outcome]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # the command puts its own in place

    def run(*words: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["byzbench", "check", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert isinstance(end.value.code, int)
        return Outcome(end.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], str]:
    def write(source: str) -> str:
        path = tmp_path / "mine.py"
        path.write_text(source)
        return str(path)

    return write


def test_an_attack_that_keeps_its_contract(check: Command, write: Callable[[str], str]) -> None:
    path = write(HALF)
    done = check(path)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"# attack Half\n\n`{path}`: all checks passed.\n\n| check | result | reason |\n|---|")
    assert [*done.rows] == [c.__name__ for c in attacks.CHECKS]
    assert {result for result, _ in done.rows.values()} == {"passed"}
    assert all(reason.endswith((".", ":")) for _, reason in done.rows.values())


def test_an_attack_that_does_not(check: Command, write: Callable[[str], str]) -> None:
    done = check(write(NOSY))
    assert done.code == 1
    result, reason = done.rows["it_reads_only_what_it_declares"]
    assert result == "failed"
    assert reason.startswith("an attack read view.honest; its threat declares own (Case(seed=0")
    assert "checks failed" in done.out
    result, reason = done.rows["the_same_game_is_played_the_same"]
    assert reason.startswith("UndeclaredKnowledge: ")
    assert done.rows["without_liars_it_is_inert"][0] == "passed"


def test_an_exempt_check_counts_for_nothing(check: Command) -> None:
    assert check("non_finite").code == 1
    done = check("non_finite", "--exempt", "speech_is_finite")
    assert done.code == 0
    assert done.rows["speech_is_finite"][0] == "exempt"
    assert done.rows["speech_is_finite"][1].startswith("a vector is not finite (")


def test_aggregators_have_a_kit_of_their_own(check: Command, write: Callable[[str], str]) -> None:
    done = check(write(CENTRE))
    assert done.code == 1
    assert "# aggregator Centre" in done.out
    assert [*done.rows] == [c.__name__ for c in rules.CHECKS]
    failed = {name for name, (result, _) in done.rows.items() if result == "failed"}
    assert failed == {
        "liars_move_it_by_no_more_than_the_honest_spread",
        "liars_at_a_distance_do_less_to_it_than_to_the_mean",
        "absurd_lies_cost_no_precision",
    }
    assert done.rows["absurd_lies_cost_no_precision"][1].startswith("Check that Byzantine vectors at 1e30")


@pytest.mark.parametrize("name", ["sign_flip", "alie:z=1.5", "large_noise(equivocate=False)", "median"])
def test_a_registered_name_as_it_is_written_elsewhere(check: Command, name: str) -> None:
    done = check(name)
    assert done.code == 0, done.out
    assert f"`{name}`" in done.out


def test_the_example_keeps_its_contract(check: Command) -> None:
    assert check(str(CHECKOUT / "examples" / "byzbench-spiral-attack" / "byzbench_spiral.py")).code == 0


@pytest.mark.parametrize(
    "words, said",
    [
        ("nowhere.py", "there is no file nowhere.py"),
        ("no/where", "there is no file no/where"),
        ("alei", "'alei' is not a file, and not an attack or aggregator. Did you mean 'alie'"),
        ("krum --kind attack", "'krum' is not a file, and not an attack."),
        ("alie:z=0", "z=0: Input should be greater than 0"),
        ("alie --exempt speech_is_finit", "no check 'speech_is_finit'. Did you mean 'speech_is_finite'? Checks of an "),
        ("alie --kind topology", "topology"),
        ("", "Missing argument"),
    ],
)
def test_a_mistake_is_one_line(check: Command, words: str, said: str) -> None:
    done = check(*words.split())
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert done.err.startswith("byzbench: error: ")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    "source, said",
    [
        ("x = 1", "a file must define one attack or one aggregator; this one defines none"),
        (HALF + CENTRE.removeprefix(HEAD), "this one defines Half, Centre"),
        (HEAD + "class _Hidden(MessageAttack): pass", "this one defines none"),
        (HEAD + "class Plain(MessageAttack): pass", "Plain is not a dataclass: write @dataclass(frozen=True) above it"),
        (HEAD + "@dataclass(frozen=True)\nclass Empty(Aggregator): pass", "Empty does not define __call__"),
        (HALF.replace("float = 0.5", "float"), "Half cannot be built with its defaults: "),
        ("raise ValueError('no\\nluck')", "cannot be imported: ValueError: no luck"),
        ("raise SystemExit('bye')", "cannot be imported: SystemExit: bye"),
        ("def (", "cannot be imported: SyntaxError: "),
    ],
)
def test_a_file_without_one_component_is_one_line(
    check: Command, write: Callable[[str], str], source: str, said: str
) -> None:
    done = check(write(source))
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert done.err.count("\n") == 1
