"""Episodes of trained policies as animated GIFs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import gymnasium
from gymnasium.error import DependencyNotInstalled

from byzbench.errors import StorageError, Undefined, UserError, error_text
from byzbench.experiments.trained_policy import TrainedPolicy
from byzbench.registry import name_of

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
    policy = TrainedPolicy.of_run(run, agent)
    problem, hook = "", sys.unraisablehook
    sys.unraisablehook = lambda _: None  # a viewer of MuJoCo that could not be made cannot be deleted without an error
    try:
        frames, total = _play(policy, seed)
    except (UserError, DependencyNotInstalled, gymnasium.error.Error) as error:
        problem = f"cannot be rendered: {str(error).splitlines()[0]}; try: pip install 'byzbench[render]'"
    except Exception as error:  # graphics libraries raise many types
        problem = f"cannot be rendered here: {error_text(error)}"
    finally:
        sys.unraisablehook = hook
    if problem:  # raised here, where the error and its viewer are gone
        raise Undefined(f"{name_of(policy.experiment.task)} {problem}")
    _write(frames, path)
    return total, len(frames)


def _play(policy: TrainedPolicy, seed: int) -> tuple[list, float]:
    """Return the frames and the return of an episode."""
    frames, total, done = [], 0.0, False
    with policy.make_environment(render_mode="rgb_array") as environment:
        observation, _ = environment.reset(seed=seed)
        while not done:
            frames.append(environment.render())
            observation, reward, terminated, truncated, _ = environment.step(policy(observation))
            total, done = total + float(reward), terminated or truncated
    return frames, total


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
