"""SIGKILL at every write and every model call of a debate, resumed from the ledger alone.

A node of the graph ends with a write, so this is also a kill after every node. Catches a state that is not in the
ledger, a reply used before it is durable, a call made twice although its reply had been recorded, an outcome that
depends on LangGraph's checkpoint. The garbled replies of the harness are repaired: a repair must survive as well.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

HARNESS = Path(__file__).parent / "lives.py"
SEATS = 3  # calls that may be in flight at once


@pytest.mark.parametrize(("protocol", "checkpoints"), [("answer", False), ("proposal", True), ("answer", True)])
def test_killed_anywhere_it_resumes_to_the_same_digest_and_repeats_only_what_was_in_flight(
    protocol: str, checkpoints: bool
) -> None:
    last = "6" if (protocol, checkpoints) == ("answer", True) else "1000"  # the first round is enough the second time
    command = [sys.executable, str(HARNESS), protocol, "1" if checkpoints else "0", last]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert len(found["lives"]) >= (20 if last == "6" else 40)
    for life in found["lives"]:
        point = life["point"]
        assert life["same"], f"killed {point}: another digest"
        paid_twice = set(life["after"]) & set(life["recorded"])
        assert not paid_twice, f"killed {point}: asked again though the reply was recorded: {paid_twice}"
        repeated = Counter(life["begun_before"] + life["after"])
        in_flight = {call for call in life["begun_before"] if call not in life["recorded"]}
        assert len(in_flight) <= SEATS
        # The harness fails some calls once in each life, so a retry within one life is no repetition.
        again = {call for call in repeated if call in life["begun_before"] and call in life["after"]}
        assert again <= in_flight, f"killed {point}: {again - in_flight}"
