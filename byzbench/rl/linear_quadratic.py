"""Linear systems with quadratic costs: exact returns of linear policies, their derivatives, and the optimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class LinearLaw(NamedTuple):
    """The law of actions u ~ N(W' x + b, diag(sigma^2)) of K linear policies.

    Attributes:
        weight: W, [K, n, m].
        bias: b, [K, 1, m].
        std: sigma, [K, 1, m].
    """

    weight: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]


@dataclass(frozen=True)
class LinearQuadraticProblem:
    """K linear systems over a finite horizon, or one for all policies.

        x_{h+1} = A x_h + B u_h + w_h,    x_0 ~ N(0, I),    w_h ~ N(0, noise^2 I)
        r_h     = -(||x_h||^2 + control_cost ||u_h||^2) / n

    Attributes:
        a: A, [K, n, n] or [1, n, n].
        b: B, [K, n, m] or [1, n, m].
        noise: The standard deviation of w.
        control_cost: The cost of actions.
        horizon: The number H of steps.
        discount: The discount gamma.

    Example:
        >>> problem = LinearQuadraticProblem(np.eye(1)[None], np.ones((1, 1, 1)), 0.0, 1.0, horizon=2, discount=1.0)
        >>> problem.optimal_return()
        -1.5
        >>> law = LinearLaw(np.zeros((1, 1, 1)), np.zeros((1, 1, 1)), np.zeros((1, 1, 1)))
        >>> problem.differentiate(law)[0]
        array([-2.])
    """

    a: npt.NDArray[np.float64]
    b: npt.NDArray[np.float64]
    noise: float
    control_cost: float
    horizon: int
    discount: float

    def differentiate(self, law: LinearLaw) -> tuple[npt.NDArray[np.float64], LinearLaw]:
        """Return the expected discounted returns of K laws of actions, and their derivatives in W, b and sigma.

        The moments of x_h follow forwards, the expected cost from step h on, x' P x + 2 q' x + c, backwards. Of this
        cost as a function of the action u_h = W' x + b + sigma epsilon, half the derivative in u_h has the mean E x + e
        given x.

        Args:
            law: The laws of actions.

        Returns:
            J [K], and the derivatives in the form of the law.
        """
        gamma, rho = self.discount, self.control_cost
        gain, bias = law.weight.mT, law.bias.mT
        b_t, closed = self.b.mT, self.a + self.b @ gain
        shift, variances = self.b @ bias, np.square(law.std)
        noise = (self.b * variances) @ b_t + self.noise**2 * np.eye(self.a.shape[1])
        moments = self._moments(closed, shift, noise)
        p, q, c = (np.zeros_like(x) for x in (closed, shift, closed[:, 0, 0]))
        weights, biases, stds = (np.zeros_like(term) for term in law)
        for h in reversed(range(self.horizon)):
            mean, second = moments[h]
            by_state = rho * gain + gamma * b_t @ p @ closed  # E
            by_bias = rho * bias + gamma * b_t @ (p @ shift + q)  # e
            curvature = rho + gamma * (self.b * (p @ self.b)).sum(1)  # in each coordinate of the action
            weights -= gamma**h * (second @ by_state.mT + mean @ by_bias.mT)
            biases -= gamma**h * (by_state @ mean + by_bias).mT
            stds -= gamma**h * curvature[:, None] * law.std
            c = rho * ((bias**2).sum((1, 2)) + variances.sum((1, 2))) + gamma * (
                ((p @ shift + 2 * q) * shift).sum((1, 2)) + (p * noise).sum((1, 2)) + c
            )
            q = rho * law.weight @ bias + gamma * closed.mT @ (p @ shift + q)
            p = np.eye(p.shape[1]) + rho * law.weight @ gain + gamma * closed.mT @ p @ closed
        n = p.shape[1]
        returns = -(np.trace(p, axis1=1, axis2=2) + c) / n
        return returns, LinearLaw(*(2 / n * derivative for derivative in (weights, biases, stds)))

    def _moments(
        self, closed: npt.NDArray[Any], shift: npt.NDArray[Any], noise: npt.NDArray[Any]
    ) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        """Return the means of x [K, n, 1] and of x x' [K, n, n] in each step.

        Args:
            closed: A + B W', [K, n, n].
            shift: B b, [K, n, 1].
            noise: The covariance of x given the state before, [K, n, n].
        """
        mean, second = np.zeros_like(shift), np.broadcast_to(np.eye(closed.shape[1]), closed.shape)
        moments = []
        for _ in range(self.horizon):
            moments.append((mean, second))
            cross = closed @ mean @ shift.mT
            second = closed @ second @ closed.mT + cross + cross.mT + shift @ shift.mT + noise
            mean = closed @ mean + shift
        return moments

    def optimal_return(self) -> float:
        """Return the largest expected return on the first system, of policies that may depend on the step.

        It is minus the mean of x_0' P x_0 + c, by the Riccati recursion.
        """
        a, b = self.a[0], self.b[0]
        p, c = np.zeros_like(a), 0.0
        for _ in range(self.horizon):
            gain = np.linalg.solve(self.control_cost * np.eye(b.shape[1]) + self.discount * b.T @ p @ b, b.T @ p @ a)
            c = self.discount * (self.noise**2 * float(np.trace(p)) + c)
            p = np.eye(len(a)) + self.discount * a.T @ p @ (a - self.discount * b @ gain)
        return -float(np.trace(p) + c) / len(a)
