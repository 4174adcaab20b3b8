"""Training that is suspended for external decisions of an attack."""

from __future__ import annotations

import math
from collections.abc import Coroutine, Generator
from typing import Any

from byzbench.errors import BrokenPlugin, Undefined
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import Training, one_thread


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
            Undefined: the first round has spent the budget, so that no decision has an effect on a later one.
        """
        with one_thread():
            while self._round or not self.training.is_finished:
                self._round = self._round or self.training.advance()
                try:
                    request = self._round.send(answer)
                except StopIteration as stop:
                    self._round, self.line, answer = None, stop.value, None
                    continue
                if not isinstance(request, MessageRequest):
                    raise BrokenPlugin(
                        "a round waited for something that is neither the federation nor an external decision"
                    )
                return request.observation
        if self.training.round == 1:
            raise Undefined(
                f"the first round spends {self.training.spent} trajectories, so that an episode has one round: raise "
                f"trajectories, now {self.training.todo.trajectories}, or use smaller batches"
            )
        return None

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
