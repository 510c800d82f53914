"""A model's config folder: its files, its marker and its backups, as the Rust side keeps them too.

The rules are those of ``src/research`` in the repository: the marker says what was last written, a file
that differs from it was edited by a person and is never overwritten, every replacement is whole, synced,
and behind a backup that was read back. Either side goes on in a folder of the other's.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .api import Texts

MARKER = ".mathesis.json"
LOCK = ".mathesis.lock"
MANIFEST = "manifest.json"
TEMPORARY = ".mathesis-tmp-"
FILE_BYTES_MAX = 8 * 1024 * 1024
NAMES = {"activation": "activation.txt", "research": "research.md"}
_LOCK_SECONDS = 5.0


class FolderError(Exception):
    """The folder was not brought in step; the words say what became of the files and what to do."""


class HandEdited(FolderError):
    """A person edited a file since it was last written. It is left alone."""


@dataclass
class FolderState:
    """What a model's folder holds at one moment."""

    files: dict[str, bytes | None]
    marker: dict[str, Any] | None
    unfinished: list[dict[str, Any]] = field(default_factory=list)

    def hashes(self) -> dict[str, str | None]:
        return {name: None if data is None else file_hash(data) for name, data in self.files.items()}


def file_hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def hashes_of(texts: Texts) -> dict[str, str]:
    """The hashes that the files of these texts have."""
    return {name: file_hash(getattr(texts, name).encode("utf-8")) for name in NAMES}


