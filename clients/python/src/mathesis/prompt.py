"""A prompt: the documents that a task is to be enhanced with, and which version they are."""

from __future__ import annotations

from dataclasses import dataclass


class NoPromptError(LookupError):
    """There are no documents for a model anywhere: not at the service, no copy, no files."""


@dataclass(frozen=True)
class Prompt:
    """What a run was told about a model. The same for the whole run, whatever happens meanwhile."""

    task_id: str
    model: str
    version: int | None
    """The version; ``None`` for files that nobody could say the version of."""
    arm: str | None
    """``control`` or ``candidate`` for a run that is part of a test."""
    cycle: int | None
    """The cycle of that test."""
    content_hash: str | None
    """Names the texts for good; ``None`` where the version is."""
    template: str
    """The message for each task, with placeholders; empty for files, which have none."""
    activation: str
    """Who the enhancer is and how it works (``activation.txt``)."""
    research: str
    """What is known about the model (``research.md``)."""
    source: str
    """Who answered: ``service`` (asked now), ``copy`` (a local copy that is fresh), ``last_known`` (nobody
    answered, so the last known version), ``files`` (the config folder, since there is no copy at all)."""
    leg: int | None = None
    """The version once more, where the task is to be done under two; else ``None``. What is logged of the
    attempt names it."""
    pair: Prompt | None = None
    """The other leg of a task that is to be done under two versions; the other leg has none."""

    @property
    def legs(self) -> tuple[Prompt, ...]:
        """Everything that the task is to be done under: this prompt alone, or this one and its pair."""
        return (self,) if self.pair is None else (self, self.pair)

    @property
    def system(self) -> str:
        """Activation and research in one text, as the enhancer's system prompt."""
        return f"{self.activation}\n\n{self.research}"
