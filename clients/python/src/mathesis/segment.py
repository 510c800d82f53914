"""Segments: the pieces that a spool consists of. One event a line, oldest first."""

from __future__ import annotations

import json
import os
from pathlib import Path

PREFIX = "segment-"
SUFFIX = ".ndjson"
SENT_SUFFIX = ".sent"


class Segment:
    """A file of events and how far it has been delivered.

    ``append`` leaves a whole line or nothing: a write that fails is taken back. A process that is killed
    inside the write leaves a torn last line, which ``lines`` of an adopted segment leaves out.
    """

    def __init__(self, path: Path, handle: int, size: int, sent: int) -> None:
        self.path = path
        self.size = size
        self.sent = sent
        self._handle = handle
        self._unsynced = False
        self._named = False

    @classmethod
    def create(cls, path: Path) -> Segment:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL
        return cls(path, os.open(path, flags, 0o600), 0, 0)

    @classmethod
    def open(cls, path: Path) -> Segment:
        """One that a process left behind; it is read, and never written again."""
        handle = os.open(path, os.O_RDWR)
        size = os.fstat(handle).st_size
        return cls(path, handle, size, min(_read_sent(path), size))

    @property
    def waiting(self) -> int:
        """Bytes that have not arrived."""
        return self.size - self.sent

    def append(self, data: bytes) -> None:
        try:
            done = 0
            while done < len(data):
                done += os.write(self._handle, data[done:])
        except OSError:
            os.ftruncate(self._handle, self.size)
            raise
        self.size += len(data)
        self._unsynced = True

    def sync(self) -> None:
        if self._unsynced:
            os.fsync(self._handle)
            self._unsynced = False
        if not self._named:
            # A new file's name is only durable once its folder is.
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
            self._named = True

    def read(self, bytes_max: int) -> bytes:
        """Whole lines from where delivery stands; at least one, however long it is. What follows the
        last line end of an adopted file is its torn last line, given as it is."""
        wanted = min(bytes_max, self.waiting)
        data = os.pread(self._handle, wanted, self.sent)
        end = data.rfind(b"\n")
        if end >= 0:
            return data[: end + 1]
        if wanted < self.waiting:
            return self.read(min(bytes_max * 4, self.waiting))
        return data

    def mark_sent(self, count: int) -> None:
        """Moves on. The note beside the file only spares a repetition, so it is not forced to disk."""
        self.sent += count
        if self.waiting:
            note = self.path.with_name(self.path.name + SENT_SUFFIX)
            try:
                staged = note.with_name(note.name + ".tmp")
                staged.write_text(str(self.sent))
                os.replace(staged, note)
            except OSError:
                pass

    def remove(self) -> None:
        self.close()
        for path in (self.path, self.path.with_name(self.path.name + SENT_SUFFIX)):
            try:
                path.unlink()
            except OSError:
                pass

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


class MemorySegment:
    """The same without a disk, for a machine whose spool cannot be written. It dies with the process."""

    BYTES_MAX = 32 * 1024 * 1024

    def __init__(self) -> None:
        self._data = bytearray()
        self.sent = 0

    @property
    def size(self) -> int:
        return len(self._data)

    @property
    def waiting(self) -> int:
        return len(self._data) - self.sent

    def append(self, data: bytes) -> None:
        self._data += data

    def sync(self) -> None:
        """There is nothing to force anywhere."""

    def read(self, bytes_max: int) -> bytes:
        data = bytes(self._data[self.sent : self.sent + bytes_max])
        end = data.rfind(b"\n")
        return data[: end + 1] if end >= 0 else bytes(self._data[self.sent :])

    def mark_sent(self, count: int) -> None:
        self.sent += count

    def remove(self) -> None:
        self._data.clear()
        self.sent = 0

    def close(self) -> None:
        """There is nothing to close."""


def is_whole(line: bytes) -> bool:
    """True for a line that was written to its end."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _read_sent(path: Path) -> int:
    try:
        return max(0, int(path.with_name(path.name + SENT_SUFFIX).read_text()))
    except (OSError, ValueError):
        return 0
