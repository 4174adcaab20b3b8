"""A training that stops whenever somebody outside is asked, and goes on when they have answered."""

from __future__ import annotations

import math
from collections.abc import Coroutine, Generator
from typing import Any

from byzbench.errors import BrokenPlugin
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import Training, one_thread


class Question:
    """What stops a round: `answer = await Question(asked)`, in the `answer` of an attack that has nobody inside.

    Attributes:
        asked: what the one outside needs to know.
    """

    def __init__(self, asked: Any) -> None:
        self.asked = asked

    def __await__(self) -> Generator[Question, Any, Any]:
        """Wait for the answer."""
        return (yield self)


class Session:
    """One training from its first question to the end of its budget.

    No threads: a round is a coroutine, and a question suspends it where it stands.

    Attributes:
        training: the experiment under way.
        line: the metrics of the last round that was done; empty before the first.
    """

    def __init__(self, todo: Experiment) -> None:
        self.training, self.line = Training(todo), dict[str, Any]()
        self._round: Coroutine[Any, Any, dict[str, Any]] | None = None

    def advance(self, answer: Any = None) -> Any:
        """Answer the question that the training stopped at, if it did: what is asked next, or None at the end."""
        with one_thread():
            while self._round or not self.training.over:
                self._round = self._round or self.training.advance()
                try:
                    question = self._round.send(answer)
                except StopIteration as stop:
                    self._round, self.line, answer = None, stop.value, None
                    continue
                if not isinstance(question, Question):
                    raise BrokenPlugin("a round waited for something that is neither the federation nor a seat")
                return question.asked
        return None

    def evaluate(self) -> dict[str, float | None]:
        """The last evaluation of a run, of the honest agents' policies as they are now."""
        with one_thread():
            return self.training.evaluate(self.training.todo.evaluations)

    def harm(self, returned: float | None) -> float:
        """Minus a return as a share of the way from random play to solved, in [-1, 1]; 1 if it is not finite."""
        task = self.training.todo.task
        if returned is None or not math.isfinite(returned):
            return 1.0
        share = (returned - task.worth("random")) / (task.worth("solved") - task.worth("random"))
        return -min(max(share, -1.0), 1.0)

    def close(self) -> None:
        """Leave the training where it is."""
        if self._round:
            self._round.close()
            self._round = None
