"""Sagas killed at every place, disks that fail at every operation, many who commit at once (commit_faults.py).

`make test` takes some places of each; MADFLOW_SWEEP=full takes them all. The judges stand outside: see commit_world.py.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

HARNESS = Path(__file__).with_name("commit_faults.py")
FULL = os.environ.get("MADFLOW_SWEEP") == "full"


def swept(scenario: str, shares: list[tuple[int, int]], *, at_once: int = 2) -> Counter[str]:
    """The figures of all shares; some harnesses run side by side."""
    figures = Counter[str]()
    for start in range(0, len(shares), at_once):
        harnesses = [
            subprocess.Popen([sys.executable, HARNESS, scenario, *map(str, share)], stdout=subprocess.PIPE)
            for share in shares[start : start + at_once]
        ]
        for harness in harnesses:
            out, _ = harness.communicate()
            assert harness.returncode == 0, f"{scenario}: the harness failed, see its trace above"
            found = json.loads(out)
            assert not found["failures"], found["failures"][0]
            figures.update(found["figures"])
    print(f"{scenario}: {dict(figures)}, 0 broken promises")
    return figures


def test_a_saga_killed_anywhere_takes_back_each_step_once_and_in_reverse() -> None:
    """By the server's own order. Catches a compensation that is done twice, left out or out of order, and a failed
    step that is forgotten by the next submitter."""
    figures = swept("saga", [(seed, 1) for seed in range(8)] if FULL else [(0, 15)])
    assert figures["kills"] >= (500 if FULL else 12)


def test_a_disk_that_fails_at_any_operation_ends_the_command_and_nothing_happens_unrecorded() -> None:
    """Exit code 1 and one line; no effect without a durable `started`; once repaired, it is finished. Catches an effect
    that is begun before its record is safe, and a ledger that writes on after a failed sync."""
    figures = swept("disk", [(0, 2), (1, 2)] if FULL else [(0, 17)])
    assert figures["poisoned"] >= (150 if FULL else 8)
    assert figures["exit 1"] >= figures["poisoned"]


def test_committed_a_hundred_times_by_eight_processes_it_happens_once() -> None:
    """One outcome for each key, one effect for each step, and a hundred receipts of the same bytes."""
    assert swept("once", [(100, 8)])["receipts"] == 100
