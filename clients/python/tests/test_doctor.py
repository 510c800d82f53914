"""``python -m mathesis doctor``: what is wrong, and what to do about it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from mathesis import Client, blocking

from server import BINARY, KEY, NANO, Server

Connected = Callable[..., Client]


def doctor(server: Server, tmp_path: Path, **environment: str) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit code, and the findings by what was checked."""
    given = {"MATHESIS_URL": server.url, "MATHESIS_KEY": KEY, "MATHESIS_SPOOL": str(tmp_path / "spool")}
    done = subprocess.run(
        [sys.executable, "-m", "mathesis", "doctor", "--json"],
        env={**os.environ, **given, **environment},
        cwd=server.folder,
        capture_output=True,
        text=True,
    )
    assert done.stdout, done.stderr
    return done.returncode, {one["check"]: one for one in json.loads(done.stdout)}


def test_all_is_well_after_a_run(server: Server, connected: Connected, tmp_path: Path) -> None:
    client = connected(server)
    blocking.Prompts(client).for_task("86a", NANO)
    blocking.TaskLogger(client).log_complete("86a")
    assert client.flush(30)
    client.book.refresh(NANO)
    code, findings = doctor(server, tmp_path)
    assert code == 0 and {one["health"] for one in findings.values()} == {"good"}
    assert "version 1" in findings[f"copy of {NANO}"]["said"]
    assert NANO in findings["files to fall back on"]["said"]


def test_what_was_refused_is_shown_by_both_doctors(server: Server, connected: Connected, tmp_path: Path) -> None:
    client = connected(server)
    blocking.TaskLogger(client).log_validation("86a", NANO, 7.5, True)
    assert client.flush(30)
    code, findings = doctor(server, tmp_path)
    assert (code, findings["refused events"]["health"]) == (1, "bad")
    assert "1 (invalid_score)" in findings["refused events"]["said"]
    environment = {**server._environment(), "MATHESIS_SPOOL": str(tmp_path / "spool")}
    rust = subprocess.run(
        [str(BINARY), "doctor", "--json"], cwd=server.folder, env=environment, capture_output=True, text=True
    )
    assert rust.returncode == 1
    [finding] = [one for one in json.loads(rust.stdout) if one["check"] == "spool of image-editing"]
    assert finding["health"] == "bad" and "invalid_score" in finding["said"]


def test_a_service_that_is_away_and_a_key_that_is_wrong_are_told_apart(
    server: Server, connected: Connected, tmp_path: Path
) -> None:
    code, findings = doctor(server, tmp_path, MATHESIS_KEY="mth_ingest_" + "0" * 64)
    assert (code, findings["service"]["health"]) == (1, "good")
    assert "key_unknown" in findings["workflow image-editing"]["said"]
    server.kill()
    client = connected(server)
    blocking.TaskLogger(client).log_complete("86a")
    client.write()
    code, findings = doctor(server, tmp_path)
    assert (code, findings["service"]["health"]) == (1, "bad")
    assert findings["spool"]["health"] == "note" and "bytes wait" in findings["spool"]["said"]
