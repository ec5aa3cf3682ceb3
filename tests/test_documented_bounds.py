"""docs/reference/protocols.md says how many calls a debate makes at most. Here is the panel that makes the most."""

import itertools
import json
from typing import Any

import pytest

from madflow.core.config import Config, Merge
from madflow.core.debate import AskSeats, Land, apply, due
from madflow.core.messages import Seat, Task, TaskFile
from madflow.core.replies import parse_reply
from madflow.core.state import Ask, Stage, State
from madflow.errors import ConfigError

VOTERS = ("ann", "ben", "cem", "dee")
_new = itertools.count()


def quarrel(stage: Stage, ask: Ask) -> dict[str, Any]:
    """One seat always holds out, every revision is new, and the mediator adds a plan of its own."""
    plan = {"summary": f"version {next(_new)}", "plan": []}
    half = VOTERS.index(ask.agent) % 2 if ask.agent in VOTERS else 0
    finding = {"file": "x.py", "line": 1, "severity": "major", "text": f"wrong {ask.agent}"}
    said: dict[str, dict[str, Any]] = {
        "position": {"answer": "AB"[half]},
        "discuss": {"answer": "AB"[half]},
        "draft": plan,
        "revise": plan,
        "select": {"choices": ["abstain"]},
        "ballot": {"decision": "abstain" if ask.agent == VOTERS[0] else "approve"},
        "find": {"findings": [finding]},
        "same": {"pairs": [{"pair": row["pair"], "same": False} for row in stage.subject.get("pairs", ())]},
        "assess": {"decision": "abstain" if ask.agent == VOTERS[0] else "approve"},
        "judge": {"choice": "none"},
        "mediate": {"kind": "modified_proposal", "text": "try this", "draft": plan},
    }
    return parse_reply(ask.kind, json.dumps(said[ask.kind])).model_dump(mode="json")


def calls(protocol: Any, rounds: int, parts: int, fallback: tuple[Any, ...], same_judge: str = "") -> int:
    """Asks until the landing."""
    seats = [Seat(agent=agent, model="m", family="f") for agent in VOTERS]
    seats += [Seat(agent=role, role=role, model="m", family="f") for role in ("judge", "mediator")]  # type: ignore[arg-type]
    options = (("A", "yes"), ("B", "no")) if protocol == "answer" else ()
    files = tuple(TaskFile(path=f"{number}.py", language="python", diff="", text="x\n") for number in range(parts))
    config = Config(
        debate_id="d",
        task=Task(task_id="t", question="?", options=options, files=files if protocol == "review" else ()),
        protocol=protocol,
        seats=tuple(seats),
        rounds=rounds,
        rule="unanimity",
        stop="converged",
        fallback=fallback,
        merge=Merge(rule="same", judge=same_judge),
        parts=tuple((file.path,) for file in files) if parts > 1 else (),
    )
    state, asked = apply(State(config), "opened", {}), 0
    while not isinstance(effect := due(state), Land):
        assert isinstance(effect, AskSeats)
        for ask in effect.asks:
            asked += 1
            body = {"stage": effect.stage.number, "agent": ask.agent, "kind": ask.kind, "part": ask.part}
            state = apply(state, "answered", {**body, "status": "valid", "reply": quarrel(effect.stage, ask)})
    return asked


@pytest.mark.parametrize("rounds", [1, 2, 3, 5])
def test_no_debate_makes_more_calls_than_documented(rounds: int) -> None:
    """Catches a stage that is asked once more than the page says, and a page that promises too much."""
    v, both = len(VOTERS), ("mediator", "judge")
    assert calls("answer", rounds, 1, ()) == v * rounds
    assert calls("answer", rounds, 1, both) == v * rounds + 2
    assert calls("proposal", rounds, 1, ()) == 2 * v + rounds * v + (rounds - 1)
    assert calls("proposal", rounds, 1, both) == 2 * v + rounds * v + (rounds - 1) + 2 + v


def test_no_review_makes_more_calls_than_documented() -> None:
    """Catches a review that votes part by part, or asks a seat twice."""
    v = len(VOTERS)
    for parts in (1, 3):
        assert calls("review", 2, parts, ()) == parts * v + v
        assert calls("review", 2, parts, ("mediator", "judge")) == parts * v + v + 2
        assert calls("review", 2, parts, ("mediator", "judge"), "judge") == parts * v + v + 2 + 1
        with pytest.raises(ConfigError, match="2 rounds"):
            calls("review", 1, parts, ())
