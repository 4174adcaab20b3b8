"""Episodes of trained policies as animated GIFs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import gymnasium
from gymnasium.error import DependencyNotInstalled

from byzbench.core.environment_spec import EnvironmentSpec
from byzbench.core.gymnasium_task import GymnasiumTask, as_vectors
from byzbench.errors import CorruptRecord, InvalidParameter, StorageError, Undefined, UserError, error_text
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import federate
from byzbench.records.run_folder import RunFolder
from byzbench.registry import name_of
from byzbench.rl.scales import in_units

_FRAMES_PER_SECOND = 25


def render_episode(run: Path, path: Path, *, agent: int | None = None, seed: int = 0) -> tuple[float, int]:
    """Run one episode of an agent's greedy policy and write it as a GIF.

    Args:
        run: The folder of a finished run.
        path: The file to write.
        agent: The id of the agent; None for the first honest one.
        seed: The seed of the initial state.

    Returns:
        The undiscounted return of the episode, and its length in steps.

    Raises:
        CorruptRecord: The folder does not hold a finished run.
        InvalidParameter: There is no such agent.
        Undefined: The task cannot be rendered on this machine.
        StorageError: The file cannot be written.
    """
    _render_without_display()
    folder = RunFolder(run)
    record, checkpoint = folder.read("experiment.json"), folder.restore()
    if record is None or checkpoint is None:
        raise CorruptRecord(f"{run} is not the folder of a finished run")
    experiment = Experiment.from_description(record.get("experiment", {}))
    honest = [a for a in range(experiment.agents) if a not in experiment.members.byzantine_ids]
    chosen = honest[0] if agent is None else agent
    if not 0 <= chosen < experiment.agents:
        raise InvalidParameter(f"agent must be a whole number from 0 to {experiment.agents - 1}, got {chosen}")
    policy, theta = (
        experiment.algorithm.deployed_policy(federate(experiment)[0].policy),
        checkpoint[0].get("state/theta"),
    )
    if theta is None or theta.shape != (experiment.agents, policy.dimension):
        raise CorruptRecord(f"the checkpoint of {run} does not hold the parameters of its agents")

    scales = checkpoint[0].get("worlds/scales")

    act = policy.sampler(theta[chosen : chosen + 1], None)
    frames, total, done = [], 0.0, False
    task = experiment.task
    spec = task.environment if isinstance(task, GymnasiumTask) else EnvironmentSpec(task.gymnasium_id)
    try:
        with spec.make(render_mode="rgb_array") as environment:
            state, _ = environment.reset(seed=seed)
            while not done:
                frames.append(environment.render())
                observation = as_vectors(environment.observation_space, [state]).reshape(1, 1, -1)
                if scales is not None:
                    observation = in_units(observation, scales[chosen : chosen + 1])
                action = policy.to_env_actions(act(0, observation))[0]
                state, reward, terminated, truncated, _ = environment.step(action)
                total, done = total + float(reward), terminated or truncated
    except (UserError, DependencyNotInstalled, gymnasium.error.Error) as error:
        reason = str(error).splitlines()[0]
        raise Undefined(
            f"{name_of(experiment.task)} cannot be rendered: {reason}; try: pip install 'byzbench[render]'"
        ) from None
    except Exception as error:  # graphics libraries raise many types
        raise Undefined(f"{name_of(experiment.task)} cannot be rendered here: {error_text(error)}") from None
    _write(frames, path)
    return total, len(frames)


def _render_without_display() -> None:
    """Let pygame and MuJoCo render in memory; MuJoCo reads its variable when it is imported."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")


def _write(frames: list, path: Path) -> None:
    from PIL import Image

    # Every other frame at half the rate of the simulation, with 32 colours: keeps a GIF of 500 steps small.
    pictures = [Image.fromarray(frame).quantize(32) for frame in frames[::2]]
    try:
        pictures[0].save(
            path, save_all=True, append_images=pictures[1:], duration=1000 // _FRAMES_PER_SECOND, loop=0, optimize=True
        )
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from None
