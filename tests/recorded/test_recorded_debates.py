"""Recorded debates of real models through the real graph: the same winners as counting their parsed answers by hand.

Catches: a ballot lost, doubled or mapped to another option between reply, ballot box, rule and proposal; a round that
is skipped or counted twice; an unparsed answer that becomes a vote.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from madflow.core.messages import Agent
from madflow.core.proposal import Proposal
from madflow.debate.run import run
from madflow.debate.setup import Debate
from madflow.ledger.sqlite import open_ledger
from madflow.models.recorded import RecordedModel

LETTERS = "ABCDEFGHIJKLMNOP"
LAST_LETTER = re.compile(r"\(([A-P])\)")


def parsed(text: str | None) -> str | None:
    """The letter in the last parentheses, as these recordings were asked to end; None where there is none."""
    found = LAST_LETTER.findall(text or "")
    return found[-1] if found else None


def recorded_rows() -> list[dict[str, Any]]:
    folder = os.environ.get("MADFLOW_RECORDED", "")
    path = Path(folder) / "attack-mmlu.jsonl.gz"
    if not folder or not path.is_file():
        pytest.skip("MADFLOW_RECORDED names no folder with attack-mmlu.jsonl.gz: real recordings are not shipped")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    rows = [row for row in rows if len(row["agents"]) == 3 and all(len(a["rounds"]) == 3 for a in row["agents"])]
    for row in rows:
        for agent in row["agents"]:
            agent["answers"] = [parsed(text) for text in agent["rounds"]]
    return rows


def winner_by_hand(row: dict[str, Any]) -> str | None:
    """Strictly more than half of three agents, over the last round's parsed answers."""
    letters = LETTERS[: len(row["options"])]
    votes = Counter(a["answers"][2] for a in row["agents"] if a["answers"][2] in set(letters))
    best = [letter for letter, count in votes.items() if count >= 2]
    return best[0] if best else None


def debate_of(row: dict[str, Any], ledger: Any) -> Debate:
    agents = {agent["id"]: agent for agent in row["agents"]}
    # An answer nobody could parse is replayed as an empty reply: what counts here are the parsed answers.
    texts = {a: [t if x else None for t, x in zip(r["rounds"], r["answers"], strict=True)] for a, r in agents.items()}
    model = RecordedModel(texts, answers={a: r["answers"] for a, r in agents.items()}, name=row["run"])
    options = list(zip(LETTERS, row["options"], strict=False))
    return Debate(
        task={"task_id": row["task_id"], "question": row["question"], "options": options},
        agents=[Agent(agent, model=model) for agent in agents],
        rule="majority",
        rounds=3,
        stop="max_rounds",
        ledger=ledger,
    )


async def debate_all(rows: list[dict[str, Any]], ledger: Any, at_once: int = 16) -> list[Proposal]:
    gate = asyncio.Semaphore(at_once)

    async def one(row: dict[str, Any]) -> Proposal:
        async with gate:
            outcome = await run(debate_of(row, ledger))
            assert isinstance(outcome, Proposal)
            return outcome

    return await asyncio.gather(*(one(row) for row in rows))


def test_accuracy_equals_scoring_the_parsed_answers_by_hand(tmp_path: Path) -> None:
    rows = recorded_rows()
    assert len(rows) > 1000
    with open_ledger(tmp_path / "ledger.db") as ledger:
        proposals = asyncio.run(debate_all(rows, ledger))
        assert ledger.verify() > 9 * len(rows)
    by_hand = [winner_by_hand(row) for row in rows]
    by_graph = [proposal.decision.choice for proposal in proposals]
    assert by_graph == by_hand
    right = sum(choice == row["gold"] for choice, row in zip(by_graph, rows, strict=True))
    assert right == sum(choice == row["gold"] for choice, row in zip(by_hand, rows, strict=True))
    assert right > 300, "too few right answers for the comparison to mean anything"
    for proposal, choice in zip(proposals, by_hand, strict=True):
        assert proposal.decision.rounds == 3
        assert proposal.approved == (choice is not None)
        tally = proposal.decision.tally
        assert tally.eligible == tally.valid + tally.abstain + tally.invalid + tally.missing == 3
