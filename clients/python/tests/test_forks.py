"""A process that forks while another of its threads is at the memory of the spool folder."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from mathesis.state import State
from mathesis.warnings import Warnings

FORKS = 30
HANGS_AFTER_SECONDS = 20


def test_a_child_of_a_fork_can_open_what_another_thread_was_opening(tmp_path: Path) -> None:
    ended = threading.Event()

    def open_again_and_again() -> None:
        while not ended.is_set():
            State(tmp_path / "parent", Warnings()).close()

    opener = threading.Thread(target=open_again_and_again)
    opener.start()
    try:
        for _ in range(FORKS):
            child = os.fork()
            if child == 0:
                # Without it, a child that waits for a mutex that nobody holds any more would wait for good.
                signal.alarm(HANGS_AFTER_SECONDS)
                State(tmp_path / "child", Warnings()).close()
                os._exit(0)
            _, status = os.waitpid(child, 0)
            assert status == 0, "the child was ended by its alarm"
    finally:
        ended.set()
        opener.join()
