"""``files pull``: a config folder that is kept the image of the service's active versions.

It follows the rules of the service's own reconciler: missing files are written, an older version is
replaced behind a backup, and a file that was edited by hand is left as it is and told.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from .api import Api, ServiceError, Texts
from .folder import NAMES, FolderError, FolderState, HandEdited, ModelFolder, hashes_of
from .settings import Settings

CALL_SECONDS = 30.0

IN_STEP, MISSING, STALE, HALF_WRITTEN, HAND_EDITED, UNMARKED = (
    "in_step", "missing", "stale", "half_written", "hand_edited", "unmarked",
)


def standing(state: FolderState, version: int, expected: dict[str, str]) -> str:
    """What a folder is, compared with the active version. The marker decides: a file that differs from it
    was edited by a person. Without one, a file that differs from the active version counts as edited."""
    found = state.hashes()
    written = expected if state.marker is None else state.marker["files"]
    off = [name for name in NAMES if found[name] is not None and found[name] != written.get(name)]
    begun = [manifest.get("becomes", {}) for manifest in state.unfinished]
    if any(all(becomes.get(name) != found[name] for becomes in begun) for name in off):
        return HAND_EDITED
    if off:
        return HALF_WRITTEN
    if state.marker is not None and (state.marker["version"], written) != (version, expected):
        return STALE
    if any(data is None for data in state.files.values()):
        return MISSING
    return UNMARKED if state.marker is None else IN_STEP


class Puller:
    """Brings the folders of all models in step, as often as it is asked to."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._api = Api(settings, CALL_SECONDS)
        self._folder = folder
        self._texts: dict[tuple[str, int], Texts] = {}

    def round(self) -> dict[str, tuple[bool, str]]:
        """Looks at every model once: whether it went well, in words. One that cannot be brought in step
        keeps no other from it. Raises ``ServiceError`` when the service does not tell the versions."""
        said: dict[str, tuple[bool, str]] = {}
        for model, version in sorted(self._api.active_versions().items()):
            try:
                said[model] = (True, self._model(model, version))
            except (ServiceError, FolderError, OSError) as error:
                said[model] = (False, str(error))
        return said

    def _model(self, model: str, version: int) -> str:
        texts = self._texts_of(model, version)
        folder = ModelFolder(self._folder, model)
        state = folder.read()
        stands = standing(state, version, hashes_of(texts))
        if stands == UNMARKED:
            folder.adopt(version, state.hashes(), f"adopt-{version}")
        if stands in (IN_STEP, UNMARKED):
            return f"version {version}, in step"
        if stands == HAND_EDITED:
            # A fresh container may ship the files of an older version: known texts are no edit.
            known = self._known_version(model, state)
            if known is None:
                self._tell_edit(folder, state, hashes_of(texts))
            else:
                folder.adopt(known, state.hashes(), f"adopt-{known}")
        # What was read a moment ago may be older than what the folder has been given since.
        now = self._api.standing(model, None)
        if now is not None and now.active_version != version:
            return "another version has just become active; the next look takes it"
        backup = folder.write(version, texts, f"pull-{version}-{time.time_ns() // 1_000_000}")
        return f"version {version} written" + ("" if backup is None else f"; before it: {backup}")

    def _tell_edit(self, folder: ModelFolder, state: FolderState, expected: dict[str, str]) -> None:
        written = expected if state.marker is None else state.marker["files"]
        name = next(name for name, found in state.hashes().items() if found not in (None, written.get(name)))
        raise HandEdited(
            f"{folder.path / NAMES[name]} was edited by hand since it was last written, and is left alone. Nothing was changed. Take the edit over as a version of its own, or put the file back as it was, and retry"
        )

    def _texts_of(self, model: str, version: int) -> Texts:
        kept = self._texts.get((model, version))
        if kept is None:
            kept = self._texts[(model, version)] = self._api.texts(model, version)
        return kept

    def _known_version(self, model: str, state: FolderState) -> int | None:
        if state.marker is not None:
            return None
        found = state.hashes()
        for version in self._api.versions(model):
            known = hashes_of(self._texts_of(model, version))
            if all(found[name] in (None, known[name]) for name in NAMES):
                return version
        return None


def pull(
    settings: Settings, folder: Path, watch: bool, interval_seconds: float, stop: threading.Event | None = None
) -> int:
    """Runs the command; its exit code. A watch goes on until ``stop``, and says each thing once."""
    puller = Puller(settings, folder)
    stop = stop or threading.Event()
    told: dict[str, tuple[bool, str]] = {}
    failure: str | None = None
    while True:
        try:
            said = puller.round()
        except ServiceError as error:
            said = {}
            if str(error) != failure:
                failure = str(error)
                again = "; trying again" if watch else ""
                print(f"mathesis: {failure}. No file was touched{again}", file=sys.stderr, flush=True)
        else:
            if failure is not None:
                print("mathesis: the service answers again", file=sys.stderr, flush=True)
            failure = None
            for model, (well, words) in said.items():
                if told.get(model) != (well, words):
                    print(f"{model}: {words}", file=sys.stdout if well else sys.stderr, flush=True)
            told = said
        if not watch:
            return 1 if failure is not None or not all(well for well, _ in said.values()) else 0
        if stop.wait(interval_seconds):
            return 0
