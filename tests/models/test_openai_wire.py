"""The direct client against a loopback server: what it sends, what it learns, what each failure becomes."""

import asyncio
import gc
import json
import warnings
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web
from model_requests import POSITION, request

from madflow.errors import ConfigError, ModelError, ParameterRefused, PermanentModelError, TransientModelError
from madflow.models import http_pool
from madflow.models.dialect import Dialect
from madflow.models.openai_wire import BODY_BYTES_MAX, OpenAIWireClient
from madflow.ports import ModelClient, ModelReply
from madflow.testing.openai_server import Fault, LoopbackServer


class Raw:
    """A server that says exactly what it is told to, and keeps the bodies it got."""

    def __init__(
        self,
        status: int,
        content: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        hold_first: asyncio.Event | None = None,
    ) -> None:
        self._status, self._content, self._headers, self._hold_first = status, content, headers, hold_first
        self.bodies: list[dict[str, Any]] = []
        self.arrived = asyncio.Event()
        self.base_url = ""

    async def __aenter__(self) -> "Raw":
        async def handle(asked: web.BaseRequest) -> web.Response:
            self.bodies.append(json.loads(await asked.read()))
            self.arrived.set()
            if len(self.bodies) == 1 and self._hold_first is not None:
                await self._hold_first.wait()
            return web.Response(status=self._status, body=self._content, headers=self._headers)

        self._runner = web.ServerRunner(web.Server(handle))
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


def reply_body(**message: Any) -> bytes:
    return json.dumps({"model": "m", "choices": [{"message": message, "finish_reason": "stop"}]}).encode()


async def failure(client: OpenAIWireClient, **changes: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await client.complete(request(**changes))
    return caught.value


async def test_one_call_is_one_request_and_its_usage_is_the_bill() -> None:
    async with LoopbackServer('{"answer": "B"}', api_key="k") as server:
        client = OpenAIWireClient("m", server.base_url, "k")
        reply = await client.complete(request(prompt="p" * 400, schema=POSITION, temperature=0.0, seed=7))
        assert isinstance(client, ModelClient)
        assert reply.text == '{"answer": "B"}' and reply.finish_reason == "stop" and reply.model == "m"
        (served,) = server.served
        assert reply.usage is not None
        assert (reply.usage.prompt_tokens, reply.usage.output_tokens) == (served.prompt_tokens, served.output_tokens)


async def test_the_body_carries_schema_limit_and_parameters() -> None:
    async with Raw(200, reply_body(content="x")) as server:
        client = OpenAIWireClient("m", server.base_url + "/")
        await client.complete(request(schema=POSITION, temperature=0.5, seed=7))
        (sent,) = server.bodies
    assert sent["response_format"]["json_schema"]["name"] == "position_reply"
    assert sent["response_format"]["json_schema"]["strict"] is True
    assert (sent["max_tokens"], sent["temperature"], sent["seed"]) == (64, 0.5, 7)
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]


async def test_response_format_steps_down_and_is_remembered() -> None:
    """Each step costs one attempt, and only once per client."""
    async with LoopbackServer("Answer: A", schemas=()) as server:
        client = OpenAIWireClient("m", server.base_url)
        for _ in range(2):  # json_schema, then json_object
            error = await failure(client, schema=POSITION)
            assert isinstance(error, TransientModelError)
            assert (error.code, error.status, error.retry_after_s) == ("schema_rejected", 400, 0.0)
        assert (await client.complete(request(schema=POSITION))).text == "Answer: A"
        assert (await client.complete(request(schema=POSITION))).text == "Answer: A"
        assert len(server.served) == 4


async def test_what_the_request_says_was_refused_is_not_sent_again() -> None:
    """Catches: a client that has to be refused itself to know; a resumed debate would pay for it once more."""
    refused = frozenset({"response_format:json_schema", "response_format:json_object", "seed", "max_tokens"})
    async with Raw(200, reply_body(content="x")) as server:
        client = OpenAIWireClient("m", server.base_url)
        await client.complete(request(schema=POSITION, temperature=0.5, seed=7, refused=refused))
        await client.complete(request(schema=POSITION, seed=7, refused=frozenset({"response_format:json_schema"})))
        await client.complete(request(schema=POSITION, seed=7))
        first, second, third = server.bodies
    assert "response_format" not in first and "seed" not in first and first["temperature"] == 0.5
    assert (first.get("max_tokens"), first["max_completion_tokens"]) == (None, 64)
    assert second["response_format"] == {"type": "json_object"} and second["seed"] == 7
    assert third["response_format"]["type"] == "json_schema", "what one debate was refused is no news to another"


