"""Every attack on one page: makes docs/attacks.md and its pictures, docs/attacks/*.png.

    python benchmarks/attacks_page.py [--docs docs]

Texts are the attacks' docstrings; the pictures show their messages in a federation of 13 agents whose vectors have two
coordinates. Seeds are fixed: the same attacks give the same page.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from byzbench import registry
from byzbench.cli.show import show
from byzbench.core import Attack
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import federate, lockstep, one_thread
from byzbench.reports.worst_case import FLAGS, MARGIN, REPORTING, SELECTION, STANDARD, STANDARD_V1

AGENTS, ATTACKERS, ROUNDS = 13, 3, 12
RULE = "trimmed_mean"
FRAME = np.array([4.5, 3.0])

_TAG = re.compile(r"<(?=[A-Za-z/!])(?=(?:[^`]*`[^`]*`)*[^`]*$)")
"""Where a tag would start, outside of backticks."""

STRIKING = {"sleeper": "sleeper(alie(z=1.5), after=0)", "markov": "markov(alie(z=1.5), on=1, off=0)"}
"""Attacks that begin later are drawn while they act."""

FLAG_PAGES = {
    "attack inert": """
        The `metrics.jsonl` of the attack and of the run without one are the same bytes, on every seed. Either the
        attack acts where this experiment has nothing (on parameters that agents already agree on, as `dissensus` on a
        complete graph), or it is degenerate (`alie` with one attacker). It shows nothing about the defence.""",
    "blind beats adaptive": f"""
        The strongest of the blind members did more harm than the strongest of those that try messages on a clone of the
        rule: on every selection seed, and on average by more than {MARGIN:.0%} of what is learned without an attack.
        What the adaptive ones maximise, the distance of the rule's output from the honest mean, is then no measure of
        harm here, or their search misses it. Do not take the worst of the ensemble for the worst there is: look at the
        blind one, tune its parameters, and try others of this page.""",
    "random defence": """
        A rule is declared random, or gave two values for the same messages under two generators. An adaptive attack
        meets other draws than those it tried, so it is weaker than it could be, and a single run is less reliable. Use
        more seeds of both kinds.""",
    "hidden state": """
        A rule is declared stateful, or gave two values for the same messages, state and generator.
        A state is legitimate, but attacks that use one round, all but the time-coupled ones, are not designed for it:
        what is small in each round adds up. Different values are a mistake: such a rule can be neither resumed nor
        cloned for an adaptive attack.""",
    "scale dependence": """
        A rule is declared to have parameters in the units of its inputs (a radius, a floor), or gave no s F(x) for
        inputs s times as long, s = 0.001 and 1000. It may be tuned to the length of this task's vectors, and attackers
        who know the number stay just below it. Repeat on a task whose vectors are of another length.""",
    "non-finite survived": """
        Good news: under messages of NaN on all topics every run ended with finite parameters, and none with a worse
        verdict than the same seed without an attack. Where it is not raised, messages that are no numbers did harm, and
        any attacker can do as much.""",
}


@dataclass(frozen=True)
class Scene:
    """One exchange of h honest and f Byzantine agents.

    Attributes:
        honest, own: what they computed, [h, 2] and [f, 2].
        messages, arrived: the Byzantine messages to each honest agent, [h, f, 2], and True where one arrives, [h, f].
        value: what the rule makes of it at the first honest agent, [2].
        num_malformed: the number of messages that failed validation.
    """

    honest: Tensor
    own: Tensor
    messages: Tensor
    arrived: Tensor
    value: Tensor
    num_malformed: int


def scene(attack: Attack, topic: str) -> Scene:
    """The last of some rounds, in which the cloud turns a little each time."""
    todo = Experiment.create(
        "decbyzpg",
        attack,
        "complete",
        aggregator=RULE,
        agreement=f"gossip+{RULE}",
        placement="first",
        agents=AGENTS,
        byzantine=ATTACKERS,
    )
    noise = np.random.default_rng(4).standard_normal((ROUNDS, AGENTS, 2)) * (0.7, 0.4)
    with one_thread():
        federation, _ = federate(todo)
        for round in range(ROUNDS):
            federation.begin(round, round / ROUNDS)
            turn = 0.5 + 0.05 * (ROUNDS - 1 - round)
            x = torch.from_numpy(1.2 * np.array([np.cos(turn), np.sin(turn)]) + noise[round]).float()
            inbox = lockstep(federation.exchange(topic, x))
            if topic == "gradient":
                value, _ = federation.aggregate(inbox, {})
            else:
                value, _ = federation.combine(todo.defences["parameters"], inbox)
    messages = inbox.base[inbox.senders[ATTACKERS:, :ATTACKERS]]  # in a complete graph an agent's column is its number
    return Scene(
        x[ATTACKERS:],
        x[:ATTACKERS],
        messages,
        inbox.mask[ATTACKERS:, :ATTACKERS],
        value[ATTACKERS],
        federation.counters.num_malformed,
    )


def draw(scene: Scene, path: Path) -> None:
    """Draw the honest vectors, those of the Byzantine agents, their messages and the aggregate."""
    figure = Figure(figsize=(3.6, 2.4), layout="constrained")
    axes = figure.subplots()
    sent = np.unique(scene.messages[scene.arrived].numpy().round(6), axis=0)
    inside = (np.abs(sent) <= FRAME).all(1)
    if not scene.messages.eq(scene.messages[:1]).all():
        for receiver, messages, arrived in zip(scene.honest, scene.messages, scene.arrived, strict=True):
            for message in messages[arrived]:
                if (message.abs().numpy() <= FRAME).all():
                    axes.plot(*zip(receiver, message, strict=True), color="#bbbbbb", lw=0.5, zorder=1)
    axes.scatter(*scene.honest.T, s=16, color="#1f5fa8", lw=0, zorder=2)
    axes.scatter(*scene.own.T, s=26, facecolors="none", edgecolors="#c0504d", lw=1, zorder=3)
    axes.scatter(*sent[inside].T, s=34, color="#c0504d", marker="x", lw=1.4, zorder=5)
    for far in sent[~inside]:
        rim = far / np.abs(far / FRAME).max() * 0.965
        marker = (3, 0, np.degrees(np.arctan2(far[1], far[0])) - 90)
        axes.scatter(*rim, s=30, color="#c0504d", marker=marker, lw=0, zorder=5)
    axes.scatter(*scene.honest.mean(0), s=44, color="black", marker="+", lw=1.2, zorder=4)
    axes.scatter(*scene.value, s=26, color="#3b8f4a", marker="D", lw=0, zorder=3)
    if not len(sent):
        reason = "not finite: removed by validation" if scene.num_malformed else "no messages"
        axes.text(0, -2.1, reason, ha="center", fontsize=8, color="#c0504d")
    axes.set(xlim=(-FRAME[0], FRAME[0]), ylim=(-FRAME[1], FRAME[1]), xticks=[0], yticks=[0], aspect="equal")
    axes.tick_params(length=0, labelbottom=False, labelleft=False)
    axes.grid(color="#eeeeee", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_color("#cccccc")
    figure.savefig(path, dpi=90, metadata={"Software": None})


def ours() -> list[str]:
    """The attacks of this distribution."""
    return [name for name, origin in registry.origins("attack").items() if origin.distribution.startswith("byzbench ")]


def drawn(name: str) -> tuple[Attack, str] | None:
    """The attack as it is drawn, and the topic; None where it sends nothing of its own, or nothing without episodes."""
    attack = registry.make("attack", STRIKING.get(name, name))
    assert isinstance(attack, Attack)
    if "rollouts" in attack.threat.knowledge:
        return None
    topic = next((topic for topic in ("gradient", "parameters") if attack.targets(topic)), None)
    return (attack, topic) if topic else None


def facts(name: str) -> dict[str, Any]:
    """Return what `byzbench show attack NAME --json` prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        show("attack", name, as_json=True)
    return json.loads(printed.getvalue())


