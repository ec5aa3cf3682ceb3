"""`stream` and `run_sync` at their edges: left early, cancelled, called where a loop runs."""

import asyncio
import warnings
from contextlib import aclosing
from pathlib import Path

import pytest
from panels import answer_reply, make_debate, sound

from madflow.debate.run import run, run_sync, stream
from madflow.debate.setup import Debate
from madflow.errors import ConfigError, TransientModelError
from madflow.ports import TurnView
from madflow.testing.clock import ManualClock
from madflow.testing.models import HANG, ScriptedModel


def hanging(folder: Path) -> Debate:
    return make_debate("answer", ScriptedModel({"*": HANG}), folder)


def answering(folder: Path) -> Debate:
    return make_debate("answer", ScriptedModel(answer_reply), folder)


async def test_a_stream_that_is_left_early_gives_the_debate_back(tmp_path: Path) -> None:
    """Catches a run that still holds the debate's lock, and still calls models, when its iterator is closed."""
    async with aclosing(stream(hanging(tmp_path))) as seen:
        async for progress in seen:
            assert progress.kind == "opened"
            break
    assert sound(await run(answering(tmp_path), clock=ManualClock())).approved


async def test_a_cancelled_reader_gives_the_debate_back(tmp_path: Path) -> None:
    async def read() -> None:
        async for _ in stream(hanging(tmp_path)):
            pass

    reader = asyncio.create_task(read())
    await asyncio.sleep(0.2)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert sound(await run(answering(tmp_path), clock=ManualClock())).approved


async def test_every_record_comes_out_and_the_outcome_is_the_last(tmp_path: Path) -> None:
    seen = [progress async for progress in stream(answering(tmp_path), clock=ManualClock())]
    assert [seen[0].kind, seen[-2].kind, seen[-1].kind] == ["opened", "landed", "proposal"]
    assert sum(progress.kind == "answered" for progress in seen) == 9
    assert sound(seen[-1].outcome).approved  # type: ignore[arg-type]


async def test_an_error_before_the_first_call_comes_out_of_the_stream(tmp_path: Path) -> None:
    debate = make_debate("answer", ScriptedModel(answer_reply), tmp_path, topology="star")
    with pytest.raises(ConfigError, match="star"):
        [progress async for progress in stream(debate)]


async def test_run_sync_inside_a_loop_says_what_to_write(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConfigError, match="await run"):
            run_sync(answering(tmp_path))


async def test_a_retry_after_that_is_no_number_is_none(tmp_path: Path) -> None:
    """An app's own error may carry anything; it costs its seat at most."""

    async def reply(view: TurnView) -> dict[str, object]:
        raise TransientModelError("busy", "later", retry_after_s="5")  # type: ignore[arg-type]

    good = ScriptedModel({"*": {"answer": "yes"}})
    models = {"a": good, "b": good, "c": reply}
    proposal = sound(await run(make_debate("answer", models, tmp_path), clock=ManualClock()))
    assert {vote.agent: vote.notes for vote in proposal.votes}["c"] == "busy"