def wrapped(error: dict[str, Any], depth: int) -> dict[str, Any]:
    """A provider's error, each gateway in front of it quoting the last one's as text."""
    for _ in range(depth):
        raw = json.dumps({"error": error})
        error = {"message": "not supported", "param": "response_format", "metadata": {"raw": raw}}
    return error


@pytest.mark.parametrize(
    ("error", "unbilled"),
    [
        ({"message": "not supported", "param": "response_format"}, True),
        ({"message": "not supported", "param": "response_format", "usage": {"prompt_tokens": 5}}, False),
        ({"message": "not supported", "param": "response_format", "failed_generation": "{"}, False),
        (wrapped({"usage": {"prompt_tokens": 5}}, 1), False),
        (wrapped({"failed_generation": "{"}, 1), False),
        (wrapped({"usage": {"prompt_tokens": 5}}, 3), False),
        (wrapped({"message": "see the usage policy"}, 3), True),
    ],
)
async def test_a_refusal_that_tells_of_work_may_be_billed(error: dict[str, Any], unbilled: bool) -> None:
    """Catches: a request that was generated for, and billed, given back as if it had been turned away at the door, by
    the provider itself or behind gateways that quote its error."""
    async with Raw(400, json.dumps({"error": error}).encode()) as server:
        refusal = await failure(OpenAIWireClient("m", server.base_url), schema=POSITION)
    assert isinstance(refusal, ParameterRefused)
    assert (refusal.word, refusal.unbilled) == ("response_format:json_schema", unbilled)


async def test_a_reply_that_missed_its_schema_is_no_refused_parameter() -> None:
    """Some providers check what was generated, and answer 400: it was billed, and another attempt may do."""
    error = {"message": "Failed to generate JSON. Adjust your prompt.", "code": "json_validate_failed"}
    async with Raw(400, json.dumps({"error": {**error, "failed_generation": "no"}}).encode()) as server:
        refusal = await failure(OpenAIWireClient("m", server.base_url), schema=POSITION)
    assert not isinstance(refusal, ParameterRefused) and refusal.code == "bad_request"


async def test_calls_in_flight_together_learn_a_refusal_once() -> None:
    """Catches stepping down once per refused call: json_object would be skipped, though the server takes it."""
    async with LoopbackServer("x", schemas=("json_object",), latency_s=0.01) as server:
        client = OpenAIWireClient("m", server.base_url)
        errors = await asyncio.gather(*(failure(client, schema=POSITION) for _ in range(5)))
        assert {error.code for error in errors} == {"schema_rejected"}
        assert client._dialect.schema == "json_object"


async def test_a_late_refusal_teaches_nothing_old() -> None:
    """Catches a straggler that was refused for json_schema setting a client back that already sends nothing."""
    late = asyncio.Event()
    refusal = b'{"error": {"message": "not supported", "param": "response_format"}}'
    async with Raw(400, refusal, hold_first=late) as server:
        client = OpenAIWireClient("m", server.base_url)
        straggler = asyncio.create_task(failure(client, schema=POSITION))
        await server.arrived.wait()
        for _ in range(2):
            await failure(client, schema=POSITION)
        late.set()
        assert (await straggler).code == "schema_rejected"
        await failure(client, schema=POSITION)
        assert "response_format" not in server.bodies[-1]


async def test_two_parameters_refused_together_are_both_learnt() -> None:
    def dialect_after(first: str, second: str) -> Dialect:
        sent = Dialect()
        return sent.without({sent.word(first)}).without({sent.word(second)})

    both = dialect_after("temperature", "seed")
    assert (both.takes("temperature"), both.takes("seed"), both.schema) == (False, False, "json_schema")
    assert dialect_after("response_format", "response_format").schema == "json_object"


def test_a_limit_refused_by_both_its_names_leaves_nothing_to_give_up() -> None:
    """Catches: a request that is refused for max_completion_tokens again and again, each time as if for the first."""
    for first, other in (("max_tokens", "max_completion_tokens"), ("max_completion_tokens", "max_tokens")):
        sent = Dialect(first)
        again = sent.without({sent.word(first)})
        assert (again.limit, again.word(other), again.word(first)) == (other, "", "")
        assert sent.word(other) == "", "what was not sent cannot be left out"


async def test_reasoning_models_name_their_limit_otherwise() -> None:
    async with LoopbackServer("x", limit="max_completion_tokens") as server:
        client = OpenAIWireClient("m", server.base_url)
        assert (await failure(client)).code == "parameter_rejected"
        assert (await client.complete(request())).text == "x"
        direct = OpenAIWireClient("m", server.base_url, limit_parameter="max_completion_tokens")
        assert (await direct.complete(request())).text == "x"


