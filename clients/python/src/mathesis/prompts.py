"""Which prompt documents a task gets: asked before enhancing, so that nobody enhances twice.

``await prompts.for_task(task_id, model)`` asks the service that the environment names; ``Prompts`` one
that is given.
"""

from __future__ import annotations

import asyncio

from .client import Client, connect
from .prompt import NoPromptError, Prompt

__all__ = ["BlockingPrompts", "NoPromptError", "Prompt", "Prompts", "for_task"]


class Prompts:
    """The question for asyncio code. The first argument is as that of ``TaskLogger``."""

    def __init__(self, target: object = None) -> None:
        self._client = connect(target)

    @property
    def client(self) -> Client:
        return self._client

    async def for_task(self, task_id: str, model: str, run_id: str | None = None) -> Prompt:
        """Which documents the task is to be enhanced with: the same answer for the whole run, and for a
        pipeline that was restarted. The enhancement that is logged for it names its version by itself.

        Answers within ``ask_timeout_seconds`` whatever the service does. Raises ``NoPromptError`` only
        when there are no documents anywhere.
        """
        run = self._client.runs.find(task_id, run_id)
        known: Prompt | None = run.pins.get(model)
        if known is not None:
            return self._client.book.for_task(run, model)
        loop = asyncio.get_running_loop()
        book = self._client.book
        return await loop.run_in_executor(book.readers(), book.for_task, run, model)


class BlockingPrompts:
    """The same without ``await``."""

    def __init__(self, target: object = None) -> None:
        self._client = connect(target)

    @property
    def client(self) -> Client:
        return self._client

    def for_task(self, task_id: str, model: str, run_id: str | None = None) -> Prompt:
        """As ``Prompts.for_task``."""
        return self._client.book.for_task(self._client.runs.find(task_id, run_id), model)


async def for_task(task_id: str, model: str, run_id: str | None = None) -> Prompt:
    """Which documents a task gets, from the service that the environment names."""
    return await Prompts().for_task(task_id, model, run_id)
