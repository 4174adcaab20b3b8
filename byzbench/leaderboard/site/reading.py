"""How to read a board: what the columns are, and what each flag warns of."""

from __future__ import annotations

from collections.abc import Iterator

from byzbench.leaderboard.site.html import Child, el

COLUMNS = {
    "Rank": "Entries share a rank unless the difference of their scores can be told from chance, by Holm's rule over "
    "all pairs of the board. In brackets, the best and the worst rank that the others leave it.",
    "Worst case": "The score. In each stratum the lowest interquartile mean over all attacks of the board, of returns "
    "between 0, a random policy, and 1, the suite's reference; then the mean over strata. In brackets, its 95 % "
    "interval. Cells that failed count as 0.",
    "Bracket": "A minimum is pessimistic: it picks unlucky seeds along with strong attacks. The bracket reaches from "
    "the low end of the score to the high end of the same score with the attack chosen on one half of the seeds and "
    "judged on the other, and allows at both for failures and successes that no seed has shown.",
    "Best known": "The score after all attacks that anybody has aimed at this entry. They can only lower it.",
    "Clean": "The score without an attack.",
    "Mean": "The score over all attacks, the mean in place of the minimum.",
    "Gap": "Clean less worst case: what the worst attack takes.",
    "Worst attack": "Which one it was, in each stratum.",
    "Beats next": "The probability that a run of this entry scores more than one of the row below, each under the "
    "attack that is worst for it.",
}

FLAGS = {
    "few-seeds": "Fewer than ten seeds. Intervals are wide, and the true ones may be wider.",
    "tuned-on-suite": "The entry's parameters were tuned, and fewer than two attacks of the suite were kept out of the "
    "tuning. It has seen the exam.",
    "failed-cells": "Some runs crashed, diverged or ran out of time. They score 0 and are listed on the entry's page.",
    "attack-inert": "Runs under an attack are, to the byte, those without. Against this entry the attack does nothing, "
    "and surviving it shows nothing.",
    "clean-below-reference": "Without an attack the entry is not half as good as the reference. What learns little has "
    "little to lose.",
    "bound-costs": "Without an attack the entry does worse where it allows for more liars, by a tenth of the scale. "
    "They follow the protocol there: this is the price of its bound, and no attack's doing.",
    "blind-beats-informed": "A random or blind attack does more harm than any that sees more. Those were not at their "
    "best, and a better one may exist.",
    "no-consensus": "Honest agents ended with different policies. The score is their mean, and hides it.",
    "objective-did-not-rise": "An attack was aimed at the entry and reached nothing: at the start of its runs the rule "
    "is no further from the honest mean, and agents are no further apart, than if no liar lied. That it did not lower "
    "the best known score shows nothing.",
    "non-finite-survived": "Messages that are no numbers did no harm: screening removes them before the entry's own "
    "rule sees any.",
}


MARKS = {
    "untuned, tuned": "Whether the entry says how its parameters were searched for.",
    "exact at engine 1": "The last audit ran cells of the row again, and found every number of them. The engine is the "
    "version of the numerical behaviour of byzbench that ran them; a later one may say consistent.",
    "consistent at engine 1": "Cells that were run again have other numbers, since the engine, a component, a library "
    "or the CPU is another one; they do not contradict the row.",
    "contradicted at engine 1": "Cells that were run again contradict the row.",
    "cannot be replayed": "The row was made before seeds followed from the suite. It is listed and not ranked.",
    "reported, not replayed": "Nobody runs the row again. It is listed and not ranked.",
    "superseded": "A later submission takes its place.",
}


def reading_page() -> Iterator[Child]:
    """The main part of the page."""
    yield el("h1", "How to read the boards")
    yield el(
        "p",
        "A board compares entries of one suite only: tasks, graphs, attacks and budgets are frozen there. Nothing on "
        "it was typed in; every score is computed from the cells of a submission, which anybody can run again. Methods "
        "that trust a server and methods that do not stand apart, and so do adversaries by what they see. Rows that "
        "are reported but not replayed stand last, in grey, without a rank.",
    )
    yield el("h2", "The columns", id="columns")
    yield el("dl", ((el("dt", name), el("dd", said)) for name, said in COLUMNS.items()))
    yield el("h2", "Marks beside a name")
    yield el("dl", ((el("dt", name), el("dd", text)) for name, text in MARKS.items()))
    yield el("h2", "The flags")
    for name, said in FLAGS.items():
        yield el("h3", name, id=name)
        yield el("p", said)
