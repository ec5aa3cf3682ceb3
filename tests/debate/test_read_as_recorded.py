"""A reply is read as it was recorded: a process that dies behind it and one that does not count the same ballot."""

from pathlib import Path

import pytest
from panels import make_debate, sound

from madflow.debate.run import run
from madflow.ports import ModelReply, ModelRequest, Usage
from madflow.testing.clock import ManualClock
from madflow.testing.faults import Crash
from madflow.testing.models import ScriptedModel

VALID = '{"answer": "A"}'


class Odd:
    """A client whose first reply is `text`; its repair says B, unless the process dies of it."""

    name = "odd"

    def __init__(self, text: str, *, dies: bool) -> None:
        self.text, self.dies, self._quoting = text, dies, ScriptedModel([])

    def quote(self, request: ModelRequest) -> object:
        return self._quoting.quote(request)

    async def complete(self, request: ModelRequest) -> ModelReply:
        if not request.call_id.endswith("/repair"):
            return ModelReply(self.text, Usage(5, 7))
        if self.dies:
            raise Crash
        return ModelReply('{"answer": "B"}', Usage(5, 7))


async def ballot_of_c(folder: Path, text: str, *, dies: bool) -> tuple[str, str]:
    good = ScriptedModel({"*": VALID})

    def debate(client: Odd) -> object:
        models = {"a": good, "b": good, "c": client}
        return make_debate("answer", models, folder, task={"question": "?", "options": ["yes", "no"]})

    if dies:
        try:
            await run(debate(Odd(text, dies=True)), clock=ManualClock())  # type: ignore[arg-type]
        except Crash:
            pass
        else:  # nothing was to repair, so nothing died
            text = "must not be asked again"
    proposal = sound(await run(debate(Odd(text, dies=False)), clock=ManualClock()))  # type: ignore[arg-type]
    return next((vote.decision, vote.notes) for vote in proposal.votes if vote.agent == "c")


@pytest.mark.parametrize("text", [VALID + " " * 300_000, '{"answer": "A", "reasoning": "\ud800"}', '{"answer": "A'])
async def test_a_reply_counts_the_same_after_a_crash(tmp_path: Path, text: str) -> None:
    """Catches a record that was cut or mended, where the text that was judged was not."""
    whole = await ballot_of_c(tmp_path / "whole", text, dies=False)
    assert await ballot_of_c(tmp_path / "resumed", text, dies=True) == whole
