"""How many tokens a prompt is, for a model whose tokenizer is not known.

Byte-level tokenizers never make more tokens than there are UTF-8 bytes, so bytes are the safe estimate, and three to
four times too high for prose. Every settled call shows what the model made of so many bytes; later estimates use the
worst ratio seen. Integers only, so that a replay estimates the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["CALIBRATION_BYTES_MIN", "FRAMING_TOKENS", "Calibration"]

FRAMING_TOKENS = 16
"""Added to every estimate: role markers and separators of a chat are tokens without bytes in the prompt."""

CALIBRATION_BYTES_MIN = 200
"""Shorter prompts do not calibrate: their ratio is mostly framing and rounding."""

_MARGIN = (5, 4)
_RATIO_FLOOR = (1, 8)


@dataclass(frozen=True, slots=True)
class Calibration:
    """How many tokens a model without a known tokenizer makes of so many bytes, from its own reports. Immutable.

    An estimate is `ceil(bytes × worst ratio × 5/4) + 16`, by the worst (highest) ratio of tokens to bytes that the
    model reported, and never more than `bytes + 16` unless a report itself showed more tokens than bytes. Before any
    observation it is `bytes + 16`.

    It stays an estimate: text of another kind (base64 after prose) can double the ratio. So prompts below 200 bytes
    do not count, a report below one token for 8 bytes counts as 1/8 (some providers report 0 or 1), a ratio never
    falls, and the quarter on top covers drift; what is still above it is charged and reported as overshoot.

    Attributes:
        worst: per model, the highest ratio as (tokens, bytes), exact.
    """

    worst: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def estimate(self, model: str, utf8_bytes: int) -> int:
        """Prompt tokens to reserve for a prompt of `utf8_bytes` to `model`."""
        if model not in self.worst:
            return utf8_bytes + FRAMING_TOKENS
        tokens, per = self.worst[model]
        estimate = -(-utf8_bytes * tokens * _MARGIN[0] // (per * _MARGIN[1]))
        return (estimate if tokens > per else min(estimate, utf8_bytes)) + FRAMING_TOKENS

    def observe(self, model: str, utf8_bytes: int, prompt_tokens: int) -> Calibration:
        """The calibration after a report of `prompt_tokens` for a prompt of `utf8_bytes`. Order does not matter."""
        if utf8_bytes < CALIBRATION_BYTES_MIN:
            return self
        seen = (prompt_tokens, utf8_bytes)
        for other in (_RATIO_FLOOR, self.worst.get(model, _RATIO_FLOOR)):
            if seen[0] * other[1] <= other[0] * seen[1]:
                seen = other
        return self if self.worst.get(model) == seen else Calibration({**self.worst, model: seen})
