"""From a state to a request: what one seat is shown.

A prompt is a row of blocks that only grows at its end: task, one block a finished stage, what is asked now, the seat.
Everything up to the seat is the same for every reader of an all-to-all debate, so a provider's prompt cache serves all
seats and rounds. A seat sees stages that closed before its own began, never the one it speaks in. Turns carry letters,
never names, in an order drawn from (debate, round), the same for all readers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..core.config import Config
from ..core.messages import Seat, TaskFile
from ..core.replies import schema_for
from ..core.state import Answer, Ask, Closed, Stage, State, whole_rounds
from ..core.topology import labels, order, parse_topology, visible
from ..errors import ReplyError
from ..ports import ModelRequest, ReplySchema, TurnView
from ..prompts import Prompts

__all__ = ["TURN_CHARS_MAX", "Renderer", "turn_text"]

TURN_CHARS_MAX = 16_000
_QUIET = ("judge", "mediate")
_ALONE = ("assess", "same")  # stages that show no round: what they are about is their subject


class Renderer:
    """Renders the requests of one debate. Holds what is already rendered, nothing that decides."""

    def __init__(self, config: Config, prompts: Prompts) -> None:
        self.prompts = prompts
        self.system = prompts.render_system()
        everyone = [seat.agent for seat in config.seats]
        self.labels = labels(everyone, debate_id=config.debate_id, seed=config.seed)
        self.topology = parse_topology(config.topology)
        self._tasks: dict[int, str] = {}
        self._blocks: dict[tuple[int, str], str] = {}
        self._stage_text: tuple[Stage | None, str, str] = (None, "", "")
        self._seats: dict[str, str] = {}
        self._views: dict[tuple[int, str], tuple[tuple[int, str, str], ...]] = {}
        self._seen: set[int] = set()

    def request(self, state: State, stage: Stage, ask: Ask, timeout_s: float) -> ModelRequest:
        """The request of one ask."""
        config, seat = state.config, state.config.seat(ask.agent)
        blocks = [self._task(config, stage, ask)]
        blocks.extend(self._history(state, stage, seat))
        blocks.append(self._stage(config, stage, ask.kind))
        ends, total = [], 0
        for block in blocks:
            total += len(block)
            ends.append(total)
        blocks.append(self._seat(seat))
        name, schema = schema_for(ask.kind)
        return ModelRequest(
            call_id=stage.call_id(ask),
            model=seat.model,
            system=self.system,
            prompt="".join(blocks),
            max_output_tokens=seat.max_output_tokens,
            timeout_s=timeout_s,
            schema=ReplySchema(name, schema),
            prefix_ends=tuple(ends),
            seed=config.seed,
            view=self.view(state, stage, ask),
        )

    def repair(self, request: ModelRequest, text: str, error: ReplyError) -> ModelRequest:
        """The one request that asks for the same turn again. The broken reply itself is not shown: it is hostile."""
        del text
        prompt = request.prompt + self.prompts.render_repair(f"{error.cause}: {error.detail}".rstrip(": "))
        return replace(request, call_id=f"{request.call_id}/repair", prompt=prompt, on_first_token=None)

    def view(self, state: State, stage: Stage, ask: Ask) -> TurnView:
        """The same question as data, for clients that are code."""
        config, seat = state.config, state.config.seat(ask.agent)
        key = (stage.number, "" if self._same_for_all(config) else seat.agent)
        if key not in self._views:
            self._views[key] = tuple(
                (closed.stage.round, self.labels[agent], text)
                for closed in self._shown(state, stage)
                for agent, text in self._turns(config, closed, seat)
            )
        return TurnView(
            debate_id=config.debate_id,
            stage=ask.kind,
            round=stage.round,
            seat=seat,
            task=config.task,
            part=ask.part,
            parts=max(1, len(config.parts)),
            options=stage.options,
            transcript=self._views[key],
            subject=stage.subject,
            schema=ask.kind,
        )

    def shared_prefix(self, request: ModelRequest) -> int:
        """Characters of the system and prompt that an earlier, already answered request began with."""
        longest = 0
        for end in request.prefix_ends:
            if hash(request.prompt[:end]) not in self._seen:
                break
            longest = end
        return longest + len(self.system) if self._seen else 0

    def warmed(self, request: ModelRequest) -> None:
        """The provider has begun to answer `request`: its blocks are now cacheable."""
        self._seen.update(hash(request.prompt[:end]) for end in request.prefix_ends)

    def _task(self, config: Config, stage: Stage, ask: Ask) -> str:
        part = ask.part if stage.kind == "find" or len(config.parts) <= 1 else -1
        if part not in self._tasks:
            task = config.task
            self._tasks[part] = self.prompts.render_task(
                task.question,
                context=task.context,
                options=task.options,
                files=[(f.path, f.language, f.diff) for f in _part_files(config, part)],
                left_out=[(f.path, f.left_out) for f in task.files if f.left_out],
            )
        return self._tasks[part]

    def _shown(self, state: State, stage: Stage) -> list[Closed]:
        if stage.kind in _ALONE:
            return [c for c in state.closed if c.stage.kind == stage.kind]
        hidden = ("select", "same", *_QUIET)
        shown = [c for c in state.closed if c.stage.kind not in hidden and c.stage.round <= stage.round]
        if state.config.policy is None:
            return shown
        return whole_rounds(c for c in shown if c.stage.round < stage.round or stage.kind in _QUIET)

    def _history(self, state: State, stage: Stage, seat: Seat) -> list[str]:
        same = self._same_for_all(state.config)
        blocks = []
        for closed in self._shown(state, stage):
            key = (closed.stage.number, "" if same else seat.agent)
            if key not in self._blocks:
                turns = [(self.labels[agent], text) for agent, text in self._turns(state.config, closed, seat)]
                self._blocks[key] = self.prompts.render_round(closed.stage.round, turns)
            blocks.append(self._blocks[key])
        return blocks

    def _same_for_all(self, config: Config) -> bool:
        return config.topology == "all" and config.reader_order == "shared"

    def _voters(self, closed: Closed) -> set[str]:
        return {ask.agent for ask in closed.stage.asks}

    def _turns(self, config: Config, closed: Closed, reader: Seat) -> list[tuple[str, str]]:
        """(agent, text) of one closed stage as `reader` sees it."""
        round_, spoke = closed.stage.round, sorted(self._voters(closed))
        if reader.agent in spoke and len(spoke) > 1:
            seen = set(visible(self.topology, spoke, reader.agent, round_, config.seed))
        else:
            seen = set(spoke)
        texts = {ask.agent: turn_text(ask.kind, answer) for ask, answer in closed.answers.items()}
        ordered = order(spoke, debate_id=config.debate_id, round=round_, seed=config.seed)
        if config.reader_order == "own":
            ordered = tuple(sorted(ordered, key=lambda agent: agent == reader.agent))
        return [(agent, texts[agent]) for agent in ordered if agent in seen and agent in texts]

    def _stage(self, config: Config, stage: Stage, kind: str) -> str:
        shown, known, text = self._stage_text
        if shown is stage and known == kind:  # by identity: the landing takes the number of a stage that never began
            return text
        subject = {k: v for k, v in stage.subject.items() if k != "objections"}
        if subject.get("plan"):  # 64 digits a step tell a reader nothing; the digest that is voted on covers them
            subject["plan"] = [{k: v for k, v in step.items() if k != "sha256_before"} for step in subject["plan"]]
        text = self.prompts.render_stage(
            kind,
            round=stage.round,
            rounds=config.rounds,
            options=() if kind == "position" else stage.options,
            subject=subject or None,
            objections=stage.subject.get("objections") or (),
        )
        self._stage_text = (stage, kind, text)
        return text

    def _seat(self, seat: Seat) -> str:
        if seat.agent not in self._seats:
            text = self.prompts.render_seat(self.labels[seat.agent], seat.role, seat.persona)
            self._seats[seat.agent] = text
        return self._seats[seat.agent]


def _part_files(config: Config, part: int) -> Sequence[TaskFile]:
    files = [file for file in config.task.files if not file.left_out]
    if part < 0:
        return []
    if not config.parts:
        return files
    wanted = set(config.parts[part])
    return [file for file in files if file.path in wanted]


def turn_text(kind: str, answer: Answer) -> str:
    """What the others read of a turn: its words and its ballot, or that it is missing. Bounded."""
    if answer.status != "valid" or answer.reply is None:
        return f"({answer.status})"
    reply = answer.reply
    lines = [str(reply.get("reasoning") or reply.get("notes") or reply.get("summary") or "").strip()]
    lines += [f"- {claim}" for claim in reply.get("claims") or reply.get("objections") or ()]
    if kind in ("draft", "revise"):
        lines.append(f"Plan: {reply.get('summary', '')} ({len(reply.get('plan') or ())} steps)")
    else:
        lines.append(_ballot_line(reply))
    text = "\n".join(line for line in lines if line)
    if len(text) > TURN_CHARS_MAX:
        return f"{text[:TURN_CHARS_MAX]}\n(cut: {len(text) - TURN_CHARS_MAX} more characters)"
    return text


def _ballot_line(reply: Mapping[str, Any]) -> str:
    said = reply.get("answer") or reply.get("decision")
    if not said:
        return ""
    sure = reply.get("confidence")
    return f"Ballot: {said}" + (f" (confidence {sure})" if sure is not None else "")
