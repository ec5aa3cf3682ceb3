"""The real litellm against a loopback server: one import, every mapping in one place."""

import os
from collections.abc import Mapping
from typing import Any

import pytest
from model_requests import POSITION, request

from madflow.errors import ModelError, ParameterRefused, PermanentModelError, TransientModelError
from madflow.models.http_pool import aclose_all
from madflow.models.litellm_client import LiteLLMClient
from madflow.testing.openai_server import Fault, LoopbackServer


class Switch:
    """The fault of the next request."""

    fault: Fault | None = None

    def __call__(self, number: int, body: Mapping[str, Any]) -> Fault | None:
        return self.fault


async def failure(client: LiteLLMClient, **changes: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await client.complete(request(**changes))
    return caught.value


async def test_replies_usage_and_streaming() -> None:
    async with LoopbackServer('{"answer": "B"}', api_key="k", cache_block_chars=4) as server:
        client = LiteLLMClient("openai/gpt-4o-mini", api_base=server.base_url, api_key="k")
        asked = request(prompt="p" * 389, schema=POSITION, seed=1, temperature=0.0)
        reply = await client.complete(asked)
        assert reply.text == '{"answer": "B"}' and reply.finish_reason == "stop"
        first: list[int] = []
        streamed = await client.complete(request(prompt="p" * 389, on_first_token=lambda: first.append(1)))
        assert streamed.text == '{"answer": "B"}' and first == [1]
        assert [one.billed for one in server.served] == [True, True]
        for got, billed in zip((reply, streamed), server.served, strict=True):
            assert got.usage is not None
            assert (got.usage.prompt_tokens, got.usage.output_tokens) == (billed.prompt_tokens, billed.output_tokens)
        assert streamed.usage is not None and streamed.usage.cached_tokens == 100
        await aclose_all()
        assert (await client.complete(asked)).text == '{"answer": "B"}'  # a closed pool opens anew


async def test_what_each_failure_becomes() -> None:
    """One request each: catches a retry by litellm or an SDK beneath it, and a final error taken for a passing one."""
    expected: list[tuple[Fault, type[ModelError], str]] = [
        ("rate_limit", TransientModelError, "rate_limited"),
        ("server_error", TransientModelError, "server_error"),
        ("drop_before", TransientModelError, "connection"),
        ("hang", TransientModelError, "timeout"),
        ("bad_body", TransientModelError, "bad_body"),
        ("bad_key", PermanentModelError, "bad_key"),
        ("quota", PermanentModelError, "quota"),
        ("overflow", PermanentModelError, "context_overflow"),
        ("content_filter", PermanentModelError, "content_filter"),
        ("unknown_model", PermanentModelError, "unknown_model"),
    ]
    switch = Switch()
    async with LoopbackServer("x", fault=switch, retry_after_s=7) as server:
        client = LiteLLMClient("openai/gpt-4o-mini", api_base=server.base_url, api_key="sk-secret")
        for number, (fault, kind, code) in enumerate(expected, 1):
            switch.fault = fault
            error = await failure(client, timeout_s=0.3 if fault == "hang" else 5.0)
            assert (type(error), error.code) == (kind, code), fault
            assert error.retry_after_s == (7.0 if fault == "rate_limit" else None)
            assert "sk-secret" not in str(error)
            assert len(server.served) == number, fault
        switch.fault = "no_usage"
        assert (await client.complete(request())).usage is None  # litellm says 0; nobody's prompt has no token
        switch.fault = "no_schema"
        rejected = await failure(client, schema=POSITION)
        assert (rejected.code, rejected.retry_after_s) == ("schema_rejected", 0.0)
        assert isinstance(rejected, ParameterRefused)
        assert (rejected.word, rejected.unbilled) == ("response_format:json_schema", True)
        base = server.base_url
    refused = await failure(LiteLLMClient("openai/gpt-4o-mini", api_base=base, api_key="k"))
    assert isinstance(refused, TransientModelError) and refused.code == "connection"


async def test_what_the_request_says_was_refused_is_not_sent_again() -> None:
    """Catches: a client that has to be refused itself to know; a resumed debate would be refused once more."""
    async with LoopbackServer("x", schemas=()) as server:
        client = LiteLLMClient("openai/gpt-4o-mini", api_base=server.base_url, api_key="k")
        words = frozenset({"response_format:json_schema", "response_format:json_object"})
        assert (await client.complete(request(schema=POSITION, refused=words))).text == "x"
        assert len(server.served) == 1


async def test_a_missing_key_is_final_though_litellm_calls_it_a_500() -> None:
    for model in ("openai/gpt-4o-mini", "anthropic/claude-sonnet-4-5"):
        error = await failure(LiteLLMClient(model, api_base="http://127.0.0.1:9/v1"))
        assert isinstance(error, PermanentModelError) and error.code == "bad_key", model
    unknown = await failure(LiteLLMClient("nosuch/model"))
    assert isinstance(unknown, PermanentModelError) and unknown.code == "unknown_model"
    assert os.environ.get("LITELLM_LOCAL_MODEL_COST_MAP") == "True"  # the suite's own setting, as it was
