"""Command `byzbench list`: list components without importing any that byzbench has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from byzbench.cli import options
from byzbench.cli.completion import complete_kind
from byzbench.cli.output import write_json
from byzbench.errors import BrokenPlugin, InvalidParameter, suggest

if TYPE_CHECKING:
    from byzbench.registry import Origin

Traits = Mapping[str, Sequence[str]]
"""The values of each trait of a component."""

GROUPED_BY = {"algorithm": "communication", "attack": "strength", "task": "action", "aggregator": "self-centred"}
"""The trait by which the components of a kind are grouped; those of other kinds are not."""

STRENGTHS = {
    "rule": "adaptive: tries messages on a clone of the rule",
    "honest": "omniscient: knows the honest vectors",
    "byzantine": "colluding: knows the vectors of all Byzantine agents",
    "own": "local: each Byzantine agent knows its own vector",
}
"""The strength of an attack by the strongest knowledge that it has, the strongest first."""
BLIND = "blind: knows no vector"
LABELS = {
    "server": "with a server",
    "decentralized": "decentralised",
    "single_agent": "one agent",
    "none": "agents that do not communicate",
    "Discrete": "discrete actions",
    "Box": "continuous actions",
    "no": "rules of the messages alone",
    "uses the receiver's own vector": "rules that start from the receiver's own vector",
}
"""The label of a group by the value of its trait."""
OTHERS = "others"
"""The label of components whose traits are not known without importing them."""


def complete_trait(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the traits of the kind that was typed before, or the values of one, that begin with a text."""
    from byzbench.errors import UnknownName
    from byzbench.registry import kind_of

    typed = ctx.params.get("kind") or next(iter(ctx.args), "")  # where the last option has no value yet, words are left
    try:
        known = _known_traits(kind_of(typed))
    except UnknownName:
        return []
    trait, sign, _ = incomplete.partition("=")
    texts = [f"{trait}={value}" for value in known.get(trait, ())] if sign else [f"{name}=" for name in known]
    return [text for text in texts if text.startswith(incomplete)]


