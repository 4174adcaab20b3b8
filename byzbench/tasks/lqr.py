"""LQR: a linear system with quadratic costs, of any dimension, with exact returns of linear policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.spaces import Box, Space
from pydantic import Field
from torch import Tensor

from byzbench.core import Task
from byzbench.core.tabular_task import Discount, Steps
from byzbench.errors import Undefined
from byzbench.rl.linear_quadratic import LinearLaw, LinearQuadraticProblem
from byzbench.rl.networks import FeedForward, orthogonal
from byzbench.rl.policies import GaussianPolicy, Policy
from byzbench.rl.rollouts import EnvironmentBatch
from byzbench.rl.simulations import Simulated, Simulation
from byzbench.rl.transition_table import ExactReturns


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
    state[:n], state[n] = state[next_x : next_x + n], t + 1
    return -cost / n, False


def _show(state: np.ndarray, out: np.ndarray) -> None:
    """Write x."""
    out[:] = state[: len(out)]


@dataclass(frozen=True)
class Lqr(Task):
    """Hold a linear system near the origin: the linear quadratic regulator over a finite horizon.

        x_{h+1} = A x_h + B u_h + w_h,    x_0 ~ N(0, I),    w_h ~ N(0, noise^2 I)
        r_h     = -(||x_h||^2 + control_cost ||u_h||^2) / n

    A is `radius` times a random orthogonal matrix, so that the uncontrolled system is marginally stable at radius 1;
    the entries of B are N(0, 1/n); both follow from `seed`. Actions are not bounded, and neither are gradients. Returns
    and gradients are exact (`Task.exact`) for linear policies, whose actions are normal with the mean W' x + b. The
    reference `solved` is the optimal return, of a Riccati recursion, which needs a policy that differs between steps.
    `random` is the exact return of actions N(0, I). The constants `drift` and `control` are factors of A and of B.

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
    radius: Annotated[float, Field(ge=0, le=2, description="modulus of the eigenvalues of A")] = 0.95
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
        problem = self._problem(factors)
        sizes = np.tile([self.n, self.control_cost], (len(problem.a), 1))
        systems = (matrix.reshape(len(sizes), -1) for matrix in (problem.a, problem.b))
        environments.set_constants(np.concatenate([sizes, *systems], 1))

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
        law = LinearLaw(*(term.detach().numpy() for term in terms))
        with np.errstate(all="ignore"):  # policies that diverge have returns that are not finite
            returns, derivatives = self._problem(dynamics or {}).differentiate(law)
        # Their product with the derivatives leaves to torch where each number is in theta, and which are clamped.
        total = sum((torch.from_numpy(d) * term).sum() for d, term in zip(derivatives, terms, strict=True))
        (gradients,) = torch.autograd.grad(total, parameters)
        return ExactReturns(torch.from_numpy(returns), gradients)

    def _problem(self, factors: Mapping[str, npt.NDArray[Any]]) -> LinearQuadraticProblem:
        """Return the problems of all agents, or without factors one of all."""
        a, b = _system(self.n, self.m, self.radius, self.seed)
        one, rows = np.ones(1), max((len(factor) for factor in factors.values()), default=1)
        drift, control = (np.broadcast_to(factors.get(name, one), rows).reshape(-1, 1, 1) for name in self.dynamics)
        return LinearQuadraticProblem(
            drift * a, control * b, self.noise, self.control_cost, self.horizon, self.discount
        )


@cache
def _system(n: int, m: int, radius: float, seed: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Draw A [n, n] and B [n, m]."""
    rng = np.random.default_rng(seed)
    a = (radius * orthogonal(n, n, rng)).round(9)  # as the last digits of a decomposition differ between machines
    return a, rng.standard_normal((n, m)) / np.sqrt(n)


@cache
def _references(task: Lqr, horizon: int) -> tuple[tuple[str, float], ...]:
    problem = replace(task._problem({}), horizon=horizon, discount=1.0)
    normal = LinearLaw(np.zeros((1, task.n, task.m)), np.zeros((1, 1, task.m)), np.ones((1, 1, task.m)))
    return ("random", float(problem.differentiate(normal)[0][0])), ("solved", problem.optimal_return())
