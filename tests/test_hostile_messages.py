"""Byzantine agents that send anything: what is no finite vector is malformed, and honest agents go on."""

from __future__ import annotations

import array
import collections
import decimal
import itertools
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from byzbench import run
from byzbench.core import Attack, AttackContext, ByzantineMessages, EnvHooks, MessageAttack, State, ThreatModel
from byzbench.core.messages import validate_messages
from byzbench.errors import BrokenPlugin
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import Training, federate, lockstep
from byzbench.registry import make

D = 10
"""The number of parameters of the linear policy for CartPole."""

RAN: list[str] = []
"""The methods of hostile data that were called."""

Factory = Callable[[Tensor], Any]
"""(vector [d]) -> data that holds it in some form."""


@pytest.fixture(autouse=True)
def nothing_ran() -> Iterator[None]:
    """Require that no code of the data runs, and that nothing hangs."""
    RAN.clear()
    with at_most(60):
        yield
    assert not RAN


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise an error in a block that takes longer."""

    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"hung for {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _record(name: str) -> Callable[..., Any]:
    def method(*args: Any, **kwargs: Any) -> Any:
        RAN.append(name)
        raise MemoryError(name)

    return method


METHODS = (
    "__getattr__ __len__ __iter__ __next__ __getitem__ __array__ __array_interface__ __bool__ __eq__ __float__ "
    "__index__ __int__ __str__ __repr__ __format__ __contains__ __reversed__ __dlpack__ __buffer__ shape dtype"
)
EVIL: dict[str, Any] = {name: _record(name) for name in METHODS.split()} | {"__hash__": object.__hash__}
TORCH = {"__torch_function__": classmethod(_record("__torch_function__"))}
ARRAY = {name: _record(name) for name in ("__array_finalize__", "__array_ufunc__", "__array_function__")}

EvilObject = type("EvilObject", (), EVIL)
EvilMeta = type("EvilMeta", (type,), {"__eq__": _record("meta eq"), "__hash__": type.__hash__})
EvilList = type("EvilList", (list,), {name: EVIL[name] for name in ("__len__", "__iter__", "__getitem__", "__eq__")})
EvilDict = type("EvilDict", (dict,), {name: EVIL[name] for name in ("__len__", "__iter__", "__getitem__", "__eq__")})
EvilFloat = type("EvilFloat", (float,), {"__float__": EVIL["__float__"], "__eq__": EVIL["__eq__"]})
EvilTensor = type("EvilTensor", (Tensor,), TORCH)
Pair = collections.namedtuple("Pair", [f"x{k}" for k in range(D)])  # type: ignore[misc]


class LongList(list):  # type: ignore[type-arg]
    """A list whose length and iteration disagree."""

    def __iter__(self) -> Iterator[float]:
        yield from itertools.repeat(0.0, 10_000_000)
        raise TimeoutError("it is endless")


class PlainSubclass(np.ndarray):
    """An array of another type."""


def lying(x: Tensor) -> Tensor:
    """Return a tensor whose methods are replaced."""
    changed = x.clone()
    for name in ("detach", "to", "cpu", "numpy", "isfinite", "untyped_storage", "is_floating_point", "stride"):
        setattr(changed, name, _record(name))
    return changed


def emptied(x: Tensor) -> Tensor:
    changed = x.clone()
    changed.untyped_storage().resize_(0)
    return changed


def escaped(transform: Callable[..., Any], x: Tensor) -> Tensor:
    """Return a tensor that has left a transform of torch.func."""
    leaked: list[Tensor] = []
    transform(lambda y: (leaked.append(y), y.sum())[1])(x)
    return leaked[0]


def quiet(convert: Callable[[], Any]) -> Any:
    """Return data of which a library warns when it is made."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return convert()


def cyclic(x: Tensor) -> list[Any]:
    content: list[Any] = []
    content += [content] * len(x)
    return content


def unaligned(x: Tensor) -> np.ndarray:
    return np.frombuffer(b"\0" + x.numpy().tobytes(), np.float32, offset=1)


