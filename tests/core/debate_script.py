"""Debates without I/O, for tests of the core: build a configuration, fold events, play a panel, run a script.

`play` drives a state to its landing with a function that answers each ask. `run_script` reads a text of commands and
returns what each printed; tests/golden holds such texts with their output.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from typing import Any

from madflow.core.config import EDITION, Config
from madflow.core.debate import AskHuman, AskSeats, Land, apply, due, land
from madflow.core.messages import Seat, Task
from madflow.core.replies import parse_reply
from madflow.core.state import Ask, Stage, State
from madflow.errors import ConfigError

__all__ = ["AT_MS", "answered", "fields_reply", "make_config", "opened", "play", "run_script", "valid"]

AT_MS = 1_760_000_000_000
Answerer = Callable[[Stage, Ask], Mapping[str, Any]]


def make_config(seats: str = "a b c", options: str = "", **values: Any) -> Config:
    """A configuration. `seats`: id[:role][*weight] …; `options`: id=text, separated by commas, or empty."""
    task = Task(
        task_id="t1",
        question="Which?",
        options=tuple(tuple(o.split("=", 1)) for o in options.split(",")) if options else (),  # type: ignore[misc]
    )
    values.setdefault("edition", EDITION)
    return Config(debate_id="d1", task=task, seats=tuple(_seat(text) for text in seats.split()), **values)


def _seat(text: str) -> Seat:
    rest, _, weight = text.partition("*")
    agent, _, role = rest.partition(":")
    return Seat(agent=agent, role=role or "debater", model="m", family="f", weight=int(weight or 1))  # type: ignore[arg-type]


def opened(config: Config) -> State:
    """The state after the opening."""
    return apply(State(config), "opened", {}, AT_MS)


def valid(stage_kind: str, /, **fields: Any) -> dict[str, Any]:
    """A valid answer's payload part, through the same strict parser that a debate uses."""
    return {"status": "valid", "reply": parse_reply(stage_kind, json.dumps(fields)).model_dump(mode="json")}


def fields_reply(kind: str, choice: str) -> dict[str, Any]:
    """The shortest reply of `kind` that says `choice`."""
    shapes: dict[str, dict[str, Any]] = {
        "position": {"answer": choice},
        "discuss": {"answer": choice},
        "draft": {"summary": choice, "plan": []},
        "revise": {"summary": choice, "plan": []},
        "concern": {"claims": [choice]},
        "select": {"choices": [choice]},
        "ballot": {"decision": choice},
        "judge": {"choice": choice},
        "mediate": {"kind": "recommendation", "text": choice},
    }
    return shapes[kind]


def answered(stage: Stage, ask: Ask, part: Mapping[str, Any]) -> dict[str, Any]:
    """The payload of an `answered` event."""
    return {"stage": stage.number, "agent": ask.agent, "kind": ask.kind, "part": ask.part, **part}


def play(
    config: Config, answer: Answerer, *, order: random.Random | None = None, human: str = "none", steps_max: int = 500
) -> tuple[State, list[tuple[str, dict[str, Any], int]]]:
    """Play a debate until it is ready to land. Returns the state and its events.

    Args:
        order: shuffles the order in which a stage's answers arrive; None: the order of the asks.
        human: what a human says where one is asked.
    """
    events: list[tuple[str, dict[str, Any], int]] = [("opened", {}, AT_MS)]
    state = opened(config)
    for _ in range(steps_max):
        effect = due(state)
        if isinstance(effect, Land):
            return state, events
        if isinstance(effect, AskHuman):
            event: tuple[str, dict[str, Any], int] = ("human", {"choice": human, "by": "h", "notes": ""}, AT_MS)
            events.append(event)
            state = apply(state, *event)
            continue
        assert isinstance(effect, AskSeats), effect
        asks = list(effect.asks)
        if order is not None:
            order.shuffle(asks)
        for ask in asks:
            if state.phase != "asking" or state.stage is not effect.stage:
                break  # closed early: what would come now is late
            event = ("answered", answered(effect.stage, ask, answer(effect.stage, ask)), AT_MS)
            events.append(event)
            state = apply(state, *event)
    raise AssertionError(f"no landing after {steps_max} steps; phase {state.phase}, stage {state.stage}")


# --- scripts ----------------------------------------------------------------------------------------------------------


def run_script(text: str) -> str:
    """Run a script and return it with the output of every command written behind its `----`.

    A block is one command line, `----`, and its output; blocks are separated by a blank line; `#` begins a comment.
    """
    script = _Script()
    blocks = []
    for block in text.strip().split("\n\n"):
        lines = block.split("\n")
        comments = [line for line in lines if line.startswith("#")]
        command = [line for line in lines if not line.startswith("#")]
        if not command:
            blocks.append(block)
            continue
        body = command[: command.index("----")] if "----" in command else command
        output = "\n".join(script.run(line) for line in body).strip("\n")
        blocks.append("\n".join([*comments, *body, "----", output]))
    return "\n\n".join(blocks) + "\n"


