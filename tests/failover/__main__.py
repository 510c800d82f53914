"""Kills the primary of a replicated PostgreSQL in mid-cycle and under ingest, and says what it cost.

    python3 tests/failover --binary target/release/mathesis --rounds 4
    python3 tests/failover --binary target/release/mathesis --takeovers 50
    python3 tests/failover --binary target/release/mathesis --vanished 10
    python3 tests/failover --binary target/release/mathesis --rolling-from mathesis-of-the-version-before
    python3 tests/failover --binary target/release/mathesis --dashboards

Every round has a fresh cluster under Patroni with synchronous replication and two `mathesis serve`. A client sends
events without a pause while a cycle is driven through HTTP; in turn the primary is killed while Claude analyses, in the
middle of the test, and before its last scores. The round is good when the cycle ends in its usual history, with ten
scores an arm and one analysis, and every acknowledged event is stored once. Ends with 1 otherwise, and with 77 where
a program is missing. `--takeovers` kills no database but the replica of Mathesis that has the work, again and again; with `--vanished` that
one stops with its connections open. `--rolling-from` replaces an older version in mid-test; `--dashboards` reads pages from
replicas.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path
from typing import Callable

from cluster import TTL_SECONDS, Cluster, missing_programs, until
from dashboards import read_from_replicas
from rolling import replace
from site_under_test import MODELS, Site
from takeover import measure

#: The undisturbed walk of a cycle that adopts, one model's look after the other's.
WALK = ["analyzing", "generating", "testing", "testing", "deciding", "applying", "applied"]
#: Where the primary is killed, by the number of slots whose scores were reported.
MOMENTS = {"in the analysis": None, "in mid-test": 7, "before the last scores": 18}
SKIPPED = 77


def play(round_number: int, through: str, how: str, moment: str, binary: Path) -> tuple[float, int]:
    """One round; the seconds without a write, and how many events were acknowledged."""
    with_cluster = Cluster()
    site = None
    try:
        with_cluster.start()
        site = Site(with_cluster, binary, through, replicas=2)
        site.start()
        site.ingest.start()
        reported = MOMENTS[moment]
        site.complete_tasks()
        if reported is None:
            site.until_state("analyzing")
        else:
            site.until_state("testing")
            site.play_test(reported)
        killed = with_cluster.primary()
        assert killed is not None
        with_cluster.kill(killed, how)
        site.until_state("testing", or_later=True)
        site.play_test(10 * 2 - (reported or 0))
        site.until_state("applied")
        until("events flow again", lambda: site.ingest.acknowledged_lately())
        site.ingest.stop()
        check(site)
        return site.ingest.longest_silence(), len(site.ingest.acknowledged)
    except BaseException:
        if site is not None:
            print(site.logs(), file=sys.stderr)
        raise
    finally:
        if site is not None:
            site.close()
        with_cluster.close()


def check(site: Site) -> None:
    """The invariants that a failover could break."""
    rows = site.cluster.rows
    walk = rows("SELECT to_state FROM cycle_transitions WHERE cycle = 1 ORDER BY seq")
    assert walk == WALK, walk
    seqs = rows("SELECT seq FROM cycle_transitions WHERE cycle = 1 ORDER BY seq")
    assert [int(seq) for seq in seqs] == list(range(1, len(seqs) + 1)), seqs
    assert rows("SELECT count(*) FROM analyses") == ["1"]
    assert rows(f"SELECT count(*) FROM tasks WHERE analyzed_in_cycle = 1") == [str(site.TRIGGER)]
    arms = rows(
        "SELECT model_name, arm, count(*) FROM deck_slots WHERE state = 'scored' GROUP BY 1, 2 ORDER BY 1, 2"
    )
    assert arms == [f"{model}|{arm}|10" for model in sorted(MODELS) for arm in ("candidate", "control")], arms
    active = rows("SELECT model_name, count(*) FROM prompt_versions WHERE is_active GROUP BY 1 ORDER BY 1")
    assert active == [f"{model}|1" for model in sorted(MODELS)], active
    stored = rows("SELECT clickup_task_id FROM tasks WHERE clickup_task_id LIKE 'flow-%'")
    assert len(stored) == len(set(stored)), "an event is there twice"
    lost = set(site.ingest.acknowledged) - set(stored)
    assert not lost, f"{len(lost)} acknowledged events are lost, such as {sorted(lost)[:3]}"


def main() -> int:
    arguments = argparse.ArgumentParser(prog="tests/failover", description=__doc__.splitlines()[0])
    arguments.add_argument("--binary", type=Path, default=Path("target/release/mathesis"))
    arguments.add_argument("--rounds", type=int, default=4, help="how many failovers (default 4)")
    arguments.add_argument("--takeovers", type=int, help="measure so many kills of a replica instead")
    arguments.add_argument("--vanished", type=int, help="measure so many replicas that stop without closing anything")
    arguments.add_argument("--rolling-from", type=Path, metavar="OLD", help="replace this older binary in mid-test")
    arguments.add_argument("--dashboards", action="store_true", help="read pages from replicas")
    chosen = arguments.parse_args()
    lacking = missing_programs()
    if lacking:
        print(f"skipped: this machine lacks {', '.join(lacking)} (Debian: etcd-server, patroni, haproxy, postgresql)")
        return SKIPPED
    if os.geteuid() != 0:
        print("skipped: members run as the user postgres, which takes root")
        return SKIPPED
    binary = chosen.binary.resolve()
    instead: list[tuple[object, Callable[[], None]]] = [
        (chosen.takeovers, lambda: measure(chosen.takeovers, binary, "killed")),
        (chosen.vanished, lambda: measure(chosen.vanished, binary, "vanished")),
        (chosen.rolling_from, lambda: replace(chosen.rolling_from.resolve(), binary, check)),
        (chosen.dashboards, lambda: read_from_replicas(binary)),
    ]
    wanted = [run for chosen_one, run in instead if chosen_one]
    for run in wanted:
        run()
    if wanted:
        return 0
    silences: dict[str, list[float]] = {}
    for number in range(chosen.rounds):
        how = "machine" if number % 4 == 3 else "postgres"
        through = "haproxy" if number % 2 else "hosts"
        moment = list(MOMENTS)[number % len(MOMENTS)]
        silence, acknowledged = play(number, through, how, moment, binary)
        silences.setdefault(how, []).append(silence)
        print(
            f"round {number + 1}: {how} killed {moment}, reached through {through}: the usual history; "
            f"{acknowledged} events acknowledged, none lost; {silence:.1f} s without a write",
            flush=True,
        )
    for how, times in silences.items():
        print(f"{how}: median {statistics.median(times):.1f} s, worst {max(times):.1f} s without a write")
    if "machine" in silences:
        print(f"(Patroni waits up to its ttl of {TTL_SECONDS} s before it takes a silent machine for dead.)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
