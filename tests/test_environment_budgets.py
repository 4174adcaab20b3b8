"""Environments for attackers refuse experiments in which there is nothing to decide, and name a way out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from byzbench.envs import AttackEnv, FederationEnv
from byzbench.envs.session import FederationSession
from byzbench.errors import InvalidParameter, Undefined

TINY: dict[str, Any] = {
    "algo": "decbyzpg(N=4, B=2)",
    "env": "cartpole",
    "policy": "linear",
    "agents": 7,
    "byzantine": 2,
    "trajectories": 12,
}
NO_RECEIVER = "no agent receives Byzantine messages: "


@pytest.mark.parametrize("make", [AttackEnv, partial(FederationEnv, on="both")], ids=["attacker", "players"])
@pytest.mark.parametrize("trajectories", [3, 4])
def test_an_episode_of_one_round_is_refused_at_construction(make: Callable[..., Any], trajectories: int) -> None:
    with pytest.raises(Undefined) as error:
        make(**TINY | {"trajectories": trajectories})
    assert str(error.value) == (
        "the first round spends 4 trajectories, so that an episode has one round: set trajectories to more than 4, now "
        f"{trajectories}, or use smaller batches"
    )
    make(**TINY | {"trajectories": 5})


GRADIENT, ALGO = "use on='gradient' or on='both'", {"algo": "dec_page_pg(N=4, B=2)"}


@pytest.mark.parametrize("make", [AttackEnv, FederationEnv], ids=["attacker", "players"])
@pytest.mark.parametrize(
    "options, on, message",
    [
        ({"byzantine": 0}, "gradient", "set byzantine to at least 1"),
        ({"algo": "solo"}, "gradient", "agents of solo send none, use decbyzpg or byzpg"),
        (ALGO, "parameters", f"dec_page_pg exchanges gradient here; {GRADIENT}, or choose an agreement"),
        ({"algo": "byzpg(N=4, B=2)"}, "parameters", f"byzpg exchanges gradient here; {GRADIENT}"),
        (
            {"algo": "clipped_gossip(N=4)"},
            "gradient",
            "clipped_gossip exchanges parameters here; use on='parameters' or on='both'",
        ),
        (
            {"algo": "clipped_gossip(N=4)", "agreement": "none"},
            "both",
            "clipped_gossip exchanges nothing here; choose an agreement",
        ),
    ],
)
def test_a_refusal_names_a_way_out(make: Callable[..., Any], options: dict[str, Any], on: str, message: str) -> None:
    choice = {"attack": f"learned(on={on})"} if make is AttackEnv else {"on": on}
    with pytest.raises(Undefined) as error:
        make(**TINY | options, **choice)
    assert str(error.value) == NO_RECEIVER + message


def test_messages_without_a_choice_and_a_training_without_messages_name_a_way_out() -> None:
    with pytest.raises(InvalidParameter, match="is no choice of messages: use 'gradient', 'parameters', 'both'"):
        FederationEnv(on="weights", **TINY)


@pytest.mark.parametrize("make", [AttackEnv, FederationEnv], ids=["attacker", "players"])
def test_a_training_without_a_decision_names_a_way_out(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = make(**TINY)
    monkeypatch.setattr(FederationSession, "advance", lambda session: None)  # as with an algorithm of a plug-in
    with pytest.raises(Undefined, match="in this training: choose another algorithm, or attack its other exchanges"):
        env.reset(seed=0)
