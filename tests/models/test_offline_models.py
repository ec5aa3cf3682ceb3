"""Scripted, recorded and callable models: what they answer, bill, and refuse."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from model_requests import request, view
from pydantic import BaseModel

from madflow.core.replies import parse_reply
from madflow.errors import ConfigError, ModelError, PermanentModelError, TransientModelError
from madflow.models.callables import CallableModel
from madflow.ports import ModelClient, TurnView, Usage
from madflow.testing.models import DROP, HANG, RecordedModel, ScriptedModel, load_recordings

RECORDINGS = Path(__file__).parent / "recordings"


async def failure(client: ModelClient, **changes: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await client.complete(request(**changes))
    return caught.value


async def test_a_mapping_is_looked_up_from_the_particular_to_the_general() -> None:
    model = ScriptedModel({("ballot", 2, "b"): "1", ("ballot", 2): "2", "ballot": "3", "*": "4"})
    texts = [
        (await model.complete(request(view=seen))).text
        for seen in (view("ballot", 2, "b"), view("ballot", 2, "a"), view("ballot", 1), view("judge"))
    ]
    assert texts == ["1", "2", "3", "4"]
    assert model.calls == 4 and model.asked[0] == ("ballot", 2, "b")


async def test_a_sequence_is_said_in_order_and_never_repeated() -> None:
    model = ScriptedModel(["one", {"answer": "B"}, None, PermanentModelError("quota", "none left")])
    assert (await model.complete(request())).text == "one"
    assert (await model.complete(request())).text == '{"answer": "B"}'
    assert (await model.complete(request())).text == ""
    assert (await failure(model)).code == "quota"
    assert "call 5 of a script of 4" in str(await failure(model))


async def test_a_callable_sees_the_view() -> None:
    model = ScriptedModel(lambda seen: {"answer": seen.seat.agent.upper(), "reasoning": ""})
    assert parse_reply("position", (await model.complete(request(view=view(agent="a")))).text).answer == "A"
    assert (await failure(model)).code == "not_scripted"


async def test_what_is_not_scripted_names_the_place() -> None:
    error = await failure(ScriptedModel({"ballot": "x"}), view=view("judge", 3, "j"))
    assert isinstance(error, PermanentModelError)
    assert "stage 'judge', round 3, agent 'j'" in str(error)


async def test_mishaps() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    model = ScriptedModel([HANG, DROP], sleep=sleep)
    hung, dropped = await failure(model, timeout_s=7.0), await failure(model)
    assert isinstance(hung, TransientModelError) and hung.code == "timeout" and slept == [7.0]
    assert isinstance(dropped, TransientModelError) and dropped.code == "connection"


async def test_the_first_token_comes_in_its_time() -> None:
    order: list[Any] = []

    async def sleep(seconds: float) -> None:
        order.append(seconds)

    model = ScriptedModel(["x"], latency_s=0.5, first_token_s=0.125, sleep=sleep)
    reply = await model.complete(request(on_first_token=lambda: order.append("first")))
    assert order == [0.125, "first", 0.375] and reply.latency_ms == 500


@pytest.mark.parametrize("usage", ["chars", "full"])
async def test_a_bill_never_exceeds_the_quote(usage: Any) -> None:
    """Catches a script longer than max_output_tokens that is billed in full."""
    model = ScriptedModel({"*": "x" * 10_001}, usage=usage)
    asked = request(view=view(), prompt="p" * 1_001, max_output_tokens=100)
    quote, reply = model.quote(asked), await model.complete(asked)
    assert reply.usage is not None and reply.finish_reason == "length" and len(reply.text) == 400
    assert reply.usage.prompt_tokens == quote.prompt_tokens == -(-(11 + 1_001) // 4)
    assert reply.usage.output_tokens == quote.output_tokens == 100


async def test_usage_can_be_fixed_or_absent() -> None:
    assert (await ScriptedModel(["x"], usage=None).complete(request())).usage is None
    assert (await ScriptedModel(["x"], usage=Usage(5, 6)).complete(request())).usage == Usage(5, 6)
    with pytest.raises(ConfigError, match="replies is a string"):
        ScriptedModel("x")  # type: ignore[arg-type]


async def test_a_recording_is_said_again() -> None:
    queue, parsed, _ = load_recordings(RECORDINGS / "three_seats.jsonl")
    model = queue.model()
    first = await model.complete(request(view=view("position", 1, "bob")))
    assert parse_reply("position", first.text).answer == "B"
    assert first.usage == Usage(101, -(-len(first.text) // 4), usd_nanos=0)  # ceil(401 / 4)
    silent = await model.complete(request(view=view("discuss", 2, "cy")))
    assert silent.text == "" and silent.usage is not None and silent.usage.output_tokens == 0
    reply = await parsed.model().complete(request(view=view("position", 1, "ada")))
    assert parse_reply("position", reply.text).answer == "B"
    unparsed = await parsed.model().complete(request(view=view("position", 1, "bob")))
    assert unparsed.text == "I would say it is hard to tell."


async def test_beyond_the_recording_is_an_error_not_an_echo() -> None:
    model = RecordedModel({"a": ["x"]})
    for seen in (view(round_=2), view(agent="b"), None):
        error = await failure(model, view=seen)
        assert isinstance(error, PermanentModelError) and error.code == "not_recorded"
    assert "1 rounds of agent 'a'" in str(await failure(model, view=view(round_=2)))


async def test_a_recording_longer_than_the_limit_is_quoted_as_it_is() -> None:
    model = RecordedModel({"a": ["x" * 4_000]})
    asked = request(view=view(), max_output_tokens=10)
    reply = await model.complete(asked)
    assert reply.usage is not None and len(reply.text) == 4_000
    assert model.quote(asked).output_tokens == reply.usage.output_tokens == 1_000


def test_a_broken_recording_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"task_id": "t", "agents": {"a": ["x"]}}\n{"task_id": "t", "agents": {"a": [1]}}\n')
    with pytest.raises(ConfigError, match=r"r\.jsonl:2: agents\.a\.0: "):
        load_recordings(path)


class Answer(BaseModel):
    answer: str
    reasoning: str = ""


async def test_a_callable_is_a_model() -> None:
    async def text(seen: TurnView) -> str:
        return f"Answer: {seen.seat.agent}"

    async def shaped(seen: TurnView) -> Answer:
        return Answer(answer="B")

    class Agent:
        async def __call__(self, seen: TurnView) -> dict[str, Any]:
            return {"answer": "C", "reasoning": "é"}

        async def method(self, seen: TurnView) -> None:
            return None

    for function, answer in ((text, "a"), (shaped, "B"), (Agent(), "C")):
        model = CallableModel(function)
        assert isinstance(model, ModelClient)
        reply = await model.complete(request(view=view()))
        assert parse_reply("position", reply.text).answer == answer
        assert reply.usage == Usage(0, 0, usd_nanos=0)
        quote = model.quote(request())
        assert (quote.prompt_tokens, quote.output_tokens, quote.usd_nanos) == (0, 0, 0)
    assert (await CallableModel(Agent().method).complete(request(view=view()))).text == ""


async def test_what_a_callable_raises_is_named() -> None:
    async def broken(seen: TurnView) -> str:
        raise KeyError("tool")

    async def limited(seen: TurnView) -> str:
        raise TransientModelError("rate_limited", "slow down")

    async def number(seen: TurnView) -> Any:
        return 7

    error = await failure(CallableModel(broken), view=view())
    assert isinstance(error, PermanentModelError) and error.code == "callable"
    assert "broken raised KeyError: 'tool'" in str(error)
    assert (await failure(CallableModel(limited), view=view())).code == "rate_limited"
    assert "TypeError" in str(await failure(CallableModel(number), view=view()))


async def test_a_cancelled_callable_is_cancelled() -> None:
    async def forever(seen: TurnView) -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(CallableModel(forever).complete(request(view=view())))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("function", [lambda seen: "x", len, 7])
def test_a_callable_that_is_not_async_is_refused(function: Any) -> None:
    with pytest.raises(ConfigError, match="async"):
        CallableModel(function)
