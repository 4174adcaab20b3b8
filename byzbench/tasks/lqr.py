"""LQR: a linear system with quadratic costs, of any dimension, with exact returns of linear policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.spaces import Box, Space
from pydantic import Field
from torch import Tensor

from byzbench.core import Task
from byzbench.core.tabular_task import Discount, Steps
from byzbench.errors import Undefined
from byzbench.rl.networks import FeedForward, orthogonal
from byzbench.rl.policies import GaussianPolicy, Policy
from byzbench.rl.rollouts import EnvironmentBatch
from byzbench.rl.simulations import Simulated, Simulation
from byzbench.rl.transition_table import ExactReturns

_DECIMALS = 9
"""The decimals of A and B, so that the rounding of a decomposition does not differ between machines."""


def _start(n: int, horizon: int, noise: float, rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw initial states: x ~ N(0, I), the step 0, n zeros, and the noise [n] of each step."""
    from scipy.special import ndtri  # local imports, as loading these takes time

    from byzbench.rl import seeded_numbers

    states = np.empty((count, 1 + n * (2 + horizon)))
    seeded_numbers.fill_uniforms(rng.integers(1 << 31, size=count), states)
    ndtri(states + 2.0**-54, out=states)  # never at 0, where it is infinite
    states[:, n : 2 * n + 1] = 0
    states[:, 2 * n + 1 :] *= noise
    return states


def _step(state: np.ndarray, action: np.ndarray, constants: np.ndarray) -> tuple[float, bool]:
    """Advance x to A x + B u + w. The constants are n, the cost of actions, A [n, n] and B [n, m]."""
    n, m = int(constants[0]), len(action)
    t, next_x, noise = int(state[n]), n + 1, 2 * n + 1
    horizon, b = (len(state) - noise) // n, 2 + n * n
    noise += n * (t % horizon)  # the remainder is t, except for steps after the end of an episode
    cost = 0.0
    for j in range(m):
        cost += constants[1] * action[j] * action[j]
    for i in range(n):
        cost += state[i] * state[i]
        total = state[noise + i]
        for j in range(n):
            total += constants[2 + n * i + j] * state[j]
        for j in range(m):
            total += constants[b + m * i + j] * action[j]
        state[next_x + i] = total
    for i in range(n):
        state[i] = state[next_x + i]
    state[n] = t + 1
    return -cost / n, False


def _show(state: np.ndarray, out: np.ndarray) -> None:
    """Write x."""
    for i in range(len(out)):
        out[i] = state[i]