VALID: dict[str, Factory] = {
    "float32": lambda x: x,
    "float64": lambda x: x.double(),
    "float16": lambda x: x.half(),
    "bfloat16": lambda x: x.bfloat16(),
    "with a gradient": lambda x: x.clone().requires_grad_(),
    "in a graph": lambda x: x.clone().requires_grad_() * 1,
    "a parameter": lambda x: torch.nn.Parameter(x.clone()),
    "a strided view": lambda x: torch.stack([x, -x], 1)[:, 0],
    "a negative view": lambda x: torch.complex(x, -x).conj().imag,
    "of inference mode": lambda x: torch.inference_mode()(lambda: x * 1)(),
    "expanded": lambda x: x[:1].expand(len(x)),
    "an array": lambda x: x.numpy(),
    "a double array": lambda x: x.double().numpy(),
    "a half array": lambda x: x.half().numpy(),
    "a reversed array": lambda x: x.flip(0).numpy()[::-1],
    "a strided array": lambda x: np.repeat(x.numpy(), 3)[::3],
    "an unaligned array": unaligned,
    "a list": lambda x: x.tolist(),
    "a tuple": lambda x: tuple(x.tolist()),
    "a list of integers": lambda x: [3] * len(x),
    "replaced methods": lying,
}
"""Data that is read, whatever else it does."""

MALFORMED: dict[str, Factory] = {
    # types of numbers
    "integers": lambda x: x.long(),
    "bool": lambda x: x > 0,
    "complex": lambda x: x.to(torch.complex64),
    "float8": lambda x: x.to(torch.float8_e4m3fn),
    "quantised": lambda x: quiet(lambda: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)),
    "longdouble": lambda x: x.numpy().astype(np.longdouble),
    "big-endian": lambda x: x.numpy().astype(">f4"),
    "big-endian double": lambda x: x.numpy().astype(">f8"),
    "an integer array": lambda x: x.numpy().astype(np.int32),
    "a complex array": lambda x: x.numpy().astype(np.complex128),
    "an object array": lambda x: np.frompyfunc(lambda _: EvilObject(), 1, 1)(x.numpy()),
    "a text array": lambda x: x.numpy().astype(str),
    "a structured array": lambda x: np.zeros(len(x), [("a", "f4"), ("b", "f4")]),
    "dates": lambda x: np.zeros(len(x), "datetime64[s]"),
    # layouts
    "sparse": lambda x: x.to_sparse(),
    "sparse rows": lambda x: quiet(lambda: x.reshape(1, -1).to_sparse_csr()),
    "mkldnn": lambda x: x.to_mkldnn(),
    "meta": lambda x: x.to("meta"),
    "nested": lambda x: quiet(lambda: torch.nested.nested_tensor([x])),
    "zero tensor": lambda x: torch._efficientzerotensor(x.shape),
    "functional": lambda x: torch._to_functional_tensor(x),
    "a storage that was emptied": emptied,
    "escaped from vmap": lambda x: escaped(torch.func.vmap, torch.stack([x, x])),
    # shapes and values
    "no dimension": lambda x: x[0].clone(),
    "empty": lambda x: x[:0],
    "too short": lambda x: x[:-1],
    "too long": lambda x: torch.cat([x, x]),
    "a row": lambda x: x.reshape(1, -1),
    "a column": lambda x: x.numpy().reshape(-1, 1),
    "huge": lambda x: x[:1].expand(10**12),
    "a huge array": lambda x: np.broadcast_to(np.float32(1), (10**12,)),
    "NaN": lambda x: x.log().where(x > 0, torch.nan) * torch.nan,
    "infinite": lambda x: torch.cat([x[:-1], torch.tensor([torch.inf])]),
    "beyond float32": lambda x: torch.full((len(x),), 1e300, dtype=torch.float64),
    "an array beyond float32": lambda x: np.full(len(x), 1e300),
    "a list beyond float32": lambda x: [1e300] * len(x),
    "NaN in a list": lambda x: [*x.tolist()[1:], float("nan")],
    # subclasses
    "a subclass of Tensor": lambda x: x.as_subclass(EvilTensor),
    "a subclass of ndarray": lambda x: x.numpy().view(PlainSubclass),
    "a masked array": lambda x: np.ma.masked_array(x.numpy()),
    "a matrix": lambda x: quiet(lambda: np.asmatrix(x.numpy())),
    "a list of another length": lambda x: LongList(x.tolist()),
    "a subclass of list": lambda x: EvilList(x.tolist()),
    "a named tuple": lambda x: Pair(*x.tolist()),
    # lists
    "a list of bool": lambda x: [True] * len(x),
    "a list of NumPy numbers": lambda x: list(x.double().numpy()),
    "a list of tensors": lambda x: list(x),
    "a list of evil": lambda x: [EvilObject()] * len(x),
    "a list of evil numbers": lambda x: [EvilFloat(1.0)] * len(x),
    "a list of evil types": lambda x: [EvilMeta("Evil", (), {})()] * len(x),
    "a list of text": lambda x: ["1.0"] * len(x),
    "a list of lists": lambda x: [x.tolist()] * len(x),
    "a list of itself": cyclic,
    "a list of long integers": lambda x: [10**400] * len(x),
    "a list of None": lambda x: [None] * len(x),
    "a long list": lambda x: [1.0] * 1_000_000,
    # other objects
    "evil": lambda x: EvilObject(),
    "an evil type": lambda x: EvilMeta("Evil", (), EVIL)(),
    "an evil dictionary": lambda x: EvilDict(a=1),
    "an endless iterator": lambda x: itertools.count(),
    "a generator": lambda x: (float(v) for v in x),
    "a range": lambda x: range(len(x)),
    "a long range": lambda x: range(10**15),
    "a dictionary": lambda x: dict(enumerate(x.tolist())),
    "a set": lambda x: set(x.tolist()),
    "a deque": lambda x: collections.deque(x.tolist()),
    "an array of the standard library": lambda x: array.array("f", x.tolist()),
    "a memoryview": lambda x: memoryview(x.numpy()),
    "text": lambda x: "gradient"[: len(x)],
    "bytes": lambda x: bytes(len(x)),
    "a number": lambda x: 0.5,
    "a NumPy number": lambda x: np.float32(0.5),
    "a decimal": lambda x: decimal.Decimal("NaN"),
    "a long integer": lambda x: 10**10_000,
    "True": lambda x: True,
    "a function": lambda x: lambda: x,
    "a class": lambda x: Tensor,
    "messages": lambda x: ByzantineMessages(x),
    "an exception": lambda x: SystemExit(0),
}
"""Data that is no finite vector of floats."""


