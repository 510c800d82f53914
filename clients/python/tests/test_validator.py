"""The two synchronous questions about a test, in the flow that orchestrators were promised."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from mathesis import ABValidator, Client, TaskLogger, blocking

from server import NANO, WAN, Server, until

Connected = Callable[..., Client]


def knowing(server: Server, connected: Connected) -> Client:
    """A client whose pipeline has asked about the model before, as after its first task."""
    client = connected(server, fresh_seconds=0.2)
    until("the test is heard of", lambda: ABValidator(client).is_testing(NANO))
    return client


async def process(client: Client, task: str, enhances_again: bool) -> tuple[bool, int | None]:
    """A task as the plan has it; what the validator said."""
    logger, validator = TaskLogger(client), ABValidator(client)
    await logger.log_task_start(task, "το πρωτότυπο")
    # Claude takes seconds here; meanwhile the run is dealt its version.
    run = client.runs.here()
    assert run is not None
    while NANO not in run.pins and client.book._about_tests and NANO in run.asking:
        await asyncio.sleep(0.005)
    await logger.log_enhancement(task, NANO, "το πρωτότυπο", "enhanced")
    testing, version = validator.is_testing(NANO), None
    if testing:
        version = validator.get_test_version()
        if enhances_again:
            await logger.log_enhancement(task, NANO, "το πρωτότυπο", f"enhanced with {version}")
    await logger.log_generation(task, NANO, {"url": "https://cdn/1.png"})
    await logger.log_validation(task, NANO, {"score": 9, "passed": True, "issues": [], "reasoning": ""})
    await logger.log_winner(task, NANO, 9)
    return testing, version


def test_the_planned_flow_takes_part_in_a_test_and_its_scores_count(server: Server, connected: Connected) -> None:
    server.open_test()
    client = knowing(server, connected)

    async def eight() -> list[tuple[bool, int | None]]:
        # Side by side, each in a context of its own.
        return list(await asyncio.gather(*(process(client, f"86-{n}", n % 2 == 0) for n in range(8))))

    said = asyncio.run(eight())
    assert all(testing for testing, _ in said)
    assert sorted(version or 0 for _, version in said) == [1] * 4 + [2] * 4
    assert client.flush(30)
    for n, (_, version) in enumerate(said):
        [attempt] = server.the_task(f"86-{n}")["attempts"]
        assert (attempt["prompt_version"], attempt["iteration"]) == (version, 1)
        assert attempt["enhanced_prompt"] == (f"enhanced with {version}" if n % 2 == 0 else "enhanced")

    def scored() -> bool:
        [model] = [one for one in server.call("GET", "/cycle").json()["models"] if one["model"] == NANO]
        return bool(model["scored"] == {"control": 4, "candidate": 4})

    until("the scores count", scored)
    assert not list(client.folder.glob("dead_letters*"))


def test_without_a_test_nothing_is_asked_for_and_nothing_named(server: Server, connected: Connected) -> None:
    client = connected(server)
    assert not ABValidator(client).is_testing(NANO)
    until("how it stands is known", lambda: client.book.standing(NANO))
    assert asyncio.run(process(client, "86x", False)) == (False, None)
    assert ABValidator(client).get_test_version(NANO) == 1, "outside of a run, what serves"
    logger = blocking.TaskLogger(client)
    logger.log_task_start("86y", "p")
    for n in range(2):
        logger.log_enhancement("86y", NANO, "p", f"e{n}")
    assert client.flush(30)
    [attempt] = server.the_task("86x")["attempts"]
    assert attempt["prompt_version"] is None
    assert [one["iteration"] for one in server.the_task("86y")["attempts"]] == [1, 2]
    assert not list(client.folder.glob("dead_letters*")), "nothing was logged twice"


def test_a_pipeline_that_never_asks_about_tests_takes_no_slot(server: Server, connected: Connected) -> None:
    server.open_test()
    client = connected(server)
    logger = blocking.TaskLogger(client)
    logger.log_task_start("86x", "p")
    logger.log_enhancement("86x", WAN, "p", "e")
    assert client.flush(30)
    assert server.query("SELECT count(*) FROM deck_slots WHERE state <> 'open'") == [(0,)]


def test_the_answers_come_from_memory_while_the_service_is_dead(server: Server, connected: Connected) -> None:
    server.open_test()
    client = knowing(server, connected)
    first = asyncio.run(process(client, "86-0", False))
    server.kill()
    validator = ABValidator(client)
    client.runs.open("86-0", None)

    async def again() -> tuple[bool, int | None, float]:
        client.runs.open("86-new", None)
        begun = time.monotonic()
        return validator.is_testing(NANO), validator.get_test_version(), time.monotonic() - begun

    testing, version, seconds = asyncio.run(again())
    assert first[0] and testing, "as far as this process knows"
    assert version == 1, "nobody deals, so the run gets what serves everybody"
    assert seconds < 1.0


def test_nothing_that_is_asked_raises(connected: Connected) -> None:
    validator = ABValidator(connected(), "whatever", else_="is passed")
    assert validator.get_test_version() is None
    for model in (None, 7, [], "\ud800", object()):
        assert validator.is_testing(model) is False  # type: ignore[arg-type]
        assert validator.get_test_version(model) is None  # type: ignore[arg-type]
