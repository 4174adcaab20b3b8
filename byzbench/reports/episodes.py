"""Episodes of trained policies as moving pictures."""

from __future__ import annotations

import os
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium.error import DependencyNotInstalled

from byzbench.errors import CorruptRecord, InvalidParameter, StorageError, Undefined
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.records import RunFolder
from byzbench.experiments.runner import federate
from byzbench.learning.scales import in_units
from byzbench.registry import name_of

_FRAMES_PER_SECOND = 25


def render(run: Path, path: Path, *, agent: int | None = None, seed: int = 0) -> tuple[float, int]:
    """Play one episode by an agent's likeliest actions and write it as a GIF; its return and its length.

    Args:
        run: the folder of a finished run.
        path: the GIF.
        agent: whose policy; the first honest agent's if none.
        seed: of the episode's initial state.

    Raises:
        CorruptRecord: it is no such folder.
        InvalidParameter: no such agent.
        Undefined: the task cannot be rendered here.
    """
    folder = RunFolder(run)
    found, saved = folder.read("experiment.json"), folder.restore()
    if found is None or saved is None:
        raise CorruptRecord(f"{run} is not the folder of a finished run")
    todo = Experiment.from_description(found.get("experiment", {}))
    honest = [a for a in range(todo.agents) if a not in todo.members.liars]
    chosen = honest[0] if agent is None else agent
    if not 0 <= chosen < todo.agents:
        raise InvalidParameter(f"agent must be a whole number from 0 to {todo.agents - 1}, got {chosen}")
    policy, theta = todo.algorithm.deployed(federate(todo)[0].policy), saved[0].get("state/theta")
    if theta is None or theta.shape != (todo.agents, policy.dimension):
        raise CorruptRecord(f"the checkpoint of {run} does not hold the parameters of its agents")

    scales = saved[0].get("worlds/scales")

    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pictures need no screen, and its absence no word
    act = policy.sampler(theta[chosen : chosen + 1], None)
    frames, total, over = [], 0.0, False
    try:
        with gymnasium.make(todo.task.gymnasium_id, render_mode="rgb_array") as environment:
            seen, _ = environment.reset(seed=seed)
            while not over:
                frames.append(environment.render())
                observation = np.asarray(seen, np.float32).reshape(1, 1, -1)
                if scales is not None:
                    observation = in_units(observation, scales[chosen : chosen + 1])
                action = policy.executed(act(0, observation))[0]
                seen, reward, terminated, truncated, _ = environment.step(action)
                total, over = total + float(reward), terminated or truncated
    except (DependencyNotInstalled, gymnasium.error.Error) as error:
        said = str(error).splitlines()[0]
        raise Undefined(f"{name_of(todo.task)} cannot be shown: {said}; try: pip install 'byzbench[watch]'") from None
    _write(frames, path)
    return total, len(frames)


def _write(frames: list, path: Path) -> None:
    from PIL import Image

    # Every other frame at half the rate of the simulation, in a palette: an episode of 500 steps stays small.
    pictures = [Image.fromarray(frame).quantize(32) for frame in frames[::2]]
    try:
        pictures[0].save(
            path, save_all=True, append_images=pictures[1:], duration=1000 // _FRAMES_PER_SECOND, loop=0, optimize=True
        )
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from None
