"""The registry: what users may write, what they are told, and what outsiders may plug in."""

from __future__ import annotations

import importlib
import inspect
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from byzbench import catalogue, cli, registry
from byzbench.catalogue import build_catalogue, describe_class, describe_component, read_catalogue, summary
from byzbench.core import Component
from byzbench.errors import BrokenPlugin, InvalidParameter, UnknownName, UserError
from byzbench.randomness import Streams
from byzbench.registry import Spec, describe, find, from_description, make, name_of, origins, parse_spec

CHECKOUT = Path(__file__).resolve().parents[1]
SPIRAL = CHECKOUT / "examples" / "byzbench-spiral-attack"
BUILT_IN = [o for kind in registry.KINDS for o in origins(kind).values() if o.module.startswith("byzbench.")]
KRUM = Spec("krum")
DEEP = "-" * 100_000 + "1"


@pytest.mark.parametrize(
    "text, meant",
    [
        ("alie", Spec("alie")),
        ("  alie ", Spec("alie")),
        ("alie()", Spec("alie")),
        ("alie(z=1.5, rule='B')", Spec("alie", (), {"z": 1.5, "rule": "B"})),
        ("alie(1.5)", Spec("alie", (1.5,))),
        ("alie:z=1.5,rule=B", Spec("alie", (), {"z": 1.5, "rule": "B"})),
        (" alie : z = 1.5 , rule = B ", Spec("alie", (), {"z": 1.5, "rule": "B"})),
        ("alie:", Spec("alie")),
        ("alie:1.5", Spec("alie", (1.5,))),
        ("x(a=-2, b=-1e-3, c=[1, -2], d=None)", Spec("x", (), {"a": -2, "b": -1e-3, "c": [1, -2], "d": None})),
        ("x:a=-2,b=-1e-3,c=None,d=True", Spec("x", (), {"a": -2, "b": -1e-3, "c": None, "d": True})),
        (
            "x:lib:A/B-v0,d={'a': [1, [2, 3]], 'b': {'c': False}},e=1",
            Spec("x", ("lib:A/B-v0",), {"d": {"a": [1, [2, 3]], "b": {"c": False}}, "e": 1}),
        ),
        ("x:lib:A/B-v0(d={'a': [1, 2]}, e=1)", Spec("x", ("lib:A/B-v0",), {"d": {"a": [1, 2]}, "e": 1})),
        ("x:a/b(1)", Spec("x", ("a/b(1)",))),
        ("x(d={'a': None})", Spec("x", (), {"d": {"a": None}})),
        ("x(rule=B)", Spec("x", (), {"rule": Spec("B")})),
        ("bucketing(krum)", Spec("bucketing", (KRUM,))),
        ("bucketing:krum,s=3", Spec("bucketing", ("krum",), {"s": 3})),
        ("sleeper(alie(z=1.5), start=200)", Spec("sleeper", (Spec("alie", (), {"z": 1.5}),), {"start": 200})),
        ("bucketing+krum", Spec("bucketing", (KRUM,))),
        ("bucketing(s=2) + krum(power=1)", Spec("bucketing", (Spec("krum", (), {"power": 1}),), {"s": 2})),
        ("nnm+bucketing+krum", Spec("nnm", (Spec("bucketing", (KRUM,)),))),
        ("a+b+c+krum", Spec("a", (Spec("b", (Spec("c", (KRUM,)),)),))),
        ("bucketing(nnm+krum, s=2)", Spec("bucketing", (Spec("nnm", (KRUM,)),), {"s": 2})),
    ],
)
def test_every_written_form(text: str, meant: Spec) -> None:
    assert parse_spec(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "1.5",
        "a b",
        "a-b",
        "alie(z=1",
        "1+alie",
        "alie+1",
        "alie(z=inf)-1",
        "alie(**{'z': 1})",
        "alie(*[1])",
        "alie(z=1 if 2 else 3)",
        "alie(z=open('/etc/passwd'))()",
        "__import__('os').system('true')",
        "alie(z={[]: 1})",
        "alie\0",
        pytest.param(f"alie(z={DEEP})", id="deep-value"),
        pytest.param("a(" * 500 + ")" * 500, id="deep-nesting"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_forms_that_can(text: str) -> None:
    with pytest.raises(UserError, match=r"^cannot read .*name:key=value or outer\+inner$"):
        parse_spec(text)


@pytest.mark.parametrize("text", ["alie(z=1, z=2)", "alie:z=1,z=2", "bucketing(a(x=1, x=1))"])
def test_a_parameter_is_given_once(text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"given twice"):
        parse_spec(text)


@pytest.mark.parametrize(
    "text, value",
    [
        ("1", 1),
        (" -1.5 ", -1.5),
        ("None", None),
        ("[1, 2]", [1, 2]),
        ("'B'", "B"),
        ("B", "B"),
        ("", ""),
        ("{[]: 1}", "{[]: 1}"),
        pytest.param(DEEP, DEEP, id="deep"),
    ],
)
def test_a_value_is_a_literal_or_the_text(text: str, value: object) -> None:
    assert registry.literal(text) == value


def test_unnamed_parameters_fill_the_components_slot_or_the_fields_in_order() -> None:
    assert make("attack", "alie(1.5)") == make("attack", "alie(z=1.5)")
    assert make("attack", "alie(1.5, B)") == make("attack", "alie(z=1.5, rule=B)")
    assert make("aggregator", "bucketing(krum)") == make("aggregator", "bucketing(inner=krum)")
    assert make("aggregator", "bucketing:krum") == make("aggregator", "bucketing+krum")


def test_nested_components_are_built_with_their_own_parameters() -> None:
    built = describe(make("aggregator", "bucketing(s=3)+bucketing+krum(power=1)"))
    assert built["parameters"]["s"] == 3
    inner = built["parameters"]["inner"]
    assert (inner["name"], inner["parameters"]["s"]) == ("bucketing", 2)
    assert inner["parameters"]["inner"]["name"] == "krum"
    assert inner["parameters"]["inner"]["parameters"]["power"] == 1


def test_further_parameters_win() -> None:
    spec = registry.with_parameters("attack", "alie(z=1, rule=B)", {"z": 2})
    assert spec.parameters == {"z": 2, "rule": Spec("B")}
    assert make("attack", "alie", z=2, rule="B") == make("attack", spec)


def test_a_component_is_built_as_it_is() -> None:
    rule = make("aggregator", "krum")
    assert make("aggregator", rule) is rule


@pytest.mark.parametrize(
    "kind, written, message",
    [
        ("attack", "alei", "unknown attack 'alei'. Did you mean 'alie'? Run `byzbench list attacks`"),
        ("attack", "flip", "unknown attack 'flip'. Did you mean 'sign_flip', 'action_flip', 'reward_flip'?"),
        ("aggregator", "rfa_with_steps", "Did you mean 'rfa'?"),
        ("attack", "zzz", "unknown attack 'zzz'. Run `byzbench list attacks`"),
        ("algo", "byz", "unknown algorithm 'byz'. Did you mean 'byzpg', 'decbyzpg'?"),
        ("env", "cartpol", "unknown task 'cartpol'. Did you mean 'cartpole'? Run `byzbench list tasks`"),
        ("aggregator", "bucketing+krun", "unknown aggregator 'krun'. Did you mean 'krum'?"),
        ("aggregator", "bucketing+alie", "unknown aggregator 'alie'"),
        ("algorithm", "_page", "unknown algorithm '_page'"),
        ("attack", "__init__", "unknown attack '__init__'"),
    ],
)
def test_an_unknown_name_brings_near_ones(kind: str, written: str, message: str) -> None:
    with pytest.raises(UnknownName) as refused:
        make(kind, written)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "kind, written, message",
    [
        ("attack", "sign_flip(scle=2)", "'sign_flip': no parameter 'scle'. Did you mean 'scale'? Its parameters: on, "),
        ("attack", "large_noise:equi=1", "Did you mean 'equivocate'?"),
        ("attack", "none(on=both)", "'none': no parameter 'on'. It has none."),
        ("attack", "alie(1, 2, 3, 4, 5, 6, 7)", "at most 5 of its parameters can be given without a name"),
        ("attack", "alie(1, z=1)", "z is given twice"),
        ("attack", "alie(z=krum(power=1))", "z takes a value, not a component"),
        ("aggregator", "bucketing(rfa, krum)", "at most 1 of its parameters can be given without a name"),
        ("aggregator", "bucketing(inner=3)", "inner takes the name of a component, got 3"),
        ("aggregator", "bucketing(inner={})", "inner takes the name of a component, got {}"),
        ("aggregator", "bucketing+krum(power=3)", "aggregator 'krum': power=3"),
    ],
)
def test_a_wrong_parameter_brings_the_right_ones(kind: str, written: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        make(kind, written)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "value", [0, -1, -0.0, "nan", math.nan, math.inf, -math.inf, "1e999", "x", "", [1], {"a": 1}, 1j]
)
def test_what_no_deviation_can_be_is_refused(value: object) -> None:
    with pytest.raises(InvalidParameter, match=r"^attack 'alie': z="):
        make("attack", "alie", z=value)


@pytest.mark.parametrize("value", [2, "1_0", "x", -1, 0.5, math.nan, None])
def test_what_no_switch_can_be_is_refused(value: object) -> None:
    with pytest.raises(InvalidParameter, match=r"^attack 'alie': ddof="):
        make("attack", "alie", ddof=value)


def test_numbers_in_quotes_are_numbers() -> None:
    assert make("attack", "alie", z="1.5") == make("attack", "alie", z=1.5)
    assert describe(make("attack", "alie", z="1.5"))["parameters"]["z"] == 1.5


@pytest.mark.parametrize("kind, folder", registry.KINDS.items())
def test_a_kind_answers_to_its_name_its_plural_and_its_flag(kind: str, folder: str) -> None:
    assert [registry.kind_of(word) for word in (kind, folder, registry.FLAGS[kind])] == [kind] * 3


def test_an_unknown_kind_brings_all_kinds() -> None:
    message = r"unknown kind 'atack'\. Did you mean 'attack'.*Kinds: algorithm, .*schedule\."
    with pytest.raises(UnknownName, match=message):
        registry.kind_of("atack")


NEEDED = {
    "gymnasium": "gymnasium:Acrobot-v1",
    "pettingzoo": "pettingzoo:mpe2/simple_spread_v3",
    "from_file": "from_file(path='graph.txt')",
}
WRITTEN = [(o.kind, NEEDED.get(o.name, o.name)) for o in BUILT_IN] + [
    ("attack", "alie(z=1.5, rule=B, whose=honest, sign=plus, ddof=1, on=both)"),
    ("attack", "large_noise(scale=3, equivocate=False, on=gradient)"),
    ("attack", "random_action(constant=1)"),
    ("algorithm", "decbyzpg(N=7, B=2, p=1, lr=0.1, optimizer=sgd, reference=local)"),
    ("aggregator", "bucketing(s=3)+bucketing+krum(power=1)"),
    ("topology", "star(hub=agent)"),
    ("topology", "random_regular(degree=4)"),
]


@pytest.mark.parametrize("kind", registry.KINDS)
def test_a_description_survives_json_and_means_the_same(kind: str) -> None:
    for written in [written for k, written in WRITTEN if k == kind]:
        component = make(kind, written)
        description = json.loads(json.dumps(describe(component), allow_nan=False))
        assert description["name"] == parse_spec(written).name
        assert from_description(kind, description) == component


@pytest.mark.parametrize("kind", registry.KINDS)
def test_a_zoo_file_holds_one_documented_component(kind: str) -> None:
    for origin in [origin for origin in BUILT_IN if origin.kind == kind]:
        check_file(origin)


def check_file(origin: registry.Origin) -> None:
    """Check that the module of a component holds one component with a docstring, and is neither short nor long."""
    module = importlib.import_module(origin.module)
    here = [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__]
    public = [c for c in here if issubclass(c, Component) and not c.__name__.startswith("_")]
    assert public == [find(origin.kind, origin.name)]
    assert public[0].kind == origin.kind
    assert name_of(public[0]) == origin.name
    assert module.__doc__
    text = inspect.getdoc(public[0])
    assert text
    assert summary(origin) == text.split("\n")[0]
    assert summary(origin).endswith((".", ":"))
    assert 15 <= len(Path(str(module.__file__)).read_text().splitlines()) <= 200


def test_help_lists_and_descriptions_import_little() -> None:
    script = """
import sys, typer
from byzbench import cli
HEAVY = {"torch", "numpy", "gymnasium", "networkx", "matplotlib", "scipy", "wandb", "optuna"}
def run(*words, without):
    sys.argv = ["byzbench", *words]
    try:
        cli.main()
    except SystemExit as end:
        assert not end.code, words
    loaded = without & set(sys.modules)
    assert not loaded, (words, loaded)
run("--help", without=HEAVY | {"pydantic"})
for name, command in typer.main.get_command(cli.app).commands.items():
    for inner in ("", *getattr(command, "commands", ())):
        run(name, *filter(None, [inner]), "--help", without=HEAVY | {"pydantic"})
run("list", without=HEAVY)
run("list", "attacks", "--json", without=HEAVY)
run("list", "attacks", "--where", "strength=blind", without=HEAVY)
run("show", "aggregator", "krum", without=HEAVY)
run("show", "attack", "alie", "--json", without=HEAVY)
loaded = [m for m in sys.modules if m.startswith(("byzbench.attacks", "byzbench.aggregators"))]
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert '"name": "alie"' in done.stdout


def test_the_catalogue_is_that_of_the_classes() -> None:
    present, stored = build_catalogue(), read_catalogue()
    assert {kind: list(entries) for kind, entries in stored.items()} == {k: list(e) for k, e in present.items()}
    for kind, entries in present.items():
        changed = [name for name, entry in entries.items() if entry != stored[kind][name]]
        assert not changed, f"{kind}: {changed}: run `make traces`"


def test_an_edited_component_is_described_by_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = read_catalogue()["aggregator"]["krum"] | {"text": "Old text."}
    origin = registry.find_origin("aggregator", "krum")
    monkeypatch.setattr(catalogue, "read_catalogue", lambda: {"aggregator": {"krum": entry}})
    assert describe_component(origin).text == "Old text."
    entry["sha256"] = "of another file"
    assert describe_component(origin) == describe_class(find("aggregator", "krum"))


Install = Callable[..., None]

SHOUT = '''"""A plug-in."""
from dataclasses import dataclass
from byzbench.core import Aggregator, Attack

@dataclass(frozen=True)
class Shout(Attack):
    """Attackers who shout."""
    loud: int

class NoDataclass(Attack):
    """Nobody decorated it."""

@dataclass(frozen=True)
class NoFormula(Aggregator):
    """An aggregator without a call."""

@dataclass
class NoAttack:
    """Derived from nothing."""

NUMBER = 3
'''


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a distribution `foo` with one module on the path, as pip would have left it."""

    def forget() -> None:
        origins.cache_clear()
        registry._import.cache_clear()
        sys.modules.pop("foo", None)

    def install(entry: str, source: str = SHOUT, group: str = "byzbench.attacks") -> None:
        (tmp_path / "foo.py").write_text(source)
        info = tmp_path / "foo-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foo\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{entry}\n")
        monkeypatch.syspath_prepend(tmp_path)
        forget()

    yield install
    monkeypatch.undo()
    forget()


def listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    monkeypatch.setattr(sys, "argv", ["byzbench", "list", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    return capsys.readouterr().out


def test_a_plugin_is_found_by_the_name_of_its_entry_point(install: Install) -> None:
    install("yell = foo:Shout")
    origin = origins("attack")["yell"]
    assert origin.distribution == "foo 1.0"
    assert summary(origin) == "Attackers who shout."
    assert "foo" not in sys.modules
    attack = make("attack", "yell(loud=3)")
    assert describe(attack) == {"name": "yell", "parameters": {"loud": 3}}
    assert from_description("attack", describe(attack)) == attack


def test_a_parameter_without_a_default_must_be_given(install: Install) -> None:
    install("yell = foo:Shout")
    with pytest.raises(InvalidParameter, match=r"^attack 'yell': a value is needed for loud$"):
        make("attack", "yell")


@pytest.mark.parametrize(
    "source, message",
    [
        ("raise ValueError('no\\nluck')", "ValueError: no"),
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
        ("def (", "SyntaxError: "),
        ("\0", "Error: source code"),
    ],
)
def test_a_plugin_that_cannot_be_imported_breaks_only_itself(
    install: Install, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], source: str, message: str
) -> None:
    install("yell = foo:Shout", source)
    text = listed(monkeypatch, capsys, "attacks")
    assert "yell" in text
    assert "alie" in text
    assert find("attack", "alie")
    with pytest.raises(BrokenPlugin) as refused:
        find("attack", "yell")
    assert str(refused.value).startswith("attack 'yell' of foo 1.0 cannot be imported: ")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("attribute", ["NoDataclass", "NoFormula", "NoAttack", "NUMBER", "Missing"])
def test_an_entry_point_must_name_a_dataclass_of_its_kind(install: Install, attribute: str) -> None:
    install(f"yell = foo:{attribute}")
    with pytest.raises(BrokenPlugin, match=r"^attack 'yell' of foo 1\.0: foo has no dataclass derived from Attack$"):
        find("attack", "yell")


def test_a_plugin_must_define_what_its_kind_leaves_open(install: Install) -> None:
    install("half = foo:NoFormula", group="byzbench.aggregators")
    with pytest.raises(BrokenPlugin, match=r"foo 1\.0: NoFormula does not define aggregate$"):
        make("aggregator", "half")


def test_of_two_that_share_a_name_the_built_in_stays_and_one_line_says_so(install: Install) -> None:
    install("alie = foo:Shout")
    with pytest.warns(
        UserWarning, match=r"^attack 'alie' of foo 1\.0 is ignored: byzbench .* has that name$"
    ) as warnings:
        zoo = origins("attack")
    assert len(warnings) == 1
    assert origins("attack") is zoo
    assert zoo["alie"].module == "byzbench.attacks.alie"
    assert find("attack", "alie").__name__ == "Alie"


TINY = ["--trajectories", "60", "--agents", "5", "--byzantine", "1", "-p", "algorithm.N=10"]


@pytest.fixture(scope="module")
def spiral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, installed as a outsider would install it; copied first, because a build leaves files behind."""
    home = tmp_path_factory.mktemp("spiral")
    copy = shutil.copytree(SPIRAL, home / "source", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    options = ["--no-deps", "--no-build-isolation", "--target", str(home / "site")]
    done = subprocess.run([*pip, *options, str(copy)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return home / "site"


def outsider(site: Path, cwd: Path, *words: str) -> dict | list:
    """What the command prints as JSON where the example is installed."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(CHECKOUT)])}
    command = [sys.executable, "-m", "byzbench", *words, "--json"]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_example_is_listed_and_shown_with_its_distribution(spiral: Path, tmp_path: Path) -> None:
    (entry,) = [c for c in outsider(spiral, tmp_path, "list", "attacks") if c["name"] == "spiral"]
    assert entry["distribution"] == "byzbench-spiral-attack 1.0"
    assert entry["summary"].startswith("Send the mean")
    shown = outsider(spiral, tmp_path, "show", "attack", "spiral")
    assert isinstance(shown, dict)
    assert shown["knows"] == "byzantine"
    (turn,) = [p for p in shown["parameters"] if p["name"] == "turn"]
    assert turn["bounds"].startswith("> 0, <= 3.14")


@pytest.mark.slow
def test_the_example_gives_the_same_bytes_twice_and_its_code_is_on_record(spiral: Path, tmp_path: Path) -> None:
    def trained(out: str, site: Path) -> Path:
        result = outsider(site, tmp_path, "run", "--attack", "spiral", *TINY, "--out", out)
        assert isinstance(result, dict)
        return tmp_path / result["run"]

    def edited(text: str) -> Path:
        copy = shutil.copytree(spiral, tmp_path / text[0], ignore=shutil.ignore_patterns("__pycache__"))
        with open(copy / "byzbench_spiral.py", "a") as source:
            source.write(text)
        return copy

    first, second, third = trained("one", spiral), trained("two", spiral), trained("three", edited("MORE = 1\n"))
    commented = trained("four", edited("# the same code\n"))
    for name in ("metrics.jsonl", "experiment.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert (first / "metrics.jsonl").read_bytes() == (third / "metrics.jsonl").read_bytes()
    records = [json.loads((run / "experiment.json").read_text()) for run in (first, commented, third)]
    one, same, other = (record["identity"]["components"]["attack spiral"]["digest"] for record in records)
    assert one == same != other


def test_the_example_turns_the_mean_and_keeps_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SPIRAL)
    attack = importlib.import_module("byzbench_spiral").Spiral(turn=0.3)
    honest = torch.linspace(-1, 2, 12).reshape(2, 6)
    mean, memory, crafted = honest.mean(0), {}, []
    for round in (0, 1, 4):
        context = SimpleNamespace(byzantine=honest, topic="gradient", round=round)
        messages, memory = attack.craft_messages(context, memory, Streams(round).generator("attack"))
        assert torch.equal(messages.vectors[0], messages.vectors[1])
        crafted.append(messages.vectors[0])
    assert torch.allclose(crafted[0], mean)
    for vector, round in zip(crafted, (0, 1, 4), strict=True):
        assert float(vector.norm()) == pytest.approx(float(mean.norm()), rel=1e-5)
        assert float(torch.cosine_similarity(vector, mean, dim=0)) == pytest.approx(math.cos(0.3 * round), abs=1e-5)
    # Three vectors of one plane have no volume: the direction stayed although each round had a stream of its own.
    plane = torch.stack(crafted).double()
    assert torch.linalg.svdvals(plane)[2] < 1e-5
    assert all(isinstance(value, torch.Tensor) for value in memory.values())
