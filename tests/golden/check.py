"""Comparison of the code that is here with the golden file."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from byzbench import identity, registry
from byzbench.contracts import Component
from byzbench.errors import BrokenPlugin, ByzbenchError
from byzbench.experiments.provenance import processor
from byzbench.identity import checked_version, code_digest, code_modules
from tests.golden import groups, store
from tests.golden.comparison import ENGINE, Case, differences, edited, followers, responsible
from tests.golden.libraries import libraries
from tests.golden.limits import limited
from tests.golden.parts import Inputs, shipped

COMMAND = "`make traces`"

LIMIT = 30
"""Seconds that a case may take; after three that took longer, one."""


@dataclass
class Computed:
    """A case as the code that is here computes it.

    Attributes:
        inputs: of the case.
        outputs: of the case; the error, if it ends with one.
        stored: the outputs of the golden file; None if it has none.
        seconds: what it took.
    """

    inputs: Inputs
    outputs: dict[str, Any]
    stored: dict[str, Any] | None
    seconds: float


class Check:
    """Everything that is compared.

    Attributes:
        golden: the golden file.
        computed: by name, every stored case, and those that are new.
        cases: the stored ones, with what moved.
        gone: stored cases that can no longer be built, with the reason.
    """

    def __init__(self, only: str = "") -> None:
        self.golden = store.read()
        self.classes: dict[str, type[Component]] = {
            f"{kind} {key}": registry.find(kind, name) for kind in registry.KINDS for name, key in shipped(kind)
        }
        self.versions = {ENGINE: identity.ENGINE} | {
            name: checked_version(cls.version, f"{name}: version", BrokenPlugin) for name, cls in self.classes.items()
        }
        self._only, self._slow, self.gone = only, 0, dict[str, str]()
        self.computed = {name: self.compute(name, inputs) for name, inputs in self._stored()}
        self.cases = [case for name in self.computed if (case := self._case(name))]

    @cached_property
    def exact(self) -> bool:
        """Whether outputs must be equal to the bit: on the processors and with the libraries of the golden file."""
        return processor() in self.golden["processors"] and libraries() == self.golden["libraries"]

    def _stored(self) -> Iterator[tuple[str, Inputs]]:
        for name, entry in self.golden["entries"].items():
            if self._only in name:
                inputs = dict(entry["inputs"])
                if "experiment" in inputs:
                    inputs["experiment"] = {**self.golden["base"], **inputs["experiment"]}
                yield name, inputs

    def compute(self, name: str, inputs: Inputs) -> Computed:
        """Compute a case; an exception becomes its output."""
        start = time.perf_counter()
        try:
            with limited(LIMIT if self._slow < 3 else 1):
                outputs = json.loads(json.dumps(groups.outputs(name, inputs)))
        except TimeoutError as error:
            self._slow += 1
            outputs = {"error": str(error)}
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            said = str(error).partition("\n")[0][:200]
            outputs = {"error": f"{type(error).__name__}: {said} ({place.name})"}
        stored = self.golden["entries"].get(name, {}).get("outputs")
        return Computed(inputs, outputs, stored, time.perf_counter() - start)

    def _case(self, name: str) -> Case | None:
        """Return the comparison of a stored case; None if it can no longer be built."""
        found = self.computed[name]
        try:
            components = groups.components(found.inputs)
        except ByzbenchError as error:
            self.gone[name] = str(error)
            return None
        assert found.stored is not None
        return Case(name, components, differences(found.stored, found.outputs, self.exact))

    @cached_property
    def modules(self) -> dict[str, Mapping[str, str]]:
        """By component, the digest of each module whose code defines it."""
        return {name: code_modules(cls) for name, cls in self.classes.items()}

    @cached_property
    def edits(self) -> dict[str, frozenset[str]]:
        """By component that was edited since the outputs were stored, its edited modules."""
        return edited(self.modules, self.golden["modules"])

    @cached_property
    def named(self) -> dict[str, dict[str, list[str]]]:
        """By component or engine that is responsible, the cases that moved."""
        homes = {name: cls.__module__ for name, cls in self.classes.items()}
        return responsible(self.cases, self.edits, homes)

    @property
    def missing(self) -> list[str]:
        """Components without a golden entry."""
        covered = {part for case in self.cases for part in case.components}
        return sorted(self.classes.keys() - covered) if not self._only else []

    @property
    def unlisted(self) -> list[str]:
        """Components whose code is not listed as equal for their version."""
        listed = store.read_equal_digests()
        return sorted(
            name
            for name, cls in self.classes.items()
            if code_digest(cls) not in listed.get(name, {}).get(str(self.versions[name]), ())
        )

    @property
    def raised(self) -> list[str]:
        """Components, or the engine, whose version is not the one of the golden file."""
        then = self.golden["versions"]
        return sorted(name for name, now in self.versions.items() if name in then and now != then[name])

    def unsound(self) -> list[str]:
        """Return what is wrong with versions and their history, one plain line each."""
        lines = []
        for name, then in sorted(self.golden["versions"].items()):
            now = self.versions.get(name, then)
            if now < then or now > then + 1:
                lines.append(f"{name}: version {now} follows {then}; it rises by one at a time")
            for version in range(2, then + 1):
                proof = self.golden["history"].get(name, {}).get(str(version), {})
                if not proof or proof.get("before") == proof.get("after"):
                    lines.append(f"{name}: no golden output differs between versions {version - 1} and {version}")
        return lines

    @property
    def unraised(self) -> list[str]:
        """What must be raised and was not; nothing if the engine was, which covers everything."""
        raised = self.raised
        return [] if ENGINE in raised else sorted(name for name in self.named if name not in raised)

    @property
    def idle(self) -> list[str]:
        """What was raised though no case that uses it differs."""
        moved = {part for case in self.cases if case.moved for part in (*case.components, ENGINE)}
        return [name for name in self.raised if name not in moved]

    @property
    def passed(self) -> bool:
        """Whether nothing is left to be done."""
        return not (self.named or self.missing or self.gone or self.raised or self.unlisted or self.unsound())

    def lines(self) -> list[str]:
        """Return the findings, one plain line each."""
        lines = self.unsound()
        if not self.exact and self.golden["entries"]:
            lines.append(
                f"not known to be exact on {processor()} with these libraries: outputs are compared with a tolerance, "
                "and of runs only the first round"
            )
        lines += [f"{name}: {why}" for name, why in self.gone.items()]
        lines += [f"there is no golden entry for {name}: run {COMMAND}" for name in self.missing]
        for name, cases in self.named.items():
            lines += self._moved(name, cases)
        if self.named and (others := followers(self.cases, self.edits, self.named)):
            lines.append(f"moves with it: {', '.join(others)}")
        if not self.named:
            lines += [f"the code of {name} is not listed as equal: run {COMMAND}" for name in self.unlisted]
            lines += [f"{name} has another version, and no output moved" for name in self.raised]
        return lines

    def _moved(self, name: str, cases: Mapping[str, list[str]]) -> Iterator[str]:
        then, now = self.golden["versions"].get(name, 1), self.versions[name]
        if name in self.raised or ENGINE in self.raised:
            yield f"{name} moved and a version was raised: run {COMMAND}"
        else:
            where = "ENGINE in byzbench.identity" if name == ENGINE else f"version in {self.classes[name].__module__}"
            yield f"{name} moved: raise {where} from {then} to {now + 1}, then run {COMMAND}"
        for number, (case, moved) in enumerate(cases.items()):
            if number == 3:
                yield f"  and {len(cases) - number} more"
                break
            yield f"  {case}: {'; '.join(moved[:2])}{f'; and {len(moved) - 2} more' if len(moved) > 2 else ''}"

    def report(self) -> dict[str, Any]:
        """Return the findings as data, for programs."""
        slow = sorted(self.computed.items(), key=lambda item: -item[1].seconds)
        return {
            "exact": self.exact,
            "passed": self.passed,
            "processor": processor(),
            "lines": self.lines(),
            "named": self.named,
            "followers": followers(self.cases, self.edits, self.named),
            "missing": self.missing,
            "unlisted": self.unlisted,
            "unsound": self.unsound(),
            "gone": self.gone,
            "seconds": {name: round(found.seconds, 3) for name, found in slow[:25]},
        }
