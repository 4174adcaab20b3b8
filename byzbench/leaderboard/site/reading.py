"""The page that explains the columns, marks and flags of boards."""

from __future__ import annotations

from collections.abc import Iterator

from byzbench.reports.markup import Child, el

COLUMNS = {
    "Ranks": "The best and the worst rank that the data allow: one plus the number of entries that are certainly "
    "better, and the number of entries minus those that are certainly worse. An entry is certainly better than another "
    "if a paired test over the common seeds rejects equality, at 5 % for all pairs of the board together (Holm). Rows "
    "are sorted by score; within a range of ranks the order has no meaning.",
    "Score": "The score of a run is the area under its curve of evaluation returns, scaled so that a random policy has "
    "0 and the reference 1, and clipped at 0 from below. The score in a stratum is the lowest mean over seeds under an "
    "attack; the score of an entry is the mean over strata. In brackets its 95 % interval, which allows for failures "
    "that no seed has shown: it is wider than the differences that paired seeds can show. Cells that failed or "
    "diverged count as 0.",
    "Cross-fitted": "The same with the worst attack chosen on one half of the seeds and scored on the other. A minimum "
    "is biased low where attacks are about equal; this value is not.",
    "Best known": "The score with all attacks that entries have aimed at this row. They can only lower it.",
    "Local, Coordinated": "The score over the attacks of an adversary that sees less: only its own vectors, or the "
    "vectors of all Byzantine agents and the graph.",
    "CVaR": "The mean of the worst fifth of the seeds under the worst attack.",
    "Clean": "The score without an attack.",
    "Retention": "The improvement over a random policy under an attack, divided by that without one; the mean over "
    "attacks and strata. It is defined where the clean score is certainly above 0.3; the number of defined ones is "
    "shown beside it.",
    "Joining": "The score minus the clean score of the method alone (solo), on the same seeds, in strata with the same "
    "task and budget. Where its interval is below 0, the agents would have done better alone.",
    "Worst attack": "The attack with the lowest mean in each stratum, if scores under it are certainly lower than "
    "without an attack; otherwise none is named.",
    "Final return": "The mean last evaluation return without an attack.",
    "Parameters, lr, Batch": "Whether parameters were tuned, are a preset, were set by hand or are the defaults; the "
    "step size and the episodes of a batch.",
    "Mean over attacks": "The mean of the scores under the attacks of the worst case.",
    "Paper": "That of the entry, or what its algorithm names as its source.",
    "Date": "The date of the submission; rows that are older than this field have none.",
    "Messages, MB, Seconds": "Sent by all agents in a cell, and the time of its training on the author's machine; "
    "means over cells.",
    "Search episodes": "Episodes that the search of the parameters took, summed over agents.",
}

FLAGS = {
    "few-seeds": "Fewer than eight seeds. Intervals are wide, and how often they hold was not measured.",
    "tuned-on-suite": "The parameters were tuned against attacks that the score is measured under.",
    "failed-cells": "Some runs failed, diverged or ran out of time. They score 0 and are listed on the entry's page.",
    "attack-inert": "Runs under an attack have the traces of runs without one: the attack does not reach this method.",
    "clean-below-reference": "Without an attack the entry scores less than half of the reference, so that attacks have "
    "little to take.",
    "bound-costs": "Without an attack the entry scores lower, by 0.1 or more, where more agents are Byzantine. They "
    "follow the protocol there: the loss comes from the number of Byzantine agents that the method assumes.",
    "blind-beats-informed": "An attack that sees only its own vectors does more harm, by 0.1 or more, than every "
    "attack of the score that sees more. A stronger informed attack probably exists.",
    "no-consensus": "The method has an agreement stage, and honest agents ended with different policies. Scores are "
    "means over honest agents and do not show it.",
    "objective-did-not-rise": "An attack was aimed at the entry, and in the first round neither the distance of the "
    "aggregate from the honest mean nor that of honest agents from each other is larger than without an attack. If it "
    "did not lower the best known score, that is no evidence of robustness.",
    "non-finite-survived": "Messages that are not finite did no harm, because validation removes them before the "
    "method's own rule is applied.",
}


MARKS = {
    "tuned, preset, set by hand, default": "The origin of the parameters.",
    "p=1: no variance reduction": "A method of the PAGE family whose batches are all large ones: it takes plain policy "
    "gradients.",
    "exact at engine 1": "The last audit ran cells of the row again, and every number was the same. The engine is the "
    "version of the numerical behaviour of byzbench that ran them.",
    "consistent at engine 1": "Cells that were run again have other numbers, because the engine, a component, a "
    "library or the CPU differs; the tests do not contradict the row.",
    "contradicted at engine 1": "Cells that were run again contradict the row.",
    "cannot be replayed": "The row was made before seeds followed from the suite. It is listed and not ranked.",
    "reported, not replayed": "The row is not run again. It is listed and not ranked.",
    "no reference at engine 1": "The suite has no reference for the engine of the row, so it has no score.",
    "superseded": "A later submission replaces it.",
}


def reading_page() -> Iterator[Child]:
    """Yield the main part of the page that explains the boards."""
    yield el("h1", "How to read the boards")
    yield el(
        "p",
        "A board compares entries of one suite only: the suite fixes tasks, graphs, attacks, budgets and evaluation "
        "dates. Every score is computed from the cells of a submission, which anybody can run again. Methods with a "
        "trusted server and methods without one have separate boards.",
    )
    yield el(
        "p",
        "The reference is a method that averages honest agents only, run without an attack: 1 is a unit and not a "
        "maximum. Rows that are not ranked come last, in grey, with the reason beside the name.",
    )
    yield el(
        "p",
        "A chart joins rows by a bar where no pair of them is separated by the test of all pairs together, by which "
        "ranks are found. The interval of a difference between two rows holds for all pairs of the board together "
        "(Bonferroni); that of a difference to learning alone is of one row.",
    )
    yield el("h2", "The columns", id="columns")
    yield el("dl", ((el("dt", name), el("dd", text)) for name, text in COLUMNS.items()))
    yield el("h2", "Marks beside a name")
    yield el("dl", ((el("dt", name), el("dd", text)) for name, text in MARKS.items()))
    yield el("h2", "The flags")
    for name, text in FLAGS.items():
        yield el("h3", name, id=name)
        yield el("p", text)