async def test_a_server_that_refuses_both_limits_is_not_asked_forever() -> None:
    message = {"error": {"message": "max_tokens and max_completion_tokens are not supported", "param": "max_tokens"}}
    async with Raw(400, json.dumps(message).encode()) as server:
        client = OpenAIWireClient("m", server.base_url)
        assert (await failure(client)).code == "parameter_rejected"
        assert isinstance(await failure(client), PermanentModelError)


@pytest.mark.parametrize(
    ("fault", "kind", "code", "status"),
    [
        ("rate_limit", TransientModelError, "rate_limited", 429),
        ("server_error", TransientModelError, "server_error", 500),
        ("drop_before", TransientModelError, "connection", None),
        ("drop_after", TransientModelError, "connection", None),
        ("bad_body", TransientModelError, "bad_body", 200),
        ("hang", TransientModelError, "timeout", None),
        ("bad_key", PermanentModelError, "bad_key", 401),
        ("quota", PermanentModelError, "quota", 429),
        ("overflow", PermanentModelError, "context_overflow", 400),
        ("content_filter", PermanentModelError, "content_filter", None),
        ("unknown_model", PermanentModelError, "unknown_model", 404),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_what_each_failure_becomes(
    fault: Fault, kind: type[ModelError], code: str, status: int | None, streamed: bool
) -> None:
    async with LoopbackServer("text", fault=lambda number, body: fault, retry_after_s=2) as server:
        client = OpenAIWireClient("m", server.base_url, "sk-secret")
        first: list[int] = []
        hook = {"on_first_token": lambda: first.append(1)} if streamed else {}
        error = await failure(client, timeout_s=0.2 if fault == "hang" else 5.0, **hook)
        assert type(error) is kind
        assert (error.code, error.status) == (code, status)
        assert error.retry_after_s == (2.0 if fault == "rate_limit" else None)
        assert "m:" in str(error) and "sk-secret" not in str(error)
        assert len(server.served) == 1  # aiohttp must not send it again by itself


async def test_a_refused_connection_is_transient_and_names_the_server() -> None:
    async with Raw(200, b"") as server:
        base = server.base_url
    error = await failure(OpenAIWireClient("m", base))
    assert isinstance(error, TransientModelError) and error.code == "connection" and base in str(error)


async def test_no_usage_is_none_not_zero() -> None:
    async with LoopbackServer("x", fault=lambda number, body: "no_usage") as server:
        assert (await OpenAIWireClient("m", server.base_url).complete(request())).usage is None
        streamed = await OpenAIWireClient("m", server.base_url).complete(request(on_first_token=lambda: None))
        assert streamed.usage is None and streamed.text == "x"


async def test_a_reply_at_its_limit_says_length() -> None:
    async with LoopbackServer("x" * 10_000) as server:
        reply = await OpenAIWireClient("m", server.base_url).complete(request(max_output_tokens=3))
    assert reply.finish_reason == "length" and len(reply.text) == 12


async def test_streaming_tells_the_first_token_before_the_end() -> None:
    async with LoopbackServer('{"answer": "é"}', latency_s=0.15, first_token_s=0.02) as server:
        told = asyncio.Event()
        client = OpenAIWireClient("m", server.base_url)
        task = asyncio.create_task(client.complete(request(on_first_token=told.set)))
        await asyncio.wait_for(told.wait(), 2)
        assert not task.done()
        reply = await task
    assert reply.text == '{"answer": "é"}' and reply.usage is not None and reply.usage.output_tokens == 4


async def test_a_server_that_ignores_streaming_still_answers() -> None:
    told: list[int] = []
    async with Raw(200, reply_body(content="whole"), {"Content-Type": "application/json"}) as server:
        reply = await OpenAIWireClient("m", server.base_url).complete(request(on_first_token=lambda: told.append(1)))
    assert reply.text == "whole" and told == [1]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (reply_body(content=None), ""),
        (reply_body(content="cut \ud83d here, \U0001f600"), "cut \ufffd here, \U0001f600"),
        (reply_body(content=None, refusal="I cannot"), "I cannot"),
        (reply_body(content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "ab"),
    ],
)
async def test_odd_but_valid_bodies(content: bytes, text: str) -> None:
    async with Raw(200, content) as server:
        reply: ModelReply = await OpenAIWireClient("m", server.base_url).complete(request())
    assert reply.text == text


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"message": {"content": 7}}]}', b"[" * 90_000]
)
async def test_broken_bodies_are_transient(content: bytes) -> None:
    async with Raw(200, content) as server:
        error = await failure(OpenAIWireClient("m", server.base_url))
    assert isinstance(error, TransientModelError) and error.code == "bad_body"


async def test_an_error_inside_a_200_is_an_error() -> None:
    async with Raw(200, b'{"error": {"code": 429, "message": "upstream is busy"}}') as server:
        error = await failure(OpenAIWireClient("m", server.base_url))
    assert isinstance(error, TransientModelError) and error.code == "rate_limited"


