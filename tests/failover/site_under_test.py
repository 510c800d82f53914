"""Two processes of Mathesis on one replicated database, a Claude that plays along, and the clients."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from cluster import Cluster, free_ports, until

MODELS = ("wan-2.5-edit", "nano-banana")
WORKFLOW = "image-editing"
LATER = {"testing": ("testing", "deciding", "applying", "applied")}
#: What the Claude that plays along knows a remedy for.
COMPLAINT = "parts of the product were redrawn"


class Site:
    """Serving processes, and the calls of a pipeline that must go on whatever happens."""

    TRIGGER = 12

    def __init__(
        self, cluster: Cluster, binary: Path, through: str, replicas: int, claude_seconds: float = 1.5
    ) -> None:
        self.cluster = cluster
        self.claude_seconds = claude_seconds
        self.binary = binary
        self.url = cluster.url(through)
        self.folder = Path(tempfile.mkdtemp(prefix="mathesis-site-", dir="/tmp"))
        self.ports = free_ports(replicas)
        self.stand_ins: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}
        #: Further variables of the serving processes.
        self.more_environment: dict[str, str] = {}
        #: The serving processes by the port that each listens on.
        self.serving: dict[int, subprocess.Popen[bytes]] = {}
        self.ingest = Ingest(self)
        self.next_task = 0
        self._write_workflow()

    def change(self, changes: dict[str, str]) -> None:
        """Changes the workflow before the processes are started; each old text must be in it."""
        definition = self.folder / "workflows" / WORKFLOW / "workflow.toml"
        text = definition.read_text()
        for old, new in changes.items():
            assert old in text, old
            text = text.replace(old, new)
        definition.write_text(text)

    def start(self) -> None:
        claude = free_ports(1)[0]
        script = self.folder / "slow.json"
        # Only what is paid for: the call that counts tokens before it would be waited for as long.
        paid_call = {"service": "claude", "path": "/v1/messages"}
        slow = {"match": paid_call, "times": 1_000, "fault": {"slow_ms": int(self.claude_seconds * 1000)}}
        script.write_text(json.dumps([slow]))
        self.stand_ins = self._run(
            "stand-ins", "stand-ins", "--port-base", str(claude), "--script", str(script)
        )
        self.environment = {
            "DATABASE_URL": self.url,
            "MATHESIS_WORKFLOWS": str(self.folder / "workflows"),
            "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{claude}",
            "ANTHROPIC_API_KEY": "sk-ant-key-of-the-stand-in",
            "MATHESIS_CONNECTIONS_MAX": "8",
            **self.more_environment,
        }
        for port in self.ports:
            self.start_process(port)

    def start_process(self, port: int) -> None:
        """Starts the process of a port, for the first time or again, and waits until it is ready."""
        self.serving[port] = self._run(f"serve-{port}", "serve", "--port", str(port))
        until("the server is ready", lambda: answers(f"http://127.0.0.1:{port}/readyz"))

    def port_of_session(self, client_port: int) -> int:
        """Which process holds a session with the database, told by that session's port."""
        sockets = {
            line.split()[9]
            for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
            if int(line.split()[1].split(":")[1], 16) == client_port
        }
        for port, process in self.serving.items():
            for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
                if descriptor.is_symlink() and str(descriptor.readlink())[8:-1] in sockets:
                    return port
        raise LookupError(f"no process has the session with port {client_port}")

    def complete_tasks(self, name: str = "task") -> None:
        """As many completed tasks as open an analysis."""
        for number in range(self.TRIGGER):
            task = f"{name}-{number}"
            self.log(
                [
                    {"type": "task_started", "task_id": task, "original_prompt": "Άλλαξε το φόντο σε λευκό"},
                    *(event for model in MODELS for event in attempt(task, model, None, 5)),
                    {"type": "completed", "task_id": task, "processing_time_ms": 21_000},
                ]
            )

    def play_test(self, slots: int) -> None:
        """Fills that many more slots of every model's deck; the candidate is better."""
        for model in MODELS:
            filled = 0
            while filled < slots:
                self.next_task += 1
                task = f"test-{self.next_task}"
                told = self.persist("PUT", f"/tasks/{task}/assignments/{model}")
                if told["arm"] is None:
                    time.sleep(0.02)
                    continue
                score = 9 if told["arm"] == "candidate" else 7
                self.log(
                    [
                        {"type": "task_started", "task_id": task, "original_prompt": "Άλλαξε το φόντο"},
                        *attempt(task, model, told["version"], score),
                        {"type": "completed", "task_id": task, "processing_time_ms": 21_000},
                    ]
                )
                filled += 1

    def log(self, events: list[dict[str, Any]]) -> None:
        answer = self.persist("POST", "/events", events)
        assert answer["rejected"] == [], answer

    def until_state(self, state: str, or_later: bool = False) -> None:
        wanted = LATER[state] if or_later else (state,)

        def reached() -> bool:
            answer = self.call("GET", "/cycles/1")
            return answer is not None and answer["state"] in wanted

        until(f"the cycle is {state}", reached)

    def persist(self, method: str, path: str, body: object = None) -> Any:
        """Calls until it is answered, as the clients do."""
        return until(f"{method} {path} is answered", lambda: self.call(method, path, body))

    def call(self, method: str, path: str, body: object = None, process: int | None = None) -> Any:
        """One call to one of the processes; None when it was not acknowledged."""
        port = self.ports[int(time.monotonic() * 10) % len(self.ports) if process is None else process]
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/workflows/{WORKFLOW}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refusal:
            if refusal.code < 500:
                raise AssertionError(f"{method} {path}: {refusal.read().decode()}") from refusal
            return None
        except (urllib.error.URLError, OSError):
            return None

    def logs(self) -> str:
        ends = [(path.name, path.read_text().splitlines()[-15:]) for path in sorted(self.folder.glob("*.log"))]
        return "\n".join(f"== {name}\n" + "\n".join(lines) for name, lines in ends)

    def close(self) -> None:
        self.ingest.stop()
        for process in (*self.serving.values(), self.stand_ins):
            if process is not None:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, log_name: str, *command: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{log_name}.log").open("ab")
        whole = [str(self.binary), *command]
        return subprocess.Popen(whole, cwd=self.folder, env=self.environment, stdout=log, stderr=log)

    def _write_workflow(self) -> None:
        shipped = Path(__file__).parents[2] / "workflows" / WORKFLOW
        own = self.folder / "workflows" / WORKFLOW
        shutil.copytree(shipped, own)
        self.change(
            {
                "\ntasks = 50\n": f"\ntasks = {self.TRIGGER}\n",
                '\nmode = "probation"\n': '\nmode = "off"\n',
                '\nbudget_usd_per_month = "15.00"\n': '\nbudget_usd_per_month = "100000"\n',
            }
        )
        for model in MODELS:
            folder = self.folder / "config" / "deep_research" / model
            folder.mkdir(parents=True)
            (folder / "activation.txt").write_text(f"You enhance prompts for {model}.\n")
            (folder / "research.md").write_text(f"# {model}\n\n## What works\nShort prompts.\n")