def section(name: str) -> list[str]:
    """One attack."""
    known, threat = facts(name), registry.make("attack", name).threat
    knows = {"knows": known["knows"], "acts on": known["acts on"] or "nothing", "equivocates": known["equivocates"]}
    if threat.query_budget:
        knows["tries"] = f"{threat.query_budget} messages an exchange on a clone of the rule"
    lines = [f"## {name}", "", *prose(known["description"]), ""]
    lines += [" · ".join(f"{key}: **{value}**" for key, value in knows.items()), ""]
    if known["parameters"]:
        lines += ["| parameter | default | type | | a search looks at |", "|---|---|---|---|---|"]
        for p in known["parameters"]:
            form = f"{p['type']}, {p['bounds']}" if p["bounds"] else p["type"]
            cells = (f"`{p['name']}`", p["default"], form, p["description"], p["search"])
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        lines.append("")
    if picture := drawn(name):
        topic = {"gradient": "", "parameters": ", on parameters"}[picture[1]]
        example = f", as `{STRIKING[name]}`" if name in STRIKING else ""
        lines += [f"![{name}{topic}{example}](attacks/{name}.png)", ""]
    elif "rollouts" in threat.knowledge:
        lines += ["No picture: its messages depend on the episodes of its agents.", ""]
    elif "environment" in threat.surface:
        lines += ["No picture: it acts on the Byzantine agents' environments, and they send honest vectors.", ""]
    else:
        lines += ["No picture: the Byzantine agents follow the protocol.", ""]
    return lines


