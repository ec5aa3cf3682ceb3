"""Leaders that are stopped, killed or put to sleep: real processes, real signals (takeovers.py).

`make test` does some runs of each; MADFLOW_SWEEP=full does them all, and prints the longest takeover.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HARNESS = Path(__file__).with_name("takeovers.py")
FULL = os.environ.get("MADFLOW_SWEEP") == "full"
LEASE_S = 0.3
TAKEOVER_S_MAX = LEASE_S + 3.0


def sweep(scenario: str, some: int, full: int, *, at_once: int = 2) -> list[dict[str, Any]]:
    """What each run came to; the harness raises for a run that broke a promise. Some harnesses run side by side."""
    runs = full if FULL else some
    shares = [runs // at_once + (number < runs % at_once) for number in range(at_once)]
    harnesses = [
        subprocess.Popen([sys.executable, HARNESS, scenario, str(share), str(seed)], stdout=subprocess.PIPE)
        for seed, share in enumerate(shares)
        if share
    ]
    found = []
    for harness in harnesses:
        out, _ = harness.communicate()
        assert harness.returncode == 0, f"{scenario}: a run failed, see its trace above"
        found += json.loads(out)
    return found


@pytest.mark.parametrize(
    ("scenario", "some", "full"), [("killed", 4, 100), ("inside", 2, 50), ("disk", 4, 50), ("standing", 2, 20)]
)
def test_a_stopped_leader_is_followed_and_appends_nothing(scenario: str, some: int, full: int) -> None:
    """Past its lease it is killed, wherever it was stopped, inside a write transaction too; nothing of its term comes
    after the seal of the next. Catches a takeover that waits for a lock which a stopped process holds."""
    found = sweep(scenario, some, full)
    worst = max(run["took_s"] for run in found)
    print(f"{scenario}: {len(found)} runs, the longest takeover {worst:.2f} s with a lease of {LEASE_S} s")
    assert len(found) == (full if FULL else some)
    assert worst <= TAKEOVER_S_MAX
    assert min(run["took_s"] for run in found) > 0


def test_a_leader_that_was_replaced_behind_its_back_is_fenced() -> None:
    """The kernel lock does not help here: it comes back, believes to lead, and appends. Only the term refuses it."""
    found = sweep("fence", 4, 60)
    assert all(run["stale_appends"] == 0 for run in found)


def test_a_host_application_is_never_killed() -> None:
    """It is waited for, by name; when it goes on, it still leads."""
    for run in sweep("host", 2, 20):
        assert "(node host) has not renewed for" in run["why"]
        assert "it is not madflow's own to stop: continue it or end it" in run["why"]
        assert "(node host) leads in term 1" in run["later"]


@pytest.mark.parametrize("scenario", ["asleep", "clocks"])
def test_sleep_and_clocks_cost_one_election_at_most(scenario: str) -> None:
    """A machine that slept, clocks that jump by an hour: no two terms mix, and hardly anybody is deposed."""
    found = [run["elections"] for run in sweep(scenario, 2, 20)]
    print(f"{scenario}: needless elections per run {found}")
    assert max(found) <= 1


def test_sixteen_contenders() -> None:
    """Terms grow by one, whoever gets them; the records of two terms never interleave; some contenders die."""
    (run,) = sweep("contenders", 300, 16 * 500, at_once=1)
    print(f"contenders: {run}")
    assert sum(count > 0 for count in run["won"]) >= 8
