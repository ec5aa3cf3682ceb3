"""The loopback server: what it bills, when its cache is warm, and that its faults repeat."""

import asyncio
import json
from collections import Counter

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_requests import request

from madflow.core.replies import STAGES, parse_reply, schema_for
from madflow.errors import ModelError, TransientModelError
from madflow.models.openai_wire import OpenAIWireClient
from madflow.ports import ReplySchema
from madflow.testing.openai_server import FAULTS, FaultMix, LoopbackServer, loopback_process
from madflow.testing.prefix_cache import PrefixCache


@pytest.mark.parametrize("stage", STAGES)
async def test_its_default_reply_meets_every_schema(stage: str) -> None:
    async with LoopbackServer() as server:
        client = OpenAIWireClient("m", server.base_url)
        reply = await client.complete(request(schema=ReplySchema(*schema_for(stage)), max_output_tokens=500))
    parse_reply(stage, reply.text)


async def test_a_drop_after_billing_is_billed_and_one_before_is_not() -> None:
    for fault, billed in (("drop_after", 1), ("drop_before", 0), ("rate_limit", 0), ("hang", 0)):
        async with LoopbackServer("abcd", fault=lambda number, body, fault=fault: fault) as server:  # type: ignore[misc]
            with pytest.raises(TransientModelError):
                await OpenAIWireClient("m", server.base_url).complete(request(timeout_s=0.2))
            assert (server.stats.requests, server.stats.billed, server.stats.faults) == (1, billed, {fault: 1})
            assert server.stats.output_tokens == billed


async def test_fill_bills_the_whole_limit() -> None:
    async with LoopbackServer("abcd", fault=lambda number, body: "fill") as server:
        reply = await OpenAIWireClient("m", server.base_url).complete(request(max_output_tokens=50))
        assert reply.usage is not None and reply.usage.output_tokens == server.stats.output_tokens == 50
        assert reply.finish_reason == "length"


async def test_a_prefix_is_cached_only_after_its_first_token() -> None:
    """Two at once share nothing; a third that comes after the first token of either shares the prefix."""
    async with LoopbackServer("abcd", latency_s=0.05, first_token_s=0.02, cache_block_chars=4) as server:
        client = OpenAIWireClient("m", server.base_url)
        shared = "s" * 400
        await asyncio.gather(*(client.complete(request(system="", prompt=shared + end)) for end in "ab"))
        late = await client.complete(request(system="", prompt=shared + "c" * 40))
        assert [one.cached_tokens for one in server.served] == [0, 0, 100]
        assert late.usage is not None and late.usage.cached_tokens == 100
        stats = server.stats
        assert stats.uncached_tokens == stats.prompt_tokens - 100 == 101 + 101 + 10


async def test_a_stream_warms_the_cache_at_its_first_token() -> None:
    async with LoopbackServer("abcd", latency_s=0.2, first_token_s=0.0, cache_block_chars=4) as server:
        client, first = OpenAIWireClient("m", server.base_url), asyncio.Event()
        leader = asyncio.create_task(client.complete(request(system="", prompt="s" * 80, on_first_token=first.set)))
        await asyncio.wait_for(first.wait(), 5)
        follower = await client.complete(request(system="", prompt="s" * 80 + "tail"))
        assert follower.usage is not None and follower.usage.cached_tokens == 20
        await leader


@given(st.lists(st.text("ab", max_size=12), max_size=12), st.text("ab", max_size=12), st.integers(1, 4))
def test_the_warm_prefix_is_the_longest_of_all(warm: list[str], prompt: str, block: int) -> None:
    """Against a dumb twin that compares with every prompt."""
    cache = PrefixCache(block_chars=block)
    for text in warm:
        cache.warm(text)
    longest = max((n for n in range(len(prompt) + 1) for text in warm if text.startswith(prompt[:n])), default=0)
    assert cache.cached_chars(prompt) == longest - longest % block


def test_the_cache_forgets_the_oldest() -> None:
    cache = PrefixCache(block_chars=1, prompts_max=2)
    for text in ("aaaa", "bbbb", "cccc"):
        cache.warm(text)
    assert [cache.cached_chars(text) for text in ("aaaa", "bbbb", "cccc")] == [0, 4, 4]


def test_faults_repeat_with_their_seed_and_come_in_their_shares() -> None:
    mix = FaultMix(rate_limit=0.10, server_error=0.05, drop_before=0.02, hang_at=(7,), seed=1)
    drawn = [mix(number, {}) for number in range(10_000)]
    assert drawn == [mix(number, {}) for number in range(10_000)]
    assert drawn != [
        FaultMix(rate_limit=0.10, server_error=0.05, drop_before=0.02, seed=2)(n, {}) for n in range(10_000)
    ]
    counted = Counter(drawn)
    assert counted["hang"] == 1 and drawn[7] == "hang"
    assert 850 < counted["rate_limit"] < 1150 and 400 < counted["server_error"] < 600
    assert 140 < counted["drop_before"] < 260 and set(counted) - {None} <= set(FAULTS)


def test_one_prompt_can_always_fail() -> None:
    mix = FaultMix(always="poison")
    assert mix(0, {"messages": [{"content": "some poison here"}]}) == "server_error"
    assert mix(0, {"messages": [{"content": "water"}]}) is None


async def test_as_a_process_it_serves_counts_and_resets() -> None:
    with loopback_process("--reply", "Answer: C", "--p-500", "1") as base:
        with pytest.raises(ModelError, match="HTTP 500"):
            await OpenAIWireClient("m", base).complete(request())
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{base}/stats") as response:
                stats = json.loads(await response.read())
            assert (stats["requests"], stats["billed"], stats["faults"]) == (1, 0, {"server_error": 1})
            async with session.post(f"{base}/reset") as response:
                assert response.status == 200
            async with session.get(f"{base}/stats") as response:
                assert json.loads(await response.read())["requests"] == 0
