"""The real server in a folder of its own, to be killed at will, and a Claude that answers it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psycopg

REPOSITORY = Path(__file__).resolve().parents[3]
BINARY = Path(os.environ.get("MATHESIS_BINARY") or REPOSITORY / "target/debug/mathesis").resolve()
KEY = "the-key-of-the-python-tests"
WORKFLOW = "image-editing"
WAN, NANO = "wan-2.5-edit", "nano-banana"
PATIENCE_SECONDS = 60.0


def until(what: str, condition: Callable[[], Any]) -> Any:
    """Awaits a condition of another thread or process, which can only be asked for again and again."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        met = condition()
        if met:
            return met
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Server:
    """``mathesis serve`` with a private PostgreSQL, two models, and analyses after three tasks."""

    def __init__(self, folder: Path, claude: Claude, guard: str = "probation") -> None:
        self.folder = folder
        self.guard = guard
        self.claude = claude
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._write_site()

    def _write_site(self) -> None:
        shipped = REPOSITORY / "workflows" / WORKFLOW
        workflow = self.folder / "workflows" / WORKFLOW
        shutil.copytree(shipped, workflow, ignore=shutil.ignore_patterns("starter"))
        text = (workflow / "workflow.toml").read_text()
        (workflow / "workflow.toml").write_text(text.replace("\ntasks = 50\n", "\ntasks = 3\n").replace('\nmode = "probation"\n', f'\nmode = "{self.guard}"\n'))
        for model in (WAN, NANO):
            config = self.config / model
            config.mkdir(parents=True)
            (config / "activation.txt").write_text("You enhance prompts. Ελληνικά.\n")
            (config / "research.md").write_text("# Research\n\n## Works\nShort.\n")

    @property
    def config(self) -> Path:
        return self.folder / "config/deep_research"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.folder),
            "MATHESIS_HOME": str(self.home),
            "MATHESIS_BOOTSTRAP_KEY": KEY,
            "ANTHROPIC_API_KEY": "sk-test",
            "ANTHROPIC_BASE_URL": self.claude.url,
            "MATHESIS_CONNECTIONS_MAX": "8",
            # The fuzz calls as fast as it can, with wrong keys too.
            "MATHESIS_CALLS_PER_SECOND": "1000000",
            "MATHESIS_FAILED_KEYS_PER_MINUTE": "1000000",
        }

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(BINARY), "serve", "--port", str(self.port)],
                cwd=self.folder,
                env=self._environment(),
                stdout=log,
                stderr=log,
            )
        until("the server is ready", self._is_ready)

    def _is_ready(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self.log()
        try:
            return httpx.get(f"{self.url}/readyz", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def log(self) -> str:
        return (self.folder / "server.log").read_text()

    def command(self, *arguments: str) -> str:
        """What a command of the real binary says, beside the running server."""
        done = subprocess.run(
            [str(BINARY), *arguments], cwd=self.folder, env=self._environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def tasks(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Every run that the server has, by task and run, as ``mathesis export`` tells them."""
        told = [json.loads(line) for line in self.command("export").splitlines()]
        return {(task["task_id"], task["run_id"]): task for task in told}

    def the_task(self, task_id: str) -> dict[str, Any]:
        """The only run of a task."""
        found = [task for (one, _), task in self.tasks().items() if one == task_id]
        assert len(found) == 1, f"{task_id}: {len(found)} runs"
        return found[0]

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """What the database itself says."""
        lines = (self.home / "postgres/data/postmaster.pid").read_text().splitlines()
        place = f"host={lines[4].strip()} port={lines[3].strip()} dbname=mathesis user=mathesis"
        with psycopg.connect(place) as database:
            return database.execute(statement).fetchall()  # type: ignore[arg-type]

    def count_events(self) -> int:
        return int(self.query("SELECT count(*) FROM task_events")[0][0])

    def call(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {KEY}"}
        return httpx.request(
            method, f"{self.url}/v1/workflows/{WORKFLOW}{path}", headers=headers, trust_env=False, **arguments
        )

    def open_test(self) -> None:
        """Completes three tasks, so that both models are tested with a candidate of Claude's."""
        events: list[dict[str, Any]] = []
        for n in range(3):
            task = {"task_id": f"seed-{n}"}
            events.append({"type": "task_started", "original_prompt": "p", **task})
            for model in (WAN, NANO):
                attempt = {"model": model, **task}
                events.append({"type": "enhancement", "original_prompt": "p", "enhanced_prompt": "e", **attempt})
                events.append({"type": "validation", "score": 6, "passed": False, **attempt})
            events.append({"type": "winner", "winner": None, "total_iterations": 1, **task})
            events.append({"type": "completed", **task})
        assert self.call("POST", "/events", json=events).json()["rejected"] == []
        until("the test is open", lambda: self.call("GET", "/cycle").json()["state"] == "testing")
        for model in (WAN, NANO):
            until("it is known", lambda: self.call("GET", f"/models/{model}").json()["testing"])


class Claude:
    """Answers an analysis with one pattern and a generation with one more line. Only what the server needs
    to reach a test; how Claude fails is tested on the other side."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _ClaudeHandler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _ClaudeHandler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        asked = request["output_config"]["format"]["schema"]["properties"]
        text = json.dumps(_ANALYSIS if "patterns" in asked else _EDIT)
        body = json.dumps(
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": request["model"],
                "content": [{"type": "text", "text": text}],
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "usage": {"input_tokens": 10, "output_tokens": 10},
            }
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


_ANALYSIS = {
    "summary": "Logos are lost.",
    "patterns": [
        {
            "insight_type": "failure_mode",
            # An edit may rest on no other model's insight, and both models are told to make the same one.
            "model": "all",
            "description": "Logos change.",
            "confidence": 0.8,
            "evidence_task_ids": ["seed-1"],
            "suggested_change": "Say that logos stay.",
        }
    ],
    "model_insights": [],
    "recommendations": [{"model": "all", "text": "Name what must stay."}],
}
_EDIT = {
    "summary": "adds a line",
    "edits": [
        {
            "document": "research",
            "operation": "append",
            "section": "",
            "text": "\nName what must stay unchanged.\n",
            "because": ["1"],
        }
    ],
}
