"""A review's claims merge by the rule that it was opened with, and its ledger says which."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from madflow.core.messages import Agent, Task, TaskFile
from madflow.core.proposal import Proposal
from madflow.crews import load_crew
from madflow.debate.run import replay, run
from madflow.debate.setup import Debate
from madflow.errors import ConfigError, ResumeRefused
from madflow.ledger.sqlite import SqliteLedger, open_ledger
from madflow.ports import Event, TurnView
from madflow.review.api import review_debate
from madflow.review.entry import review_from
from madflow.testing.clock import ManualClock
from madflow.testing.models import ScriptedModel

OLD = Path(__file__).parent / "fixtures" / "review_by_overlap.jsonl"
LINES = (
    "import socket",
    "",
    "def fetch(host, retries=None):",
    "    while True:",
    "        try:",
    "            return socket.create_connection((host, 80))",
    "        except OSError:",
    "            pass",
)
PORT = (6, "minor", "(host, 80)")
SAID = {
    "a": ((4, "major", LINES[3], "the retry loop never gives up: it spins for ever while the server is down"),),
    "b": (
        (7, "major", LINES[6], "unbounded retries: with the server down the loop never ends, as nothing gives up"),
        (*PORT, "the port is fixed"),
    ),
    "c": ((*PORT, "the port is a fixed number"),),
}


def source() -> TaskFile:
    diff = f"--- /dev/null\n+++ b/net.py\n@@ -0,0 +1,{len(LINES)} @@\n" + "".join(f"+{line}\n" for line in LINES)
    text = "".join(f"{line}\n" for line in LINES)
    return TaskFile(path="net.py", language="python", diff=diff, added=tuple(range(1, len(LINES) + 1)), text=text)


def seat(view: TurnView) -> dict[str, Any]:
    if view.stage == "find":
        return {
            "findings": [
                {"file": "net.py", "line": line, "severity": severity, "text": text, "quote": quote}
                for line, severity, quote, text in SAID[view.seat.agent]
            ]
        }
    votes = [
        {"finding": row["id"], "decision": "accept" if row["severity"] == "major" else "reject", "notes": "read"}
        for row in view.subject["findings"]
    ]
    return {"decision": "approve", "votes": votes}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    with open_ledger(tmp_path / "l.db", clock=ManualClock()) as opened:
        yield opened


def review(ledger: Any, **values: Any) -> Debate:
    return Debate(
        task=Task(task_id="t", question="Review.", files=(source(),)),
        agents=[Agent(agent, model=ScriptedModel(seat), max_output_tokens=500) for agent in SAID],
        protocol="review",
        ledger=ledger,
        **{"id": "r1", **values},
    )


async def landed(debate: Debate) -> Proposal:
    outcome = await run(debate, clock=ManualClock())
    assert isinstance(outcome, Proposal)
    return outcome


async def old_stream(ledger: SqliteLedger) -> None:
    """The stream of a review that was recorded before there were rules."""
    rows = [json.loads(line) for line in OLD.read_text("utf-8").splitlines()]
    await ledger.record("debate/r1", [Event(row["kind"], row["payload"]) for row in rows], after=0)


def raised_by(proposal: Proposal) -> list[list[str]]:
    content = proposal.to_json()["content"]
    return sorted(row["raised_by"] for row in (*content["findings"], *content["rejected_findings"]))


async def test_paraphrases_are_one_finding_and_the_review_says_how(ledger: SqliteLedger) -> None:
    """Catches a review that merges by words in common only, and one that does not tell its rule."""
    made = await landed(review(ledger))
    assert raised_by(made) == [["a", "b"], ["b", "c"]]
    assert made.to_json()["content"]["merge"] == {"rule": "same", "claims": 4, "findings": 2, "uncompared": 0}
    assert replay(ledger, "r1") == made


async def test_a_ledger_of_a_time_without_rules_replays_to_its_bytes(ledger: SqliteLedger) -> None:
    """Catches a default for the missing field that is the default of new reviews: replay would call it corrupt."""
    await old_stream(ledger)
    old = replay(ledger, "r1")
    assert raised_by(old) == [["a"], ["b"], ["b", "c"]]
    assert "merge" not in old.to_json()["content"]
    assert old.digest == json.loads(OLD.read_text("utf-8").splitlines()[-1])["payload"]["digest"]


async def test_a_resume_by_another_rule_is_refused_by_name(ledger: SqliteLedger) -> None:
    """Catches findings that change under a review that has begun, and a rule that could not be restored."""
    await landed(review(ledger, id="r2"))
    with pytest.raises(ResumeRefused, match=r"merge\.rule: 'same' → 'overlap'"):
        await landed(review(ledger, id="r2", merge="overlap"))
    await old_stream(ledger)
    with pytest.raises(ResumeRefused, match=r"merge\.rule: 'overlap' → 'same'"):
        await landed(review(ledger, merge="same"))


async def test_a_review_of_a_time_without_rules_is_asked_for_again(ledger: SqliteLedger) -> None:
    """Catches a default that refuses what was begun before it, and a prompt that counts where nobody reads it."""
    await old_stream(ledger)
    opened_with = json.loads(OLD.read_text("utf-8").splitlines()[0])["payload"]["config"]["prompts"]
    assert not any(name.endswith("same.md") for name in opened_with)
    again = await landed(review(ledger, rounds=3))
    assert raised_by(again) == [["a"], ["b"], ["b", "c"]]
    assert again == replay(ledger, "r1")
    with pytest.raises(ResumeRefused, match=r"same\.md: added"):
        await landed(review(ledger, rounds=3, same_judge="a"))


async def test_a_review_that_was_begun_by_overlap_goes_on_by_it(ledger: SqliteLedger) -> None:
    """Catches a rule that changes in the middle of a review because the caller does not name it."""
    rows = [json.loads(line) for line in OLD.read_text("utf-8").splitlines()]
    begun = [Event(row["kind"], row["payload"]) for row in rows if row["kind"] != "landed"][:-1]
    await ledger.record("debate/r1", begun, after=0)
    made = await landed(review(ledger, rounds=3))
    assert raised_by(made) == [["a"], ["b"], ["b", "c"]]
    assert replay(ledger, "r1") == made


def test_a_tree_may_be_named_by_a_text(tmp_path: Path, ledger: SqliteLedger) -> None:
    """Catches a root that only a Path can name."""
    (tmp_path / "net.py").write_text("".join(f"{line}\n" for line in LINES))
    for root in (str(tmp_path), tmp_path):
        assert review_debate(source().diff, root=root, ledger=ledger).root == tmp_path


async def test_the_rule_of_old_can_be_chosen(ledger: SqliteLedger) -> None:
    """Catches a rule that is recorded and not followed."""
    made = await landed(review(ledger, merge="overlap"))
    assert raised_by(made) == [["a"], ["b"], ["b", "c"]]
    assert "merge" not in made.to_json()["content"]


def test_a_rule_that_is_none_or_out_of_place_is_refused(ledger: SqliteLedger) -> None:
    """Catches an option that is ignored where it can have no effect."""
    for values, said in (
        ({"merge": "smae"}, r"unknown merge rule 'smae' \(did you mean same\?\); merge is one of overlap, same"),
        ({"same_judge": "z"}, "no seat 'z'"),
        ({"same_judge": "a", "merge": "overlap"}, "by the merge rule same"),
    ):
        with pytest.raises(ConfigError, match=said):
            opened(review(ledger, **values))
    with pytest.raises(ConfigError, match="merge, same_judge goes with a review"):
        opened(Debate(task="?", agents=[Agent("a", seat)], merge="same", same_judge="a", ledger=ledger))
    analysed = review_debate(source().diff, crew=load_crew("analysers"), ledger=ledger, same_judge="correctness")
    with pytest.raises(ConfigError, match=r"an analyser .* compares no claims"):
        opened(analysed)


def opened(debate: Debate) -> Any:
    from madflow.debate.setup import build_config, crew_of, prompts_of

    crew = crew_of(debate)
    protocol = debate.protocol or crew.protocol
    return build_config(debate, "d", crew, prompts_of(crew, protocol))


def test_requests_of_langgraph_name_the_rule_and_the_judge() -> None:
    """Catches an option that only Python has."""
    asked = review_from({"diff": source().diff, "merge": "overlap", "same_judge": "correctness"})
    assert (asked.merge, asked.same_judge) == ("overlap", "correctness")
