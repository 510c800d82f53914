"""What was logged arrives, once, whoever is killed meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mathesis import Client, TaskLogger, blocking
from mathesis.dead_letters import read as dead_letters

from server import NANO, WAN, Server, until

Connected = Callable[..., Client]


async def log_run(logger: TaskLogger, task: str) -> int:
    """A whole run with two models; how many events that is."""
    await logger.log_task_start(task, "Κάνε τον ουρανό ηλιοβασίλεμα 🌅")
    for model in (WAN, NANO):
        await logger.log_enhancement(task, model, "ο ουρανός", f"the sky of {task}", latency_ms=2300)
        await logger.log_generation(task, model, f"https://cdn/{task}.png", generation_time_ms=12500)
        await logger.log_validation(task, model, score=9, passed=True, issues=[], reasoning="ωραίο")
    await logger.log_error(task, "a warning of its own", model=WAN, stage="upload", fault="infrastructure")
    await logger.log_winner(task, WAN, 9, 1)
    await logger.log_complete(task, 61_000)
    await logger.log_feedback(task, True, "κράτησέ το")
    return 11


def test_a_server_killed_mid_stream_gets_every_event_exactly_once(server: Server, connected: Connected) -> None:
    client = connected(server)
    logger = TaskLogger(client)

    async def stream() -> int:
        logged = 0
        for n in range(300):
            logged += await log_run(logger, f"task-{n}")
            if n == 100:
                until("some have arrived", lambda: server.count_events() > 0)
                server.kill()
            if n % 20 == 0:
                await asyncio.sleep(0)
        return logged

    logged = asyncio.run(stream())
    assert not client.is_delivered(), "the server is gone"
    server.start()
    assert client.flush(60)
    assert server.count_events() == logged == 3300
    tasks = server.tasks()
    assert len(tasks) == 300
    task = next(task for (name, _), task in tasks.items() if name == "task-250")
    assert task["original_prompt"] == "Κάνε τον ουρανό ηλιοβασίλεμα 🌅"
    assert (task["winner_model"], task["feedback_comment"]) == (WAN, "κράτησέ το")
    assert [one["validation_score"] for one in task["attempts"]] == [9, 9]
    assert not list(dead_letters(client.folder))


def test_deliveries_that_were_taken_but_never_answered_count_once(server: Server, connected: Connected) -> None:
    client = connected(server)
    asyncio.run(log_run(TaskLogger(client), "task-1"))
    client.write()
    kept = {path.name: path.read_bytes() for path in client.folder.glob("segment-*")}
    assert client.flush(30)
    assert server.count_events() == 11
    client.close()
    # As a process leaves it that was killed between the service's commit and its own note of it.
    for name, data in kept.items():
        (client.folder / name).write_bytes(data)
    again = connected(server)
    again.start()
    until("they were sent again", lambda: not list(client.folder.glob("segment-*")))
    assert server.count_events() == 11
    assert not list(dead_letters(client.folder))


PIPELINE = """
import os, signal, sys
from mathesis import Settings, blocking
settings = Settings(url=sys.argv[1], key=sys.argv[2], spool=sys.argv[3], write_delay_seconds=0.001)
logger = blocking.TaskLogger(settings)
for n in range(200):
    logger.log_task_start(f"task-{n}", "p")
    logger.log_complete(f"task-{n}")
while not logger.client.spool.waiting or logger.client._queue or logger.client._writing:
    pass
print("spooled", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def run_pipeline(server: Server, spool: Path, script: str = PIPELINE) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-c", script, server.url, "the-key-of-the-python-tests", str(spool)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60)


def test_what_a_killed_pipeline_had_spooled_is_delivered_by_the_next(
    server: Server, connected: Connected, tmp_path: Path
) -> None:
    server.kill()
    done = run_pipeline(server, tmp_path / "spool")
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "spooled\n"), done.stderr
    server.start()
    client = connected(server)
    client.start()
    until("the orphans were taken over", lambda: not list(client.folder.glob("segment-*")))
    assert server.count_events() == 400
    assert len(server.tasks()) == 200
    assert len(list(client.folder.glob("process-*.lock"))) == 1, "only the lock of the living is left"


