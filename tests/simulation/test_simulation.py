"""Election, journal and saga under simulated faults: every seed keeps every promise, and planted defects are caught.

MADFLOW_SEEDS sets how many seeds run (default 3,000); a failure prints the seed and its trace. A release runs 100,000.
`python -m madflow.testing.simulation --seeds 1 --from SEED --trace` plays one again.
"""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from madflow.errors import ConfigError
from madflow.testing.simulation import MUTANTS, simulate
from madflow.testing.simulation.__main__ import main
from madflow.testing.simulation.shards import SHARD_SEEDS, sweep

SEEDS = int(os.environ.get("MADFLOW_SEEDS", "3000"))
WORKERS = 1 if SEEDS <= 3_000 else os.cpu_count() or 1
CAUGHT_WITHIN = 3_000
SHARDS = 4
HAPPENS = (
    *("stop", "part", "cut", "transfer", "died", "stopped_before_effect", "late", "unknown", "fenced", "human"),
    *("ended committed", "ended compensated", "ended in_doubt"),
)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_every_seed_keeps_every_promise(shard: int) -> None:
    """Catches duplicated or lost effects, appends behind the fence, two leaders in a term, commits that never end."""
    share = -(-SEEDS // SHARDS)
    counts: Counter[str] = Counter()
    for _, failed, happened in sweep(shard * share, share, workers=WORKERS):
        assert not failed, failed[0]
        counts.update(happened)
    missing = [name for name in HAPPENS if not counts[name]]
    assert share < 500 or not missing, f"never happened in {share} seeds: {missing}; the faults miss their targets"


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_planted_defect_is_caught(mutant: str) -> None:
    """Catches a simulation that has gone blind: each of these breaks a promise within a few seeds."""
    for seed in range(CAUGHT_WITHIN):
        report = simulate(seed, mutant=mutant)
        if report.wrong:
            assert f"seed {seed}" in str(report)
            assert mutant in str(report)
            return
    pytest.fail(f"{mutant} passed {CAUGHT_WITHIN} seeds")


def test_a_seed_is_a_run() -> None:
    """Catches what differs between two runs of a seed, or between processes: hash order, the clock, leftovers."""
    code = "from madflow.testing.simulation import simulate; print('\\n'.join(simulate(11).lines))"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    elsewhere = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, timeout=60
    )
    assert simulate(11).lines == simulate(11).lines == elsewhere.stdout.splitlines()
    assert simulate(11).lines != simulate(12).lines


def test_a_mutant_that_does_not_exist_is_refused() -> None:
    """Catches a typing error that would run the healthy system instead."""
    with pytest.raises(ConfigError, match="skip_fence"):
        simulate(1, mutant="skip_fences")


def test_the_command_line_says_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a sweep that finds a defect and ends well."""
    assert main(["--seeds", "3", "--workers", "1"]) == 0
    assert "3 seeds from 0" in capsys.readouterr().out
    assert main(["--seeds", "300", "--workers", "1", "--mutant", "skip_slots"]) == 1
    assert "broken promises" in capsys.readouterr().out
    assert main(["--from", "5", "--trace"]) == 0
    assert "seed 5: all promises kept" in capsys.readouterr().out


def test_the_command_line_runs_on_several_processes() -> None:
    """As it is typed. Catches work that a spawned process cannot import, for which the pool would wait for ever."""
    command = [sys.executable, "-m", "madflow.testing.simulation", "--workers", "2", "--seeds", str(SHARD_SEEDS + 1)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.split(" in ")[0]) == (0, f"{SHARD_SEEDS + 1} seeds from 0")


def test_the_page_lists_the_planted_defects() -> None:
    """Catches a page that has fallen behind, in either direction."""
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "simulation.md").read_text("utf-8")
    assert sorted(re.findall(r"^\| `(\w+)` \|", page, re.M)) == sorted(MUTANTS)
