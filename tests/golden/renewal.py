"""Renewal of the golden file and of the list of equal digests, where nothing moved that no version was raised for."""

from __future__ import annotations

from typing import Any

from byzbench.experiments.provenance import processor
from byzbench.identity import code_digest
from tests.golden import groups, store
from tests.golden.check import Check
from tests.golden.comparison import ENGINE, differences
from tests.golden.libraries import libraries
from tests.golden.summaries import digest_of

REFUSED = "nothing was written"


def renew(check: Check) -> tuple[list[str], bool]:
    """Write what may be written.

    Returns:
        What moved, what was refused or written, one line each; and whether it was written.
    """
    golden = check.golden
    lines = check.lines() if golden["entries"] else []
    idle = [f"{name} was raised, and nothing that uses it differs: lower it again" for name in check.idle]
    if check.unraised or idle or check.unsound():
        return [*lines, *idle, REFUSED], False
    if golden["entries"] and not check.exact and not _proven(check):
        return [*lines, f"{REFUSED}: outputs are not exact on this processor"], False
    new = dict(pair for pair in groups.generated() if pair[0] not in check.computed)
    check.computed |= {name: check.compute(name, inputs) for name, inputs in new.items()}
    results = {name: check.computed[name].outputs for name in new}
    if broken := [f"{name}: {outputs['error']}" for name, outputs in results.items() if "error" in outputs]:
        return [*lines, *broken, REFUSED], False
    store.write(_golden(check))
    store.write_equal_digests(_equal_digests(check))
    renewed = sum(bool(case.moved) for case in check.cases)
    return [*lines, f"renewed {renewed} cases, added {len(new)}, dropped {len(check.gone)}"], True


def _proven(check: Check) -> bool:
    """Return whether this processor may be listed: all outputs are equal to the bit, or only libraries differ."""
    pairs = [(found.stored, found.outputs) for found in check.computed.values() if found.stored is not None]
    same = all(not differences(then, now, exact=True) for then, now in pairs)
    return same or (libraries() != check.golden["libraries"] and not check.named)


def _golden(check: Check) -> dict[str, Any]:
    """Return the golden file as of the code that is here."""
    base, entries = check.golden["base"] or groups.base(), {}
    for name, found in check.computed.items():
        inputs = dict(found.inputs)
        if "experiment" in inputs:
            inputs["experiment"] = {k: v for k, v in inputs["experiment"].items() if base.get(k, ...) != v}
        if name not in check.gone:
            entries[name] = {"inputs": inputs, "outputs": found.outputs}
    known = check.golden["processors"] if libraries() == check.golden["libraries"] else []
    return {
        "base": base,
        "entries": entries,
        "history": _history(check),
        "libraries": libraries(),
        "modules": {name: digest for parts in check.modules.values() for name, digest in parts.items()},
        "processors": sorted({*known, processor()}),
        "versions": check.versions,
    }


def _history(check: Check) -> dict[str, Any]:
    """Return, by component and version, an output before and after it was raised."""
    history = {name: dict(versions) for name, versions in check.golden["history"].items()}
    for name in check.raised:
        case = next(case for case in check.cases if case.moved and name in (*case.components, ENGINE))
        found = check.computed[case.name]
        proof = {"case": case.name, "before": digest_of(found.stored), "after": digest_of(found.outputs)}
        history.setdefault(name, {})[str(check.versions[name])] = proof
    return history


def _equal_digests(check: Check) -> dict[str, dict[str, list[str]]]:
    """Return the list of equal digests with those of the code that is here."""
    digests = store.read_equal_digests()
    for name, cls in check.classes.items():
        listed = digests.setdefault(name, {}).setdefault(str(check.versions[name]), [])
        if (digest := code_digest(cls)) not in listed:
            listed.append(digest)
    return digests
