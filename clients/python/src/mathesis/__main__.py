"""``python -m mathesis doctor`` and ``python -m mathesis files pull``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from . import doctor, files
from .settings import Settings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mathesis", description="The pipeline's side of Mathesis.")
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-w", "--workflow", metavar="NAME", help="the workflow [MATHESIS_WORKFLOW]")
    common.add_argument("--url", metavar="URL", help="the service [MATHESIS_URL]")
    common.add_argument("--key-env", metavar="VARIABLE", default="MATHESIS_KEY", help="the variable with the key")

    looking = commands.add_parser("doctor", parents=[common], help="check everything, and say what to do about what is wrong")
    looking.add_argument("--json", action="store_true", help="answer in JSON, for programs")

    of_files = commands.add_parser("files", help="config folders").add_subparsers(dest="what", required=True)
    pull = of_files.add_parser("pull", parents=[common], help="bring a config folder in step with the active versions")
    pull.add_argument("--folder", type=Path, metavar="FOLDER", help="the config folder [MATHESIS_CONFIG_FOLDER]")
    pull.add_argument("--watch", action="store_true", help="go on, and look again every few seconds")
    pull.add_argument("--interval-seconds", type=_seconds, default=10.0, metavar="SECONDS", help="how often to look [10]")
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 86_400:
        raise argparse.ArgumentTypeError("it must be more than 0 and at most 86400")
    return seconds


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; its exit code is 0 when all is well and 1 when a person has to look."""
    given = _parser().parse_args(arguments)
    values: dict[str, Any] = {"url": given.url, "workflow": given.workflow, "key": os.environ.get(given.key_env) or None}
    settings = Settings.from_env(**{name: value for name, value in values.items() if value is not None})
    if given.command == "doctor":
        findings = doctor.examine(settings)
        print(doctor.told(findings, given.json))
        return 1 if any(finding.health == "bad" for finding in findings) else 0
    try:
        return files.pull(settings, given.folder or settings.config_folder, given.watch, given.interval_seconds)
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
