"""The sender: delivers what waits in the spool, oldest first, from a thread of its own."""

from __future__ import annotations

import random
import threading
import time

from .api import Api, Refused, Rejection, Unreachable
from .dead_letters import DeadLetters
from .settings import Settings
from .spool import Batch, Spool
from .warnings import Warnings

ADOPT_SECONDS = 2.0
"""How often it looks for what processes that are gone have left."""
RETRY_AFTER_MAX = 300.0
_OF_THE_BODY = (400, 409, 410, 413, 422)


class Sender:
    """Sends until it is stopped. What the service will not take goes to the dead letters; what cannot be
    delivered now, for whatever reason, stays in the spool and is tried again."""

    def __init__(self, settings: Settings, spool: Spool, letters: DeadLetters, warnings: Warnings) -> None:
        self._settings = settings
        self._spool = spool
        self._letters = letters
        self._warnings = warnings
        self._made: Api | None = None
        self._work = threading.Event()
        self._stopped = threading.Event()
        self._limit = 1_000_000
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name="mathesis-sender", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Something waits."""
        self._work.set()

    @property
    def is_failing(self) -> bool:
        """True while the last delivery did not succeed."""
        return self._failures > 0

    def stop(self) -> None:
        """Asks it to end after the delivery under way; does not wait."""
        self._stopped.set()
        self._work.set()

    def _api(self) -> Api:
        # Made here, since loading the certificates takes longer than a log call may.
        if self._made is None:
            self._made = Api(self._settings, self._settings.send_timeout_seconds)
        return self._made

    def _run(self) -> None:
        adopted_at = float("-inf")
        while not self._stopped.is_set():
            try:
                if time.monotonic() - adopted_at >= ADOPT_SECONDS:
                    self._spool.adopt()
                    adopted_at = time.monotonic()
                batch = self._spool.next_batch()
                if batch is None:
                    self._work.wait(ADOPT_SECONDS)
                    self._work.clear()
                    continue
                pause = self._deliver(batch)
            except Exception as error:  # noqa: BLE001 - the thread must outlive any surprise
                self._warnings.once("sender", "delivering failed in an unforeseen way (%r); trying again", error)
                pause = self._failed()
            if pause:
                self._stopped.wait(pause)

    def _deliver(self, batch: Batch) -> float:
        """Sends one batch; how long to pause afterwards."""
        if len(batch.lines) > self._limit:
            batch = _first(batch, self._limit)
        if not batch.lines:
            self._spool.done(batch)
            return 0.0
        try:
            rejections = self._api().send_events(b"\n".join(batch.lines) + b"\n")
        except Unreachable as error:
            self._warnings.once("away", "events wait in %s, since the service is away: %s", self._spool.folder, error)
            return self._failed()
        except Refused as refusal:
            return self._refused(batch, refusal)
        self._bury(batch, rejections)
        self._spool.done(batch)
        self._succeeded()
        return 0.0

    def _refused(self, batch: Batch, refusal: Refused) -> float:
        if refusal.will_pass:
            self._warnings.once("away", "events wait in %s: %s", self._spool.folder, refusal)
            return max(self._failed(), min(refusal.retry_after_seconds or 0.0, RETRY_AFTER_MAX))
        about_the_body = refusal.status in _OF_THE_BODY and refusal.code not in ("none", "invalid_name")
        if not about_the_body:
            # Only an operator can mend this, and the events are not at fault.
            self._warnings.once(
                f"operator:{refusal.code}",
                "the service takes no events (%s). They wait in %s. See that MATHESIS_URL, MATHESIS_KEY and MATHESIS_WORKFLOW are right",
                refusal,
                self._spool.folder,
            )
            return self._failed()
        if len(batch.lines) > 1:
            self._limit = max(1, len(batch.lines) // 2)
            return 0.0
        self._bury(batch, [Rejection(0, refusal.code, refusal.detail)])
        self._spool.done(batch)
        self._succeeded()
        return 0.0

    def _bury(self, batch: Batch, rejections: list[Rejection]) -> None:
        for one in rejections:
            line = batch.lines[one.index] if 0 <= one.index < len(batch.lines) else b""
            self._letters.put_line(one.code, one.detail, line)

    def _succeeded(self) -> None:
        self._failures = 0
        self._limit = min(self._limit * 2, 1_000_000)
        self._warnings.over("away", "the service takes events again")

    def _failed(self) -> float:
        """The next pause: longer each time, and different for each process."""
        self._failures += 1
        least, most = self._settings.retry_seconds_min, self._settings.retry_seconds_max
        longest = min(most, least * 2.0 ** min(self._failures, 20))
        return random.uniform(longest / 2, longest)


def _first(batch: Batch, count: int) -> Batch:
    lines = batch.lines[:count]
    return Batch(batch.segment, lines, sum(len(line) + 1 for line in lines), batch.of)
