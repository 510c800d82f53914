"""The calls that a pipeline was promised, in both styles, and what the server makes of them."""

from __future__ import annotations

import asyncio
import enum
import inspect
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mathesis import ABValidator, Client, Settings, TaskLogger, blocking, connect
from mathesis.dead_letters import read as dead_letters

from server import KEY, NANO, WAN, Server, until

Connected = Callable[..., Client]


def attempts(task: dict[str, Any]) -> list[tuple[str, int]]:
    return sorted((one["model"], one["iteration"]) for one in task["attempts"])


def test_the_keywords_of_the_plan_run_unchanged(server: Server, connected: Connected) -> None:
    client = connected(server)
    logger = TaskLogger(client)

    async def process(task_id: str, original_prompt: str, enhanced_prompt: str) -> None:
        result = SimpleNamespace(url="https://cdn/1.png")
        await logger.log_enhancement(
            task_id=task_id,
            model="wan-2.5-edit",
            original_prompt=original_prompt,
            enhanced_prompt=enhanced_prompt,
            latency_ms=2300
        )
        await logger.log_generation(
            task_id=task_id,
            model="wan-2.5-edit",
            image_url=result.url,
            generation_time_ms=12500
        )
        await logger.log_validation(
            task_id=task_id,
            model="wan-2.5-edit",
            score=10,
            passed=True,
            issues=[],
            reasoning="Perfect match..."
        )
        await logger.log_winner(
            task_id=task_id,
            winner="wan-2.5-edit",
            score=10,
            total_iterations=1
        )

    asyncio.run(process("86abc", "Κάνε το ηλιοβασίλεμα", "Make it a sunset"))
    assert client.flush(30)
    task = server.the_task("86abc")
    assert (task["winner_model"], task["winner_score"], task["total_iterations"]) == (WAN, 10, 1)
    [attempt] = task["attempts"]
    assert attempt["original_prompt"] == "Κάνε το ηλιοβασίλεμα"
    assert (attempt["enhancement_latency_ms"], attempt["generation_time_ms"]) == (2300, 12500)
    assert (attempt["image_url"], attempt["validation_reasoning"]) == ("https://cdn/1.png", "Perfect match...")
    assert not list(dead_letters(client.folder))


@dataclass
class Result:
    url: str
    generation_time_ms: float = 12500.4
    cost_usd: Decimal = Decimal("0.04")


@dataclass
class Validation:
    score: int
    passed: bool
    issues: list[str] = field(default_factory=list)
    reasoning: str = ""


