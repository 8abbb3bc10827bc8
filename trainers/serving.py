"""Predictions for requests that come at the same time: one model, one queue, what waits goes through the model together."""

from __future__ import annotations

import inspect
import logging
import math
import queue
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)

ROW_BY_ROW = ("essay_scoring", "outcome_prediction", "question_answering")
"""Recipes whose predictions have a row for each row that is asked, so that requests can share a batch and be cut apart again."""
SIZES = ("batch_size", "k")  # arguments of predict_columns that are no columns
UNREADABLE = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError)
"""What a model raises on inputs of a wrong type or shape."""


class RequestError(ValueError):
    """A request that cannot be answered; the message is for whoever sent it and holds nothing of anybody else's.

    Args:
        message: What is wrong.
        status: Of HTTP.
    """

    def __init__(self, message: str, status: int = 400):
        super().__init__(message)
        self.status = status


class PredictionService:
    """Answers requests with a model's `predict_columns`, from any number of threads.

    A worker of its own takes what has come while the model was at work, up to `max_batch_rows` rows, and predicts it together:
    nobody waits for a batch to fill, and under load batches grow by themselves.

    Args:
        task: The recipe.
        model: What `trainers.<task>.load` gives.
        max_batch_rows: Rows that go through the model together.
        max_request_rows: Rows that one request may have.
        max_waiting: Requests that may wait; the next one is sent away.
    """

    def __init__(
        self, task: str, model: Any, max_batch_rows: int = 64, max_request_rows: int = 1024, max_waiting: int = 256
    ):  # fmt: skip
        self.task, self.model = task, model
        self.together = task in ROW_BY_ROW
        self.max_batch_rows, self.max_request_rows = max_batch_rows, max_request_rows
        parameters = inspect.signature(model.predict_columns).parameters.values()
        self.columns = {p.name: p for p in parameters if p.name not in SIZES}
        self._texts = {name for name, p in self.columns.items() if str(p.annotation).startswith("Sequence[str]")}
        self._waiting: queue.Queue = queue.Queue(max_waiting)
        self._closed = False
        self._worker = threading.Thread(target=self._work, name="predict", daemon=True)
        self._worker.start()

    def describe(self) -> dict[str, Any]:
        """What can be asked: the recipe, its columns, and of a model of records the order of their features."""
        settings = getattr(self.model, "settings", None)
        more = {n: getattr(settings, n) for n in ("prompt_ids", "number_columns", "category_columns") if hasattr(settings, n)}
        needed = [name for name, p in self.columns.items() if p.default is inspect.Parameter.empty]
        return {"task": self.task, "inputs": list(self.columns), "needed": needed, **more}

    def predict(self, inputs: Any, timeout: float | None = 60) -> dict[str, list]:
        """The columns that predict.py would write, as lists of what json knows.

        Args:
            inputs: Column -> values, as `predict_columns` takes them.
            timeout: Seconds to wait for the model.

        Raises:
            RequestError: The inputs cannot be read, or too many are waiting.
        """
        rows, answer = self._check(inputs), Future()
        if self._closed:
            raise RequestError("the server is shutting down.", 503)
        try:
            self._waiting.put_nowait((inputs, rows, answer))
        except queue.Full:
            raise RequestError("too many requests are waiting: try again later.", 503) from None
        try:
            return answer.result(timeout)
        except TimeoutError:
            answer.cancel()
            raise RequestError("the model took too long: send fewer rows.", 503) from None

    def close(self) -> None:
        """Answer what is waiting, and stop."""
        self._closed = True
        self._waiting.put(None)
        self._worker.join()
        while not self._waiting.empty():  # came in the same moment
            if late := self._waiting.get_nowait():
                late[2].set_exception(RequestError("the server is shutting down.", 503))

    def _check(self, inputs: Any) -> int:
        """How many rows are asked."""
        if not isinstance(inputs, Mapping):
            raise RequestError('"inputs" is no object; expected {"column": [values, ...]}.')
        if unknown := sorted(set(inputs) - set(self.columns)):
            raise RequestError(f"unknown column {str(unknown[0])[:40]!r}; expected {', '.join(self.columns)}.")
        for name, parameter in self.columns.items():
            if name not in inputs and parameter.default is inspect.Parameter.empty:
                raise RequestError(f"the column {name!r} is missing; expected {', '.join(self.describe()['needed'])}.")
        lengths = {name: len(values) if isinstance(values, list) else -1 for name, values in inputs.items()}
        for name, length in lengths.items():
            if length < 0:
                raise RequestError(f"the column {name!r} is no list.")
            if name in self._texts and not all(isinstance(value, str) for value in inputs[name]):
                raise RequestError(f"the column {name!r} holds something that is no text.")
        if self.together and len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise RequestError(f"the columns differ in length: {told}.")
        if max(lengths.values(), default=0) > self.max_request_rows:
            raise RequestError(f"a request may have {self.max_request_rows} rows; send several.", 413)
        return max(lengths.values(), default=0)

    def _work(self) -> None:
        kept = None  # the first request of the next batch
        while (first := kept or self._waiting.get()) is not None:
            batch, kept = [first], None
            while self.together and sum(rows for _, rows, _ in batch) < self.max_batch_rows:
                try:
                    kept = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if kept is None or set(kept[0]) != set(first[0]):  # the end, or other columns
                    if kept is None:
                        self._waiting.put(None)
                    break
                batch.append(kept)
                kept = None
            self._answer([request for request in batch if request[2].set_running_or_notify_cancel()])

    def _answer(self, batch: list[tuple[Mapping[str, list], int, Future]]) -> None:
        """Predict requests together; where that fails, each alone, so that nobody suffers for another's request."""
        if not batch:
            return
        try:
            merged = {name: [v for inputs, _, _ in batch for v in inputs[name]] for name in batch[0][0]}
            found = {name: as_json(values) for name, values in self.model.predict_columns(**merged).items()}
        except Exception as error:
            if len(batch) > 1:
                for request in batch:
                    self._answer([request])
            else:
                batch[0][2].set_exception(self._refusal(error))
            return
        start = 0
        for _, rows, answer in batch:
            own = found if len(batch) == 1 else {name: values[start : start + rows] for name, values in found.items()}
            answer.set_result(own)
            start += rows

    def _refusal(self, error: Exception) -> RequestError:
        if getattr(error, "exit_code", None):  # its message is written for users
            return RequestError(" ".join(str(error).split()))
        logger.error("a request could not be predicted: %s", type(error).__name__)  # the message may hold a learner's text
        if isinstance(error, UNREADABLE):
            return RequestError("the model cannot read these values: wrong types, or rows of another length than in training.")
        return RequestError("the model failed.", 500)


def as_json(values: Sequence) -> list:
    """A column as a list of what json knows; numbers that are none become null."""
    if isinstance(values, np.ndarray):
        values = values.tolist()
    plain = (v.item() if isinstance(v, np.generic) else v for v in values)
    return [None if isinstance(v, float) and not math.isfinite(v) else v for v in plain]
