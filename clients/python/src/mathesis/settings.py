"""Settings: what is given wins over the environment, the environment over the defaults."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

log = logging.getLogger("mathesis")

MIB = 1024 * 1024

_told: set[tuple[str, str]] = set()
"""What was warned of already: the environment is read more than once."""


@dataclass(frozen=True)
class Settings:
    """Everything that can be set. ``Settings.from_env()`` reads the environment."""

    url: str = "http://127.0.0.1:8080"
    """Where the service is (``MATHESIS_URL``)."""
    key: str | None = field(default=None, repr=False)
    """Its key, of role ingest or operate (``MATHESIS_KEY``)."""
    workflow: str = "image-editing"
    """Which workflow the pipeline is (``MATHESIS_WORKFLOW``)."""
    spool: Path = Path(".mathesis-spool")
    """Where events wait and local copies are kept (``MATHESIS_SPOOL``)."""
    config_folder: Path = Path("config/deep_research")
    """The files to fall back on, one folder a model (``MATHESIS_CONFIG_FOLDER``)."""
    fresh_seconds: float = 15.0
    """How long a model's local copy is taken for what is active (``MATHESIS_FRESH_SECONDS``)."""
    stale_seconds: float = 300.0
    """How long an older copy may still answer while a fresh one is fetched behind it."""
    ask_timeout_seconds: float = 2.0
    """How long ``for_task`` waits for the service at the most (``MATHESIS_ASK_TIMEOUT_SECONDS``)."""
    ask_again_seconds: float = 5.0
    """After a question without an answer, how long nobody waits for the service again."""
    test_wait_seconds: float = 0.25
    """How long the synchronous ``get_test_version`` waits for an answer that is under way."""
    spool_bytes_max: int = 256 * MIB
    """How much may wait on disk (``MATHESIS_SPOOL_BYTES_MAX``); beyond it new events are dropped."""
    write_delay_seconds: float = 0.02
    """How long the writer gathers events before it appends them to the spool."""
    fsync_seconds: float = 1.0
    """How often the spool is forced to the disk while events wait in it."""
    send_timeout_seconds: float = 30.0
    """How long one delivery may take."""
    retry_seconds_min: float = 0.25
    """The first pause after a failed delivery; each later one is up to twice as long."""
    retry_seconds_max: float = 30.0
    """The longest pause."""
    exit_seconds: float = 2.0
    """How long the end of the process waits for the last delivery; the rest stays in the spool."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "spool", Path(self.spool))
        object.__setattr__(self, "config_folder", Path(self.config_folder))
        if self.spool_bytes_max < MIB:
            raise ValueError(f"spool_bytes_max is {self.spool_bytes_max}, and must be 1 MiB at least")

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None, **given: Any) -> Settings:
        """Reads the environment. A value there that cannot be used is warned of, and the default
        holds: a setting of the learning layer must not keep a pipeline from starting."""
        source = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        for name, variable, read in _VARIABLES:
            text = source.get(variable, "").strip()
            if not text:
                continue
            try:
                values[name] = read(text)
            except ValueError:
                if (variable, text) not in _told:
                    _told.add((variable, text))
                    log.warning("%s is %r, which cannot be used; the default holds", variable, text)
        values.update(given)
        return cls(**values)


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e9:
        raise ValueError(text)
    return number


def _bytes(text: str) -> int:
    number = int(text)
    if number < MIB:
        raise ValueError(text)
    return number


_VARIABLES: tuple[tuple[str, str, Callable[[str], Any]], ...] = (
    ("url", "MATHESIS_URL", str),
    ("key", "MATHESIS_KEY", str),
    ("workflow", "MATHESIS_WORKFLOW", str),
    ("spool", "MATHESIS_SPOOL", Path),
    ("config_folder", "MATHESIS_CONFIG_FOLDER", Path),
    ("fresh_seconds", "MATHESIS_FRESH_SECONDS", _positive),
    ("ask_timeout_seconds", "MATHESIS_ASK_TIMEOUT_SECONDS", _positive),
    ("spool_bytes_max", "MATHESIS_SPOOL_BYTES_MAX", _bytes),
)