def test_the_orchestrator_of_the_plan_runs_unchanged(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MATHESIS_URL", server.url)
    monkeypatch.setenv("MATHESIS_KEY", KEY)
    monkeypatch.setenv("MATHESIS_SPOOL", str(tmp_path / "spool"))
    db = object()

    class EditOrchestrator:
        def __init__(self) -> None:
            self.logger = TaskLogger(db)
            self.ab_validator = ABValidator(db)

        async def process_edit(self, task_id: str, original_prompt: str, model: str, fails: bool) -> None:
            await self.logger.log_task_start(task_id, original_prompt)

            try:
                enhanced = await self.enhance_prompt(original_prompt)

                await self.logger.log_enhancement(
                    task_id, model, original_prompt, enhanced
                )

                if self.ab_validator.is_testing(model):
                    version = self.ab_validator.get_test_version()
                    enhanced = await self.enhance_with_version(
                        original_prompt, model, version
                    )

                result = await self.generate(enhanced, fails)
                await self.logger.log_generation(task_id, model, result)

                validation = Validation(9, True, ["a little dark"], "καλό")
                await self.logger.log_validation(task_id, model, validation)

                winner, score = model, validation.score
                await self.logger.log_winner(task_id, winner, score)

            except Exception as e:
                await self.logger.log_error(task_id, str(e))
                raise

        async def enhance_prompt(self, prompt: str) -> str:
            return f"enhanced {prompt}"

        async def enhance_with_version(self, prompt: str, model: str, version: int | None) -> str:
            raise AssertionError("no test runs")

        async def generate(self, enhanced: str, fails: bool) -> Result:
            if fails:
                raise RuntimeError("the picture failed")
            return Result("https://cdn/2.png")

    orchestrator = EditOrchestrator()
    asyncio.run(orchestrator.process_edit("86ok", "το πρωτότυπο", NANO, False))
    with pytest.raises(RuntimeError):
        asyncio.run(orchestrator.process_edit("86bad", "p", NANO, True))
    client = orchestrator.logger.client
    assert client is orchestrator.ab_validator.client, "logger and validator share what they know"
    assert client.flush(30)
    task = server.the_task("86ok")
    [attempt] = task["attempts"]
    assert (attempt["image_url"], attempt["generation_time_ms"]) == ("https://cdn/2.png", 12500)
    assert Decimal(attempt["cost_usd"]) == Decimal("0.04")
    assert (attempt["validation_score"], attempt["validation_issues"]) == (9, ["a little dark"])
    assert (task["winner_model"], task["winner_score"]) == (NANO, 9)
    assert server.the_task("86bad")["error"] == "the picture failed"
    client.close()


def test_without_a_run_each_start_opens_one_and_the_nth_enhancement_is_iteration_n(
    server: Server, connected: Connected
) -> None:
    client = connected(server)
    logger = TaskLogger(client)

    async def run(task: str, iterations: int) -> None:
        await logger.log_task_start(task, "p")

        async def model(name: str, n: int) -> None:
            await logger.log_enhancement(task, name, "p", f"e{n}")
            await asyncio.sleep(0)
            await logger.log_generation(task, name, f"https://cdn/{n}.png", 1)
            await logger.log_validation(task, name, 5 + n, n == iterations, [], "r")

        for n in range(1, iterations + 1):
            await asyncio.gather(model(WAN, n), model(NANO, n))
        await logger.log_winner(task, WAN, 5 + iterations)

    async def both() -> None:
        # The same task again while its first run is still going: each context keeps to its own run.
        await asyncio.gather(run("86twice", 1), run("86twice", 3))

    asyncio.run(both())
    assert client.flush(30)
    runs = [task for (name, _), task in server.tasks().items() if name == "86twice"]
    assert sorted((attempts(run) for run in runs), key=len) == [
        [(NANO, 1), (WAN, 1)],
        [(NANO, 1), (NANO, 2), (NANO, 3), (WAN, 1), (WAN, 2), (WAN, 3)],
    ]
    assert sorted(run["total_iterations"] for run in runs) == [1, 3]
    assert not list(dead_letters(client.folder))


def test_what_is_named_wins_over_what_is_counted(server: Server, connected: Connected) -> None:
    client = connected(server)
    logger = blocking.TaskLogger(client)
    logger.log_task_start("86n", "p", run_id="7", task_type="SIMPLE_EDIT", source="webhook")
    logger.log_enhancement("86n", WAN, "p", "e", run_id="7", iteration=3, retries=2)
    logger.log_validation("86n", WAN, 9, True, run_id="7", iteration=3, judge={"model": "c", "prompt_version": "2"})
    logger.log_winner("86n", None, run_id="7", iteration=3)
    assert client.flush(30)
    task = server.tasks()[("86n", "7")]
    assert attempts(task) == [(WAN, 3)]
    assert (task["task_type"], task["winner_model"], task["total_iterations"]) == ("SIMPLE_EDIT", None, 3)
    assert task["metadata"]["source"] == "webhook"
    assert task["attempts"][0]["metadata"]["retries"] == 2
    assert task["attempts"][0]["judge_model"] == "c"


def test_feedback_days_later_from_another_process_finds_its_run(server: Server, connected: Connected) -> None:
    pipeline = connected(server)
    blocking.TaskLogger(pipeline).log_task_start("86f", "p")
    blocking.TaskLogger(pipeline).log_complete("86f")
    assert pipeline.flush(30)
    pipeline.close()
    webhook = connected(server)
    blocking.TaskLogger(webhook).log_feedback("86f", kept=False, comment="το σβήσαμε")
    assert webhook.flush(30)
    task = server.the_task("86f")
    assert (task["feedback_kept"], task["feedback_comment"]) == (False, "το σβήσαμε")


class Colour(enum.Enum):
    RED = "red"


def test_what_has_one_obvious_form_in_json_is_written_so(server: Server, connected: Connected) -> None:
    client = connected(server)
    blocking.TaskLogger(client).log_task_start(
        "86m", "p", day=date(2026, 11, 26), colour=Colour.RED, tags={"b", "a"}, path=Path("a/b"), metadata={"own": 1}
    )
    assert client.flush(30)
    assert server.the_task("86m")["metadata"] == {
        "day": "2026-11-26", "colour": "red", "tags": ["a", "b"], "path": "a/b", "own": 1,
    }


class Hostile:
    """Raises at whatever is done to it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name} here")

    def __repr__(self) -> str:
        raise RuntimeError("no words either")

    def __hash__(self) -> int:
        raise RuntimeError("nor a hash")


def endless() -> list[Any]:
    one: list[Any] = []
    one.append(one)
    return one


HOSTILE: list[Any] = [None, 7, 7.5, math.nan, "\ud800", b"bytes", object(), Hostile(), [], {}, endless(), "x\0y", {1: {2: 3}}]


def test_no_call_raises_whatever_it_is_given_and_the_spool_goes_on(server: Server, connected: Connected) -> None:
    client = connected(server)
    logger = TaskLogger(client)
    names = [name for name, _ in inspect.getmembers(TaskLogger, inspect.iscoroutinefunction) if name.startswith("log_")]
    assert len(names) == 8

    async def throw_everything() -> None:
        for name in names:
            call = getattr(logger, name)
            parameters = [
                one for one, what in inspect.signature(call).parameters.items() if what.kind is not what.VAR_KEYWORD
            ]
            for value in HOSTILE:
                for parameter in [*parameters, "something_else"]:
                    await call(**{"task_id": "86h", parameter: value})
                await call(*[value] * 2)
        await logger.log_complete("86good")

    asyncio.run(throw_everything())
    assert client.flush(60)
    assert ("86good", "") in server.tasks(), "what cannot be taken blocks nothing"
    codes = {letter.code for letter in dead_letters(client.folder)}
    assert {"not_json", "not_utf8", "unusable_call", "wrong_type", "missing_field"} <= codes


def test_blocking_and_asyncio_take_the_same_arguments() -> None:
    for name, call in inspect.getmembers(TaskLogger, inspect.iscoroutinefunction):
        mine = inspect.signature(call)
        theirs = inspect.signature(getattr(blocking.TaskLogger, name))
        assert mine.parameters == theirs.parameters, name


def test_a_logger_takes_a_client_settings_an_address_or_whatever_a_pipeline_had(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MATHESIS_SPOOL", str(tmp_path))
    monkeypatch.setenv("MATHESIS_URL", "http://environment:1")
    mine = Settings(url="http://mine:1", spool=tmp_path)
    client = connect(mine)
    assert TaskLogger(client).client is client
    assert TaskLogger(mine).client is client
    assert TaskLogger("https://given:1").client.settings.url == "https://given:1"
    for opaque in (None, object(), "postgres://db/x", 7):
        assert TaskLogger(opaque).client.settings.url == "http://environment:1"
    assert TaskLogger(object(), "more", and_more=1).client is TaskLogger().client


def test_a_setting_that_cannot_be_used_is_told_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    environment = {"MATHESIS_FRESH_SECONDS": "soon", "MATHESIS_KEY": "hush", "MATHESIS_URL": " "}
    settings = Settings.from_env(environment)
    assert Settings.from_env(environment) == settings
    assert settings.fresh_seconds == Settings().fresh_seconds
    assert settings.url == Settings().url
    assert caplog.text.count("MATHESIS_FRESH_SECONDS is 'soon'") == 1, "however often it is read"
    assert "hush" not in repr(settings)


def test_what_the_pipeline_changes_afterwards_is_not_what_was_logged(server: Server, connected: Connected) -> None:
    client = connected(server, write_delay_seconds=0.2)
    issues = ["first"]
    blocking.TaskLogger(client).log_validation("86c", WAN, 9, True, issues, "r")
    issues.append("second")
    assert client.flush(30)
    assert server.the_task("86c")["attempts"][0]["validation_issues"] == ["first"]


def test_a_call_is_stamped_with_its_own_time(server: Server, connected: Connected) -> None:
    server.kill()
    client = connected(server)
    before = time.time()
    blocking.TaskLogger(client).log_complete("86t")
    after = time.time()
    client.write()
    until("it waits", lambda: client.spool.waiting)
    server.start()
    assert client.flush(30)
    [(at,)] = server.query("SELECT extract(epoch FROM at)::float8 FROM task_events")
    assert before - 0.01 <= at <= after + 0.01