def list_components(
    kind: Annotated[
        str | None,
        typer.Argument(help="A kind, for example attacks; default: all.", autocompletion=complete_kind),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TRAIT=VALUE",
            help="Only components with this trait, for example strength=omniscient.",
            autocompletion=complete_trait,
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List components with their names and summaries, and the distribution of plug-ins.

    The components of one kind are grouped by their most telling trait. A trait is a line of `byzbench show`.

    Examples:
        byzbench list
        byzbench list attacks --where strength=omniscient --where equivocates=no
        byzbench list algorithms --where communication=server
    """
    from byzbench import registry
    from byzbench.catalogue import summary

    kinds = [registry.kind_of(kind)] if kind else list(registry.KINDS)
    if where and not kind:
        raise InvalidParameter(_kind_hint(where[0]))
    origins = [origin for name in kinds for origin in registry.origins(name).values()]
    if where:
        origins = _matching(origins, where)
    if as_json:
        listed = [
            {"kind": origin.kind, "name": origin.name, "summary": summary(origin), "distribution": origin.distribution}
            for origin in origins
        ]
        write_json(listed, indent=2)
        return
    groups: dict[str, list[Origin]] = {}
    for origin in origins:
        label = _group(origin) if kind else f"{registry.KINDS[origin.kind]} (--{registry.FLAGS[origin.kind]})"
        groups.setdefault(label, []).append(origin)
    if kind:
        order = [BLIND, *reversed(STRENGTHS.values()), *LABELS.values(), OTHERS, ""]
        groups = dict(sorted(groups.items(), key=lambda group: order.index(group[0])))
    _print(groups)


def _print(groups: Mapping[str, Sequence[Origin]]) -> None:
    """Print components with their summaries below the labels of their groups."""
    from byzbench.catalogue import summary
    from byzbench.reports.terminal import echo

    width = max((len(origin.name) for origins in groups.values() for origin in origins), default=0)
    for position, (label, origins) in enumerate(groups.items()):
        if label:
            typer.echo(f"{chr(10) if position else ''}{label}")
        for origin in origins:
            distribution = "" if origin.distribution.startswith("byzbench ") else f"  [{origin.distribution}]"
            echo(f"  {origin.name:<{width}}  {summary(origin)}{distribution}".rstrip(), indent=width + 4)


def _group(origin: Origin) -> str:
    """Return the label of a component's group; empty for a kind without groups."""
    from byzbench.catalogue import stored_facts

    trait = GROUPED_BY.get(origin.kind)
    if trait is None:
        return ""
    facts = stored_facts(origin) or {}
    value = _traits(origin.kind, facts).get(trait, [""])[0]
    if origin.kind == "attack" and facts:
        return next((text for text in STRENGTHS.values() if text.startswith(f"{value}:")), BLIND)
    return LABELS.get(value.partition("(")[0], OTHERS)


def _traits(kind: str, facts: Mapping[str, str]) -> Traits:
    """Return the traits of a component, by names without spaces.

    Example:
        >>> _traits("attack", {"knows": "honest, own", "acts on": "messages"})
        {'knows': ['honest', 'own'], 'acts_on': ['messages'], 'strength': ['omniscient']}
    """
    traits = {name.replace(" ", "_"): text.split(", ") for name, text in facts.items()}
    if kind == "attack":
        known = traits.get("knows", [])
        strength = next((text for knowledge, text in STRENGTHS.items() if knowledge in known), BLIND)
        traits["strength"] = [strength.partition(":")[0]]
    return traits


def _known_traits(kind: str) -> Traits:
    """Return the traits of a kind with their values, without importing components."""
    from byzbench import registry
    from byzbench.catalogue import stored_facts

    known: dict[str, set[str]] = {}
    for origin in registry.origins(kind).values():
        for name, values in _traits(kind, stored_facts(origin) or {}).items():
            known.setdefault(name, set()).update(value for value in values if value)
    return {name: sorted(known[name]) for name in sorted(known)}


def _kind_hint(text: str) -> str:
    """Return which kind TRAIT=VALUE selects from, and the traits of the kind."""
    from byzbench.registry import KINDS

    trait = text.partition("=")[0].strip().replace(" ", "_")
    kinds = [kind for kind in KINDS if trait in _known_traits(kind)]
    kind, example = (kinds[0], text) if kinds else ("attack", "strength=omniscient")
    return (
        f'--where needs a kind, for example: byzbench list {KINDS[kind]} --where "{example}". '
        f"Traits of {KINDS[kind]}: {', '.join(_known_traits(kind))}"
    )


def _matching(origins: Sequence[Origin], where: Sequence[str]) -> list[Origin]:
    """Return the components that have all traits; a plug-in that cannot be imported has none.

    Raises:
        InvalidParameter: A text is not TRAIT=VALUE, or no component has the trait or the value.
    """
    from byzbench.catalogue import describe_component

    traits: dict[str, Traits] = {}
    for origin in origins:
        try:
            traits[origin.name] = _traits(origin.kind, describe_component(origin).facts)
        except BrokenPlugin:
            traits[origin.name] = {}
    selected = list(origins)
    for text in where:
        trait, sign, value = text.partition("=")
        trait = trait.strip().replace(" ", "_")
        known = sorted({name for values in traits.values() for name in values})
        if not sign or trait not in known:
            raise InvalidParameter(
                f"--where takes TRAIT=VALUE, got {text!r}. {suggest(trait, known) if sign else ''}"
                f"Traits: {', '.join(known)}"
            )
        values = sorted({one for each in traits.values() for one in each.get(trait, ()) if one})
        if value not in values:
            raise InvalidParameter(f"no {trait} is {value!r}. {suggest(value, values)}Values: {', '.join(values)}")
        selected = [origin for origin in selected if value in traits[origin.name].get(trait, ())]
    if not selected:
        raise InvalidParameter(f"no component has {' and '.join(where)}")
    return selected
