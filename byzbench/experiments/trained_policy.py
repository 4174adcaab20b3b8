"""Trained policies of single agents: they act, are torch modules, and are files that other processes read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from gymnasium.spaces import Discrete, Space
from torch import Tensor, nn

from byzbench.core.environment_spec import EnvironmentSpec
from byzbench.core.gymnasium_task import GymnasiumTask, as_vectors
from byzbench.errors import CorruptRecord, InvalidParameter, StorageError, Undefined
from byzbench.experiments.evaluation import evaluate_policy
from byzbench.experiments.experiment import Experiment
from byzbench.records.migrations import is_described
from byzbench.records.run_folder import RunFolder
from byzbench.registry import name_of
from byzbench.rl.policies import Actor, CategoricalPolicy, NetworkPolicy
from byzbench.rl.scales import LARGEST, Scaled, in_units


@dataclass(frozen=True, eq=False, repr=False)
class TrainedPolicy:
    """The policy of one agent at the end of a run.

    Attributes:
        experiment: The experiment of the run.
        agent: The id of the agent.
        parameters: The parameters, float32 [d].
        scales: The mean and the log standard deviation by which observations are normalised, float32 [2 o]; None for
            none.

    Example:
        >>> import tempfile
        >>> from byzbench.experiments.runner import run_experiment
        >>> with tempfile.TemporaryDirectory() as out:
        ...     result = run_experiment(Experiment.create("solo", agents=1, trajectories=4), out=out)
        ...     policy = result.policy()
        >>> policy.parameters.shape, int(policy([0.0, 0.1, 0.0, -0.1])) in (0, 1)
        (torch.Size([386]), True)
    """

    experiment: Experiment
    agent: int
    parameters: Tensor
    scales: Tensor | None = None

    @classmethod
    def of_run(cls, folder: Path, agent: int | None = None) -> TrainedPolicy:
        """Read the policy of an agent from the folder of a run.

        Args:
            folder: The run folder.
            agent: The id of the agent; None for the first honest one.

        Raises:
            CorruptRecord: The folder does not hold a finished run.
            InvalidParameter: There is no such agent.
        """
        run_folder = RunFolder(folder)
        record, checkpoint = run_folder.record(), run_folder.restore()
        if record is None or checkpoint is None:
            raise CorruptRecord(f"{folder} is not the folder of a finished run")
        experiment = Experiment.from_description(record["experiment"])
        honest = [a for a in range(experiment.agents) if a not in experiment.members.byzantine_ids]
        chosen = honest[0] if agent is None else agent
        if not 0 <= chosen < experiment.agents:
            raise InvalidParameter(f"agent must be a whole number from 0 to {experiment.agents - 1}, got {chosen}")
        theta, scales = checkpoint[0].get("state/theta"), checkpoint[0].get("worlds/scales")
        if theta is None or theta.shape != (experiment.agents, _actor(experiment).dimension):
            raise CorruptRecord(f"the checkpoint of {folder} does not hold the parameters of its agents")
        return cls(experiment, chosen, theta[chosen], None if scales is None else scales[chosen])

    @cached_property
    def actor(self) -> Actor:
        """Return the stacked policy of byzbench that acts with the parameters."""
        return _actor(self.experiment)

    @cached_property
    def spaces(self) -> tuple[Space[Any], Space[Any]]:
        """Return the observation space and the action space of the environment."""
        with self.make_environment() as environment:
            return environment.observation_space, environment.action_space

    def make_environment(self, render_mode: str | None = None) -> Any:
        """Make the Gymnasium environment of the task.

        Args:
            render_mode: The render mode of Gymnasium.

        Raises:
            Undefined: The task is no Gymnasium environment, or it cannot be made here.
        """
        task = self.experiment.task
        if isinstance(task, GymnasiumTask):
            return task.environment.make(render_mode=render_mode)
        if not task.gymnasium_id:
            raise Undefined(f"task {name_of(task)!r} is no environment of Gymnasium")
        return EnvironmentSpec(task.gymnasium_id).make(render_mode=render_mode)

    def __call__(self, observation: Any, rng: np.random.Generator | None = None) -> Any:
        """Return the action for one observation of the environment, in the form that its `step` takes.

        Args:
            observation: The observation, in the environment's own form.
            rng: The generator of the action; None for the likeliest action.
        """
        observations, actions = self.spaces
        vector = as_vectors(observations, [observation]).reshape(1, 1, -1)
        if self.scales is not None:
            vector = in_units(vector, self.scales.unsqueeze(0))
        noise = None
        if rng is not None:
            drawn = np.empty((1, 1, *self.actor.action_shape), np.float32)
            self.actor.sample_noise(rng, drawn)
            noise = torch.from_numpy(drawn).unsqueeze(0)
        choose = self.actor.sampler(self.parameters.unsqueeze(0), noise)
        action = self.actor.to_env_actions(choose(0, vector))[0]
        return action + actions.start if isinstance(actions, Discrete) else action

    def evaluate(self, episodes: int | None = None, *, number: int | None = None) -> dict[str, float | None]:
        """Evaluate the policy on fresh episodes of the task, without what a scenario changes in physics and starts.

        By default these are the episodes of the run's last evaluation, so that an agent alone has its return.

        Args:
            episodes: The number of episodes, stochastic and greedy each; None for that of the run.
            number: The number of the evaluation, which keys the random streams; None for that of the last one.

        Returns:
            The returns of `byzbench.experiments.evaluation.evaluate_policy`.
        """
        todo, scales = self.experiment, self.scales
        metrics = evaluate_policy(
            todo.task,
            self.actor,
            self.parameters.unsqueeze(0),
            todo.seed,
            todo.evaluations if number is None else number,
            todo.evaluation_episodes if episodes is None else episodes,
            shown=lambda environments: environments if scales is None else Scaled(environments, scales.unsqueeze(0)),
        )
        return {name: value for name, value in metrics.items() if name.startswith("evaluation")}

    @cached_property
    def module(self) -> PolicyModule:
        """Return the policy's network with its parameters as a torch module.

        Raises:
            Undefined: The policy has no network.
        """
        if not isinstance(self.actor, NetworkPolicy):
            raise Undefined(f"{type(self.actor).__name__} has no network")
        return PolicyModule(self.actor, self.parameters, self.scales)

    def save(self, path: str | Path) -> Path:
        """Write the policy to a safetensors file, which `load_policy` reads.

        Args:
            path: The file.

        Returns:
            The file.

        Raises:
            StorageError: The file cannot be written.
        """
        tensors = {"parameters": self.parameters} | ({} if self.scales is None else {"scales": self.scales})
        metadata = {"experiment": json.dumps(self.experiment.describe()), "agent": str(self.agent)}
        content = safetensors.torch.save({k: v.detach().cpu().clone() for k, v in tensors.items()}, metadata)
        try:
            Path(path).write_bytes(content)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from None
        return Path(path)

    def __repr__(self) -> str:
        names = map(name_of, (self.experiment.policy, self.experiment.task, self.experiment.algorithm))
        return f"TrainedPolicy({' · '.join(names)}, agent {self.agent}, {len(self.parameters)} parameters)"


class PolicyModule(nn.Module):
    """The network of a trained policy: observations [M, o] to logits, or to the means of continuous actions.

    Args:
        policy: The policy.
        parameters: Its parameters [d], which become the module's parameter `theta`.
        scales: The scales of observations, see `TrainedPolicy`.
    """

    scales: Tensor | None

    def __init__(self, policy: NetworkPolicy, parameters: Tensor, scales: Tensor | None = None) -> None:
        super().__init__()
        self.policy = policy
        self.theta = nn.Parameter(parameters.detach().clone())
        self.register_buffer("scales", None if scales is None else scales.clone())

    def forward(self, observations: Tensor) -> Tensor:
        """Return the outputs [M, outputs] for observations [M, o]."""
        if self.scales is not None:
            mean, log_std = self.scales.chunk(2)
            observations = ((observations - mean) * (-log_std.clamp(-50, 50)).exp()).clamp(-LARGEST, LARGEST)
        layers, batch = self.policy.layers(self.theta.unsqueeze(0)), observations.unsqueeze(0)
        if isinstance(self.policy, CategoricalPolicy):
            return self.policy.logits(layers, batch)[0]
        network = self.policy.network
        return network.outputs(network.layers(self.theta[: network.dimension].unsqueeze(0)), batch)[0]


def load_policy(path: str | Path) -> TrainedPolicy:
    """Read a policy that `TrainedPolicy.save` wrote.

    Args:
        path: The file.

    Raises:
        InvalidParameter: There is no such file.
        CorruptRecord: The file is not a policy of byzbench.
        UserError: Its task or its policy family is not installed.
    """
    if not isinstance(path, str | Path) or not Path(path).is_file():
        raise InvalidParameter(f"there is no file {path!s}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            described, agent = json.loads(metadata["experiment"]), int(metadata["agent"])
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        if not is_described(described) or "parameters" not in tensors:
            raise ValueError(path)
    except (safetensors.SafetensorError, OSError, LookupError, TypeError, ValueError, RecursionError):
        raise CorruptRecord(f"{path} is not a policy that byzbench wrote") from None
    policy = TrainedPolicy(Experiment.from_description(described), agent, tensors["parameters"], tensors.get("scales"))
    if policy.parameters.shape != (policy.actor.dimension,):
        raise CorruptRecord(f"{path} does not hold the {policy.actor.dimension} parameters of its policy")
    return policy


def _actor(experiment: Experiment) -> Actor:
    """Return the policy that acts in evaluations of an experiment."""
    return experiment.algorithm.deployed_policy(experiment.trained_policy)
