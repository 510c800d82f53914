"""``ABValidator``: synchronous questions about a test, answered from what this process knows.

They are what today's orchestrators were promised. New code asks ``prompts.for_task``, which tells the
documents as well, before anything is enhanced.
"""

from __future__ import annotations

from contextvars import ContextVar

from .client import Client, connect

_asked: ContextVar[str | None] = ContextVar("mathesis_model", default=None)


class ABValidator:
    """Tells whether a model is being tested, and with which version. Never raises and never asks the
    service itself: what it knows is kept fresh behind it, from the first question on."""

    def __init__(self, target: object = None, *_: object, **__: object) -> None:
        self._client = connect(target)

    @property
    def client(self) -> Client:
        return self._client

    def is_testing(self, model: str) -> bool:
        """True while a test of the model runs that the current run is, or may still become, part of."""
        try:
            _asked.set(model)
            return self._client.book.is_testing(model, self._client.runs.here())
        except Exception as error:  # noqa: BLE001 - nothing is raised into the pipeline
            self._client.warnings.once("validator", "is_testing failed in an unforeseen way (%r)", error)
            return False

    def get_test_version(self, model: str | None = None, task_id: str | None = None) -> int | None:
        """The version that the current run is to use: of the model that was last asked about, and of the
        run that ``log_task_start`` opened, both in this context. ``None`` while nothing is known.

        Waits ``test_wait_seconds`` at the most, and only where the question is still under way.
        """
        try:
            runs = self._client.runs
            model = model or _asked.get()
            run = runs.find(task_id) if task_id is not None else runs.here()
            if model is None:
                return None
            if run is None:
                standing = self._client.book.standing(model)
                return standing.active_version if standing else None
            return self._client.book.test_version(run, model)
        except Exception as error:  # noqa: BLE001
            self._client.warnings.once("validator", "get_test_version failed in an unforeseen way (%r)", error)
            return None

    def get_test_versions(self, model: str | None = None, task_id: str | None = None) -> list[int]:
        """As ``get_test_version``, with both versions of a task that is to be done under two. Each attempt is
        then logged with its version as ``leg``. Empty while nothing is known."""
        try:
            runs = self._client.runs
            model = model or _asked.get()
            run = runs.find(task_id) if task_id is not None else runs.here()
            if model is not None and run is not None:
                return self._client.book.test_versions(run, model)
            version = self.get_test_version(model, task_id)
            return [] if version is None else [version]
        except Exception as error:  # noqa: BLE001
            self._client.warnings.once("validator", "get_test_versions failed in an unforeseen way (%r)", error)
            return []
