"""SIGKILL at every write and every model call of a debate, resumed from the ledger alone.

A node of the graph ends with a write, so this is also a kill after every node. Catches a state that is not in the
ledger, a reply used before it is durable, a call made twice although its reply had been recorded, an outcome that
depends on LangGraph's checkpoint. The garbled replies of the harness are repaired: a repair must survive as well. In
the guided debates (`robust`, `open`) it also catches a part of a round that is lost or asked again, another seat drawn
for the next part, reliabilities that are learned anew, and options that are numbered otherwise.

`make test` takes some places of the guided debates; MADFLOW_SWEEP=full takes all of all debates, with every fate of
the checkpoints, and kills some three times over.
"""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

HARNESS = Path(__file__).parent / "lives.py"
FULL = os.environ.get("MADFLOW_SWEEP") == "full"
IN_FLIGHT = {"answer": 3, "proposal": 3, "robust": 2, "open": 2}
"""Calls at once, at most: seats of a panel, or of the first part of a guided round."""

SOME = [
    ("answer", "none", 1, 1),
    ("proposal", "deleted", 1, 1),
    ("answer", "deleted", 3, 1),
    ("robust", "none", 4, 1),
    ("robust", "taken-up", 7, 1),
    ("robust", "deleted", 13, 3),
    ("open", "none", 5, 1),
    ("open", "kept", 9, 1),
]
"""(debate, checkpoints, one of so many places, deaths)."""

ALL = [
    *((shape, checkpoints, 1, 1) for shape in IN_FLIGHT for checkpoints in ("none", "deleted", "kept", "taken-up")),
    *((shape, checkpoints, 1, 3) for shape in IN_FLIGHT for checkpoints in ("none", "taken-up")),
]


@pytest.mark.parametrize(("shape", "checkpoints", "every", "deaths"), ALL if FULL else SOME)
def test_killed_anywhere_it_resumes_to_the_same_digest_and_repeats_only_what_was_in_flight(
    shape: str, checkpoints: str, every: int, deaths: int
) -> None:
    command = [sys.executable, str(HARNESS), shape, checkpoints, str(every), str(deaths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600 if FULL else 180)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert len(found["killed"]) >= 52 // every
    for killed in found["killed"]:
        where = f"killed {killed['point']}"
        assert killed["digest"] == found["whole"]["digest"], f"{where}: another digest"
        assert killed["replayed"], f"{where}: the ledger does not replay, or its chain is broken"
        check_calls(where, killed["lives"], IN_FLIGHT[shape])
        check_bill(where, killed, found["caps"])


def check_calls(where: str, lives: list[dict[str, list[str]]], in_flight_max: int) -> None:
    """The harness fails some calls once in a life, so a retry within one life is no repetition."""
    for life in lives:
        paid_twice = set(life["calls"]) & set(life["recorded"])
        assert not paid_twice, f"{where}: asked again though the reply was recorded: {paid_twice}"
    for number, (before, after) in enumerate(pairwise(lives)):
        begun = {call for life in lives[: number + 1] for call in life["calls"]}
        open_ = {call for call in before["calls"] if call not in after["recorded"]}
        assert len(open_) <= in_flight_max, f"{where}: more in flight than there are seats asked: {open_}"
        again = begun & set(after["calls"])
        lost = begun - set(after["recorded"])
        assert again <= lost, f"{where}: {again - lost}"


def check_bill(where: str, killed: dict[str, Any], caps: dict[str, Any]) -> None:
    """What the provider billed, what the debate accounts for, and the cap that leaves it no slack but what is lost."""
    billed, used = killed["billed"], killed["used"]
    tokens = used["prompt_tokens"] + used["output_tokens"]
    assert billed["tokens"] <= tokens <= caps["tokens"], f"{where}: {billed}, {tokens}, {caps}"
    assert billed["calls"] <= used["calls"] <= caps["calls"], f"{where}: {billed}, {used['calls']}, {caps}"
    assert billed["usd_nanos"] <= caps["usd_nanos"], f"{where}: {billed}, {caps}"
    assert used["open"]["calls"] == 0, f"{where}: a reservation was left open: {used['open']}"
