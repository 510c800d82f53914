"""Sends what the interface's own description allows, and what it does not, to a real server.

`python clients/python/fuzz/fuzz_http.py [EXAMPLES]` needs the debug binary and the extra `fuzz` of this package. It
fails when an answer is a 5xx, or has a status, a media type or a body that the description does not know; and when the
server is not alive and ready at the end. The seed is fixed, and `MATHESIS_FUZZ_SEED` sets another.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from conftest import _site_folder  # noqa: E402
from server import KEY, NANO, WAN, WORKFLOW, Claude, Server  # noqa: E402

SEED = int(os.environ.get("MATHESIS_FUZZ_SEED", "20261123"))
EXAMPLES = int(sys.argv[1]) if len(sys.argv) > 1 else 8
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
# A stream ends when its reader goes away, which a fuzzer that waits for the whole answer never does.
WITHOUT = ("stream",)
# What a path may name so that something is found there.
KNOWN: dict[str, list[Any]] = {
    "workflow": [WORKFLOW],
    "model": [WAN, NANO],
    "task": ["seed-0", "seed-1", "seed-2"],
    "number": [1, 2],
    "version": [1, 2],
    "from": [1, 2],
    "to": [1, 2],
}


def with_known_names(document: dict[str, Any]) -> dict[str, Any]:
    """The description with the names that the server has, so that calls get past the look-up."""
    known: dict[str, Any] = json.loads(json.dumps(document))
    for methods in known["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path":
                    parameter["schema"] = {"enum": KNOWN[parameter["name"]]}
    return known


def run(server: Server, document: dict[str, Any], name: str, accept: str, phases: str) -> bool:
    """One round; true when nothing was found."""
    place = server.folder / f"{name}.json"
    place.write_text(json.dumps(document))
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "--no-color",
        "run",
        str(place),
        f"--url={server.url}",
        f"--seed={SEED}",
        f"--max-examples={EXAMPLES}",
        f"--checks={','.join(CHECKS)}",
        f"--phases={phases}",
        "--continue-on-failure",
        "--suppress-health-check=all",
        "--warnings=off",
        "--request-timeout=20",
        f"--header=Authorization:Bearer {KEY}",
        f"--header=Accept:{accept}",
        *(f"--exclude-operation-id={one}" for one in WITHOUT),
    ]
    print(f"== {name} names, Accept: {accept}, seed {SEED}, {EXAMPLES} examples an operation", flush=True)
    began = time.monotonic()
    # In the server's folder, so that no settings of the caller's are read and no files are left behind.
    done = subprocess.run(command, cwd=server.folder)
    print(f"== {name} names: {time.monotonic() - began:.0f} s, exit {done.returncode}", flush=True)
    return done.returncode == 0


def is_alive(server: Server) -> bool:
    """True when the process runs and is ready: refused connections are the server's fault only if it is not."""
    ended = server._process.poll() if server._process is not None else None
    try:
        ready = httpx.get(f"{server.url}/readyz", trust_env=False).status_code
    except httpx.HTTPError as error:
        ready = repr(error)  # type: ignore[assignment]
    print(f"== the server at the end: exit code {ended}, /readyz {ready}", flush=True)
    return ended is None and ready == 200


def main() -> int:
    claude = Claude()
    server = Server(_site_folder(), claude)
    try:
        server.start()
        server.open_test()
        document = httpx.get(f"{server.url}/openapi.json", trust_env=False).json()
        found_nothing = [
            run(server, with_known_names(document), "known", "application/json", "coverage,fuzzing"),
            run(server, document, "any", "text/html", "fuzzing"),
            is_alive(server),
        ]
        if not all(found_nothing):
            print(server.log()[-20_000:], file=sys.stderr)
        return 0 if all(found_nothing) else 1
    finally:
        server.stop()
        claude.stop()
        shutil.rmtree(server.folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
