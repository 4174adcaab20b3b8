"""Identity of runs: by behaviour, not by text."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from sealing import seal

import byzbench
from byzbench import Experiment, identity, registry
from byzbench.attacks.alie import Alie
from byzbench.canonical import hash_of
from byzbench.deprecation import deprecated_since
from byzbench.errors import ArchivedRun, BrokenPlugin, CorruptRecord, InvalidParameter, OtherLibraries
from byzbench.experiments import provenance, runner
from byzbench.experiments.provenance import recorded_identity
from byzbench.identity import ComponentIdentity, RunIdentity, code_digest, code_modules, identity_of
from byzbench.records.run_folder import RunFolder

TINY: dict[str, Any] = {"agents": 5, "byzantine": 1, "trajectories": 12, "preset": "paper"}
TINY |= {"parameters": {"algo": {"N": 6, "B": 2}}}
LISTED = identity.equal_digests()["attack alie"]["1"][0]

SOURCE = '''"""Half of the honest mean."""

from dataclasses import dataclass

from byzbench.attacks.zero import Zero

from ._size import SIZE


@dataclass(frozen=True)
class Half(Zero):
    """Send half of the honest mean."""

    def scale(self):
        # a comment
        return 0.5 * SIZE
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], type]:
    """A plug-in of two modules, without an __init__.py, imported anew for each text."""
    folder = tmp_path / "site" / "plugged"
    folder.mkdir(parents=True)
    monkeypatch.syspath_prepend(folder.parent)

    def imported(half: str, size: str) -> type:
        (folder / "half.py").write_text(half)
        (folder / "_size.py").write_text(size)
        for name in [name for name in sys.modules if name.partition(".")[0] == "plugged"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        identity._read.cache_clear()
        return importlib.import_module("plugged.half").Half

    return imported


def test_comments_and_docstrings_are_not_behaviour(package: Callable[[str, str], type]) -> None:
    digest = code_digest(package(SOURCE, "SIZE = 1.0\n"))
    same = SOURCE.replace("# a comment", "# another").replace("Send half", "Craft half").replace("\n\n\n", "\n\n")
    assert len(digest) == 16
    assert code_digest(package(same, '"""A size."""\nSIZE = 1.0  # one\n')) == digest
    assert code_digest(package(SOURCE.replace("0.5", "0.25"), "SIZE = 1.0\n")) != digest


def test_private_helpers_of_a_namespace_package_count(package: Callable[[str, str], type]) -> None:
    assert code_digest(package(SOURCE, "SIZE = 1.0\n")) != code_digest(package(SOURCE, "SIZE = 2.0\n"))


def test_a_module_that_is_imported_by_a_computed_name_counts(
    package: Callable[[str, str], type], tmp_path: Path
) -> None:
    """The package has no __init__.py. Its old result was reused, since no statement imports the edited module."""
    computed = SOURCE.replace("from ._size import SIZE", "from importlib import import_module").replace(
        "0.5 * SIZE", '0.5 * import_module("plugged._size").SIZE'
    )
    byzbench.run(attack=package(computed, "SIZE = -1.0\n")(), topology="complete", out=tmp_path, **TINY)
    with pytest.warns(ArchivedRun, match="attack half: its code was edited"):
        byzbench.run(attack=package(computed, "SIZE = 1e6\n")(), topology="complete", out=tmp_path, **TINY)


def test_all_modules_of_the_distribution_of_a_plugin_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two top-level modules and a package, of one distribution. A module of another one beside them does not count."""
    monkeypatch.syspath_prepend(tmp_path)
    texts = {
        "halved.py": SOURCE.replace("from ._size", "from halved_size"),
        "halved_size.py": "from halved_more.values import SIZE\n",
        "halved_more/values.py": "SIZE = 1.0\n",
        "somebodys.py": "SIZE = 1.0\n",
        "halved-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: halved\nVersion: 1.0\n",
        "halved-1.0.dist-info/entry_points.txt": "[byzbench.attacks]\nhalved = halved:Half\n",
        "halved-1.0.dist-info/top_level.txt": "halved\nhalved_size\nhalved_more\n",
    }

    def digest(**edits: str) -> str:
        for name, text in (texts | edits).items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        for name in [name for name in sys.modules if name.startswith("halved")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        for cached in (identity._read, identity._plugin_packages):
            cached.cache_clear()
        return code_digest(importlib.import_module("halved").Half)

    assert digest() == digest(**{"somebodys.py": "SIZE = 2.0\n"})
    assert digest() != digest(**{"halved_size.py": "from halved_more.values import SIZE\nSIZE = 2\n"})
    assert digest() != digest(**{"halved_more/values.py": "SIZE = 2.0\n"})


def test_shared_base_classes_count_as_the_engine() -> None:
    module = "byzbench.algorithms.clipped_gossip"
    assert list(code_modules(registry.find("algorithm", "clipped_gossip"))) == [module]


def test_a_plugin_has_the_versions_of_what_it_extends(package: Callable[[str, str], type]) -> None:
    recorded = identity_of(Experiment.create(attack=package(SOURCE, "SIZE = 1.0\n")(), **TINY))
    assert {"attack half", "attack zero"} <= recorded.components.keys()


def test_a_class_without_source_is_never_the_same() -> None:
    space: dict[str, Any] = {"__name__": "nowhere", "Alie": Alie, "dataclass": dataclasses.dataclass}
    exec("@dataclass(frozen=True)\nclass Typed(Alie):\n    pass\n", space)
    one = identity_of(Experiment.create(attack=space["Typed"](z=1.5), **TINY))
    (line,) = one.difference(one)
    assert line.endswith("its source cannot be read, so nothing says that it is the same")


@pytest.mark.parametrize(
    "then, now, message",
    [
        (ComponentIdentity(1, LISTED), ComponentIdentity(1, LISTED), None),
        (ComponentIdentity(1, LISTED), ComponentIdentity(2, "a"), "version 1 then, 2 now"),
        (ComponentIdentity(1, "a"), ComponentIdentity(1, LISTED), "its code was edited"),
        (ComponentIdentity(1, "a"), ComponentIdentity(1, "a"), None),
        (ComponentIdentity(1, "a", "x"), ComponentIdentity(1, "a", "y"), "a file that it reads was changed"),
        (None, ComponentIdentity(1, LISTED), None),
        (None, ComponentIdentity(2, "a"), "not part of the run then, version 2 now"),
        (None, ComponentIdentity(1, "a"), "not part of the run then, and its code was edited"),
        (ComponentIdentity(1, "a"), None, "part of the run then, not now"),
    ],
)
def test_differences_in_plain_text(then: Any, now: Any, message: str | None) -> None:
    def run(part: Any) -> RunIdentity:
        return RunIdentity("0" * 16, 1, {} if part is None else {"attack alie": part})

    assert run(then).difference(run(now)) == ([] if message is None else [f"attack alie: {message}"])


def test_two_listed_digests_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "equal_digests", lambda: {"attack alie": {"1": ("a", "b")}})
    runs = [RunIdentity("0" * 16, 1, {"attack alie": ComponentIdentity(1, digest)}) for digest in "abc"]
    assert not runs[0].difference(runs[1])
    assert runs[0].difference(runs[2]) == ["attack alie: its code was edited"]


