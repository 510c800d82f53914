"""PostgreSQL under Patroni on the ports of one machine: one etcd, three members, a proxy before them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMES = ("one", "two", "three")
#: Patroni allows no less; a machine that is gone is missed for this long at most.
TTL_SECONDS = 20
PASSWORD = "failover"


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def until(what: str, met: Callable[[], Any], timeout_seconds: float = 90) -> Any:
    """Waits for a condition and returns what it found."""
    end = time.monotonic() + timeout_seconds
    while time.monotonic() < end:
        found = met()
        if found:
            return found
        time.sleep(0.05)
    raise TimeoutError(f"in vain, for {timeout_seconds} s: {what}")


def missing_programs() -> list[str]:
    """What this machine lacks for it, by the name of the program."""
    wanted = ("etcd", "patroni", "haproxy", "runuser")
    lacks = [name for name in wanted if shutil.which(name, path=search_path()) is None]
    return lacks if postgres_folder() else [*lacks, "postgres"]


def search_path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def postgres_folder() -> Path | None:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda one: int(one.parent.name))
    return folders[-1] if folders else None


class Cluster:
    """Three members with synchronous replication. Nothing of it is left when it is closed."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mathesis-failover-", dir="/tmp"))
        self.folder.chmod(0o777)
        etcd, peer, self.proxy_port, *rest = free_ports(3 + 2 * len(NAMES))
        self.etcd_ports = (etcd, peer)
        self.ports = dict(zip(NAMES, rest[: len(NAMES)]))
        self.api_ports = dict(zip(NAMES, rest[len(NAMES) :]))
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        self._run(
            "etcd",
            "etcd",
            *("--data-dir", str(self.folder / "etcd")),
            *("--listen-client-urls", f"http://127.0.0.1:{self.etcd_ports[0]}"),
            *("--advertise-client-urls", f"http://127.0.0.1:{self.etcd_ports[0]}"),
            *("--listen-peer-urls", f"http://127.0.0.1:{self.etcd_ports[1]}"),
        )
        health = f"http://127.0.0.1:{self.etcd_ports[0]}/health"
        until("etcd answers", lambda: _answer(health) is not None)
        for name in NAMES:
            self.start_member(name)
            if name == NAMES[0]:
                until("the first member takes writes", self.primary)
        until("two members replicate", lambda: len(self.replicas()) == len(NAMES) - 1)
        until("one of them synchronously", self.synchronous)
        self._start_proxy()

    def start_member(self, name: str) -> None:
        """Starts a member, or starts it again after it was killed."""
        settings = self.folder / f"{name}.yml"
        settings.write_text(json.dumps(self._settings(name)))
        self._run(name, "runuser", "-u", "postgres", "--", "patroni", str(settings))

    def url(self, through: str) -> str:
        """The address for Mathesis: every member, or the proxy."""
        places = {
            "hosts": ",".join(f"127.0.0.1:{port}" for port in self.ports.values()),
            "haproxy": f"127.0.0.1:{self.proxy_port}",
        }
        return f"postgres://postgres:{PASSWORD}@{places[through]}/postgres?sslmode=disable"

    def primary(self) -> str | None:
        """The member that takes writes, if one does."""
        return next((name for name in NAMES if self._is(name, "primary")), None)

    def replicas(self) -> list[str]:
        return [name for name in NAMES if self._is(name, "replica")]

    def synchronous(self) -> str | None:
        return next((name for name in NAMES if self._is(name, "synchronous")), None)

    def kill(self, name: str, how: str) -> None:
        """`postgres`: the server dies and Patroni sees it. `machine`: both are gone without a word."""
        processes = [int((self.folder / name / "postmaster.pid").read_text().splitlines()[0])]
        processes += _descendants(processes[0])
        if how == "machine":
            processes = [self.running[name].pid, *_descendants(self.running[name].pid), *processes]
        for process in processes:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if how == "machine":
            self.running.pop(name).wait()

    def replay_process(self, name: str) -> int:
        """The process of a replica that replays the log. (Patroni lifts PostgreSQL's own pause of the replay.)"""
        server = int((self.folder / name / "postmaster.pid").read_text().splitlines()[0])
        children = _descendants(server)
        return next(it for it in children if b"startup" in Path(f"/proc/{it}/cmdline").read_bytes())

    def rows(self, query: str, at: str | None = None) -> list[str]:
        """What a member answers, the primary where none is named; one text a row."""
        name = at or until("a primary", self.primary)
        folder = postgres_folder()
        assert folder is not None
        psql = [str(folder / "psql"), "-X", "-A", "-t", "-h", "127.0.0.1", "-U", "postgres"]
        done = subprocess.run(
            [*psql, "-p", str(self.ports[str(name)]), "-d", "postgres", "-c", query],
            env={**os.environ, "PGPASSWORD": PASSWORD},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()

    def close(self) -> None:
        for name in (*NAMES, "haproxy", "etcd"):
            process = self.running.pop(name, None)
            if process is None:
                continue
            for child in (process.pid, *_descendants(process.pid)):
                try:
                    os.kill(child, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _is(self, name: str, part: str) -> bool:
        return _answer(f"http://127.0.0.1:{self.api_ports[name]}/{part}") is not None

    def _run(self, name: str, *command: str) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        environment = {**os.environ, "PATH": search_path()}
        self.running[name] = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def _start_proxy(self) -> None:
        members = "\n".join(
            f"  server {name} 127.0.0.1:{self.ports[name]} check port {self.api_ports[name]}"
            for name in NAMES
        )
        settings = self.folder / "haproxy.cfg"
        settings.write_text(
            "defaults\n  mode tcp\n  timeout connect 2s\n  timeout client 1h\n  timeout server 1h\n"
            f"listen primary\n  bind 127.0.0.1:{self.proxy_port}\n"
            "  option httpchk GET /primary\n  http-check expect status 200\n"
            "  default-server inter 500ms fall 1 rise 1 on-marked-down shutdown-sessions\n"
            f"{members}\n"
        )
        self._run("haproxy", "haproxy", "-f", str(settings))

    def _settings(self, name: str) -> dict[str, object]:
        account = {"username": "postgres", "password": PASSWORD}
        return {
            "scope": "mathesis",
            "name": name,
            "etcd3": {"hosts": f"127.0.0.1:{self.etcd_ports[0]}"},
            "restapi": {
                "listen": f"127.0.0.1:{self.api_ports[name]}",
                "connect_address": f"127.0.0.1:{self.api_ports[name]}",
            },
            "bootstrap": {
                "dcs": {
                    "ttl": TTL_SECONDS,
                    "loop_wait": 1,
                    "retry_timeout": 3,
                    # A server that died is not waited for: another one takes its place.
                    "primary_start_timeout": 0,
                    "master_start_timeout": 0,
                    "synchronous_mode": True,
                    "postgresql": {"use_pg_rewind": True, "parameters": {"max_connections": 100}},
                },
                "initdb": [{"encoding": "UTF8"}, "data-checksums"],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{self.ports[name]}",
                "connect_address": f"127.0.0.1:{self.ports[name]}",
                "data_dir": str(self.folder / name),
                "bin_dir": str(postgres_folder()),
                "pgpass": str(self.folder / f"{name}.pgpass"),
                "authentication": {
                    "superuser": account,
                    "replication": {"username": "replicator", "password": PASSWORD},
                },
                "parameters": {"unix_socket_directories": ""},
                "pg_hba": [
                    "host all all 127.0.0.1/32 scram-sha-256",
                    "host replication all 127.0.0.1/32 scram-sha-256",
                ],
            },
        }


def _answer(url: str) -> bytes | None:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            body: bytes = answer.read()
            return body
    except (urllib.error.URLError, OSError):
        return None


def _descendants(process: int) -> list[int]:
    listing = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True)
    children = [int(word) for word in listing.stdout.split()]
    return children + [under for child in children for under in _descendants(child)]
