"""What a debate cost, from its records alone: it is the same for the run that paid and for a replay."""

from __future__ import annotations

from typing import Any

from .stream import DebateStream

__all__ = ["usage_report"]


def usage_report(stream: DebateStream) -> dict[str, Any]:
    """The account, and how much of the prompts a provider's cache could serve.

    `cache`: `prompt_chars` of all attempts; `prefix_chars` of them were the beginning of an earlier, answered request;
    `prefix_share` is their ratio as a decimal string; `cached_tokens` is what providers reported. `without`: by model,
    what a server of it has refused and is asked without, in the words of `models.dialect.REFUSABLE`.
    """
    without: dict[str, set[str]] = {}
    for agent, words in stream.refused.items():
        without.setdefault(stream.state.config.seat(agent).model, set()).update(words)
    return {
        **stream.account.report(),
        "cache": {
            "prompt_chars": stream.prompt_chars,
            "prefix_chars": stream.prefix_chars,
            "prefix_share": f"{stream.prefix_chars / stream.prompt_chars:.4f}" if stream.prompt_chars else "0",
            "cached_tokens": stream.cached_tokens,
        },
        "without": {model: sorted(words) for model, words in sorted(without.items())},
        "refused": [{"agent": agent, "cause": cause} for agent, cause in sorted(stream.state.refused)],
    }
