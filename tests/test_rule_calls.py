"""The call of a rule or an agreement by a user, and of their formulas: conversions, checks and messages."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from byzbench.aggregators.median import Median
from byzbench.core import Aggregator, Agreement, RuleContext, RuleOutput
from byzbench.core.formulas import FORMULAS
from byzbench.errors import InvalidParameter, Undefined
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import federate, lockstep
from byzbench.federation.federation import SimulatedFederation
from byzbench.registry import make, origins

ROWS = [[0.0, 1.0], [1.0, 2.0], [2.0, 0.0], [1.0, 1.0], [90.0, 3.0]]
MASK = torch.tensor([True, True, True, False, False])


WEIGHTS = "weights must be numbers of at least 0 whose sum is at most 1"
BAD_COUNTS = [
    (0, 0),
    (-1, 0),
    (5, -1),
    (5.0, 1),
    (5, 1.5),
    (True, 0),
    (None, 1),
    (5, None),
    ("5", 1),
    (10**30, -(10**30)),
]
"""Pairs of n and f of which one counts nothing."""


def context(**fields: Any) -> RuleContext:
    return RuleContext(**fields)


def rule(name: str) -> Aggregator:
    built = make("aggregator", name)
    assert isinstance(built, Aggregator)
    return built


@pytest.mark.parametrize("name", ["krum", "median", "rfa", "arc", "nnm", "monna", "bulyan"])
def test_lists_arrays_and_tensors_give_the_same(name: str) -> None:
    f = 0 if name == "bulyan" else 1
    expected = rule(name).aggregate(torch.tensor(ROWS, dtype=torch.float64), torch.tensor(f), RuleContext())
    for x in (ROWS, np.array(ROWS), torch.tensor(ROWS).double(), [np.array(row) for row in ROWS], tuple(ROWS)):
        output = rule(name)(x, f)
        assert isinstance(output, RuleOutput)
        assert torch.equal(output.value, expected.value)
    for x in (np.array(ROWS, dtype=np.float32), torch.tensor(ROWS), [torch.tensor(row) for row in ROWS]):
        assert rule(name)(x, f).value.dtype == torch.float32


def test_integers_become_floats_and_arrays_need_not_be_contiguous() -> None:
    x = np.arange(10).reshape(5, 2)
    x.flags.writeable = False
    for numbers in (x, x.tolist(), torch.from_numpy(x.copy()), x[::-1]):
        assert rule("median")(numbers, 1).value.tolist() == [4.0, 5.0]
        assert rule("mean")(numbers).value.dtype == torch.float64


def test_a_context_is_expanded_to_every_inbox() -> None:
    x = torch.tensor(ROWS).expand(3, 5, 2)
    assert rule("mean")(x, 0, RuleContext(mask=MASK)).value.tolist() == [[1.0, 1.0]] * 3
    assert rule("monna")(x, torch.tensor([1, 1, 1]), RuleContext(own=torch.tensor(4))).value.shape == (3, 2)


@pytest.mark.parametrize(
    "name, x, f, context, message",
    [
        ("krum", ROWS[:4], 3, None, "Krum is not defined for n=4 and f=3: it needs n >= 2f + 3"),
        ("krum", ROWS, 1, RuleContext(mask=MASK), "Krum is not defined for n=3 and f=1: it needs n >= 2f + 3"),
        ("krum", [ROWS, ROWS], [0, 4], None, "Krum is not defined for n=5 and f=4: it needs n >= 2f + 3"),
        (
            "mean",
            ROWS,
            0,
            RuleContext(mask=torch.zeros(5).bool()),
            "Mean is not defined for n=0 and f=0: it needs f = 0",
        ),
    ],
)
def test_an_undefined_rule_is_refused_in_one_line(
    name: str, x: Any, f: Any, context: RuleContext | None, message: str
) -> None:
    with pytest.raises(Undefined) as error:
        rule(name)(x, f, context)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "x, f, context, message",
    [
        ([1.0, 2.0], 0, None, "Median: x has the shape [2], not [..., n, d]"),
        (3.0, 0, None, "Median: x has the shape [], not [..., n, d]"),
        (torch.zeros(0, 3), 0, None, "Median: x has the shape [0, 3], not [..., n, d]"),
        ([[1.0], [2.0, 3.0]], 0, None, "Median: x must be numbers of the shape [..., n, d]"),
        ([["a"], ["b"]], 0, None, "Median: x must be numbers of the shape [..., n, d]"),
        (ROWS, -1, None, "Median: f must be an integer of at least 0, not -1"),
        (ROWS, 1.0, None, "Median: f must be an integer of at least 0, not 1.0"),
        (ROWS, True, None, "Median: f must be an integer of at least 0, not True"),
        (ROWS, None, None, "Median: f must be an integer of at least 0, not None"),
        (ROWS, "1", None, "Median: f must be an integer of at least 0, not '1'"),
        (ROWS, [1.0], None, "Median: f must be an integer of at least 0, not tensor([1.])"),
        (ROWS, 10**20, None, "Median: f must be a number or a tensor, not 100000000000000000000"),
        (ROWS, [1, 1], None, "Median: f has the shape [2], not []"),
        (ROWS, 1, RuleContext(mask=MASK[:4]), "Median: mask has the shape [4], not [5]"),
        (ROWS, 1, RuleContext(own=torch.tensor([0, 1])), "Median: own has the shape [2], not []"),
        (ROWS, 1, RuleContext(weights=torch.ones(2, 5)), "Median: weights has the shape [2, 5], not [5]"),
        (ROWS, 1, {"mask": MASK}, "Median: context must be a RuleContext, not a dict"),
        (ROWS, 1, context(rng=0), "Median: rng must be a numpy.random.Generator, not a int"),
        (ROWS, 1, context(mask="no"), "Median: mask must be a number or a tensor, not 'no'"),
        (ROWS, 1, context(mask=MASK.long()), "Median: mask must be of booleans"),
        (ROWS, 1, context(honest=MASK.double()), "Median: honest must be of booleans"),
        (ROWS, 1, context(own=5), "Median: own must be a column from 0 to n - 1, or -1 for none, for n=5"),
        (ROWS, 1, context(own=0.0), "Median: own must be a column from 0 to n - 1, or -1 for none, for n=5"),
        (ROWS, 1, context(weights=[0.5, torch.nan, 0, 0, 0]), f"Median: {WEIGHTS}"),
        (ROWS, 1, context(weights=-torch.ones(5)), f"Median: {WEIGHTS}"),
        (ROWS, 1, context(weights=torch.ones(5)), f"Median: {WEIGHTS}"),
        (ROWS, 1, context(age=-1), "Median: age must be integers of at least 0"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(x: Any, f: Any, context: RuleContext | None, message: str) -> None:
    with pytest.raises(InvalidParameter) as error:
        rule("median")(x, f, context)
    assert str(error.value) == message


@pytest.mark.parametrize("name", origins("aggregator"))
def test_every_rule_is_refused_where_it_is_not_defined(name: str) -> None:
    undefined = [(n, f) for n in range(1, 6) for f in range(6) if not rule(name).defined(n, f)]
    for n, f in undefined:
        with pytest.raises(Undefined, match=f"is not defined for n={n} and f={f}: it needs "):
            rule(name)(np.ones((n, 2)), f)


@pytest.mark.parametrize("name", [name for name in origins("aggregator") if name not in ("honest_mean", "ubar")])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_vector_that_is_not_finite_is_named(name: str, value: float) -> None:
    x = np.random.default_rng(0).normal(size=(2, 13, 3))
    x[1, 4, 2] = value
    with pytest.raises(InvalidParameter, match=r": x\[1, 4\] is not finite; leave it out, or mask it$"):
        rule(name)(x, 0)
    mask = torch.ones(2, 13, dtype=torch.bool)
    mask[1, 4] = False
    if name in ("mean", "median", "krum", "rfa"):
        x = np.nan_to_num(x, nan=7.0, posinf=7.0)
        assert rule(name)(x, 0, RuleContext(mask=mask)).value.isfinite().all()


def test_the_mean_of_float64_is_exact_where_the_sum_is() -> None:
    mean = rule("mean")
    assert mean([[1.0], [4.0], [7.0]]).value.item() == 4.0
    for n in range(1, 60):
        x = np.random.default_rng(n).integers(-9, 9, (2, n, 3))
        x[:, -1] -= x.sum(1) % n
        assert np.array_equal(mean(x).value, x.sum(1) // n)
    masked = mean([[1.0], [4.0], [7.0], [99.0]], 0, RuleContext(mask=torch.tensor([True, True, True, False])))
    assert masked.value.item() == 4.0


@pytest.mark.parametrize("dtype", [">f4", ">f8", np.longdouble, np.float16, np.int8, np.bool_])
def test_real_numbers_of_any_type_are_taken(dtype: Any) -> None:
    x = np.array([[0, 1], [1, 1], [1, 0]], dtype)
    assert rule("median")(x, 1).value.tolist() == [1.0, 1.0]
    assert rule("median")(torch.tensor(ROWS).bfloat16(), 1).value.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "x", [np.zeros((3, 2), complex), torch.zeros(3, 2).to(torch.complex64), torch.zeros(3, 2).to_sparse(), ["a"], {}]
)
def test_what_is_no_dense_array_of_real_numbers_is_refused(x: Any) -> None:
    with pytest.raises(InvalidParameter, match=r"Median: x must be (real )?numbers of the shape \[..., n, d\]"):
        rule("median")(x, 0)


@pytest.mark.parametrize("name", origins("aggregator"))
def test_numbers_whose_products_overflow_are_refused_and_smaller_ones_are_aggregated(name: str) -> None:
    x = 1e58 * np.random.default_rng(0).normal(size=(13, 3))
    fields = {"honest": torch.ones(13, dtype=torch.bool), "evaluator": lambda x, which, episodes: which.double()}
    given = RuleContext(own=torch.tensor(3), **fields)  # type: ignore[arg-type]
    assert rule(name)(x, 1, given).value.isfinite().all()
    x[5] *= 1e4
    with pytest.raises(InvalidParameter, match=r": x\[5\] has numbers beyond 1e\+60, whose products overflow"):
        rule(name)(x, 1, given)


@pytest.mark.parametrize("kind", ["aggregator", "agreement"])
def test_formulas_refuse_what_counts_nothing(kind: str) -> None:
    for name in origins(kind):
        component = make(kind, name)
        for method in FORMULAS:
            for n, f in BAD_COUNTS if hasattr(component, method) else ():
                with pytest.raises(InvalidParameter, match=r"^\w+: [nf] must be an integer of at least [01], not "):
                    getattr(component, method)(n, f)


@pytest.mark.parametrize("kind", ["aggregator", "agreement"])
def test_formulas_give_finite_numbers_or_none(kind: str) -> None:
    further = {"aggregator": ["multi_krum(mode=iterative, m=3)"], "agreement": ["rb_tm(reliable=False)"]}
    for name in (*origins(kind), *further[kind]):
        component = make(kind, name)
        for method in FORMULAS:
            for n, f in itertools.product(range(1, 10), range(10)) if hasattr(component, method) else ():
                value = getattr(component, method)(n, f)
                assert value is None or 0 <= value < np.inf, (name, method, n, f)
                assert getattr(component, method)(np.int64(n), np.int64(f)) == value


def test_formulas_of_plug_ins_are_checked_too() -> None:
    @dataclass(frozen=True)
    class Half(Median):
        def guarantee(self, count: int, faulty: int) -> bool:
            return 4 * faulty <= count

    assert Half().guarantee(8, 2)
    assert Half().guarantee(torch.tensor([8, 7]), torch.tensor(2)).tolist() == [True, False]  # type: ignore[arg-type, attr-defined]
    with pytest.raises(InvalidParameter, match=r"^Half: f must be an integer of at least 0, not array\(\[ 1, -1\]\)$"):
        Half().guarantee(8, np.array([1, -1]))  # type: ignore[arg-type]


def federation(**options: Any) -> SimulatedFederation:
    made, _ = federate(Experiment.create(**{"policy": "linear", "agents": 7, "byzantine": 1} | options))
    made.begin(0, 0.0)
    return made


def agree(name: str, fed: Any, theta: Any) -> torch.Tensor:
    agreement = make("agreement", name)
    assert isinstance(agreement, Agreement)
    return lockstep(agreement(fed, theta))[0]


THETA = np.random.default_rng(0).normal(size=(7, 2))


@pytest.mark.parametrize("name", origins("agreement"))
def test_an_agreement_takes_lists_arrays_and_tensors_and_names_a_row_that_is_not_finite(name: str) -> None:
    expected = agree(name, federation(), torch.tensor(THETA).float())
    for theta in (THETA, THETA.tolist(), torch.tensor(THETA)):
        assert torch.equal(agree(name, federation(), theta), expected)
    for value in (np.nan, np.inf, 1e300):
        theta = THETA.copy()
        theta[4, 1] = value
        with pytest.raises(InvalidParameter, match=r": theta\[4\] is not finite; give every agent finite numbers of t"):
            agree(name, federation(), theta)


@pytest.mark.parametrize(
    "theta, message",
    [
        (THETA[:5], "MdaAgreement: theta has the shape [5, 2], not [7, d]"),
        (THETA[0], "MdaAgreement: theta has the shape [2], not [K, d]"),
        (THETA[None], "MdaAgreement: theta has the shape [1, 7, 2], not [7, d]"),
        (None, "MdaAgreement: theta must be numbers of the shape [K, d]"),
    ],
)
def test_an_agreement_refuses_a_wrong_argument_in_one_line(theta: Any, message: str) -> None:
    with pytest.raises(InvalidParameter) as error:
        agree("mda", federation(), theta)
    assert str(error.value) == message


def test_an_agreement_refuses_what_is_no_federation_and_inboxes_for_which_it_is_not_defined() -> None:
    with pytest.raises(InvalidParameter, match=r"^MdaAgreement: fed must be a federation, not a ndarray; vectors"):
        agree("mda", THETA, 1)
    ring = federation(topology="ring", agreement="none", aggregator="mean")
    with pytest.raises(Undefined, match=r"^Gossip is not defined for an inbox of n=3 and f=1: it needs n >= 2f \+ 3$"):
        agree("gossip+krum", ring, THETA)


def test_agents_keep_their_vectors_where_a_run_leaves_an_inbox_empty() -> None:
    fed = federation()
    inbox = lockstep(fed.exchange("parameters", torch.tensor(THETA).float()))
    empty = replace(inbox, mask=torch.zeros_like(inbox.mask))
    assert torch.equal(fed.combine(rule("median"), empty)[0], torch.tensor(THETA).float())
    assert fed.counters.num_undefined == 7
