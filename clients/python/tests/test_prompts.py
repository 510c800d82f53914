"""Which documents a task gets, from whoever can tell: the service, a copy, the last known, the files."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mathesis import Client, NoPromptError, Prompt, Prompts, TaskLogger, blocking

from server import KEY, NANO, WAN, Server, until

Connected = Callable[..., Client]

ACTIVATION = "You enhance prompts. Ελληνικά.\n"
RESEARCH = "# Research\n\n## Works\nShort.\n"
CANDIDATE = f"{RESEARCH}\nName what must stay unchanged.\n"


def told(client: Client, task: str, model: str = NANO, run: str | None = None) -> Prompt:
    return blocking.Prompts(client).for_task(task, model, run)


def a_copy(server: Server, connected: Connected, **given: float) -> Client:
    """A client that has heard how the model stands."""
    client = connected(server, **given)
    told(client, "first")
    until("a copy is kept", lambda: client.book.standing(NANO))
    return client


def assignments(server: Server) -> int:
    """How many runs were told a version by the service, pins of its memory included once written."""
    return int(server.query("SELECT count(*) FROM assignments")[0][0])


def test_the_first_task_is_told_by_the_service_and_the_next_by_the_copy(server: Server, connected: Connected) -> None:
    client = connected(server)
    first = told(client, "86a")
    assert (first.version, first.arm, first.source) == (1, None, "service")
    assert (first.activation, first.research) == (ACTIVATION, RESEARCH)
    assert "{{" in first.template and first.system == f"{ACTIVATION}\n\n{RESEARCH}"
    until("a copy is kept", lambda: client.book.standing(NANO))
    server.kill()
    second = told(client, "86b")
    assert (second.version, second.content_hash, second.source) == (1, first.content_hash, "copy")


def test_a_version_is_sent_with_the_enhancement_it_was_asked_for(server: Server, connected: Connected) -> None:
    client = connected(server)

    async def run() -> None:
        logger = TaskLogger(client)
        await logger.log_task_start("86v", "p")
        await Prompts(client).for_task("86v", NANO)
        await logger.log_enhancement("86v", NANO, "p", "with version 1")
        await logger.log_enhancement("86v", WAN, "p", "nobody asked which version")

    asyncio.run(run())
    assert client.flush(30)
    versions = {one["model"]: one["prompt_version"] for one in server.the_task("86v")["attempts"]}
    assert versions == {NANO: 1, WAN: None}


def roll_back(server: Server, version: int) -> None:
    server.command("version", "rollback", WAN, str(version))
    until("it is done", lambda: server.call("GET", f"/models/{WAN}").json()["active_version"] == version)


def test_a_new_version_reaches_the_copy_and_a_run_keeps_its_own(server: Server, connected: Connected) -> None:
    server.open_test()
    server.command("automation", "off")
    roll_back(server, 2)
    client = connected(server, fresh_seconds=0.1)
    assert told(client, "86a", WAN).version == 2
    until("a copy is kept", lambda: client.book.standing(WAN))
    roll_back(server, 1)
    until("the copy has the new one", lambda: client.book._standing(WAN)[0].active_version == 1)
    new = told(client, "86b", WAN)
    assert (new.version, new.source, new.research) == (1, "copy", RESEARCH)
    kept = told(client, "86a", WAN)
    assert (kept.version, kept.research) == (2, CANDIDATE), "whatever happens meanwhile"


def test_during_a_test_every_run_is_dealt_its_version_and_counts(server: Server, connected: Connected) -> None:
    server.open_test()
    client = connected(server)
    prompts = [told(client, f"86-{n}") for n in range(8)]
    assert {prompt.source for prompt in prompts} == {"service"}
    assert sorted(prompt.arm or "" for prompt in prompts) == ["candidate"] * 4 + ["control"] * 4
    for prompt in prompts:
        assert prompt.version == (2 if prompt.arm == "candidate" else 1)
        assert prompt.research == (CANDIDATE if prompt.arm == "candidate" else RESEARCH)
    logger = blocking.TaskLogger(client)
    for prompt in prompts:
        logger.log_enhancement(prompt.task_id, NANO, "p", "e")
        logger.log_validation(prompt.task_id, NANO, 9, True)
    assert client.flush(30)

    def scored() -> bool:
        [model] = [one for one in server.call("GET", "/cycle").json()["models"] if one["model"] == NANO]
        return bool(model["scored"] == {"control": 4, "candidate": 4})

    until("the scores count", scored)


def test_a_task_in_a_test_keeps_its_arm_with_the_service_dead_and_the_pipeline_restarted(
    server: Server, connected: Connected
) -> None:
    server.open_test()
    client = connected(server)
    logger = blocking.TaskLogger(client)
    prompts = {}
    for n in range(4):
        logger.log_task_start(f"86-{n}", "p")
        prompts[f"86-{n}"] = told(client, f"86-{n}")
    until("it is noted", lambda: client.is_delivered())
    server.kill()
    for task, prompt in prompts.items():
        assert told(client, task) == prompt
    client.close()
    restarted = connected(server)
    for task, prompt in prompts.items():
        # Begun again by the orchestrator, or gone on with: the same run, and so the same arm.
        if task != "86-0":
            blocking.TaskLogger(restarted).log_task_start(task, "p")
        again = told(restarted, task)
        assert (again.version, again.arm, again.research) == (prompt.version, prompt.arm, prompt.research)
    new = told(restarted, "86-new")
    assert (new.version, new.arm, new.source) == (1, None, "last_known"), "a new task gets the old version"
    server.start()
    assert restarted.flush(30)
    assert len([task for task in server.tasks() if task[0].startswith("86-")]) == 4, "no second run"


def test_a_killed_process_keeps_its_runs_arm_too(server: Server, connected: Connected, tmp_path: Path) -> None:
    server.open_test()
    script = """
