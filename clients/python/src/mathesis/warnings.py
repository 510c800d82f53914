"""Warnings that are given once, so that a fault in a busy pipeline does not flood its log."""

from __future__ import annotations

import logging
import threading

log = logging.getLogger("mathesis")


class Warnings:
    """Says each kind of thing once, until it is over."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._lock = threading.Lock()

    def once(self, kind: str, message: str, *arguments: object) -> None:
        """Warns, unless this kind stands already. Never raises."""
        with self._lock:
            if kind in self._said:
                return
            self._said.add(kind)
        try:
            log.warning(message, *arguments)
        except Exception:  # noqa: BLE001 - a broken log handler must not stop the pipeline
            pass

    def over(self, kind: str, message: str, *arguments: object) -> None:
        """Tells that it is over, if it had been warned of; the next time is warned of again."""
        with self._lock:
            if kind not in self._said:
                return
            self._said.discard(kind)
        try:
            log.warning(message, *arguments)
        except Exception:  # noqa: BLE001
            pass