@dataclass(frozen=True)
class Lqr(Task):
    """Hold a linear system near the origin: the linear quadratic regulator over a finite horizon.

        x_{h+1} = A x_h + B u_h + w_h,    x_0 ~ N(0, I),    w_h ~ N(0, noise^2 I)
        r_h     = -(||x_h||^2 + control_cost ||u_h||^2) / n

    A is `radius` times a random orthogonal matrix, so that the uncontrolled system is marginally stable at radius 1;
    the entries of B are N(0, 1/n); both follow from `seed`. Actions are not bounded, and neither are gradients. Returns
    and gradients are exact (`Task.exact`) for linear policies, whose actions are normal with the mean W' x + b. The
    reference `solved` is the optimal return, of a Riccati recursion; its linear policy differs between steps, so one
    that does not comes close to it only. `random` is the exact return of actions N(0, I).

    The constants `drift` and `control` are factors of A and of B.

    Source: Fazel, Ge, Kakade, Mesbahi 2018, arXiv 1801.05039, for policy gradients on this problem.

    Attributes:
        n: the number of states.
        m: the number of actions.
        radius: the modulus of the eigenvalues of A.
        noise: the standard deviation of w.
        control_cost: the cost of actions.
        seed: the seed of A and B.
        steps: the number of steps of an episode.
        gamma: the discount.

    Example:
        >>> task = Lqr(n=3, m=1)
        >>> task.observation_size, task.action_space.shape
        (3, (1,))
        >>> task.reference["random"] < task.reference["solved"] < 0
        True
    """

    source: ClassVar[str] = "Fazel et al. 2018, arXiv 1801.05039"
    default_policy: ClassVar[str] = "linear"
    dynamics: ClassVar[tuple[str, ...]] = ("drift", "control")
    suggested: ClassVar[Mapping[str, float | str]] = {"N": 10, "B": 4, "p": 0.5, "lr": 1e-2, "baseline": "others"}

    n: Annotated[int, Field(ge=1, le=1000, description="number of states")] = 4
    m: Annotated[int, Field(ge=1, le=1000, description="number of actions")] = 2
    radius: Annotated[float, Field(ge=0, le=2, description="modulus of the eigenvalues of A; 1: marginally stable")] = (
        0.95
    )
    noise: Annotated[float, Field(ge=0, description="standard deviation of the noise of a step")] = 0.1
    control_cost: Annotated[float, Field(gt=0, description="cost of actions, beside a cost 1 of states")] = 0.1
    seed: Annotated[int, Field(ge=0, description="seed of the system")] = 0
    steps: Steps = 20
    gamma: Discount = 0.99

    @property
    def observation_size(self) -> int:  # type: ignore[override]
        """Return n."""
        return self.n

    @property
    def action_space(self) -> Space[Any]:  # type: ignore[override]
        """Return the unbounded vectors of m numbers."""
        return Box(-np.inf, np.inf, (self.m,), np.float32)

    @property
    def horizon(self) -> int:  # type: ignore[override]
        """Return `steps`."""
        return self.steps

    @property
    def discount(self) -> float:  # type: ignore[override]
        """Return `gamma`."""
        return self.gamma

    @property
    def reference(self) -> Mapping[str, float]:  # type: ignore[override]
        """Return the exact returns of actions N(0, I), and of the optimal policy."""
        return dict(_references(self, self.horizon))

    def make(self, agents: int, count: int) -> EnvironmentBatch:
        """Make `count` environments for each agent."""
        start = partial(_start, self.n, self.horizon, self.noise)
        simulation = Simulation(start, _step, _show, self.n, action_size=self.m)
        environments = Simulated(simulation, agents, count, self.horizon)
        self.scale_dynamics(environments, {})
        return environments

    def scale_dynamics(self, environments: EnvironmentBatch, factors: Mapping[str, npt.NDArray[Any]]) -> None:
        """Multiply A and B: see `Task.scale_dynamics`."""
        assert isinstance(environments, Simulated)
        a, b = self._systems(factors)
        sizes = np.tile([self.n, self.control_cost], (len(a), 1))
        environments.set_constants(np.concatenate([sizes, a.reshape(len(a), -1), b.reshape(len(b), -1)], 1))

    def exact(
        self, policy: Policy, theta: Tensor, dynamics: Mapping[str, npt.NDArray[Any]] | None = None
    ) -> ExactReturns:
        """Propagate the mean and the covariance of the state, and differentiate: see `Task.exact`.

        Raises:
            Undefined: the policy is not linear with normal actions.
        """
        network = policy.network if type(policy) is GaussianPolicy else None
        if not (isinstance(network, FeedForward) and len(network.sizes) == 2):
            raise Undefined("the return of task lqr is exact for linear policies only; use --policy linear")
        parameters = theta.detach().cpu().double().requires_grad_()
        ((weight, bias),), _, std = policy.layers(parameters)
        terms = (weight, bias, std)
        law = _LinearLaw(*(term.detach().numpy() for term in terms))
        a, b = self._systems(dynamics or {})
        returns, derivatives = self._differentiate(law, a, b)
        # Their product with the derivatives leaves to torch where each number is in theta, and which are clamped.
        total = sum((torch.from_numpy(d) * term).sum() for d, term in zip(derivatives, terms, strict=True))
        (gradients,) = torch.autograd.grad(total, parameters)
        return ExactReturns(torch.from_numpy(returns), gradients)

    def _systems(self, factors: Mapping[str, npt.NDArray[Any]]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return A [K, n, n] and B [K, n, m] of each agent, or [1, ...] of all without factors."""
        a, b = _system(self.n, self.m, self.radius, self.seed)
        one, rows = np.ones(1), max((len(factor) for factor in factors.values()), default=1)
        drift, control = (np.broadcast_to(factors.get(name, one), rows) for name in self.dynamics)
        return drift.reshape(-1, 1, 1) * a, control.reshape(-1, 1, 1) * b

    def _differentiate(
        self, law: _LinearLaw, a: npt.NDArray[Any], b: npt.NDArray[Any], discount: float | None = None
    ) -> tuple[npt.NDArray[Any], _LinearLaw]:
        """Return the expected returns of K laws of actions [K], and their derivatives in W, b and sigma.

        The mean and covariance of x_h follow forwards, the cost to go x' P_h x + 2 q_h' x + c_h backwards. Of the
        expected cost from step h on, as a function of the action u_h = W' x + b + sigma epsilon, half the derivative in
        u_h has the mean E x + e given x.

        Args:
            law: the laws of actions.
            a: A, [K, n, n] or [1, n, n].
            b: B, [K, n, m] or [1, n, m].
            discount: the discount; None: the task's.
        """
        gamma, rho = self.discount if discount is None else discount, self.control_cost
        gain, bias = law.weight.swapaxes(1, 2), law.bias.swapaxes(1, 2)
        b_t, closed, eye = b.swapaxes(1, 2), a + b @ gain, np.eye(self.n)
        shift, variances = b @ bias, np.square(law.std)
        noise = (b * variances) @ b_t + self.noise**2 * eye
        mean, second = np.zeros((len(gain), self.n, 1)), np.broadcast_to(eye, (len(gain), self.n, self.n))
        moments = []
        for _ in range(self.horizon):  # of x: the mean, and the mean of x x'
            moments.append((mean, second))
            cross = closed @ mean @ shift.swapaxes(1, 2)
            second = closed @ second @ closed.swapaxes(1, 2) + cross + cross.swapaxes(1, 2)
            second = second + shift @ shift.swapaxes(1, 2) + noise
            mean = closed @ mean + shift
        p, q, c = np.zeros_like(second), np.zeros_like(mean), np.zeros(len(gain))
        weights, biases, stds = (np.zeros_like(term) for term in law)
        for h, (mean, second) in reversed([*enumerate(moments)]):
            by_state = rho * gain + gamma * b_t @ p @ closed  # E
            by_bias = rho * bias + gamma * b_t @ (p @ shift + q)  # e
            curvature = rho + gamma * (b * (p @ b)).sum(1)  # in each coordinate of the action
            weights -= gamma**h * (second @ by_state.swapaxes(1, 2) + mean @ by_bias.swapaxes(1, 2))
            biases -= gamma**h * (by_state @ mean + by_bias).swapaxes(1, 2)
            stds -= gamma**h * curvature[:, None] * law.std
            c = rho * ((bias**2).sum((1, 2)) + variances.sum((1, 2))) + gamma * (
                ((p @ shift + 2 * q) * shift).sum((1, 2)) + (p * noise).sum((1, 2)) + c
            )
            q = rho * law.weight @ bias + gamma * closed.swapaxes(1, 2) @ (p @ shift + q)
            p = eye + rho * law.weight @ gain + gamma * closed.swapaxes(1, 2) @ p @ closed
        returns = -(np.trace(p, axis1=1, axis2=2) + c) / self.n
        return returns, _LinearLaw(*(2 / self.n * derivative for derivative in (weights, biases, stds)))


class _LinearLaw(NamedTuple):
    """The law of actions u ~ N(W' x + b, diag(sigma^2)) of K linear policies.

    Attributes:
        weight: W, [K, n, m].
        bias: b, [K, 1, m].
        std: sigma, [K, 1, m].
    """

    weight: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]


@cache
def _system(n: int, m: int, radius: float, seed: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Draw A [n, n] and B [n, m]."""
    rng = np.random.default_rng(seed)
    a = radius * orthogonal(n, n, rng)
    return a.round(_DECIMALS), (rng.standard_normal((n, m)) / np.sqrt(n)).round(_DECIMALS)


@cache
def _references(task: Lqr, horizon: int) -> tuple[tuple[str, float], ...]:
    """Compute both references: the optimal return is minus the expectation of x' P x + c by the Riccati recursion."""
    a, b = _system(task.n, task.m, task.radius, task.seed)
    zeros = np.zeros((1, 1, task.m))
    normal = _LinearLaw(np.zeros((1, task.n, task.m)), zeros, zeros + 1)
    random = task._differentiate(normal, a[None], b[None], discount=1.0)[0]
    p, c, actions = np.zeros((task.n, task.n)), 0.0, task.control_cost * np.eye(task.m)
    for _ in range(horizon):
        c += task.noise**2 * np.trace(p)
        gain = np.linalg.solve(actions + b.T @ p @ b, b.T @ p @ a)
        p = np.eye(task.n) + a.T @ p @ (a - b @ gain)
    return ("random", float(random[0])), ("solved", -float(np.trace(p) + c) / task.n)
