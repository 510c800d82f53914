"""How long a log call takes the pipeline: the median and the tail, with nobody there to deliver to.

    python benchmarks/log_calls.py [calls] [--json]

Beside it stands what awaiting a coroutine costs that does nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import statistics
import sys
import tempfile
import time

from mathesis import Settings, TaskLogger

PROMPT = "Κάνε τον ουρανό ηλιοβασίλεμα, χωρίς να πειράξεις το λογότυπο. " * 100


async def measure(calls: int, pause_seconds: float) -> list[float]:
    """Microseconds of each call of a run like any other."""
    with tempfile.TemporaryDirectory() as spool:
        logger = TaskLogger(Settings(url="http://127.0.0.1:9", spool=spool, exit_seconds=0))
        await logger.log_task_start("warm", PROMPT)
        taken: list[float] = []
        for n in range(calls // 4):
            task = f"task-{n}"
            for call in (
                logger.log_enhancement(task, "nano-banana", PROMPT, PROMPT, latency_ms=2300),
                logger.log_generation(task, "nano-banana", image_url="https://cdn/1.png", generation_time_ms=12500),
                logger.log_validation(task, "nano-banana", 9, True, ["dark"], reasoning=PROMPT[:500], shift=3),
                logger.log_winner(task, "nano-banana", 9, 1),
            ):
                begun = time.perf_counter_ns()
                await call
                taken.append((time.perf_counter_ns() - begun) / 1000)
            if pause_seconds:
                await asyncio.sleep(pause_seconds)
        logger.client.close()
        return taken


async def measure_nothing(calls: int) -> list[float]:
    """Microseconds of awaiting a coroutine that does nothing."""

    async def nothing() -> None:
        pass

    taken: list[float] = []
    for _ in range(calls):
        call = nothing()
        begun = time.perf_counter_ns()
        await call
        taken.append((time.perf_counter_ns() - begun) / 1000)
    return taken


def main() -> None:
    logging.getLogger("mathesis").setLevel(logging.ERROR)
    numbers = [word for word in sys.argv[1:] if word != "--json"]
    calls = int(numbers[0]) if numbers else 20_000
    empty = statistics.median(asyncio.run(measure_nothing(calls)))
    medians: list[float] = []
    for name, count, pause_seconds in (("one after the other", calls, 0.0), ("with pauses", calls // 10, 0.002)):
        taken = sorted(asyncio.run(measure(count, pause_seconds)))
        high = taken[int(len(taken) * 0.99)]
        medians.append(statistics.median(taken))
        if "--json" not in sys.argv:
            print(f"{name}: median {medians[-1]:.1f} µs, 99% below {high:.1f} µs ({len(taken)} calls)")
    if "--json" in sys.argv:
        print(json.dumps({"empty_median_us": empty, "median_us": medians[0], "paused_median_us": medians[-1]}))
    else:
        print(f"an empty coroutine: median {empty:.2f} µs")


if __name__ == "__main__":
    main()
