"""A pipeline, and the ten lines that it adds (those that end in a number). The README shows them, and a
test runs them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

MODELS = ["wan-2.5-edit", "nano-banana"]


@dataclass
class Result:
    url: str


@dataclass
class Validation:
    score: int
    passed: bool
    issues: list[str] = field(default_factory=list)
    reasoning: str = ""


async def enhance(system: str, original_prompt: str) -> str:
    return f"{original_prompt} (as {len(system)} characters say)"


async def generate(model: str, enhanced: str) -> Result:
    return Result(f"https://cdn.example/{model}.png")


async def validate(result: Result) -> Validation:
    return Validation(score=9, passed=True, reasoning="the sky is a sunset, the rest is as it was")


# README: from here
from mathesis import TaskLogger, prompts  # 1

logger = TaskLogger()  # 2


async def process_edit(task_id: str, original_prompt: str) -> None:
    await logger.log_task_start(task_id, original_prompt)  # 3
    try:
        scores = {}
        for model in MODELS:
            prompt = await prompts.for_task(task_id, model)  # 4
            enhanced = await enhance(prompt.system, original_prompt)
            await logger.log_enhancement(task_id, model, original_prompt, enhanced)  # 5
            result = await generate(model, enhanced)
            await logger.log_generation(task_id, model, result)  # 6
            validation = await validate(result)
            await logger.log_validation(task_id, model, validation)  # 7
            scores[model] = validation.score
        winner = max(scores, key=lambda model: scores[model])
        await logger.log_winner(task_id, winner, scores[winner])  # 8
        await logger.log_complete(task_id)  # 9
    except Exception as error:
        await logger.log_error(task_id, error)  # 10
        raise
# README: to here


if __name__ == "__main__":
    asyncio.run(process_edit("86abc", "Κάνε τον ουρανό ηλιοβασίλεμα"))
