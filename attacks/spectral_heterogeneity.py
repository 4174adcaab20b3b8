"""Spectral heterogeneity: liars who widen the split that gossip is slowest to close."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from byzbench.attacks._graph import tell
from byzbench.attacks._search import Tried, maximise
from byzbench.contracts import On, Speech, State, Threat
from byzbench.errors import Undefined

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class SpectralHeterogeneity(Tried):
    """All liars tell agent i its own vector, pushed along the graph's slowest mode.

        m[i] = x[i] + lam phi[i] (phi^T x),    lam >= 0 of largest <F_i(x, m[i], ..., m[i]), phi[i] unit(phi^T x)>

    x [h, d] the honest vectors, phi [h] the Fiedler vector of the graph of honest agents: the unit vector of the least
    positive eigenvalue of its Laplacian, the split that takes longest to heal. F_i is the rule at one honest agent,
    tried on a clone. Of several such eigenvectors phi is the combination along which x is most spread.

    Source: Gaucher, Dieuleveut, Hendrikx 2025, "Unified breakdown analysis for Byzantine robust gossip", ICML.

    Differs from the source in: lam is searched at one receiver, and told to all; where that one stands on a node of
    phi, which shows nothing, lam = 1.

    Cost: about 11 ms an exchange against the mean, 22 ms against nnm+trimmed_mean, for 120 calls at K=13, d=386.

    Memory: `modes` [h, c], the c eigenvectors of that eigenvalue.
    """

    source: ClassVar[str] = "Gaucher et al. 2025, ICML"
    on: On = field(default="parameters", kw_only=True)

    @property
    def threat(self) -> Threat:
        """Omniscient, colluding, equivocating, and knows the rule and the graph."""
        return Threat(sees=frozenset({"colluders", "honest", "graph", "defence"}), equivocates=True, calls=self.calls)

    def check(self, agents: int, byzantine: int) -> None:
        """Refuse a single honest agent, whose graph has no modes."""
        if agents - byzantine < 2:
            raise Undefined(
                f"spectral_heterogeneity needs two honest agents to drive apart, got K={agents}, f={byzantine}"
            )

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """To each receiver its own vector."""
        modes = memory.get("modes")
        if modes is None:
            modes = _slowest(view)
        x = view.honest.double()
        # x as seen by the modes; its first singular vector is the widest of their combinations.
        mode = modes @ torch.linalg.svd(modes.T @ x, full_matrices=False).U[:, 0]
        split = mode @ x
        at = (view.peers == view.defence.receiver).nonzero().flatten()
        lam = 1.0
        if len(at) and mode[at].abs() > 1e-9:
            seat = int(at)
            push, outward = mode[seat] * split, mode[seat].sign() * normalize(split, dim=0, eps=1e-150)
            lam, _ = maximise(
                lambda t: self.try_out(view, x[seat] + t.unsqueeze(1) * push) @ outward, self.calls, both=False
            )
        return tell(view, x + lam * mode.unsqueeze(1) * split), {**memory, "modes": modes}


def _slowest(view: View) -> Tensor:
    """The eigenvectors of the least eigenvalue of the honest graph's Laplacian, the constant one left out: [h, c]."""
    joined = (view.mixing[view.peers][:, view.peers] > 0).double().fill_diagonal_(0)
    h = len(joined)
    # A multiple of the constant vector's projector moves it above all others: no eigenvalue exceeds h.
    laplacian = joined.sum(1).diag() - joined + 2 * torch.ones(h, h, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(laplacian)
    return vectors[:, values <= values[0] + 1e-9 * h].contiguous()
