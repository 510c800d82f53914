"""The client of one service: what every logger, validator and question of a process shares."""

from __future__ import annotations

import atexit
import json
import os
import threading
import time
import weakref
from collections import deque
from datetime import datetime, timezone
from typing import Any
from uuid import uuid4

from . import results
from .book import PromptBook
from .dead_letters import DeadLetters
from .runs import Run, Runs
from .sender import Sender
from .settings import Settings
from .spool import Spool
from .state import State
from .warnings import Warnings

EVENT_BYTES_MAX = 15 * 1024 * 1024
"""The largest event, below what the service takes."""
QUEUE_EVENTS_MAX = 200_000
"""Events that wait in memory for the writer; it falls behind only if the disk stands still."""
_MARKS = {
    "task_started": "started",
    "enhancement": "attempted",
    "generation": "attempted",
    "validation": "attempted",
    "winner": "ended",
    "completed": "ended",
}


class Client:
    """Takes events and delivers them behind the pipeline's back. Threads and files begin with the first use."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.spool / folder_name(settings.workflow)
        self.runs = Runs()
        self._prepare()
        _clients.add(self)

    def _prepare(self) -> None:
        self._starting = threading.Lock()
        self._started = False
        self._closed = False
        self._queue: deque[tuple[Run, dict[str, Any]]] = deque()
        self._wake = threading.Event()
        self._pause = threading.Event()
        self._write_lock = threading.Lock()
        self._state_lock = threading.Lock()
        self._writing = False
        self.warnings = Warnings()
        self.letters = DeadLetters(self.folder, self.warnings)
        self.spool = Spool(self.folder, self.settings.spool_bytes_max, self.warnings, self._spool_is_full)
        self._state: State | None = None
        self.book = PromptBook(self.settings, self.state, self._token, self.warnings)
        self._sender: Sender | None = None

    def state(self) -> State:
        """What the spool folder remembers; opened by whoever needs it first."""
        with self._state_lock:
            if self._state is None:
                self._state = State(self.folder, self.warnings)
            return self._state

    def _spool_is_full(self, words: str) -> None:
        # What was dropped is gone, but that something was has to be seen by the doctor.
        self.letters.put("spool_full", words, None, warn=False)

    def _token(self) -> str:
        return self.spool.token

    def log(self, run: Run, event: dict[str, Any], metadata: dict[str, Any], **always: Any) -> None:
        """Takes an event. Makes a copy of its fields, and of lists and metadata one level deep, so that the
        pipeline may go on changing them."""
        full = {name: value for name, value in event.items() if value is not None}
        full.update(always)
        full["task_id"] = run.task_id
        full["at"] = datetime.now(timezone.utc).isoformat()
        full["event_id"] = str(uuid4())
        if metadata:
            nested = metadata.pop("metadata", None)
            if isinstance(nested, dict):
                metadata = {**nested, **metadata}
            elif nested is not None:
                metadata["metadata"] = nested
            full["metadata"] = metadata
        if len(self._queue) >= QUEUE_EVENTS_MAX:
            self.warnings.once("queue", "the disk of the spool stands still; new events are dropped")
            return
        self._queue.append((run, full))
        if not self._wake.is_set():
            self._wake.set()
        if not self._started:
            self.start()

    def spoilt(self, kind: str, task_id: object, error: Exception) -> None:
        """Takes note of a call that could not even be made an event. Never raises."""
        try:
            self.letters.put("unusable_call", f"{type(error).__name__}: {error}", {"type": kind, "task_id": task_id})
        except Exception:  # noqa: BLE001
            pass

    def start(self) -> None:
        """Starts the threads, once. A process that cannot start any keeps its events in memory."""
        with self._starting:
            if self._started or self._closed:
                return
            self._started = True
            try:
                self._sender = Sender(self.settings, self.spool, self.letters, self.warnings)
                threading.Thread(target=self._write_on, name="mathesis-writer", daemon=True).start()
                self._sender.start()
            except Exception as error:  # noqa: BLE001
                self.warnings.once("threads", "no thread could be started (%r); events stay in memory", error)

    def _write_on(self) -> None:
        synced_at = time.monotonic()
        while not self._closed:
            self._wake.wait(self.settings.fsync_seconds)
            if self._wake.is_set():
                self._wake.clear()
                # A moment's gathering makes one write of many events, and keeps this thread off the pipeline's back.
                self._pause.wait(self.settings.write_delay_seconds)
                self.write()
            if time.monotonic() - synced_at >= self.settings.fsync_seconds:
                self.spool.sync()
                synced_at = time.monotonic()

    def write(self) -> None:
        """Moves what waits in memory to the spool."""
        with self._write_lock:
            self._writing = True
            try:
                self._write_all()
            except Exception as error:  # noqa: BLE001 - the thread must outlive any surprise
                self.warnings.once("writer", "writing the spool failed in an unforeseen way (%r)", error)
            finally:
                self._writing = False

    def _write_all(self) -> None:
        lines: list[bytes] = []
        marks: list[tuple[Run, str]] = []
        while self._queue:
            run, event = self._queue.popleft()
            line = self._line(run, event)
            if line is not None:
                lines.append(line)
                marks.append((run, _mark(event)))
        if lines:
            self.spool.append(lines)
            if self._sender is not None:
                self._sender.wake()
        for run, what in marks:
            if what and run.run_id:
                self.state().mark(run, what)

    def _line(self, run: Run, event: dict[str, Any]) -> bytes | None:
        """The event as it is sent; ``None`` for one that cannot be, or that need not be sent again."""
        try:
            if isinstance(run.task_id, str):
                run_id = self.state().settle(run, self._token())
                if run_id:
                    event["run_id"] = run_id
                    if event["type"] == "task_started" and self.state().has_started(run):
                        # An earlier process told it, and that it began later now would be a contradiction.
                        return None
            line = json.dumps(
                event, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=results.for_json
            ).encode("utf-8")
        except UnicodeError as error:
            self.letters.put("not_utf8", f"a text cannot be written as UTF-8: {error.reason if isinstance(error, UnicodeEncodeError) else error}", event)
        except RecursionError:
            self.letters.put("too_deep", "it is nested too deep to be written as JSON", event)
        except Exception as error:  # noqa: BLE001 - whatever a foreign object does while it is written
            self.letters.put("not_json", f"it cannot be written as JSON: {error}", event)
        else:
            if len(line) <= EVENT_BYTES_MAX:
                return line + b"\n"
            self.letters.put("event_too_large", f"it has {len(line)} bytes, and {EVENT_BYTES_MAX} are the most", event)
        return None

    def is_delivered(self) -> bool:
        """True when the service has everything that this process logged or took over."""
        return not self._queue and not self._writing and self.spool.waiting == 0

    def flush(self, timeout_seconds: float) -> bool:
        """Waits until the service has everything; true if it has."""
        end = time.monotonic() + timeout_seconds
        while not self.is_delivered():
            if time.monotonic() >= end:
                return False
            self._pause.wait(0.01)
        return True

    def close(self) -> None:
        """Writes what waits in memory, gives the last delivery a moment, and lets go of the spool."""
        if self._closed:
            return
        if self._started:
            self.write()
            end = time.monotonic() + self.settings.exit_seconds
            while not self.is_delivered() and time.monotonic() < end:
                if self._sender is None or self._sender.is_failing:
                    break
                self._pause.wait(0.01)
        self._closed = True
        self.book.close()
        if self._sender is not None:
            self._sender.stop()
        self._wake.set()
        if self._queue:
            self.write()
        self.spool.close()

    def after_fork(self) -> None:
        """In the child: threads, locks and handles are the parent's, and so is what waits."""
        if self._state is not None:
            self._state.abandon()
        self.spool.abandon()
        self.runs.after_fork()
        self._prepare()