class _Script:
    def __init__(self) -> None:
        self.state: State | None = None

    def run(self, line: str) -> str:
        word, _, rest = line.partition(" ")
        command = getattr(self, f"_do_{word}", None)
        if command is None:
            raise AssertionError(f"unknown command in script: {line!r}")
        try:
            return str(command(rest.strip()))
        except ConfigError as error:
            return f"refused: {error}"

    @property
    def _now(self) -> State:
        assert self.state is not None, "the script must open a debate first"
        return self.state

    def _do_open(self, rest: str) -> str:
        values: dict[str, Any] = {}
        for item in rest.split("; "):
            key, _, value = item.strip().partition("=")
            values[key] = int(value) if value.isdigit() else tuple(value.split(",")) if key == "fallback" else value
        self.state = opened(make_config(**values))
        return self._show()

    def _do_say(self, rest: str) -> str:
        """say AGENT CHOICE | say AGENT {json} | say AGENT invalid:CAUSE | say AGENT missing:CAUSE"""
        agent, _, what = rest.partition(" ")
        stage = self._now.stage
        ask = next((a for a in stage.asks if a.agent == agent), None) if stage else None
        kind = ask.kind if ask else "position"  # nobody asked: a reply of any shape
        if what.startswith(("invalid:", "missing:")):
            status, _, cause = what.partition(":")
            part: dict[str, Any] = {"status": status, "cause": cause}
        else:
            part = valid(kind, **(json.loads(what) if what.startswith("{") else fields_reply(kind, what)))
        number = stage.number if stage else 0
        body = {"stage": number, "agent": agent, "kind": kind, "part": 0, **part}
        return self._apply("answered", body)

    def _do_cut(self, rest: str) -> str:
        """cut REASON [land] [unstarted]"""
        reason, *flags = rest.split()
        payload = {"reason": reason, "numbers": {}, "land": "land" in flags, "unstarted": "unstarted" in flags}
        return self._apply("cut", payload)

    def _do_human(self, rest: str) -> str:
        return self._apply("human", {"choice": rest, "by": "ann", "notes": ""})

    def _do_late(self, rest: str) -> str:
        agent, _, cause = rest.partition(" ")
        return self._apply("late", {"agent": agent, "cause": cause or "late"})

    def _do_resumed(self, rest: str) -> str:
        del rest
        return self._apply("resumed", {"limits": None})

    def _do_land(self, rest: str) -> str:
        """The proposal in short, and the landing folded into the state."""
        del rest
        body = land(self._now)
        self.state = apply(self._now, "landed", {"digest": body["digest"]}, AT_MS)
        decision = body["decision"]
        tally = {k: v for k, v in decision["tally"].items() if not k.endswith("_weight")}
        lines = [
            f"{body['proposal_id']} by {body['proposer']}: {decision['result']}, choice {decision['choice']}, "
            f"decided by {decision['decided_by']}",
            f"stop {decision['stop_reason']} {json.dumps(decision['stop_numbers'], sort_keys=True)}, "
            f"rounds {decision['rounds']}",
            f"tally {json.dumps(tally)}",
        ]
        lines += [f"  {v['agent']} ({v['weight']}): {v['decision']} | {v['notes']}" for v in body["votes"]]
        if decision["mediation"]:
            lines.append(f"mediation {decision['mediation']['kind']}: {decision['mediation']['text']}")
        lines.append(f"content {json.dumps(body['content'], sort_keys=True)}")
        return "\n".join(lines)

    def _apply(self, kind: str, payload: Mapping[str, Any]) -> str:
        before = len(self._now.refused)
        self.state = apply(self._now, kind, payload, AT_MS)
        lines = [f"refused: {agent}: {cause}" for agent, cause in self.state.refused[before:]]
        return "\n".join([*lines, self._show()])

    def _show(self) -> str:
        state = self._now
        effect = due(state)
        if isinstance(effect, AskSeats):
            stage = effect.stage
            names = " ".join(ask.agent if ask.kind == stage.kind else f"{ask.agent}({ask.kind})" for ask in effect.asks)
            options = ", ".join(f"{oid}={text}" for oid, text in stage.options)
            return (
                f"{stage.number}/{stage.kind} round {stage.round}: ask {names}{f' of [{options}]' if options else ''}"
            )
        if isinstance(effect, AskHuman):
            return f"ask the human of [{', '.join(oid for oid, _ in effect.options)}] after {_reason(state)}"
        if isinstance(effect, Land):
            return f"land: {_reason(state)}"
        return state.phase


def _reason(state: State) -> str:
    return state.stop.reason if state.stop else "nothing"
