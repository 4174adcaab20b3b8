"""Checks of what environments return, so that a faulty one is named in one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Space, Tuple

from byzbench.errors import BrokenEnvironment
from byzbench.rl.rollouts import EnvironmentBatch
from byzbench.rl.simulations import Simulated

LARGE_ACTION = 1e6
"""The largest action after which an environment must be finite; a policy that diverges may take larger ones."""

_NUMBERS = "biuf"
"""The kinds of NumPy's types that are numbers."""


def _array(value: Any) -> np.ndarray:
    """Return a value of an environment as an array, of type object if it is none."""
    try:
        return np.asarray(value)
    except Exception:
        return np.asarray(None)


def _describe(value: Any) -> str:
    shape = _array(value).shape
    return f"of type {type(value).__name__}{f' and shape {list(shape)}' if shape else ''}"


def _fits(space: Space[Any], array: np.ndarray) -> bool:
    """Return whether an array [..., *o] has the kind of numbers and the shape of a Box."""
    kinds = _NUMBERS if space.dtype is not None and space.dtype.kind == "f" else "biu"
    shape = space.shape or ()
    return array.dtype.kind in kinds and array.shape[array.ndim - len(shape) :] == shape


def _is_observation(space: Space[Any], value: Any) -> bool:
    """Return whether a value has the parts, the shapes and the kinds of numbers of a space.

    Bounds and precision of a Box do not matter, as policies read float32 numbers of any size.
    """
    if isinstance(space, Box):
        array = _array(value)
        return array.ndim == len(space.shape) and _fits(space, array)
    if isinstance(space, Dict):
        same_keys = isinstance(value, Mapping) and value.keys() == space.spaces.keys()
        return same_keys and all(_is_observation(part, value[key]) for key, part in space.spaces.items())
    if isinstance(space, Tuple):
        same_length = isinstance(value, tuple | list) and len(value) == len(space.spaces)
        return same_length and all(map(_is_observation, space.spaces, value))
    return bool(space.contains(value))


def require_observations(space: Space[Any], observations: Sequence[Any]) -> None:
    """Check that observations have the parts, the shapes and the kinds of numbers of their space.

    Args:
        space: The observation space.
        observations: The observations, one of each environment.

    Raises:
        BrokenEnvironment: One has not.

    Example:
        >>> require_observations(Box(-1, 1, (2,)), [[0.5, 0.5], np.zeros(2)])
    """
    if isinstance(space, Box):
        array = _array(observations)
        if array.ndim == 1 + len(space.shape) and _fits(space, array):
            return
    for observation in observations:
        if not _is_observation(space, observation):
            expected = " ".join(str(space).split())
            raise BrokenEnvironment(f"returned an observation {_describe(observation)}, expected one of {expected:.80}")


def as_numbers(values: Sequence[Any], name: str) -> np.ndarray:
    """Return numbers that environments returned as an array.

    Args:
        values: The numbers, one of each environment.
        name: The words for such a number in the message, such as "a reward".

    Raises:
        BrokenEnvironment: One is no number.

    Example:
        >>> as_numbers([1, 0.5], "a reward")
        array([1. , 0.5])
    """
    array = _array(values)
    if array.dtype.kind in _NUMBERS and array.ndim == 1:
        return array
    arrays = map(_array, values)
    wrong = (value for value, x in zip(values, arrays, strict=True) if x.dtype.kind not in _NUMBERS or x.ndim)
    raise BrokenEnvironment(f"returned {name} {_describe(next(wrong, values))}, expected a finite number")


def require_results(result: Any, *names: str) -> tuple[Any, ...]:
    """Return what `reset` or `step` returned, if it is a tuple of as many values as there are names.

    Args:
        result: What it returned.
        names: What the values should be.

    Raises:
        BrokenEnvironment: It is something else.

    Example:
        >>> require_results((0.5, {}), "observation", "info")
        (0.5, {})
    """
    if isinstance(result, tuple) and len(result) == len(names):
        return result
    values = f"{len(result)} values" if isinstance(result, tuple) else f"a value {_describe(result)}"
    raise BrokenEnvironment(f"returned {values}, expected the {len(names)} values {', '.join(names)}")


def fit_actions(actions: np.ndarray, space: Box) -> np.ndarray:
    """Return actions [..., *a] inside a Box, and of its type.

    Policies compute float32 actions, whose rounding may leave bounds of another type, and policies that diverged have
    actions that are no numbers.

    Example:
        >>> fit_actions(np.float32([[np.nan, 7.9]]), Box(-3, 3, (2,), np.int8))
        array([[0, 3]], dtype=int8)
    """
    if not np.isfinite(actions).all():
        actions = np.nan_to_num(actions)
    return actions.clip(space.low, space.high).astype(space.dtype, copy=False)


def with_checks(
    environments: EnvironmentBatch, rows: int, observation_size: int, name: Callable[[], str]
) -> EnvironmentBatch:
    """Return environments that check what they return; compiled simulations are returned as they are.

    Args:
        environments: The environments.
        rows: Their number K*N.
        observation_size: The size o of an observation.
        name: A function that returns the name of the task, for messages.
    """
    if isinstance(environments, Simulated):
        return environments
    return CheckedEnvironments(environments, rows, observation_size, name)


class CheckedEnvironments(EnvironmentBatch):
    """Environments whose observations and rewards are checked at every step: their shapes, and that they are finite.

    Args:
        inner: The environments.
        rows: Their number K*N.
        observation_size: The size o of an observation.
        name: A function that returns the name of the task, for messages.
    """

    def __init__(self, inner: EnvironmentBatch, rows: int, observation_size: int, name: Callable[[], str]) -> None:
        self._inner, self._rows, self._size, self._name = inner, rows, observation_size, name
        self._t = 0

    def reset(self, generators: Sequence[np.random.Generator]) -> np.ndarray:
        """Start an episode in every row: see `EnvironmentBatch`."""
        self._t = 0
        observations = self._call(self._inner.reset, generators)
        self._require_shape(observations, "observations", self._rows, self._size)
        if not np.isfinite(observations).all():
            raise self._fault("returned an observation that is not finite")
        return observations

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Advance every row by one step: see `EnvironmentBatch`."""
        self._t += 1
        output = self._call(self._inner.step, actions)
        names = ("observations", "rewards", "terminated", "truncated")
        output = self._call(require_results, output, *names)
        for name, value in zip(names, output, strict=True):
            self._require_shape(value, name, self._rows, *[self._size] * (name == "observations"))
        for name, value in zip(names[:2], output[:2], strict=True):
            if not np.isfinite(value).all() and (np.abs(actions) <= LARGE_ACTION).all():
                raise self._fault(f"returned {name} that are not finite numbers of float32")
        return output

    def _call(self, method: Callable[..., Any], *args: Any) -> Any:
        try:
            with np.errstate(all="ignore"):  # what overflows is named by a check
                return method(*args)
        except BrokenEnvironment as error:
            raise self._fault(str(error)) from error

    def _require_shape(self, value: Any, name: str, *shape: int) -> None:
        if not (isinstance(value, np.ndarray) and value.shape == shape and value.dtype.kind in _NUMBERS):
            raise self._fault(f"returned {name} {_describe(value)}, expected an array of shape {list(shape)}")

    def _fault(self, text: str) -> BrokenEnvironment:
        place = f"step {self._t} of an episode" if self._t else "reset"
        return BrokenEnvironment(f"env {self._name()}: {place} {text}")
