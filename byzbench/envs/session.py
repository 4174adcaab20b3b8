"""Training that is suspended for external decisions of an attack."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Generator
from contextlib import closing
from typing import Any

from byzbench.errors import BrokenPlugin, Undefined
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import Training
from byzbench.registry import name_of
from byzbench.threads import one_thread

TOPICS = {"aggregator": "gradient", "agreement": "parameters"}
"""The topic of the messages that each kind of rule aggregates."""


class MessageRequest:
    """Awaitable that suspends a round until an external decision: `answer = await MessageRequest(observation)`.

    The method `answer` of an externally controlled attack awaits it.

    Attributes:
        observation: the observation on which the decision is based.
    """

    def __init__(self, observation: Any) -> None:
        self.observation = observation

    def __await__(self) -> Generator[MessageRequest, Any, Any]:
        """Suspend the round, and return the decision that is sent to it."""
        return (yield self)


class FederationSession:
    """Training of one experiment that is suspended at every external decision.

    It needs no threads: a round is a coroutine, which a `MessageRequest` suspends.

    Args:
        todo: the experiment, whose attack awaits `MessageRequest`.

    Attributes:
        training: the training of the experiment.
        line: the metrics of the last completed round; empty before the first.
    """

    def __init__(self, todo: Experiment) -> None:
        self.training, self.line = Training(todo), dict[str, Any]()
        self._round: Coroutine[Any, Any, dict[str, Any]] | None = None

    def advance(self, answer: Any = None) -> Any:
        """Continue the training until the next external decision or the end of the budget.

        Args:
            answer: the decision that the training waits for; None at the start.

        Returns:
            The observation for the next decision, or None at the end of the budget.

        Raises:
            BrokenPlugin: a round awaited something else than a `MessageRequest`.
        """
        with one_thread():
            while self._round or not self.training.is_finished:
                if request := self._resume(answer):
                    return request.observation
                answer = None
        return None

    def run_round(self, answer: Callable[[Any], Any]) -> None:
        """Run a whole round.

        Args:
            answer: a function that returns the decision on an observation.

        Raises:
            BrokenPlugin: the round awaited something else than a `MessageRequest`.
        """
        with one_thread():
            request = self._resume(None)
            while request:
                request = self._resume(answer(request.observation))

    def _resume(self, answer: Any) -> MessageRequest | None:
        """Continue the round, or start the next one, until a request; return None at the end of the round."""
        self._round = self._round or self.training.advance()
        try:
            request = self._round.send(answer)
        except StopIteration as stop:
            self._round, self.line = None, stop.value
            return None
        if not isinstance(request, MessageRequest):
            raise BrokenPlugin("a round waited for something that is neither the federation nor an external decision")
        return request

    def evaluate(self) -> dict[str, float | None]:
        """Return the final evaluation of a run, for the current policies of the honest agents."""
        with one_thread():
            return self.training.evaluate(self.training.todo.evaluations)

    def attacker_reward(self, returned: float | None) -> float:
        """Return the reward of the attacker: minus the normalised return, clipped to [-1, 1].

            -clip((J - J_random) / (J_solved - J_random), -1, 1)

        Args:
            returned: the return J of the honest agents. If it is None or not finite, the reward is 1.
        """
        task = self.training.todo.task
        if returned is None or not math.isfinite(returned):
            return 1.0
        normalized = (returned - task.reference_score("random")) / (
            task.reference_score("solved") - task.reference_score("random")
        )
        return -min(max(normalized, -1.0), 1.0)

    def close(self) -> None:
        """Close the suspended round; the training cannot be continued."""
        if self._round:
            self._round.close()
            self._round = None


def check_decisions(todo: Experiment, answer: Callable[[Any], Any]) -> None:
    """Check that an attacker has decisions in an experiment, and that they have an effect on a later round.

    The first round is run once, because how many trajectories it spends depends on the algorithm and its rules.

    Args:
        todo: the experiment, whose attack awaits `MessageRequest`.
        answer: a function that returns a decision on an observation.

    Raises:
        Undefined: no agent receives Byzantine messages, the first round spends the budget, or the task has no reference
            scores. The message says what to change.
    """
    name, kinds = name_of(todo.algorithm), dict(todo.rules)
    if not todo.byzantine:
        raise Undefined("no agent receives Byzantine messages: set byzantine to at least 1")
    if not kinds:
        raise Undefined(f"no agent receives Byzantine messages: agents of {name} send none, use decbyzpg or byzpg")
    without_agreement = "agreement" in kinds and name_of(todo.agreement) == "none"
    if without_agreement:
        del kinds["agreement"]
    topics = [TOPICS[kind] for kind in kinds]
    if not any(todo.attack.targets(topic) for topic in topics):
        remedies = [f"use on={topic!r} or on='both'" for topic in topics]
        raise Undefined(
            f"no agent receives Byzantine messages: {name} exchanges {' and '.join(topics) or 'nothing'} here; "
            + ", or ".join([*remedies, *(["choose an agreement"] if without_agreement else [])])
        )
    for score in ("random", "solved"):
        todo.task.reference_score(score)
    with closing(FederationSession(todo)) as session:
        session.run_round(answer)
    if session.training.is_finished:
        spent = session.training.spent
        raise Undefined(
            f"the first round spends {spent} trajectories, so that an episode has one round: set trajectories to more "
            f"than {spent}, now {todo.trajectories}, or use smaller batches"
        )


def no_decision() -> Undefined:
    """Return the error for a training in which no Byzantine agent has sent a message."""
    return Undefined(
        "no agent received a Byzantine message in this training: choose another algorithm, or attack its other "
        "exchanges"
    )
