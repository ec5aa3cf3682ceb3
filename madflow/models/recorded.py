"""Recorded debates, said again: each agent repeats what it said in that round, whatever it is asked.

A recording file is JSON lines, one debate each:

    {"task_id": "t1", "question": "…", "options": [["A", "…"], …], "agents": {"a": ["round 1", "round 2", null]},
     "answers": {"a": ["A", "B", null]}, "prompt_chars": {"a": [1200, 2400, 3600]}}

`options`, `answers` and `prompt_chars` may be left out. `answers` are the answers as somebody parsed them from the
texts: with them, a reply is the JSON {"reasoning": text, "answer": answer}, so that what is replayed does not depend
on how texts are read; an unparsed answer (null) is replayed as the bare text. A null text is an empty reply.
`confidences`, in the same places, go into that JSON where an answer has one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from ..core.messages import Frozen
from ..errors import ConfigError, PermanentModelError
from ..ports import ModelReply, ModelRequest, Quote, Usage
from .scripted import chars_as_tokens

__all__ = ["RecordedModel", "Recording", "load_recordings"]

_LINE_CHARS_MAX = 16 * 1024 * 1024

_Texts = dict[str, tuple[str | None, ...]]


class Recording(Frozen):
    """One recorded debate. Every tuple has one entry a round, the first of them round 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task_id: str = Field(min_length=1, max_length=200)
    question: str = ""
    options: tuple[tuple[str, str], ...] = ()
    agents: _Texts = Field(min_length=1)
    answers: _Texts = Field(default_factory=dict)
    prompt_chars: dict[str, tuple[int, ...]] = Field(default_factory=dict)

    def model(self) -> RecordedModel:
        """The client that says it again; one serves all of its agents."""
        return RecordedModel(self.agents, answers=self.answers, prompt_chars=self.prompt_chars, name=self.task_id)


_LINE = TypeAdapter(Recording)


def load_recordings(path: str | Path) -> list[Recording]:
    """The recordings of a JSON lines file. Raises ConfigError naming the line and what is wrong with it."""
    found = []
    with Path(path).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            if len(line) > _LINE_CHARS_MAX:
                raise ConfigError(f"{path}:{number}: {len(line)} characters, the limit of a line is {_LINE_CHARS_MAX}")
            try:
                found.append(_LINE.validate_json(line))
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                where = ".".join(map(str, first["loc"]))
                raise ConfigError(f"{path}:{number}: {where or 'the line'}: {first['msg']}") from None
    return found


class RecordedModel:
    """A `ModelClient` that replays a transcript, for every agent in it.

    Args:
        rounds: what each agent said, by round; None is an empty reply.
        answers: parsed answers in the same places, see the module; {} replays the texts alone.
        confidences: stated with those answers, 0 to 1, in the same places.
        prompt_chars: the length of the prompt behind each reply; where absent, the prompt as rendered now counts.

    Tokens are characters / 4, rounded up. A round beyond the recording is PermanentModelError("not_recorded").
    """

    def __init__(
        self,
        rounds: Mapping[str, Sequence[str | None]],
        *,
        answers: Mapping[str, Sequence[str | None]] | None = None,
        confidences: Mapping[str, Sequence[float | None]] | None = None,
        prompt_chars: Mapping[str, Sequence[int]] | None = None,
        name: str = "recorded",
    ) -> None:
        self._rounds, self._answers, self._prompt_chars = rounds, answers or {}, prompt_chars or {}
        self._confidences = confidences or {}
        self.name = name

    def quote(self, request: ModelRequest) -> Quote:
        """Exact: what the recording will report, or the request's own limit where that is more."""
        prompt, text = self._prompt_tokens(request), self._text(request)
        output = max(request.max_output_tokens, chars_as_tokens(text or ""))
        return Quote(prompt_tokens=prompt, output_tokens=output, usd_nanos=0, exact=True)

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The recorded reply of the request's seat and round."""
        text = self._text(request)
        if text is None:
            agent, number = self._place(request)
            rounds = len(self._rounds.get(agent, ()))
            raise PermanentModelError(
                "not_recorded",
                f"{self.name}: {rounds} rounds of agent {agent!r} were recorded, round {number} is asked",
            )
        if request.on_first_token is not None:
            request.on_first_token()
        usage = Usage(self._prompt_tokens(request), chars_as_tokens(text), usd_nanos=0)
        return ModelReply(text=text, usage=usage, model=self.name)

    @staticmethod
    def _place(request: ModelRequest) -> tuple[str, int]:
        return (request.view.seat.agent, request.view.round) if request.view is not None else ("", 0)

    def _text(self, request: ModelRequest) -> str | None:
        """The reply, or None where nothing was recorded for this place."""
        agent, number = self._place(request)
        rounds = self._rounds.get(agent, ())
        if not 1 <= number <= len(rounds):
            return None
        text = rounds[number - 1] or ""
        parsed = self._answers.get(agent, ())
        answer = parsed[number - 1] if number <= len(parsed) else None
        if answer is None:
            return text
        stated = self._confidences.get(agent, ())
        sure = stated[number - 1] if number <= len(stated) else None
        reply = {"reasoning": text, "answer": answer} | ({} if sure is None else {"confidence": sure})
        return json.dumps(reply, ensure_ascii=False)

    def _prompt_tokens(self, request: ModelRequest) -> int:
        agent, number = self._place(request)
        chars = self._prompt_chars.get(agent, ())
        if 1 <= number <= len(chars):
            return -(-chars[number - 1] // 4)
        return chars_as_tokens(request.system + request.prompt)
