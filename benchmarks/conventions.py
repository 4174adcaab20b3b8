"""Whether rules that follow the conventions of other programs return what those programs return.

    python benchmarks/conventions.py CODE [--draws 200] [--write]    # the table; CODE is a folder, see below
    python benchmarks/conventions.py CODE --run NAME FILE            # one program, in this process

CODE holds the programs, each of which runs in a process of its own; what is missing is left out:

    git -C CODE clone https://github.com/epfml/byzantine-robust-noniid-optimizer
    git -C CODE clone https://github.com/LPD-EPFL/ByzantineMomentum
    git -C CODE clone https://github.com/JianXu95/SignGuard
    pip install --target CODE scikit-learn==1.9.1                    # of SignGuard
    pip download --no-deps --python-version 3.13 --only-binary=:all: krum==0.9.1, and unzip it into CODE

`--write` keeps the values of the first draws in tests/golden/peers.json, which tests compare.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

KEPT = Path(__file__).resolve().parent.parent / "tests" / "golden" / "peers.json"
KEPT_DRAWS, KEPT_NUMBERS, DECIMALS = 4, 1100, 4

Call = Callable[[torch.Tensor, int], torch.Tensor]


def epfml(code: Path) -> Call:
    """Krum of one selected vector."""
    sys.path.insert(0, str(code / "byzantine-robust-noniid-optimizer"))
    from codes.aggregator.krum import Krum

    return lambda x, f: Krum(len(x), f, 1)(list(x))


def byzantine_momentum(code: Path) -> Call:
    """Bulyan of its authors, without their compiled module."""
    sys.path.insert(0, str(code / "ByzantineMomentum"))
    aggregate = importlib.import_module("aggregators.bulyan").aggregate
    return lambda x, f: aggregate(list(x), f)


def krum(code: Path) -> Call:
    """Bulyan of the package krum."""
    sys.path.insert(0, str(code))
    from krum.primitives.aggregators.bulyan import Bulyan

    return lambda x, f: Bulyan.aggregate(x, n=len(x), f=f)


def signguard(code: Path) -> Call:
    """SignGuard of its authors, on a window at the start that `Window` draws."""
    sys.path[:0] = [str(code / "SignGuard"), str(code)]
    path = code / "SignGuard" / "aggregators" / "signguard.py"
    spec = importlib.util.spec_from_file_location("signguard", path)  # its package imports more programs
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    np.argwhere = np.flatnonzero  # it converts rows of one index to integers, which NumPy 2.4 refuses

    def call(x: torch.Tensor, f: int) -> torch.Tensor:
        d = x.shape[-1]
        start = int(Window().integers(d - int(0.1 * d)))
        torch.randint = lambda *_, **__: torch.tensor([start])
        return module.signguard_multiclass().aggregate(list(x), f)[0]

    return call


@dataclass(frozen=True)
class Peer:
    """A program, our rule that follows its conventions, our default, and the sizes (n, f, d) of inputs."""

    label: str
    load: Callable[[Path], Call]
    rule: str
    default: str
    sizes: tuple[tuple[int, int, int], ...]


PEERS = {
    "epfml": Peer("epfml's Krum", epfml, "krum:power=4", "krum", ((9, 2, 6), (13, 3, 6))),
    "authors": Peer(
        "Bulyan's authors", byzantine_momentum, "bulyan:compat=authors", "bulyan", ((7, 1, 6), (11, 2, 6), (16, 3, 6))
    ),
    "krum": Peer("krum 0.9.1, Bulyan", krum, "bulyan:compat=krum", "bulyan", ((7, 1, 6), (11, 2, 6), (16, 3, 6))),
    "signguard": Peer("SignGuard", signguard, "signguard:compat=official", "signguard", ((13, 3, 80), (20, 4, 1000))),
}


def inputs(peer: Peer, draws: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield vectors [n, d] around a common direction, every second time of heavy tails, of which f are shifted."""
    for draw in range(draws):
        n, f, d = peer.sizes[draw % len(peer.sizes)]
        rng = np.random.default_rng([draw, n, d])
        x = rng.standard_t(2, (n, d)) if draw % 2 else rng.standard_normal((n, d))
        x += 0.5 * rng.standard_normal(d)
        x[:f] += rng.choice([-1.5, 0.5, 3.0])
        yield x.round(DECIMALS), f


def run(peer: Peer, code: Path, path: Path) -> None:
    """Replace the inputs in a file by the values that the program returns; NaN where it returns none."""
    call, values = peer.load(code), []
    for x, f in json.loads(path.read_text()):
        vectors = torch.tensor(x, dtype=torch.float64)
        try:
            values.append(call(vectors, f).tolist())
        except ValueError:
            values.append([float("nan")] * vectors.shape[-1])
    path.write_text(json.dumps(values))


def run_apart(name: str, code: Path, draws: int) -> np.ndarray | str:
    """Return the values of a program in a process of its own [draws, d], or why it cannot run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "values.json"
        path.write_text(json.dumps([(x.tolist(), f) for x, f in inputs(PEERS[name], draws)]))
        command = [sys.executable, __file__, str(code), "--run", name, str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["no output"])[-1]
        return json.loads(path.read_text())


class Window(np.random.Generator):
    """A generator that draws the coordinates of SignGuard's window, whether asked for its start or for coordinates."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def choice(self, total: int, count: int, replace: bool) -> np.ndarray:
        """Return the coordinates of the window."""
        return super().integers(total - count) + np.arange(count)


def equal(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Return whether values are equal up to the rounding of float32, in which some programs compute."""
    return bool(np.allclose(ours, theirs, rtol=1e-5, atol=1e-5))


def main() -> None:
    """Compare, print a table, and write the values."""
    from byzbench.core import RuleContext
    from byzbench.registry import make

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("code", type=Path, help="folder that holds the programs")
    parser.add_argument("--draws", type=int, default=200, help="inputs for each program")
    parser.add_argument("--write", action="store_true", help=f"keep the first values in {KEPT.name}")
    parser.add_argument("--run", nargs=2, metavar=("NAME", "FILE"), help="one program on the inputs of a file")
    given = parser.parse_args()
    if given.run:
        warnings.simplefilter("ignore")
        run(PEERS[given.run[0]], given.code.resolve(), Path(given.run[1]))
        return
    kept = []
    print("| program | rule | equal | equal by default | no value |\n|---|---|---:|---:|---:|")
    for name, peer in PEERS.items():
        values = run_apart(name, given.code, given.draws)
        if isinstance(values, str):
            print(f"| {peer.label} | {peer.rule} | {values} | | |")
            continue
        cases = [(x, f, value) for (x, f), value in zip(inputs(peer, given.draws), values, strict=True)]
        defined = [case for case in cases if np.isfinite(case[2]).all()]
        counts = [
            sum(
                equal(make("aggregator", rule)(x, f, RuleContext(rng=Window())).value.numpy(), value)
                for x, f, value in defined
            )
            for rule in (peer.rule, peer.default)
        ]
        print(f"| {peer.label} | {peer.rule} | {counts[0]} | {counts[1]} | {len(cases) - len(defined)} |", flush=True)
        kept += [
            {"rule": peer.rule, "f": f, "x": x.tolist(), "value": np.round(value, 6).tolist()}
            for x, f, value in [case for case in defined if case[0].size <= KEPT_NUMBERS][:KEPT_DRAWS]
        ]
    if given.write:
        KEPT.write_text("[\n" + ",\n".join(map(json.dumps, kept)) + "\n]\n")


if __name__ == "__main__":
    main()
