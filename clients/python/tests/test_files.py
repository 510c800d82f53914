"""``files pull``: a folder that stays the image of the active versions, by the rules of both sides."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mathesis import Settings
from mathesis.api import Texts
from mathesis.files import Puller
from mathesis.folder import FolderError, HandEdited, ModelFolder

from server import BINARY, KEY, NANO, WAN, Server, until

ACTIVATION = "You enhance prompts. Ελληνικά.\n"
RESEARCH = "# Research\n\n## Works\nShort.\n"


class Folder:
    """A pipeline's config folder, on a machine without a server."""

    def __init__(self, path: Path, server: Server) -> None:
        self.path = path
        self.server = server

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "MATHESIS_URL": self.server.url, "MATHESIS_KEY": KEY}
        arguments = [*command, "files", "pull", "--folder", str(self.path)]
        return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60)

    def pull(self) -> subprocess.CompletedProcess[str]:
        return self._run([sys.executable, "-m", "mathesis"])

    def pull_with_the_binary(self) -> subprocess.CompletedProcess[str]:
        return self._run([str(BINARY)])

    def file(self, name: str) -> Path:
        return self.path / WAN / name

    def marker(self) -> dict[str, Any]:
        marker: dict[str, Any] = json.loads(self.file(".mathesis.json").read_text())
        return marker

    def backups(self) -> list[Path]:
        return sorted((self.path / WAN).glob("backup_*"))


@pytest.fixture
def folder(tmp_path: Path, server: Server) -> Folder:
    return Folder(tmp_path / "config", server)


def roll_back(server: Server, version: int) -> None:
    server.command("version", "rollback", WAN, str(version))
    until("it is done", lambda: server.call("GET", f"/models/{WAN}").json()["active_version"] == version)


def test_missing_files_are_written_and_stay_in_step(folder: Folder) -> None:
    done = folder.pull()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{NANO}: version 1 written\n{WAN}: version 1 written\n"
    assert folder.file("activation.txt").read_text() == ACTIVATION
    assert folder.marker()["version"] == 1 and not folder.backups()
    folder.file("research.md").unlink()
    assert f"{WAN}: version 1 written" in folder.pull().stdout
    assert folder.file("research.md").read_text() == RESEARCH
    assert folder.pull().stdout == f"{NANO}: version 1, in step\n{WAN}: version 1, in step\n"


@pytest.mark.parametrize("first", ["pull", "pull_with_the_binary"])
def test_either_side_goes_on_in_a_folder_of_the_others(first: str, folder: Folder) -> None:
    folder.server.open_test()
    roll_back(folder.server, 2)
    second = {"pull": "pull_with_the_binary", "pull_with_the_binary": "pull"}[first]
    one: Callable[[], subprocess.CompletedProcess[str]] = getattr(folder, first)
    other: Callable[[], subprocess.CompletedProcess[str]] = getattr(folder, second)
    assert one().returncode == 0
    assert other().stdout == f"{NANO}: version 1, in step\n{WAN}: version 2, in step\n"
    roll_back(folder.server, 1)
    replaced = other()
    assert f"{WAN}: version 1 written; before it:" in replaced.stdout, replaced.stderr
    [backup] = folder.backups()
    manifest = json.loads((backup / "manifest.json").read_text())
    assert (manifest["marker_before"]["version"], manifest["version"]) == (2, 1)
    kept = (backup / "research.md").read_bytes()
    assert hashlib.sha256(kept).hexdigest() == manifest["before"]["research"]
    assert kept.decode().endswith("Name what must stay unchanged.\n")
    assert folder.file("research.md").read_text() == RESEARCH
    assert "in step" in one().stdout
    folder.file("research.md").write_text("mine\n")
    for pull in (one, other):
        refused = pull()
        assert refused.returncode == 1 and "research.md was edited by hand" in refused.stderr
    assert folder.file("research.md").read_text() == "mine\n" and len(folder.backups()) == 1


def test_files_of_an_older_version_that_nobody_marked_are_no_edit(folder: Folder) -> None:
    shutil.copytree(folder.server.config, folder.path, ignore=shutil.ignore_patterns(".mathesis*"))
    folder.server.open_test()
    roll_back(folder.server, 2)
    done = folder.pull()
    assert f"{WAN}: version 2 written; before it:" in done.stdout, done.stderr
    assert f"{NANO}: version 1, in step" in done.stdout
    folder.file(".mathesis.json").unlink()
    folder.file("activation.txt").write_text("of nobody\n")
    refused = folder.pull()
    assert refused.returncode == 1 and "edited by hand" in refused.stderr
    assert folder.file("activation.txt").read_text() == "of nobody\n"