def vector(seed: int, size: int = D) -> Tensor:
    """Return numbers that are exact in bfloat16."""
    return torch.from_numpy(np.random.default_rng(seed).integers(-8, 8, size) / 4).float()


def expected(name: str, x: Tensor) -> Tensor:
    """Return the vector that a receiver reads from valid data."""
    return (
        torch.full_like(x, 3.0) if name == "a list of integers" else x[:1].expand(len(x)) if name == "expanded" else x
    )


# Validation.


@pytest.mark.parametrize("name", VALID)
def test_ordinary_data_is_read(name: str) -> None:
    x, y = vector(1), vector(2)
    for content in ([VALID[name](x), y], (VALID[name](x), y)):
        checked = validate_messages(ByzantineMessages(content), 2, D)
        assert not checked.malformed.any()
        assert not checked.silent.any()
        assert torch.equal(checked.vectors, torch.stack([expected(name, x), y]))
        assert type(checked.vectors) is Tensor
        assert not checked.vectors.requires_grad
        assert not checked.vectors.is_inference()


@pytest.mark.parametrize("name", [n for n in VALID if "list" not in n and "tuple" not in n])
def test_ordinary_matrices_are_read(name: str) -> None:
    x = torch.stack([vector(1), vector(2), vector(3)])
    flat = VALID[name](x.flatten())
    if name == "replaced methods":
        flat = lying(x)
    elif name in ("a reversed array", "an unaligned array", "a strided array"):
        flat = np.lib.stride_tricks.as_strided(flat, x.shape, (D * flat.strides[0], flat.strides[0]))
    else:
        flat = flat.reshape(x.shape)
    checked = validate_messages(ByzantineMessages(flat), 3, D)
    assert torch.equal(checked.vectors, expected(name, x.flatten()).reshape(x.shape))
    assert not checked.malformed.any()


