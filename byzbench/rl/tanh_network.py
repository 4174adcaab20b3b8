"""Small tanh networks in files, for example the policies of trained attacks."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from byzbench.errors import InvalidParameter


def read_network(path: Path, inputs: int, outputs: int) -> dict[str, Tensor]:
    """Read the layers of a network, float32 `0.weight` [m, n], `0.bias` [m], `1.weight` and so on.

    The layers in the file may be numbered with gaps, as in the state of a torch.nn.Sequential with activations between
    them.

    Args:
        path: a file of safetensors.
        inputs: the input size of the network.
        outputs: its output size.

    Raises:
        InvalidParameter: the file cannot be read or has other tensors, the sizes differ, or a number is not finite.
    """
    try:
        tensors = safetensors.torch.load(path.read_bytes())
        numbers = sorted({int(name.partition(".")[0]) for name in tensors})
        layers = [(tensors.pop(f"{n}.weight").float(), tensors.pop(f"{n}.bias").float()) for n in numbers]
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        message = str(error).partition("\n")[0]
        raise InvalidParameter(f"{path} is no policy: {type(error).__name__}: {message}") from None
    shapes = [tuple(part.shape) for layer in layers for part in layer]
    widths = [inputs, *(shape[0] if shape else 0 for shape in shapes[1::2])]
    expected = [shape for n, m in pairwise(widths) for shape in ((m, n), (m,))]
    if tensors or not layers or shapes != expected or widths[-1] != outputs:
        raise InvalidParameter(
            f"{path} is no policy from {inputs} numbers to {outputs}: it holds {[*tensors]} and layers {shapes}"
        )
    if not all(bool(part.isfinite().all()) for layer in layers for part in layer):
        raise InvalidParameter(f"{path} is no policy: not all of its numbers are finite")
    return {f"{i}.{name}": part for i, (w, b) in enumerate(layers) for name, part in (("weight", w), ("bias", b))}


def apply_network(network: dict[str, Tensor], x: Tensor) -> Tensor:
    """Return the output of the network at x [n], with tanh after every layer, the last included.

    Example:
        >>> network = {"0.weight": torch.tensor([[1.0, -1.0]]), "0.bias": torch.tensor([0.0])}
        >>> apply_network(network, torch.tensor([2.0, 2.0]))
        tensor([0.])
    """
    for layer in range(len(network) // 2):
        x = torch.tanh(network[f"{layer}.weight"] @ x + network[f"{layer}.bias"])
    return x
