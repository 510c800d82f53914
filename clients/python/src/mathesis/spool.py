"""The spool: where every event waits, from a moment after it was logged until the service has it.

It is written ahead: an event is in the spool before it is sent, whether or not the service is up. So
what a killed process had spooled is still there, and the next one delivers it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .owner import Owner, tokens
from .segment import PREFIX, SUFFIX, MemorySegment, Segment, is_whole
from .warnings import Warnings

EVENTS_MAX = 10_000
"""Events that one delivery holds; the service takes no more."""
BYTES_MAX = 8 * 1024 * 1024
"""Bytes that one delivery holds, well below the 16 MiB that the service takes."""
SEGMENT_BYTES = 4 * 1024 * 1024
_MEASURE_SECONDS = 1.0
_DISK_AGAIN_SECONDS = 5.0


@dataclass
class Batch:
    """The oldest events that wait."""

    segment: Segment | MemorySegment
    lines: list[bytes]
    size: int
    """Their bytes in the segment, torn lines included."""
    of: Owner | None
    """The process that left them, if it was not this one."""


class Spool:
    """The spool folder of one workflow, as one process uses it. Shared by its writer and its sender."""

    def __init__(self, folder: Path, bytes_max: int, warnings: Warnings, full: Callable[[str], None]) -> None:
        self.folder = folder
        self._bytes_max = bytes_max
        self._warnings = warnings
        self._full = full
        self._lock = threading.RLock()
        self._segments: list[Segment | MemorySegment] = []
        self._adopted: dict[int, Owner] = {}
        self._owner: Owner | None = None
        self._number = 0
        self._dropped = 0
        self._others = 0
        self._measured = float("-inf")
        self._disk_again = 0.0

    @property
    def token(self) -> str:
        """This process's token; empty while the disk cannot be written."""
        with self._lock:
            try:
                return self._own().token
            except OSError:
                return ""

    def append(self, lines: list[bytes]) -> None:
        """Puts events at the end. Those that find no room are dropped, and that is said."""
        with self._lock:
            room = self._bytes_max - self._used()
            fitting: list[bytes] = []
            for line in lines:
                # One that does not fit keeps smaller ones behind it from overtaking: oldest are kept.
                if room < len(line):
                    break
                room -= len(line)
                fitting.append(line)
            if fitting:
                self._write(b"".join(fitting))
            self._count_dropped(len(lines) - len(fitting), bool(fitting))

    def _count_dropped(self, dropped: int, fitted: bool) -> None:
        if dropped:
            if not self._dropped:
                words = f"the spool {self.folder} is full ({self._bytes_max} bytes): what was logged first is kept, and new events are dropped until the service takes some"
                self._warnings.once("full", "%s", words)
                self._full(words)
            self._dropped += dropped
        elif self._dropped and fitted:
            words = f"the spool {self.folder} has room again; {self._dropped} events were dropped"
            self._warnings.over("full", "%s", words)
            self._full(words)
            self._dropped = 0

    def _used(self) -> int:
        now = time.monotonic()
        if now - self._measured > _MEASURE_SECONDS:
            self._measured = now
            self._others = self._measure_others()
        return self._others + sum(segment.size for segment in self._segments)

    def _measure_others(self) -> int:
        mine = {segment.path for segment in self._segments if isinstance(segment, Segment)}
        total = 0
        for path in self.folder.glob(f"{PREFIX}*{SUFFIX}"):
            try:
                total += 0 if path in mine else path.stat().st_size
            except OSError:
                pass
        return total

    def _own(self) -> Owner:
        if self._owner is None:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._owner = Owner.begin(self.folder)
        return self._owner

    def _write(self, data: bytes) -> None:
        if time.monotonic() >= self._disk_again:
            try:
                self._current().append(data)
                self._warnings.over("disk", "the spool %s can be written again", self.folder)
                return
            except OSError as error:
                self._disk_again = time.monotonic() + _DISK_AGAIN_SECONDS
                self._warnings.once(
                    "disk",
                    "the spool %s cannot be written (%s): events wait in memory, and are lost if this process ends before the service has them",
                    self.folder,
                    error,
                )
        last = self._segments[-1] if self._segments else None
        if not isinstance(last, MemorySegment):
            last = MemorySegment()
            self._segments.append(last)
        if last.size + len(data) > MemorySegment.BYTES_MAX:
            self._count_dropped(data.count(b"\n"), False)
            return
        last.append(data)

    def _current(self) -> Segment:
        last = self._segments[-1] if self._segments else None
        if isinstance(last, Segment) and id(last) not in self._adopted and last.size < SEGMENT_BYTES:
            return last
        self._number += 1
        name = f"{PREFIX}{self._own().token}-{self._number:06d}{SUFFIX}"
        segment = Segment.create(self.folder / name)
        self._segments.append(segment)
        return segment

    def next_batch(self) -> Batch | None:
        """The oldest events that wait; ``None`` when there are none. Nothing is taken away."""
        with self._lock:
            for segment in list(self._segments):
                if segment.waiting <= 0:
                    self._retire(segment)
                    continue
                data = segment.read(BYTES_MAX)
                lines = data.split(b"\n")
                if not lines[-1]:
                    lines.pop()
                lines = lines[:EVENTS_MAX]
                size = min(len(data), sum(len(line) + 1 for line in lines))
                whole = [line for line in lines if line]
                of = self._adopted.get(id(segment))
                torn = of is not None and size == len(data) and not data.endswith(b"\n")
                if torn and not is_whole(whole[-1]):
                    whole.pop()
                    self._warnings.once("torn", "the last event of a killed process was half written, and is lost")
                return Batch(segment, whole, size, of)
            return None

    def done(self, batch: Batch) -> None:
        """The service has them, or never will: they need not wait any longer."""
        with self._lock:
            if batch.segment not in self._segments:
                return  # Closed meanwhile: the next process sends it again, and it counts once.
            batch.segment.mark_sent(batch.size)
            if batch.segment.waiting <= 0:
                self._retire(batch.segment)

    def _retire(self, segment: Segment | MemorySegment) -> None:
        if segment not in self._segments:
            return  # Closed meanwhile.
        self._segments.remove(segment)
        segment.remove()
        owner = self._adopted.pop(id(segment), None)
        if owner is not None and owner not in self._adopted.values():
            owner.end()

    def adopt(self) -> int:
        """Takes over what processes that are gone have left; how many segments that was."""
        with self._lock:
            try:
                own = self._own().token
                left: dict[str, list[Path]] = {token: [] for token in tokens(self.folder)}
                for path in sorted(self.folder.glob(f"{PREFIX}*{SUFFIX}")):
                    left.setdefault(_token_of(path), []).append(path)
                found: list[Segment | MemorySegment] = []
                for token in sorted(left):
                    if token != own and token not in {owner.token for owner in self._adopted.values()}:
                        found.extend(self._adopt_from(token))
                self._segments[:0] = found
                return len(found)
            except OSError:
                return 0

    def _adopt_from(self, token: str) -> list[Segment | MemorySegment]:
        owner = Owner.take(self.folder, token)
        if owner is None:
            return []
        found: list[Segment | MemorySegment] = []
        for path in sorted(self.folder.glob(f"{PREFIX}{token}-*{SUFFIX}")):
            segment = Segment.open(path)
            found.append(segment)
            self._adopted[id(segment)] = owner
        if not found:
            owner.end()
        return found

    @property
    def waiting(self) -> int:
        """Bytes of this process that have not arrived."""
        with self._lock:
            return sum(segment.waiting for segment in self._segments)

    def sync(self) -> None:
        """Forces to the disk what waits, so that it survives the machine as well as the process."""
        with self._lock:
            segments = list(self._segments)
        for segment in segments:
            try:
                segment.sync()
            except (OSError, ValueError):
                pass

    def close(self) -> None:
        """Lets go of everything; what waits stays for the next process."""
        with self._lock:
            for segment in self._segments:
                if segment.waiting <= 0:
                    segment.remove()
                segment.close()
            self._segments.clear()
            for owner in set(self._adopted.values()):
                owner.forget()
            self._adopted.clear()
            if self._owner is not None:
                self._owner.end()
                self._owner = None

    def abandon(self) -> None:
        """In the child of a fork: closes the parent's handles and touches nothing of what is theirs."""
        for segment in self._segments:
            segment.close()
        for owner in set(self._adopted.values()):
            owner.forget()
        if self._owner is not None:
            self._owner.forget()


def _token_of(path: Path) -> str:
    return path.name[len(PREFIX) : -len(SUFFIX)].rpartition("-")[0]
