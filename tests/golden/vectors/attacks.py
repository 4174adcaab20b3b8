"""Attacks: the messages and the environments of Byzantine agents in three rounds of fixed vectors and episodes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from byzbench.core import Communication, Setting
from byzbench.errors import Undefined
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import federate, lockstep, one_thread
from byzbench.federation.adversary import Adversary, ByzantineEnvHooks
from byzbench.federation.federation import SimulatedFederation
from byzbench.rl.rollouts import Trajectories
from tests.golden.cases import PEERS, SERVER, Options
from tests.golden.parts import Cases, Inputs, shipped
from tests.golden.running import described_inputs, experiment_of
from tests.golden.summaries import digest_of, short, summary

ROUNDS, STEPS, EPISODES = 3, 7, 3
TOPICS = ("gradient", "parameters")

ACROBOT = "acrobot"
GRID: Options = {"topology": "grid:columns=3", "agents": 9}
STAR: Options = {"topology": "star", "algo": SERVER["algo"], "agreement": "none"}

VARIANTS: Mapping[str, tuple[str | tuple[str, Options], ...]] = {
    "action_flip": (("action_flip", {"env": ACROBOT}), ("action_flip", {"env": "pendulum"})),
    "agr_tailored": ("agr_tailored:direction=sign,calls=120", ("agr_tailored:calls=120", {"aggregator": "nnm+krum"})),
    "alie": (
        "alie:rule=B,whose=honest,sign=plus,ddof=1",
        "alie:z=0.7,on=both",
        ("alie", {"agents": 12, "byzantine": 3}),
    ),
    "coin_aware": ("coin_aware(sign_flip, strike=small)", "coin_aware(random_action)"),
    "dissensus": (("dissensus:epsilon=2.0", GRID),),
    "dynamics": ("dynamics:constant=length,factor=0.5",),
    "fang": ("fang:against=krum", "fang:b=3.0,on=both", ("fang:against=krum", {"agents": 9, "byzantine": 1})),
    "fixed_bias": ("fixed_bias:relative=False,strength=0.3,on=both",),
    "fgsm": (("fgsm:epsilon=0.3", {"env": ACROBOT}),),
    "gaussian": ("gaussian:sd=2.0,mean=0.5", "gaussian:relative=False"),
    "hidden_coordinate": ("hidden_coordinate:relative=False,scale=2.0,coordinate=5",),
    "isolation": (("isolation", GRID), ("isolation:weights=uniform", GRID)),
    "large_noise": ("large_noise:equivocate=False,scale=2.0", "large_noise:relative=False"),
    "learned": ("learned:on=both", ("learned", STAR)),
    "markov": ("markov(replay(delay=1), on=0.9, off=0.5)", "markov(reward_flip, on=0.5)"),
    "mda_fooling": ("mda_fooling:direction=unit",),
    "mimic": ("mimic:warmup=2,on=both", "mimic:copy=1"),
    "min_max": ("min_max:direction=unit", "min_max:direction=sign,on=both"),
    "min_sum": ("min_sum:bound=min", "min_sum:direction=sign"),
    "non_finite": ("non_finite:where=once,value=inf", "non_finite:value=-inf,on=both"),
    "normalized": ("normalized:calls=81,direction=std", ("normalized:calls=81,direction=unit", STAR)),
    "observation_noise": ("observation_noise:shape=gaussian", "observation_noise:shape=sign,epsilon=0.5"),
    "optimal_alie": (("optimal_alie:calls=60", {"aggregator": "centered_clipping:radius=1"}),),
    "optimal_ipm": (("optimal_ipm:calls=60", {"aggregator": "krum"}), ("optimal_ipm:calls=60", STAR)),
    "partial_drop": ("partial_drop:equivocate=True,share=0.3,on=both",),
    "random_action": (
        "random_action:constant=1",
        ("random_action", {"env": ACROBOT}),
        ("random_action", {"env": "pendulum"}),
    ),
    "replay": ("replay:delay=1,on=both",),
    "reward_flip": ("reward_flip:scale=2.0",),
    "reward_poison": ("reward_poison:epsilon=0.3",),
    "rop": ("rop:z=2.0,pi=0.4,lam=0.2,angle=120,on=both", ("rop", STAR)),
    "same_value": ("same_value:relative=False,scale=0.5",),
    "selfish": (
        ("selfish", GRID),
        ("selfish:rule=mean,lam=0.4", GRID),
        ("selfish:rule=mean,lam=1.5", GRID),
        ("selfish:rule=median", GRID),
        ("selfish:lam=0.3", {}),
    ),
    "sign_flip": ("sign_flip:of=honest_mean,scale=2.5",),
    "silence": ("silence:q=0.5,equivocate=True,on=both",),
    "sleeper": ("sleeper(large_noise, after=1)", "sleeper(observation_noise, after=2)"),
    "spectral_heterogeneity": (("spectral_heterogeneity:calls=40", GRID),),
    "split_brain": (
        ("split_brain(ipm(on=both), about=colluders)", GRID),
        "split_brain(silence(q=0.5))",
        "split_brain(large_noise)",
    ),
    "v_bsa": ("v_bsa:action=1,gate=0.1,scale=5.0,width=2.0", ("v_bsa", {"env": ACROBOT})),
    "weight_search": (("weight_search:calls=300", {"aggregator": "krum"}),),
}
"""Variants of an attack as users write them, with options of the experiment."""

ALONE: Mapping[str, str] = {
    "agr_tailored": "agr_tailored:calls=120",
    "coin_aware": "coin_aware(sign_flip)",
    "markov": "markov(sign_flip, on=0.6, off=0.6)",
    "normalized": "normalized:calls=81",
    "optimal_alie": "optimal_alie:calls=40",
    "optimal_ipm": "optimal_ipm:calls=40",
    "sleeper": "sleeper(sign_flip, after=1)",
    "spectral_heterogeneity": "spectral_heterogeneity:calls=40",
    "split_brain": "split_brain(ipm(on=both))",
    "weight_search": "weight_search:calls=240",
}
"""How an attack is written where its defaults take long or use another attack."""


def generated() -> Cases:
    """Yield a case for every attack and variant."""
    for name, key in shipped("attack"):
        variants: tuple[str | tuple[str, Options], ...] = (ALONE.get(name, name), *VARIANTS.get(name, ()))
        for number, variant in enumerate(variants, 1):
            written, more = variant if isinstance(variant, tuple) else (variant, {})
            options = {**PEERS, "attack": written, **more}
            label = f"attack {key}" if number == 1 else f"attack {key} {number}"
            yield label, partial(described_inputs, options)


def outputs(name: str, inputs: Inputs) -> dict[str, Any]:
    """Return the messages of Byzantine agents, their episodes and their memory in three rounds."""
    todo = experiment_of(inputs["experiment"])
    with one_thread():
        federation, adversary = federate(todo)
        results: dict[str, Any] = {
            "check": " ".join(todo.attack.notes(todo.setting)),
            "refused": _refused(todo),
        }
        for round in range(ROUNDS):
            results[f"round {round}"] = _round(todo, federation, adversary, round)
        small = _round(todo, federation, adversary, ROUNDS, scale=1e-3)
        results["small messages"] = digest_of({topic: small.get(topic) for topic in TOPICS})
    return results


def _refused(todo: Experiment) -> str:
    """Return the numbers of agents and of Byzantine ones, as K:f, that the attack refuses."""
    refused = []
    for agents in (*range(1, 10), 13):
        for byzantine in range(1, agents):
            try:
                todo.attack.check(Setting(agents, byzantine))
            except Undefined:
                refused.append(f"{agents}:{byzantine}")
    return " ".join(refused)


def _round(
    todo: Experiment, federation: SimulatedFederation, adversary: Adversary, round: int, scale: float = 1.0
) -> dict[str, Any]:
    rng = np.random.default_rng([round, todo.agents])
    federation.begin(round, round / (ROUNDS + (round == ROUNDS)))
    lockstep(federation.common("coin", lambda rng: float(rng.random() < 0.5)))
    results: dict[str, Any] = {}
    truth = _episodes(todo, rng)
    tap = adversary.make_hooks(range(todo.agents), EPISODES, 1, federation.theta0)
    if tap is not None:
        truth = _through(tap, truth)
        changed = ("observations", "actions", "rewards")
        results["environment"] = summary({name: getattr(truth, name) for name in changed} | tap.dynamics())
    adversary.record_rollout(range(todo.agents), truth)
    for topic in TOPICS:
        x = torch.from_numpy(rng.standard_normal((todo.agents, federation.theta0.shape[1])) + 0.5).float() * scale
        if todo.attack.targets(topic) and (topic == "gradient" or todo.algorithm.communication != Communication.SERVER):
            results[topic] = _exchange(todo, federation, topic, x)
    results["memory"] = short(adversary.state_dict())
    return results


def _exchange(todo: Experiment, federation: SimulatedFederation, topic: str, x: Tensor) -> Any:
    """Return the messages of Byzantine agents in one exchange."""
    server = todo.algorithm.communication == Communication.SERVER
    inbox = lockstep(federation.gather(topic, x) if server else federation.exchange(topic, x))
    theirs = todo.members.byzantine[inbox.authors]
    messages = [summary(inbox.base[inbox.senders[theirs]]), short(inbox.mask[theirs])]
    if topic == "gradient":
        federation.aggregate(inbox, {})
    return messages


def _episodes(todo: Experiment, rng: np.random.Generator) -> Trajectories:
    """Return episodes of unequal length of every agent, with made-up observations, actions and rewards."""
    policy, shape = todo.trained_policy, (todo.agents, STEPS, EPISODES)
    observations = torch.from_numpy(rng.standard_normal((*shape, policy.observation_size))).float()
    if policy.dtype.is_floating_point:
        actions = torch.from_numpy(rng.standard_normal((*shape, *policy.action_shape))).float()
    else:
        actions = torch.from_numpy(rng.integers(todo.task.action_count, size=shape))
    lasts = torch.arange(STEPS).unsqueeze(1) < torch.arange(STEPS - EPISODES + 1, STEPS + 1)
    mask = lasts.expand(shape)
    rewards = (torch.from_numpy(rng.standard_normal(shape)) * mask).float()
    ended, count = torch.ones(todo.agents, EPISODES, dtype=torch.bool), torch.full((todo.agents,), EPISODES)
    return Trajectories(
        observations, actions, rewards, mask, ended, count, torch.zeros(todo.agents, EPISODES, observations.shape[-1])
    )


def _through(tap: ByzantineEnvHooks, truth: Trajectories) -> Trajectories:
    """Return the episodes after the environment hooks of Byzantine agents."""
    observations, actions = truth.observations.clone(), truth.actions.clone()
    for t in range(STEPS):
        if tap.observe:
            tap.observe(t, observations.numpy()[:, t])
        if tap.act:
            tap.act(t, actions.numpy()[:, t])
    parts = vars(truth) | {"observations": observations, "actions": actions, "rewards": tap.rewards(truth.rewards)}
    return Trajectories(**parts)