def test_a_torn_last_line_costs_that_event_and_no_other(
    server: Server, connected: Connected, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "spool/image-editing"
    folder.mkdir(parents=True)
    whole = json.dumps({"type": "completed", "task_id": "whole"})
    (folder / "segment-00000000000000000001-1-aaaaaa-000001.ndjson").write_text(f'{whole}\n{{"type": "compl')
    # A write that ended with its line, but before the line end.
    (folder / "segment-00000000000000000002-1-bbbbbb-000001.ndjson").write_text(
        json.dumps({"type": "completed", "task_id": "last"})
    )
    client = connected(server)
    client.start()
    until("both were delivered", lambda: not list(folder.glob("segment-*")))
    assert sorted(task for task, _ in server.tasks()) == ["last", "whole"]
    assert "half written" in caplog.text


def test_processes_that_share_a_folder_keep_out_of_each_others_segments(
    server: Server, connected: Connected, tmp_path: Path
) -> None:
    server.kill()
    one, other = connected(server), connected(server)
    blocking.TaskLogger(one).log_complete("a")
    blocking.TaskLogger(other).log_complete("b")
    one.write()
    other.write()
    assert one.spool.adopt() == other.spool.adopt() == 0, "both live"
    assert len(list(one.folder.glob("segment-*.ndjson"))) == 2
    one.close()
    assert other.spool.adopt() == 1, "its owner let go"
    server.start()
    until("both arrived", lambda: len(server.tasks()) == 2)


def test_a_child_of_a_fork_logs_for_itself(server: Server, connected: Connected) -> None:
    client = connected(server)
    logger = blocking.TaskLogger(client)
    logger.log_complete("parent-1")
    child = os.fork()
    if child == 0:
        logger.log_complete("child")
        os._exit(0 if client.flush(30) else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0
    logger.log_complete("parent-2")
    assert client.flush(30)
    assert sorted(task for task, _ in server.tasks()) == ["child", "parent-1", "parent-2"]


FORKING = """
import os, signal, sys
from mathesis import Settings, blocking
logger = blocking.TaskLogger(Settings(url=sys.argv[1], key=sys.argv[2], spool=sys.argv[3]))
logger.log_complete("parent")
while not logger.client.spool.waiting:
    pass
if os.fork() == 0:
    os.close(1)
    sys.stdin.read()
    os._exit(0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_parent_left_is_delivered_though_its_child_lives_on(
    server: Server, connected: Connected, tmp_path: Path
) -> None:
    server.kill()
    arguments = [sys.executable, "-c", FORKING, server.url, "the-key-of-the-python-tests", str(tmp_path / "spool")]
    parent = subprocess.Popen(arguments, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert parent.wait(60) == -signal.SIGKILL
    server.start()
    client = connected(server)
    client.start()
    until("it arrived", lambda: ("parent", "") in server.tasks())
    assert parent.stdin is not None
    parent.stdin.close()


def test_the_end_of_a_process_waits_for_the_last_delivery(server: Server, tmp_path: Path) -> None:
    script = """
import sys
from mathesis import Settings, blocking
logger = blocking.TaskLogger(Settings(url=sys.argv[1], key=sys.argv[2], spool=sys.argv[3], exit_seconds=30))
logger.log_complete("last")
"""
    done = run_pipeline(server, tmp_path / "spool", script)
    assert done.returncode == 0, done.stderr
    assert list(server.tasks()) == [("last", "")]
    assert not list((tmp_path / "spool/image-editing").glob("segment-*"))


def test_a_full_spool_keeps_the_oldest_and_says_so(
    server: Server, connected: Connected, caplog: pytest.LogCaptureFixture
) -> None:
    server.kill()
    client = connected(server, spool_bytes_max=1024 * 1024)
    logger = blocking.TaskLogger(client)
    for n in range(40):
        logger.log_enhancement(f"task-{n:02}", WAN, "p", "x" * 50_000)
        client.write()
    assert client.spool.waiting <= 1024 * 1024
    assert caplog.text.count("is full") == 1
    server.start()
    assert client.flush(30)
    arrived = sorted(task for task, _ in server.tasks())
    assert arrived == [f"task-{n:02}" for n in range(len(arrived))] and 15 < len(arrived) < 25
    logger.log_complete("after")
    assert client.flush(30)
    assert ("after", "") in server.tasks()
    assert f"{40 - len(arrived)} events were dropped" in caplog.text
    codes = {letter.code for letter in dead_letters(client.folder)}
    assert codes == {"spool_full"}, "the doctor shows it"


def test_a_spool_that_cannot_be_written_delivers_from_memory(
    server: Server, connected: Connected, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "spool").write_text("a file where the folder should be")
    client = connected(server)
    blocking.TaskLogger(client).log_complete("task-1")
    assert client.flush(30)
    assert list(server.tasks()) == [("task-1", "")]
    assert "cannot be written" in caplog.text
