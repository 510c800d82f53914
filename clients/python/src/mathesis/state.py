"""What the spool folder remembers beside events: runs, what each was told, models, texts.

One SQLite file that processes share. It is a memory and not the truth: where it cannot be used, the
process remembers for itself, and says so.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .api import Standing, Texts
from .owner import is_gone
from .runs import Run, new_run_id
from .warnings import Warnings

FILE_NAME = "state.sqlite3"
KEPT_SECONDS = 90 * 24 * 3600
"""How long a run is remembered, as long as the service keeps tasks by default."""
OPEN_TRIES_MAX = 40
"""How often the file is tried while other processes begin it."""
RESUMED_SECONDS = 24 * 3600
"""How old a run may be that a new process takes up again."""

FORK_WAIT_SECONDS = 5.0
"""How long a fork waits for a statement under way; the longest that SQLite itself waits is shorter."""

_in_use = threading.RLock()
"""Held for every use of SQLite. Its own mutexes do not survive a fork: a child that is forked while another
thread is inside would wait for them for good."""
_held_for_fork = False
_of_parents: list[sqlite3.Connection] = []
"""Connections from before a fork, kept so that they are never closed: they are the parent's."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    task TEXT NOT NULL, run TEXT NOT NULL, owner TEXT NOT NULL, begun_at REAL NOT NULL,
    started INTEGER NOT NULL DEFAULT 0, attempted INTEGER NOT NULL DEFAULT 0, ended INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (task, run)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pins (
    task TEXT NOT NULL, run TEXT NOT NULL, model TEXT NOT NULL, version INTEGER, arm TEXT, cycle INTEGER,
    content_hash TEXT NOT NULL, source TEXT NOT NULL, told_at REAL NOT NULL,
    PRIMARY KEY (task, run, model)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pairs (
    task TEXT NOT NULL, run TEXT NOT NULL, model TEXT NOT NULL, version INTEGER NOT NULL, pair INTEGER NOT NULL,
    pair_hash TEXT NOT NULL, told_at REAL NOT NULL,
    PRIMARY KEY (task, run, model, version)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS models (
    model TEXT PRIMARY KEY, version INTEGER NOT NULL, content_hash TEXT NOT NULL, testing INTEGER NOT NULL,
    cycle INTEGER, etag TEXT, asked_at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS texts (
    content_hash TEXT PRIMARY KEY, template TEXT NOT NULL, activation TEXT NOT NULL, research TEXT NOT NULL,
    used_at REAL NOT NULL);
"""


@dataclass(frozen=True)
class Pin:
    """What a run was told about a model; it stays so for good."""

    version: int | None
    arm: str | None
    cycle: int | None
    content_hash: str
    source: str
    pair: int | None = None
    """The second version of a paired task."""
    pair_hash: str | None = None
    """Names the second version's texts."""


class State:
    """The memory of one workflow's spool folder. Shared by threads."""

    def __init__(self, folder: Path, warnings: Warnings) -> None:
        self._folder = folder
        self._warnings = warnings
        with _in_use:
            self._database = self._open()

    def _open(self) -> sqlite3.Connection:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            database = _connect(str(self._folder / FILE_NAME))
            oldest = time.time() - KEPT_SECONDS
            database.execute("DELETE FROM runs WHERE begun_at < ?", (oldest,))
            database.execute("DELETE FROM pins WHERE told_at < ?", (oldest,))
            database.execute("DELETE FROM pairs WHERE told_at < ?", (oldest,))
            database.execute("DELETE FROM texts WHERE used_at < ?", (oldest,))
            return database
        except (OSError, sqlite3.Error) as error:
            self._fell_back(error)
            return _connect(":memory:")

    def _fell_back(self, error: Exception) -> None:
        self._warnings.once(
            "state",
            "%s cannot be used (%s): what runs are told is remembered by this process only. Mend it, or move the file away, and start again",
            self._folder / FILE_NAME,
            error,
        )

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        """The database; after a failure, and for the rest of this process, one in memory."""
        with _in_use:
            try:
                yield self._database
            except sqlite3.Error as error:
                if "locked" in str(error):
                    # Another process was at it for longer than we wait; the next call may go through.
                    self._warnings.once("busy", "%s is busy; a note was left out", self._folder / FILE_NAME)
                    return
                self._fell_back(error)
                self._database = _connect(":memory:")

    def settle(self, run: Run, owner: str) -> str:
        """Finds out which run it is, once. A run that was opened without an id takes up again one that a
        process that is gone began and had not used yet; else it is a new one."""
        with run.lock:
            if run.run_id is None:
                run.run_id = self._begin(run.task_id, owner) if run.is_new else self.last_run(run.task_id)
            if not run.settled:
                run.settled = True
                if run.run_id:
                    self.note(run, owner)
            return run.run_id

    def _begin(self, task: str, owner: str) -> str:
        with self._using() as database:
            rows = database.execute(
                "SELECT run, owner FROM runs WHERE task = ? AND NOT attempted AND NOT ended AND begun_at > ? ORDER BY begun_at",
                (task, time.time() - RESUMED_SECONDS),
            ).fetchall()
            for run, of in rows:
                if of and of != owner and is_gone(self._folder, of):
                    changed = database.execute(
                        "UPDATE runs SET owner = ? WHERE task = ? AND run = ? AND owner = ?", (owner, task, run, of)
                    )
                    if changed.rowcount == 1:
                        return str(run)
        return new_run_id()

    def last_run(self, task: str) -> str:
        """The run of that task that began last; empty where none is known."""
        with self._using() as database:
            row = database.execute(
                "SELECT run FROM runs WHERE task = ? ORDER BY begun_at DESC LIMIT 1", (task,)
            ).fetchone()
            return str(row[0]) if row else ""
        return ""

    def note(self, run: Run, owner: str) -> None:
        with self._using() as database:
            database.execute(
                "INSERT INTO runs (task, run, owner, begun_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (run.task_id, run.run_id, owner, time.time()),
            )

    def mark(self, run: Run, what: str) -> None:
        """Notes that the run has started, attempted something, or ended."""
        if what not in ("started", "attempted", "ended"):
            raise ValueError(what)
        if what in run.noted:
            return
        run.noted.add(what)
        with self._using() as database:
            database.execute(
                f"UPDATE runs SET {what} = 1 WHERE task = ? AND run = ? AND NOT {what}", (run.task_id, run.run_id)
            )

    def has_started(self, run: Run) -> bool:
        """Whether the run's beginning is in the spool already."""
        with self._using() as database:
            row = database.execute(
                "SELECT started FROM runs WHERE task = ? AND run = ?", (run.task_id, run.run_id)
            ).fetchone()
            return bool(row and row[0])
        return False

    def pin(self, task: str, run: str, model: str) -> Pin | None:
        with self._using() as database:
            row = database.execute(
                "SELECT version, arm, cycle, content_hash, source, pair, pair_hash"
                " FROM pins LEFT JOIN pairs USING (task, run, model, version) WHERE task = ? AND run = ? AND model = ?",
                (task, run, model),
            ).fetchone()
            return Pin(*row) if row else None
        return None

    def keep_pin(self, task: str, run: str, model: str, pin: Pin) -> Pin:
        """Keeps what a run was told; what it was told first stays."""
        with self._using() as database:
            # The pair first: a pin that is there has its pair with it.
            if pin.pair is not None:
                database.execute(
                    "INSERT INTO pairs VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    (task, run, model, pin.version, pin.pair, pin.pair_hash, time.time()),
                )
            database.execute(
                "INSERT INTO pins VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (task, run, model, pin.version, pin.arm, pin.cycle, pin.content_hash, pin.source, time.time()),
            )
        return self.pin(task, run, model) or pin

    def models(self) -> dict[str, tuple[Standing, float]]:
        """How each model stood, and when that was asked."""
        with self._using() as database:
            rows = database.execute(
                "SELECT model, version, content_hash, testing, cycle, etag, asked_at FROM models"
            ).fetchall()
            return {
                model: (Standing(version, content_hash, bool(testing), cycle, etag), asked_at)
                for model, version, content_hash, testing, cycle, etag, asked_at in rows
            }
        return {}

    def keep_model(self, model: str, standing: Standing) -> None:
        with self._using() as database:
            database.execute(
                "INSERT OR REPLACE INTO models VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    model, standing.active_version, standing.content_hash, int(standing.testing), standing.cycle,
                    standing.etag, time.time(),
                ),
            )

    def texts(self, content_hash: str) -> Texts | None:
        with self._using() as database:
            row = database.execute(
                "SELECT content_hash, template, activation, research FROM texts WHERE content_hash = ?", (content_hash,)
            ).fetchone()
            return Texts(*row) if row else None
        return None

    def keep_texts(self, texts: Texts) -> None:
        with self._using() as database:
            database.execute(
                "INSERT OR REPLACE INTO texts VALUES (?, ?, ?, ?, ?)",
                (texts.content_hash, texts.template, texts.activation, texts.research, time.time()),
            )

    def close(self) -> None:
        with _in_use:
            self._database.close()

    def abandon(self) -> None:
        """In the child of a fork: leaves the connection to the parent."""
        _of_parents.append(self._database)


def _connect(path: str) -> sqlite3.Connection:
    """Opens the file. Processes that begin it at the same moment are in each other's way for a moment, which
    SQLite does not wait out by itself."""
    for _ in range(OPEN_TRIES_MAX - 1):
        try:
            return _connect_once(path)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            time.sleep(0.05)
    return _connect_once(path)


def _connect_once(path: str) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=2.0, isolation_level=None, check_same_thread=False)
    # A commit survives the process at once, and the machine at the next checkpoint.
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.executescript(_SCHEMA)
    return database


def _before_fork() -> None:
    global _held_for_fork
    _held_for_fork = _in_use.acquire(timeout=FORK_WAIT_SECONDS)


def _after_fork() -> None:
    global _held_for_fork
    if _held_for_fork:
        _held_for_fork = False
        _in_use.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
