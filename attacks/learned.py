"""Learned attack: a trained policy chooses the direction and the length of the message."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from byzbench.core import AttackContext, ByzantineMessages, Setting, State, SteeredAttack, ThreatModel
from byzbench.errors import Undefined
from byzbench.rl.tanh_network import apply_network, read_network

_POLICY = "policy."
_TINY = 1e-150
_unit = partial(normalize, dim=0, eps=_TINY)
_cosine = partial(cosine_similarity, dim=0, eps=_TINY)


@dataclass(frozen=True)
class Learned(SteeredAttack):
    """Message attack that sends one vector, at a distance and in a direction that a trained policy chooses.

        m = mu + 10^(1.5 a_0) s unit(-a_1 unit(mu) - a_2 unit(sign(mu) sd) + a_3 p + a_4 unit(v - mu))

    mu, sd [d] the mean and the standard deviations of the honest vectors x [h, d], s = ||sd|| their spread, v [d] the
    output of the rule in the last exchange, and p [d] a random direction that is drawn once, projected orthogonally to
    mu. The policy is a tanh network from eight numbers, each in [-1, 1], to a in [-1, 1]^5:

        t / (t + 20); the coin (1 large, -1 small, 0 not drawn); 2 f / K; log10(s / ||mu||) / 2; cos(v, mu);
        log10(||v|| / ||mu||) / 2; and of the last message, which was mu' + l, with mu' and s' of its exchange:
        <v - mu', l> / ||l||^2, the share of l in the output of the rule; half of <v - mu', l> / (||l|| s'), in spreads

    The policy is scale-invariant. It is not given the rule, and observes only the effect of its messages. The policy
    `cartpole` was trained on that task by benchmarks/attacker.py. To train another, see `byzbench.envs.AttackEnv`: a
    policy is a file of safetensors, the state of a torch.nn.Sequential of Linear layers, with tanh between them and
    after the last.

    Source: Li, Sun, Zheng 2022, "Learning to attack federated learning", NeurIPS.

    Differs from the source in: the federation learns by policy gradients; a message is computed from the vectors of the
    round rather than from steps on the attacker's own data; the policy observes statistics rather than parameters.

    Memory: the policy under `policy.`; for each topic `.aside` [d], `.mean` [d], `.push` [d] and `.spread`.
    """

    source: ClassVar[str] = "Li, Sun, Zheng 2022, NeurIPS"
    observation_size: ClassVar[int] = 8
    action_size: ClassVar[int] = 5
    policy: Annotated[str, Field(description="`cartpole`, or the path of a file of safetensors")] = "cartpole"

    def __post_init__(self) -> None:
        """Reject a file that holds no policy of the required sizes."""
        super().__post_init__()
        self._network()

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: omniscient and colluding, with the coin and the history."""
        return ThreatModel(knowledge=frozenset({"byzantine", "honest", "coin", "history"}))

    @property
    def data(self) -> tuple[Path, ...]:
        """Return the file of the policy."""
        shipped = files("byzbench.attacks") / f"learned_{self.policy}.safetensors"
        return (Path(str(shipped)) if shipped.is_file() else Path(self.policy),)

    def check(self, setting: Setting) -> None:
        """Reject a single honest vector, which has no spread."""
        agents, byzantine = setting.num_agents, setting.num_byzantine
        if agents - byzantine < 2:
            raise Undefined(
                f"learned: with K={agents}, f={byzantine} there are fewer than two honest vectors, and so no spread"
            )
        super().check(setting)

    def start(self, context: AttackContext) -> State:
        """Return the policy as the initial state."""
        return {_POLICY + name: part for name, part in self._network().items()}

    def _network(self) -> State:
        return read_network(self.data[0], self.observation_size, self.action_size)

    def observe(self, context: AttackContext, memory: State) -> Tensor:
        """Return the eight numbers of the class description."""
        mean, spread, _ = _honest_statistics(context)
        last_output = mean if context.history is None else context.history.double().mean(0)
        features = {
            "time": context.round / (context.round + 20),
            "coin": 0.0 if context.coin is None else 2 * float(context.coin[0]) - 1,
            "share": 2 * context.num_byzantine / context.num_agents,
            "spread": _magnitude(spread, mean.norm()),
            "turn": float(_cosine(last_output, mean)),
            "length": _magnitude(last_output.norm(), mean.norm()),
            "pull": 0.0,
            "gain": 0.0,
        }
        if context.history is not None and f"{context.topic}.push" in memory:
            push, last_mean = memory[f"{context.topic}.push"], memory[f"{context.topic}.mean"]
            along, length = (last_output - last_mean) @ push, push.norm().clamp(min=_TINY)
            features["pull"] = float(along / length**2)
            features["gain"] = float(along / length / memory[f"{context.topic}.spread"].clamp(min=_TINY)) / 2
        return torch.tensor(list(features.values()), dtype=torch.float64).nan_to_num().clamp(-1, 1).float()

    def act(self, observation: Tensor, memory: State) -> Tensor:
        """Return the network's action."""
        return apply_network(
            {k.removeprefix(_POLICY): part for k, part in memory.items() if k.startswith(_POLICY)}, observation
        )

    def craft_action(
        self, context: AttackContext, action: Tensor, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: the vector of an action from every Byzantine agent.

        The arguments are those of `SteeredAttack.craft_action`.
        """
        mean, spread, deviation = _honest_statistics(context)
        last_output = mean if context.history is None else context.history.double().mean(0)
        random_vector = memory.get(f"{context.topic}.aside")
        if random_vector is None:
            random_vector = torch.from_numpy(rng.standard_normal(len(mean)))
        mean_direction = _unit(mean)
        directions = torch.stack(
            [
                -mean_direction,
                -_unit(mean.sign() * deviation),
                _unit(random_vector - (random_vector @ mean_direction) * mean_direction),
                _unit(last_output - mean),
            ]
        )
        strength, *mix = action.double().clamp(-1, 1)
        push = 10 ** (1.5 * strength) * spread * _unit(torch.stack(mix) @ directions)
        new_state = {"aside": random_vector, "mean": mean, "push": push, "spread": spread}
        crafted = (mean + push).to(context.honest.dtype).expand_as(context.byzantine)
        return ByzantineMessages(crafted), {
            **memory,
            **{f"{context.topic}.{name}": part for name, part in new_state.items()},
        }


def _honest_statistics(context: AttackContext) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean [d], the spread and the standard deviations [d] of the honest vectors, in float64."""
    deviation, mean = torch.std_mean(context.honest.double(), 0, correction=0)
    return mean, deviation.norm(), deviation


def _magnitude(length: Tensor, reference: Tensor) -> float:
    """Return half of the decimal logarithm of the ratio of two lengths."""
    return float((length.clamp(min=_TINY) / reference.clamp(min=_TINY)).log10()) / 2