@pytest.mark.parametrize("program", [[sys.executable, "-m", "mathesis"], [str(BINARY)]], ids=["package", "binary"])
def test_a_watch_goes_on_through_an_outage_and_follows_a_change(program: list[str], folder: Folder) -> None:
    folder.server.open_test()
    arguments = [*program, "files", "pull", "--watch", "--interval-seconds", "1"]
    environment = {**os.environ, "MATHESIS_URL": folder.server.url, "MATHESIS_KEY": KEY}
    watch = subprocess.Popen(
        [*arguments, "--folder", str(folder.path)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        until("version 1 is there", lambda: folder.file(".mathesis.json").exists())
        folder.server.kill()
        assert watch.stderr is not None and "No file was touched" in watch.stderr.readline()
        folder.server.start()
        roll_back(folder.server, 2)
        until("version 2 is there", lambda: folder.marker()["version"] == 2)
        assert folder.file("research.md").read_text().endswith("Name what must stay unchanged.\n")
    finally:
        watch.terminate()
        watch.communicate()


def texts(research: str) -> Texts:
    return Texts("hash", "", "activation\n", research)


class Crash(Exception):
    """Where a process is thought to die."""


def crashing_at(step: int) -> Callable[[str], None]:
    taken = iter(range(1000))

    def before(_: str) -> None:
        if next(taken) == step:
            raise Crash

    return before


def crashes(config: Path) -> Iterator[int]:
    """Replaces version 1 by 2 and crashes at each step in turn, until one goes through."""
    for step in range(1000):
        shutil.rmtree(config, ignore_errors=True)
        ModelFolder(config, "m").write(1, texts("old\n"), "pull-1")
        try:
            ModelFolder(config, "m", crashing_at(step)).write(2, texts("new\n"), "pull-2")
        except Crash:
            yield step
        else:
            return


def test_a_crash_at_any_step_is_mended_by_the_next_pull(tmp_path: Path) -> None:
    seen = 0
    for seen, _ in enumerate(crashes(tmp_path), start=1):
        folder = ModelFolder(tmp_path, "m")
        state = folder.read()
        assert state.files["research"] in (b"old\n", b"new\n"), "never torn"
        assert state.marker is not None and state.marker["version"] in (1, 2)
        folder.write(3, texts("newest\n"), "pull-3")
        assert folder.read().files["research"] == b"newest\n"
        kept = [path.read_text() for path in (tmp_path / "m").glob("backup_*/research.md")]
        assert "old\n" in kept, "what was there before is in a backup"
        assert not list((tmp_path / "m").glob(".mathesis-tmp-*"))
    assert seen > 8


def test_an_edit_in_the_last_moment_is_not_overwritten(tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path, "m")
    folder.write(1, texts("old\n"), "pull-1")
    path = tmp_path / "m/research.md"

    def edits(step: str) -> None:
        if step == "look again at and replace research.md":
            path.write_text("mine\n")

    with pytest.raises(HandEdited):
        ModelFolder(tmp_path, "m", edits).write(2, texts("new\n"), "pull-2")
    assert path.read_text() == "mine\n"
    with pytest.raises(HandEdited):
        folder.write(2, texts("new\n"), "pull-2")


def test_a_backups_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    from datetime import datetime, timezone

    at = datetime(2026, 11, 26, 1, 2, 3, tzinfo=timezone.utc)
    folder = ModelFolder(tmp_path, "m")
    names = []
    for version in (1, 2, 3):
        backup = folder.write(version, texts(f"{version}\n"), f"pull-{version}", at)
        names.append(backup.name if backup else None)
    assert names == [None, "backup_20261126_010203", "backup_20261126_010203_2"]


def test_what_could_lead_elsewhere_or_is_no_text_is_refused(tmp_path: Path) -> None:
    for name in ("", "..", ".hidden", "a/b", "a\0b"):
        with pytest.raises(FolderError):
            ModelFolder(tmp_path, name)
    outside = tmp_path / "outside"
    outside.mkdir()
    config = tmp_path / "config"
    config.mkdir()
    (config / "m").symlink_to(outside)
    with pytest.raises(FolderError, match="leads out"):
        ModelFolder(config, "m")
    (config / "n").mkdir()
    (config / "n/research.md").write_bytes(b"\xff")
    with pytest.raises(FolderError, match="not UTF-8"):
        ModelFolder(config, "n").read()
    (config / "n/research.md").write_text("fine")
    (config / "n/.mathesis.json").write_text("{")
    with pytest.raises(FolderError, match="cannot be read"):
        ModelFolder(config, "n").read()


def test_one_model_that_cannot_be_brought_in_step_keeps_no_other_from_it(server: Server, tmp_path: Path) -> None:
    (tmp_path / NANO).write_text("a file where the folder should be")
    puller = Puller(Settings(url=server.url, key=KEY), tmp_path)
    said = puller.round()
    assert said[NANO][0] is False and "is not a folder" in said[NANO][1]
    assert said[WAN] == (True, "version 1 written")