SHORT = [name for name in MALFORMED if name != "a long list"]


@pytest.mark.parametrize("name", MALFORMED)
def test_everything_else_is_malformed(name: str) -> None:
    x, y = vector(1), vector(2)
    hostile = MALFORMED[name](x)
    for content in ([hostile, y], (hostile, y)):
        checked = validate_messages(ByzantineMessages(content), 2, D)
        assert checked.malformed.tolist() == [True, False]
        assert torch.equal(checked.vectors, torch.stack([torch.zeros(D), y]))
        assert not checked.silent.any()
    for content in (hostile, [y, hostile, y], EvilList([y, y])):
        checked = validate_messages(ByzantineMessages(content), 2, D)
        assert checked.malformed.all()
        assert not checked.vectors.any()
    whole = validate_messages(hostile, 2, D)
    assert whole.malformed.tolist() == [name != "messages"] * 2
    flagged = validate_messages(ByzantineMessages([y, y], MALFORMED[name](x)), 2, D)  # type: ignore[arg-type]
    assert not flagged.malformed.any()
    assert torch.equal(flagged.vectors, torch.stack([y, y]))


def test_messages_may_lack_their_fields() -> None:
    assert validate_messages(object.__new__(ByzantineMessages), 2, D).malformed.all()
    assert validate_messages(type("Other", (ByzantineMessages,), {})(torch.zeros(2, D)), 2, D).malformed.all()
    assert validate_messages(None, 2, D).malformed.all()
    assert validate_messages(ByzantineMessages(None), 2, D).silent.all()  # type: ignore[arg-type]
    for content in (torch.zeros(0, D), [], None, object()):
        assert validate_messages(ByzantineMessages(content), 0, D).vectors.shape == (0, D)  # type: ignore[arg-type]


def test_messages_are_copies() -> None:
    sent = torch.zeros(2, D)
    checked = validate_messages(ByzantineMessages(sent), 2, D)
    sent.fill_(torch.nan)
    assert not checked.vectors.any()


# The federation.


@dataclass(frozen=True)
class Sends(MessageAttack):
    """Sends what `content(round, count, d)` returns."""

    content: Callable[[int, int, int], Any] = lambda number, count, d: ByzantineMessages(torch.zeros(count, d))
    equivocates: bool = False

    @property
    def threat(self) -> ThreatModel:
        return ThreatModel(frozenset({"byzantine"}), equivocates=self.equivocates)

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        count = len(context.edges) if self.equivocates else context.num_byzantine
        return self.content(context.round, count, context.num_parameters), memory


@cache
def experiment(topology: str = "complete", channel: str = "perfect", aggregator: str = "median") -> Experiment:
    algo = "gpomdp" if topology == "star" else "learn"
    return Experiment.create(
        f"{algo}(N=1, lr=0.05)",
        "zero",
        agents=8,
        byzantine=2,
        trajectories=3,
        topology=topology,
        env="cartpole",
        policy="linear",
        aggregator=aggregator,
        agreement="none",
        channel=channel,
    )


def received(todo: Experiment, attack: Attack, rounds: int = 2) -> tuple[list[Tensor], tuple[int, int, int]]:
    """Return what honest agents compute from their messages in some rounds, and the counters of messages."""
    federation, _ = federate(replace(todo, attack=attack))
    honest = slice(None) if todo.topology.__class__.__name__ == "Star" else ~todo.members.byzantine
    values: list[Tensor] = []
    for number in range(rounds):
        federation.begin(number, 0.0)
        x = vector(number, 8 * D).reshape(8, D)
        exchange = federation.gather if todo.algorithm.communication.name == "SERVER" else federation.exchange
        inbox = lockstep(exchange("gradient", x))
        values += [inbox.n[honest], inbox.f[honest], federation.aggregate(inbox, {})[0][honest]]
    counters = federation.counters
    return values, (counters.num_malformed, counters.num_silent, counters.messages)


