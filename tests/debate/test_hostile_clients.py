"""A client that breaks its contract costs its own seat: no exception leaves `run` because of a model."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from panels import make_debate, sound

from madflow.core.limits import Limits
from madflow.core.proposal import Proposal
from madflow.debate.run import Pending, replay, run
from madflow.errors import ConfigError
from madflow.ports import ModelReply, ModelRequest, Quote, Usage
from madflow.testing.clock import ManualClock
from madflow.testing.models import ScriptedModel

GOOD = '{"answer": "yes"}'


class Foreign:
    """A client whose `complete` is any coroutine function."""

    name = "foreign"

    def __init__(self, complete: Any) -> None:
        self._complete, self._quoting, self.calls = complete, ScriptedModel([]), 0

    def quote(self, request: ModelRequest) -> Any:
        return self._quoting.quote(request)

    async def complete(self, request: ModelRequest) -> Any:
        self.calls += 1
        return await self._complete(request)


async def beside_two_good_ones(folder: Path, bad: Any, **values: Any) -> Proposal:
    """The outcome of a debate in which seat c is the bad one; a and b say yes."""
    good = ScriptedModel({"*": GOOD})
    models = {"a": good, "b": good, "c": bad}
    debate = make_debate("answer", models, folder, task={"question": "?", "options": ["yes", "no"]}, **values)
    async with asyncio.timeout(20):
        proposal = sound(await run(debate, clock=ManualClock()))
    assert replay(debate.ledger, "d1").to_json() == proposal.to_json()
    assert (proposal.decision.result, proposal.decision.choice) == ("approved", "A")
    return proposal


def seat_c(proposal: Proposal) -> tuple[str, str]:
    vote = next(vote for vote in proposal.votes if vote.agent == "c")
    return vote.decision, vote.notes


async def raises_value_error(_: ModelRequest) -> Any:
    raise ValueError("broken \ud800 client")


async def raises_cancelled(_: ModelRequest) -> Any:
    raise asyncio.CancelledError


async def raises_timeout(_: ModelRequest) -> Any:
    raise TimeoutError


async def returns_none(_: ModelRequest) -> Any:
    return None


async def returns_text(_: ModelRequest) -> Any:
    return GOOD


async def text_is_bytes(_: ModelRequest) -> Any:
    return ModelReply(GOOD.encode())  # type: ignore[arg-type]


async def text_is_none(_: ModelRequest) -> Any:
    return ModelReply(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "complete",
    [raises_value_error, raises_cancelled, raises_timeout, returns_none, returns_text, text_is_bytes, text_is_none],
)
async def test_a_broken_client_is_a_missing_seat(tmp_path: Path, complete: Any) -> None:
    bad = Foreign(complete)
    proposal = await beside_two_good_ones(tmp_path, bad)
    decision, cause = seat_c(proposal)
    assert decision == "missing"
    assert cause in ("client", "timeout")
    assert bad.calls == 1, "a broken client is not worth a retry"


@pytest.mark.parametrize(
    "usage",
    [
        Usage(-5, 10),
        Usage(10**30, 10),
        Usage(1.5, 10),  # type: ignore[arg-type]
        Usage(5, "7"),  # type: ignore[arg-type]
        Usage(5, 7, usd_nanos=-1),
        Usage(5, 7, cached_tokens=-3),
        {"prompt_tokens": 5},
    ],
)
async def test_usage_that_is_none_is_not_believed_and_the_reservation_stays(tmp_path: Path, usage: Any) -> None:
    """Catches an account that is credited by nonsense, and a debate that ends in its arithmetic."""

    async def complete(_: ModelRequest) -> Any:
        return ModelReply(GOOD, usage)

    proposal = await beside_two_good_ones(tmp_path, Foreign(complete))
    assert seat_c(proposal)[0] == "A"
    spent = proposal.usage["by_agent"]["c"]
    assert spent["output_tokens"] == 200, "charged at its reservation"
    assert proposal.usage["unreported"]["calls"] == 1


@pytest.mark.parametrize("text", ["\ud800", f'{GOOD[:-1]}, "reasoning": "\\ud800"}}', "\x00", "x" * 1_000_000, ""])
async def test_a_text_no_record_can_hold_is_an_invalid_ballot(tmp_path: Path, text: str) -> None:
    """Lone surrogates, raw and escaped: JSON for some, Unicode for none."""

    async def complete(_: ModelRequest) -> Any:
        return ModelReply(text, Usage(5, 7), finish_reason="\udfff", model="\ud800")

    bad = Foreign(complete)
    assert seat_c(await beside_two_good_ones(tmp_path, bad))[0] == "invalid"
    assert bad.calls == 2, "one call and one repair"


async def test_a_client_that_keeps_cancelling_itself_costs_one_call(tmp_path: Path) -> None:
    """Catches a seat that is asked over and over, because its cancellation looks like the debate's own."""
    bad = Foreign(raises_cancelled)
    proposal = await beside_two_good_ones(tmp_path, bad, budget=Limits(calls=1000, tokens=10**9))
    assert bad.calls == 1
    assert proposal.decision.stop_reason == "converged"


