"""The same calls without ``await``, for code that is not asyncio. They do not wait for anything either:
only ``prompts.for_task`` asks the service, for ``ask_timeout_seconds`` at the most."""

from __future__ import annotations

from typing import Any

from . import results
from .client import Client, connect
from .prompts import BlockingPrompts as Prompts
from .prompts import NoPromptError, Prompt
from .runs import Run
from .validator import ABValidator

__all__ = ["ABValidator", "NoPromptError", "Prompt", "Prompts", "TaskLogger", "for_task"]


def for_task(task_id: str, model: str, run_id: str | None = None) -> Prompt:
    """Which documents a task gets, from the service that the environment names."""
    return Prompts().for_task(task_id, model, run_id)


class TaskLogger:
    """Logs what a pipeline does. No call raises, whatever it is given, and none waits. (Even the arguments
    that every call needs may be missing: what is left out, the service refuses by name.)

    The first argument may be left out, be an address, ``Settings`` or a ``Client``; anything else (a
    database of earlier days) is taken and not used. What is not given is read from the environment.

    ``run_id`` names a run of a task that is run more than once. Without it, a call belongs to the run that
    ``log_task_start`` opened last for the task: in this context, else in this process, else as the spool
    folder remembers. ``iteration`` counts from 1; without it, the nth enhancement of a model is iteration
    n. ``leg`` is ``prompt.leg``: the version, where the task is done under two, else ``None``. Every further
    keyword is kept as metadata.
    """

    def __init__(self, target: object = None, *_: object, **__: object) -> None:
        self._client = connect(target)

    @property
    def client(self) -> Client:
        return self._client

    def flush(self, timeout_seconds: float = 10.0) -> bool:
        """Waits until the service has everything; true if it has."""
        return self._client.flush(timeout_seconds)

    def log_task_start(
        self,
        task_id: Any = None,
        original_prompt: Any = None,
        *,
        task_name: Any = None,
        task_type: Any = None,
        category: Any = None,
        run_id: Any = None,
        **metadata: Any,
    ) -> None:
        """A run begins. Without ``run_id`` it is a new one, and later calls of this context belong to it."""
        try:
            run = self._client.runs.open(task_id, _run_id(run_id))
            event = {
                "type": "task_started",
                "original_prompt": results.text(original_prompt, "original_prompt", "prompt", "text"),
                "task_name": task_name,
                "task_type": task_type,
                "category": category,
            }
            self._client.log(run, event, metadata)
            self._client.book.begin(run)
        except Exception as error:  # noqa: BLE001 - nothing is raised into the pipeline
            self._client.spoilt("task_started", task_id, error)

    def log_enhancement(
        self,
        task_id: Any = None,
        model: Any = None,
        original_prompt: Any = None,
        enhanced_prompt: Any = None,
        latency_ms: Any = None,
        *,
        version: Any = None,
        leg: Any = None,
        run_id: Any = None,
        iteration: Any = None,
        **metadata: Any,
    ) -> None:
        """A model's prompt was enhanced, with the version that was asked for."""
        try:
            run = self._client.runs.find(task_id, _run_id(run_id))
            named = leg if version is None else version
            named = run.versions.get(model) if named is None else named
            again = run.unnamed.pop(model, None) if leg is None else None
            place = _place(model, leg)
            if iteration is None:
                # Enhanced once more because the version became known only then: the same iteration.
                repeated = again is not None and again.get("version") is not None
                iteration = max(1, run.counts.get(place, 0) + (0 if repeated else 1))
            if isinstance(iteration, int):
                run.counts[place] = iteration
            if latency_ms is None:
                latency_ms = results.pick(enhanced_prompt, "latency_ms") if _is_result(enhanced_prompt) else None
            event = {
                "type": "enhancement",
                "model": model,
                "iteration": iteration,
                "original_prompt": original_prompt,
                "enhanced_prompt": results.text(enhanced_prompt, "enhanced_prompt", "prompt", "text", "content"),
                "latency_ms": results.whole(latency_ms),
                "version": named,
                "leg": leg,
            }
            if named is None and self._client.book.is_asked_about_tests:
                run.unnamed[model] = event
            self._client.log(run, event, metadata)
        except Exception as error:  # noqa: BLE001
            self._client.spoilt("enhancement", task_id, error)

    def log_generation(
        self,
        task_id: Any = None,
        model: Any = None,
        image_url: Any = None,
        generation_time_ms: Any = None,
        *,
        cost_usd: Any = None,
        leg: Any = None,
        run_id: Any = None,
        iteration: Any = None,
        **metadata: Any,
    ) -> None:
        """A model made an image. ``image_url`` may be the whole result."""
        try:
            run = self._attempt(task_id, model, run_id)
            result = image_url if _is_result(image_url) else None
            if generation_time_ms is None:
                generation_time_ms = results.pick(result, "generation_time_ms", "duration_ms", "latency_ms", "time_ms")
            if cost_usd is None:
                cost_usd = results.pick(result, "cost_usd")
            event = {
                "type": "generation",
                "model": model,
                "iteration": _iteration(run, model, iteration, leg),
                "leg": leg,
                "image_url": results.address(image_url),
                "generation_time_ms": results.whole(generation_time_ms),
                "cost_usd": cost_usd,
            }
            self._client.log(run, event, metadata)
        except Exception as error:  # noqa: BLE001
            self._client.spoilt("generation", task_id, error)

    def log_validation(
        self,
        task_id: Any = None,
        model: Any = None,
        score: Any = None,
        passed: Any = None,
        issues: Any = None,
        reasoning: Any = None,
        *,
        judge: Any = None,
        leg: Any = None,
        run_id: Any = None,
        iteration: Any = None,
        **metadata: Any,
    ) -> None:
        """An image was judged. ``score`` may be the whole validation."""
        try:
            run = self._attempt(task_id, model, run_id)
            if _is_result(score):
                whole, score = score, results.pick(score, "score")
                passed = results.pick(whole, "passed") if passed is None else passed
                issues = results.pick(whole, "issues") if issues is None else issues
                reasoning = results.pick(whole, "reasoning") if reasoning is None else reasoning
                judge = results.pick(whole, "judge") if judge is None else judge
            event = {
                "type": "validation",
                "model": model,
                "iteration": _iteration(run, model, iteration, leg),
                "leg": leg,
                "score": score,
                "passed": passed,
                "issues": results.issues(issues),
                "reasoning": reasoning,
                "judge": judge,
            }
            self._client.log(run, event, metadata)
        except Exception as error:  # noqa: BLE001
            self._client.spoilt("validation", task_id, error)

    def log_winner(
        self,
        task_id: Any = None,
        winner: Any = None,
        score: Any = None,
        total_iterations: Any = None,
        *,
        leg: Any = None,
        run_id: Any = None,
        iteration: Any = None,
        **metadata: Any,
    ) -> None:
        """The run's winner, by name or as the whole result; ``None`` when no attempt was good enough. ``leg``
        says which version's attempt won, where the task was done under two."""
        try:
            run = self._client.runs.find(task_id, _run_id(run_id))
            self._name_all(run)
            if _is_result(winner):
                score = results.pick(winner, "score") if score is None else score
                winner = results.text(winner, "model", "model_name", "winner", "name")
            if _is_result(score):
                score = results.pick(score, "score")
            if total_iterations is None:
                total_iterations = iteration or max(run.counts.values(), default=1)
            event = {"type": "winner", "score": score, "total_iterations": total_iterations, "leg": leg}
            self._client.log(run, event, metadata, winner=winner)
        except Exception as error:  # noqa: BLE001
            self._client.spoilt("winner", task_id, error)

    def log_complete(
        self, task_id: Any = None, processing_time_ms: Any = None, *, run_id: Any = None, **metadata: Any
    ) -> None:
        """The run was finished."""
        try:
            run = self._client.runs.find(task_id, _run_id(run_id))
            self._name_all(run)
            event = {"type": "completed", "processing_time_ms": results.whole(processing_time_ms)}
            self._client.log(run, event, metadata)
        except Exception as error:  # noqa: BLE001
            self._client.spoilt("completed", task_id, error)

    def log_error(
        self,
        task_id: Any = None,
        error: Any = None,
        model: Any = None,
        stage: Any = None,
        fault: Any = None,
        *,
        leg: Any = None,
        run_id: Any = None,
        iteration: Any = None,
        **metadata: Any,
    ) -> None:
        """Something failed: one attempt where a model is named, else the run, which ends by it. ``fault``
        is ``"prompt"`` or ``"infrastructure"``."""
        try:
            if model is None:
                run = self._client.runs.find(task_id, _run_id(run_id))
                if iteration is not None:
                    metadata["iteration"] = iteration
            else:
                run = self._attempt(task_id, model, run_id)
                iteration = _iteration(run, model, iteration, leg)
            event = {
                "type": "error",
                "model": model,
                "iteration": None if model is None else iteration,
                "leg": leg,
                "error": results.words(error),
                "stage": stage,
                "fault": fault,
            }
            self._client.log(run, event, metadata)
        except Exception as failure:  # noqa: BLE001
            self._client.spoilt("error", task_id, failure)

    def log_feedback(
        self, task_id: Any = None, kept: Any = None, comment: Any = None, *, run_id: Any = None, **metadata: Any
    ) -> None:
        """What a person thought of the result, often days later."""
        try:
            run = self._client.runs.find(task_id, _run_id(run_id))
            self._client.log(run, {"type": "feedback", "kept": kept, "comment": comment}, metadata)
        except Exception as error:  # noqa: BLE001
            self._client.spoilt("feedback", task_id, error)

    def _attempt(self, task_id: Any, model: Any, run_id: Any) -> Run:
        run = self._client.runs.find(task_id, _run_id(run_id))
        if run.unnamed:
            self._name(run, model)
        return run

    def _name(self, run: Run, model: Any) -> None:
        """Logs an enhancement once more with its version, if the pipeline asked for one after it."""
        event = run.unnamed.pop(model, None)
        if event is not None and event.get("version") is not None:
            self._client.log(run, event, {})

    def _name_all(self, run: Run) -> None:
        for model in list(run.unnamed):
            self._name(run, model)


def _run_id(run_id: Any) -> str | None:
    return None if run_id is None else str(run_id)


def _is_result(value: object) -> bool:
    return value is not None and not isinstance(value, (str, int, float))


def _place(model: Any, leg: Any) -> Any:
    return model if leg is None else (model, leg)


def _iteration(run: Run, model: Any, given: Any, leg: Any) -> Any:
    return (run.counts.get(_place(model, leg)) or 1) if given is None else given
