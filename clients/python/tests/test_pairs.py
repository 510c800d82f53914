"""The guard ``paired``: a task of a test is told both versions, and each attempt names its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from mathesis import ABValidator, Client, Prompt, Prompts, TaskLogger, blocking

from server import NANO, WAN, Server, until

Connected = Callable[..., Client]
RESEARCH = "# Research\n\n## Works\nShort.\n"
CANDIDATE = f"{RESEARCH}\nName what must stay unchanged.\n"

paired = pytest.mark.guard("paired")


def told(client: Client, task: str, run: str | None = None) -> Prompt:
    return blocking.Prompts(client).for_task(task, NANO, run)


def scored(server: Server) -> dict[str, int]:
    [model] = [one for one in server.call("GET", "/cycle").json()["models"] if one["model"] == NANO]
    return dict(model["scored"])


@paired
def test_a_task_is_told_both_versions_with_their_texts_and_always_the_same(server: Server, connected: Connected) -> None:
    server.open_test()
    client = connected(server)
    prompts = [told(client, f"86-{n}") for n in range(4)]
    for prompt in prompts:
        first, second = prompt.legs
        assert first is prompt and second is prompt.pair
        assert {first.version, second.version} == {1, 2}
        assert {first.arm, second.arm} == {"control", "candidate"}
        for leg in prompt.legs:
            assert leg.leg == leg.version and leg.task_id == prompt.task_id and leg.cycle == 1
            assert leg.research == (CANDIDATE if leg.version == 2 else RESEARCH)
            assert (leg.version == 2) == (leg.arm == "candidate")
    assert prompts[0].pair and prompts[0].pair.pair is None
    # The pipeline restarts while the service is dead.
    client.close()
    server.kill()
    restarted = connected(server)
    for prompt in prompts:
        again = told(restarted, prompt.task_id)
        assert [(leg.version, leg.arm, leg.research) for leg in again.legs] == [
            (leg.version, leg.arm, leg.research) for leg in prompt.legs
        ]


@paired
def test_both_attempts_count_and_the_winning_one_is_the_selected_one(server: Server, connected: Connected) -> None:
    server.open_test()
    client = connected(server)

    async def run() -> None:
        logger, prompts = TaskLogger(client), Prompts(client)
        await logger.log_task_start("86p", "το πρωτότυπο")
        prompt = await prompts.for_task("86p", NANO)
        for one in prompt.legs:
            score = 9 if one.version == 2 else 7
            await logger.log_enhancement("86p", NANO, "το πρωτότυπο", f"under {one.version}", leg=one.leg)
            await logger.log_generation("86p", NANO, f"https://cdn/{one.version}.png", leg=one.leg)
            await logger.log_validation("86p", NANO, score, score >= 8, leg=one.leg)
        await logger.log_winner("86p", NANO, 9, leg=2)
        await logger.log_complete("86p")

    asyncio.run(run())
    assert client.flush(30)
    rows = server.query(
        "SELECT a.version, a.prompt_version, a.iteration, a.enhanced_prompt, a.image_url, a.validation_score,"
        " a.was_selected FROM attempts a JOIN tasks t ON t.id = a.task_id WHERE t.clickup_task_id = '86p' ORDER BY 1"
    )
    assert rows == [
        (1, 1, 1, "under 1", "https://cdn/1.png", 7, False),
        (2, 2, 1, "under 2", "https://cdn/2.png", 9, True),
    ]
    assert server.query("SELECT total_iterations, winner_leg FROM tasks WHERE clickup_task_id = '86p'") == [(1, 2)]
    until("both legs count", lambda: scored(server) == {"control": 1, "candidate": 1})


@paired
def test_each_leg_counts_its_own_iterations_and_its_own_failures(server: Server, connected: Connected) -> None:
    server.open_test()
    client = connected(server)
    logger = blocking.TaskLogger(client)
    logger.log_task_start("86i", "p")
    for one in told(client, "86i").legs:
        logger.log_enhancement("86i", NANO, "p", "e", leg=one.leg)
    logger.log_validation("86i", NANO, 6, False, leg=1)
    logger.log_error("86i", "no picture came", NANO, "generation", "prompt", leg=2)
    logger.log_enhancement("86i", NANO, "p", "again", leg=1)
    logger.log_validation("86i", NANO, 9, True, leg=1)
    logger.log_winner("86i", NANO, 9, leg=1)
    assert client.flush(30)
    rows = server.query(
        "SELECT version, iteration, validation_score, error, was_selected FROM attempts WHERE version > 0 ORDER BY 1, 2"
    )
    assert rows == [(1, 1, 6, None, False), (1, 2, 9, None, True), (2, 1, None, "no picture came", False)]
    until("the prompt's fault counts as 0", lambda: scored(server) == {"control": 1, "candidate": 1})


@paired
def test_the_validator_tells_both_versions(server: Server, connected: Connected) -> None:
    server.open_test()
    client = connected(server, fresh_seconds=0.2)
    validator, logger = ABValidator(client), blocking.TaskLogger(client)
    until("the test is heard of", lambda: validator.is_testing(NANO))
    logger.log_task_start("86v", "p")
    assert validator.is_testing(NANO)
    assert sorted(validator.get_test_versions()) == [1, 2]
    assert validator.get_test_versions()[0] == validator.get_test_version()
    assert sorted(validator.get_test_versions(NANO, "86v")) == [1, 2]
    assert validator.get_test_versions("a model that nobody knows") == []


def test_under_another_guard_there_is_one_leg_and_it_has_no_name(server: Server, connected: Connected) -> None:
    server.open_test()
    client = connected(server)
    logger = blocking.TaskLogger(client)
    prompt = told(client, "86o")
    assert (prompt.legs, prompt.leg, prompt.pair) == ((prompt,), None, None)
    for one in prompt.legs:
        logger.log_enhancement("86o", NANO, "p", "e", leg=one.leg)
        logger.log_validation("86o", NANO, 9, True, leg=one.leg)
    logger.log_winner("86o", NANO, 9, leg=prompt.leg)
    assert client.flush(30)
    assert server.query("SELECT version, was_selected FROM attempts WHERE version > 0 OR was_selected") == [(0, True)]
    assert WAN in {row[0] for row in server.query("SELECT model_name FROM attempts")}