@pytest.mark.parametrize("version", [0, -1, True, "1", 1.0, None])
def test_a_version_is_a_positive_integer(version: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = Experiment.create(attack="alie(z=1.5)", **TINY)
    monkeypatch.setattr(Alie, "version", version)
    with pytest.raises(BrokenPlugin, match="attack alie: version must be a positive integer, got"):
        identity_of(experiment)
    record = {"engine": 1, "components": {"attack alie": {"version": version, "digest": ""}}}
    with pytest.raises(CorruptRecord, match=r"x\.json: attack alie: version must be a positive integer"):
        RunIdentity.from_json("0" * 16, record, "x.json")


def test_a_raised_version_runs_again_what_uses_it_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for attack in ("alie(z=1.5)", "zero", "split_brain(alie(z=1.5))"):
        byzbench.run(attack=attack, topology="complete", out=tmp_path, **TINY)
    monkeypatch.setattr(Alie, "version", 2)
    calls: list[Any] = []
    byzbench.run(attack="zero", topology="complete", out=tmp_path, callback=calls.append, **TINY)
    assert not calls
    for attack in ("alie(z=1.5)", "split_brain(alie(z=1.5))"):
        with pytest.warns(ArchivedRun, match="attack alie: version 1 then, 2 now"):
            byzbench.run(attack=attack, topology="complete", out=tmp_path, **TINY)
    reasons = [json.loads(path.read_text())["reasons"] for path in tmp_path.glob("*-archived/archived.json")]
    assert reasons == [["attack alie: version 1 then, 2 now"]] * 2


def test_other_libraries_are_named_and_discard_nothing(tmp_path: Path) -> None:
    first = byzbench.run(attack="zero", out=tmp_path, **TINY)
    path = Path(str(first.run)) / "experiment.json"
    record = json.loads(path.read_text())
    record["code"]["versions"]["torch"] = "1.0"
    record["code"] |= {"digest": "0" * 64, "commit": "0" * 40}
    path.write_text(json.dumps(record))
    seal(path.parent)
    calls: list[Any] = []
    with pytest.warns(OtherLibraries, match=r"was computed with others: torch: 1\.0 then, "):
        reused = byzbench.run(attack="zero", out=tmp_path, callback=calls.append, **TINY)
    assert (reused.trace, reused.final) == (first.trace, first.final)
    assert not calls


class Cut(Exception):
    """The end of a process between two rounds."""


@pytest.mark.parametrize("cuts", [1, 2])
def test_an_unfinished_run_goes_on_with_another_processor_and_the_result_says_so(
    cuts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two cuts the processor that began it ends it."""
    processors = ["first", "second", "first"]
    rounds: list[int] = []

    def cut(line: Any) -> None:
        rounds.append(line["round"])
        if len(rounds) in (2, 4)[:cuts]:
            raise Cut

    monkeypatch.setattr(runner, "SAVE_EVERY", -1.0)
    options = {**TINY, "trajectories": 8 * TINY["trajectories"]}
    for processor in processors[:cuts]:
        monkeypatch.setattr(provenance, "processor", lambda name=processor: name)
        with nullcontext() if processor == "first" else pytest.warns(OtherLibraries), pytest.raises(Cut):
            byzbench.run(attack="zero", out=tmp_path, callback=cut, **options)
    monkeypatch.setattr(provenance, "processor", lambda: processors[cuts])
    with nullcontext() if cuts == 2 else pytest.warns(OtherLibraries, match="begun with others: processor: first then"):
        result = byzbench.run(attack="zero", out=tmp_path, callback=cut, **options)
    assert "resumed with others: processor: first then, second now" in result.notes
    assert len(rounds) == len(RunFolder(Path(str(result.run))).metrics()) + cuts
    assert [path.name for path in tmp_path.iterdir()] == [Path(str(result.run)).name]
    whole = byzbench.run(attack="zero", out=tmp_path / "whole", **options)
    assert whole.trace == result.trace
    assert not any("resumed" in note for note in whole.notes)


def test_a_run_without_a_checkpoint_is_of_the_processor_that_computes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(_: Any) -> None:
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(provenance, "processor", lambda: "another")
        with pytest.raises(Cut):
            byzbench.run(attack="zero", out=tmp_path, callback=cut, **TINY)
    result = byzbench.run(attack="zero", out=tmp_path, **TINY)
    record = json.loads((Path(str(result.run)) / "experiment.json").read_text())
    assert record["code"]["processor"] == provenance.processor()
    assert not any("resumed" in note for note in result.notes)


def test_the_trace_is_hashed_and_its_lines_are_frozen(tmp_path: Path) -> None:
    result = byzbench.run(attack="zero", out=tmp_path, **TINY)
    folder = RunFolder(Path(str(result.run)))
    lines, metrics = folder.metrics("trace.jsonl"), folder.metrics()
    assert [list(line) for line in lines] == [
        ["index", "time", "trajectories", "steps", "return", "state"] for _ in metrics
    ]
    for line, measured in zip(lines, metrics, strict=True):
        assert (line["index"], line["time"]) == (measured["round"], measured["round"])
        assert {k: line[k] for k in ("trajectories", "steps", "return")} == {
            k: measured[k] for k in ("trajectories", "steps", "return")
        }
        assert len(line["state"]) == 64
    assert len({line["state"] for line in lines}) == len(lines)
    record = folder.record()
    assert record is not None
    recorded = recorded_identity(record, folder.path)
    assert recorded is not None
    assert recorded.experiment == hash_of(record["experiment"]) == folder.path.name
    assert not recorded.difference(identity_of(Experiment.create(attack="zero", **TINY)))


@pytest.mark.parametrize("module", ["canonical", "deprecation", "identity", "records.migrations"])
def test_examples_hold(module: str) -> None:
    results = doctest.testmod(importlib.import_module(f"byzbench.{module}"))
    assert results.attempted
    assert not results.failed


def test_what_is_deprecated_says_what_to_use() -> None:
    @deprecated_since("0.9", "byzbench.old", "byzbench.new")
    def old() -> int:
        return 1

    with pytest.warns(DeprecationWarning, match=r"byzbench\.old is deprecated since byzbench 0\.9 and will be removed"):
        assert old() == 1
    with pytest.raises(InvalidParameter, match="a minor version is written like"):
        deprecated_since("1", "a", "b")
