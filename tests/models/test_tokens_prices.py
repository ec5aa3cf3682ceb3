"""Counting and pricing, offline and without importing litellm."""

import json
import os
import subprocess
import sys
from decimal import Decimal

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from model_requests import POSITION, request

from madflow.models.prices import Price, known_models, price_of, provider_of
from madflow.models.quoting import quote_request, read_usage
from madflow.models.tokens import TokenCounter
from madflow.ports import Usage

CHEAP = Price(input=Decimal("0.00000015"), output=Decimal("0.0000006"), cached=Decimal("0.000000075"))


def test_openai_models_are_counted_with_their_own_encoding() -> None:
    counter = TokenCounter("gpt-4")
    text = "Retries belong to the queue, naïvely speaking."
    assert counter.exact and counter.count(text) == len(tiktoken.get_encoding("cl100k_base").encode_ordinary(text))
    assert "TIKTOKEN_CACHE_DIR" not in os.environ or os.environ["TIKTOKEN_CACHE_DIR"]


def test_an_unknown_model_is_counted_by_bytes_and_says_so() -> None:
    counter = TokenCounter("some-local-model")
    assert not counter.exact
    assert counter.count("é€") == 5
    assert counter.count("\ud800") == 3  # a lone surrogate must not break the count


@given(st.text(max_size=300), st.lists(st.integers(0, 300), max_size=4))
def test_blocks_never_count_less_than_the_whole(text: str, cuts: list[int]) -> None:
    counter = TokenCounter("gpt-4")
    ends = sorted(cut for cut in set(cuts) if cut <= len(text))
    framing = counter.count_prompt("", "")
    assert counter.count_prompt("", text, ends=ends) - framing >= counter.count(text)


def test_framing_and_schema_are_counted() -> None:
    counter = TokenCounter("gpt-4")
    bare = counter.count_prompt("You debate.", "Which?")
    assert bare > counter.count("You debate.") + counter.count("Which?")
    grown = counter.count_prompt("You debate.", "Which?", schema=POSITION) - bare
    assert grown >= counter.count(json.dumps(POSITION.schema, separators=(",", ":")))


def test_costs_round_up_and_cached_tokens_are_cheaper() -> None:
    assert CHEAP.usd_nanos(1, 0) == 150
    assert CHEAP.usd_nanos(1, 0, 1) == 75
    assert Price(Decimal("1e-10"), Decimal(0), Decimal(0)).usd_nanos(1, 0) == 1  # a tenth of a nano-dollar


def test_long_prompts_are_charged_by_their_step() -> None:
    stepped = Price(Decimal("1e-6"), Decimal("2e-6"), Decimal("1e-7"), ((200_000, Decimal("3e-6"), Decimal("4e-6")),))
    assert stepped.usd_nanos(200_000, 1) == 200_000 * 1000 + 2000
    assert stepped.usd_nanos(200_001, 1) == 200_001 * 3000 + 4000


def test_a_quote_is_never_below_the_bill_of_the_same_tokens() -> None:
    quote = quote_request(request(prompt="x" * 1000, schema=POSITION), TokenCounter("local"), CHEAP)
    assert quote.output_tokens == 64 and not quote.exact
    assert quote.usd_nanos is not None
    assert quote.usd_nanos >= CHEAP.usd_nanos(quote.prompt_tokens, quote.output_tokens, 10)
    assert quote_request(request(), TokenCounter("local"), None).usd_nanos is None


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 2}, Usage(10, 2)),
        ({"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 8}}, Usage(10, 2, 8)),
        ({"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": None}, Usage(10, 2)),
        ({"prompt_tokens": 10, "completion_tokens": 2, "prompt_cache_hit_tokens": 4}, Usage(10, 2, 4)),
        (
            {"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 99}},
            Usage(10, 2, 10),
        ),
        ({"prompt_tokens": 10**20, "completion_tokens": 2}, None),
        ({"prompt_tokens": -1, "completion_tokens": 2}, None),
        ({"prompt_tokens": True, "completion_tokens": 2}, None),
        ({"prompt_tokens": 10.5, "completion_tokens": 2}, None),
        ({"prompt_tokens": 0, "completion_tokens": 0}, None),
        ({"prompt_tokens": 10}, None),
        ("many", None),
        (None, None),
    ],
)
def test_reported_usage_is_believed_only_where_it_can_be_meant(raw: object, usage: Usage | None) -> None:
    assert read_usage(raw, None) == usage


def test_the_price_list_knows_models_by_provider() -> None:
    found = price_of("openai", "gpt-4o-mini")
    assert found is not None and found.output > found.input > found.cached > 0
    assert price_of("anthropic", "gpt-4o-mini") is None
    assert price_of("openai", "no-such-model") is None
    assert provider_of("gpt-4o-mini") == "openai" and "gpt-4o-mini" in known_models("openai")


def test_neither_litellm_nor_the_network_is_touched() -> None:
    """In a fresh process: catches an import of litellm, a changed environment, and a table fetched from afar."""
    code = (
        "import os, sys, socket\n"
        "socket.socket.connect = None\n"
        "from madflow.models.tokens import TokenCounter\n"
        "from madflow.models.resolve import resolve_model\n"
        "before = dict(os.environ)\n"
        "assert TokenCounter('gpt-4o').count('hello world') == 2\n"
        "resolve_model('openai/gpt-4o', api_base=None, env={'OPENAI_API_KEY': 'k'})\n"
        "assert dict(os.environ) == before\n"
        "assert 'litellm' not in sys.modules\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TIKTOKEN_CACHE_DIR"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
