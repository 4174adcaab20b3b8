"""Conformance tests of agreements, and their measured contraction under attacks and under a random search.

    for check in CHECKS:
        check(agreement, AgreementCase(seed=0))

A check raises `AssertionError` with one line that describes the failure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from byzbench import registry
from byzbench.core import Aggregator, Agreement, AgreementReport, Attack, State
from byzbench.experiments.diagnostics import contraction
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import federate, lockstep

INNER = (
    "alie(z=1.5, on=parameters)",
    "ipm(on=parameters)",
    "min_max(on=parameters)",
    "fixed_bias(on=parameters)",
    "sign_flip(on=parameters)",
)


def equivocating() -> list[str]:
    """Return the equivocating attacks on parameters, as strings that build components."""
    names = []
    for name in registry.origins("attack"):
        attack = registry.make("attack", name)
        assert isinstance(attack, Attack)
        if attack.threat.equivocates and attack.targets("parameters"):
            names.append(name)
    return [*names, *(f"split_brain({name})" for name in INNER)]


def querying() -> list[str]:
    """Return those of the equivocating attacks that evaluate candidate messages on a clone of the rule."""
    return [name for name in equivocating() if registry.make("attack", name).threat.query_budget]


def contracted(
    agreement: str | Agreement,
    attack: str,
    agents: int,
    byzantine: int,
    seed: int,
    d: int = 20,
    exchanges: int | None = 1,
) -> float | None:
    """Measure the contraction of the honest vectors by an agreement on random vectors [K, d].

    An agreement whose number of exchanges is not limited by a field `cap` is run as it is.

    Args:
        agreement: the agreement, or a string that builds it.
        attack: the attack, as a string that builds a component.
        agents: K, the number of agents.
        byzantine: f, the number of Byzantine agents.
        seed: the seed of the experiment and of the vectors.
        d: the dimension of the vectors.
        exchanges: the limit of exchanges; None: the agreement's own.

    Returns:
        The measure of the agreement (diameter or bounding box) after its exchanges, divided by that before them.
    """
    component = registry.make("agreement", agreement)
    limit = {"cap": exchanges} if exchanges and "cap" in {f.name for f in fields(component)} else {}
    todo = Experiment.create(
        attack=attack,
        agreement=component,
        agents=agents,
        byzantine=byzantine,
        seed=seed,
        parameters={"agreement": limit},
    )
    federation, _ = federate(todo)
    federation.begin(0, 0.0)
    rng = np.random.default_rng(seed)
    theta = torch.from_numpy(rng.standard_normal((agents, d)).astype(np.float32))
    lockstep(federation.agree(theta, {}))
    result, byzantine_agents = federation.statistics.agreement, todo.members.byzantine
    assert result is not None
    factor = contraction(result, byzantine_agents, todo.agreement.measure)
    return None if factor is None else factor ** int(result.report.exchanges[~byzantine_agents].max())


def worst_found(rule: Aggregator, n: int, f: int, rng: np.random.Generator, tries: int = 2000) -> float:
    """Search for Byzantine messages that maximise the ratio of the honest diameters after and before one use of a rule.

    Honest vectors are points on a line, and Byzantine agents send different messages to two receivers. The search draws
    n - f points and f messages for each of the two receivers, then varies the best of `tries` candidates at random.

    Args:
        rule: the aggregation rule.
        n: the number of vectors in an inbox.
        f: the number of Byzantine vectors among them.
        rng: the generator of the search.
        tries: the number of candidates that are drawn.

    Returns:
        The largest ratio of the search, which is a lower bound of the worst case.
    """

    def ratios(points: Tensor) -> Tensor:
        """Return the ratio for each candidate [n + f]."""
        honest, messages = points[:, : n - f], points[:, n - f :].reshape(-1, 2, f)
        inboxes = torch.cat([honest.unsqueeze(1).expand(-1, 2, -1), messages], 2).unsqueeze(-1)
        values = rule(inboxes, f).value.squeeze(-1)
        diameter = honest.amax(1) - honest.amin(1)
        return torch.where(diameter > 1e-6, (values[:, 0] - values[:, 1]).abs() / diameter, 0.0)

    points = torch.from_numpy(rng.uniform(-1, 1, (tries, n + f)))
    # Worst cases have ties between distances, so half of the points are moved to the ends of the interval.
    at_end = torch.from_numpy(rng.random((tries, n + f)) < 0.5)
    points = torch.where(at_end, points.sign(), points)
    points[:, n - f :] *= torch.from_numpy(rng.choice([1.0, 1.5, 2.0], (tries, 2 * f)))
    candidate_ratios = ratios(points)
    best, value = points[candidate_ratios.argmax()], float(candidate_ratios.max())
    for scale in np.geomspace(0.5, 1e-3, 20):
        variations = best + torch.from_numpy(rng.normal(0, scale, (tries // 4, n + f)))
        candidate_ratios = ratios(variations)
        if float(candidate_ratios.max()) > value:
            best, value = variations[candidate_ratios.argmax()], float(candidate_ratios.max())
    return value


@dataclass(frozen=True)
class AgreementCase:
    """Input of a check: random vectors of 13 agents, of which 2 are Byzantine, on a complete graph.

    Attributes:
        seed: the seed of the experiment and of the vectors.
        scale: the standard deviation of their coordinates.
        agents: K, the number of agents.
        byzantine: f, the number of Byzantine agents.
        d: the dimension of the vectors.
    """

    seed: int = 0
    scale: float = 1.0
    agents: int = 13
    byzantine: int = 2
    d: int = 20

    def theta(self) -> Tensor:
        """Draw the vectors of all agents, float32 [K, d]."""
        rng = np.random.default_rng(self.seed)
        return torch.from_numpy((self.scale * rng.standard_normal((self.agents, self.d))).astype(np.float32))


Check: TypeAlias = Callable[[Agreement, AgreementCase], None]
CASES = (AgreementCase(0), AgreementCase(1, 1e-3))
ATTACKS = ("large_noise(on=both)", "silence(on=both)", "split_brain(sign_flip(on=parameters))")
"""The attacks under which an agreement must end with finite vectors."""


def agree_twice(
    agreement: Agreement, case: AgreementCase, attack: str = "none", theta: Tensor | None = None
) -> tuple[list[Tensor], list[AgreementReport], State]:
    """Run two agreements, the second on the vectors and the state of the first.

    Args:
        agreement: the agreement.
        case: the vectors and the numbers of agents.
        attack: the attack of the Byzantine agents.
        theta: other vectors, float32 [K, d].

    Returns:
        The vectors before and after each agreement, the report of each, and the last state.
    """
    federation, _ = federate(
        Experiment.create(
            attack=attack, agreement=agreement, agents=case.agents, byzantine=case.byzantine, seed=case.seed
        )
    )
    vectors = [case.theta() if theta is None else theta]
    reports: list[AgreementReport] = []
    state: State = {}
    for round in range(2):
        federation.begin(round, 0.0)
        before = vectors[-1].clone()
        output = lockstep(agreement.agree(federation, vectors[-1], state))
        valid = isinstance(output, tuple) and len(output) == 3
        assert valid, "agree must return (vectors, an AgreementReport, state)"
        assert torch.equal(vectors[-1], before), "agree modified the vectors that it received"
        agreed, report, state = output
        assert isinstance(agreed, Tensor), f"agree returned a {type(agreed).__name__} as its vectors"
        form, expected = (
            f"{agreed.dtype} of shape {list(agreed.shape)}",
            f"{before.dtype} of shape {list(before.shape)}",
        )
        assert form == expected, f"agree returned {form}, expected {expected} (a row for each agent)"
        vectors.append(agreed)
        reports.append(report)
    return vectors, reports, state


def agreed_vectors_keep_their_form(agreement: Agreement, case: AgreementCase) -> None:
    """Check that it returns finite vectors of the shape and dtype of those it received, without and with attacks."""
    for attack in ("none", *ATTACKS):
        for agreed in agree_twice(agreement, case, attack)[0]:
            assert agreed.isfinite().all(), f"a vector is not finite under {attack}"


def agreement_report_has_a_row_for_each_agent(agreement: Agreement, case: AgreementCase) -> None:
    """Check the report: exchanges int64 [K], and widths before and after, float64 [K]; the state has K rows."""
    _, reports, state = agree_twice(agreement, case)
    for report in reports:
        assert isinstance(report, AgreementReport), f"agree returned a {type(report).__name__} as its report"
        for name, dtype in (("exchanges", torch.int64), ("before", torch.float64), ("after", torch.float64)):
            value = getattr(report, name)
            valid = isinstance(value, Tensor) and value.shape == (case.agents,) and value.dtype == dtype
            assert valid, f"report.{name} is not {dtype} [{case.agents}]"
        assert (report.exchanges >= 0).all(), "a number of exchanges is negative"
    assert isinstance(state, dict), f"agree returned a {type(state).__name__} as its state"
    for name, value in state.items():
        valid = isinstance(value, Tensor) and value.shape[:1] == (case.agents,)
        assert valid, f"the state's {name!r} is no tensor with a row for each agent"


def same_experiment_gives_same_agreement(agreement: Agreement, case: AgreementCase) -> None:
    """Check that two equal experiments agree on the same vectors."""
    for attack in ("none", ATTACKS[0]):
        first, second = (agree_twice(agreement, case, attack)[0] for _ in range(2))
        same = all(map(torch.equal, first, second))
        assert same, "two equal runs differ: it draws from another generator, or has hidden state"


def equal_vectors_are_agreed_on(agreement: Agreement, case: AgreementCase) -> None:
    """Check that agents with equal vectors keep them, under attacks too if a contraction is guaranteed."""
    theta, numbers = case.theta()[:1].repeat(case.agents, 1), (case.agents, case.byzantine)
    is_robust = agreement.guarantee(*numbers) and agreement.contraction(*numbers) is not None
    for attack in ("none", *(ATTACKS if is_robust else ())):
        for agreed in agree_twice(agreement, case, attack, theta)[0]:
            error = float((agreed - theta).abs().max())
            assert error <= 1e-5 * case.scale, f"agents with equal vectors end {error:.2g} away under {attack}"


def agreed_vectors_stay_in_the_box(agreement: Agreement, case: AgreementCase) -> None:
    """Check validity: without an attack all vectors end in the bounding box of those of the agents."""
    theta = case.theta()
    slack = 1e-5 * case.scale
    for agreed in agree_twice(agreement, case)[0]:
        inside = (agreed >= theta.amin(0) - slack).all() and (agreed <= theta.amax(0) + slack).all()
        assert inside, "a vector leaves the bounding box of the agents' vectors"


def contraction_holds_under_attacks(agreement: Agreement, case: AgreementCase) -> None:
    """Check `contraction`: no equivocating attack leaves more of the honest spread in one exchange, or in all of them.

    All exchanges must leave no more than one of them may. Attacks that query the rule are slow, and take part in one.
    """
    bound = agreement.contraction(case.agents, case.byzantine)
    attacks, slow = (equivocating(), querying()) if bound is not None else ([], [])
    for attack in attacks:
        for exchanges in (1,) if attack in slow else (1, None):
            ratio = contracted(agreement, attack, case.agents, case.byzantine, case.seed, exchanges=exchanges)
            within = bound is None or ratio is None or ratio <= bound + 1e-6
            assert within, f"{attack} leaves {ratio} of the honest spread, and the declared contraction is {bound}"


CHECKS: tuple[Check, ...] = (
    agreed_vectors_keep_their_form,
    agreement_report_has_a_row_for_each_agent,
    same_experiment_gives_same_agreement,
    equal_vectors_are_agreed_on,
    agreed_vectors_stay_in_the_box,
    contraction_holds_under_attacks,
)
FORM: tuple[Check, ...] = (agreed_vectors_keep_their_form,)
"""The checks of shapes and types, without which the others cannot run."""
