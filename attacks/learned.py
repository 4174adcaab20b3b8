"""Learned: liars whose policy was trained in the attacker's seat."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from byzbench.attacks._network import forward, read_network
from byzbench.contracts import Speech, State, SteeredAttack, Threat
from byzbench.errors import Undefined

if TYPE_CHECKING:
    from byzbench.federation.view import View

_POLICY = "policy."
_TINY = 1e-150
_unit = partial(normalize, dim=0, eps=_TINY)
_cosine = partial(cosine_similarity, dim=0, eps=_TINY)


@dataclass(frozen=True)
class Learned(SteeredAttack):
    """All liars send one vector, as far from the honest mean and in the direction that a trained policy says.

        m = mu + 10^(1.5 a_0) s unit(-a_1 unit(mu) - a_2 unit(sign(mu) sd) + a_3 p + a_4 unit(v - mu))

    mu, sd [d] the mean and the standard deviations of the honest vectors x [h, d], s = ||sd|| their spread, v [d] what
    the rule made of the last exchange, and p [d] one random direction for all times, as far as it is orthogonal to mu.
    The policy is a tanh network from eight numbers, each in [-1, 1], to a in [-1, 1]^5:

        t / (t + 20); the coin (1 large, -1 small, 0 not tossed); 2 f / K; log10(s / ||mu||) / 2; cos(v, mu);
        log10(||v|| / ||mu||) / 2; and of the last lie, which went l from the mean of its exchange, mu':
        <v - mu', l> / ||l||^2, the share of it that the rule took; half of <v - mu', l> / (||l|| s'), in spreads

    It depends on no scale, and is not told the rule: it feels it. The policy `cartpole` was trained on that task by
    benchmarks/attacker.py. To train another, see `byzbench.envs.AttackerSeat`: a policy is a file of safetensors, the
    state of a torch.nn.Sequential of Linear layers, with tanh between them and after the last.

    Source: Li, Sun, Zheng 2022, "Learning to attack federated learning", NeurIPS.

    Differs from the source in: the federation learns by policy gradients; a lie is made of the vectors of the round
    rather than of steps on the attacker's own data; the policy sees statistics rather than parameters.

    Memory: the policy under `policy.`; for each topic `.aside` [d], `.mean` [d], `.push` [d] and `.spread`.
    """

    source: ClassVar[str] = "Li, Sun, Zheng 2022, NeurIPS"
    observation_size: ClassVar[int] = 8
    action_size: ClassVar[int] = 5
    policy: Annotated[str, Field(description="`cartpole`, or the path of a file of safetensors")] = "cartpole"

    def __post_init__(self) -> None:
        """Refuse a policy that is none."""
        super().__post_init__()
        self._network()

    @property
    def threat(self) -> Threat:
        """Omniscient, colluding, and remembers."""
        return Threat(sees=frozenset({"colluders", "honest", "coin", "history"}))

    @property
    def data(self) -> tuple[Path, ...]:
        """The file of its policy."""
        shipped = files("byzbench.attacks") / f"learned_{self.policy}.safetensors"
        return (Path(str(shipped)) if shipped.is_file() else Path(self.policy),)

    def check(self, agents: int, byzantine: int) -> None:
        """Refuse a single honest vector, which has no spread."""
        if agents - byzantine < 2:
            raise Undefined(f"learned: with K={agents}, f={byzantine} there is no honest spread to measure lies in")

    def start(self, view: View) -> State:
        """The policy."""
        return {_POLICY + name: part for name, part in self._network().items()}

    def _network(self) -> State:
        return read_network(self.data[0], self.observation_size, self.action_size)

    def observe(self, view: View, memory: State) -> Tensor:
        """The eight numbers."""
        mean, spread, _ = _cloud(view)
        last = mean if view.history is None else view.history.double().mean(0)
        seen = {
            "time": view.round / (view.round + 20),
            "coin": 0.0 if view.coin is None else 2 * float(view.coin[0]) - 1,
            "share": 2 * view.byzantine / view.agents,
            "spread": _magnitude(spread, mean.norm()),
            "turn": float(_cosine(last, mean)),
            "length": _magnitude(last.norm(), mean.norm()),
            "pull": 0.0,
            "gain": 0.0,
        }
        if view.history is not None and f"{view.topic}.push" in memory:
            push, before = memory[f"{view.topic}.push"], memory[f"{view.topic}.mean"]
            way, length = (last - before) @ push, push.norm().clamp(min=_TINY)
            seen["pull"] = float(way / length**2)
            seen["gain"] = float(way / length / memory[f"{view.topic}.spread"].clamp(min=_TINY)) / 2
        return torch.tensor(list(seen.values()), dtype=torch.float64).nan_to_num().clamp(-1, 1).float()

    def choose(self, observation: Tensor, memory: State) -> Tensor:
        """The network's action."""
        return forward(
            {k.removeprefix(_POLICY): part for k, part in memory.items() if k.startswith(_POLICY)}, observation
        )

    def say(self, view: View, action: Tensor, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """The lie of an action, the same from every liar."""
        mean, spread, deviation = _cloud(view)
        last = mean if view.history is None else view.history.double().mean(0)
        aside = memory.get(f"{view.topic}.aside")
        if aside is None:
            aside = torch.from_numpy(rng.standard_normal(len(mean)))
        ahead = _unit(mean)
        ways = torch.stack(
            [-ahead, -_unit(mean.sign() * deviation), _unit(aside - (aside @ ahead) * ahead), _unit(last - mean)]
        )
        strength, *mix = action.double().clamp(-1, 1)
        push = 10 ** (1.5 * strength) * spread * _unit(torch.stack(mix) @ ways)
        kept = {"aside": aside, "mean": mean, "push": push, "spread": spread}
        lie = (mean + push).to(view.honest.dtype).expand_as(view.colluders)
        return Speech(lie), {**memory, **{f"{view.topic}.{name}": part for name, part in kept.items()}}


def _cloud(view: View) -> tuple[Tensor, Tensor, Tensor]:
    """Of the honest vectors the mean [d], the spread and the standard deviations [d], in float64."""
    deviation, mean = torch.std_mean(view.honest.double(), 0, correction=0)
    return mean, deviation.norm(), deviation


def _magnitude(of: Tensor, beside: Tensor) -> float:
    """Half of the decimal logarithm of a ratio of lengths."""
    return float((of.clamp(min=_TINY) / beside.clamp(min=_TINY)).log10()) / 2
