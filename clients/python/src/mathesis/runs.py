"""Runs: which run of its task a call belongs to, and how far its models are."""

from __future__ import annotations

import secrets
import threading
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import Any

KNOWN_MAX = 20_000


class Run:
    """One run of a task, as this process knows it.

    ``run_id`` is ``None`` until the background has looked up what earlier processes knew of the task; the
    empty text is the only run of a task that is run once.
    """

    __slots__ = (
        "asking", "counts", "is_new", "lock", "noted", "pins", "run_id", "settled", "task_id", "unnamed", "versions",
    )

    def __init__(self, task_id: str, run_id: str | None, is_new: bool = False) -> None:
        self.task_id = task_id
        self.run_id = run_id
        self.is_new = is_new
        """Opened by ``log_task_start`` without a run id."""
        self.counts: dict[Any, int] = {}
        """The iteration that each model is in, and each leg of a model: under its name, or under name and leg."""
        self.versions: dict[str, int] = {}
        """The versions that the pipeline asked for, by model."""
        self.unnamed: dict[str, dict[str, Any]] = {}
        """Enhancements that were logged before the pipeline asked for a version, by model."""
        self.pins: dict[str, Any] = {}
        """What the run was told, by model."""
        self.asking: dict[str, Any] = {}
        """Questions to the service that are under way, by model."""
        self.noted: set[str] = set()
        """What the spool folder remembers of it already."""
        self.settled = False
        """Whether the run's place on disk has been noted."""
        self.lock = threading.Lock()


current: ContextVar[Run | None] = ContextVar("mathesis_run", default=None)


def new_run_id() -> str:
    """A run id of our own: sortable by time, unique among processes."""
    return f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


class Runs:
    """The runs that this process has heard of; the oldest are forgotten."""

    def __init__(self) -> None:
        self._by_id: dict[tuple[str, str | None], Run] = {}
        self._latest: dict[str, Run] = {}
        self._lock = threading.Lock()

    def open(self, task_id: str, run_id: str | None) -> Run:
        """Begins a run, and makes it the one that this context works on."""
        run = self._named(task_id, run_id) if run_id is not None else Run(task_id, None, is_new=True)
        self._remember(run)
        current.set(run)
        return run

    def find(self, task_id: str, run_id: str | None = None) -> Run:
        """The run that a call means: the one it names, else this context's, else the task's latest."""
        if run_id is not None:
            return self._named(task_id, run_id)
        here = current.get()
        if here is not None and here.task_id == task_id:
            return here
        latest = self._latest.get(task_id)
        if latest is None:
            latest = Run(task_id, None)
            self._remember(latest)
        return latest

    def here(self) -> Run | None:
        """The run that this context works on."""
        return current.get()

    def after_fork(self) -> None:
        """In the child: a lock that another thread held in the parent would be held for ever."""
        self._lock = threading.Lock()
        for run in (*self._by_id.values(), *self._latest.values()):
            run.lock = threading.Lock()
            run.asking.clear()

    def _named(self, task_id: str, run_id: str) -> Run:
        here = current.get()
        if here is not None and here.task_id == task_id and here.run_id == run_id:
            return here
        known = self._by_id.get((task_id, run_id))
        if known is None:
            known = self._latest.get(task_id)
            if known is None or known.run_id != run_id:
                known = Run(task_id, run_id)
            self._remember(known, latest=False)
        return known

    def _remember(self, run: Run, latest: bool = True) -> None:
        with self._lock:
            if run.run_id is not None:
                self._by_id[(run.task_id, run.run_id)] = run
                _forget_oldest(self._by_id)
            if latest or run.task_id not in self._latest:
                self._latest.pop(run.task_id, None)
                self._latest[run.task_id] = run
                _forget_oldest(self._latest)


def _forget_oldest(known: dict[Any, Run]) -> None:
    while len(known) > KNOWN_MAX:
        del known[next(iter(known))]
