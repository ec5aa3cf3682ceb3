"""The arm `protocol` is what the review protocol itself publishes where nobody votes: both are run, and agree."""

from pathlib import Path
from typing import Any

from madflow.core.messages import Agent, Task, TaskFile
from madflow.core.proposal import Proposal
from madflow.core.same import Remark
from madflow.debate.run import run
from madflow.debate.setup import Debate
from madflow.evals.ensembles.arms import ARMS, by_words
from madflow.evals.ensembles.reviews import Comment, Pull
from madflow.ledger.sqlite import open_ledger
from madflow.ports import TurnView
from madflow.testing.clock import ManualClock
from madflow.testing.models import ScriptedModel

LINES = 30
SAID = {
    "a": ((4, "the header may be null when it is read"), (20, "the lock is held while sleeping")),
    "b": ((5, "reading here crashes on a null header"), (20, "the lock is held while it is sleeping")),
    "c": ((4, "header may be null when it is parsed here"), (28, "a typo in the name")),
    "d": ((21, "a magic number"),),
    "e": ((9, "no test covers this"),),
}


def source() -> TaskFile:
    text = "".join(f"x{number} = {number}\n" for number in range(1, LINES + 1))
    diff = f"--- /dev/null\n+++ b/x.py\n@@ -0,0 +1,{LINES} @@\n" + "".join(f"+{line}\n" for line in text.splitlines())
    return TaskFile(path="x.py", language="python", diff=diff, added=tuple(range(1, LINES + 1)), text=text)


def seat(view: TurnView) -> dict[str, Any]:
    if view.stage == "find":
        found = SAID[view.seat.agent]
        return {"findings": [{"file": "x.py", "line": at, "severity": "minor", "text": text} for at, text in found]}
    return {"decision": "approve", "votes": []}


async def test_the_real_review_publishes_what_the_arm_does(tmp_path: Path) -> None:
    """Catches an arm that merges or counts in another way than the protocol it stands for."""
    ledger = open_ledger(tmp_path / "l.db", clock=ManualClock())
    outcome = await run(
        Debate(
            task=Task(task_id="t", question="Review.", files=(source(),)),
            agents=[Agent(agent, model=ScriptedModel(seat), max_output_tokens=500) for agent in SAID],
            protocol="review",
            id="r",
            ledger=ledger,
        ),
        clock=ManualClock(),
    )
    ledger.close()
    assert isinstance(outcome, Proposal)
    published = {
        frozenset((claim["agent"], claim["text"]) for claim in row["lineage"])
        for row in outcome.to_json()["content"]["findings"]
    }
    comments = tuple(
        Comment(Remark(by, text, "x.py", (at, at)), frozenset(), judged=True)
        for by, said in SAID.items()
        for at, text in said
    )
    pull = Pull("p", "r", frozenset({0}), comments)
    arm = next(arm for arm in ARMS if arm.name == "protocol")
    groups = {
        frozenset((comments[place].remark.by, comments[place].remark.text) for place in group.members)
        for group in arm.review([pull], (), by_words())["p"]
    }
    assert published == groups == {frozenset((by, SAID[by][0][1]) for by in "abc")}
