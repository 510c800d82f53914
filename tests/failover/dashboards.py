"""Dashboards on a replica: they show what it has come to, and go on when one of the replicas is gone."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

from cluster import Cluster, until
from site_under_test import WORKFLOW, Site


def read_from_replicas(binary: Path) -> None:
    """Holds the replicas' replay, and sees that pages stand still while calls do not."""
    cluster = Cluster()
    site = None
    try:
        cluster.start()
        site = Site(cluster, binary, "hosts", replicas=1)
        site.more_environment = {"DATABASE_READ_URL": site.url}
        site.start()
        site.log([started("before")])
        until("a page shows what came in", lambda: shows(site, "before"))
        replaying = [cluster.replay_process(name) for name in cluster.replicas()]
        for process in replaying:
            os.kill(process, signal.SIGSTOP)
        site.log([started("held")])
        stored = cluster.rows("SELECT count(*) FROM tasks WHERE clickup_task_id = 'held'")
        assert stored == ["1"], "the primary has it"
        for _ in range(10):
            assert not shows(site, "held"), "the page was read from the primary"
            time.sleep(0.1)
        resumed = time.monotonic()
        for process in replaying:
            os.kill(process, signal.SIGCONT)
        until("the page has caught up", lambda: shows(site, "held"))
        caught_up = time.monotonic() - resumed
        spare = next(name for name in cluster.replicas() if name != cluster.synchronous())
        killed = time.monotonic()
        cluster.kill(spare, "machine")
        until("pages are answered without it", lambda: shows(site, "held"))
        print(
            f"dashboards on replicas: pages stood still while replay was held, and showed the task {caught_up:.1f} s "
            f"after it went on; answered {time.monotonic() - killed:.1f} s after one of the two replicas was killed"
        )
    finally:
        if site is not None:
            site.close()
        cluster.close()


def started(task: str) -> dict[str, str]:
    return {"type": "task_started", "task_id": task, "original_prompt": "Κάνε τον ουρανό ηλιοβασίλεμα"}


def shows(site: Site, task: str) -> bool:
    """Whether the page of tasks lists it."""
    address = f"http://127.0.0.1:{site.ports[0]}/analytics/{WORKFLOW}/tasks?task={task}"
    request = urllib.request.Request(address, headers={"Accept": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            return task in json.dumps(json.load(answer)["tasks"])
    except (urllib.error.URLError, OSError):
        return False