class ModelFolder:
    """The folder of one model."""

    def __init__(self, config_folder: Path, model: str, before: Callable[[str], None] = lambda step: None) -> None:
        """``before`` is called before each step that changes the disk; a test crashes there."""
        if not model or model.startswith(".") or any(one in model for one in "/\\\0"):
            raise FolderError(f"{model!r} is no name for a folder in {config_folder}. Nothing was changed")
        self._root = Path(os.path.realpath(config_folder))
        self.path = self._inside(self._root / model)
        self._before = before
        if self.path.exists() and not self.path.is_dir():
            raise FolderError(f"{self.path} is not a folder. Nothing was changed. Move it away")

    def read(self) -> FolderState:
        """The files and the marker, never in the middle of a write. Changes nothing."""
        if not self.path.exists():
            return FolderState({name: None for name in NAMES}, None)
        with self._lock(shared=True):
            return self._read()

    def _read(self) -> FolderState:
        files = {name: self._load(self._file(name)) for name in NAMES}
        for name, data in files.items():
            if data is not None:
                _check_text(self._file(name), data)
        state = FolderState(files, self._marker())
        state.unfinished = [manifest for manifest in self._manifests() if manifest.get("marker_before") == state.marker]
        return state

    def adopt(self, version: int, files: dict[str, str | None], change_id: str) -> None:
        """Writes the marker for files that already are that version. No file is touched."""
        with self._lock():
            for name in NAMES:
                found = self._load(self._file(name))
                if found is not None and file_hash(found) != files[name]:
                    raise _hand_edited(self._file(name))
            self._write_marker(version, files, change_id, _now())

    def write(self, version: int, texts: Texts, change_id: str, at: datetime | None = None) -> Path | None:
        """Makes the files that version, behind a backup; the backup's path, if there was anything to back
        up. A crash between two steps leaves each file wholly old or wholly new, and the next call, with this
        version or a later one, takes up from there."""
        at = at or _now()
        wanted = {name: getattr(texts, name).encode("utf-8") for name in NAMES}
        for name, data in wanted.items():
            _check_text(self.path / NAMES[name], data)
        with self._lock():
            self._sweep()
            try:
                return self._replace(version, wanted, change_id, at)
            finally:
                self._sweep()

    def _replace(self, version: int, wanted: dict[str, bytes], change_id: str, at: datetime) -> Path | None:
        state = self._read()
        before, target = state.hashes(), {name: file_hash(data) for name, data in wanted.items()}
        self._refuse_hand_edits(state, before, target)
        changed = [name for name in NAMES if before[name] != target[name]]
        marker = state.marker
        if not changed and marker is not None and (marker.get("version"), marker.get("files")) == (version, target):
            return None
        overwrites = any(before[name] is not None for name in changed)
        moves = marker is not None and marker.get("files") != target
        backup: Path | None = None
        if changed and (overwrites or moves):
            manifest = {
                "change_id": change_id,
                "at": _stamp(at),
                "before": before,
                "marker_before": marker,
                "version": version,
                "becomes": target,
            }
            backup = self._back_up(f"backup_{at:%Y%m%d_%H%M%S}", manifest, state.files)
        for name in changed:
            self._put(name, wanted[name], before[name])
        self._write_marker(version, dict(target), change_id, at)
        return backup

    def _refuse_hand_edits(
        self, state: FolderState, before: dict[str, str | None], target: dict[str, str]
    ) -> None:
        """A file is ours if it is what the marker says, or what a change that began under it writes; where
        there is no marker, if it is the version that is wanted."""
        written = target if state.marker is None else state.marker.get("files", {})
        for name, found in before.items():
            ours = [written.get(name)] + [manifest.get("becomes", {}).get(name) for manifest in state.unfinished]
            if found is not None and found not in ours:
                raise _hand_edited(self._file(name))

    def _back_up(self, name: str, manifest: dict[str, Any], files: dict[str, bytes | None]) -> Path:
        building = self.path / f"{TEMPORARY}backup"
        self._before("create backup folder")
        building.mkdir(mode=0o755)
        for one, data in files.items():
            if data is not None:
                self._stage(building / NAMES[one], data, self._file(one)).rename(building / NAMES[one])
        manifest_bytes = json.dumps(manifest, indent=2, ensure_ascii=False).encode("utf-8")
        self._stage(building / MANIFEST, manifest_bytes).rename(building / MANIFEST)
        _sync_folder(building)
        for one, hashed in manifest["before"].items():
            found = self._load(building / NAMES[one])
            if (None if found is None else file_hash(found)) != hashed:
                raise FolderError(f"the backup {building} is damaged. Nothing was changed. Check the disk")
        if json.loads((building / MANIFEST).read_bytes()) != manifest:
            raise FolderError(f"the backup {building} is damaged. Nothing was changed. Check the disk")
        numbered = (self.path / (name if number == 1 else f"{name}_{number}") for number in range(1, 10_000))
        backup = next(path for path in numbered if not path.exists() and not path.is_symlink())
        self._before("name backup")
        building.rename(backup)
        _sync_folder(self.path)
        return backup

    def _put(self, name: str, data: bytes, before: str | None) -> None:
        path = self._file(name)
        staged = self._stage(path, data, path)
        self._before(f"look again at and replace {path.name}")
        now = self._load(path)
        if (None if now is None else file_hash(now)) != before:
            raise _hand_edited(path)
        staged.rename(path)
        _sync_folder(path.parent)

    def _write_marker(self, version: int, files: dict[str, str | None], change_id: str, at: datetime) -> None:
        marker = {"version": version, "files": files, "change_id": change_id, "written_at": _stamp(at)}
        path = self.path / MARKER
        staged = self._stage(path, json.dumps(marker, indent=2, ensure_ascii=False).encode("utf-8"))
        self._before("write marker")
        staged.rename(path)
        _sync_folder(self.path)

    def _stage(self, path: Path, data: bytes, like: Path | None = None) -> Path:
        """A synced temporary file beside the path, with the mode of the file that it replaces."""
        temporary = path.with_name(f"{TEMPORARY}{path.name}")
        temporary.unlink(missing_ok=True)
        self._before(f"stage {path.name}")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            mode = like.stat().st_mode & 0o7777 if like is not None and like.exists() else 0o644
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        return temporary

    def _sweep(self) -> None:
        """Removes what a writer that died has left; nothing refers to it."""
        for path in self.path.glob(f"{TEMPORARY}*"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _file(self, name: str) -> Path:
        return self._inside(self.path / NAMES[name])

    def _inside(self, path: Path) -> Path:
        if not path.is_symlink():
            return path
        real = Path(os.path.realpath(path))
        if not real.exists() or not real.is_relative_to(self._root):
            raise FolderError(
                f"{path} is a link that leads out of the config folder or nowhere. Nothing was changed. Put the file itself there"
            )
        return real

    def _load(self, path: Path) -> bytes | None:
        if not path.exists():
            return None
        if not path.is_file():
            raise FolderError(f"{path} is not a file. Nothing was changed. Move it away")
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise FolderError(f"{path} has more than {FILE_BYTES_MAX} bytes. Nothing was changed. Shorten it")
        return data

    def _marker(self) -> dict[str, Any] | None:
        path = self._inside(self.path / MARKER)
        data = self._load(path)
        if data is None:
            return None
        try:
            marker = json.loads(data)
            if isinstance(marker, dict) and isinstance(marker["files"], dict) and isinstance(marker["version"], int):
                return marker
        except (ValueError, KeyError):
            pass
        raise FolderError(
            f"{path} cannot be read. Nothing was changed. If the files beside it are as they should be, move it away"
        )

    def _manifests(self) -> Iterator[dict[str, Any]]:
        for path in sorted(self.path.glob(f"backup_*/{MANIFEST}")):
            try:
                manifest = json.loads(path.read_bytes())
            except (OSError, ValueError):
                continue  # A damaged manifest explains no file, and must not block the others.
            if isinstance(manifest, dict):
                yield manifest

    @contextmanager
    def _lock(self, shared: bool = False) -> Iterator[None]:
        path = self.path / LOCK
        if not shared:
            self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
        elif not path.exists():
            yield
            return
        handle = os.open(path, os.O_RDWR | os.O_CREAT if not shared else os.O_RDONLY, 0o644)
        try:
            _wait_for(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, path)
            yield
        finally:
            os.close(handle)


def _wait_for(handle: int, kind: int, path: Path) -> None:
    end = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            return
        except OSError:
            if time.monotonic() >= end:
                raise FolderError(
                    f"another process holds {path}. Nothing was changed. Retry in a moment"
                ) from None
            time.sleep(0.025)


def _check_text(path: Path, data: bytes) -> None:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        raise FolderError(f"{path} is not a text: it is not UTF-8. Nothing was changed. Save it as UTF-8") from None
    if b"\0" in data:
        raise FolderError(f"{path} is not a text: it contains a NUL. Nothing was changed")
    if len(data) > FILE_BYTES_MAX:
        raise FolderError(f"{path} has more than {FILE_BYTES_MAX} bytes. Nothing was changed. Shorten it")


def _hand_edited(path: Path) -> HandEdited:
    return HandEdited(
        f"{path} was edited by hand since it was last written, and is left alone. Take the edit over as a version of its own, or put the file back as it was, and retry"
    )


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _now() -> datetime:
    # Whole seconds, which both sides write in the same letters: a manifest quotes the marker by them.
    return datetime.now(timezone.utc).replace(microsecond=0)


def _stamp(at: datetime) -> str:
    return f"{at.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
