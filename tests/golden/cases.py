"""The tiny runs: one or more for every component of byzbench, generated from the registry, and one for each branch.

Runs are written here as options of `Experiment.create`, and stored in `expected.json` fully resolved: neither these
tables nor any default changes a run that is stored. To change one, give it a new name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from byzbench import registry
from byzbench.canonical import first_name

Options = Mapping[str, Any]

TINY = "mlp"
ALONE: dict[str, Any] = {"algo": "page_pg:N=1,B=1", "topology": None, "aggregator": None, "agreement": None}
ALONE |= {"agents": 1, "byzantine": 0, "attack": "none", "trajectories": 1, "also": []}

PEERS: Options = {
    "algo": "learn:N=1,lr=0.05",
    "attack": "ipm:scale=1.5",
    "topology": "complete",
    "env": "cartpole",
    "policy": TINY,
    "aggregator": "trimmed_mean",
    "agreement": "gossip+trimmed_mean",
    "agents": 7,
    "byzantine": 2,
    "trajectories": 3,
}
SERVER: Options = {**PEERS, "algo": "gpomdp:N=1,lr=0.05", "topology": "star", "agreement": "none"}
COIN: Options = {**PEERS, "algo": "dec_page_pg:N=2,B=1,p=0.5,lr=0.05", "agreement": "none", "trajectories": 6}
SHORT: Options = {**PEERS, "trajectories": 2, "also": []}
ASYNCHRONOUS: Options = {"schedule": "asynchronous:speed=two_speed", "trajectories": 6, "also": []}

BASES: Mapping[str, Options] = {
    "algorithm": {
        "attack": "ipm:scale=1.5",
        "env": "cartpole",
        "policy": TINY,
        "agents": 7,
        "byzantine": 1,
        "trajectories": 6,
        "also": ["evaluation"],
    },
    "attack": SHORT,
    "topology": {
        **SHORT,
        "also": ["diagnostics"],
        "aggregator": "weighted_mean",
        "agreement": "gossip+weighted_mean",
        "agents": 8,
    },
    "task": {**SERVER, "agents": 3, "byzantine": 1, "trajectories": 2, "also": ["evaluation"]},
    "aggregator": {**SHORT, "byzantine": 1, "agreement": "none"},
    "agreement": {**SHORT, "byzantine": 1, "aggregator": "cge", "attack": "split_brain(ipm(scale=1.5, on=both))"},
    "placement": {**SHORT, "also": ["diagnostics"], "topology": "grid:columns=3", "agents": 9, "agreement": "none"},
    "channel": {**SHORT, "trajectories": 4},
    "coin": {**COIN, "also": []},
    "policy": SHORT,
    "scenario": {**SERVER, "trajectories": 4, "also": ["evaluation"]},
    "schedule": {**PEERS, "also": ["seconds", "idle_share"]},
}

PAGE = {"N": 3, "B": 2, "p": 0.4, "lr": 0.02}
GOSSIP = {"N": 2, "lr": 0.02}


def algorithm(parameters: Options, **more: Any) -> dict[str, Any]:
    """Return the options of a run whose algorithm has these parameters."""
    return {"parameters": {"algorithm": dict(parameters)}, **more}


def page(**second: Any) -> tuple[Options, ...]:
    """Return the runs of a method of the PAGE family."""
    varied = {**PAGE, "optimizer": "sgd", "lr_schedule": "linear", "baseline": "others"}
    return algorithm(PAGE), {**algorithm(varied, attack="avg_zero", seed=1, also=[]), **second}


def gossip(**second: Any) -> tuple[Options, ...]:
    """Return the runs of a method that exchanges parameters."""
    attack = {"attack": "sign_flip:on=parameters"}
    varied = {**GOSSIP, "momentum": 0.5, "optimizer": "sgd", "lr_schedule": "inverse_sqrt", **second}
    return algorithm(GOSSIP, **attack), algorithm(varied, **attack, topology="ring", seed=1, also=[])


def svrg(**second: Any) -> tuple[Options, ...]:
    """Return the runs of a method whose server samples."""
    return algorithm({**GOSSIP, "B": 2}), algorithm({**GOSSIP, "B": 2, **second}, attack="sign_flip", seed=1, also=[])


OFFICIAL: Options = algorithm(PAGE, preset="official", attack="sign_flip", seed=1)

ON_THEIR_OWN: Options = {"schedule": "asynchronous(speed=two_speed)", "attack": "sign_flip", "seed": 1, "also": []}

RUNS: Mapping[str, tuple[Options, ...]] = {
    "algorithm afedpg": (
        {},
        algorithm({**GOSSIP, "decay": 0.5, "optimizer": "normalized", "rate_limit": 1.5}, **ON_THEIR_OWN),
    ),
    "algorithm aflguard": (
        algorithm({**GOSSIP, "B": 2, "refresh": 3}),
        algorithm({**GOSSIP, "B": 2, "lam": 5.0, "optimizer": "sgd"}, **ON_THEIR_OWN),
    ),
    "algorithm balance": gossip(corrected=True),
    "algorithm basgd": (
        algorithm(GOSSIP),
        algorithm({**GOSSIP, "buffers": 4}, aggregator="bucketing+centered_clipping", **ON_THEIR_OWN),
        algorithm({**GOSSIP, "buffers": 5, "filled": 4}, aggregator="trimmed_mean", **ON_THEIR_OWN),
    ),
    "algorithm bridge": gossip(gradient_at="screened"),
    "algorithm byzpg": (
        *page(),
        OFFICIAL,
        algorithm({**PAGE, "agg_on": "differences", "clip": 2.0}, attack="sign_flip"),
    ),
    "algorithm clipped_gossip": gossip(),
    "algorithm cs_plus": gossip(),
    "algorithm dec_page_pg": page(),
    "algorithm dec_pg": (algorithm(GOSSIP), algorithm({**GOSSIP, "optimizer": "normalized"}, attack="sign_flip")),
    "algorithm decbyzpg": (
        *page(),
        OFFICIAL,
        algorithm({**PAGE, "streams": "official"}, seed=3),
        algorithm({**PAGE, "optimizer": "clipped", "max_weight": 1.0}, seed=4),
    ),
    "algorithm ensemble_frl": (
        algorithm({**GOSSIP, "groups": 3}, agents=9),
        algorithm({**GOSSIP, "N": 1, "groups": 3}, env="pendulum", agents=6, trajectories=1, also=[]),
    ),
    "algorithm fed_page_pg": page(),
    "algorithm fed_pg": (algorithm(GOSSIP), algorithm({**GOSSIP, "optimizer": "clipped"}, attack="sign_flip", seed=1)),
    "algorithm fed_ppo": (
        algorithm({**GOSSIP, "epochs": 2, "minibatch_size": 16}),
        algorithm({**GOSSIP, "epochs": 2, "minibatch_size": 8, "ent_coef": 0.1, "discount": 0.9}, attack="sign_flip"),
        algorithm({**GOSSIP, "N": 1, "epochs": 1, "minibatch_size": 64}, env="pendulum", trajectories=2, also=[]),
    ),
    "algorithm fedpg_br": (
        *svrg(estimator="gpomdp", spread=1),
        algorithm({**GOSSIP, "B": 2, "spread": 1}, preset="official", attack="sign_flip", seed=2),
        algorithm({**GOSSIP, "B": 2, "spread": 1}, seed=3),
        algorithm({**GOSSIP, "B": 2, "spread": 1, "pool": "episodes", "discount": 0.9}, attack="sign_flip", seed=4),
        algorithm({**GOSSIP, "B": 2, "spread": 1}, preset="official", seed=5),
        algorithm({**GOSSIP, "B": 2, "fallback": "own"}, aggregator="fedpg_filter(sigma=1e-6, fallback=none)", seed=6),
    ),
    "algorithm fedsvrpg_m": (
        algorithm({**GOSSIP, "N": 1, "local_steps": 2, "local_lr": 0.02}),
        algorithm({**GOSSIP, "N": 1, "local_steps": 2, "beta": 0.6, "optimizer": "sgd"}, attack="sign_flip", seed=1),
    ),
    "algorithm gpomdp": (
        algorithm(GOSSIP),
        algorithm({**GOSSIP, "baseline": "others", "optimizer": "sgd"}, attack="sign_flip", seed=1),
    ),
    "algorithm gts": gossip(),
    "algorithm ios": gossip(),
    "algorithm kardam": (
        algorithm({**GOSSIP, "dampening": "exponential"}),
        algorithm(GOSSIP, **ON_THEIR_OWN),
    ),
    "algorithm learn": (algorithm(GOSSIP), algorithm({**GOSSIP, "heterogeneous": True}, attack="sign_flip", seed=1)),
    "algorithm mdpgt": (algorithm(GOSSIP), algorithm({**GOSSIP, "beta": 0.3}, preset="both", attack="sign_flip")),
    "algorithm nna": gossip(),
    "algorithm page_pg": (
        *({**run, "agents": 1, "byzantine": 0, "attack": "none"} for run in page()),
        algorithm(PAGE, **{**ON_THEIR_OWN, "agents": 1, "byzantine": 0, "attack": "none"}),
    ),
    "algorithm res_nharpg": (
        algorithm({"N": 2, "lr": 0.05, "eta": 0.7}),
        algorithm({"N": 1, "lr": 0.05, "eta": 0.7}, preset="official", attack="sign_flip", seed=1),
    ),
    "algorithm solo": (*page(), algorithm(PAGE, **ON_THEIR_OWN)),
    "algorithm svrpg": (
        *svrg(weights="step", logits="tanh", m=2),
        algorithm({**GOSSIP, "B": 2}, seed=2),
        algorithm({**GOSSIP, "B": 2}, preset="official", seed=3),
    ),
    "algorithm w_msr": gossip(gradient_at="own"),
    "algorithm zenopp": (
        algorithm({**GOSSIP, "B": 2, "refresh": 3}),
        algorithm({**GOSSIP, "B": 2, "form": "code", "optimizer": "sgd"}, **ON_THEIR_OWN),
    ),
    "attack agr_tailored": ({"attack": "agr_tailored:calls=120"},),
    "attack bandit": (
        {"attack": "bandit(ipm, sign_flip, window=1)", "trajectories": 4},
        {**ASYNCHRONOUS, "attack": "bandit(silence(q=0.5), split_brain(ipm), window=1)"},
    ),
    "attack coin_aware": (
        {**COIN, "attack": "coin_aware(sign_flip)"},
        {**COIN, "attack": "coin_aware(sign_flip, strike=small)"},
    ),
    "attack flood": (
        {"attack": "flood"},
        {**SERVER, **ASYNCHRONOUS, "algo": "afedpg:N=1", "attack": "flood:copies=3"},
    ),
    "attack markov": ({"attack": "markov(sign_flip, on=0.6, off=0.6)"},),
    "attack normalized": ({"attack": "normalized:calls=81"},),
    "attack optimal_alie": ({"attack": "optimal_alie:calls=40"},),
    "attack optimal_ipm": ({"attack": "optimal_ipm:calls=40"},),
    "attack replay": ({"attack": "replay"}, {**ASYNCHRONOUS, "attack": "replay:delay=1,on=both"}),
    "attack rush": (
        {"attack": "rush"},
        {**ASYNCHRONOUS, "attack": "rush(ipm(on=both))"},
        {**ASYNCHRONOUS, "attack": "rush(large_noise(on=both))", "agreement": "rb_tm:cap=1"},
    ),
    "attack slowdown": (
        {"attack": "slowdown"},
        {**ASYNCHRONOUS, "attack": "slowdown(ipm)"},
        {**SERVER, **ASYNCHRONOUS, "algo": "afedpg:N=1", "attack": "slowdown(ipm, seconds=0.05)"},
    ),
    "attack sleeper": ({"attack": "sleeper(sign_flip, after=1)"}, {"attack": "sleeper(alie(z=1.5), after=1)"}),
    "attack spectral_heterogeneity": ({"attack": "spectral_heterogeneity:calls=40", "topology": "ring"},),
    "attack split_brain": ({"attack": "split_brain(ipm(on=both))"}, {"attack": "split_brain(alie(z=1.5))"}),
    "attack staged_crash": ({"attack": "staged_crash:first=1,every=1", "trajectories": 3},),
    "attack weight_search": ({"attack": "weight_search:calls=240"},),
    "topology from_file": ({"topology": "from_file:path=tests/golden/graph.txt"},),
    "topology star": ({"topology": "star:hub=agent"}, {**SERVER, "topology": "star"}),
    "topology time_varying": ({"topology": "time_varying(ring, churn=0.3)"}, {"topology": "time_varying(small_world)"}),
    "topology torus": ({"agents": 9},),
    "task acrobot": ({"env": "acrobot", "also": []},),
    "task ant": ({**ALONE, "env": "ant"},),
    "task cartpole": ({"env": "cartpole"},),
    "task gymnasium": (
        {"env": "gymnasium:id=CliffWalking-v1,steps=20"},
        {
            "env": "gymnasium:id=CliffWalking-v1,steps=20,options={'is_slippery': True},"
            "wrappers=['TimeAwareObservation', 'ClipReward(min_reward=-9.0)']"
        },
    ),
    "task halfcheetah": ({**ALONE, "env": "halfcheetah"},),
    "task hopper": ({"env": "hopper", "also": []},),
    "task inverted_pendulum": ({"env": "inverted_pendulum"},),
    "task lunarlander": ({"env": "lunarlander", "also": []},),
    "task lunarlander_continuous": ({"env": "lunarlander_continuous", "also": []},),
    "task mountaincar": ({"env": "mountaincar", "also": []},),
    "task mountaincar_continuous": ({"env": "mountaincar_continuous", "also": []},),
    "task pendulum": ({"env": "pendulum", "also": []},),
    "task pettingzoo": (
        {"env": "pettingzoo:id=mpe2/simple_spread_v3,steps=6", "also": []},
        {"env": "pettingzoo:id=mpe2/simple_spread_v3,steps=6,world=shared", "also": []},
    ),
    "task walker2d": ({"env": "walker2d", "also": []},),
    "policy linear": ({}, {"policy": "linear:initialization=orthogonal"}),
    "policy mlp": (
        {"policy": "mlp:hidden=[3],activation=relu,initialization=orthogonal"},
        {"policy": "mlp:hidden=[3],log_std=-1.0", "env": "pendulum"},
        {"policy": "mlp:hidden=[3]", "env": "pettingzoo:id=mpe2/simple_spread_v3,steps=6"},
        {"policy": "mlp:hidden=[3],std=state", "env": "pendulum"},
    ),
    "policy tabular": ({"policy": "tabular", "env": "gymnasium:id=FrozenLake-v1,steps=20"},),
    "scenario churn": (
        {**PEERS, "scenario": "churn:join=0.5,leave=0.5", "trajectories": 8},
        {**PEERS, "scenario": "churn:crash=0.5", "trajectories": 8},
    ),
    "scenario heterogeneous": (
        {},
        {"scenario": "heterogeneous:of=rewards"},
        {"scenario": "heterogeneous:of=starts"},
    ),
    "scenario nonstationary": (
        {"scenario": "nonstationary:physics='length=2',rewards=0.5"},
        {"scenario": "nonstationary:at=0.2,physics='length=2',rewards=0.5,drift=0.5"},
    ),
    "scenario normalized": ({"scenario": "heterogeneous+reward_noise+normalized(episodes=2)"},),
    "aggregator ubar": ({"aggregator": "mean", "agreement": "gossip+ubar(episodes=1)"},),
    "agreement gossip": ({"agreement": "gossip+mean"}, {"agreement": "gossip+bridge"}),
    "agreement mean": ({}, {"attack": "ipm:scale=1.5,on=parameters"}),
    "channel byte_budget": ({"channel": "byte_budget:bytes=24"},),
    "channel delay": ({"channel": "delay:mean=1"},),
    "channel loss": ({"channel": "loss:rate=0.3"},),
    "channel random_k": ({"channel": "random_k:share=0.3"},),
    "channel top_k": ({"channel": "top_k:share=0.3"},),
    "coin biased": ({"coin": "biased:q=0.6"},),
    "schedule synchronous": (
        {"schedule": "synchronous:speed=two_speed,quorum='n-f',latency=0.01,bandwidth=1000000"},
        {**SERVER, "schedule": "synchronous:speed=lognormal,quorum=3,timeout=0.05,crash=0.2"},
    ),
    "schedule asynchronous": (
        {"schedule": "asynchronous:speed=heavy_tailed,per=batch,latency=0.01,latency_law=exponential,quorum=3"},
        {**SERVER, "algo": "afedpg:N=2", "schedule": "asynchronous:speed=two_speed"},
    ),
}
"""Options by component, beside those of its kind's base, where its name alone cannot run."""

