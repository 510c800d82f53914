"""How long a replica's work lies still after a kill -9."""

from __future__ import annotations

import signal
import statistics
import time
from pathlib import Path

from cluster import Cluster, until
from site_under_test import Site

#: A replica that is younger does not yet trust a missing lock (a server that restarts drops every lock at once).
TRUSTED_AFTER_SECONDS = 6
#: Longer than any round, so that the kill falls inside the call.
CLAUDE_SECONDS = 60
#: Who made the newest call, when, and the port of the session that holds that worker's lock.
CALLER = """
    SELECT c.worker_id, extract(epoch FROM c.started_at), a.client_port
      FROM claude_calls AS c
      JOIN pg_locks AS l ON l.locktype = 'advisory' AND l.objsubid = 1
       AND ((l.classid::bigint << 32) | l.objid::bigint)
           = ('x' || substr(replace(c.worker_id::text, '-', ''), 17))::bit(64)::bigint
      JOIN pg_stat_activity AS a USING (pid)
     WHERE c.cycle = {cycle}
     ORDER BY c.started_at DESC LIMIT 1
"""


def measure(count: int, binary: Path) -> None:
    """Kills the replica that has the work, again and again; prints each time, then median and worst."""
    cluster = Cluster()
    site = None
    try:
        cluster.start()
        site = Site(cluster, binary, "hosts", replicas=2, claude_seconds=CLAUDE_SECONDS)
        site.start()
        times = []
        for number in range(1, count + 1):
            time.sleep(TRUSTED_AFTER_SECONDS)
            times.append(one_takeover(site, number))
            print(f"takeover {number}: {times[-1]:.2f} s", flush=True)
        print(f"{count} takeovers: median {statistics.median(times):.2f} s, worst {max(times):.2f} s")
    finally:
        if site is not None:
            site.close()
        cluster.close()


def one_takeover(site: Site, cycle: int) -> float:
    """From the kill to the moment when another replica begins the interrupted call anew."""

    def newest_call(but: str = "nobody") -> list[str] | None:
        rows = [row.split("|") for row in site.cluster.rows(CALLER.format(cycle=cycle))]
        return next((row for row in rows if row[0] != but), None)

    site.complete_tasks(f"round-{cycle}")
    worker, _, session = until("a replica makes the call", newest_call)
    port = site.port_of_session(int(session))
    killed_at = time.time()
    site.serving[port].send_signal(signal.SIGKILL)
    site.serving[port].wait()
    _, began_anew, _ = until("another one makes it anew", lambda: newest_call(but=worker))
    site.start_process(port)
    site.persist("POST", f"/cycles/{cycle}/cancel", {"reason": "measured"})
    return float(began_anew) - killed_at