def screened(messages: list[Tensor | str | None]) -> ByzantineMessages:
    """Return messages in the plainest form: NaN for malformed ones."""
    silent = torch.tensor([message is None for message in messages], dtype=torch.bool)
    rows = [m if isinstance(m, Tensor) else torch.full((D,), torch.nan) for m in messages]
    return ByzantineMessages(torch.stack(rows) if rows else torch.zeros(0, D), silent)


def assert_same(actual: tuple[list[Tensor], Any], reference: tuple[list[Tensor], Any]) -> None:
    assert actual[1] == reference[1]
    for a, b in zip(actual[0], reference[0], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)  # a server that receives nothing has NaN


@pytest.mark.parametrize("name", ["split_brain(zero)", "sleeper(zero, after=1)"])
@pytest.mark.parametrize("hostile", ["sparse", "evil", "a list of another length", "too short", "a long integer"])
def test_wrappers_of_attacks_send_anything(name: str, hostile: str) -> None:
    def content(whole: bool) -> Callable[[int, int, int], Any]:
        return lambda number, count, d: (
            ByzantineMessages(MALFORMED[hostile](vector(1)))
            if whole
            else ByzantineMessages([MALFORMED[hostile](vector(1)), vector(2)])
        )

    def nan(whole: bool) -> Callable[[int, int, int], Any]:
        return lambda number, count, d: screened(["malformed", "malformed" if whole else vector(2)])

    outer: Any = make("attack", name)
    for whole in (True, False):
        attacks = [replace(outer, inner=Sends(content=make_content(whole))) for make_content in (content, nan)]
        assert_same(*(received(experiment("ring"), attack) for attack in attacks))


@pytest.mark.parametrize("name", ["longdouble", "nested", "a list of another length", "a subclass of Tensor"])
def test_a_run_ends_as_under_the_screened_messages(name: str, tmp_path: Path) -> None:
    def hostile(number: int, count: int, d: int) -> ByzantineMessages:
        return ByzantineMessages([MALFORMED[name](vector(number)), vector(number)])

    def plain(number: int, count: int, d: int) -> ByzantineMessages:
        return screened(["malformed", vector(number)])

    lines = []
    for content in (hostile, plain):
        training = Training(replace(experiment(), attack=Sends(content=content)))
        lines.append([lockstep(training.advance()) for _ in range(2)])
        assert training.federation.counters.num_malformed == 2 * 7
    assert lines[0] == lines[1]


@pytest.mark.parametrize("number", range(3))
def test_asynchronous_agents_go_on_as_under_the_screened_messages(number: int) -> None:
    """Each message is of another kind; wrappers that change times share the kinds."""
    wrapper, kinds = ("", "rush", "slowdown")[number], ["silent", *SHORT][number::3]
    todo = replace(experiment(), schedule=make("schedule", "asynchronous(speed=lognormal)"))

    def messages(drawn: Iterator[int], count: int, is_hostile: bool) -> ByzantineMessages:
        chosen = [kinds[next(drawn) % len(kinds)] for _ in range(count)]
        read = [None if kind == "silent" else "malformed" for kind in chosen]
        hostile = [None if kind == "silent" else MALFORMED[kind](vector(1)) for kind in chosen]
        return ByzantineMessages(hostile) if is_hostile else screened(read)

    lines = []
    for is_hostile in (True, False):
        drawn = itertools.count()
        sends: Any = Sends(content=lambda r, count, d, args=(drawn, is_hostile): messages(args[0], count, args[1]))
        attack = replace(make("attack", wrapper), inner=sends) if wrapper else sends
        training = Training(replace(todo, attack=attack))
        lines.append([lockstep(training.advance()) for _ in range(10)])
        assert next(drawn) > len(kinds)
    assert lines[0] == lines[1]
    assert lines[0][-1]["num_malformed"] > len(kinds)


# Fuzzed messages.