def prose(docstring: str) -> list[str]:
    """A docstring as Markdown: its formulas are code blocks already; in the rest, no `<` starts a tag."""
    return [line if line.startswith("    ") else _TAG.sub("&lt;", line) for line in docstring.split("\n")]


def page() -> str:
    """The whole page."""
    names = ours()
    lines = [
        "# Attacks",
        "",
        *wrapped(
            f"""Made by `python benchmarks/attacks_page.py` from the {len(names)} attacks of `attacks/`; run it again
            when one changes. An attack is a threat model (what it knows, where it acts, whether it may equivocate) and
            a formula. It cannot read what its threat model does not declare."""
        ),
        "",
        *wrapped(
            f"""**The pictures** show one exchange on a complete graph of {AGENTS} agents, {ATTACKERS} of them
            Byzantine, all parameters at their defaults. Blue dots: honest vectors. Red rings: the vectors that the
            Byzantine agents computed. Red crosses: their messages; triangles at the rim: beyond the frame, in that
            direction. Black plus: the honest mean. Green: the aggregate of {RULE} at one honest agent. Grey lines,
            where Byzantine agents equivocate: the receiver of each message. It is the {ROUNDS}th exchange of a cloud
            that turns clockwise, for attacks with memory."""
        ),
        "",
        *wrapped(
            """Which is the worst for an algorithm, a graph and a rule?
            [`byzbench worst`](#the-worst-of-an-ensemble). What each costs: [attacks-cost.md](attacks-cost.md)."""
        ),
        "",
        "| attack | what Byzantine agents do | knows | acts on | equivocates | tries |",
        "|---|---|---|---|---|---|",
    ]
    for name in names:
        known, calls = facts(name), registry.make("attack", name).threat.query_budget
        first = known["description"].split("\n")[0]
        own = (f"[{name}](#{name})", first, known["knows"], known["acts on"] or "nothing", known["equivocates"])
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in own)} | {calls or ''} |")
    lines += ["", *(line for name in names for line in section(name)), *ensemble()]
    return "\n".join(lines).rstrip() + "\n"


def ensemble() -> list[str]:
    """Return the section on `byzbench worst` and its flags."""
    lines = [
        "## The worst of an ensemble",
        "",
        "    byzbench worst --algo decbyzpg --topology complete --env cartpole",
        "",
        *wrapped(
            f"""tries the ensemble `{STANDARD}`, which has no parameters: each member, the cheapest first, on three
            seeds from {SELECTION} on. The one that leaves the least evaluation return is the worst. It is then run on
            five seeds from {REPORTING} on, beside runs in which the same Byzantine agents follow the protocol, and only
            these are reported: the lowest of many noisy returns is too low. Every run is an experiment in the store
            (`--out`), so that a command that was killed goes on where it stopped. A member that does not exist, or is
            undefined for this K and f, is named and skipped. `--also my_attack` tries an attack of yours, too. `--json`
            prints it all as one object."""
        ),
        "",
        "| | members |",
        "|---|---|",
        *(f"| {needs} | {', '.join(f'`{attack}`' for attack in attacks)} |" for needs, attacks in STANDARD_V1.items()),
        "",
        "The flags name what else was observed, most of them why the answer may be too favourable to the defence.",
        "",
    ]
    for flag, meaning in FLAGS.items():
        lines += [f"### {flag}", "", meaning, "", *wrapped(FLAG_PAGES[flag]), ""]
    return lines


def wrapped(text: str) -> list[str]:
    """Text in lines of at most 120."""
    return textwrap.wrap(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False)


def main() -> None:
    """Write the page, and a picture for each attack that sends something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    docs = parser.parse_args().docs
    pictures = docs / "attacks"
    pictures.mkdir(parents=True, exist_ok=True)
    for old in pictures.glob("*.png"):
        old.unlink()
    for name in ours():
        if attack_and_topic := drawn(name):
            draw(scene(*attack_and_topic), pictures / f"{name}.png")
    (docs / "attacks.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
