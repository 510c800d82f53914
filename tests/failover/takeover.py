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
#: The least that a workflow may have.
LEASE_SECONDS = 5
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


def measure(count: int, binary: Path, how: str) -> None:
    """Takes the replica that has the work away, again and again; prints each time, then median and worst.

    `killed`: by a signal that it cannot see. `vanished`: it stops for good with its connections open, as a machine does
    whose cable was pulled, and wakes up once another one has its work.
    """
    cluster = Cluster()
    site = None
    try:
        cluster.start()
        site = Site(cluster, binary, "hosts", replicas=2, claude_seconds=CLAUDE_SECONDS)
        if how == "vanished":
            site.change({"\nlease_seconds = 60\n": f"\nlease_seconds = {LEASE_SECONDS}\n"})
        site.start()
        times = []
        for number in range(1, count + 1):
            time.sleep(TRUSTED_AFTER_SECONDS)
            times.append(one_takeover(site, number, how))
            print(f"takeover {number}: {times[-1]:.2f} s", flush=True)
        lease = f", with a lease of {LEASE_SECONDS} s" if how == "vanished" else ""
        median, worst = statistics.median(times), max(times)
        print(f"{count} replicas {how}{lease}: median {median:.2f} s, worst {worst:.2f} s until another goes on")
    finally:
        if site is not None:
            site.close()
        cluster.close()


def one_takeover(site: Site, cycle: int, how: str) -> float:
    """From its end to the moment when another replica begins the interrupted call anew."""

    def newest_call(but: str = "nobody") -> list[str] | None:
        rows = [row.split("|") for row in site.cluster.rows(CALLER.format(cycle=cycle))]
        return next((row for row in rows if row[0] != but), None)

    site.complete_tasks(f"round-{cycle}")
    worker, _, session = until("a replica makes the call", newest_call)
    port = site.port_of_session(int(session))
    gone_at = time.time()
    gone = site.serving[port]
    gone.send_signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
    if how == "killed":
        gone.wait()
    other = site.ports[1 - site.ports.index(port)]
    _, began_anew, _ = until("another one makes it anew", lambda: newest_call(but=worker))
    if how == "killed":
        site.start_process(port)
    else:
        gone.send_signal(signal.SIGCONT)
    cancel = {"reason": "measured"}
    until("it is cancelled", lambda: site.call("POST", f"/cycles/{cycle}/cancel", cancel, process=site.ports.index(other)))
    return float(began_anew) - gone_at