async def test_an_endless_body_is_cut_off() -> None:
    async with Raw(200, b"x" * (BODY_BYTES_MAX + 1)) as server:
        error = await failure(OpenAIWireClient("m", server.base_url))
    assert isinstance(error, PermanentModelError) and error.code == "too_long" and str(BODY_BYTES_MAX) in str(error)


async def test_a_redirect_is_not_followed() -> None:
    """Catches the key travelling to wherever a server points."""
    async with LoopbackServer("x") as elsewhere:
        async with Raw(307, b"", {"Location": elsewhere.base_url + "/chat/completions"}) as server:
            error = await failure(OpenAIWireClient("m", server.base_url, "k"))
        assert isinstance(error, PermanentModelError) and error.code == "redirect"
        assert elsewhere.served == []


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
async def test_no_time_left_is_a_timeout_not_an_endless_call(timeout_s: float) -> None:
    async with LoopbackServer("x") as server:
        error = await failure(OpenAIWireClient("m", server.base_url), timeout_s=timeout_s)
        assert isinstance(error, TransientModelError) and error.code == "timeout"
        assert server.served == []


async def test_any_text_reaches_the_server_as_it_was_written() -> None:
    """Catches an encoder that refuses a lone surrogate, which a broken diff may hold, or that changes other text."""
    text = "é€😀 \u2028 \ud800 \x00 end"
    async with Raw(200, reply_body(content="A")) as server:
        await OpenAIWireClient("m", server.base_url).complete(request(prompt=text, seed=2**70))
        await OpenAIWireClient("m", server.base_url).complete(request(prompt=text.replace("\ud800", "")))
    assert [body["messages"][-1]["content"] for body in server.bodies] == [text, text.replace("\ud800", "")]
    assert server.bodies[0]["seed"] == 2**70


async def test_a_surrogate_pair_cut_apart_by_a_stream_is_joined() -> None:
    events = [{"choices": [{"delta": {"content": half}, "finish_reason": None}]} for half in ("\ud83d", "\ude00")]
    content = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"
    async with Raw(200, content, {"Content-Type": "text/event-stream"}) as server:
        reply = await OpenAIWireClient("m", server.base_url).complete(request(on_first_token=lambda: None))
    assert reply.text == "\U0001f600"


async def test_three_hundred_calls_are_in_flight_together() -> None:
    """Catches a pool that throttles (aiohttp's own default is 100)."""
    async with LoopbackServer("x", latency_s=0.3) as server:
        client = OpenAIWireClient("m", server.base_url)
        await asyncio.gather(*(client.complete(request()) for _ in range(300)))
        assert server.stats.concurrent_max == 300
    assert 300 <= http_pool.CONNECTIONS_MAX < 1024


async def test_one_session_serves_all_clients_of_a_loop() -> None:
    async with LoopbackServer("x") as server:
        await OpenAIWireClient("m", server.base_url).complete(request())
        first = await http_pool.session()
        await OpenAIWireClient("n", server.base_url).complete(request())
        assert await http_pool.session() is first
        await http_pool.aclose_all()
        assert first.closed
        await OpenAIWireClient("m", server.base_url).complete(request())
        assert await http_pool.session() is not first


async def test_what_ends_with_the_pool_ends_once_and_whatever_happens() -> None:
    ended: list[str] = []

    async def one() -> None:
        ended.append("one")

    async def broken() -> None:
        raise OSError("already gone")

    for closer in (one, broken, one):
        await http_pool.on_close(closer)
    opened = await http_pool.session()
    with pytest.raises(OSError, match="already gone"):
        await http_pool.aclose_all()
    assert ended == ["one"] and opened.closed
    await http_pool.aclose_all()  # nothing is held any more


def test_loops_that_end_leave_nothing_open() -> None:
    """Catches "Unclosed client session": a user who never calls aclose_all must not see it."""

    async def once() -> None:
        async with LoopbackServer("x") as server:
            await OpenAIWireClient("m", server.base_url).complete(request())

    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        for _ in range(2):  # the second loop must not find the first one's session
            asyncio.run(once())
        gc.collect()


async def test_cancelling_a_call_frees_its_connection() -> None:
    arrived = asyncio.Event()

    def first_hangs(number: int, body: Mapping[str, Any]) -> Fault | None:
        arrived.set()
        return "hang" if number == 0 else None

    async with LoopbackServer("x", fault=first_hangs) as server:
        client = OpenAIWireClient("m", server.base_url)
        task = asyncio.create_task(client.complete(request()))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await client.complete(request())).text == "x"


def test_an_api_base_that_is_no_url_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"localhost:8000.*http://127"):
        OpenAIWireClient("m", "localhost:8000")
