"""What the service will not take: kept with the reason, told once, and never in the way of the rest."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from mathesis import Client, blocking
from mathesis.dead_letters import read as dead_letters

from server import NANO, WAN, Server, until

Connected = Callable[..., Client]


def test_refused_events_go_to_the_dead_letters_and_the_others_arrive(
    server: Server, connected: Connected, caplog: pytest.LogCaptureFixture
) -> None:
    client = connected(server)
    logger = blocking.TaskLogger(client)
    logger.log_complete("before")
    for n in range(5):
        logger.log_validation(f"task-{n}", WAN, 7.5, True)
    logger.log_validation("task-9", WAN, 11, True)
    logger.log_complete("after")
    assert client.flush(30)
    assert {"before", "after"} <= {task for task, _ in server.tasks()}
    letters = [letter.code for letter in dead_letters(client.folder)]
    assert sorted(letters) == ["invalid_score"] * 5 + ["score_out_of_range"]
    assert caplog.text.count("(invalid_score)") == 1, "told once"
    kept = json.loads(client.letters.path.read_text().splitlines()[0])
    assert (kept["event"]["score"], kept["event"]["task_id"]) == (7.5, "task-0"), "with what it said"
    assert "7.5" in kept["detail"]


def test_a_key_that_is_wrong_keeps_the_events_until_it_is_right(
    server: Server, connected: Connected, caplog: pytest.LogCaptureFixture
) -> None:
    client = connected(server, key="mth_ingest_" + "0" * 64)
    blocking.TaskLogger(client).log_complete("task-1")
    until("it was refused", lambda: "key_unknown" in caplog.text)
    assert not client.flush(0.2) and not list(dead_letters(client.folder))
    client.close()
    mended = connected(server)
    mended.start()
    until("it arrived", lambda: ("task-1", "") in server.tasks())


def test_a_workflow_that_is_not_there_keeps_the_events(
    server: Server, connected: Connected, caplog: pytest.LogCaptureFixture
) -> None:
    for workflow in ("no-such-workflow", "not/a name"):
        client = connected(server, workflow=workflow)
        blocking.TaskLogger(client).log_complete("task-1")
        until("it was refused", lambda: client._sender is not None and client._sender.is_failing)
        assert client.spool.waiting > 0 and not list(dead_letters(client.folder))
    assert "unknown_workflow" in caplog.text and "invalid_name" in caplog.text


Answer = tuple[int, dict[str, str], bytes]


class StandIn:
    """Answers as no healthy server does. For faults that the real one cannot be brought to."""

    def __init__(self, answers: list[Answer]) -> None:
        self.bodies: list[bytes] = []
        self.judge: Callable[[bytes], Answer | None] = lambda body: answers.pop(0) if answers else None
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                stand_in.bodies.append(body)
                count = body.count(b"\n")
                accepted = json.dumps({"accepted": count, "duplicate": 0, "rejected": []}).encode()
                status, headers, answer = stand_in.judge(body) or (200, {}, accepted)
                self.send_response(status)
                for name, value in {"content-length": str(len(answer)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def standing_in() -> Iterator[Callable[..., StandIn]]:
    started: list[StandIn] = []

    def make(*answers: Answer) -> StandIn:
        started.append(StandIn(list(answers)))
        return started[-1]

    yield make
    for one in started:
        one.stop()


def problem(status: int, code: str) -> Answer:
    return status, {}, json.dumps({"status": status, "code": code, "detail": "words"}).encode()


@pytest.mark.parametrize(
    "answer",
    [
        (502, {}, b"<html>Bad gateway</html>"),
        (200, {}, b"<html>Welcome to the proxy</html>"),
        (200, {}, b"[]"),
        (200, {}, b'{"status": "ok"}'),
        (302, {"location": "https://elsewhere"}, b""),
        (429, {"retry-after": "0"}, b""),
        problem(503, "database_unavailable"),
        problem(408, "body_incomplete"),
        (404, {}, b"<html>not found</html>"),
    ],
    ids=["html-502", "html-200", "list", "other-json", "redirect", "429", "503", "408", "html-404"],
)
def test_an_answer_that_is_none_loses_nothing(
    answer: Answer, connected: Connected, standing_in: Callable[..., StandIn]
) -> None:
    service = standing_in(answer, answer)
    client = connected(url=service.url)
    blocking.TaskLogger(client).log_complete("task-1")
    assert client.flush(30)
    assert len(service.bodies) == 3 and len(set(service.bodies)) == 1, "the same event, until it was taken"
    assert not list(dead_letters(client.folder))


def test_a_body_that_is_refused_whole_is_halved_until_the_culprit_is_found(
    connected: Connected, standing_in: Callable[..., StandIn]
) -> None:
    service = standing_in()
    taken: list[bytes] = []

    def judge(body: bytes) -> Answer | None:
        lines = body.splitlines()
        if len(lines) > 4:
            return problem(413, "body_too_large")
        if any(b'"task-5"' in line for line in lines):
            return problem(422, "invalid_json")
        taken.extend(lines)
        return None

    service.judge = judge
    client = connected(url=service.url, write_delay_seconds=0.5)
    for n in range(16):
        blocking.TaskLogger(client).log_complete(f"task-{n}")
    assert client.flush(30)
    assert len(service.bodies[0].splitlines()) == 16, "one delivery to begin with"
    [letter] = client.letters.path.read_text().splitlines()
    assert (json.loads(letter)["code"], json.loads(letter)["event"]["task_id"]) == ("invalid_json", "task-5")
    assert [json.loads(line)["task_id"] for line in taken] == [f"task-{n}" for n in range(16) if n != 5]


def test_retry_after_is_waited_for(connected: Connected, standing_in: Callable[..., StandIn]) -> None:
    service = standing_in((429, {"retry-after": "1"}, b""))
    client = connected(url=service.url)
    blocking.TaskLogger(client).log_complete("task-1")
    until("it was refused", lambda: len(service.bodies) == 1)
    assert not client.flush(0.5), "not before its time"
    assert client.flush(30)


def test_an_event_without_end_is_kept_from_the_spool(server: Server, connected: Connected) -> None:
    client = connected(server)
    logger = blocking.TaskLogger(client)
    logger.log_enhancement("task-1", NANO, "p", "x" * 16_000_000)
    logger.log_complete("task-2")
    assert client.flush(30)
    assert [letter.code for letter in dead_letters(client.folder)] == ["event_too_large"]
    assert list(server.tasks()) == [("task-2", "")]