import os, signal, sys
from mathesis import Settings, blocking
settings = Settings(url=sys.argv[1], key=sys.argv[2], spool=sys.argv[3], write_delay_seconds=0.001)
for n in range(4):
    prompt = blocking.Prompts(settings).for_task(f"86-{n}", "nano-banana", run_id="1")
    print(prompt.version, prompt.arm, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, server.url, KEY, str(tmp_path / "spool")], capture_output=True, text=True
    )
    server.kill()
    client = connected(server)
    again = [told(client, f"86-{n}", run="1") for n in range(4)]
    assert "".join(f"{one.version} {one.arm}\n" for one in again) == done.stdout
    assert {one.arm for one in again} == {"control", "candidate"}


UNDELIVERED = """
import os, signal, sys
from mathesis import Settings, blocking
settings = Settings(url=sys.argv[1], key=sys.argv[2], spool=sys.argv[3], write_delay_seconds=0.001)
logger = blocking.TaskLogger(settings)
for n in range(4):
    logger.log_task_start(f"86-{n}", "p")
    prompt = blocking.Prompts(settings).for_task(f"86-{n}", "nano-banana")
    print(prompt.version, prompt.arm, flush=True)
assert logger.flush(30)
print("the service may die now", flush=True)
sys.stdin.readline()
logger.log_complete("other")
while not logger.client.spool.waiting:
    pass
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_is_taken_up_again_while_what_its_killed_process_left_still_waits(
    server: Server, connected: Connected, tmp_path: Path
) -> None:
    server.open_test()
    arguments = [sys.executable, "-c", UNDELIVERED, server.url, KEY, str(tmp_path / "spool")]
    killed = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert killed.stdin is not None and killed.stdout is not None
    said = [killed.stdout.readline() for _ in range(5)][:4]
    server.kill()
    killed.communicate("\n")
    client = connected(server)
    client.start()
    until("its events were taken over", lambda: client.spool.waiting)
    again = []
    for n in range(4):
        blocking.TaskLogger(client).log_task_start(f"86-{n}", "p")
        again.append(told(client, f"86-{n}"))
    assert [f"{one.version} {one.arm}\n" for one in again] == said
    server.start()
    assert client.flush(30)
    assert len([task for task in server.tasks() if task[0].startswith("86-")]) == 4, "no second run"


def test_processes_that_begin_at_once_share_one_memory(connected: Connected, tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from mathesis.state import Pin, State
from mathesis.warnings import Warnings
sys.stdin.readline()
state = State(Path(sys.argv[1]), Warnings())
print(state.keep_pin("task", "run", "model", Pin(int(sys.argv[2]), None, None, "hash", "service")).version)
"""
    arguments = [sys.executable, "-c", script, str(tmp_path / "spool")]
    processes = [
        subprocess.Popen([*arguments, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for n in range(6)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = {process.communicate(timeout=60)[0] for process in processes}
    assert len(said) == 1, "all were told what the first one was told"


def test_an_older_copy_answers_at_once_and_is_refreshed_behind(server: Server, connected: Connected) -> None:
    client = a_copy(server, connected, fresh_seconds=1000.0)
    standing, _ = client.book._known_models()[NANO]
    client.book._known_models()[NANO] = (standing, time.time() - 1100)
    assert client.settings.stale_seconds < 1100
    assert told(client, "86old").source == "service", "too old to be taken at its word"
    client.book._known_models()[NANO] = (standing, time.time() - 200)
    object.__setattr__(client.settings, "fresh_seconds", 100.0)
    assert told(client, "86stale").source == "copy"
    until("it was refreshed behind", lambda: client.book._standing(NANO)[1] < 100)


def test_when_nobody_answers_the_last_known_version_is_used(server: Server, connected: Connected) -> None:
    client = a_copy(server, connected)
    client.close()
    server.kill()
    later = connected(server, fresh_seconds=0.001, stale_seconds=0.002)
    prompt = told(later, "86x")
    assert (prompt.version, prompt.source, prompt.research) == (1, "last_known", RESEARCH)


def test_without_any_copy_the_files_are_used_with_no_version(
    connected: Connected, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = connected()
    folder = tmp_path / "config" / NANO
    with pytest.raises(NoPromptError, match="no copy is kept"):
        told(client, "86x")
    folder.mkdir(parents=True)
    (folder / "activation.txt").write_text("Από αρχείο.\n")
    (folder / "research.md").write_text("# Files\n")
    prompt = told(client, "86x")
    assert (prompt.version, prompt.content_hash, prompt.source) == (None, None, "files")
    assert (prompt.activation, prompt.research) == ("Από αρχείο.\n", "# Files\n")
    assert "version unknown" in caplog.text
    (folder / "research.md").write_text("# Changed meanwhile\n")
    client.close()
    assert told(connected(), "86x").research == "# Files\n", "the same for the run, even so"


def test_a_model_that_the_service_does_not_know_keeps_no_other_waiting(
    server: Server, connected: Connected, tmp_path: Path
) -> None:
    folder = tmp_path / "config/qwen-edit-plus"
    folder.mkdir(parents=True)
    (folder / "activation.txt").write_text("a")
    (folder / "research.md").write_text("r")
    client = connected(server, ask_again_seconds=60.0)
    assert told(client, "86x", "qwen-edit-plus").source == "files"
    assert told(client, "86x", NANO).source == "service"


@pytest.fixture
def hanging() -> Iterator[str]:
    """A service that takes the call and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def dripping() -> Iterator[str]:
    """A service that answers a byte at a time, so that no single read takes too long."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    stopped = threading.Event()

    def drip(connection: socket.socket) -> None:
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
            while not stopped.wait(0.05):
                connection.sendall(b" ")
        except OSError:
            pass

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=drip, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    stopped.set()
    listener.close()


@pytest.mark.parametrize("kind", ["hanging", "dripping"])
def test_a_service_that_does_not_answer_in_time_is_not_waited_for(
    kind: str, request: pytest.FixtureRequest, connected: Connected, tmp_path: Path
) -> None:
    folder = tmp_path / "config" / NANO
    folder.mkdir(parents=True)
    (folder / "activation.txt").write_text("a")
    (folder / "research.md").write_text("r")
    client = connected(url=request.getfixturevalue(kind), ask_timeout_seconds=0.3, ask_again_seconds=60.0)
    begun = time.monotonic()
    assert told(client, "86x").source == "files"
    assert 0.25 < time.monotonic() - begun < 2.0
    begun = time.monotonic()
    assert told(client, "86y").source == "files"
    assert time.monotonic() - begun < 0.2, "asked a moment ago, so nobody waits again"


def test_the_loop_goes_on_while_the_service_is_asked(hanging: str, connected: Connected, tmp_path: Path) -> None:
    folder = tmp_path / "config" / NANO
    folder.mkdir(parents=True)
    (folder / "activation.txt").write_text("a")
    (folder / "research.md").write_text("r")
    client = connected(url=hanging, ask_timeout_seconds=0.5)

    async def run() -> int:
        asking = asyncio.create_task(Prompts(client).for_task("86x", NANO))
        turns = 0
        while not asking.done():
            await asyncio.sleep(0.01)
            turns += 1
        assert (await asking).source == "files"
        return turns

    assert asyncio.run(run()) > 10


def test_texts_that_are_not_what_their_hash_names_are_not_used(
    server: Server, connected: Connected, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = connected(server)
    service = client.book._service()
    true_texts = service.texts

    def forged(model: str, version: int) -> object:
        texts = true_texts(model, version)
        return type(texts)(texts.content_hash, texts.template, texts.activation, "cut off on the way")

    monkeypatch.setattr(service, "texts", forged)
    with pytest.raises(NoPromptError):
        told(client, "86x")
    assert "other texts than its hash names" in caplog.text
