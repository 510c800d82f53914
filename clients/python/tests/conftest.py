"""What every test stands on: a real server, a spool of its own, and settings that lose no time."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mathesis import Client, Settings
from mathesis.runs import current

from server import BINARY, KEY, Claude, Server, free_port


@pytest.fixture(scope="session", autouse=True)
def the_binary_is_there() -> None:
    assert BINARY.exists(), f"{BINARY} is missing: run `cargo build`, or name it in MATHESIS_BINARY"


@pytest.fixture(autouse=True)
def no_run_of_another_test() -> None:
    """Tests share a thread, and so the context in which a run was begun."""
    current.set(None)


@pytest.fixture(scope="session")
def claude() -> Iterator[Claude]:
    one = Claude()
    yield one
    one.stop()


@pytest.fixture(scope="session")
def pristine(claude: Claude) -> Iterator[Path]:
    """The home of a server that has started once, so that not every test has to make a database."""
    one = Server(_site_folder(), claude)
    one.start()
    one.stop()
    yield one.home
    shutil.rmtree(one.folder, ignore_errors=True)


@pytest.fixture
def server(request: pytest.FixtureRequest, claude: Claude, pristine: Path) -> Iterator[Server]:
    """A running server of this test's own, under the guard that a test marks it with."""
    mark = request.node.get_closest_marker("guard")
    one = Server(_site_folder(), claude, mark.args[0] if mark else "probation")
    if mark is None:
        # Owners and modes go with it: the database may be another user's. Its cycle keeps the guard that it began under.
        subprocess.run(["cp", "-a", str(pristine), str(one.home)], check=True)
    one.start()
    yield one
    one.stop()
    shutil.rmtree(one.folder, ignore_errors=True)


def _site_folder() -> Path:
    """A short path, for the sake of sockets; in memory where there is enough, since disks are slow."""
    memory = Path("/dev/shm")
    in_memory = memory.is_dir() and shutil.disk_usage(memory).free > 1024**3
    folder = Path(tempfile.mkdtemp(prefix="mathesis-", dir=memory if in_memory else None))
    # PostgreSQL runs as another user where the tests run as root, and has to reach its folder.
    folder.chmod(0o755)
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Settings]:
    """Settings for a client of this test: short pauses, and a spool of its own."""

    def make(server: Server | None = None, **given: Any) -> Settings:
        values: dict[str, Any] = {
            "url": server.url if server is not None else f"http://127.0.0.1:{free_port()}",
            "key": KEY,
            "spool": tmp_path / "spool",
            "config_folder": tmp_path / "config",
            "retry_seconds_min": 0.02,
            "retry_seconds_max": 0.1,
            "ask_again_seconds": 0.05,
            "write_delay_seconds": 0.002,
            "exit_seconds": 0.0,
        }
        return Settings(**{**values, **given})

    return make


@pytest.fixture
def connected(settings: Callable[..., Settings]) -> Iterator[Callable[..., Client]]:
    """Clients that end with the test."""
    clients: list[Client] = []

    def make(server: Server | None = None, **given: Any) -> Client:
        clients.append(Client(settings(server, **given)))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
