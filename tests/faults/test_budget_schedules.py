"""Billed ≤ cap, and a valid proposal, under any schedule: panels, caps, drops, retries, repairs, deaths and resumes.

`MADFLOW_SCHEDULES=10000 pytest tests/faults/test_budget_schedules.py` runs as many as the release check asks for.
Catches a call that is made before its reservation is durable, a retry or repair that nobody reserved, a resume that
forgets what a dead process may have been billed, a landing that takes money out of nowhere.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

HARNESS = Path(__file__).parent / "schedules.py"
SCHEDULES = int(os.environ.get("MADFLOW_SCHEDULES", "1000"))
PROCESSES = min(4, os.cpu_count() or 1)
SECONDS_EACH_MAX = 1.0  # a bound on a hang, not a measurement


def test_the_bill_never_exceeds_a_cap_and_every_schedule_lands() -> None:
    share = -(-SCHEDULES // PROCESSES)
    running = [
        subprocess.Popen(
            [sys.executable, str(HARNESS), str(1 + number * share), str(share)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    found = []
    for process in running:
        out, err = process.communicate(timeout=60 + share * SECONDS_EACH_MAX)
        assert process.returncode == 0, err[-3000:]
        found.append(json.loads(out))
    failures = [failure for part in found for failure in part.pop("failures")]
    print(json.dumps(found, indent=1))  # shown with pytest -s, and where the test fails
    shown = "\n".join(f"seed {seed}: {trace}" for seed, trace in failures[:3])
    assert not failures, f"{len(failures)} of {share * PROCESSES} schedules failed; the first:\n{shown}"
    figures = [part["figures"] for part in found]
    for name in ("crash", "sigkill", "stop budget_exceeded", "stop cancelled", "result approved", "under a policy"):
        assert sum(part.get(name, 0) for part in figures), f"no schedule came to {name!r}: the harness lost its teeth"
