"""Specifications of Gymnasium environments: what `gymnasium.make` takes, wrappers, and what the result declares."""

from __future__ import annotations

import ast
import inspect
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import error as errors
from gymnasium.envs.registration import EnvSpec, find_highest_version, get_env_id, parse_env_id
from gymnasium.spaces import Box, Dict, Discrete, Space, Tuple, flatdim

from byzbench.core.json_object import JsonObject
from byzbench.errors import InvalidParameter, Undefined, UserError, suggest
from byzbench.literals import UNREADABLE

_EXTRAS = {
    "Box2D": "box2d",
    "pygame": "box2d",
    "mujoco": "mujoco",
    "imageio": "mujoco",
    "envpool": "envpool",
} | dict.fromkeys(("pettingzoo", "mpe2"), "pettingzoo")
"""The extra of byzbench that installs a package, by the package's import name."""

_SET_BY_TASKS = {
    "id": "it is the parameter id",
    "max_episode_steps": "set steps= instead",
    "disable_env_checker": "runs need no checks of Gymnasium",
    "render_mode": "runs do not render; `byzbench render` does",
}
"""The arguments of `gymnasium.make` that are no options, with the reason."""

_REFUSED_WRAPPERS = {
    "NormalizeObservation": "its statistics span episodes; --scenario normalized normalises observations",
    "NormalizeReward": "its statistics span episodes; --scenario reward_scale scales rewards",
    "RecordEpisodeStatistics": "its records span episodes; every run records its returns",
    "RecordVideo": "runs do not render; `byzbench render` does",
    "RenderCollection": "runs do not render; `byzbench render` does",
    "HumanRendering": "runs do not render; `byzbench render` does",
    "TimeLimit": "set steps= instead",
    "Autoreset": "runs start every episode themselves",
}
"""The wrappers of Gymnasium with state that spans episodes, or that do what a run does, with the reason."""

_MAX_SIZE = 1_000_000
"""The largest number of coordinates, or of discrete observations or actions: policies have weights for each."""


