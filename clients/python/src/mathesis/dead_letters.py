"""Events that nobody will ever take, kept with the reason for a person to look at."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .warnings import Warnings

FILE_NAME = "dead_letters.ndjson"
OLDER_NAME = "dead_letters.1.ndjson"
BYTES_MAX = 32 * 1024 * 1024
_DEPTH_MAX = 6
_TEXT_MAX = 20_000
_ITEMS_MAX = 200


@dataclass(frozen=True)
class DeadLetter:
    """One line of the file."""

    code: str
    detail: str


class DeadLetters:
    """The file. Writing it never raises: what cannot even be put there is said in the log."""

    def __init__(self, folder: Path, warnings: Warnings) -> None:
        self.path = folder / FILE_NAME
        self._older = folder / OLDER_NAME
        self._warnings = warnings
        self._lock = threading.Lock()

    def put(self, code: str, detail: str, event: object, warn: bool = True) -> None:
        """Keeps one event, and warns of its code once."""
        letter = {
            "at": datetime.now(timezone.utc).isoformat(),
            "code": code,
            "detail": printable(detail),
            "event": printable(event),
        }
        if warn:
            self._warnings.once(
                f"dead:{code}",
                "an event was refused (%s): %s. It and all that follow for this reason are kept in %s",
                code,
                letter["detail"],
                self.path,
            )
        try:
            line = json.dumps(letter, allow_nan=False).encode("ascii") + b"\n"
            with self._lock:
                self._append(line)
        except Exception as error:  # noqa: BLE001 - nothing may reach the pipeline from here
            self._warnings.once(
                "dead:unwritable", "%s cannot be written (%r); refused events are lost", self.path, error
            )

    def put_line(self, code: str, detail: str, line: bytes) -> None:
        """Keeps one event as it was sent."""
        try:
            event: object = json.loads(line)
        except ValueError:
            event = line.decode("utf-8", "backslashreplace")
        self.put(code, detail, event)

    def _append(self, line: bytes) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, line)
            if os.fstat(handle).st_size > BYTES_MAX:
                os.replace(self.path, self._older)
        finally:
            os.close(handle)


def read(folder: Path) -> Iterator[DeadLetter]:
    """The letters in a workflow's folder, oldest first; a torn line counts as unreadable."""
    for name in (OLDER_NAME, FILE_NAME):
        path = folder / name
        if not path.exists():
            continue
        with path.open("rb") as lines:
            for line in lines:
                try:
                    letter = json.loads(line)
                    yield DeadLetter(str(letter["code"]), str(letter["detail"]))
                except (ValueError, KeyError, TypeError):
                    yield DeadLetter("unreadable", "a line that cannot be read")


def printable(value: object, depth: int = 0) -> Any:
    """Something near the value that JSON can hold, whatever the value is."""
    try:
        if value is None or isinstance(value, (bool, int)):
            return value if abs(value or 0) < 2**63 else repr(value)
        if isinstance(value, float):
            return value if value == value and abs(value) != float("inf") else repr(value)
        if isinstance(value, str):
            return value[:_TEXT_MAX].encode("utf-8", "backslashreplace").decode("utf-8")
        if depth < _DEPTH_MAX and isinstance(value, dict):
            pairs = list(value.items())[:_ITEMS_MAX]
            return {str(printable(str(name))): printable(one, depth + 1) for name, one in pairs}
        if depth < _DEPTH_MAX and isinstance(value, (list, tuple)):
            return [printable(one, depth + 1) for one in value[:_ITEMS_MAX]]
        return printable(repr(value)[:_TEXT_MAX], _DEPTH_MAX)
    except Exception:  # noqa: BLE001 - a broken __repr__ is still an event to be kept
        return f"<{type(value).__name__} that cannot be shown>"
