"""Comparison of the code that is here with the golden file."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from byzbench import identity, registry
from byzbench.catalogue import Catalogue, build_catalogue, read_catalogue
from byzbench.core import Component
from byzbench.errors import BrokenPlugin
from byzbench.experiments.provenance import processor
from byzbench.identity import checked_version, code_digest, code_modules
from tests.golden import groups, store
from tests.golden.comparison import ENGINE, Case, dependents, differences, edited_modules, responsible
from tests.golden.libraries import libraries
from tests.golden.limits import time_limit
from tests.golden.parts import Inputs, shipped

COMMAND = "`make traces`"

UNSTABLE = 0.01
"""The share of cases that may deviate where outputs are compared with a tolerance."""

SECONDS = 30
"""The limit of a case in processor seconds, which other processes do not use up.

After three cases that exceeded it, one second."""


@dataclass(frozen=True)
class Computed:
    """A case as the code that is here computes it.

    Attributes:
        inputs: of the case.
        components: the names of the components whose code it runs.
        outputs: of the case; `error` alone if it raised one.
        stored: the outputs of the golden file; None if it has none.
        seconds: the time that it took.
    """

    inputs: Inputs
    components: frozenset[str]
    outputs: dict[str, Any]
    stored: dict[str, Any] | None
    seconds: float


class Check:
    """The comparison of all cases, or of those whose name contains `only`.

    Attributes:
        golden: the golden file.
        classes: by name, every component of byzbench.
        versions: of every component and of the engine.
        generated: by name, every case that there should be.
        computed: by name, every stored case that is not obsolete.
        obsolete: stored cases that are no longer generated, or use a component that was removed, with the reason.
        cases: the same, with what moved.
        unstable: cases that deviate where outputs are compared with a tolerance, too few to count as moved.
    """

    def __init__(self, only: str = "") -> None:
        self.golden = store.read()
        self.classes: dict[str, type[Component]] = {
            f"{kind} {key}": registry.find(kind, name) for kind in registry.KINDS for name, key in shipped(kind)
        }
        self.versions = {ENGINE: identity.ENGINE} | {
            name: checked_version(cls.version, f"{name}: version", BrokenPlugin) for name, cls in self.classes.items()
        }
        self._only, self._num_slow, self.generated = only, 0, groups.generated()
        stored = self._stored()
        self.obsolete = {name: reason for name, inputs in stored.items() if (reason := self._obsolete(name, inputs))}
        self.computed = {n: self.compute(n, inputs) for n, inputs in stored.items() if n not in self.obsolete}
        self.unstable: list[str] = []
        self.cases = [self._compare(name) for name in self.computed]
        if not self.exact:
            self._set_unstable_aside()

    def _stored(self) -> dict[str, Inputs]:
        """Return the inputs of the cases of the golden file."""
        entries, base = self.golden["entries"], self.golden["base"]
        return {name: groups.whole(entry["inputs"], base) for name, entry in entries.items() if self._only in name}

    def _obsolete(self, name: str, inputs: Inputs) -> str:
        """Return why a case of the golden file cannot be compared any more; empty if it can."""
        if name not in self.generated:
            return "is no longer generated"
        removed = sorted(groups.described_components(inputs) - self.classes.keys())
        return f"uses {removed[0]}, which was removed" if removed else ""

    def compute(self, name: str, inputs: Inputs) -> Computed:
        """Compute a case. An exception becomes its output."""
        start = time.perf_counter()
        try:
            with time_limit(SECONDS if self._num_slow < 3 else 1):
                outputs = json.loads(json.dumps(groups.outputs(name, inputs)))
        except Exception as error:
            self._num_slow += isinstance(error, TimeoutError)
            function = traceback.extract_tb(error.__traceback__)[-1].name
            text = str(error).partition("\n")[0][:200]
            outputs = {"error": f"{type(error).__name__}: {text} ({function})"}
        stored = self.golden["entries"].get(name, {}).get("outputs")
        return Computed(inputs, groups.components(inputs), outputs, stored, time.perf_counter() - start)

    def _compare(self, name: str) -> Case:
        computed = self.computed[name]
        assert computed.stored is not None
        moved = differences(computed.stored, computed.outputs, self.exact)
        return Case(name, computed.components, moved)

    def _set_unstable_aside(self) -> None:
        """Take a few cases without an edited component for unmoved: where vectors tie, rounding decides."""
        deviating = [case for case in self.cases if case.moved and not case.components & self.edited.keys()]
        if len(deviating) <= UNSTABLE * len(self.cases):
            self.unstable = [case.name for case in deviating]
            self.cases = [replace(case, moved=[]) if case.name in self.unstable else case for case in self.cases]

    @cached_property
    def exact(self) -> bool:
        """True if outputs must be equal to the bit: on the processors and with the libraries of the golden file."""
        return processor() in self.golden["processors"] and libraries() == self.golden["libraries"]

    @cached_property
    def modules(self) -> dict[str, Mapping[str, str]]:
        """By component, the digest of each module whose code defines it."""
        return {name: code_modules(cls) for name, cls in self.classes.items()}

    @cached_property
    def edited(self) -> dict[str, frozenset[str]]:
        """By component that was edited since outputs were stored, its edited modules."""
        return edited_modules(self.modules, self.golden["modules"])

    @cached_property
    def responsible(self) -> dict[str, dict[str, list[str]]]:
        """By component whose version must be raised, or `ENGINE`, the cases that moved."""
        defined_in = {name: cls.__module__ for name, cls in self.classes.items()}
        return responsible(self.cases, self.edited, defined_in)

    @property
    def dependents(self) -> list[str]:
        """Components that moved because they use one that is responsible."""
        return dependents(self.cases, self.edited, self.responsible)

    @property
    def missing(self) -> list[str]:
        """Components without a golden entry."""
        covered = {component for case in self.cases for component in case.components}
        return [] if self._only else sorted(self.classes.keys() - covered)

    @property
    def unlisted(self) -> list[str]:
        """Components whose code is not listed as equal for their version."""
        listed = store.read_equal_digests()
        return sorted(
            name
            for name, cls in self.classes.items()
            if code_digest(cls) not in listed.get(name, {}).get(str(self.versions[name]), ())
        )

    @cached_property
    def catalogue(self) -> Catalogue:
        """The descriptions of all components by the code that is here."""
        return build_catalogue()

    @property
    def undescribed(self) -> list[str]:
        """Components whose description or file is not that of the catalogue."""
        stored, present = read_catalogue(), self.catalogue
        names = {(kind, name) for catalogue in (stored, present) for kind in catalogue for name in catalogue[kind]}
        return sorted(
            f"{kind} {name}"
            for kind, name in names
            if stored.get(kind, {}).get(name) != present.get(kind, {}).get(name)
        )

    @property
    def raised(self) -> list[str]:
        """Components, or `ENGINE`, whose version is not that of the golden file."""
        stored = self.golden["versions"]
        return sorted(name for name, version in self.versions.items() if version != stored.get(name, version))

    @property
    def unraised(self) -> list[str]:
        """Components, or `ENGINE`, whose version must be raised and is not; a raised engine covers them all."""
        return [] if ENGINE in self.raised else sorted(self.responsible.keys() - set(self.raised))

    @property
    def unsound(self) -> list[str]:
        """The errors of versions and their history, one line each."""
        lines = []
        for name, stored in sorted(self.golden["versions"].items()):
            version, history = self.versions.get(name, stored), self.golden["history"].get(name, {})
            if not stored <= version <= stored + 1:
                lines.append(f"{name}: version {version} follows {stored}; it rises by one at a time")
            for number in range(2, stored + 1):
                proof = history.get(str(number), {})
                if not proof or proof.get("before") == proof.get("after"):
                    lines.append(f"{name}: no golden output differs between versions {number - 1} and {number}")
        return lines

    @property
    def passed(self) -> bool:
        """True if there is nothing to raise or to renew."""
        renewable = self.missing or self.obsolete or self.raised or self.unlisted or self.undescribed
        return not (self.responsible or renewable or self.unsound)

    def lines(self) -> list[str]:
        """Return the findings, one line each."""
        return [*self.problems(), *self.pending()]

    def problems(self) -> list[str]:
        """Return what moved, what is wrong with versions, and how outputs were compared, one line each."""
        lines = self.unsound
        if not self.exact and self.golden["entries"]:
            lines.append(
                f"outputs are not known to be exact on processor {processor()} with these libraries: they are compared "
                "with a tolerance, and of runs only the first round"
            )
            stored, present = self.golden["libraries"], libraries()
            changed = [f"{n} {stored.get(n)} then, {present[n]} now" for n in present if stored.get(n) != present[n]]
            lines += [f"libraries: {'; '.join(changed)}"] if changed else []
        if self.unstable:
            lines.append(f"deviate and are too few to count: {', '.join(self.unstable)}")
        for name, cases in self.responsible.items():
            lines += self._moved(name, cases)
        return [*lines, f"moves with it: {', '.join(self.dependents)}"] if self.dependents else lines

    def pending(self) -> list[str]:
        """Return what the traces command adds, lists and removes where it refuses nothing, one line each."""
        lines = [f"case {name} {reason}: run {COMMAND}" for name, reason in self.obsolete.items()]
        lines += [f"there is no golden entry for {name}: run {COMMAND}" for name in self.missing]
        raised = [name for name in self.raised if name not in self.responsible]
        lines += [f"the golden file has another version of {name}: run {COMMAND}" for name in raised]
        unlisted = [] if self.responsible else self.unlisted  # of what moved, the code is not equal
        lines += [f"the code of {name} is not listed as equal: run {COMMAND}" for name in unlisted]
        return lines + [f"the catalogue has another description of {name}: run {COMMAND}" for name in self.undescribed]

    def _moved(self, name: str, cases: Mapping[str, list[str]]) -> Iterator[str]:
        """Yield what must be done about a component or the engine, and the first cases that moved."""
        version = self.versions[name]
        if name in self.raised or ENGINE in self.raised:
            yield f"{name} moved, and a version was raised: run {COMMAND}"
        else:
            what = "ENGINE in byzbench.identity" if name == ENGINE else f"version in {self.classes[name].__module__}"
            yield f"{name} moved: raise {what} from {version} to {version + 1}, then run {COMMAND}"
        for case, moved in list(cases.items())[:3]:
            more = f"; and {len(moved) - 2} more" if len(moved) > 2 else ""
            yield f"  {case}: {'; '.join(moved[:2])}{more}"
        if len(cases) > 3:
            yield f"  and {len(cases) - 3} more cases"

    def report(self) -> dict[str, Any]:
        """Return the findings as data, for programs."""
        slowest = sorted(self.computed.items(), key=lambda item: -item[1].seconds)[:25]
        return {
            "passed": self.passed,
            "exact": self.exact,
            "unstable": self.unstable,
            "processor": processor(),
            "lines": self.lines(),
            "responsible": self.responsible,
            "dependents": self.dependents,
            "missing": self.missing,
            "obsolete": self.obsolete,
            "raised": self.raised,
            "unlisted": self.unlisted,
            "unsound": self.unsound,
            "undescribed": self.undescribed,
            "slowest": {name: round(computed.seconds, 3) for name, computed in slowest},
        }
