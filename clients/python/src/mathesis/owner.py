"""Who owns what in a spool folder that several processes share.

A process holds the lock of ``process-<token>.lock`` for as long as it lives, and all that it writes bears
its token. Whoever can take that lock knows that the process is gone, and may take over what it left. It
notes so in the file, for those who then find the lock held by the one that took over.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from pathlib import Path

PREFIX = "process-"
SUFFIX = ".lock"


class Owner:
    """A held lock: this process's own, or that of one that is gone."""

    def __init__(self, token: str, path: Path, handle: int) -> None:
        self.token = token
        self._path = path
        self._handle = handle

    @classmethod
    def begin(cls, folder: Path) -> Owner:
        """A token of our own. Tokens sort by the time at which their processes began."""
        while True:
            token = f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(3)}"
            taken = cls._lock(folder, token)
            if taken is not None:
                return taken

    @classmethod
    def take(cls, folder: Path, token: str) -> Owner | None:
        """The lock of a process that is gone; ``None`` while it lives, or somebody else takes it over."""
        taken = cls._lock(folder, token)
        if taken is not None:
            os.pwrite(taken._handle, b"gone\n", 0)
        return taken

    @classmethod
    def _lock(cls, folder: Path, token: str) -> Owner | None:
        path = folder / f"{PREFIX}{token}{SUFFIX}"
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            return None
        return cls(token, path, handle)

    def end(self) -> None:
        """Lets go, and takes the lock's file away."""
        if self._handle >= 0:
            try:
                self._path.unlink()
            except OSError:
                pass
            self.forget()

    def forget(self) -> None:
        """Closes our handle and no more: after a fork the lock is still the parent's."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def is_gone(folder: Path, token: str) -> bool:
    """Whether the process of that token is known to have ended."""
    path = folder / f"{PREFIX}{token}{SUFFIX}"
    try:
        if path.stat().st_size > 0:
            return True
    except FileNotFoundError:
        return True
    taken = Owner.take(folder, token)
    if taken is None:
        return False
    # What it left may still have to be taken over, so that the file stays.
    taken.forget()
    return True


def tokens(folder: Path) -> list[str]:
    """Every process that has a lock file, oldest first."""
    found = (path.name for path in folder.glob(f"{PREFIX}*{SUFFIX}"))
    return sorted(name[len(PREFIX) : -len(SUFFIX)] for name in found)
