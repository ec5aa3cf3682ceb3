"""Requests and views as the tests of models need them."""

from typing import Any

from madflow.core.messages import Seat, Task
from madflow.core.replies import schema_for
from madflow.ports import ModelRequest, ReplySchema, TurnView

__all__ = ["POSITION", "request", "view"]

POSITION = ReplySchema(*schema_for("position"))


def view(stage: str = "position", round_: int = 1, agent: str = "a") -> TurnView:
    seat = Seat(agent=agent, model="m", family="f")
    return TurnView(debate_id="d", stage=stage, round=round_, seat=seat, task=Task(task_id="t", question="Which?"))


def request(**changes: Any) -> ModelRequest:
    values: dict[str, Any] = {
        "call_id": "c1",
        "model": "m",
        "system": "You debate.",
        "prompt": "Which option?",
        "max_output_tokens": 64,
        "timeout_s": 5.0,
    }
    return ModelRequest(**{**values, **changes})
