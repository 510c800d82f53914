"""The pipeline's side of Mathesis.

``TaskLogger`` logs what a pipeline does, without ever getting in its way. ``prompts.for_task`` tells
which prompt documents a task gets. ``ABValidator`` is the same question in two synchronous calls.
``mathesis.blocking`` is all of it without ``await``.
"""

from . import prompts
from .client import Client, connect
from .logger import TaskLogger
from .prompts import NoPromptError, Prompt, Prompts
from .settings import Settings
from .validator import ABValidator

__all__ = [
    "ABValidator",
    "Client",
    "NoPromptError",
    "Prompt",
    "Prompts",
    "Settings",
    "TaskLogger",
    "connect",
    "prompts",
]
__version__ = "0.1.0"
