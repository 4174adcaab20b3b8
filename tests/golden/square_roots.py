"""Correctly rounded square roots in torch.

Where torch is built with MKL, its square root starts from the processor's approximate reciprocal, so that one in six
results differs in the last bit, and which ones do depends on who made the processor. None of MKL's settings changes it.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

_registered: list[torch.library.Library] = []
"""Registrations, which end when the objects do."""


def use_exact_square_roots() -> None:
    """Replace torch's square root on the CPU by NumPy's, for the rest of the process."""
    library = torch.library.Library("aten", "IMPL")
    _registered.append(library)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the operator is overridden
        library.impl("sqrt", _sqrt, "CPU")
        library.impl("sqrt_", _sqrt_in_place, "CPU")
        library.impl("sqrt.out", _sqrt_out, "CPU")


def _sqrt(x: Tensor) -> Tensor:
    real = x if x.is_floating_point() else x.to(torch.get_default_dtype())
    with np.errstate(invalid="ignore"):
        return torch.from_numpy(np.asarray(np.sqrt(real.detach().numpy())))


def _sqrt_in_place(x: Tensor) -> Tensor:
    return x.copy_(_sqrt(x))


def _sqrt_out(x: Tensor, *, out: Tensor) -> Tensor:
    return out.copy_(_sqrt(x))
