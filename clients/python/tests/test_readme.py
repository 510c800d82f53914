"""The README's ten lines are a file, and the file runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from server import KEY, NANO, REPOSITORY, WAN, Server

EXAMPLE = REPOSITORY / "clients/python/examples/ten_lines.py"


def test_the_readme_shows_the_ten_lines_that_run() -> None:
    text = EXAMPLE.read_text()
    lines = text.split("# README: from here\n")[1].split("# README: to here")[0].strip()
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    assert lines in [block.strip() for block in blocks], "README.md shows something else than ten_lines.py"
    assert re.findall(r"# (\d+)$", lines, re.MULTILINE) == [str(n) for n in range(1, 11)]


def test_the_ten_lines_run_against_the_real_server(server: Server, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "MATHESIS_URL": server.url,
        "MATHESIS_KEY": KEY,
        "MATHESIS_SPOOL": str(tmp_path / "spool"),
    }
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "nothing to warn of"
    task = server.the_task("86abc")
    assert task["original_prompt"] == "Κάνε τον ουρανό ηλιοβασίλεμα"
    assert (task["winner_score"], task["total_iterations"], task["ended_by"]) == (9, 1, "completed")
    by_model = {one["model"]: one for one in task["attempts"]}
    assert set(by_model) == {WAN, NANO}
    for attempt in by_model.values():
        assert (attempt["prompt_version"], attempt["validation_score"]) == (1, 9)
        length = len("You enhance prompts. Ελληνικά.\n\n\n# Research\n\n## Works\nShort.\n")
        assert f"(as {length} characters say)" in attempt["enhanced_prompt"], "with the documents of version 1"