class Ingest:
    """Sends one event after the other, each until it is acknowledged, and remembers when that was."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.acknowledged: list[str] = []
        self.times: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def acknowledged_lately(self) -> bool:
        return bool(self.times) and time.monotonic() - self.times[-1] < 0.5

    def longest_silence(self) -> float:
        return max(later - earlier for earlier, later in zip(self.times, self.times[1:]))

    def _send(self) -> None:
        number = 0
        while not self._stop.is_set():
            task = f"flow-{number}"
            event = {"type": "task_started", "task_id": task, "original_prompt": "Κάνε τον ουρανό ηλιοβασίλεμα"}
            if self.site.call("POST", "/events", [event], process=number % len(self.site.ports)) is None:
                time.sleep(0.05)
                continue
            self.times.append(time.monotonic())
            self.acknowledged.append(task)
            number += 1


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


def attempt(task: str, model: str, version: int | None, score: int) -> list[dict[str, Any]]:
    named = {"task_id": task, "model": model}
    enhancement = {"original_prompt": "Άλλαξε το φόντο", "enhanced_prompt": "Replace the background.", "latency_ms": 2300}
    if version is not None:
        enhancement["version"] = version
    return [
        {"type": "enhancement", **named, **enhancement},
        {
            "type": "generation",
            **named,
            "image_url": f"https://images.example/{task}.png",
            "generation_time_ms": 12_500,
        },
        {
            "type": "validation",
            **named,
            "score": score,
            "passed": score >= 8,
            "issues": [] if score >= 8 else [COMPLAINT],
            "reasoning": "as the picture shows",
        },
    ]
