"""What a token costs, from the price list that litellm ships, read at the first question and without its import.

Prices are exact decimals of a US dollar per token. A call's cost is rounded *up* to whole nano-dollars (10⁻⁹), so
that a cap on money is never passed by rounding. A model whose price changes with the prompt's length is charged by the
list's own steps; reasoning tokens by the dearer of their price and the output's. Unknown models have no price: None.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from functools import cache
from typing import Any, Final

from .bundled import bundled_file

__all__ = ["Price", "known_models", "price_of", "provider_of", "providers_priced"]

_LIST: Final = "model_prices_and_context_window_backup.json"
_STEP: Final = re.compile(r"(input|output)_cost_per_token_above_(\d+)k_tokens")
_CHAT: Final = frozenset({"chat", "completion", "responses"})
_NANO: Final = Decimal(10) ** 9


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per token. `steps`: (prompt tokens above which, input, output), ascending."""

    input: Decimal
    output: Decimal
    cached: Decimal
    steps: tuple[tuple[int, Decimal, Decimal], ...] = ()

    def usd_nanos(self, prompt_tokens: int, output_tokens: int, cached_tokens: int = 0) -> int:
        """Nano-dollars of one call, rounded up. `cached_tokens` are part of `prompt_tokens`."""
        per_input, per_output = self.input, self.output
        for above, dearer_input, dearer_output in self.steps:
            if prompt_tokens > above:
                per_input, per_output = dearer_input, dearer_output
        fresh = prompt_tokens - cached_tokens
        per_cached = per_input if per_input > self.input else self.cached
        total = fresh * per_input + cached_tokens * per_cached + output_tokens * per_output
        return int((total * _NANO).to_integral_value(ROUND_CEILING))


def price_of(provider: str, model: str) -> Price | None:
    """The price of `model` at `provider` (litellm's names), or None where the list has none."""
    prices = _prices()
    for name in (f"{provider}/{model}", model):
        found = prices.get(name)
        if found is not None and (found[0] == provider or name != model):
            return found[1]
    return None


def known_models(provider: str) -> tuple[str, ...]:
    """Names of the provider's chat models in the list, without its prefix, sorted."""
    own = (name.removeprefix(f"{provider}/") for name, (of, _) in _prices().items() if of == provider)
    return tuple(sorted(set(own)))


def provider_of(name: str) -> str:
    """The provider that the list gives for a model's name without a prefix, or empty."""
    found = _prices().get(name)
    return found[0] if found is not None else ""


def providers_priced() -> frozenset[str]:
    """Every provider in the list."""
    return frozenset(provider for provider, _ in _prices().values())


@cache
def _prices() -> Mapping[str, tuple[str, Price | None]]:
    """Chat models by the list's own name: (provider, price)."""
    path = bundled_file(_LIST)
    if path is None:
        return {}
    listed = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    return {
        name: (str(entry.get("litellm_provider", "")), _price(entry))
        for name, entry in listed.items()
        if isinstance(entry, dict) and entry.get("mode") in _CHAT
    }


def _price(entry: Mapping[str, Any]) -> Price | None:
    if entry.get("input_cost_per_token") is None or entry.get("output_cost_per_token") is None:
        return None
    asked, said = Decimal(entry["input_cost_per_token"]), Decimal(entry["output_cost_per_token"])
    reasoning = Decimal(entry.get("output_cost_per_reasoning_token") or 0)
    above: dict[int, dict[str, Decimal]] = {}
    for key, value in entry.items():
        step = _STEP.fullmatch(key)
        if step and value is not None:
            above.setdefault(int(step[2]) * 1000, {})[step[1]] = Decimal(value)
    steps = tuple(
        (tokens, step.get("input", asked), max(step.get("output", said), reasoning))
        for tokens, step in sorted(above.items())
    )
    read = entry.get("cache_read_input_token_cost")
    cached = asked if read is None else Decimal(read)
    return Price(input=asked, output=max(said, reasoning), cached=cached, steps=steps)