def _mark(event: dict[str, Any]) -> str:
    if event["type"] == "error" and "model" not in event:
        return "ended"
    return _MARKS.get(event["type"], "attempted" if event["type"] == "error" else "")


def folder_name(workflow: str) -> str:
    """The folder of a workflow in the spool: its name, which the service keeps to such letters anyway."""
    safe = "".join(one if one.isascii() and (one.isalnum() or one in "-_.") else "_" for one in workflow)
    return safe.lstrip(".") or "_"


_clients: weakref.WeakSet[Client] = weakref.WeakSet()
_shared: dict[Settings, Client] = {}
_shared_lock = threading.Lock()


def connect(target: object = None) -> Client:
    """The client for what a pipeline passes: a ``Client`` as it is, ``Settings``, or an address; anything
    else, such as a database of earlier days, means the service that the environment names. Loggers and
    validators with the same settings share one client."""
    if isinstance(target, Client):
        return target
    if isinstance(target, Settings):
        settings = target
    elif isinstance(target, str) and target.startswith(("http://", "https://")):
        settings = Settings.from_env(url=target)
    else:
        settings = Settings.from_env()
    with _shared_lock:
        client = _shared.get(settings)
        if client is None or client._closed:
            client = _shared[settings] = Client(settings)
        return client


def _close_all() -> None:
    for client in list(_clients):
        try:
            client.close()
        except Exception:  # noqa: BLE001 - the process is ending
            pass


def _after_fork() -> None:
    global _shared_lock
    _shared_lock = threading.Lock()
    for client in list(_clients):
        client.after_fork()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_after_fork)
