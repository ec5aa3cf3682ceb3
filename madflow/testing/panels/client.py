"""The seats of a simulated panel as a `ModelClient`: the same panel in the real debate graph.

A seat says in round 1 what it says in `simulate`; later it reacts to the transcript that it is shown, so that the
graph's own topology, rounds and policies take effect. Each reply names its seat, which is how a reader knows its
own turn; nothing is remembered between calls, so a resumed debate goes on as it began. A debate has one turn a seat
and round for all readers: an equivocator cannot tell them different things there, and says what it says to the
record. Where answers are open, the graph freezes its options after round 1; what nobody said by then is an invalid
ballot there.

Right answers come from `pose`: `Task.task_id` is the question's name.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from ...errors import PermanentModelError
from ...models.scripted import chars_as_tokens
from ...ports import ModelReply, ModelRequest, Quote, TurnView, Usage
from .behaviour import Sight
from .model import PanelModel
from .seats import answers_of, cast, pose

__all__ = ["SimulatedModel", "task_of"]

_STAGES: Final = ("position", "discuss")
_SAID: Final = re.compile(r"^(s[0-9]{1,3}) holds (.+?)\.(?:\s|$)", re.MULTILINE)


class SimulatedModel:
    """One client for all seats; agents are called as `PanelModel.seats` are.

    Args:
        model: the panel; its course says nothing here, the debate's own settings do.
        seed, run: as for `simulate`.

    Tokens are characters / 4, rounded up.
    """

    def __init__(self, model: PanelModel, *, seed: int, run: str = "run-0") -> None:
        self._model, self._seed, self._cast = model, seed, cast(model, run, seed)
        self.name = "simulated"

    def quote(self, request: ModelRequest) -> Quote:
        """Exact for the prompt, at most the limit for the reply."""
        prompt = chars_as_tokens(request.system + request.prompt)
        return Quote(prompt_tokens=prompt, output_tokens=request.max_output_tokens, usd_nanos=0, exact=True)

    async def complete(self, request: ModelRequest) -> ModelReply:
        """What the seat says. Raises PermanentModelError("not_simulated") for what a panel cannot be asked."""
        view = request.view
        if view is None or view.stage not in _STAGES or view.seat.agent not in self._cast.seats:
            asked = f"stage {view.stage!r} of agent {view.seat.agent!r}" if view else "a request without a view"
            raise PermanentModelError(
                "not_simulated",
                f"a simulated panel has the seats {', '.join(self._model.seats)} and the stages {', '.join(_STAGES)}; "
                f"it was asked for {asked}",
            )
        text = self._said(view)[: request.max_output_tokens * 4]
        if request.on_first_token is not None:
            request.on_first_token()
        usage = Usage(chars_as_tokens(request.system + request.prompt), chars_as_tokens(text), usd_nanos=0)
        return ModelReply(text=text, usage=usage, model=self.name)

    def _said(self, view: TurnView) -> str:
        seat, number = view.seat.agent, view.round
        question = pose(self._model, view.task.task_id, self._seed)
        sight = None if view.stage == "position" else self._sight(view)
        answer = self._cast.reply(question, seat, number, sight)
        if answer is None:
            return "?"
        reasoning = f"{seat} holds {answer}.".ljust(self._model.reply_chars)
        ids = {text: oid for oid, text in view.options} if not self._model.options else {}
        reply: dict[str, Any] = {"reasoning": reasoning, "answer": ids.get(answer, answer)}
        sure = self._cast.confidence(question, seat, number, answer)
        if sure is not None:
            reply["confidence"] = sure
        return json.dumps(reply)

    def _sight(self, view: TurnView) -> Sight:
        """The last reply of every seat in the transcript. Where all see all, one that is not there was unreadable."""
        question, own = pose(self._model, view.task.task_id, self._seed), view.seat.agent
        everybody = self._model.course.topology == "all"
        last: dict[str, str | None] = dict.fromkeys(self._model.seats if everybody else (own,))
        known = set(answers_of(self._model))
        for number, _, text in view.transcript:
            said = _SAID.search(text)
            if said and said[1] in self._cast.seats and number == view.round - 1:
                last[said[1]] = said[2] if said[2] in known else None
        others = tuple(
            (answer, self._cast.misleads(question, seat, answer)) for seat, answer in last.items() if seat != own
        )
        return Sight(last[own], others)


def task_of(model: PanelModel, key: str) -> dict[str, Any]:
    """The question as a task for a `Debate`. Its right answer is `pose(model, key, seed).gold`."""
    options = [[answer, f"answer {answer}"] for answer in answers_of(model)] if model.options else []
    return {"task_id": key, "question": f"Which answer is right for {key}?", "options": options}
