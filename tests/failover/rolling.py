"""Old and new versions of the program side by side, replaced one after the other in mid-test and under ingest."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Callable

from cluster import Cluster, until
from site_under_test import Site


def replace(old: Path, new: Path, check: Callable[[Site], None]) -> None:
    """Starts on `old`, migrates with `new`, replaces both processes, and says what the clients saw of it."""
    cluster = Cluster()
    site = None
    try:
        cluster.start()
        site = Site(cluster, old, "hosts", replicas=2)
        site.start()
        site.ingest.start()
        site.complete_tasks()
        site.until_state("testing")
        site.play_test(3)
        before = versions(cluster)
        migrate = [str(new), "migrate"]
        subprocess.run(migrate, cwd=site.folder, env=site.environment, check=True, capture_output=True)
        site.play_test(3)
        site.binary = new
        for port in site.ports:
            leaving = site.serving[port]
            leaving.send_signal(signal.SIGTERM)
            assert leaving.wait(timeout=90) == 0, "the old process ends in order"
            site.start_process(port)
            # After the first of them, old and new serve side by side, and both are asked.
            site.play_test(3)
        site.play_test(10 * 2 - 12)
        site.until_state("applied")
        until("events flow again", lambda: site.ingest.acknowledged_lately())
        site.ingest.stop()
        check(site)
        known = versions(cluster)
        print(
            f"rolling restart: {len(known) - len(before)} migrations beside the old version, then both processes "
            f"replaced in mid-test: the usual history; {len(site.ingest.acknowledged)} events acknowledged, none lost; "
            f"{site.ingest.longest_silence():.1f} s without a write"
        )
    except BaseException:
        if site is not None:
            print(site.logs())
        raise
    finally:
        if site is not None:
            site.close()
        cluster.close()


def versions(cluster: Cluster) -> list[str]:
    """The migrations that the database has."""
    return cluster.rows("SELECT version FROM _sqlx_migrations ORDER BY version")
