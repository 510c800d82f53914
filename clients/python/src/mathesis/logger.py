"""``TaskLogger`` for asyncio: what a pipeline was promised, call by call."""

from __future__ import annotations

import asyncio
from typing import Any

from . import blocking
from .client import Client


class TaskLogger:
    """Logs what a pipeline does. No call raises, whatever it is given, and none waits: each makes a small
    object and puts it in a queue in memory. ``mathesis.blocking.TaskLogger`` has the details of each."""

    def __init__(self, target: object = None, *_: object, **__: object) -> None:
        self._now = blocking.TaskLogger(target)

    @property
    def client(self) -> Client:
        return self._now.client

    async def flush(self, timeout_seconds: float = 10.0) -> bool:
        """Waits until the service has everything; true if it has."""
        return await asyncio.to_thread(self._now.flush, timeout_seconds)

    async def log_task_start(
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
        self._now.log_task_start(
            task_id,
            original_prompt,
            task_name=task_name,
            task_type=task_type,
            category=category,
            run_id=run_id,
            **metadata,
        )

    async def log_enhancement(
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
        self._now.log_enhancement(
            task_id,
            model,
            original_prompt,
            enhanced_prompt,
            latency_ms,
            version=version,
            leg=leg,
            run_id=run_id,
            iteration=iteration,
            **metadata,
        )

    async def log_generation(
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
        self._now.log_generation(
            task_id,
            model,
            image_url,
            generation_time_ms,
            cost_usd=cost_usd,
            leg=leg,
            run_id=run_id,
            iteration=iteration,
            **metadata,
        )

    async def log_validation(
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
        self._now.log_validation(
            task_id,
            model,
            score,
            passed,
            issues,
            reasoning,
            judge=judge,
            leg=leg,
            run_id=run_id,
            iteration=iteration,
            **metadata,
        )

    async def log_winner(
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
        """The run's winner, by name or as the whole result; ``None`` when no attempt was good enough."""
        self._now.log_winner(
            task_id, winner, score, total_iterations, leg=leg, run_id=run_id, iteration=iteration, **metadata
        )

    async def log_complete(
        self, task_id: Any = None, processing_time_ms: Any = None, *, run_id: Any = None, **metadata: Any
    ) -> None:
        """The run was finished."""
        self._now.log_complete(task_id, processing_time_ms, run_id=run_id, **metadata)

    async def log_error(
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
        """Something failed: one attempt where a model is named, else the run, which ends by it."""
        self._now.log_error(
            task_id, error, model, stage, fault, leg=leg, run_id=run_id, iteration=iteration, **metadata
        )

    async def log_feedback(
        self, task_id: Any = None, kept: Any = None, comment: Any = None, *, run_id: Any = None, **metadata: Any
    ) -> None:
        """What a person thought of the result, often days later."""
        self._now.log_feedback(task_id, kept, comment, run_id=run_id, **metadata)
