"""The call of an aggregation rule by a user: conversions, checks and messages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from byzbench.core import Aggregator, RuleContext, RuleOutput
from byzbench.errors import InvalidParameter, Undefined
from byzbench.registry import make, origins

ROWS = [[0.0, 1.0], [1.0, 2.0], [2.0, 0.0], [1.0, 1.0], [90.0, 3.0]]
MASK = torch.tensor([True, True, True, False, False])


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
        (ROWS, [1, 1], None, "Median: f has the shape [2], not []"),
        (ROWS, 1, RuleContext(mask=MASK[:4]), "Median: mask has the shape [4], not [5]"),
        (ROWS, 1, RuleContext(own=torch.tensor([0, 1])), "Median: own has the shape [2], not []"),
        (ROWS, 1, RuleContext(weights=torch.ones(2, 5)), "Median: weights has the shape [2, 5], not [5]"),
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