@st.composite
def message(draw: st.DrawFn) -> tuple[Any, Tensor | str | None]:
    """Return data and what a receiver reads: a vector, None for silence, or "malformed"."""
    x = vector(draw(st.integers(0, 10_000)))
    what = draw(st.sampled_from(["valid", "malformed", "malformed", "silent", "shape", "numbers"]))
    if what == "silent":
        return None, None
    if what == "valid":
        name = draw(st.sampled_from(list(VALID)))
        return VALID[name](x), expected(name, x)
    if what == "malformed":
        return MALFORMED[draw(st.sampled_from(SHORT))](x), "malformed"
    if what == "shape":
        shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
        return draw(st.sampled_from([torch.zeros, np.zeros]))(shape), "malformed"
    numbers = draw(st.lists(st.one_of(st.floats(width=32), st.integers(-9, 9)), min_size=D, max_size=D))
    if draw(st.booleans()):
        return draw(st.sampled_from([list, tuple]))([*numbers[1:], True]), "malformed"
    read = torch.tensor([float(number) for number in numbers])
    form = draw(st.sampled_from([list, tuple, np.array, torch.tensor]))
    data = numbers if form in (list, tuple) else [float(number) for number in numbers]
    return form(data), read if read.isfinite().all() else "malformed"


@st.composite
def exchange(draw: st.DrawFn) -> tuple[Any, list[Tensor | str | None]]:
    """Return the messages of one exchange and what receivers read, for up to 14 senders or edges."""
    sent = [draw(message()) for _ in range(draw(st.integers(1, 2)))]
    sent = [sent[k % len(sent)] for k in range(14)]
    form = draw(st.sampled_from(["list", "tuple", "list", "subclass", "length", "one", "messages", "silent"]))
    return (form, draw(st.sampled_from(SHORT)), sent), [read for _, read in sent]


def packed(case: Any, count: int) -> tuple[Any, ByzantineMessages]:
    """Return the messages of a case for a number of senders, and what they are after validation."""
    (form, name, sent), read = case
    data, read = [value for value, _ in sent[:count]], read[:count]
    if form == "tuple":
        return ByzantineMessages(tuple(data)), screened(read)
    if form == "subclass":
        return ByzantineMessages(LongList(data)), screened(["malformed"] * count)
    if form == "length":
        return ByzantineMessages([*data, None]), screened(["malformed"] * count)
    if form == "one":  # one vector for all; a list would be read as one message for each
        one, value = next((pair for pair in sent if not isinstance(pair[0], list | tuple)), (None, None))
        return ByzantineMessages(one), screened([value] * count)
    if form == "messages" and name != "messages":
        return MALFORMED[name](vector(0)), screened(["malformed"] * count)
    if form == "silent":
        return ByzantineMessages(data, MALFORMED[name](vector(0))), screened(read)
    return ByzantineMessages(data), screened(read)


SETTINGS = st.tuples(
    st.sampled_from(["complete", "ring", "star"]),
    st.sampled_from(["perfect", "delay(mean=1.0)", "delay(mean=1.0, law=constant)", "loss", "quantise+delay"]),
    st.sampled_from(["median", "rfa", "centered_clipping"]),
    st.booleans(),
)


def fuzz(setting: tuple[str, str, str, bool], cases: list[Any]) -> None:
    *where, equivocates = setting
    equivocates = equivocates and setting[0] != "star"
    runs = [
        received(
            experiment(*where),
            Sends(content=lambda n, count, d, form=form: packed(cases[n], count)[form], equivocates=equivocates),
        )
        for form in (0, 1)
    ]
    assert_same(*runs)
    assert not RAN


