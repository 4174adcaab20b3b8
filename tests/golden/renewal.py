"""Renewal of golden file, list of equal digests and catalogue, where nothing moved for which no version was raised."""

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
        What moved and what was written or refused, one line each; and whether anything was allowed to be written.
    """
    stored = bool(check.golden["entries"])
    lines = check.problems() if stored else []
    lines += [f"{name} was raised, and no output that uses it differs: lower it again" for name in _unneeded(check)]
    if check.unraised or check.unsound or _unneeded(check):
        return [*lines, REFUSED], False
    if stored and not (check.exact or ENGINE in check.raised or _proven(check)):
        return [*lines, f"{REFUSED}: outputs are not exact on this processor"], False
    new = [name for name in check.generated if name not in check.computed]
    check.computed |= {name: check.compute(name, check.generated[name]()) for name in new}
    outputs = {name: check.computed[name].outputs for name in new}
    if failed := [f"{name}: {values['error']}" for name, values in outputs.items() if "error" in values]:
        return [*lines, *failed, REFUSED], False
    store.write(_golden(check))
    store.write_equal_digests(_equal_digests(check))
    store.write_catalogue(check.catalogue)
    renewed = sum(bool(case.moved) for case in check.cases)
    return [*lines, f"cases: {renewed} renewed, {len(new)} added, {len(check.obsolete)} removed"], True


def _unneeded(check: Check) -> list[str]:
    """Return what was raised although no case that uses it moved."""
    moved = {component for case in check.cases if case.moved for component in (*case.components, ENGINE)}
    return [name for name in check.raised if name not in moved]


def _proven(check: Check) -> bool:
    """Return whether this processor may be listed: what should be equal is, to the bit, or only libraries differ.

    Outputs of a component whose version was raised should differ.
    """
    unmoved = [each for each in check.computed.values() if each.stored and not each.components & {*check.raised}]
    same = all(not differences(each.stored or {}, each.outputs, exact=True) for each in unmoved)
    return same or (libraries() != check.golden["libraries"] and not check.responsible)


def _golden(check: Check) -> dict[str, Any]:
    """Return the golden file of the code that is here."""
    base = check.golden["base"] or groups.base()
    same = libraries() == check.golden["libraries"] and ENGINE not in check.raised
    listed = check.golden["processors"] if same else []  # elsewhere, no output of a new engine is known
    return {
        "base": base,
        "entries": {
            name: {"inputs": groups.shortened(computed.inputs, base), "outputs": computed.outputs}
            for name, computed in check.computed.items()
        },
        "history": _history(check),
        "libraries": libraries(),
        "modules": {name: digest for digests in check.modules.values() for name, digest in digests.items()},
        "processors": sorted({*listed, processor()}),
        "versions": check.versions,
    }


def _history(check: Check) -> dict[str, Any]:
    """Return, by component and version, an output before and after the version was raised."""
    history = {name: dict(versions) for name, versions in check.golden["history"].items()}
    for name in check.raised:
        case = next(case for case in check.cases if case.moved and name in (*case.components, ENGINE))
        computed = check.computed[case.name]
        proof = {"case": case.name, "before": digest_of(computed.stored), "after": digest_of(computed.outputs)}
        history.setdefault(name, {})[str(check.versions[name])] = proof
    return history


def _equal_digests(check: Check) -> dict[str, dict[str, list[str]]]:
    """Return the list of equal digests with those of the code that is here; none is ever removed."""
    listed = store.read_equal_digests()
    for name, cls in check.classes.items():
        digests = listed.setdefault(name, {}).setdefault(str(check.versions[name]), [])
        if (digest := code_digest(cls)) not in digests:
            digests.append(digest)
    return listed