def undecided(folder: Path) -> Any:
    models = {name: ScriptedModel({"*": {"answer": said}}) for name, said in (("a", "A"), ("b", "B"), ("c", "abstain"))}
    task = {"question": "?", "options": ["yes", "no"]}
    return make_debate("answer", models, folder, task=task, rounds=1, fallback=("human",))


async def test_a_human_who_answers_nonsense_is_not_asked_for_ever(tmp_path: Path) -> None:
    asked = 0

    async def human(_: Any) -> dict[str, str]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return {"choice": "neither of them", "by": "ann"}

    async with asyncio.timeout(10):
        outcome = await run(undecided(tmp_path), human=human, clock=ManualClock())
    assert isinstance(outcome, Pending), "the question stays open, for somebody who reads it"
    assert asked <= 5


async def test_cancelled_while_a_human_thinks_it_lands(tmp_path: Path) -> None:
    cancel = asyncio.Event()

    async def human(_: Any) -> dict[str, str]:
        cancel.set()
        await asyncio.sleep(3600)
        raise AssertionError("the human was waited for")

    async with asyncio.timeout(10):
        proposal = sound(await run(undecided(tmp_path), human=human, cancel=cancel, clock=ManualClock()))
    assert proposal.decision.stop_reason == "cancelled"
    assert proposal.decision.result == "no_decision"


async def test_pending_and_then_answered_by_another_process(tmp_path: Path) -> None:
    outcome = await run(undecided(tmp_path), clock=ManualClock())
    assert isinstance(outcome, Pending)
    assert [option["id"] for option in outcome.question["options"]] == ["A", "B"]

    async def human(_: Any) -> dict[str, str]:
        return {"choice": "B", "by": "ann"}

    proposal = sound(await run(undecided(tmp_path), human=human, clock=ManualClock()))
    assert (proposal.decision.stop_reason, proposal.decision.choice) == ("human", "B")
    assert proposal.decision.decided_by == "human:ann"


@pytest.mark.parametrize("word", [{}, {"choice": None}, {"choice": "\ud800", "by": "\udfff"}, {"choice": "x" * 10**6}])
async def test_a_human_without_a_choice_leaves_the_question_open(tmp_path: Path, word: dict[str, Any]) -> None:
    async def human(_: Any) -> dict[str, Any]:
        return word

    assert isinstance(await run(undecided(tmp_path), human=human, clock=ManualClock()), Pending)


async def test_a_client_whose_quote_fails_is_named_before_anything_is_recorded(tmp_path: Path) -> None:
    class NoQuote(ScriptedModel):
        def quote(self, request: ModelRequest) -> Quote:
            raise ZeroDivisionError("no price")

    debate = make_debate("answer", NoQuote({"*": {"answer": "A"}}), tmp_path)
    with pytest.raises(ConfigError, match=r"agent 'a': its client's quote raised ZeroDivisionError: no price"):
        await run(debate)