CASES = given(SETTINGS, st.lists(exchange(), min_size=2, max_size=2))
QUIET = {"deadline": None, "database": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


@CASES
@settings(max_examples=50, phases=[Phase.generate], **QUIET)
def test_honest_agents_compute_what_they_compute_without_malformed_messages(
    setting: tuple[str, str, str, bool], cases: list[Any]
) -> None:
    fuzz(setting, cases)


@pytest.mark.slow
def test_honest_agents_compute_the_same_in_2000_cases() -> None:
    @CASES
    @settings(max_examples=2000, phases=[Phase.generate], **QUIET)
    def check(setting: tuple[str, str, str, bool], cases: list[Any]) -> None:
        fuzz(setting, cases)

    with at_most(600):
        check()


# The memory of an attack.


@dataclass(frozen=True)
class Remembers(MessageAttack):
    """Keeps what `memory(context)` returns."""

    memory: Callable[[], Any] = dict
    when: str = "craft"

    @property
    def threat(self) -> ThreatModel:
        return ThreatModel(frozenset({"byzantine"}), frozenset({"messages", "environment"}))

    def start(self, context: AttackContext) -> State:
        return self.memory() if self.when == "start" else {}

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        return ByzantineMessages(context.byzantine), self.memory() if self.when == "craft" else memory

    def hook_environment(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[EnvHooks, State]:
        return EnvHooks(), self.memory() if self.when == "hook" else memory


UNSAVABLE: dict[str, tuple[Callable[[], Any], str]] = {
    "a list": (lambda: [torch.zeros(1)], "got list"),
    "None": (lambda: None, "got NoneType"),
    "a number": (lambda: {"x": 1.0}, "got float for 'x'"),
    "an array": (lambda: {"x": np.zeros(1)}, "got ndarray for 'x'"),
    "nested": (lambda: {"x": {"y": torch.zeros(1)}}, "got dict for 'x'"),
    "sparse": (lambda: {"x": torch.zeros(1).to_sparse()}, "got torch.sparse_coo torch.float32 for 'x'"),
    "meta": (lambda: {"x": torch.zeros(1, device="meta")}, "got torch.strided torch.float32 for 'x'"),
    "complex": (lambda: {"x": torch.zeros(1).to(torch.complex128)}, "got torch.strided torch.complex128 for 'x'"),
    "a key": (lambda: {1: torch.zeros(1)}, "got a key of type int"),
    "a bad key": (lambda: {"\ud800": torch.zeros(1)}, r"got the key '\ud800'"),
    "evil": (EvilObject, "got EvilObject"),
    "an evil dictionary": (lambda: EvilDict(x=torch.zeros(1)), "got EvilDict"),
    "an evil value": (lambda: {"x": EvilObject()}, "got EvilObject for 'x'"),
    "a subclass of Tensor": (lambda: {"x": torch.zeros(1).as_subclass(EvilTensor)}, "got EvilTensor for 'x'"),
}


@pytest.mark.parametrize("when", ["start", "craft", "hook"])
@pytest.mark.parametrize("name", UNSAVABLE)
def test_memory_that_cannot_be_saved_is_one_line(name: str, when: str) -> None:
    memory, text = UNSAVABLE[name]
    with pytest.raises(BrokenPlugin) as error:
        lockstep(Training(replace(experiment(), attack=Remembers(memory=memory, when=when))).advance())
    assert str(error.value) == f"attack test_hostile_messages: its memory must be a dict of tensors by name, {text}"


KEYS = ("x", "", "a/b", "seen.", "seen.x", "seen.seen.x", "history.gradient", "seen.history.gradient", "memory/seen.x")


@dataclass(frozen=True)
class Counts(MessageAttack):
    """Sends a number that it keeps under each of many keys, and sees what was aggregated before."""

    @property
    def threat(self) -> ThreatModel:
        return ThreatModel(frozenset({"byzantine", "history"}))

    def start(self, context: AttackContext) -> State:
        return {key: torch.tensor(float(k)) for k, key in enumerate(KEYS)}

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        assert set(memory) == set(KEYS)
        total = torch.stack([memory[key] for key in KEYS]).sum()
        past = 0.0 if context.history is None else context.history
        return ByzantineMessages((context.byzantine * 0 + total) / 100 + past), {k: v + 1 for k, v in memory.items()}


def test_memory_survives_under_any_key(tmp_path: Path) -> None:
    todo = replace(experiment(), attack=Counts(), trajectories=4)
    whole = run(todo, out=tmp_path / "whole")

    def kill(line: Any) -> None:
        if line["round"] == 1:
            raise RuntimeError("killed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("byzbench.experiments.runner.SAVE_EVERY", -1.0)
        with pytest.raises(RuntimeError, match="killed"):
            run(todo, out=tmp_path / "resumed", callback=kill)
    assert run(todo, out=tmp_path / "resumed").trace == whole.trace
    adversary = federate(todo)[1]
    saved = adversary.state_dict()
    adversary.load_state_dict(saved)
    assert set(saved) == {f"seen.{key}" if key.startswith("seen.") else key for key in KEYS}
    assert adversary.state_dict() == saved