@dataclass(frozen=True)
class EnvironmentFacts:
    """The spaces, horizon and threshold that an environment declares.

    Attributes:
        observations: The observation space.
        actions: The action space.
        horizon: The maximal number of steps of an episode; None if the environment declares none.
        threshold: The return at which the task counts as solved; None if the environment declares none, or has options
            or wrappers, which may change returns.
        files: The files that define the environment and its wrappers, where these are written with their module.
    """

    observations: Space[Any]
    actions: Space[Any]
    horizon: int | None
    threshold: float | None
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class EnvironmentSpec:
    """The arguments of `gymnasium.make`, and the wrappers around its result.

    Attributes:
        id: The id of the environment, or `module:id` with the module that registers it.
        options: Further keyword arguments of `gymnasium.make`.
        wrappers: The wrappers as `normalized_wrapper` returns them, from the inside out.
        max_episode_steps: The maximal number of steps of an episode; None for that of the environment.

    Example:
        >>> spec = EnvironmentSpec("Acrobot-v1", wrappers=("TimeAwareObservation",))
        >>> spec.make().observation_space.shape
        (7,)
    """

    id: str
    options: JsonObject = field(default=JsonObject())
    wrappers: tuple[str, ...] = ()
    max_episode_steps: int | None = None

    def make(self, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        """Make the environment.

        Args:
            render_mode: The render mode of the environment.

        Raises:
            UserError: A module cannot be imported, a package is missing, there is no such environment or wrapper, or
                it refuses its arguments.
        """
        for name in self.options:
            if name in _SET_BY_TASKS:
                raise InvalidParameter(f"{name} is no option of an environment: {_SET_BY_TASKS[name]}")
        rendering = {} if render_mode is None else {"render_mode": render_mode}
        with translate_environment_errors(self.id):
            _import_registering_module(self.id)
            environment: gymnasium.Env[Any, Any] = gymnasium.make(
                self.id, self.max_episode_steps, disable_env_checker=True, **rendering, **self.options
            )
            for text in self.wrappers:
                environment = _wrap(environment, text)
        return environment


@contextmanager
def translate_environment_errors(name: str) -> Iterator[None]:
    """Turn the errors of making the environment `name` into an error of one line, with the remedy.

    Raises:
        Undefined: The environment cannot be made here, so that a sweep goes on without it.
    """
    with warnings.catch_warnings():
        # Box2D's SWIG types warn on creation; where warnings are errors, this crashes the interpreter.
        warnings.simplefilter("ignore")
        try:
            yield
        except UserError:
            raise
        except (ImportError, errors.DependencyNotInstalled) as error:
            chain = (error, error.__cause__, error.__context__)
            missing = next((e.name for e in chain if isinstance(e, ImportError) and e.name), "")
            extra = _EXTRAS.get(missing.partition(".")[0])
            package = f"'byzbench[{extra}]'" if extra else missing
            remedy = f"pip install {package}" if package else " ".join(str(error).split())
            raise Undefined(f"task {name!r} needs more packages: {remedy}") from None
        except errors.Error as error:
            reason = str(error).splitlines()[0]
            raise Undefined(f"Gymnasium has no environment {name!r} here: {reason}") from None
        except (Exception, SystemExit) as error:
            raise Undefined(f"environment {name!r} cannot be made: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """Return an error as one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _import_registering_module(id: str) -> None:
    """Import the module of an id `module:id`, which registers the environment.

    Raises:
        Undefined: The module cannot be imported.
    """
    module = id.rpartition(":")[0]
    if module:
        try:
            import_module(module)
        except (Exception, SystemExit) as error:
            remedy = "; install its package, or put its folder on PYTHONPATH" if isinstance(error, ImportError) else ""
            raise Undefined(
                f"module {module!r} of environment {id!r} cannot be imported: {_reason(error)}{remedy}"
            ) from error


def normalized_wrapper(text: str) -> str:
    """Return the written form of a wrapper in one spelling.

    Args:
        text: `Name` for a wrapper of `gymnasium.wrappers`, or `module:Name`; with arguments `Name(key=value, ...)`.

    Raises:
        ValueError: The text does not have that form.

    Example:
        >>> normalized_wrapper("ClipReward( max_reward=1, min_reward=-1 )")
        'ClipReward(max_reward=1, min_reward=-1)'
        >>> normalized_wrapper("my_package.wrappers:Scaled()")
        'my_package.wrappers:Scaled'
    """
    module, name, arguments = _parsed_wrapper(text)
    written = ", ".join(f"{key}={value!r}" for key, value in sorted(arguments.items()))
    return f"{module}{':' if module else ''}{name}" + (f"({written})" if written else "")


def _parsed_wrapper(text: str) -> tuple[str, str, dict[str, Any]]:
    """Return the module, the name and the arguments of a written wrapper; the module is empty for Gymnasium's."""
    if written := re.fullmatch(r"\s*(?:([A-Za-z_][\w.]*):)?([A-Za-z_]\w*)\s*(\(.*\))?\s*", text, re.DOTALL):
        module, name, arguments = written.groups(default="")
        try:
            call = ast.parse(name + (arguments or "()"), mode="eval").body
            if isinstance(call, ast.Call) and not call.args and all(keyword.arg for keyword in call.keywords):
                values = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
                return module, name, values
        except UNREADABLE:
            pass
    raise ValueError(f"cannot read wrapper {text!r}: write Name, module:Name or Name(key=value, ...)")


def _wrap(environment: gymnasium.Env[Any, Any], text: str) -> gymnasium.Env[Any, Any]:
    """Put a written wrapper around an environment.

    Raises:
        InvalidParameter: There is no such wrapper, or it is refused, or it refuses its arguments or the environment.
    """
    module, name, arguments = _parsed_wrapper(text)
    try:
        wrapper = getattr(import_module(module or "gymnasium.wrappers"), name)
        for cls in getattr(wrapper, "__mro__", ()):
            if cls.__name__ in _REFUSED_WRAPPERS and cls.__module__.startswith("gymnasium."):
                raise InvalidParameter(f"wrapper {name!r} is refused: {_REFUSED_WRAPPERS[cls.__name__]}")
        wrapped = wrapper(environment, **arguments)
        if not isinstance(wrapped, gymnasium.Env):
            raise TypeError(f"it returns a {type(wrapped).__name__}, not an environment")
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        is_unknown = not module and isinstance(error, AttributeError)
        hint = f". {suggest(name, gymnasium.wrappers.__all__)}".rstrip(" .") if is_unknown else ""
        raise InvalidParameter(f"wrapper {text!r}: {_reason(error)}{hint}") from error
    return wrapped


@cache
def environment_facts(spec: EnvironmentSpec) -> EnvironmentFacts:
    """Read the spaces, the horizon and the threshold of a Gymnasium environment.

    Args:
        spec: The environment with its options and wrappers.

    Raises:
        UserError: There is no such environment, a package is missing, an option or a wrapper is refused, or the spaces
            are not supported.

    Example:
        >>> facts = environment_facts(EnvironmentSpec("Acrobot-v1"))
        >>> facts.horizon, facts.threshold
        (500, -100.0)
    """
    with translate_environment_errors(spec.id):
        _import_registering_module(spec.id)
        registered = _registered_spec(spec.id.rpartition(":")[2])
        if str(registered.entry_point).startswith("gymnasium.envs.mujoco"):
            # MuJoCo would warn for each of hundreds of simulators that Gymnasium's model file has an older format.
            import_module("mujoco").set_mju_user_warning(lambda text: None)
        with spec.make() as environment:
            observations, actions = environment.observation_space, environment.action_space
            _require_supported_spaces(spec.id, observations, actions)
            files = _files(environment) if ":" in "".join((spec.id, *spec.wrappers)) else ()
    has_threshold = not spec.options and not spec.wrappers
    return EnvironmentFacts(
        observations,
        actions,
        spec.max_episode_steps or registered.max_episode_steps,
        registered.reward_threshold if has_threshold else None,
        files,
    )


def _registered_spec(id: str) -> EnvSpec:
    """Return the entry of an id in Gymnasium's registry; without a version that of the latest one, as `make` does."""
    namespace, name, version = parse_env_id(id)
    if version is None:
        version = find_highest_version(namespace, name)
    return gymnasium.spec(get_env_id(namespace, name, version))


def _require_supported_spaces(id: str, observations: Space[Any], actions: Space[Any]) -> None:
    """Check that policies can read the observations, and return the actions.

    Raises:
        Undefined: They cannot.
    """
    if (image := next((part for part in _leaves(observations) if _is_image(part)), None)) is not None:
        raise Undefined(
            f"environment {id!r} has observations of images, of shape {list(image.shape or ())}, which no policy here "
            "reads; a task of your own or a wrapper can reduce them to vectors"
        )
    if not (isinstance(observations, Discrete) or observations.is_np_flattenable):
        raise Undefined(
            f"environment {id!r} has observations of type {type(observations).__name__}, which Gymnasium does not "
            "flatten; supported are vectors, Discrete, and Dict and Tuple of such"
        )
    if not (isinstance(actions, Discrete) or (isinstance(actions, Box) and len(actions.shape) == 1)):
        shape = f" of shape {list(actions.shape)}" if actions.shape else ""
        raise Undefined(
            f"environment {id!r} has actions of type {type(actions).__name__}{shape}; supported are vectors (Box with "
            "one dimension) and Discrete"
        )
    for name, space in (("observations", observations), ("actions", actions)):
        size = int(space.n) if isinstance(space, Discrete) else flatdim(space)
        if not 1 <= size <= _MAX_SIZE:
            kind = "discrete" if isinstance(space, Discrete) else "numbers in its"
            raise Undefined(f"environment {id!r} has {size} {kind} {name}; supported are 1 to {_MAX_SIZE}")


def _leaves(space: Space[Any]) -> Iterator[Space[Any]]:
    """Yield the spaces that a space of type Dict or Tuple is made of, at any depth; any other yields itself."""
    if isinstance(space, Dict | Tuple):
        for part in space.spaces.values() if isinstance(space, Dict) else space.spaces:
            yield from _leaves(part)
    else:
        yield space


def _is_image(space: Space[Any]) -> bool:
    return isinstance(space, Box) and (len(space.shape) > 2 or (len(space.shape) == 2 and space.dtype == np.uint8))


def _files(environment: gymnasium.Env[Any, Any]) -> tuple[Path, ...]:
    """Return the source files of an environment's class and of its wrappers' classes, without those of Gymnasium."""
    layers = [environment]
    while isinstance(layers[-1], gymnasium.Wrapper):
        layers.append(layers[-1].env)
    classes = {type(layer) for layer in layers if not type(layer).__module__.startswith("gymnasium.")}
    return tuple(sorted({Path(inspect.getfile(cls)) for cls in classes}))
