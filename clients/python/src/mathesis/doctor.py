"""``python -m mathesis doctor``: what a pipeline's side needs, looked at without changing anything."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import asdict, dataclass

from . import dead_letters
from .api import Api, Refused, ServiceError
from .client import folder_name
from .segment import PREFIX, SENT_SUFFIX, SUFFIX
from .settings import Settings
from .state import FILE_NAME, State
from .warnings import Warnings


@dataclass(frozen=True)
class Finding:
    """What one check found: ``health`` is good, note or bad, as the Rust doctor says it."""

    check: str
    health: str
    said: str
    remedy: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Every check, in the order in which a person would make them."""
    return [_service(settings), _access(settings), *_spool(settings), *_copies(settings), _files(settings)]


def _service(settings: Settings) -> Finding:
    api = Api(settings, 5.0)
    try:
        api.ready()
    except Refused as refusal:
        return Finding("service", "bad", f"{settings.url} answers {refusal}", "See its log, and its own `mathesis doctor`.")
    except ServiceError as error:
        return Finding("service", "bad", str(error), "See that MATHESIS_URL is right and `mathesis serve` runs there. Events wait meanwhile.")
    finally:
        api.close()
    return Finding("service", "good", f"{settings.url} is ready")


def _access(settings: Settings) -> Finding:
    check = f"workflow {settings.workflow}"
    api = Api(settings, 5.0)
    try:
        versions = api.active_versions()
    except Refused as refusal:
        return Finding(check, "bad", str(refusal), "See that MATHESIS_KEY and MATHESIS_WORKFLOW are right. Events wait meanwhile.")
    except ServiceError as error:
        return Finding(check, "note", f"not looked at: {error}")
    finally:
        api.close()
    told = ", ".join(f"{model} version {version}" for model, version in sorted(versions.items()))
    return Finding(check, "good", told or "it has no version yet")


def _spool(settings: Settings) -> list[Finding]:
    folder = settings.spool / folder_name(settings.workflow)
    if not folder.is_dir():
        return [Finding("spool", "note", f"{folder} is not there yet", "It is made by the pipeline's first call; see that MATHESIS_SPOOL is the pipeline's own.")]
    findings: list[Finding] = []
    if not os.access(folder, os.W_OK):
        findings.append(Finding("spool", "bad", f"{folder} cannot be written", "Let the pipeline's user write there: until then events wait in memory only."))
    waiting = 0
    for path in folder.glob(f"{PREFIX}*{SUFFIX}"):
        try:
            sent = path.with_name(path.name + SENT_SUFFIX)
            waiting += path.stat().st_size - (int(sent.read_text()) if sent.exists() else 0)
        except (OSError, ValueError):
            pass  # It was delivered while we looked.
    if waiting:
        findings.append(
            Finding("spool", "note", f"{waiting} of {settings.spool_bytes_max} bytes wait in {folder}", "The pipeline sends them once the service takes them.")
        )
    letters = list(dead_letters.read(folder))
    words = {letter.code: letter.detail for letter in letters}
    for code, count in sorted(Counter(letter.code for letter in letters).items()):
        findings.append(
            Finding(
                "refused events",
                "bad",
                f"{count} ({code}), the last because {words[code][:200]}",
                f"Mend what sends them. They are in {folder / dead_letters.FILE_NAME}; move it away once that is done.",
            )
        )
    return findings or [Finding("spool", "good", f"everything has arrived ({folder})")]


def _copies(settings: Settings) -> list[Finding]:
    folder = settings.spool / folder_name(settings.workflow)
    if not (folder / FILE_NAME).exists():
        return []
    state = State(folder, Warnings())
    try:
        return [
            Finding(
                f"copy of {model}",
                "good",
                f"version {standing.active_version}{', being tested' if standing.testing else ''}, {max(0, time.time() - asked_at):.0f} s old",
            )
            for model, (standing, asked_at) in sorted(state.models().items())
        ]
    finally:
        state.close()


def _files(settings: Settings) -> Finding:
    folder = settings.config_folder
    models = sorted(path.parent.name for path in folder.glob("*/activation.txt"))
    if models:
        return Finding("files to fall back on", "good", f"{folder}: {', '.join(models)}")
    return Finding(
        "files to fall back on",
        "note",
        f"{folder} holds no model's documents",
        "Without them and without a copy, a task that comes while the service is away has no documents: `python -m mathesis files pull` fetches them.",
    )


def told(findings: list[Finding], as_json: bool) -> str:
    """The findings in words, or for programs."""
    if as_json:
        return json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False)
    marks = {"good": "well ", "note": "note ", "bad": "wrong"}
    lines = []
    for finding in findings:
        lines.append(f"{marks[finding.health]}  {finding.check}: {finding.said}")
        if finding.remedy:
            lines.append(f"       {finding.remedy}")
    count = Counter(finding.health for finding in findings)
    return "\n".join([*lines, "", f"{count['good']} well, {count['note']} to note, {count['bad']} wrong."])
