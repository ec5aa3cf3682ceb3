"""A review that dies at any of its writes resumes to the same digest, with its parts, coverage and votes.

Catches: a part that is read twice or lost after a resume; findings that depend on which process raised them; a vote of
the dead process that is asked for again; a judge of pairs who is asked twice, or whose word a resume forgets.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from madflow.core.messages import Agent, Task, TaskFile
from madflow.core.proposal import Proposal, check_digests
from madflow.debate.run import replay, run
from madflow.debate.setup import Debate
from madflow.ledger.sqlite import open_ledger
from madflow.ports import TurnView
from madflow.testing.clock import ManualClock
from madflow.testing.faults import Crash, KillingLedger
from madflow.testing.models import ScriptedModel

PATHS = ("one.py", "two.py")
CALLS = 3 * len(PATHS) + 3


SAID = {"a": "the platform's name is printed", "b": "this writes to the terminal", "c": "a name goes to nobody here"}
"""What seats say of each part: by their words three things, by the judge's one."""


def diff_file(path: str) -> TaskFile:
    diff = f"--- /dev/null\n+++ b/{path}\n@@ -0,0 +1,2 @@\n+import os\n+print(os.name)\n"
    return TaskFile(path=path, language="python", diff=diff, added=(1, 2), text="import os\nprint(os.name)\n")


def reviewer(view: TurnView) -> dict[str, Any]:
    """Each seat finds something in its part; b disagrees with everybody."""
    if view.stage == "same":
        return {"pairs": [{"pair": row["pair"], "same": True} for row in view.subject["pairs"]]}
    if view.stage == "find":
        text = SAID[view.seat.agent]
        found = {"file": PATHS[view.part], "line": 2, "severity": "major", "text": text, "quote": "print(os.name)"}
        return {"findings": [found]}
    decision = "reject" if view.seat.agent == "b" else "accept"
    votes = [{"finding": item["id"], "decision": decision, "notes": "seen"} for item in view.subject["findings"]]
    return {"decision": "approve", "votes": votes}


def review(ledger: Any, model: ScriptedModel, judge: str) -> Debate:
    agents = [Agent(agent, model=model, max_output_tokens=500) for agent in "abc"]
    agents += [Agent("j", role="judge", model=model, max_output_tokens=500)]
    return Debate(
        task=Task(task_id="t", question="Review.", files=tuple(diff_file(path) for path in PATHS)),
        agents=agents,
        protocol="review",
        parts=[[path] for path in PATHS],
        same_judge=judge,
        id="r1",
        ledger=ledger,
    )


async def finished(debate: Debate) -> Proposal:
    outcome = await run(debate, clock=ManualClock())
    assert isinstance(outcome, Proposal)
    return outcome


@pytest.mark.parametrize("judge", ["", "j"])
def test_a_review_that_dies_at_any_write_resumes_to_the_same_digest(tmp_path: Path, judge: str) -> None:
    calls = CALLS + bool(judge)
    whole_model = ScriptedModel(reviewer)
    whole = asyncio.run(finished(review(open_ledger(tmp_path / "whole.db", clock=ManualClock()), whole_model, judge)))
    assert whole_model.calls == calls
    assert whole.decision.result == "approved"
    assert whole.to_json()["content"]["coverage"]["read"] == len(PATHS)
    findings = whole.to_json()["content"]["findings"] + whole.to_json()["content"]["rejected_findings"]
    assert len(findings) == (len(PATHS) if judge else len(PATHS) * len(SAID))
    dead = 0
    for number in range(1, 3 * calls):
        path = tmp_path / f"{number}.db"
        inner = open_ledger(path, clock=ManualClock())
        model = ScriptedModel(reviewer)
        ledger = KillingLedger(inner, after=number)
        try:
            asyncio.run(finished(review(ledger, model, judge)))
            break
        except Crash:
            dead += 1
        inner.close()
        again = open_ledger(path, clock=ManualClock())
        resumed = asyncio.run(finished(review(again, model, judge)))
        assert resumed.digest == whole.digest
        assert check_digests(resumed.to_json()) == []
        assert replay(again, "r1").to_json() == resumed.to_json()
        assert calls <= model.calls <= calls + 2 * len(PATHS) * 3
        again.verify()
        again.close()
    else:
        pytest.fail("the review never ended by itself")
    assert dead >= 4 + 2 * bool(judge)  # opening, reading, the judge's call and answer, assessing, landing