BRANCHES: Mapping[str, Options] = {
    "equivocation of alie": {**PEERS, "attack": "split_brain(alie(z=1.5, on=both))"},
    "delay after quantise": {**PEERS, "channel": "quantise(bits=3)+delay(mean=0.5)+loss(rate=0.1)"},
    "relay": {**PEERS, "topology": "torus", "agents": 9, "byzantine": 1, "relay": True},
    **{
        f"mixing {weights}": {**BASES["topology"], "topology": "grid:columns=3", "mixing": weights}
        for weights in ("max_degree", "uniform", "laplacian")
    },
    "directed": {**BASES["topology"], "topology": "ring:directed=True"},
    "heterogeneity": {**SERVER, "scenario": "heterogeneous:spread=0.8"},
    "shift": {**SERVER, "scenario": "nonstationary:physics='length=2 gravity=1.5'", "trajectories": 6},
    "absence": {**PEERS, "scenario": "churn:absent='3:0-0.5 4:0.4-1'", "trajectories": 8},
    "absence at a server": {**SERVER, "scenario": "churn:absent='3:0-0.5 4:0.4-1'", "trajectories": 8},
    "crash at a server": {**SERVER, "scenario": "churn:crash=0.5", "trajectories": 8},
    "own starts in a simulator": {
        **BASES["task"],
        "env": "pendulum",
        "scenario": "heterogeneous:of=starts",
        "also": [],
    },
    "reward noise": {**SERVER, "scenario": "reward_scale(factor=2.0)+reward_noise(scale=0.5)"},
    "heavy reward noise": {**SERVER, "scenario": "reward_noise:scale=0.5,law=student"},
    "normalisation": {**PEERS, "scenario": "normalized:episodes=2"},
    "normalisation at a server": {**SERVER, "scenario": "normalized:episodes=2"},
    "normalisation alone": {**PEERS, "algo": "solo:N=2,B=1", "scenario": "normalized:episodes=2"},
    "squashed Gaussian": {**BASES["task"], "env": "pendulum", "policy": "mlp:hidden=[2],squash=True", "also": []},
    "linear policy": {**COIN, "policy": "mlp:hidden=[]"},
    "deep policy": {**COIN, "policy": "mlp:hidden=[18,3]"},
    "envpool": {**BASES["task"], "env": "lunarlander:backend=envpool", "also": []},
    "altered pendulum": {**BASES["task"], "env": "pendulum", "scenario": "heterogeneous", "also": []},
    "declared too few": {**COIN, "assumed_byzantine": 1},
    "rule undefined for some": {
        **PEERS,
        "aggregator": "krum",
        "attack": "silence:q=0.5,equivocate=True",
        "assumed_byzantine": 2,
    },
    "malformed messages": {**COIN, "attack": "non_finite:on=both,where=once"},
    "stateful rule": {**PEERS, "aggregator": "centered_clipping:radius=1", "agreement": "gossip+balance"},
    "pre-aggregation": {**PEERS, "aggregator": "nnm+bucketing(s=2)+rfa", "byzantine": 1},
}


def generated() -> Iterator[tuple[str, Options]]:
    """Yield the name and the options of every run."""
    for kind, package in registry.KINDS.items():
        for name, origin in registry.origins(kind).items():
            if origin.module == f"byzbench.{package}.{name}":
                yield from _runs(kind, name)
    yield from ((f"branch {name}", options) for name, options in BRANCHES.items())


def _runs(kind: str, name: str) -> Iterator[tuple[str, Options]]:
    key = f"{kind} {first_name(kind, name)}"
    flag = {registry.FLAGS[kind]: name}
    for number, options in enumerate(RUNS.get(key, ({},)), 1):
        yield key if number == 1 else f"{key} {number}", {**BASES.get(kind, COIN), **flag, **options}


def resolved(options: Options) -> tuple[dict[str, Any], list[str]]:
    """Return the options as `Experiment.create` takes them, and the further outputs that are compared."""
    results = {name: value for name, value in options.items() if value is not None}
    return results, results.pop("also", ["diagnostics", "evaluation"])
