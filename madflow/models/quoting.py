"""What a request may use at most, and what a reply says it used: the same for every transport."""

from __future__ import annotations

from typing import Any

from ..ports import ModelRequest, Quote, Usage
from .prices import Price
from .tokens import TokenCounter

__all__ = ["quote_request", "read_usage"]

_TOKENS_MAX = 10**9  # of one call; a record must not hold a number that JSON readers cannot


def quote_request(request: ModelRequest, counter: TokenCounter, price: Price | None) -> Quote:
    """The worst case: no token of the prompt cached, and the reply as long as it may be."""
    prompt = counter.count_prompt(request.system, request.prompt, ends=request.prefix_ends, schema=request.schema)
    output = request.max_output_tokens
    cost = None if price is None else price.usd_nanos(prompt, output)
    return Quote(prompt_tokens=prompt, output_tokens=output, usd_nanos=cost, exact=counter.exact)


def read_usage(raw: Any, price: Price | None) -> Usage | None:
    """The usage object of a chat completion, or None where it is absent or cannot be meant.

    Cached tokens are read from `prompt_tokens_details.cached_tokens` or `prompt_cache_hit_tokens`, and are
    never more than the prompt's. What is negative, above 10⁹ or not a whole number is not believed.
    """
    if not isinstance(raw, dict):
        return None
    prompt, output = _whole(raw.get("prompt_tokens")), _whole(raw.get("completion_tokens"))
    if not prompt or output is None:  # a request without one token of prompt is litellm's word for "not told"
        return None
    details = raw.get("prompt_tokens_details")
    told = details.get("cached_tokens") if isinstance(details, dict) else raw.get("prompt_cache_hit_tokens")
    cached = min(_whole(told) or 0, prompt)
    cost = None if price is None else price.usd_nanos(prompt, output, cached)
    return Usage(prompt_tokens=prompt, output_tokens=output, cached_tokens=cached, usd_nanos=cost)


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _TOKENS_MAX else None
