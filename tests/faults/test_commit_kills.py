"""SIGKILL at every write and every effect of a commit, for every class of effect; another process recovers.

`make test` takes some places for each kind of step; MADFLOW_SWEEP=full takes every place for 50 seeds a class. The
judges stand outside: see commit_world.py.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

HARNESS = Path(__file__).with_name("commit_lives.py")
FULL = os.environ.get("MADFLOW_SWEEP") == "full"
KINDS = {"none": 3, "idempotent": 3, "verifiable": 6, "transactional": 2, "non_verifiable": 3}
SAMPLE = 7


@pytest.mark.parametrize("effect_class", KINDS)
def test_killed_anywhere_it_ends_as_promised_and_nothing_happens_twice(effect_class: str) -> None:
    """Catches an effect without a durable `started`, one that is repeated though nobody can tell what it did, an
    outcome that can be replaced, a doubt that the table does not know, a receipt that changes, a commit that is left
    open."""
    seeds, at_once = (50, 5) if FULL else (KINDS[effect_class], 1)
    size = [] if FULL else [str(SAMPLE)]
    shares = [
        [sys.executable, str(HARNESS), effect_class, str(start), str(seeds // at_once), str(at_once), *size]
        for start in range(at_once)
    ]
    harnesses = [subprocess.Popen(share, stdout=subprocess.PIPE) for share in shares]
    figures = Counter[str]()
    for harness in harnesses:
        out, _ = harness.communicate()
        assert harness.returncode == 0, "the harness failed, see its trace above"
        found = json.loads(out)
        assert not found["failures"], found["failures"][0]
        figures.update(found["figures"])
    print(f"{effect_class}: {seeds} seeds, {dict(figures)}, 0 broken promises")
    assert figures["kills"] > seeds * SAMPLE / 2, "hardly anything was killed"
    assert figures["controls"] >= seeds
    assert figures["doubts"] > 0 or effect_class != "non_verifiable"
