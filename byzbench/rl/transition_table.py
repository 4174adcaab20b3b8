"""Finite Markov decision processes: their transition laws, and returns and gradients by dynamic programming."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from byzbench.errors import Undefined
from byzbench.rl.policies import CategoricalPolicy, Policy


class ExactReturns(NamedTuple):
    """Expected discounted returns of K policies, and their gradients.

    Attributes:
        returns: J, float64 [K]: the expectation of the sum over j of gamma^j r_j of an episode.
        gradients: The gradients of J in the parameters, float64 [K, d].
    """

    returns: Tensor
    gradients: Tensor


@dataclass(frozen=True)
class TransitionTable:
    """The transition law of a Markov decision process with S states, A actions and at most B outcomes of an action.

    Attributes:
        successors: The state after each outcome, int64 [S, A, B].
        probabilities: The probability of each outcome, float64 [S, A, B]; zero for outcomes that fill up the table.
        rewards: The reward of each outcome, float64 [S, A, B].
        terminated: The outcomes that end the episode, bool [S, A, B].
        start: The probability of each state to be the first of an episode, float64 [S].

    Example:
        >>> law = [[[(1.0, 1, 0.5, False)], [(0.9, 0, 0.0, False), (0.1, 1, 1.0, True)]], [[(1.0, 0, 0.0, True)]] * 2]
        >>> table = TransitionTable.from_outcomes(law, start=[1.0, 0.0])
        >>> table.successors.shape
        (2, 2, 2)
        >>> round(table.optimal_return(horizon=3), 3)
        0.595
    """

    successors: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    rewards: npt.NDArray[np.float64]
    terminated: npt.NDArray[np.bool_]
    start: npt.NDArray[np.float64]

    @classmethod
    def from_outcomes(
        cls,
        outcomes: Mapping[int, Mapping[int, Sequence[tuple[Any, ...]]]] | Sequence[Sequence[Sequence[tuple[Any, ...]]]],
        start: npt.ArrayLike,
    ) -> TransitionTable:
        """Return the table of `outcomes[s][a]`, each (probability, successor, reward, terminated), as in Gymnasium.

        Args:
            outcomes: The possible outcomes of each action in each state.
            start: The law of the first state, [S].
        """
        states, actions = len(outcomes), len(outcomes[0])
        branches = max(len(outcomes[s][a]) for s in range(states) for a in range(actions))
        columns = np.zeros((states, actions, branches, 4))
        for s in range(states):
            for a in range(actions):
                columns[s, a, : len(outcomes[s][a])] = outcomes[s][a]
        probabilities, successors, rewards, terminated = np.moveaxis(columns, 3, 0)
        return cls(
            successors.astype(np.int64), probabilities.copy(), rewards.copy(), terminated > 0, np.array(start, float)
        )

    def uniform_return(self, horizon: int) -> float:
        """Return the expected undiscounted return of an episode with uniformly random actions."""
        actions = self.successors.shape[1]
        policy = np.full((1, *self.successors.shape[:2]), 1 / actions)
        return float(evaluate_policies([self], policy, 1.0, horizon)[0][0])

    def optimal_return(self, horizon: int) -> float:
        """Return the largest expected undiscounted return of an episode, of policies that may depend on the step."""
        values = np.zeros(len(self.start))
        continues = self.probabilities * ~self.terminated
        rewards = (self.probabilities * self.rewards).sum(2)
        for _ in range(horizon):
            values = (rewards + (continues * values[self.successors]).sum(2)).max(1)
        return float(self.start @ values)


def evaluate_policies(
    tables: Sequence[TransitionTable], policies: npt.NDArray[np.float64], discount: float, horizon: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Compute the expected discounted returns of K policies, and the weights of the policy-gradient theorem.

        Q_h(s, a) = E[r + gamma V_{h+1}(s')],    V_h(s) = sum_a pi(a|s) Q_h(s, a),    V_H = 0
        w(s, a)   = sum_h gamma^h m_h(s) Q_h(s, a),    m_h(s) = P(s_h = s)
        grad J    = sum_{s,a} w(s, a) grad pi(a|s)

    Args:
        tables: The table of each policy, or one of all; of equal shape.
        policies: The probabilities pi(a|s), [K, S, A].
        discount: The discount gamma.
        horizon: The largest number H of steps of an episode.

    Returns:
        J [K], and w [K, S, A].
    """
    num_policies, states, _ = policies.shape
    probabilities = np.stack([table.probabilities for table in tables])
    rewards = (probabilities * np.stack([table.rewards for table in tables])).sum(3)
    continues = probabilities * ~np.stack([table.terminated for table in tables])
    # The states of row k have the numbers k S to (k + 1) S - 1, so that one call serves all rows.
    successors = np.stack([table.successors for table in tables])
    successors = successors + states * np.arange(num_policies).reshape(-1, 1, 1, 1)
    visits = np.empty((horizon, num_policies, states))
    visits[0] = [table.start for table in tables]
    flat = successors.ravel()
    for h in range(1, horizon):
        flow = (visits[h - 1][:, :, None] * policies)[..., None] * continues
        visits[h] = np.bincount(flat, flow.ravel(), num_policies * states).reshape(num_policies, states)
    values, weights = np.zeros((num_policies, states)), np.zeros(policies.shape)
    for h in reversed(range(horizon)):
        action_values = rewards + discount * (continues * values.ravel()[successors]).sum(3)
        weights += (discount**h * visits[h])[:, :, None] * action_values
        values = (policies * action_values).sum(2)
    return (visits[0] * values).sum(1), weights


def exact_returns(
    tables: Sequence[TransitionTable],
    policy: Policy,
    theta: Tensor,
    observations: npt.ArrayLike,
    discount: float,
    horizon: int,
) -> ExactReturns:
    """Compute the expected discounted returns of K policies and their gradients: see `evaluate_policies`.

    Args:
        tables: The table of each policy, or one of all; of equal shape.
        policy: The policy, of any family for discrete actions.
        theta: The parameters, [K, d].
        observations: The observation of each state, [S, o].
        discount: The discount gamma.
        horizon: The largest number of steps of an episode.

    Raises:
        Undefined: The policy is not categorical.
    """
    if not isinstance(policy, CategoricalPolicy):
        raise Undefined("the return is exact for policies with discrete actions of one player only")
    parameters = theta.detach().cpu().double().requires_grad_()
    shown = torch.as_tensor(np.asarray(observations, np.float64)).expand(len(theta), -1, -1)
    probabilities = policy.logits(policy.layers(parameters), shown).softmax(-1)
    returns, weights = evaluate_policies(tables, probabilities.detach().numpy(), discount, horizon)
    (gradients,) = torch.autograd.grad((torch.from_numpy(weights) * probabilities).sum(), parameters)
    return ExactReturns(torch.from_numpy(returns), gradients)
