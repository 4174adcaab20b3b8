"""Small tanh networks from files: the policies of attacks that were trained."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from byzbench.contracts import State
from byzbench.errors import InvalidParameter


def read_network(path: Path, inputs: int, outputs: int) -> State:
    """The layers in a file, float32 `0.weight` [m, n], `0.bias` [m], `1.weight` and so on, from inputs to outputs.

    They may be numbered with gaps, as in the state of a torch.nn.Sequential in which other modules stand between them.
    """
    try:
        read = safetensors.torch.load(path.read_bytes())
        numbers = sorted({int(name.partition(".")[0]) for name in read})
        layers = [(read.pop(f"{n}.weight").float(), read.pop(f"{n}.bias").float()) for n in numbers]
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        said = str(error).partition("\n")[0]
        raise InvalidParameter(f"{path} is no policy: {type(error).__name__}: {said}") from None
    shapes = [tuple(part.shape) for layer in layers for part in layer]
    widths = [inputs, *(shape[0] if shape else 0 for shape in shapes[1::2])]
    due = [shape for n, m in pairwise(widths) for shape in ((m, n), (m,))]
    if read or not layers or shapes != due or widths[-1] != outputs:
        raise InvalidParameter(
            f"{path} is no policy from {inputs} numbers to {outputs}: it holds {[*read]} and layers {shapes}"
        )
    if not all(bool(part.isfinite().all()) for layer in layers for part in layer):
        raise InvalidParameter(f"{path} is no policy: not all of its numbers are finite")
    return {f"{i}.{name}": part for i, (w, b) in enumerate(layers) for name, part in (("weight", w), ("bias", b))}


def forward(network: State, x: Tensor) -> Tensor:
    """The network at x [n]: tanh after every layer, the last included."""
    for layer in range(len(network) // 2):
        x = torch.tanh(network[f"{layer}.weight"] @ x + network[f"{layer}.bias"])
    return x
